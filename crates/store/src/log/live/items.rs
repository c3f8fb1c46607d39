//! What the live set of a log consists of: extents of files, volatile batches, and what is staged.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use model::{Batch, Offset, RecordAttributes, Seq};

use crate::spill::Spilled;

/// A file that holds entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FileId {
    /// A file of the write-ahead log, by number.
    Wal(u64),
    /// A segment, by number.
    Segment(u64),
}

/// One step of a sparse index: a stretch of about [`crate::INDEX_STEP_LEN`] bytes of an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// First offset of the stretch, relative to the extent's base.
    pub base: u32,
    /// Where the stretch begins, relative to the extent.
    pub at: u32,
    /// Latest append time in the stretch, milliseconds since the Unix epoch.
    pub append_time_ms: i64,
    /// Latest event time in the stretch, milliseconds since the Unix epoch.
    pub event_time_ms: i64,
}

/// Where the sparse index of an extent is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Index {
    /// The extent is one stretch.
    None,
    /// In memory: the extent is not flushed yet.
    Points(Arc<[Point]>),
    /// In the footer of its file.
    Footer,
}

/// A contiguous stretch of one file with batches of one log in offset order. It may hold other entries between them,
/// and offsets whose batch was not kept (those are marked as dropped).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub file: FileId,
    pub at: u64,
    pub base: Offset,
    /// Length in bytes.
    pub len: u32,
    /// Offsets it spans.
    pub count: u32,
    /// Records stored in it, live or not; at most `count`.
    pub stored: u32,
    /// Live records.
    pub live: u32,
    /// Latest append time, milliseconds since the Unix epoch.
    pub append_time_ms: i64,
    /// Latest event time, milliseconds since the Unix epoch.
    pub event_time_ms: i64,
    pub index: Index,
    /// Its bytes failed their checks: not read, not copied, not removed.
    pub damaged: bool,
}

/// Bytes of memory that an extent takes, with its part of the room that its log keeps for more of them: see
/// [`LiveSet::place`].
pub const EXTENT_LEN: usize = size_of::<Extent>() / 4 * 5;

impl Extent {
    /// The offset after its last one.
    pub fn end(&self) -> Offset {
        self.base.plus(u64::from(self.count))
    }

    /// Bytes that would stay if only live records were kept.
    pub fn live_len(&self) -> u64 {
        share(self.len, self.live, self.stored)
    }
}

/// A batch that a crash takes back, or several that follow one another.
#[derive(Clone, Debug)]
pub(crate) struct Volatile {
    pub base: Offset,
    /// Offsets it covers; each of them was given to a record.
    pub count: u32,
    pub live: u32,
    /// What its records count for, bytes.
    pub len: u32,
    /// Latest append time, milliseconds since the Unix epoch.
    pub append_time_ms: i64,
    /// Latest event time, milliseconds since the Unix epoch.
    pub event_time_ms: i64,
    pub kept: Kept,
}

/// Where volatile records are.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    /// One batch.
    Memory(Arc<Batch>),
    /// Batches one after another.
    Spilled(Spilled),
}

/// What an allocation takes beside what is asked for, with the counts of what is shared.
const ALLOCATION_LEN: usize = 32;

impl Volatile {
    /// `batch` in memory, which counts for `len` bytes.
    pub fn new(batch: Batch, len: u32) -> Self {
        Volatile {
            base: batch.base,
            count: batch.count,
            live: batch.count,
            len,
            append_time_ms: batch.append_time_ms,
            event_time_ms: batch.max_event_time_ms.unwrap_or(batch.append_time_ms),
            kept: Kept::Memory(Arc::new(batch)),
        }
    }

    /// The offset after its last one.
    pub fn end(&self) -> Offset {
        self.base.plus(u64::from(self.count))
    }

    /// Its batch, if that is in memory.
    pub fn batch(&self) -> Option<&Arc<Batch>> {
        match &self.kept {
            Kept::Memory(batch) => Some(batch),
            Kept::Spilled(_) => None,
        }
    }

    /// Bytes of memory it takes, with the room that its log keeps for as many more.
    pub(super) fn held_len(&self) -> u64 {
        (2 * size_of::<Volatile>() + self.batch().map_or(0, |batch| memory_len(batch))) as u64
    }
}

/// Bytes of memory that a batch takes with all that belongs to it.
fn memory_len(batch: &Batch) -> usize {
    let key_len = |key: &Option<Bytes>| key.as_ref().map_or(0, |key| key.len() + ALLOCATION_LEN);
    let row_len = |row: &RecordAttributes| {
        let keys = [&row.route_key, &row.record_key, &row.ordering_key, &row.external_id];
        size_of::<RecordAttributes>() + keys.into_iter().map(key_len).sum::<usize>()
    };
    let rows_len: usize = batch.attributes.rows().iter().map(row_len).sum();
    size_of::<Batch>() + 3 * ALLOCATION_LEN + batch.body.len() + rows_len
}

/// What a staged item stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StagedKind {
    /// A batch on its way to the disk.
    Data,
    /// Offsets that nothing will ever be stored at.
    Gap,
    /// A volatile batch whose reservation is on its way to the disk.
    Volatile,
}

/// Offsets that become readable when their unit is durable.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Staged {
    pub base: Offset,
    pub end: Offset,
    pub live: u32,
    pub len: u32,
    pub seq: Seq,
    pub kind: StagedKind,
}

/// What an item of the live set has in common with the others.
pub(super) trait Item {
    fn range(&self) -> Range<u64>;
    fn live(&self) -> u32;
    fn set_live(&mut self, live: u32);
    /// Bytes and records that they hold.
    fn stored(&self) -> (u32, u32);
}

impl Item for Extent {
    fn range(&self) -> Range<u64> {
        self.base.0..self.end().0
    }
    fn live(&self) -> u32 {
        self.live
    }
    fn set_live(&mut self, live: u32) {
        self.live = live;
    }
    fn stored(&self) -> (u32, u32) {
        (self.len, self.stored)
    }
}

impl Item for Volatile {
    fn range(&self) -> Range<u64> {
        self.base.0..self.end().0
    }
    fn live(&self) -> u32 {
        self.live
    }
    fn set_live(&mut self, live: u32) {
        self.live = live;
    }
    fn stored(&self) -> (u32, u32) {
        (self.len, self.count)
    }
}

impl Item for Staged {
    fn range(&self) -> Range<u64> {
        self.base.0..self.end.0
    }
    fn live(&self) -> u32 {
        self.live
    }
    fn set_live(&mut self, live: u32) {
        self.live = live;
    }
    fn stored(&self) -> (u32, u32) {
        (self.len, u32::try_from(self.end.since(self.base)).unwrap_or(u32::MAX))
    }
}

/// `len * live / stored`: the bytes of `live` records out of `stored` that take `len`.
fn share(len: u32, live: u32, stored: u32) -> u64 {
    (u64::from(len) * u64::from(live)).checked_div(u64::from(stored)).unwrap_or(0)
}

/// Live records and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub records: u64,
    pub bytes: u64,
}

impl Totals {
    pub(super) fn add(&mut self, item: &impl Item) {
        let (len, stored) = item.stored();
        self.records += u64::from(item.live());
        self.bytes += share(len, item.live(), stored);
    }

    pub(super) fn remove(&mut self, item: &impl Item) {
        let (len, stored) = item.stored();
        self.records -= u64::from(item.live());
        self.bytes -= share(len, item.live(), stored);
    }
}
