//! Topic configurations of Kafka 4.2, and how they become a stream's settings.

use std::collections::BTreeMap;

use broker::{StreamSettings, TimeSource};
use model::limits;

use super::{
    Config,
    Effect::{self, Inert, Obeyed, OnlyDefault},
    Kind::{self, Boolean, Double, Int, List, Long, Text},
    Valid::{self, Any, AtLeast, Between, GzipLevel, OneOf, Ratio, ThrottledReplicas},
};

/// Kafka's own settings travel with the stream's under this prefix.
const CONFIG_PREFIX: &str = "kafka.";

const FOREVER: &str = "9223372036854775807";
const SEGMENTS: &str = "segments are files of the shared engine, not of a topic";
const ONE_NODE: &str = "one node has no replicas";
const COMPACTION: &str = "compaction is not available yet";
const AS_SENT: &str = "batches are stored as the producer compressed them";
const TIERED: &str = "tiered storage is not available";
const SYNCED: &str = "every acknowledged record is synced already";

const fn config(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    valid: Valid,
    effect: Effect,
    synonym: &'static str,
    doc: &'static str,
) -> Config {
    Config { name, kind, default, valid, effect, synonym, doc }
}

/// Every topic configuration, by name.
#[rustfmt::skip]
pub(crate) const TOPIC_CONFIGS: &[Config] = &[
    config("cleanup.policy", List, "delete", OneOf(&["compact", "delete"]), OnlyDefault(COMPACTION), "log.cleanup.policy", "How old records go: delete drops them by retention."),
    config("compression.gzip.level", Int, "-1", GzipLevel, Inert(AS_SENT), "compression.gzip.level", "Level for gzip."),
    config("compression.lz4.level", Int, "9", Between(1, 17), Inert(AS_SENT), "compression.lz4.level", "Level for lz4."),
    config("compression.type", Text, "producer", OneOf(&["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"]), Inert(AS_SENT), "compression.type", "Final compression of a topic."),
    config("compression.zstd.level", Int, "3", Between(-131_072, 22), Inert(AS_SENT), "compression.zstd.level", "Level for zstd."),
    config("delete.retention.ms", Long, "86400000", AtLeast(0), Inert(COMPACTION), "log.cleaner.delete.retention.ms", "How long tombstones stay in a compacted topic."),
    config("file.delete.delay.ms", Long, "60000", AtLeast(0), Inert(SEGMENTS), "log.segment.delete.delay.ms", "Wait before a file goes."),
    config("flush.messages", Long, FOREVER, AtLeast(1), Inert(SYNCED), "log.flush.interval.messages", "Records between two syncs."),
    config("flush.ms", Long, FOREVER, AtLeast(0), Inert(SYNCED), "", "Time between two syncs."),
    config("follower.replication.throttled.replicas", List, "", ThrottledReplicas, Inert(ONE_NODE), "", "Replicas throttled on the follower."),
    config("index.interval.bytes", Int, "4096", AtLeast(0), Inert(SEGMENTS), "log.index.interval.bytes", "Bytes between two index entries."),
    config("leader.replication.throttled.replicas", List, "", ThrottledReplicas, Inert(ONE_NODE), "", "Replicas throttled on the leader."),
    config("local.retention.bytes", Long, "-2", AtLeast(-2), Inert(TIERED), "log.local.retention.bytes", "Bytes kept locally."),
    config("local.retention.ms", Long, "-2", AtLeast(-2), Inert(TIERED), "log.local.retention.ms", "Time kept locally."),
    config("max.compaction.lag.ms", Long, FOREVER, AtLeast(1), Inert(COMPACTION), "log.cleaner.max.compaction.lag.ms", "Longest time a record stays uncompacted."),
    config("max.message.bytes", Int, "1048588", AtLeast(0), Obeyed, "message.max.bytes", "Largest record batch, compressed."),
    config("message.timestamp.after.max.ms", Long, "3600000", AtLeast(0), Obeyed, "log.message.timestamp.after.max.ms", "How far a record's time may lie ahead of the broker's."),
    config("message.timestamp.before.max.ms", Long, FOREVER, AtLeast(0), Obeyed, "log.message.timestamp.before.max.ms", "How far a record's time may lie behind the broker's."),
    config("message.timestamp.type", Text, "CreateTime", OneOf(&["CreateTime", "LogAppendTime"]), Obeyed, "log.message.timestamp.type", "Whose time a record carries."),
    config("min.cleanable.dirty.ratio", Double, "0.5", Ratio, Inert(COMPACTION), "log.cleaner.min.cleanable.ratio", "How eagerly the cleaner works."),
    config("min.compaction.lag.ms", Long, "0", AtLeast(0), Inert(COMPACTION), "log.cleaner.min.compaction.lag.ms", "Shortest time a record stays uncompacted."),
    config("min.insync.replicas", Int, "1", AtLeast(1), Inert(ONE_NODE), "min.insync.replicas", "Replicas that must have a record before it is acknowledged."),
    config("preallocate", Boolean, "false", Any, Inert(SEGMENTS), "log.preallocate", "Whether files are allocated ahead."),
    config("remote.log.copy.disable", Boolean, "false", Any, Inert(TIERED), "", "Stops copying to remote storage."),
    config("remote.log.delete.on.disable", Boolean, "false", Any, Inert(TIERED), "", "Deletes remote data when tiering stops."),
    config("remote.storage.enable", Boolean, "false", Any, OnlyDefault(TIERED), "", "Whether remote storage is used."),
    config("retention.bytes", Long, "-1", Any, Obeyed, "log.retention.bytes", "Bytes kept per partition; -1 keeps all."),
    config("retention.ms", Long, "604800000", AtLeast(-1), Obeyed, "", "How long records are kept; -1 keeps them for ever."),
    config("segment.bytes", Int, "1073741824", AtLeast(1_048_576), Inert(SEGMENTS), "log.segment.bytes", "Size of a segment file."),
    config("segment.index.bytes", Int, "10485760", AtLeast(4), Inert(SEGMENTS), "log.index.size.max.bytes", "Size of an index file."),
    config("segment.jitter.ms", Long, "0", AtLeast(0), Inert(SEGMENTS), "", "Random part of segment.ms."),
    config("segment.ms", Long, "604800000", AtLeast(1), Inert(SEGMENTS), "", "Time after which a segment is rolled."),
    config("unclean.leader.election.enable", Boolean, "false", Any, Inert(ONE_NODE), "unclean.leader.election.enable", "Whether a replica that lags may lead."),
];

