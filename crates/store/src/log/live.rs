//! The live set of one log: what is stored where, and which offsets of it are gone.
//!
//! ```text
//!  start                                        durable_end        end
//!    |  extent   | extent |  (gap)  |  extent  |  staged | staged |
//!    |..x..xxx...|        |         |.....xx...|         |   x    |      x = dropped
//! ```
//!
//! Dropped bits exist only inside items (extents, volatile batches, staged batches): what no item covers is a gap.

mod items;

use std::{collections::VecDeque, ops::Range};

use model::{Offset, Seq};
use roaring::RoaringTreemap;

pub use self::items::EXTENT_LEN;
use self::items::Item;
pub(crate) use self::items::{Extent, FileId, Index, Kept, Point, Staged, StagedKind, Totals, Volatile};

/// Extents for which a log keeps room while it has none.
const FEW_EXTENTS: usize = 8;

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

    /// Staged items from the first that ends after `from`.
    pub fn staged_from(&self, from: Offset) -> impl Iterator<Item = &Staged> {
        self.staged.range(self.staged.partition_point(|s| s.end <= from)..)
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
