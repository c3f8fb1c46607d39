//! Settling: what a holder says became of its records.

use std::ops::Range;

use model::Offset;

use super::{AckCursor, Lease};
use crate::{
    entry::{AckChange, Count, CursorEntry, HolderId},
    spans::{Span, Spans},
};

/// In whose name records are settled. A record that the claim does not fit is stale, and nothing happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// Anybody: settling also works on records that nobody holds (a late answer, a move to a dead-letter stream).
    Anyone,
    /// Nobody may hold it: a purge, a length limit or a time to live takes what waits, and leaves what is out.
    Nobody,
    /// Whoever holds the lease now has to be this one.
    Holder(HolderId),
    /// The lease now has to be this delivery.
    Attempt(u32),
}

impl Claim {
    fn fits(self, lease: &Lease) -> bool {
        match self {
            Claim::Anyone => true,
            Claim::Nobody => false,
            Claim::Holder(holder) => lease.holder == holder,
            Claim::Attempt(attempt) => lease.attempt == attempt,
        }
    }
}

/// What is to become of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done with: accepted, or rejected and moved by the caller in the same unit.
    Settle,
    /// To be offered again.
    Release {
        /// Not before; `None` = at once.
        due_ms: Option<i64>,
        /// How the delivery counts.
        count: Count,
    },
    /// Held for longer, or shorter.
    Extend {
        /// The new deadline; `None` = until settled.
        deadline_ms: Option<i64>,
    },
    /// Handed to another holder.
    Transfer {
        /// To whom.
        holder: HolderId,
        /// The new deadline; `None` = until settled.
        deadline_ms: Option<i64>,
        /// Keep: the attempt stays; add: one more; set: this one.
        count: Count,
    },
}

/// What a verdict did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Records that it took effect on. For [`Verdict::Settle`] on a queue these become drops.
    pub done: Spans,
    /// Records that are there, but not as the claim says.
    pub stale: Spans,
}

/// What one read changed in a cursor, gathered into one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    changes: Vec<AckChange>,
}

impl Changes {
    /// Nothing yet.
    pub const fn new() -> Self {
        Changes { changes: Vec::new() }
    }

    /// Whether nothing has to be logged.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// The entry to log, if anything has to be.
    pub fn into_entry(self) -> Option<CursorEntry> {
        (!self.changes.is_empty()).then_some(CursorEntry::Ack(self.changes))
    }

    /// Adds a change, to an earlier one where the order does not matter.
    pub(super) fn push(&mut self, change: AckChange) {
        if let AckChange::Settle(spans) = &change {
            // Nothing but a seek undoes a settlement, so it may as well have happened earlier.
            for earlier in self.changes.iter_mut().rev() {
                match earlier {
                    AckChange::Settle(settled) => return settled.extend(spans.iter()),
                    AckChange::Seek(_) => break,
                    _ => {}
                }
            }
        }
        match (self.changes.last_mut(), &change) {
            (
                Some(AckChange::Release { spans, due_ms, count }),
                AckChange::Release { spans: more, due_ms: due, count: as_count },
            ) if due_ms == due && count == as_count => spans.extend(more.iter()),
            (
                Some(AckChange::Extend { spans, deadline_ms }),
                AckChange::Extend { spans: more, deadline_ms: deadline },
            ) if deadline_ms == deadline => spans.extend(more.iter()),
            _ => self.changes.push(change),
        }
    }

    /// Adds how far deliveries under volatile leases went, if that was not logged yet. Called once in a while: after
    /// a restart, records below come back as delivered before.
    pub fn note_delivered(&mut self, cursor: &mut AckCursor) {
        if cursor.volatile_end > cursor.volatile_logged || cursor.volatile_again {
            cursor.volatile_logged = cursor.volatile_end;
            cursor.volatile_again = false;
            self.push(AckChange::Delivered(Offset(cursor.volatile_end)));
        }
    }
}