/// The configuration called `name`.
pub(crate) fn topic_config(name: &str) -> Option<&'static Config> {
    TOPIC_CONFIGS.iter().find(|config| config.name == name)
}

/// Turns configurations that a client set (checked by [`Config::check`]) into the stream's settings, on top of
/// `settings`. All of them are kept by name too, so that they can be shown as the client gave them.
pub(crate) fn settings_of(mut settings: StreamSettings, values: &BTreeMap<String, String>) -> StreamSettings {
    settings.extras.retain(|name, _| !name.starts_with(CONFIG_PREFIX));
    for (name, value) in values {
        settings.extras.insert(format!("{CONFIG_PREFIX}{name}"), value.clone());
    }
    let value = |name: &str| {
        values
            .get(name)
            .map(String::as_str)
            .or_else(|| topic_config(name).map(|c| c.default))
            .unwrap_or_default()
    };
    let number = |name: &str| value(name).trim().parse::<i64>().unwrap_or(-1);
    settings.retention.time_ms = u64::try_from(number("retention.ms")).ok();
    settings.retention.bytes = u64::try_from(number("retention.bytes")).ok();
    settings.batch_len_max = Some(u32::try_from(number("max.message.bytes")).unwrap_or(0));
    settings.time = match value("message.timestamp.type") {
        "LogAppendTime" => TimeSource::Append,
        _ => TimeSource::Producer,
    };
    settings
}

/// The configurations that a client set on a stream, by Kafka's names. Settings made through another dialect show in
/// Kafka's words too, whatever a client of Kafka set before: what counts is what the stream does.
pub(crate) fn values_of(settings: &StreamSettings) -> BTreeMap<String, String> {
    let mut values: BTreeMap<String, String> = settings
        .extras
        .iter()
        .filter_map(|(name, value)| Some((name.strip_prefix(CONFIG_PREFIX)?.to_owned(), value.clone())))
        .collect();
    for (name, value) in effective(settings) {
        if values.get(name).is_some_and(|set| same(set, &value)) {
            continue;
        }
        let default = topic_config(name).map_or("", |config| config.default);
        if value == default {
            values.remove(name);
        } else {
            values.insert(name.to_owned(), value);
        }
    }
    values
}

