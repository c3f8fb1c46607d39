//! What the engine knows of one log: its bounds and its live set. Changes of it are entries, applied here once when
//! they are staged and once more on replay.

use std::ops::Range;

use model::{Batch, LogId, Offset, OwnerEpoch, Seq, limits};
use roaring::RoaringBitmap;

use super::live::{Extent, FileId, LiveSet, Staged, StagedKind, UNSENT, Volatile};
use crate::{Change, Durability, Entry};

/// The bounds of a log. `start <= stable_end <= durable_end <= end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// First offset that may hold a live record.
    pub start: Offset,
    /// First offset of the oldest open transaction, else `durable_end`.
    pub stable_end: Offset,
    /// Everything below is readable.
    pub durable_end: Offset,
    /// The next append's offset.
    pub end: Offset,
}

/// The engine's part of a log's state. Under the log's lock.
pub struct LogCore {
    id: LogId,
    epoch: OwnerEpoch,
    durability: Durability,
    start: Offset,
    end: Offset,
    durable_end: Offset,
    stable_limit: Option<Offset>,
    /// Volatile records may take offsets below this; the WAL holds it.
    reserved_end: Offset,
    /// A further reservation and the unit it is in.
    reserving: Option<(Offset, Seq)>,
    last_append_time_ms: i64,
    /// The last unit that changed this log.
    applied: Seq,
    deleted: bool,
    pub(crate) live: LiveSet,
}

impl LogCore {
    pub(crate) fn new(id: LogId, start: Offset, durability: Durability) -> Self {
        LogCore {
            id,
            epoch: OwnerEpoch(0),
            durability,
            start,
            end: start,
            durable_end: start,
            stable_limit: None,
            reserved_end: start,
            reserving: None,
            last_append_time_ms: 0,
            applied: Seq(0),
            deleted: false,
            live: LiveSet::default(),
        }
    }

    /// Which log it is.
    pub fn id(&self) -> LogId {
        self.id
    }

    /// The epoch under which changes are made now.
    pub fn epoch(&self) -> OwnerEpoch {
        self.epoch
    }

    /// Whether its records survive a crash unless their batch says otherwise.
    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// First offset that may hold a live record. With removals staged it may be ahead of `durable_end`.
    pub fn start(&self) -> Offset {
        self.start
    }

    /// The next append's offset: the staged state, which conditions are checked against.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Everything below is readable.
    pub fn durable_end(&self) -> Offset {
        self.durable_end
    }

    /// Everything below is readable and settled by its transaction.
    pub fn stable_end(&self) -> Offset {
        self.stable_limit.map_or(self.durable_end, |limit| limit.min(self.durable_end))
    }

    /// All four bounds, as readers see them.
    pub fn bounds(&self) -> Bounds {
        let stable_end = self.stable_end();
        Bounds { start: self.start.min(stable_end), stable_end, durable_end: self.durable_end, end: self.end }
    }

    /// Offsets below this may be given to records that a crash takes back.
    pub fn reserved_end(&self) -> Offset {
        self.reserved_end
    }

    /// Append time of its last batch, milliseconds since the Unix epoch; 0 before the first.
    pub fn last_append_time_ms(&self) -> i64 {
        self.last_append_time_ms
    }

    /// The last unit that changed this log, durable or not.
    pub fn applied(&self) -> Seq {
        self.applied
    }

    /// Whether it was deleted; changes to it are then ignored.
    pub fn is_deleted(&self) -> bool {
        self.deleted
    }

    /// Live records, staged ones included.
    pub fn records(&self) -> u64 {
        self.live.totals().records
    }

    /// Bytes of live records as stored, staged ones included. Batches that are partly dropped count in proportion.
    pub fn bytes(&self) -> u64 {
        self.live.totals().bytes
    }

    /// Bytes of memory for its volatile records.
    pub fn volatile_len(&self) -> u64 {
        self.live.volatile_len()
    }

    pub(super) fn live_set(&self) -> &LiveSet {
        &self.live
    }

    /// Whether a record is stored (or staged) at `offset` and not dropped.
    pub fn is_live(&self, offset: Offset) -> bool {
        offset >= self.start && self.live.is_live(offset)
    }

    /// Which records of a stored batch are gone.
    pub(crate) fn gone_in(&self, batch: &Batch) -> Gone {
        // What lost its last live record left its bits behind with it: the batch was read before that.
        if !self.live.holds(batch.base) {
            return Gone::All;
        }
        let (base, end) = (batch.base.0, batch.end().0);
        let dropped = self.live.dropped();
        let below = self.start.0.clamp(base, end);
        let above = if dropped.is_empty() { 0 } else { dropped.range_cardinality(below..end) };
        if below - base + above == 0 {
            return Gone::None;
        }
        if below - base + above == end - base {
            return Gone::All;
        }
        let index = |offset: u64| u32::try_from(offset - base).unwrap_or(u32::MAX);
        let mut gone = RoaringBitmap::new();
        gone.insert_range(0..index(below));
        let mut bits = dropped.iter();
        bits.advance_to(below);
        gone.extend(bits.take_while(|offset| *offset < end).map(index));
        Gone::Some(gone)
    }

