//! The arguments that queues are declared with: read, checked, compared.

use crate::{
    codec::{Table, Value, table_of},
    error::{Exception, Result},
};

/// The type of a queue that is not said.
pub(crate) const CLASSIC: &str = "classic";
pub(crate) const QUORUM: &str = "quorum";

/// Deliveries of a message of a quorum queue, unless it says otherwise.
const QUORUM_DELIVERY_LIMIT: u32 = 20;

/// Levels of a quorum queue, which has them without being asked.
const QUORUM_PRIORITY_MAX: u8 = 31;

/// The fields of arguments that were stored.
pub(crate) fn table(fields: &[u8]) -> Table<'_> {
    table_of(fields)
}

/// What happens to a message for which there is no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum OverflowPolicy {
    #[default]
    DropHead,
    RejectPublish,
    RejectPublishDlx,
}

/// What a queue's arguments ask for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub is_quorum: bool,
    pub message_ttl_ms: Option<u64>,
    pub expires_ms: Option<u64>,
    pub max_length: Option<u64>,
    pub max_length_bytes: Option<u64>,
    pub overflow: OverflowPolicy,
    pub dead_letter_exchange: Option<String>,
    pub dead_letter_key: Option<Vec<u8>>,
    /// Dead letters are kept until somebody takes them, if the overflow policy is to refuse.
    pub dead_letters_at_least_once: bool,
    pub max_priority: Option<u8>,
    pub single_active_consumer: bool,
    pub delivery_limit: Option<u32>,
}

/// Arguments that make two declarations different.
const COMPARED: [&str; 13] = [
    "x-queue-type",
    "x-message-ttl",
    "x-expires",
    "x-max-length",
    "x-max-length-bytes",
    "x-overflow",
    "x-dead-letter-exchange",
    "x-dead-letter-routing-key",
    "x-dead-letter-strategy",
    "x-max-priority",
    "x-single-active-consumer",
    "x-delivery-limit",
    "x-queue-version",
];

/// Looks arguments up, and words what is wrong with them.
struct Look<'a> {
    table: Table<'a>,
    /// `queue 'q' in vhost '/'`.
    what: &'a str,
}

impl Look<'_> {
    fn invalid(&self, name: &str, why: impl std::fmt::Display) -> Exception {
        Exception::precondition(format!("invalid arg '{name}' for {}: {why}", self.what))
    }

    fn mistyped(&self, name: &str, expected: &str, found: Value<'_>) -> Exception {
        self.invalid(name, format!("\"expected {expected}, got {}\"", found.type_name()))
    }

    /// An integer that is not negative.
    fn count(&self, name: &str) -> Result<Option<u64>> {
        let Some(value) = self.table.get(name) else { return Ok(None) };
        let number = value.integer().ok_or_else(|| self.mistyped(name, "integer", value))?;
        match u64::try_from(number) {
            Ok(count) => Ok(Some(count)),
            Err(_) => Err(self.invalid(name, format!("{{value_negative,{number}}}"))),
        }
    }

    fn text(&self, name: &str) -> Result<Option<&str>> {
        match self.table.get(name) {
            None => Ok(None),
            Some(value) => value.text().map(Some).ok_or_else(|| self.mistyped(name, "longstr", value)),
        }
    }

    fn flag(&self, name: &str) -> Result<bool> {
        match self.table.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(flag),
            Some(value) => Err(self.mistyped(name, "bool", value)),
        }
    }
}