/// What those of a stream's settings come to that have a name in Kafka.
fn effective(settings: &StreamSettings) -> [(&'static str, String); 4] {
    let or_unbounded = |limit: Option<u64>| limit.map_or_else(|| "-1".to_owned(), |limit| limit.to_string());
    let batch_len_max = settings.batch_len_max.map_or(limits::BATCH_LEN_MAX, |len| len as usize);
    let time = match settings.time {
        TimeSource::Append => "LogAppendTime",
        TimeSource::Producer => "CreateTime",
    };
    [
        ("retention.ms", or_unbounded(settings.retention.time_ms)),
        ("retention.bytes", or_unbounded(settings.retention.bytes)),
        ("max.message.bytes", batch_len_max.to_string()),
        ("message.timestamp.type", time.to_owned()),
    ]
}

/// Whether a value that was set says the same; every negative limit means none.
fn same(set: &str, effective: &str) -> bool {
    match (set.trim().parse::<i64>(), effective.parse::<i64>()) {
        (Ok(set), Ok(effective)) => set == effective || (set < 0 && effective < 0),
        _ => set == effective,
    }
}

/// Where the replication factor is kept that a client asked for.
const REPLICAS: &str = "kafka:replicas";

/// Notes the replication factor that a client asked for. It has no effect on one node, and is shown.
pub(crate) fn with_replicas(mut settings: StreamSettings, replicas: i16) -> StreamSettings {
    if replicas > 1 {
        settings.extras.insert(REPLICAS.to_owned(), replicas.to_string());
    }
    settings
}

/// The replication factor that is shown.
pub(crate) fn replicas_of(settings: &StreamSettings) -> usize {
    settings.extras.get(REPLICAS).and_then(|replicas| replicas.parse().ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use broker::Retention;

    use super::*;

    fn set(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_a_client_set_is_shown_as_it_was_set() {
        for values in [
            set(&[]),
            set(&[("retention.ms", "604800000"), ("segment.bytes", "100"), ("retention.bytes", "-2")]),
            set(&[("max.message.bytes", "0"), ("message.timestamp.type", "LogAppendTime")]),
        ] {
            let settings = settings_of(StreamSettings::default(), &values);
            assert_eq!(values_of(&settings), values);
            assert_eq!(settings_of(settings.clone(), &values_of(&settings)), settings);
        }
    }

    #[test]
    fn a_change_of_one_setting_leaves_a_stream_of_another_dialect_as_it_was() {
        let retention = Retention { records: Some(7), ..Retention::default() };
        let made_elsewhere = StreamSettings { retention, ..StreamSettings::default() };
        let mut values = values_of(&made_elsewhere);
        assert_eq!(values["retention.ms"], "-1");
        values.insert("segment.ms".into(), "5".into());
        let altered = settings_of(made_elsewhere.clone(), &values);
        assert_eq!(altered.retention, made_elsewhere.retention);
        assert_eq!(
            altered.batch_len_max,
            Some(u32::try_from(limits::BATCH_LEN_MAX).unwrap()),
            "no less than before"
        );
    }

    #[test]
    fn what_another_dialect_changed_is_shown_rather_than_what_was_set_before() {
        let mut settings = settings_of(StreamSettings::default(), &set(&[("retention.ms", "1000")]));
        settings.retention.time_ms = Some(604_800_000);
        assert!(!values_of(&settings).contains_key("retention.ms"), "it is the default now");
        settings.retention.time_ms = Some(5);
        assert_eq!(values_of(&settings)["retention.ms"], "5");
    }

    #[test]
    fn the_replication_factor_is_no_configuration_and_survives_their_change() {
        let settings = with_replicas(settings_of(StreamSettings::default(), &set(&[])), 3);
        assert!(values_of(&settings).is_empty());
        let altered = settings_of(settings, &set(&[("retention.ms", "1")]));
        assert_eq!(replicas_of(&altered), 3);
        assert_eq!(replicas_of(&StreamSettings::default()), 1);
    }
}
