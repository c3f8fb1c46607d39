//! The streams and cursors that the workload plays on.

use broker::{
    DeadLetter, Facets, KeySharing, Mode, Order, Overflow, QUEUE_WORK, StreamSettings, StreamSpec, Work,
    WorkSpec,
};
use model::{Kind, Namespace, PartitionIndex, Result, Seq, StreamKey};

use super::run::Run;

/// The streams of the workload, by place: name and partition.
pub const STREAMS: [(&str, u32); 22] = [
    ("jobs", 0),
    ("keyed", 0),
    ("levels", 0),
    ("tasks", 0),
    ("dead", 0),
    ("events", 0),
    ("interest", 0),
    ("scratch", 0),
    ("mirror", 0),
    ("recent", 0),
    ("ring", 0),
    ("narrow", 0),
    ("spill", 0),
    ("fleeting", 0),
    ("expired", 0),
    ("later", 0),
    ("hose", 0),
    ("overrun", 0),
    ("spread", 0),
    ("spread", 1),
    ("spread", 2),
    ("foreign", 0),
];
pub const JOBS: usize = 0;
pub const KEYED: usize = 1;
pub const LEVELS: usize = 2;
pub const TASKS: usize = 3;
pub const DEAD: usize = 4;
pub const EVENTS: usize = 5;
pub const INTEREST: usize = 6;
/// Refuses when it is full.
pub const SCRATCH: usize = 7;
/// Appended to at given offsets.
pub const MIRROR: usize = 8;
/// A log that drops its oldest, also of each route key.
pub const RECENT: usize = 9;
/// A queue that drops its oldest.
pub const RING: usize = 10;
/// Deflects into `spill` when it is full.
pub const NARROW: usize = 11;
pub const SPILL: usize = 12;
/// Its records expire, into `expired`.
pub const FLEETING: usize = 13;
pub const EXPIRED: usize = 14;
/// Its records have a time before which they are not delivered.
pub const LATER: usize = 15;
/// Sends its oldest into `overrun` when it is full.
pub const HOSE: usize = 16;
pub const OVERRUN: usize = 17;
/// The first of three partitions of one stream that routes lead to.
pub const SPREAD: usize = 18;
pub const SPREAD_COUNT: u32 = 3;
/// Its records are in a format that nobody registered.
pub const FOREIGN: usize = 21;

/// Streams that records are moved to: what they hold is known by what left the others.
pub const MOVED_TO: [usize; 3] = [DEAD, EXPIRED, OVERRUN];

/// The work cursors: on which stream, and whether settled records leave it.
pub const CURSORS: [(usize, bool); 14] = [
    (JOBS, true),
    (KEYED, true),
    (LEVELS, true),
    (TASKS, true),
    (SCRATCH, true),
    (EVENTS, false),
    (INTEREST, false),
    (INTEREST, false),
    (RING, true),
    (NARROW, true),
    (FLEETING, true),
    (LATER, true),
    (HOSE, true),
    (EVENTS, false),
];
/// The route key that a cursor is for, where it is for one.
pub const WANTED: [Option<u8>; CURSORS.len()] =
    [None, None, None, None, None, None, Some(0), Some(1), None, None, None, None, None, None];
pub const CURSOR_TASKS: usize = 3;
pub const CURSOR_SCRATCH: usize = 4;
pub const CURSOR_RING: usize = 8;
pub const CURSOR_NARROW: usize = 9;
pub const CURSOR_FLEETING: usize = 10;
pub const CURSOR_LATER: usize = 11;
pub const CURSOR_HOSE: usize = 12;
/// The cursor on `events` that is set back and forth.
pub const CURSOR_REPLAY: usize = 13;

/// Deliveries of a record of `jobs` before it goes to the dead letters.
pub const DELIVERY_LIMIT: u32 = 3;
/// Records that `scratch`, `recent`, `ring`, `narrow` and `hose` take.
pub const SCRATCH_MAX: u64 = 40;
pub const RECENT_MAX: u64 = 14;
pub const RING_MAX: u64 = 12;
pub const NARROW_MAX: u64 = 8;
pub const HOSE_MAX: u64 = 10;
/// Records that one route key of `recent` takes.
pub const RECENT_KEY_MAX: u64 = 6;
/// How long records of `fleeting` live at most, milliseconds.
pub const FLEETING_TTL_MS: u64 = 1_500;
/// The route key of what `narrow` deflects.
pub const SPILLED: &str = "spilled";