impl Arguments {
    /// Reads the arguments of a queue. `what` is how error texts call it.
    pub(crate) fn read(table: Table<'_>, what: &str) -> Result<Self> {
        let look = Look { table, what };
        let is_quorum = match look.text("x-queue-type")? {
            None | Some(CLASSIC) => false,
            Some(QUORUM) => true,
            Some("stream") => {
                return Err(Exception::not_implemented(format!(
                    "queue type 'stream' of {what} is not built"
                )));
            }
            Some(other) => {
                return Err(look.invalid("x-queue-type", format!("\"unsupported queue type '{other}'\"")));
            }
        };
        let overflow = match look.text("x-overflow")? {
            None | Some("drop-head") => OverflowPolicy::DropHead,
            Some("reject-publish") => OverflowPolicy::RejectPublish,
            Some("reject-publish-dlx") => OverflowPolicy::RejectPublishDlx,
            Some(_) => return Err(look.invalid("x-overflow", "invalid_overflow")),
        };
        let arguments = Arguments {
            is_quorum,
            message_ttl_ms: look.count("x-message-ttl")?,
            expires_ms: expires_of(&look)?,
            max_length: look.count("x-max-length")?,
            max_length_bytes: look.count("x-max-length-bytes")?,
            overflow,
            dead_letter_exchange: look.text("x-dead-letter-exchange")?.map(str::to_owned),
            dead_letter_key: look.text("x-dead-letter-routing-key")?.map(|key| key.as_bytes().to_vec()),
            dead_letters_at_least_once: strategy_of(&look, is_quorum)?,
            max_priority: priority_of(&look, is_quorum)?,
            single_active_consumer: look.flag("x-single-active-consumer")?,
            delivery_limit: limit_of(&look, is_quorum)?,
        };
        if arguments.dead_letter_key.is_some() && arguments.dead_letter_exchange.is_none() {
            return Err(look.invalid("x-dead-letter-routing-key", "routing_key_but_no_dlx_defined"));
        }
        Ok(arguments)
    }

    /// Whether dead letters that no queue takes wait for one: the original has that where a full queue refuses, and takes
    /// it for at most once elsewhere.
    pub(crate) fn keeps_letters(&self) -> bool {
        self.dead_letters_at_least_once
            && self.dead_letter_exchange.is_some()
            && self.overflow != OverflowPolicy::DropHead
    }

    /// Refuses arguments that differ from those of what is there already, in the original's words.
    pub(crate) fn check_same(what: &str, names: &[&str], known: &[u8], asked: &[u8]) -> Result<()> {
        let (known, asked) = (table(known), table(asked));
        for name in names {
            let (known, asked) = (known.get(name), asked.get(name));
            if is_same(known, asked) {
                continue;
            }
            let shown = |value: Option<Value<'_>>| match value {
                None => "none".to_owned(),
                Some(value) => {
                    format!("the value '{}' of type '{}'", text_of(value), value.type_name())
                }
            };
            let differs = if *name == "x-queue-type" {
                let of = |value: Option<Value<'_>>| value.map_or(CLASSIC.to_owned(), text_of);
                format!("received '{}' but current is '{}'", of(asked), of(known))
            } else {
                format!("received {} but current is {}", shown(asked), shown(known))
            };
            return Err(Exception::precondition(format!("inequivalent arg '{name}' for {what}: {differs}")));
        }
        Ok(())
    }

    /// [`Arguments::check_same`] for queues.
    pub(crate) fn check_same_queue(what: &str, known: &[u8], asked: &[u8]) -> Result<()> {
        let kind = |fields: &[u8]| table(fields).get("x-queue-type").map_or(CLASSIC.to_owned(), text_of);
        let names = if kind(known) == kind(asked) { COMPARED.get(1..) } else { COMPARED.get(..1) };
        Arguments::check_same(what, names.unwrap_or_default(), known, asked)
    }
}

/// Integers are compared whatever their width.
fn is_same(known: Option<Value<'_>>, asked: Option<Value<'_>>) -> bool {
    match (known, asked) {
        (Some(known), Some(asked)) => {
            known == asked || (known.integer().is_some() && known.integer() == asked.integer())
        }
        (None, None) => true,
        _ => false,
    }
}

