//! `[queues.NAME]` of the settings file: queues that are there from the start.

use std::time::Duration;

use super::{Refused, parse, suggest::hint};

/// A queue as it was declared. What is `None` is as in a queue that says nothing of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// As clients call it.
    pub name: String,
    /// The file that declares it.
    pub source: String,
    /// How long a lease lasts unless it says otherwise.
    pub lease: Option<Duration>,
    /// How long each message waits before it can be received.
    pub delay: Option<Duration>,
    /// How long a receive waits that does not say.
    pub wait: Option<Duration>,
    /// How long messages are kept.
    pub retention: Option<Duration>,
    /// How long settled messages are kept for a replay.
    pub history: Option<Duration>,
    /// Bytes of the longest message.
    pub record_len_max: Option<u64>,
    /// Whether messages of one content are duplicates, in a FIFO queue.
    pub content_dedup: Option<bool>,
    /// Where messages go that cannot be worked off.
    pub dead_letter: Option<String>,
    /// Deliveries before that.
    pub delivery_limit: Option<u32>,
}

/// What can be said of a queue, with what it means, for the reference page.
pub const KEYS: [(&str, &str); 9] = [
    ("lease", "How long a received message is hidden, as `VisibilityTimeout`: whole seconds, at most 12h."),
    (
        "delay",
        "How long each message waits before it can be received, as `DelaySeconds`: whole seconds, at most 15m.",
    ),
    (
        "wait",
        "How long a receive waits that does not say, as `ReceiveMessageWaitTimeSeconds`: whole seconds, at most 20s.",
    ),
    ("retention", "How long messages are kept, as `MessageRetentionPeriod`: whole seconds, 60s to 14d."),
    ("history", "How long settled messages are kept for `wiremill queue replay`."),
    ("record_len_max", "Bytes of the longest message, as `MaximumMessageSize`: 1KiB to 1MiB."),
    (
        "content_dedup",
        "`true` in a FIFO queue whose messages of one content are duplicates, as `ContentBasedDeduplication`.",
    ),
    ("dead_letter", "The queue for what cannot be worked off; it must be declared as well, or be there."),
    ("delivery_limit", "Deliveries before a message goes there, 1 to 1000; 10 unless it says so."),
];

/// Reads the table `queues` of the file `source`.
pub fn read(source: &str, value: toml::Value) -> Result<Vec<Queue>, Refused> {
    let toml::Value::Table(all) = value else {
        return Err(Refused(format!("{source}: queues is a table: [queues.NAME], then one line per key")));
    };
    all.into_iter().map(|(name, value)| one(source, name, value)).collect()
}

fn one(source: &str, name: String, value: toml::Value) -> Result<Queue, Refused> {
    let toml::Value::Table(keys) = value else {
        return Err(Refused(format!("{source}: queues.{name} is a table: [queues.{name}]")));
    };
    let mut queue = Queue { name, source: source.to_owned(), ..Queue::default() };
    for (key, value) in keys {
        let at = format!("{source}: queues.{}: {key}", queue.name);
        queue.set(&key, &value).map_err(|why| Refused(format!("{at} {why}")))?;
    }
    Ok(queue)
}

impl Queue {
    fn set(&mut self, key: &str, value: &toml::Value) -> Result<(), String> {
        match key {
            "lease" => self.lease = Some(seconds(value)?),
            "delay" => self.delay = Some(seconds(value)?),
            "wait" => self.wait = Some(seconds(value)?),
            "retention" => self.retention = Some(seconds(value)?),
            "history" => self.history = Some(time(value)?),
            "record_len_max" => self.record_len_max = Some(bytes(value)?),
            "content_dedup" => self.content_dedup = Some(value.as_bool().ok_or("is neither true nor false")?),
            "dead_letter" => {
                self.dead_letter =
                    Some(value.as_str().ok_or("is the name of a queue, in quotes")?.to_owned());
            }
            "delivery_limit" => {
                let limit = value.as_integer().and_then(|limit| u32::try_from(limit).ok());
                let limit = limit.filter(|limit| (1..=1_000).contains(limit));
                self.delivery_limit = Some(limit.ok_or("must be a number from 1 to 1000")?);
            }
            _ => {
                return Err(format!(
                    "is nothing that a queue has{}",
                    hint(key, KEYS.iter().map(|(key, _)| *key))
                ));
            }
        }
        Ok(())
    }
}

/// A time such as `30s`.
fn time(value: &toml::Value) -> Result<Duration, String> {
    let text = value.as_str().ok_or("is a time in quotes, such as \"30s\"")?;
    crate::cli::duration_ms(text).map(Duration::from_millis)
}

/// A time that its dialect knows in seconds.
fn seconds(value: &toml::Value) -> Result<Duration, String> {
    let time = time(value)?;
    if time.subsec_nanos() != 0 {
        return Err(format!("{value} must be whole seconds, such as \"1s\""));
    }
    Ok(time)
}

fn bytes(value: &toml::Value) -> Result<u64, String> {
    let text = match value {
        toml::Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    parse::bytes(&text, 1, 1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Vec<Queue>, String> {
        let mut table: toml::Table = text.parse().unwrap();
        read("f.toml", table.remove("queues").unwrap()).map_err(|refused| refused.0)
    }

    #[test]
    fn queues_are_read_with_what_is_said_of_them() {
        let all = of("[queues.jobs]\nlease = \"30s\"\ndead_letter = \"dead\"\nrecord_len_max = \"4KiB\"\n\
                      [queues.\"q.fifo\"]\ncontent_dedup = true\n[queues.dead]\n");
        let all = all.unwrap();
        let jobs = all.iter().find(|queue| queue.name == "jobs").unwrap();
        assert_eq!((jobs.lease, jobs.record_len_max), (Some(Duration::from_secs(30)), Some(4_096)));
        assert_eq!(jobs.dead_letter.as_deref(), Some("dead"));
        assert_eq!(
            all.iter().map(|queue| queue.content_dedup).filter(|dedup| *dedup == Some(true)).count(),
            1
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_what_would_be_right() {
        for (text, expected) in [
            ("queues = 1", "f.toml: queues is a table"),
            ("[queues]\njobs = 1", "f.toml: queues.jobs is a table"),
            (
                "[queues.jobs]\nleese = \"30s\"",
                "f.toml: queues.jobs: leese is nothing that a queue has; did you mean",
            ),
            ("[queues.jobs]\nlease = 30", "f.toml: queues.jobs: lease is a time in quotes"),
            ("[queues.jobs]\nlease = \"30\"", "f.toml: queues.jobs: lease \"30\" is not a time"),
            (
                "[queues.jobs]\nlease = \"500ms\"",
                "f.toml: queues.jobs: lease \"500ms\" must be whole seconds",
            ),
            (
                "[queues.jobs]\ndelay = \"1500ms\"",
                "f.toml: queues.jobs: delay \"1500ms\" must be whole seconds",
            ),
            ("[queues.jobs]\nwait = \"1ms\"", "f.toml: queues.jobs: wait \"1ms\" must be whole seconds"),
            (
                "[queues.jobs]\nretention = \"60001ms\"",
                "f.toml: queues.jobs: retention \"60001ms\" must be whole seconds",
            ),
            ("[queues.jobs]\ndelivery_limit = 0", "f.toml: queues.jobs: delivery_limit must be a number"),
            (
                "[queues.jobs]\nrecord_len_max = 2000000",
                "f.toml: queues.jobs: record_len_max must be a number of bytes",
            ),
        ] {
            let why = of(text).unwrap_err();
            assert!(why.starts_with(expected), "{text}: {why}");
        }
    }
}
