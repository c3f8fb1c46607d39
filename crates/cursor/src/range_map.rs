//! Values over runs of offsets, with the earliest time among them at hand.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

/// A value that may have a time at which something is due, in milliseconds.
pub(crate) trait Timed {
    /// When it is due; `None` = never.
    fn due_ms(&self) -> Option<i64>;
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Run<V> {
    end: u64,
    value: V,
}

/// Disjoint runs of offsets, each with one value. Adjacent runs of equal value are one run. All operations take
/// time logarithmic in the number of runs, for each run touched. One that never had a run is a word long: most cursors of
/// many are idle.
#[derive(Clone, Debug)]
pub(crate) struct RangeMap<V> {
    runs: Option<Box<Runs<V>>>,
}

#[derive(Clone, Debug)]
struct Runs<V> {
    by_start: BTreeMap<u64, Run<V>>,
    /// (due, start) of every run that is due some time.
    by_time: BTreeSet<(i64, u64)>,
    /// Offsets covered.
    count: u64,
}

impl<V> Default for RangeMap<V> {
    fn default() -> Self {
        RangeMap { runs: None }
    }
}

impl<V> Default for Runs<V> {
    fn default() -> Self {
        Runs { by_start: BTreeMap::new(), by_time: BTreeSet::new(), count: 0 }
    }
}

impl<V: Clone + PartialEq + Timed> RangeMap<V> {
    /// Offsets covered.
    pub(crate) fn count(&self) -> u64 {
        self.runs.as_ref().map_or(0, |runs| runs.count)
    }

    pub(crate) fn run_count(&self) -> usize {
        self.runs.as_ref().map_or(0, |runs| runs.by_start.len())
    }

    /// The earliest due time.
    pub(crate) fn first_due_ms(&self) -> Option<i64> {
        self.runs.as_ref()?.by_time.first().map(|(due, _)| *due)
    }

    /// Takes the run with the earliest due time out, if that time has come.
    pub(crate) fn pop_due(&mut self, now_ms: i64) -> Option<(Range<u64>, V)> {
        let runs = self.runs.as_mut()?;
        let (due, start) = *runs.by_time.first()?;
        if due > now_ms {
            return None;
        }
        let run = runs.cut(start)?;
        Some((start..run.end, run.value))
    }

    pub(crate) fn get(&self, offset: u64) -> Option<&V> {
        let (_, run) = self.runs.as_ref()?.by_start.range(..=offset).next_back()?;
        (run.end > offset).then_some(&run.value)
    }

    /// The runs, clipped to `range`, in order.
    pub(crate) fn within(&self, range: Range<u64>) -> impl Iterator<Item = (Range<u64>, &V)> {
        self.runs.iter().flat_map(move |runs| {
            let range = range.clone();
            let first = if range.is_empty() { range.end } else { runs.first_start(&range) };
            let reached = runs.by_start.range(first..range.end);
            reached.map(move |(start, run)| ((*start).max(range.start)..run.end.min(range.end), &run.value))
        })
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Range<u64>, &V)> {
        let all = self.runs.iter().flat_map(|runs| &runs.by_start);
        all.map(|(start, run)| (*start..run.end, &run.value))
    }

    /// Sets `range` to `value`, whatever was there.
    pub(crate) fn insert(&mut self, range: Range<u64>, value: V) {
        if !range.is_empty() {
            self.runs.get_or_insert_default().insert(range, value);
        }
    }

    /// Clears `range`, calling `each` with every piece that was there, in order.
    pub(crate) fn remove(&mut self, range: Range<u64>, each: impl FnMut(Range<u64>, V)) {
        if let Some(runs) = &mut self.runs
            && !range.is_empty()
        {
            runs.remove(range, each);
        }
    }