fn text_of(value: Value<'_>) -> String {
    match value {
        Value::Text(text) | Value::Bytes(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Time(value) => value.to_string(),
        value => value.integer().map_or(String::new(), |number| number.to_string()),
    }
}

fn expires_of(look: &Look<'_>) -> Result<Option<u64>> {
    match look.count("x-expires")? {
        Some(0) => Err(look.invalid("x-expires", "{value_zero,0}")),
        expires => Ok(expires),
    }
}

/// Whether dead letters are to arrive at least once.
fn strategy_of(look: &Look<'_>, is_quorum: bool) -> Result<bool> {
    const NAME: &str = "x-dead-letter-strategy";
    match look.text(NAME)? {
        None => Ok(false),
        Some(_) if !is_quorum => {
            let what = look.what;
            Err(Exception::precondition(format!(
                "invalid arg '{NAME}' for {what} of queue type rabbit_classic_queue"
            )))
        }
        Some("at-most-once") => Ok(false),
        Some("at-least-once") => Ok(true),
        Some(_) => Err(look.invalid(NAME, "invalid_dead_letter_strategy")),
    }
}

fn priority_of(look: &Look<'_>, is_quorum: bool) -> Result<Option<u8>> {
    const NAME: &str = "x-max-priority";
    match look.count(NAME)? {
        Some(_) if is_quorum => {
            let what = look.what;
            Err(Exception::precondition(format!(
                "invalid arg '{NAME}' for {what} of queue type rabbit_quorum_queue"
            )))
        }
        None => Ok(is_quorum.then_some(QUORUM_PRIORITY_MAX)),
        Some(0) => Ok(None),
        Some(level) => match u8::try_from(level) {
            Ok(level) => Ok(Some(level)),
            Err(_) => Err(look.invalid(NAME, format!("{{max_value_exceeded,{level}}}"))),
        },
    }
}

fn limit_of(look: &Look<'_>, is_quorum: bool) -> Result<Option<u32>> {
    const NAME: &str = "x-delivery-limit";
    let Some(value) = look.table.get(NAME) else {
        return Ok(is_quorum.then_some(QUORUM_DELIVERY_LIMIT));
    };
    let number = value.integer().ok_or_else(|| look.mistyped(NAME, "integer", value))?;
    if !is_quorum {
        let what = look.what;
        return Err(Exception::precondition(format!(
            "invalid arg '{NAME}' for {what} of queue type rabbit_classic_queue"
        )));
    }
    // Deliveries, of which the limit does not count the first.
    Ok(u32::try_from(number).ok().map(|limit| limit.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::TableWriter;

    const WHAT: &str = "queue 'q' in vhost '/'";

    fn fields(all: &[(&str, Value<'_>)]) -> Vec<u8> {
        let mut writer = TableWriter::default();
        for (name, value) in all {
            writer.field(name, *value);
        }
        writer.finish()
    }

    #[track_caller]
    fn refused(name: &str, value: Value<'_>, expected: &str) {
        let fields = fields(&[(name, value)]);
        let refused = Arguments::read(table(&fields), WHAT).unwrap_err();
        assert_eq!(refused.explanation, expected);
    }

    #[test]
    fn wrong_arguments_are_refused_in_the_originals_words() {
        let invalid = |name: &str, why: &str| format!("invalid arg '{name}' for {WHAT}: {why}");
        for (name, value, why) in [
            ("x-message-ttl", Value::I32(-1), "{value_negative,-1}"),
            ("x-message-ttl", Value::Text(b"1"), "\"expected integer, got longstr\""),
            ("x-expires", Value::I32(0), "{value_zero,0}"),
            ("x-overflow", Value::Text(b"zzz"), "invalid_overflow"),
            ("x-queue-type", Value::Text(b"zzz"), "\"unsupported queue type 'zzz'\""),
            ("x-max-priority", Value::I32(256), "{max_value_exceeded,256}"),
            ("x-dead-letter-routing-key", Value::Text(b"k"), "routing_key_but_no_dlx_defined"),
        ] {
            refused(name, value, &invalid(name, why));
        }
    }

    #[test]
    fn integers_of_any_width_are_the_same_and_unknown_arguments_do_not_count() {
        let known = fields(&[("x-message-ttl", Value::I32(1_000)), ("x-unknown", Value::Bool(true))]);
        let same = fields(&[("x-message-ttl", Value::I64(1_000))]);
        assert_eq!(Arguments::check_same_queue(WHAT, &known, &same), Ok(()));
        let refused = |known: &[u8], asked: &[u8]| {
            Arguments::check_same_queue(WHAT, known, asked).unwrap_err().explanation
        };
        assert_eq!(
            refused(&fields(&[]), &same),
            format!(
                "inequivalent arg 'x-message-ttl' for {WHAT}: received the value '1000' of type 'long' but current is none"
            )
        );
        let quorum = fields(&[("x-queue-type", Value::Text(b"quorum"))]);
        assert_eq!(
            refused(&fields(&[]), &quorum),
            format!("inequivalent arg 'x-queue-type' for {WHAT}: received 'quorum' but current is 'classic'")
        );
    }
}
