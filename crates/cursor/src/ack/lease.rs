//! Granting: which records go to whom next.

use std::{collections::BTreeMap, ops::Range};

use model::{Offset, bitmap};

use super::{AckCursor, Changes, Exhaust, History, Lease};
use crate::{
    credit::{Allowance, Oversize},
    entry::{AckChange, Count, HolderId},
    spans::{Mask, Span, Spans},
};

/// What becomes of a lease at a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseKind {
    /// Grant, holder, deadline and attempt are logged, and survive.
    Recorded,
    /// Nothing is logged but how far deliveries went ([`Changes::note_delivered`]); a restart offers the records
    /// again, as delivered before.
    Volatile,
    /// There is no lease: what is granted is settled.
    Taken,
}

/// A request for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// For whom.
    pub holder: HolderId,
    /// How much.
    pub allowance: Allowance,
    /// How the lease is kept.
    pub kind: LeaseKind,
    /// Until when; `None` = until settled.
    pub deadline_ms: Option<i64>,
    /// It goes on with the last grant to this holder, which ended only because records had to be read or told first.
    pub goes_on: bool,
    /// Where keys share fairly: stop with [`Stop::Index`] before the first record is granted, if it is of a key that has
    /// its share, and records further on are not told of yet.
    pub looks_ahead: bool,
}

/// What the caller knows of a record that could be granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It can be delivered at once.
    Here {
        /// Bytes that it counts for.
        len: u32,
    },
    /// It is not there, or not for this cursor: skip it for good.
    Gap,
    /// It has to be read first; the grant ends before it.
    Unread,
    /// It says itself that it is not to be delivered before this time, milliseconds since the Unix epoch, which is yet to
    /// come: it waits, whatever the cursor was told of it before.
    NotBefore(i64),
}

/// Why a grant ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The records allowed are granted.
    Allowance,
    /// The next record is longer than the bytes left.
    Bytes,
    /// The cursor has as many leased as it may.
    Full,
    /// Nothing else is ready.
    Drained,
    /// This record has to be read first.
    Unread(Offset),
    /// The cursor has to be told keys or priorities first: [`AckCursor::wants`].
    Index,
}

/// Granted records that lie in a row and are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GrantRun {
    /// Which records.
    pub span: Span,
    /// Which delivery this is, 1 for the first.
    pub attempt: u32,
    /// Whether they were delivered before, also when that did not count.
    pub is_redelivered: bool,
    /// Whether this is the first delivery that did happen: those before were given back as if they had not
    /// ([`Count::Keep`]), or were none but the end of a time for which the record was held back.
    pub is_first: bool,
    /// When they were delivered first, as far as known.
    pub first_delivery_ms: Option<i64>,
}

/// What was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// In the order of delivery, which is not always that of offsets.
    pub runs: Vec<GrantRun>,
    /// Records in all runs.
    pub records: u64,
    /// Their lengths together, as the caller told them.
    pub bytes: u64,
    /// Why there are no more.
    pub stop: Stop,
}

impl Grant {
    fn new() -> Self {
        Grant { runs: Vec::new(), records: 0, bytes: 0, stop: Stop::Drained }
    }

    /// Whether nothing was granted.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The granted records as a set.
    pub fn spans(&self) -> Spans {
        self.runs.iter().map(|run| run.span).collect()
    }

    /// Which records of the batch of `count` offsets from `base` on were granted.
    pub fn mask(&self, base: Offset, count: u32) -> Mask {
        self.spans().mask(base, count)
    }

    fn add(&mut self, run: GrantRun) {
        if let Some(last) = self.runs.last_mut()
            && last.span.end == run.span.start
            && (GrantRun { span: run.span, ..*last }) == run
        {
            last.span.end = run.span.end;
        } else {
            self.runs.push(run);
        }
    }
}

/// What came of trying one more record.
enum Tried {
    Granted,
    Skipped,
    /// It waits until this time.
    Early(i64),
    Stopped,
}

/// A grant in the making.
struct Granting<'a> {
    ask: &'a Ask,
    now_ms: i64,
    records_max: u64,
    look: &'a mut dyn FnMut(Offset) -> Look,
    grant: Grant,
    /// Records that were looked at.
    visited: u64,
}

