//! What the write-ahead log holds: entries, gathered into units that become durable together or not at all.

use std::ops::Range;

use bytes::Bytes;
use model::{Batch, LogId, Offset, OwnerEpoch};

/// The id under which catalog commands travel. No stream's log ever has it.
pub const CATALOG: LogId = LogId(0);

/// Whether a log's records survive a crash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Durability {
    /// Acknowledged after a sync.
    #[default]
    Fsync,
    /// Kept in memory; a crash takes them back.
    Memory,
}

/// Writes facts that are only known at append (base offset, owner epoch, append time) into a batch's bytes. Runs once,
/// over the copy that is about to be written; it must not change the length.
pub type Stamp = fn(body: &mut [u8], facts: StampFacts);

/// What a [`Stamp`] may write down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StampFacts {
    /// Offset given to the first record.
    pub base: Offset,
    /// Current owner epoch of the log.
    pub epoch: OwnerEpoch,
    /// Append time, milliseconds since the Unix epoch.
    pub append_time_ms: i64,
}

/// One durable change of one log.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Whose change it is; [`CATALOG`] for catalog commands, which are [`Change::Note`]s.
    pub log: LogId,
    /// Owner epoch it was made under.
    pub epoch: OwnerEpoch,
    /// What changes.
    pub change: Change,
}

/// The kinds of change. Liveness of records follows from these alone: the engine never asks a cursor.
#[derive(Clone, Debug)]
pub enum Change {
    /// The log comes into being. Its first offset is `start`.
    Create {
        /// First offset.
        start: Offset,
        /// Whether records survive a crash unless their batch says otherwise.
        durability: Durability,
    },
    /// The log is gone with everything in it.
    Delete,
    /// Records, at `batch.base`, which is at or above the log's end.
    Data {
        /// The records.
        batch: Batch,
        /// Run over the bytes as they are laid out; `None` on replay, where it has run.
        stamp: Option<Stamp>,
    },
    /// These offsets are gone. Ascending, not overlapping, not empty.
    Drop(Vec<Range<Offset>>),
    /// Everything below is gone.
    Trim(Offset),
    /// The end moves up; the offsets between are a gap.
    Advance(Offset),
    /// Offsets below this may be given to records that a crash takes back; a restart goes on from here.
    Reserve(Offset),
    /// State attached to the log that the engine carries and does not read: cursor movements, catalog commands.
    Note(Bytes),
}

/// Entries that become durable together or not at all. Never spans two frames.
#[derive(Clone, Debug, Default)]
pub struct Unit {
    /// In the order in which they apply.
    pub entries: Vec<Entry>,
}
