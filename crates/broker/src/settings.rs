//! What a stream is made with.

use std::collections::BTreeMap;

use cursor::Exhaust;
use model::StreamKey;
use store::Durability;

/// When records leave a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// By retention alone.
    #[default]
    Log,
    /// When the work cursor has settled them.
    Queue,
    /// When every cursor whose filter matches has settled them; without any, the offset is used and nothing is stored.
    Interest,
}

/// How much a stream keeps. What is `None` does not bound it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Retention {
    /// Age in milliseconds, by the stream's [`TimeSource`].
    pub time_ms: Option<u64>,
    /// Stored bytes of each partition.
    pub bytes: Option<u64>,
    /// Records in each partition.
    pub records: Option<u64>,
}

/// Which time of a record counts for retention and for searching.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimeSource {
    /// The producer's event time where there is one, else the append time.
    #[default]
    Producer,
    /// The append time.
    Append,
}

/// What happens to a publish that would pass a length limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Overflow {
    /// The oldest records go.
    #[default]
    DropOldest,
    /// The publish is refused.
    Refuse,
    /// The publish is refused here, and goes to the dead-letter target.
    Deflect,
}

/// Where records go that cannot be worked off.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct DeadLetter {
    /// The stream that takes them.
    pub target: StreamKey,
    /// Replaces the route key; `None` keeps it.
    pub route_key: Option<String>,
}

/// Settings that can change while a stream lives.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StreamSettings {
    /// When records leave.
    pub mode: Mode,
    /// Whether records survive a crash, unless a batch says otherwise.
    pub durability: Durability,
    /// How much is kept.
    pub retention: Retention,
    /// Bytes of one batch's body; `None` = the built-in limit.
    pub batch_len_max: Option<u32>,
    /// Bytes of one record's body, where its dialect says the length; `None` = the built-in limit.
    pub record_len_max: Option<u32>,
    /// Which time counts.
    pub time: TimeSource,
    /// Records that may wait in a partition, and what happens above; `None` = any number.
    pub length_max: Option<u64>,
    /// Bytes that may wait in a partition, and what happens above; `None` = any number.
    pub bytes_max: Option<u64>,
    /// What happens to a publish above `length_max` or `bytes_max`.
    pub overflow: Overflow,
    /// Whether `length_max` and `bytes_max` count only what nobody has, for a queue.
    pub limits_ready: bool,
    /// Where records go that were rejected, expired or delivered too often.
    pub dead_letter: Option<DeadLetter>,
    /// Deliveries of one record before it goes to the dead letters; `None` = any number.
    pub delivery_limit: Option<u32>,
    /// When a record that was delivered as often as allowed goes to the dead letters. [`Exhaust::WhenOffered`] makes
    /// `delivery_limit` follow these settings while a queue lives, and lets records stay that have no place to go to.
    pub exhaust: Exhaust,
    /// How long a lease lasts unless it says otherwise, milliseconds; `None` = until it is settled or its holder is gone.
    pub lease_ms: Option<u64>,
    /// Every record becomes deliverable this long after its append, milliseconds.
    pub delay_ms: u64,
    /// Every record stops being deliverable this long after its append, milliseconds; `None` = never.
    pub ttl_ms: Option<u64>,
    /// How long dedup keys are remembered, milliseconds.
    pub dedup_window_ms: u64,
    /// Whether the records of each route key are known, which [`crate::Conditions::expected_key_last`], limits per key and
    /// reading by key need. Fixed when the stream is made.
    pub index_route_keys: bool,
    /// What a record may come in under that is published by its record key alone: its record key becomes its route key, and
    /// one that none of these patterns matches is refused. Empty = records without a route key are taken as they are.
    pub entry_keys: Vec<String>,
    /// Records that may wait under one route key; `None` = any number. Needs `index_route_keys`.
    pub key_records_max: Option<u64>,
    /// What happens to a publish above `key_records_max`: the oldest of its key go, or it is refused.
    pub key_overflow: Overflow,
    /// Whether the records of a log go when their own time is over. Those of a queue do in any case: when they are at its
    /// head, or as soon as that where this says so too.
    pub expires_records: bool,
    /// A queue over this log: nothing is copied, its records are the log's, and settling them takes nothing away. Fixed
    /// when the queue is made; partitions are the log's.
    pub over: Option<StreamKey>,
    /// How long records stay in the log after the work cursor settled them, milliseconds; `None` = they go at once. They
    /// count neither as ready nor for `length_max` and `bytes_max`, and [`crate::Broker::start_replay`] takes them up
    /// again. Only of a queue that is not over a log: what a log keeps is for its retention to say.
    pub history_ms: Option<u64>,
    /// Settings of dialects that the broker carries and does not read (but for [`crate::DEAD_LETTERS`]), by a name that begins with its dialect's prefix.
    pub extras: BTreeMap<String, String>,
}

impl Default for StreamSettings {
    fn default() -> Self {
        StreamSettings {
            mode: Mode::Log,
            durability: Durability::Fsync,
            retention: Retention::default(),
            batch_len_max: None,
            record_len_max: None,
            time: TimeSource::Producer,
            length_max: None,
            bytes_max: None,
            overflow: Overflow::DropOldest,
            limits_ready: false,
            dead_letter: None,
            delivery_limit: None,
            exhaust: Exhaust::WhenReturned,
            lease_ms: None,
            delay_ms: 0,
            ttl_ms: None,
            dedup_window_ms: 120_000,
            index_route_keys: false,
            entry_keys: Vec::new(),
            key_records_max: None,
            key_overflow: Overflow::DropOldest,
            expires_records: false,
            over: None,
            history_ms: None,
            extras: BTreeMap::new(),
        }
    }
}

/// Properties that a stream has for its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facets {
    /// Other dialects do not show it.
    pub hidden: bool,
    /// It belongs to one session, and goes with it.
    pub exclusive: bool,
    /// Its dialect deletes it when its last user is gone.
    pub auto_delete: bool,
    /// It is gone after a restart, records and all: nothing of it is logged.
    pub transient: bool,
}

/// What a stream is created from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamSpec {
    /// How many partitions, 1..=[`model::limits::PARTITIONS_MAX`].
    pub partitions: u32,
    /// Settings that may change later.
    pub settings: StreamSettings,
    /// Properties for its life.
    pub facets: Facets,
}

impl StreamSpec {
    /// `partitions` partitions with default settings.
    pub fn with_partitions(partitions: u32) -> Self {
        StreamSpec { partitions, settings: StreamSettings::default(), facets: Facets::default() }
    }
}