impl Granting<'_> {
    fn has_room(&mut self) -> bool {
        self.grant.records < self.records_max
    }

    /// Whether the record fits, counting it if so.
    fn weigh(&mut self, offset: u64) -> Tried {
        self.visited += 1;
        match (self.look)(Offset(offset)) {
            Look::Gap => Tried::Skipped,
            Look::NotBefore(due_ms) => Tried::Early(due_ms),
            Look::Unread => {
                self.grant.stop = Stop::Unread(Offset(offset));
                Tried::Stopped
            }
            Look::Here { len } => {
                let bytes = self.grant.bytes.saturating_add(u64::from(len));
                let allowance = &self.ask.allowance;
                let is_first =
                    self.grant.records == 0 && allowance.oversize == Oversize::First && allowance.bytes > 0;
                if bytes > allowance.bytes && !is_first {
                    self.grant.stop = Stop::Bytes;
                    return Tried::Stopped;
                }
                self.grant.bytes = bytes;
                self.grant.records += 1;
                Tried::Granted
            }
        }
    }
}

/// Logs a recorded grant. Replay counts the deliveries that it knows of: it does not know of those under volatile
/// leases, and takes everything below `delivered_end` for delivered. Where it would come to another number than was
/// told, the number follows.
fn log_lease(grant: &Grant, ask: &Ask, at_ms: i64, delivered_end: u64, changes: &mut Changes) {
    let (holder, deadline_ms) = (ask.holder, ask.deadline_ms);
    changes.push(AckChange::Lease { spans: grant.spans(), holder, deadline_ms, at_ms });
    let mut by_attempt: BTreeMap<u32, Spans> = BTreeMap::new();
    let may_differ =
        |run: &&GrantRun| run.is_redelivered || run.attempt > 1 || run.span.start.0 < delivered_end;
    for run in grant.runs.iter().filter(may_differ) {
        by_attempt.entry(run.attempt).or_default().add(run.span);
    }
    for (attempt, spans) in by_attempt {
        changes.push(AckChange::Transfer { spans, holder, deadline_ms, at_ms, count: Count::Set(attempt) });
    }
}

impl AckCursor {
    /// Everything that is there now may have been delivered, without a word in the log: it is delivered as if it had been.
    /// Attempts stay what is known. Nothing is logged; snapshots have it.
    pub fn doubt(&mut self) {
        self.doubt_end = self.end;
    }

    /// Grants what is ready, in the cursor's order, as far as the ask allows. Leases and delays whose time has come
    /// end first. `look` is asked once for each record that could be granted, in that order. What is to be logged
    /// is added to `changes`.
    pub fn lease(
        &mut self,
        ask: &Ask,
        now_ms: i64,
        look: &mut dyn FnMut(Offset) -> Look,
        changes: &mut Changes,
    ) -> Grant {
        self.expire(now_ms);
        self.forget_keys();
        let room = match (ask.kind, self.config.max_leased) {
            (LeaseKind::Recorded | LeaseKind::Volatile, Some(max)) => max.saturating_sub(self.leases.count()),
            _ => u64::MAX,
        };
        let records_max = ask.allowance.records.min(room);
        let mut granting = Granting { ask, now_ms, records_max, look, grant: Grant::new(), visited: 0 };
        if self.index.is_none() {
            self.lease_in_order(&mut granting);
        } else {
            self.lease_by_index(&mut granting);
        }
        self.visited += granting.visited;
        let mut grant = granting.grant;
        if grant.records == records_max {
            grant.stop = if records_max < ask.allowance.records { Stop::Full } else { Stop::Allowance };
        }
        if !grant.is_empty() {
            match ask.kind {
                LeaseKind::Recorded => log_lease(&grant, ask, now_ms, self.volatile_logged, changes),
                LeaseKind::Volatile => {
                    self.volatile_end = self.volatile_end.max(grant.spans().end().0);
                    self.volatile_again |=
                        grant.runs.iter().any(|run| run.is_redelivered && run.attempt == 1);
                }
                LeaseKind::Taken => changes.push(AckChange::Settle(grant.spans())),
            }
        }
        grant
    }

