//! What goes into each new segment of a pass. A pass may have a million short extents to copy, so that it keeps in mind
//! only from where to where of which logs, and looks up a few extents at a time when their turn comes.

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Range,
};

use model::{LogId, Offset};

use super::plan::Choice;
use crate::{
    Attached,
    log::live::{Extent, FileId},
    store::Inner,
};

/// What of one log goes into a new segment: the extents between these offsets that are chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub log: LogId,
    pub offsets: Range<Offset>,
}

/// An extent that is to be copied.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub log: LogId,
    pub file: FileId,
    pub at: u64,
    pub len: u32,
    pub offsets: Range<Offset>,
    /// Nothing that stays lies between it and the item before, which is of the same log.
    pub follows: bool,
}

/// Divides what is copied among segments: shared ones, and own ones for logs that have much.
pub(super) struct Division {
    segments: VecDeque<Vec<Part>>,
    shared: Vec<Part>,
    shared_len: u64,
    segment_len: u64,
    own_len: u64,
}

impl Division {
    /// Segments of about `segment_len` bytes; own ones for logs with more than `own_len`.
    pub fn new(segment_len: u64, own_len: u64) -> Self {
        Division { segments: VecDeque::new(), shared: Vec::new(), shared_len: 0, segment_len, own_len }
    }

    /// What `log`, which comes after those before it, has to copy: offsets and bytes of each extent.
    pub fn log(&mut self, log: LogId, extents: &[(Range<Offset>, u32)]) {
        let (Some((first, _)), Some((last, _))) = (extents.first(), extents.last()) else { return };
        let len: u64 = extents.iter().map(|(_, len)| u64::from(*len)).sum();
        if len > self.own_len {
            return self.own(log, extents);
        }
        if self.shared_len + len > self.segment_len && !self.shared.is_empty() {
            self.close_shared();
        }
        self.shared.push(Part { log, offsets: first.start..last.end });
        self.shared_len += len;
    }

    fn own(&mut self, log: LogId, extents: &[(Range<Offset>, u32)]) {
        let mut growing: Option<(Range<Offset>, u64)> = None;
        for (offsets, len) in extents {
            let len = u64::from(*len);
            growing = Some(match growing.take() {
                Some((range, before)) if before + len <= self.segment_len => {
                    (range.start..offsets.end, before + len)
                }
                full => {
                    self.segments.extend(full.map(|(offsets, _)| vec![Part { log, offsets }]));
                    (offsets.clone(), len)
                }
            });
        }
        self.segments.extend(growing.map(|(offsets, _)| vec![Part { log, offsets }]));
    }

    fn close_shared(&mut self) {
        self.shared_len = 0;
        self.segments.push_back(std::mem::take(&mut self.shared));
    }

    /// Every log was told. What goes into each segment, sorted by log and offset.
    pub fn finish(mut self) -> VecDeque<Vec<Part>> {
        if !self.shared.is_empty() {
            self.close_shared();
        }
        self.segments
    }
}

/// Items that are looked up at a time, at most.
const ITEMS_MAX: usize = 4096;

/// Goes through the extents of one new segment.
pub(super) struct Items {
    parts: VecDeque<Part>,
    /// The end of the last item, if it is of the first part and nothing that stays was seen behind it.
    before: Option<Offset>,
    /// Of what is covered, where it lies that is not copied: it was set aside before its turn came, or could not be read.
    aside: BTreeSet<(FileId, u64)>,
}

impl Items {
    pub fn new(parts: Vec<Part>) -> Self {
        Items { parts: parts.into(), before: None, aside: BTreeSet::new() }
    }

    /// The next items, as their logs have them now; none when all were there.
    pub fn next<A: Attached>(&mut self, store: &Inner<A>, choice: &Choice) -> Vec<Item> {
        let mut items = Vec::new();
        while items.len() < ITEMS_MAX && !self.parts.is_empty() {
            if self.take_some(store, choice, &mut items) {
                self.parts.pop_front();
                self.before = None;
            }
        }
        items
    }

    /// Takes items off the front of the first part. Whether nothing is left of it.
    fn take_some<A: Attached>(&mut self, store: &Inner<A>, choice: &Choice, items: &mut Vec<Item>) -> bool {
        let Some(part) = self.parts.front_mut() else { return true };
        let Some(log) = store.logs.read().get(&part.log).cloned() else { return true };
        let state = log.lock();
        let live = &state.core.live;
        let extents = live.extents().range(live.extent_from(part.offsets.start)..);
        for extent in extents.take_while(|extent| extent.base < part.offsets.end) {
            if items.len() >= ITEMS_MAX {
                return false;
            }
            part.offsets.start = extent.end();
            if !choice.takes(extent) {
                self.before = None;
                if choice.covers(extent) {
                    self.aside.insert((extent.file, extent.at));
                }
                continue;
            }
            // Volatile records may lie between extents, too.
            let apart = |end| live.volatile_from(end).next().is_some_and(|v| v.base < extent.base);
            let follows = self.before.is_some_and(|end| !apart(end));
            let (file, at, len) = (extent.file, extent.at, extent.len);
            items.push(Item { log: part.log, file, at, len, offsets: extent.base..extent.end(), follows });
            self.before = Some(extent.end());
        }
        true
    }

    /// An item could not be read.
    pub fn set_aside(&mut self, item: &Item) {
        self.aside.insert((item.file, item.at));
    }

    /// Whether `extent`, which lies between items, was one of them and could be read, whatever became of it since.
    pub fn has_copied(&self, choice: &Choice, extent: &Extent) -> bool {
        choice.covers(extent) && !self.aside.contains(&(extent.file, extent.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: u64, to: u64) -> Range<Offset> {
        Offset(from)..Offset(to)
    }

    #[test]
    fn logs_share_segments_unless_they_have_much() {
        let mut division = Division::new(100, 50);
        division.log(LogId(1), &[(range(0, 2), 20), (range(5, 9), 30)]);
        division.log(LogId(2), &[(range(0, 1), 60), (range(1, 2), 40), (range(2, 3), 1)]);
        division.log(LogId(3), &[]);
        division.log(LogId(4), &[(range(7, 8), 50)]);
        division.log(LogId(5), &[(range(1, 2), 1)]);
        let part = |log, offsets| Part { log: LogId(log), offsets };
        let expected = [
            vec![part(2, range(0, 2))],
            vec![part(2, range(2, 3))],
            vec![part(1, range(0, 9)), part(4, range(7, 8))],
            vec![part(5, range(1, 2))],
        ];
        assert_eq!(division.finish(), expected);
    }
}
