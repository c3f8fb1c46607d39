//! Broker configurations of Kafka 4.2 that clients, tools and connectors ask for. The ones that are obeyed take their
//! value from [`crate::Options`]; the others are shown with Kafka's default.

use super::{
    Config,
    Effect::{self, Inert, Obeyed},
    Kind::{self, Boolean, Double, Int, List, Long},
    Valid::{self, Any, AtLeast},
};

const NOT_OURS: &str = "the engine has settings of its own; this shows what it amounts to";
const TOPICS_OWN: &str = "a topic's own retention.ms counts, which has the same default";
const ONE_NODE: &str = "one node has no replicas";

const fn config(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    valid: Valid,
    effect: Effect,
    doc: &'static str,
) -> Config {
    Config { name, kind, default, valid, effect, synonym: "", doc }
}

/// Broker configurations, by name; an empty default stands for none. Topic defaults come from [`super::TOPIC_CONFIGS`] under their synonyms.
#[rustfmt::skip]
pub(crate) const BROKER_CONFIGS: &[Config] = &[
    config("advertised.listeners", List, "", Any, Obeyed, "Addresses that clients are told to connect to."),
    config("auto.create.topics.enable", Boolean, "true", Any, Obeyed, "Whether asking for a topic creates it."),
    config("broker.id", Int, "-1", AtLeast(0), Obeyed, "Id of this broker."),
    config("connections.max.idle.ms", Long, "600000", AtLeast(0), Obeyed, "Idle time after which a connection is closed."),
    config("default.replication.factor", Int, "1", AtLeast(1), Inert(ONE_NODE), "Replicas of a topic that is created automatically."),
    config("delete.topic.enable", Boolean, "true", Any, Inert(NOT_OURS), "Whether topics can be deleted."),
    config("group.initial.rebalance.delay.ms", Int, "3000", AtLeast(0), Obeyed, "How long an empty group waits for more members."),
    config("group.max.session.timeout.ms", Int, "1800000", AtLeast(1), Obeyed, "Longest session time-out a member may ask for."),
    config("group.max.size", Int, "2147483647", AtLeast(1), Obeyed, "Most members of one group."),
    config("group.min.session.timeout.ms", Int, "6000", AtLeast(1), Obeyed, "Shortest session time-out a member may ask for."),
    config("listeners", List, "PLAINTEXT://:9092", Any, Obeyed, "Addresses this broker listens on."),
    config("log.cleaner.enable", Boolean, "true", Any, Inert(NOT_OURS), "Whether the cleaner runs."),
    config("log.dirs", List, "", Any, Inert(NOT_OURS), "Where data is kept."),
    config("log.flush.interval.messages", Long, "9223372036854775807", AtLeast(1), Inert("every acknowledged record is synced already"), "Records between two syncs."),
    config("log.retention.check.interval.ms", Long, "300000", AtLeast(1), Obeyed, "How often retention is applied."),
    config("log.retention.hours", Int, "168", Any, Inert(TOPICS_OWN), "How long records are kept, hours."),
    config("log.retention.minutes", Int, "", Any, Inert(TOPICS_OWN), "How long records are kept, minutes."),
    config("max.connections", Int, "2147483647", AtLeast(0), Inert(NOT_OURS), "Most connections at a time."),
    config("max.connections.per.ip", Int, "2147483647", AtLeast(0), Inert(NOT_OURS), "Most connections of one address."),
    config("min.insync.replicas", Int, "1", AtLeast(1), Inert(ONE_NODE), "Replicas that must have a record before it is acknowledged."),
    config("node.id", Int, "", AtLeast(0), Obeyed, "Id of this node."),
    config("num.io.threads", Int, "8", AtLeast(1), Inert(NOT_OURS), "Threads that work on requests."),
    config("num.network.threads", Int, "3", AtLeast(1), Inert(NOT_OURS), "Threads that serve sockets."),
    config("num.partitions", Int, "1", AtLeast(1), Obeyed, "Partitions of a topic that is created without a number."),
    config("offset.metadata.max.bytes", Int, "4096", AtLeast(0), Obeyed, "Longest metadata of a committed offset."),
    config("offsets.retention.check.interval.ms", Long, "600000", AtLeast(1), Inert(NOT_OURS), "How often committed offsets are checked for expiry."),
    config("offsets.retention.minutes", Int, "10080", AtLeast(1), Obeyed, "How long an empty group's offsets are kept."),
    config("process.roles", List, "", Any, Inert(ONE_NODE), "Roles of this process."),
    config("producer.id.expiration.ms", Int, "86400000", AtLeast(1), Obeyed, "How long an idle producer's sequence is remembered."),
    config("queued.max.requests", Int, "500", AtLeast(1), Inert(NOT_OURS), "Requests that wait for a thread."),
    config("replica.fetch.max.bytes", Int, "1048576", AtLeast(0), Inert(ONE_NODE), "Bytes per partition of a replica's fetch."),
    config("sasl.enabled.mechanisms", List, "GSSAPI", Any, Obeyed, "Mechanisms offered."),
    config("socket.request.max.bytes", Int, "104857600", AtLeast(1), Obeyed, "Largest request."),
    config("log.cleaner.min.cleanable.ratio", Double, "0.5", Valid::Ratio, Inert(NOT_OURS), "How eagerly the cleaner works."),
];