    fn lease_in_order(&mut self, granting: &mut Granting<'_>) {
        while granting.has_room()
            && let Some(offset) = self.returned.min()
        {
            if self.exhaust_offered(offset) {
                continue;
            }
            match granting.weigh(offset) {
                Tried::Granted => self.grant_run(offset..offset + 1, granting),
                Tried::Skipped => self.settle_range(offset..offset + 1),
                Tried::Early(due_ms) => self.wait_until(offset, due_ms),
                Tried::Stopped => return,
            }
        }
        while granting.has_room()
            && let Some(run) = self.next_fresh()
        {
            let mut start = run.start;
            for offset in run.clone() {
                let tried = if granting.has_room() { granting.weigh(offset) } else { Tried::Stopped };
                if let Tried::Granted = tried {
                    continue;
                }
                self.grant_run(start..offset, granting);
                match tried {
                    Tried::Skipped => self.settle_range(offset..offset + 1),
                    Tried::Early(due_ms) => self.wait_until(offset, due_ms),
                    Tried::Granted | Tried::Stopped => return,
                }
                start = offset + 1;
            }
            self.grant_run(start..run.end, granting);
        }
    }

    fn lease_by_index(&mut self, granting: &mut Granting<'_>) {
        if self.index.needs_all() && self.wants().is_some() {
            granting.grant.stop = Stop::Index;
            return;
        }
        self.index.begin_grant(granting.ask.holder, granting.ask.goes_on);
        let mut is_drained = false;
        while granting.has_room() {
            let Some(offset) = self.index.next(granting.ask.holder) else {
                is_drained = true;
                break;
            };
            if granting.ask.looks_ahead && granting.grant.is_empty() && self.looks_ahead() {
                is_drained = true;
                break;
            }
            if self.exhaust_offered(offset) {
                continue;
            }
            match granting.weigh(offset) {
                Tried::Granted => self.grant_run(offset..offset + 1, granting),
                Tried::Skipped => self.settle_range(offset..offset + 1),
                Tried::Early(due_ms) => self.wait_until(offset, due_ms),
                Tried::Stopped => break,
            }
        }
        self.index.end_grant();
        if is_drained && self.wants().is_some() {
            granting.grant.stop = Stop::Index;
        }
    }

    /// Takes a record out of the offer that was delivered as often as allowed, if this is when that takes effect.
    fn exhaust_offered(&mut self, offset: u64) -> bool {
        let is_spent = self.config.exhaust == Exhaust::WhenOffered
            && self.returned.contains(offset)
            && self.is_spent(self.history_of(offset).attempts);
        if is_spent {
            self.returned.remove(offset);
            self.exhausted.insert(offset);
            self.index.parked(offset..offset + 1);
        }
        is_spent
    }

    /// The first run of records that were never delivered and are due.
    fn next_fresh(&self) -> Option<Range<u64>> {
        let mut at = self.fresh;
        loop {
            let gap = self.next_unsettled(at..self.ready_end())?;
            match bitmap::next_gap(&self.seen, gap.clone()) {
                Some(run) => return Some(run),
                None => at = gap.end,
            }
        }
    }

    /// Grants records that are alike.
    fn grant_run(&mut self, range: Range<u64>, granting: &mut Granting<'_>) {
        if range.is_empty() {
            return;
        }
        if range.start < self.doubt_end && self.doubt_end < range.end {
            let middle = self.doubt_end;
            self.grant_run(range.start..middle, granting);
            return self.grant_run(middle..range.end, granting);
        }
        let is_doubtful = range.start < self.doubt_end;
        let is_redelivered = is_doubtful || !self.is_fresh(range.start);
        let history = self.history_of(range.start);
        let attempt = history.attempts.saturating_add(1);
        // What was held back, or delivered as if it had not happened, is delivered first now.
        let first_delivery_ms = if history == History::NEVER_DELIVERED {
            Some(granting.now_ms)
        } else {
            history.first_delivery_ms
        };
        if granting.ask.kind == LeaseKind::Taken {
            self.settle_range(range.clone());
        } else {
            let lease = Lease {
                holder: granting.ask.holder,
                deadline_ms: granting.ask.deadline_ms,
                attempt,
                first_delivery_ms,
                delivered_at_ms: granting.now_ms,
                is_recorded: granting.ask.kind == LeaseKind::Recorded,
            };
            self.lease_range(range.clone(), lease);
        }
        let is_first = history == History::NEVER_DELIVERED && !is_doubtful;
        let run = GrantRun { span: Span::of(range), attempt, is_redelivered, is_first, first_delivery_ms };
        granting.grant.add(run);
    }
}
