//! The live set of one log: what is stored where, and which offsets of it are gone.
//!
//! ```text
//!  start                                        durable_end        end
//!    |  extent   | extent |  (gap)  |  extent  |  staged | staged |
//!    |..x..xxx...|        |         |.....xx...|         |   x    |      x = dropped
//! ```
//!
//! Dropped bits exist only inside items (extents, volatile batches, staged batches): what no item covers is a gap.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use bytes::Bytes;
use model::{Batch, Offset, RecordAttributes, Seq};
use roaring::RoaringTreemap;

use crate::spill::Spilled;

/// A file that holds entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum FileId {
    /// A file of the write-ahead log, by number.
    Wal(u64),
    /// A segment, by number.
    Segment(u64),
}

/// Extents for which a log keeps room while it has none.
const FEW_EXTENTS: usize = 8;

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
    fn held_len(&self) -> u64 {
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
trait Item {
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

impl Extent {
    /// The offset after its last one.
    pub fn end(&self) -> Offset {
        self.base.plus(u64::from(self.count))
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
    fn add(&mut self, item: &impl Item) {
        let (len, stored) = item.stored();
        self.records += u64::from(item.live());
        self.bytes += share(len, item.live(), stored);
    }

    fn remove(&mut self, item: &impl Item) {
        let (len, stored) = item.stored();
        self.records -= u64::from(item.live());
        self.bytes -= share(len, item.live(), stored);
    }
}

/// See the module's picture.
#[derive(Default)]
pub(crate) struct LiveSet {
    /// Ascending, not overlapping; every one has a live record.
    extents: VecDeque<Extent>,
    /// Ascending, not overlapping; every one has a live record.
    volatile: VecDeque<Volatile>,
    /// Ascending, not overlapping.
    staged: VecDeque<Staged>,
    /// How many of the last staged ones no unit was submitted for yet.
    fresh: usize,
    dropped: RoaringTreemap,
    totals: Totals,
    /// Bytes of memory for volatile records.
    volatile_len: u64,
}

impl LiveSet {
    pub fn extents(&self) -> &VecDeque<Extent> {
        &self.extents
    }

    pub fn volatile(&self) -> impl DoubleEndedIterator<Item = &Volatile> {
        self.volatile.iter()
    }

    /// Volatile batches from the first that ends after `from`.
    pub fn volatile_from(&self, from: Offset) -> impl Iterator<Item = &Volatile> {
        self.volatile.range(self.volatile.partition_point(|v| v.end() <= from)..)
    }

    pub fn dropped(&self) -> &RoaringTreemap {
        &self.dropped
    }

    pub fn totals(&self) -> Totals {
        self.totals
    }

    pub fn volatile_len(&self) -> u64 {
        self.volatile_len
    }

    /// First offset that is not durable yet.
    pub fn first_staged(&self) -> Option<Offset> {
        self.staged.front().map(|s| s.base)
    }

    /// Index of the first extent that ends after `from`.
    pub fn extent_from(&self, from: Offset) -> usize {
        self.extents.partition_point(|e| e.end() <= from)
    }

    /// Whether an item that a reader may have read covers `offset`.
    pub fn holds(&self, offset: Offset) -> bool {
        self.extents.get(self.extent_from(offset)).is_some_and(|e| e.base <= offset)
            || self.volatile_from(offset).next().is_some_and(|v| v.base <= offset)
    }

    pub fn restore_dropped(&mut self, dropped: RoaringTreemap) {
        self.dropped = dropped;
    }

    pub fn stage(&mut self, staged: Staged) {
        if staged.kind == StagedKind::Data {
            self.totals.add(&staged);
        }
        self.fresh += 1;
        self.staged.push_back(staged);
    }

    /// Gives the items staged since the last call their unit's sequence.
    pub fn staged_as(&mut self, seq: Seq) {
        let fresh = std::mem::take(&mut self.fresh);
        for staged in self.staged.iter_mut().rev().take(fresh).filter(|s| s.seq == UNSENT) {
            staged.seq = seq;
        }
    }

    /// Takes off what became durable with `last`. The extents of its batches are then placed.
    pub fn settle_staged(&mut self, last: Seq) {
        while let Some(staged) = self.staged.front().copied()
            && staged.seq <= last
        {
            if staged.kind == StagedKind::Data {
                self.totals.remove(&staged);
            }
            self.staged.pop_front();
        }
    }

    /// Takes an extent in at its place in the order, unless nothing in it is live any more.
    pub fn place(&mut self, mut extent: Extent, start: Offset) {
        extent.live = self.live_in(extent.range(), start);
        if extent.live == 0 {
            self.dropped.remove_range(extent.range());
            return;
        }
        self.totals.add(&extent);
        let at = match self.extents.back() {
            Some(last) if last.end() > extent.base => {
                self.extents.partition_point(|e| e.end() <= extent.base)
            }
            _ => self.extents.len(),
        };
        if self.extents.len() == self.extents.capacity() {
            // A quarter more, not as much again: where many logs have few extents each, this is most of their memory.
            self.extents.reserve_exact(self.extents.len() / 4 + 1);
        }
        self.extents.insert(at, extent);
    }

    pub fn place_volatile(&mut self, batch: Volatile) {
        self.totals.add(&batch);
        self.volatile_len += batch.held_len();
        self.volatile.push_back(batch);
    }

    /// What `spilled` has was written to a spill file: it takes the place of the batches there, as far as those are still
    /// there.
    pub fn spill(&mut self, mut spilled: Volatile, start: Offset) {
        let range = spilled.range();
        let first = self.volatile.partition_point(|held| held.range().end <= range.start);
        let last = self.volatile.partition_point(|held| held.range().start < range.end).max(first);
        let mut sources = Vec::with_capacity(last - first);
        for held in self.volatile.drain(first..last) {
            self.totals.remove(&held);
            self.volatile_len -= held.held_len();
            sources.push(held.range());
        }
        for gap in uncovered(range.clone(), &sources) {
            self.dropped.insert_range(gap);
        }
        spilled.live = self.live_in(range.clone(), start);
        if spilled.live == 0 {
            self.dropped.remove_range(range);
        } else {
            self.totals.add(&spilled);
            self.volatile_len += spilled.held_len();
            self.volatile.insert(first, spilled);
        }
        self.forget_below(start);
        if self.volatile.capacity() > FEW_EXTENTS.max(2 * self.volatile.len()) {
            self.volatile.shrink_to_fit();
        }
    }

    /// Takes off the extents for which `taken` says so (they were copied elsewhere); their dropped bits stay, for the
    /// copies. Extents outside the offsets in `range` are not looked at.
    fn take_extents(&mut self, range: Range<Offset>, taken: impl Fn(&Extent) -> bool) -> Vec<Extent> {
        let first = self.extents.partition_point(|e| e.end() <= range.start);
        let last = self.extents.partition_point(|e| e.base < range.end).max(first);
        let mut out = Vec::new();
        let mut kept = Vec::new();
        for extent in self.extents.drain(first..last) {
            if taken(&extent) {
                self.totals.remove(&extent);
                out.push(extent);
            } else {
                kept.push(extent);
            }
        }
        let tail = self.extents.split_off(first);
        self.extents.extend(kept);
        self.extents.extend(tail);
        out
    }

    /// Puts `copies` in the place of the extents that `taken` accepts. Offsets of the copies that none of those covers
    /// any more were dropped meanwhile, or never held anything.
    pub fn replace(
        &mut self,
        range: Range<Offset>,
        taken: impl Fn(&Extent) -> bool,
        copies: Vec<Extent>,
        start: Offset,
    ) {
        let sources: Vec<Range<u64>> = self.take_extents(range, taken).iter().map(Item::range).collect();
        let targets: Vec<Range<u64>> = copies.iter().map(Item::range).collect();
        for target in &targets {
            for gap in uncovered(target.clone(), &sources) {
                self.dropped.insert_range(gap);
            }
        }
        for source in &sources {
            for gap in uncovered(source.clone(), &targets) {
                self.dropped.remove_range(gap);
            }
        }
        copies.into_iter().for_each(|copy| self.place(copy, start));
        self.forget_below(start);
        // A few copies are there instead of many.
        if self.extents.capacity() > FEW_EXTENTS.max(2 * self.extents.len()) {
            self.extents.shrink_to_fit();
        }
    }

    /// Changes what does not concern liveness (place of the index, damage) of the extent at `index`.
    pub fn extent_mut(&mut self, index: usize) -> Option<&mut Extent> {
        self.extents.get_mut(index)
    }

    /// The same for all of them.
    pub fn extents_mut(&mut self) -> impl Iterator<Item = &mut Extent> {
        self.extents.iter_mut()
    }

    /// Live records among `range`, all of which some item covers.
    fn live_in(&self, range: Range<u64>, start: Offset) -> u32 {
        let from = range.start.max(start.0).min(range.end);
        let gone = if self.dropped.is_empty() { 0 } else { self.dropped.range_cardinality(from..range.end) };
        u32::try_from((range.end - from).saturating_sub(gone)).unwrap_or(u32::MAX)
    }

    /// Whether an item that is durable or staged covers `offset` and it is not dropped.
    pub fn is_live(&self, offset: Offset) -> bool {
        !self.dropped.contains(offset.0)
            && (self.holds(offset) || self.staged_at(offset).is_some_and(|s| s.kind == StagedKind::Data))
    }

    fn staged_at(&self, offset: Offset) -> Option<&Staged> {
        self.staged.get(self.staged.partition_point(|s| s.end <= offset)).filter(|s| s.base <= offset)
    }

    /// Marks `range` as gone. What is covered by no item is left alone.
    pub fn drop_range(&mut self, range: Range<Offset>) {
        let range = range.start.0..range.end.0;
        if range.is_empty() {
            return;
        }
        drop_in(&mut self.extents, &mut self.dropped, &mut self.totals, &range, |_| {});
        let freed = &mut self.volatile_len;
        drop_in(&mut self.volatile, &mut self.dropped, &mut self.totals, &range, |gone| {
            *freed -= gone.held_len();
        });
        self.shrink();
        // Staged items stay until they are durable, in whatever state: they hold durable_end back.
        let first = self.staged.partition_point(|s| s.end.0 <= range.start);
        for staged in self.staged.range_mut(first..) {
            if staged.base.0 >= range.end {
                break;
            }
            if staged.kind == StagedKind::Data {
                drop_within(staged, &mut self.dropped, &mut self.totals, &range);
            }
        }
    }

    /// Everything below `to` is gone; `start` is where the log began before. Leaves no bits behind.
    pub fn cut_front(&mut self, start: Offset, to: Offset) {
        let freed = &mut self.volatile_len;
        cut_front(&mut self.extents, &mut self.dropped, &mut self.totals, start.0..to.0, |_| {});
        cut_front(&mut self.volatile, &mut self.dropped, &mut self.totals, start.0..to.0, |gone| {
            *freed -= gone.held_len();
        });
        for staged in self.staged.iter_mut().take_while(|staged| staged.base < to) {
            if staged.kind == StagedKind::Data {
                cut_within(staged, &self.dropped, &mut self.totals, start.0..to.0);
            }
        }
        self.forget_below(to);
        self.shrink();
    }

    /// An idle log takes no memory for what it once held.
    fn shrink(&mut self) {
        if self.volatile.is_empty() && self.volatile.capacity() > 0 {
            self.volatile = VecDeque::new();
        }
        if self.extents.is_empty() && self.extents.capacity() > FEW_EXTENTS {
            self.extents = VecDeque::new();
        }
    }

    /// Forgets dropped bits below the log's start.
    fn forget_below(&mut self, start: Offset) {
        if !self.dropped.is_empty() {
            self.dropped.remove_range(..start.0);
        }
    }

    /// The first live offset at or after `from`, where nothing below `from` is live; `end` when there is none.
    pub fn first_live(&self, from: Offset, end: Offset) -> Offset {
        let extent = self.extents.front().map(|e| e.base);
        let volatile = self.volatile().next().map(|v| v.base);
        let staged = self.staged.iter().find(|s| s.live > 0 && s.kind == StagedKind::Data).map(|s| s.base);
        let Some(base) = [extent, volatile, staged].into_iter().flatten().min() else { return end };
        let mut at = base.max(from).0;
        if self.dropped.contains(at) {
            let mut gone = self.dropped.iter();
            gone.advance_to(at);
            while gone.next() == Some(at) {
                at += 1;
            }
        }
        Offset(at).min(end)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = LiveSet::default();
    }
}

/// The sequence of staged items whose unit was not submitted yet.
pub(crate) const UNSENT: Seq = Seq(u64::MAX);

fn drop_in<T: Item>(
    items: &mut VecDeque<T>,
    dropped: &mut RoaringTreemap,
    totals: &mut Totals,
    range: &Range<u64>,
    mut gone: impl FnMut(&T),
) {
    let mut at = items.partition_point(|item| item.range().end <= range.start);
    while let Some(item) = items.get_mut(at) {
        if item.range().start >= range.end {
            break;
        }
        drop_within(item, dropped, totals, range);
        if item.live() == 0 {
            dropped.remove_range(item.range());
            gone(item);
            items.remove(at);
        } else {
            at += 1;
        }
    }
}

/// Takes off what lies below `range.end`; nothing below `range.start` was live.
fn cut_front<T: Item>(
    items: &mut VecDeque<T>,
    dropped: &mut RoaringTreemap,
    totals: &mut Totals,
    range: Range<u64>,
    mut gone: impl FnMut(&T),
) {
    while let Some(item) = items.front_mut() {
        if item.range().end > range.end {
            if item.range().start < range.end {
                cut_within(item, dropped, totals, range);
                if item.live() == 0 {
                    dropped.remove_range(item.range());
                    gone(item);
                    items.pop_front();
                }
            }
            return;
        }
        totals.remove(item);
        gone(item);
        items.pop_front();
    }
}

fn cut_within<T: Item>(item: &mut T, dropped: &RoaringTreemap, totals: &mut Totals, range: Range<u64>) {
    let own = item.range();
    let cut = range.start.max(own.start)..range.end.min(own.end);
    if cut.is_empty() {
        return;
    }
    let before = if dropped.is_empty() { 0 } else { dropped.range_cardinality(cut.clone()) };
    totals.remove(item);
    let newly = u32::try_from(cut.end - cut.start - before).unwrap_or(u32::MAX);
    item.set_live(item.live().saturating_sub(newly));
    totals.add(item);
}

fn drop_within<T: Item>(item: &mut T, dropped: &mut RoaringTreemap, totals: &mut Totals, range: &Range<u64>) {
    let own = item.range();
    let newly = dropped.insert_range(range.start.max(own.start)..range.end.min(own.end));
    totals.remove(item);
    let newly = u32::try_from(newly).unwrap_or(u32::MAX);
    item.set_live(item.live().saturating_sub(newly));
    totals.add(item);
}

/// The parts of `whole` that none of `parts` covers; `parts` ascend.
fn uncovered(whole: Range<u64>, parts: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut at = whole.start;
    let mut gaps = Vec::new();
    let first = parts.partition_point(|part| part.end <= whole.start);
    for part in parts[first..].iter().take_while(|part| part.start < whole.end) {
        if part.start > at {
            gaps.push(at..part.start);
        }
        at = at.max(part.end);
    }
    if at < whole.end {
        gaps.push(at..whole.end);
    }
    gaps
}