/// The name of a stream.
pub fn key(stream: usize) -> StreamKey {
    let is_queue = match stream {
        EVENTS | INTEREST | MIRROR | RECENT | SPILL | FOREIGN => false,
        stream => !(SPREAD..SPREAD + SPREAD_COUNT as usize).contains(&stream),
    };
    let kind = if is_queue { Kind::Queue } else { Kind::Log };
    StreamKey { kind, ..StreamKey::log(&Namespace::default(), STREAMS[stream].0) }
}

/// The queue that is made over `events`.
pub fn over_events() -> StreamKey {
    StreamKey { kind: Kind::Queue, ..key(EVENTS) }
}

/// Whether a publish to the stream may find it full, and how many records it takes.
pub fn refuses_above(stream: usize) -> Option<u64> {
    match stream {
        SCRATCH => Some(SCRATCH_MAX),
        NARROW => Some(NARROW_MAX),
        _ => None,
    }
}

/// What a stream is made with.
pub fn spec(stream: usize) -> StreamSpec {
    let mode = match (stream, key(stream).kind) {
        (INTEREST, _) => Mode::Interest,
        (_, Kind::Log) => Mode::Log,
        _ => Mode::Queue,
    };
    let mut settings = StreamSettings { mode, dedup_window_ms: 1 << 40, ..StreamSettings::default() };
    let to = |target: usize| Some(DeadLetter { target: key(target), route_key: None });
    match stream {
        JOBS => {
            settings.dead_letter = to(DEAD);
            settings.delivery_limit = Some(DELIVERY_LIMIT);
        }
        EVENTS => settings.index_route_keys = true,
        SCRATCH => {
            settings.length_max = Some(SCRATCH_MAX);
            settings.overflow = Overflow::Refuse;
        }
        KEYED | LEVELS => settings.lease_ms = Some(300),
        RECENT => {
            settings.length_max = Some(RECENT_MAX);
            settings.index_route_keys = true;
            settings.key_records_max = Some(RECENT_KEY_MAX);
        }
        RING => settings.length_max = Some(RING_MAX),
        NARROW => {
            settings.length_max = Some(NARROW_MAX);
            settings.overflow = Overflow::Deflect;
            settings.dead_letter =
                Some(DeadLetter { target: key(SPILL), route_key: Some(SPILLED.to_owned()) });
        }
        FLEETING => {
            settings.ttl_ms = Some(FLEETING_TTL_MS);
            settings.dead_letter = to(EXPIRED);
        }
        HOSE => {
            settings.length_max = Some(HOSE_MAX);
            settings.dead_letter = to(OVERRUN);
        }
        _ => {}
    }
    let is_spread = STREAMS[stream].0 == STREAMS[SPREAD].0;
    let partitions = if is_spread { SPREAD_COUNT } else { 1 };
    StreamSpec { settings, facets: Facets::default(), ..StreamSpec::with_partitions(partitions) }
}

impl Run {
    /// The handle of a work cursor.
    pub fn open_work(&self, cursor: usize) -> Result<Option<(Work, Seq)>> {
        let Some(broker) = &self.broker else { return Ok(None) };
        let Some(partition) = self.partition(CURSORS[cursor].0) else { return Ok(None) };
        let ordered = |order| WorkSpec { order, ..WorkSpec::default() };
        let filter = |text: &str| WorkSpec { filter: vec![text.to_owned()], ..WorkSpec::default() };
        let opened = match cursor {
            1 => broker.open_work(&partition, QUEUE_WORK, ordered(Order::Keyed(KeySharing::One))),
            2 => broker.open_work(&partition, QUEUE_WORK, ordered(Order::Priority)),
            5 => {
                let Some(stream) = broker.stream(&over_events()) else { return Ok(None) };
                broker.stream_work(&stream, PartitionIndex(0))
            }
            6 => broker.open_work(&partition, "first", filter("0.*")),
            7 => broker.open_work(&partition, "second", filter("1.*")),
            CURSOR_REPLAY => broker.open_work(&partition, "replay", WorkSpec::default()),
            _ => broker.queue_work(&partition),
        };
        opened.map(Some)
    }
}