    /// Sets an extent aside whose bytes failed their checks. `false` when it is not there any more.
    pub(crate) fn quarantine(&mut self, file: FileId, at: u64, base: Offset) -> bool {
        let index = self.live.extent_from(base);
        match self.live.extent_mut(index) {
            Some(found) if (found.file, found.at) == (file, at) => {
                !std::mem::replace(&mut found.damaged, true)
            }
            _ => false,
        }
    }

    /// Puts copies of extents in their place.
    pub(crate) fn replace(
        &mut self,
        range: Range<Offset>,
        taken: impl Fn(&Extent) -> bool,
        copies: Vec<Extent>,
    ) {
        if !self.deleted {
            self.live.replace(range, taken, copies, self.start);
        }
    }

    /// Volatile batches were written to a spill file.
    pub(crate) fn spill(&mut self, spilled: Volatile) {
        self.live.spill(spilled, self.start);
    }

    pub(crate) fn set_stable_limit(&mut self, limit: Option<Offset>) {
        self.stable_limit = limit;
    }

    pub(crate) fn set_epoch(&mut self, epoch: OwnerEpoch) {
        self.epoch = self.epoch.max(epoch);
    }

    pub(crate) fn set_applied(&mut self, seq: Seq) {
        self.applied = self.applied.max(seq);
    }

    pub(crate) fn staged_reserve(&self) -> Offset {
        self.reserving.map_or(self.reserved_end, |(end, _)| end)
    }

    /// Forgets what was reserved ahead: nothing volatile will be appended any more.
    pub(crate) fn give_up_reservation(&mut self) {
        self.reserved_end = self.end;
        self.reserving = None;
    }

    /// The append time for a batch that arrives at `now_ms`: time never goes back within a log.
    pub(crate) fn append_time(&self, now_ms: i64) -> i64 {
        now_ms.max(self.last_append_time_ms)
    }

    /// Takes in a batch whose unit is about to be submitted. `stored_len` is what it will take on disk.
    pub(crate) fn stage_batch(&mut self, batch: &Batch, stored_len: u32) {
        let (base, end) = (batch.base, batch.end());
        self.took(batch);
        self.stage(base, end, batch.count, stored_len, StagedKind::Data);
    }

    /// Takes in a volatile batch; it waits for a reservation on its way if it needs one.
    /// Answers the unit that has to be durable before its offsets are certain, if that is an earlier one.
    pub(crate) fn stage_volatile(&mut self, batch: Batch, len: u32) -> Option<Seq> {
        let (base, end) = (batch.base, batch.end());
        self.took(&batch);
        let pending = self.reserving.map(|(_, seq)| seq).filter(|_| end > self.reserved_end);
        if end > self.reserved_end {
            // The reservation is in this unit, or in one that is on its way.
            let seq = pending.unwrap_or(UNSENT);
            self.live.stage(Staged { base, end, live: 0, len: 0, seq, kind: StagedKind::Volatile });
        }
        self.live.place_volatile(Volatile::new(batch, len));
        self.settle_bounds();
        pending.filter(|seq| *seq != UNSENT)
    }

    fn took(&mut self, batch: &Batch) {
        debug_assert!(batch.base >= self.end, "offsets are never given twice");
        self.end = batch.end();
        self.last_append_time_ms = self.last_append_time_ms.max(batch.append_time_ms);
    }

    fn stage(&mut self, base: Offset, end: Offset, live: u32, len: u32, kind: StagedKind) {
        self.live.stage(Staged { base, end, live, len, seq: UNSENT, kind });
    }

    /// How far the reservation must reach for a volatile batch that ends at `end`, if it must grow: a block ahead of
    /// need, once half of the last block is used.
    pub(crate) fn reservation_for(&self, end: Offset) -> Option<Offset> {
        let ahead = end.plus(limits::RESERVE_BLOCK / 2);
        (ahead > self.staged_reserve()).then(|| end.plus(limits::RESERVE_BLOCK))
    }

    /// Takes in any other change whose unit is about to be submitted.
    pub(crate) fn stage_change(&mut self, change: &Change) {
        match change {
            Change::Advance(to) if *to > self.end => {
                let from = self.end;
                self.end = *to;
                self.stage(from, *to, 0, 0, StagedKind::Gap);
            }
            Change::Reserve(to) if *to > self.staged_reserve() => self.reserving = Some((*to, UNSENT)),
            Change::Drop(ranges) => ranges.iter().for_each(|range| self.drop_range(range.clone())),
            Change::Trim(to) => self.trim(*to),
            Change::Delete => self.delete(),
            Change::Create { .. }
            | Change::Note(_)
            | Change::Data { .. }
            | Change::Advance(_)
            | Change::Reserve(_) => {}
        }
    }

    /// The unit with what was staged since the last call is `seq`.
    pub(crate) fn submitted(&mut self, seq: Seq) {
        self.live.staged_as(seq);
        if let Some((_, staged)) = &mut self.reserving
            && *staged == UNSENT
        {
            *staged = seq;
        }
        self.set_applied(seq);
    }

