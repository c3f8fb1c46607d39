//! What the passing of time does.

use std::ops::Range;

use super::{AckCursor, History};
use crate::{ack::Lease, spans::Span};

/// What ended because its time had come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expired {
    /// Leases that ran out; their deliveries count.
    pub leases: Vec<(Span, Lease)>,
    /// Records whose delay is over.
    pub due_count: u64,
}

impl AckCursor {
    /// When [`AckCursor::expire`] has something to do next.
    pub fn next_due_ms(&self) -> Option<i64> {
        match (self.leases.first_due_ms(), self.delayed.first_due_ms()) {
            (Some(lease), Some(delay)) => Some(lease.min(delay)),
            (lease, delay) => lease.or(delay),
        }
    }

    /// Ends the leases and delays whose time has come. Nothing is logged: deadlines are part of the state, and a
    /// replica comes to the same.
    pub fn expire(&mut self, now_ms: i64) -> Expired {
        let mut expired = Expired::default();
        // Of the first look at the time after a restart: what is due by now may have been delivered before it.
        let unsure_end = std::mem::take(&mut self.unsure_end);
        while let Some((range, lease)) = self.leases.pop_due(now_ms) {
            expired.leases.push((Span::of(range.clone()), lease));
            self.give_back(range, lease, None, lease.attempt);
        }
        while let Some((range, _)) = self.delayed.pop_due(now_ms) {
            expired.due_count += range.end - range.start;
            self.count_unsure(range.start..range.end.min(unsure_end));
            self.index.ready(range.clone());
            self.returned.insert_range(range);
        }
        expired
    }

    /// Takes records for delivered that are not known to have been, although a later one was.
    fn count_unsure(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let is_uncounted = |(_, history): &(Range<u64>, &History)| **history == History::NEVER_DELIVERED;
        let uncounted: Vec<_> = self.history.within(range).filter(is_uncounted).map(|(run, _)| run).collect();
        for run in uncounted {
            self.history.remove(run, |_, _| ());
        }
    }
}
