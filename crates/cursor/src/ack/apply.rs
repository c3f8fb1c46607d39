//! Replay: the same changes, the same state.

use std::ops::Range;

use model::{Error, Offset, Result, bitmap};

use super::{AckCursor, History, Lease, Verdict};
use crate::{
    entry::{AckChange, Count, CursorEntry, HolderId},
    spans::Spans,
};

impl AckCursor {
    /// Takes a replayed entry in. [`model::ErrorKind::Corrupt`] for one of the other kind of cursor.
    pub fn apply(&mut self, entry: &CursorEntry) -> Result<()> {
        match entry {
            CursorEntry::Ack(changes) => changes.iter().for_each(|change| self.apply_change(change)),
            CursorEntry::Position(_) => {
                return Err(Error::corrupt("a position change was logged for an ack cursor"));
            }
        }
        Ok(())
    }

    fn apply_change(&mut self, change: &AckChange) {
        match change {
            AckChange::Settle(spans) => {
                self.each_unsettled(spans, |cursor, range| cursor.settle_range(range));
            }
            AckChange::Lease { spans, holder, deadline_ms, at_ms } => {
                self.each_unsettled(spans, |cursor, range| {
                    cursor.apply_lease(range, *holder, *deadline_ms, *at_ms);
                });
            }
            AckChange::Release { spans, due_ms, count } => {
                self.apply_verdict(spans, Verdict::Release { due_ms: *due_ms, count: *count }, 0);
            }
            AckChange::Extend { spans, deadline_ms } => {
                self.apply_verdict(spans, Verdict::Extend { deadline_ms: *deadline_ms }, 0);
            }
            AckChange::Transfer { spans, holder, deadline_ms, at_ms, count } => {
                let verdict = Verdict::Transfer { holder: *holder, deadline_ms: *deadline_ms, count: *count };
                self.apply_verdict(spans, verdict, *at_ms);
            }
            AckChange::Delivered(end) => self.apply_delivered(*end),
            AckChange::Seek(to) => self.reset(*to),
        }
    }

    /// Calls `each` with every run of `spans` that is not settled. The log may not have told its end yet: what an
    /// entry names is there.
    fn each_unsettled(&mut self, spans: &Spans, mut each: impl FnMut(&mut Self, Range<u64>)) {
        self.note_appended(spans.end());
        for span in spans.iter() {
            let range = self.known(span.range());
            let mut at = range.start;
            while let Some(gap) = self.next_unsettled(at..range.end) {
                at = gap.end;
                each(self, gap);
            }
        }
    }

    fn apply_verdict(&mut self, spans: &Spans, verdict: Verdict, at_ms: i64) {
        self.each_unsettled(spans, |cursor, range| {
            let mut at = range.start;
            while let Some((piece, lease)) = cursor.first_lease(at..range.end) {
                at = piece.end;
                cursor.settle_leased(piece, lease, verdict, at_ms);
            }
        });
    }

    fn first_lease(&self, range: Range<u64>) -> Option<(Range<u64>, Lease)> {
        self.leases.within(range).next().map(|(piece, lease)| (piece, *lease))
    }

    /// A recorded grant. A lease that is still there has run out before the grant, without a word in the log.
    fn apply_lease(&mut self, range: Range<u64>, holder: HolderId, deadline_ms: Option<i64>, at_ms: i64) {
        let mut at = range.start;
        while let Some((piece, lease)) = self.first_lease(at..range.end) {
            at = piece.end;
            let verdict = Verdict::Release { due_ms: None, count: Count::Add };
            self.settle_leased(piece, lease, verdict, at_ms);
        }
        let mut at = range.start;
        while at < range.end {
            let (piece, history) = self.alike_from(at..range.end);
            at = piece.end;
            let is_first = history == History::NEVER_DELIVERED;
            let lease = Lease {
                holder,
                deadline_ms,
                attempt: history.attempts.saturating_add(1),
                first_delivery_ms: if is_first { Some(at_ms) } else { history.first_delivery_ms },
                delivered_at_ms: at_ms,
                is_recorded: true,
            };
            self.lease_range(piece, lease);
        }
    }

    /// The longest run from the start of `range` whose records have one history, and that history.
    pub(super) fn alike_from(&self, range: Range<u64>) -> (Range<u64>, History) {
        let start = range.start;
        if self.is_fresh(start) {
            let seen = bitmap::next_run(&self.seen, start).map_or(range.end, |run| run.start);
            return (start..seen.min(range.end), History::NEVER_DELIVERED);
        }
        let delivered_end = if start < self.fresh {
            self.fresh
        } else {
            bitmap::next_run(&self.seen, start).map_or(range.end, |run| run.end)
        };
        let end = delivered_end.min(range.end);
        match self.history.within(start..end).next() {
            Some((piece, history)) if piece.start == start => (piece, *history),
            Some((piece, _)) => (start..piece.start, History::DELIVERED),
            None => (start..end, History::DELIVERED),
        }
    }

    /// Everything below `end` was delivered under leases that the restart ended, also what had come back as if it never
    /// was: which of those are meant is not told.
    fn apply_delivered(&mut self, end: Offset) {
        self.note_appended(end);
        self.volatile_end = self.volatile_end.max(end.0);
        self.volatile_logged = self.volatile_logged.max(end.0);
        self.unsure_end = self.unsure_end.max(end.0);
        // All of them first: noting one as delivered forgets that those right after it were seen.
        let mut unseen = Vec::new();
        let mut at = self.fresh;
        while let Some(gap) = self.next_unsettled(at..end.0) {
            at = gap.end;
            let mut from = gap.start;
            while let Some(run) = bitmap::next_gap(&self.seen, from..gap.end) {
                from = run.end;
                unseen.push(run);
            }
        }
        for run in unseen {
            self.mark_delivered(run.clone());
            self.put_back(run, History::DELIVERED, None);
        }
        let is_uncounted = |(_, history): &(Range<u64>, &History)| **history == History::NEVER_DELIVERED;
        let uncounted: Vec<_> =
            self.history.within(0..end.0).filter(is_uncounted).map(|(range, _)| range).collect();
        for range in uncounted {
            // Whether what waits for its time was is a matter of the time: see `expire`.
            let mut at = range.start;
            while let Some(run) = bitmap::next_run(&self.returned, at).filter(|run| run.start < range.end) {
                at = run.end;
                let run = run.start.max(range.start)..run.end.min(range.end);
                self.put_back(run, History::DELIVERED, None);
            }
        }
    }
}