impl AckCursor {
    /// Does as `verdict` says to those of `spans` that fit the claim. Records that are settled already, or were
    /// never there, are passed over in silence. What is to be logged is added to `changes`.
    pub fn settle(
        &mut self,
        spans: &Spans,
        claim: Claim,
        verdict: Verdict,
        now_ms: i64,
        changes: &mut Changes,
    ) -> Settled {
        let mut outcome = Settled::default();
        let mut logged = Spans::new();
        for span in spans.iter() {
            let range = self.known(span.range());
            let mut at = range.start;
            while let Some(gap) = self.next_unsettled(at..range.end) {
                at = gap.end;
                self.visited += 1;
                self.settle_run(gap, claim, verdict, now_ms, &mut outcome, &mut logged);
            }
        }
        if !logged.is_empty() {
            changes.push(match verdict {
                Verdict::Settle => AckChange::Settle(logged),
                Verdict::Release { due_ms, count } => AckChange::Release { spans: logged, due_ms, count },
                Verdict::Extend { deadline_ms } => AckChange::Extend { spans: logged, deadline_ms },
                Verdict::Transfer { holder, deadline_ms, count } => {
                    AckChange::Transfer { spans: logged, holder, deadline_ms, at_ms: now_ms, count }
                }
            });
        }
        outcome
    }

    /// As [`AckCursor::settle`], for a run without settled records.
    fn settle_run(
        &mut self,
        range: Range<u64>,
        claim: Claim,
        verdict: Verdict,
        now_ms: i64,
        outcome: &mut Settled,
        logged: &mut Spans,
    ) {
        if (claim, verdict) == (Claim::Anyone, Verdict::Settle) {
            logged.add(Span::of(range.clone()));
            outcome.done.add(Span::of(range.clone()));
            return self.settle_range(range);
        }
        let mut at = range.start;
        while at < range.end {
            let found = self.leases.within(at..range.end).next().map(|(piece, lease)| (piece, *lease));
            let (piece, lease) =
                found.map_or((range.end..range.end, None), |(piece, lease)| (piece, Some(lease)));
            self.visited += 1;
            let unleased = at..piece.start;
            if (claim, verdict) != (Claim::Nobody, Verdict::Settle) {
                outcome.stale.add(Span::of(unleased));
            } else if !unleased.is_empty() {
                logged.add(Span::of(unleased.clone()));
                outcome.done.add(Span::of(unleased.clone()));
                self.settle_range(unleased);
            }
            at = piece.end;
            match lease {
                Some(lease) if claim.fits(&lease) => {
                    outcome.done.add(Span::of(piece.clone()));
                    if lease.is_recorded || verdict == Verdict::Settle {
                        logged.add(Span::of(piece.clone()));
                    }
                    self.settle_leased(piece, lease, verdict, now_ms);
                }
                _ => outcome.stale.add(Span::of(piece)),
            }
        }
    }

    /// Does as `verdict` says to records under one lease.
    pub(super) fn settle_leased(&mut self, range: Range<u64>, lease: Lease, verdict: Verdict, now_ms: i64) {
        match verdict {
            Verdict::Settle => self.settle_range(range),
            Verdict::Release { due_ms, count } => {
                let attempts = match count {
                    Count::Keep => lease.attempt.saturating_sub(1),
                    Count::Add => lease.attempt,
                    Count::Set(attempts) => attempts,
                };
                // A first delivery that did not happen leaves no time behind; one that does not count does.
                let first_delivery_ms =
                    lease.first_delivery_ms.filter(|_| attempts > 0 || count != Count::Keep);
                self.give_back(range, Lease { first_delivery_ms, ..lease }, due_ms, attempts);
            }
            Verdict::Extend { deadline_ms } => self.leases.insert(range, Lease { deadline_ms, ..lease }),
            Verdict::Transfer { holder, deadline_ms, count } => {
                let attempt = match count {
                    Count::Keep => lease.attempt,
                    Count::Add => lease.attempt.saturating_add(1),
                    Count::Set(attempt) => attempt,
                };
                self.index.leased(range.clone(), holder);
                let lease = Lease { holder, deadline_ms, attempt, delivered_at_ms: now_ms, ..lease };
                self.leases.insert(range, lease);
            }
        }
    }

    /// Sets the cursor to `offset`: all below is settled, all from there on is offered as if never delivered, and
    /// all leases end.
    pub fn seek(&mut self, to: Offset, changes: &mut Changes) {
        self.reset(to);
        changes.push(AckChange::Seek(to));
    }

    pub(super) fn reset(&mut self, to: Offset) {
        let (end, held_from) = (self.end.max(to.0), self.held_from);
        *self = AckCursor { end, held_from, ..AckCursor::new(self.config, to) };
    }
}
