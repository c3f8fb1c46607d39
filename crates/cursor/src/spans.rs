//! Sets of offsets as runs, and masks over a batch.

use std::ops::Range;

use model::{Error, Offset, Result};

use crate::codec::{Reader, put_u64};

/// A run of offsets, `start` included, `end` not. Never empty inside [`Spans`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// First offset.
    pub start: Offset,
    /// The offset after the last.
    pub end: Offset,
}

impl Span {
    /// The run from `start` up to, not including, `end`. Empty when `end` is not later.
    pub const fn new(start: Offset, end: Offset) -> Self {
        Span { start, end }
    }

    /// The run of one offset.
    pub fn one(offset: Offset) -> Self {
        Span { start: offset, end: offset.plus(1) }
    }

    /// How many offsets.
    pub fn count(&self) -> u64 {
        self.end.since(self.start)
    }

    /// Whether it holds no offset.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Whether `offset` lies within.
    pub fn contains(&self, offset: Offset) -> bool {
        self.start <= offset && offset < self.end
    }

    pub(crate) fn of(range: Range<u64>) -> Self {
        Span { start: Offset(range.start), end: Offset(range.end) }
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.start.0..self.end.0
    }
}

/// A set of offsets as runs: sorted, disjoint, never adjacent, none empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Spans {
    runs: Vec<Span>,
}

impl Spans {
    /// The empty set.
    pub const fn new() -> Self {
        Spans { runs: Vec::new() }
    }

    /// Adds a run. Constant time when it lies at or after the end, which is how runs are usually gathered.
    pub fn add(&mut self, span: Span) {
        if span.is_empty() {
            return;
        }
        match self.runs.last_mut() {
            Some(last) if span.start >= last.start => {
                if span.start > last.end {
                    self.runs.push(span);
                } else {
                    last.end = last.end.max(span.end);
                }
            }
            None => self.runs.push(span),
            Some(_) => self.insert(span),
        }
    }

    fn insert(&mut self, span: Span) {
        let from = self.runs.partition_point(|run| run.end < span.start);
        let to = self.runs.partition_point(|run| run.start <= span.end);
        let mut merged = span;
        for run in &self.runs[from..to] {
            merged = Span::new(merged.start.min(run.start), merged.end.max(run.end));
        }
        self.runs.splice(from..to, [merged]);
    }

    /// Adds one offset.
    pub fn add_one(&mut self, offset: Offset) {
        self.add(Span::one(offset));
    }

    /// The runs in order.
    pub fn iter(&self) -> impl Iterator<Item = Span> + '_ {
        self.runs.iter().copied()
    }

    /// Every offset in order.
    pub fn offsets(&self) -> impl Iterator<Item = Offset> + '_ {
        self.runs.iter().flat_map(|run| run.range().map(Offset))
    }

    /// How many offsets.
    pub fn count(&self) -> u64 {
        self.runs.iter().map(Span::count).sum()
    }

    /// What is left of it without its first `count` offsets.
    #[must_use]
    pub fn after(mut self, count: u64) -> Self {
        let mut left = count;
        self.runs.retain_mut(|run| {
            let gone = left.min(run.count());
            left -= gone;
            run.start = run.start.plus(gone);
            !run.is_empty()
        });
        self
    }

    /// Whether no offset is in the set.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Whether `offset` is in the set.
    pub fn contains(&self, offset: Offset) -> bool {
        let at = self.runs.partition_point(|run| run.end <= offset);
        self.runs.get(at).is_some_and(|run| run.contains(offset))
    }

    /// The offset after the last one; [`Offset::ZERO`] for the empty set.
    pub fn end(&self) -> Offset {
        self.runs.last().map_or(Offset::ZERO, |run| run.end)
    }

    /// How many runs.
    pub fn run_count(&self) -> usize {
        self.runs.len()
    }

    /// The part of the set within the batch of `count` offsets from `base` on.
    pub fn mask(&self, base: Offset, count: u32) -> Mask {
        let mut mask = Mask::empty(base, count);
        let end = base.plus(u64::from(count));
        let from = self.runs.partition_point(|run| run.end <= base);
        for run in self.runs[from..].iter().take_while(|run| run.start < end) {
            for offset in run.start.max(base).0..run.end.min(end).0 {
                mask.set((offset - base.0) as u32);
            }
        }
        mask
    }

    /// Runs as (gap since the previous end, length), both varints.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.runs.len() as u64);
        let mut previous = 0;
        for run in &self.runs {
            put_u64(out, run.start.0 - previous);
            put_u64(out, run.count());
            previous = run.end.0;
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let count = reader.count(2)?;
        let mut spans = Spans { runs: Vec::with_capacity(count) };
        let mut previous = 0u64;
        for _ in 0..count {
            let start = previous.checked_add(reader.u64()?).ok_or_else(beyond)?;
            let end = start.checked_add(reader.u64()?).ok_or_else(beyond)?;
            if end > model::limits::OFFSET_MAX {
                return Err(beyond());
            }
            spans.add(Span::of(start..end));
            previous = end;
        }
        Ok(spans)
    }
}

