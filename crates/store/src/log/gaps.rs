//! Where a log has nothing: offsets that were never stored, went with a crash, or are dropped.

use std::ops::Range;

use model::{Offset, bitmap::next_run};

use super::{
    core::LogCore,
    live::{LiveSet, StagedKind},
};

impl LogCore {
    /// The first run of offsets within `range` at which no record is. For what is durable: staged records count as not
    /// there. Costs what lies between, by extents and runs, not by offsets.
    pub fn first_gap(&self, range: Range<Offset>) -> Option<Range<Offset>> {
        let range = range.start.0..range.end.0.min(self.durable_end().0);
        if range.start < self.start().0.min(range.end) {
            return Some(Offset(range.start)..Offset(self.start().0.min(range.end)));
        }
        first_gap(self.live_set(), range).map(|gap| Offset(gap.start)..Offset(gap.end))
    }

    /// Where the next `count` records from `from` on end, staged ones included; the log's end where there are fewer. Costs
    /// what lies between, by items and runs.
    pub fn end_of_next(&self, from: Offset, count: u64) -> Offset {
        let (live, end) = (self.live_set(), self.end().0);
        let (mut at, mut left) = (from.max(self.start()).0, count);
        while left > 0 && at < end {
            let Some(item) = item_or_staged_from(live, at) else { return Offset(end) };
            at = at.max(item.start);
            let run = next_run(live.dropped(), at).filter(|run| run.start < item.end);
            let until = run.as_ref().map_or(item.end, |run| run.start);
            let taken = left.min(until - at);
            left -= taken;
            at = if left == 0 { at + taken } else { run.map_or(until, |run| run.end) };
        }
        Offset(at.min(end))
    }
}

fn first_gap(live: &LiveSet, range: Range<u64>) -> Option<Range<u64>> {
    let mut at = range.start;
    while at < range.end {
        let Some(item) = item_from(live, at) else { return Some(at..range.end) };
        if item.start > at {
            return Some(at..item.start.min(range.end));
        }
        let end = item.end.min(range.end);
        if let Some(run) = next_run(live.dropped(), at).filter(|run| run.start < end) {
            return Some(run.start..run.end.min(end));
        }
        at = end;
    }
    None
}

/// The first item that ends after `at`, also among those that cannot be read yet.
fn item_or_staged_from(live: &LiveSet, at: u64) -> Option<Range<u64>> {
    let item = item_from(live, at);
    if item.as_ref().is_some_and(|item| item.start <= at) {
        return item;
    }
    let staged = live.staged_from(Offset(at)).find(|staged| staged.kind == StagedKind::Data);
    let staged = staged.map(|staged| staged.base.0..staged.end.0);
    item.into_iter().chain(staged).min_by_key(|item| item.start)
}

/// The first item that ends after `at`.
fn item_from(live: &LiveSet, at: u64) -> Option<Range<u64>> {
    let extent = live.extents().get(live.extent_from(Offset(at))).map(|extent| extent.base.0..extent.end().0);
    let volatile = live.volatile_from(Offset(at)).next().map(|held| held.base.0..held.end().0);
    extent.into_iter().chain(volatile).min_by_key(|item| item.start)
}