    /// No unit was submitted for what was staged since the last call: nothing in it needs one.
    pub(crate) fn nothing_submitted(&mut self) {
        self.live.staged_as(UNSENT);
    }

    /// Everything up to `last` is durable, and `extents` is where its batches of this log lie.
    pub(crate) fn committed(&mut self, last: Seq, extents: impl Iterator<Item = Extent>) {
        if self.deleted {
            return;
        }
        self.live.settle_staged(last);
        for extent in extents {
            self.place(extent);
        }
        if let Some((end, seq)) = self.reserving
            && seq <= last
        {
            self.reserved_end = end;
            self.reserving = None;
        }
        self.settle_bounds();
    }

    /// Takes in an extent that is durable.
    pub(crate) fn place(&mut self, extent: Extent) {
        if extent.end() > self.start {
            self.live.place(extent, self.start);
        }
    }

    fn settle_bounds(&mut self) {
        self.durable_end = self.live.first_staged().unwrap_or(self.end);
    }

    fn drop_range(&mut self, range: Range<Offset>) {
        let range = range.start.max(self.start)..range.end.min(self.end);
        if range.start >= range.end {
            return;
        }
        // From the front on, as a queue is worked off, nothing has to be remembered.
        if range.start == self.start {
            self.cut_front(range.end);
        } else {
            self.live.drop_range(range);
        }
        let first = self.live.first_live(self.start, self.end);
        if first > self.start {
            self.cut_front(first);
        }
    }

    fn trim(&mut self, to: Offset) {
        let to = to.min(self.end);
        if to > self.start {
            self.cut_front(to);
        }
    }

    fn cut_front(&mut self, to: Offset) {
        self.live.cut_front(self.start, to);
        self.start = to;
    }

    fn delete(&mut self) {
        self.deleted = true;
        self.live.clear();
        self.start = self.end;
        self.durable_end = self.end;
        self.stable_limit = None;
    }

    /// Applies a replayed entry of unit `seq`. Where data lies is told apart, through [`LogCore::place`].
    pub(crate) fn replay(&mut self, seq: Seq, entry: &Entry) {
        self.set_applied(seq);
        self.set_epoch(entry.epoch);
        match &entry.change {
            Change::Data { batch, .. } => self.took(batch),
            Change::Advance(to) => self.end = self.end.max(*to),
            Change::Reserve(to) => self.reserved_end = self.reserved_end.max(*to),
            Change::Trim(to) => {
                // Below it may have been volatile records, which a replay does not see.
                self.end = self.end.max(*to);
                self.trim(*to);
            }
            other => self.stage_change(other),
        }
        self.settle_bounds();
    }

    pub(crate) fn snapshot(&self) -> CoreSnapshot {
        CoreSnapshot {
            id: self.id,
            epoch: self.epoch,
            durability: self.durability,
            start: self.start,
            end: self.end,
            placed_end: self.durable_end,
            reserved_end: self.staged_reserve(),
            last_append_time_ms: self.last_append_time_ms,
            applied: self.applied,
        }
    }

    pub(crate) fn restored(from: &CoreSnapshot) -> Self {
        LogCore {
            epoch: from.epoch,
            end: from.end,
            durable_end: from.placed_end,
            reserved_end: from.reserved_end,
            last_append_time_ms: from.last_append_time_ms,
            applied: from.applied,
            ..LogCore::new(from.id, from.start, from.durability)
        }
    }

    /// After the whole replay: goes on above everything that may have been given to records now lost, also to those of
    /// units that a repair gave up. Says whether offsets were skipped.
    pub(crate) fn finish_replay(&mut self, ignore_reserve: bool, is_repair: bool) -> bool {
        let mut skipped = self.reserved_end > self.end && !ignore_reserve;
        if skipped {
            self.end = self.reserved_end;
        }
        if is_repair && self.end.0 <= limits::OFFSET_MAX - OFFSETS_LOST_MAX {
            self.end = self.end.plus(OFFSETS_LOST_MAX);
            skipped = true;
        }
        self.reserved_end = self.end;
        self.start = self.start.min(self.end);
        self.settle_bounds();
        skipped
    }
}

/// Offsets that a log may have given out in units that a repair gave up, generously: what they held is not known.
pub(crate) const OFFSETS_LOST_MAX: u64 = 1 << 32;

/// Which records of a batch are gone.
pub(crate) enum Gone {
    None,
    Some(RoaringBitmap),
    All,
}

/// The fixed part of a log's state in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CoreSnapshot {
    pub id: LogId,
    pub epoch: OwnerEpoch,
    pub durability: Durability,
    pub start: Offset,
    pub end: Offset,
    /// Batches at or above this may have been staged and not placed when the copy was made: replay places them, also
    /// where their unit is not after `applied`.
    pub placed_end: Offset,
    pub reserved_end: Offset,
    pub last_append_time_ms: i64,
    pub applied: Seq,
}