fn beyond() -> Error {
    Error::corrupt("an offset is out of range")
}

impl FromIterator<Span> for Spans {
    fn from_iter<I: IntoIterator<Item = Span>>(runs: I) -> Self {
        let mut spans = Spans::new();
        spans.extend(runs);
        spans
    }
}

impl FromIterator<Offset> for Spans {
    fn from_iter<I: IntoIterator<Item = Offset>>(offsets: I) -> Self {
        offsets.into_iter().map(Span::one).collect()
    }
}

impl Extend<Span> for Spans {
    fn extend<I: IntoIterator<Item = Span>>(&mut self, runs: I) {
        for run in runs {
            self.add(run);
        }
    }
}

impl From<Span> for Spans {
    fn from(span: Span) -> Self {
        Spans::from_iter([span])
    }
}

impl From<Offset> for Spans {
    fn from(offset: Offset) -> Self {
        Span::one(offset).into()
    }
}

/// Which records of a batch are meant: `base` and one bit per offset from there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    base: Offset,
    count: u32,
    words: Box<[u64]>,
}

impl Mask {
    /// No record of the batch of `count` offsets from `base`. `count` is at most
    /// [`model::limits::BATCH_RECORDS_MAX`] in a batch that the log holds.
    pub fn empty(base: Offset, count: u32) -> Self {
        Mask { base, count, words: vec![0; (count as usize).div_ceil(64)].into() }
    }

    fn set(&mut self, index: u32) {
        if let Some(word) = self.words.get_mut(index as usize / 64) {
            *word |= 1 << (index % 64);
        }
    }

    /// Offset of the batch's first record.
    pub fn base(&self) -> Offset {
        self.base
    }

    /// Whether the record at `index` from the base is meant.
    pub fn contains(&self, index: u32) -> bool {
        self.words.get(index as usize / 64).is_some_and(|word| word & (1 << (index % 64)) != 0)
    }

    /// How many records are meant.
    pub fn record_count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// Indices of the records that are meant, in order.
    pub fn indices(&self) -> impl Iterator<Item = u32> + '_ {
        (0..self.count).filter(|index| self.contains(*index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(range: Range<u64>) -> Span {
        Span::of(range)
    }

    #[test]
    fn runs_merge_in_whatever_order_they_come() {
        let spans: Spans =
            [span(10..12), span(1..3), span(3..4), span(20..21), span(11..20)].into_iter().collect();
        assert_eq!(spans.iter().collect::<Vec<_>>(), [span(1..4), span(10..21)]);
        assert_eq!(spans.count(), 14);
        assert!(spans.contains(Offset(3)) && !spans.contains(Offset(4)) && spans.contains(Offset(20)));
    }

    #[test]
    fn an_earlier_run_that_swallows_later_ones_leaves_one() {
        let spans: Spans = [span(5..6), span(8..9), span(0..30)].into_iter().collect();
        assert_eq!(spans.iter().collect::<Vec<_>>(), [span(0..30)]);
    }

    #[test]
    fn a_mask_holds_what_lies_within_the_batch() {
        let spans: Spans = [span(0..3), span(5..7), span(100..300)].into_iter().collect();
        let mask = spans.mask(Offset(2), 4);
        assert_eq!(mask.indices().collect::<Vec<_>>(), [0, 3]);
        assert_eq!(spans.mask(Offset(100), 200).record_count(), 200);
        assert_eq!(spans.mask(Offset(90), 100).record_count(), 90);
    }

    #[test]
    fn encoded_runs_read_back() {
        let spans: Spans = [span(0..3), span(5..7), span(1 << 40..(1 << 40) + 3)].into_iter().collect();
        let mut out = Vec::new();
        spans.encode(&mut out);
        assert_eq!(Spans::decode(&mut Reader::new(&out)), Ok(spans));
        for cut in 0..out.len() {
            assert!(Spans::decode(&mut Reader::new(&out[..cut])).is_err());
        }
    }
}