    /// Estimated heap bytes.
    pub(crate) fn footprint(&self) -> usize {
        let Some(runs) = &self.runs else { return 0 };
        let node = size_of::<u64>() + size_of::<Run<V>>();
        // B-tree nodes are between half and quite full.
        size_of::<Runs<V>>() + (runs.by_start.len() * node + runs.by_time.len() * 16) * 3 / 2
    }
}

impl<V: Clone + PartialEq + Timed> Runs<V> {
    fn insert(&mut self, mut range: Range<u64>, value: V) {
        self.remove(range.clone(), |_, _| ());
        let left = self.by_start.range(..range.start).next_back().map(|(start, run)| (*start, run));
        if let Some((start, run)) = left
            && run.end == range.start
            && run.value == value
        {
            self.cut(start);
            range.start = start;
        }
        if self.by_start.get(&range.end).is_some_and(|run| run.value == value)
            && let Some(run) = self.cut(range.end)
        {
            range.end = run.end;
        }
        self.put(range, value);
    }

    fn remove(&mut self, range: Range<u64>, mut each: impl FnMut(Range<u64>, V)) {
        if self.by_start.is_empty() {
            return;
        }
        let mut from = self.first_start(&range);
        while let Some(start) = self.by_start.range(from..range.end).next().map(|(start, _)| *start) {
            let Some(run) = self.cut(start) else { return };
            if start < range.start {
                self.put(start..range.start, run.value.clone());
            }
            if run.end > range.end {
                self.put(range.end..run.end, run.value.clone());
            }
            from = run.end.min(range.end);
            each(start.max(range.start)..from, run.value);
        }
    }

    /// Start of the first run that reaches into `range`, or the start of `range`.
    fn first_start(&self, range: &Range<u64>) -> u64 {
        match self.by_start.range(..range.start).next_back() {
            Some((start, run)) if run.end > range.start => *start,
            _ => range.start,
        }
    }

    fn put(&mut self, range: Range<u64>, value: V) {
        if let Some(due) = value.due_ms() {
            self.by_time.insert((due, range.start));
        }
        self.count += range.end - range.start;
        self.by_start.insert(range.start, Run { end: range.end, value });
    }

    fn cut(&mut self, start: u64) -> Option<Run<V>> {
        let run = self.by_start.remove(&start)?;
        if let Some(due) = run.value.due_ms() {
            self.by_time.remove(&(due, start));
        }
        self.count -= run.end - start;
        Some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq)]
    struct At(i64);
    impl Timed for At {
        fn due_ms(&self) -> Option<i64> {
            (self.0 > 0).then_some(self.0)
        }
    }

    proptest! {
        #[test]
        fn behaves_like_one_slot_per_offset(
            steps in proptest::collection::vec((0u64..64, 1u64..20, 0i64..4, any::<bool>()), 1..80)
        ) {
            let mut map = RangeMap::default();
            let mut model: Vec<Option<i64>> = vec![None; 100];
            for (start, len, value, put) in steps {
                let range = start..start + len;
                let slots = &mut model[start as usize..(start + len) as usize];
                if put {
                    map.insert(range, At(value));
                    slots.fill(Some(value));
                } else {
                    let mut pieces = Vec::new();
                    map.remove(range, |r, v: At| pieces.extend(r.map(|o| (o, v.0))));
                    let expected: Vec<_> =
                        slots.iter().enumerate().filter_map(|(i, v)| v.map(|v| (start + i as u64, v))).collect();
                    prop_assert_eq!(pieces, expected);
                    slots.fill(None);
                }
                for (offset, value) in model.iter().enumerate() {
                    prop_assert_eq!(map.get(offset as u64).map(|v| v.0), *value);
                }
                prop_assert_eq!(map.count(), model.iter().flatten().count() as u64);
                prop_assert_eq!(map.first_due_ms(), model.iter().flatten().copied().filter(|v| *v > 0).min());
                let flat: Vec<_> = map.within(10..50).flat_map(|(r, v)| r.map(|o| (o, v.0))).collect();
                let expected: Vec<_> = (10..50).filter_map(|o| model[o as usize].map(|v| (o as u64, v))).collect();
                prop_assert_eq!(flat, expected);
                prop_assert_eq!(map.within(30..30).count(), 0);
                let runs: Vec<_> = map.iter().collect();
                prop_assert!(runs.windows(2).all(|w| w[0].0.end < w[1].0.start || w[0].1 != w[1].1));
            }
        }
    }
}
