//! What consumers share: one credit over several cursors, and turns.

use std::collections::BTreeMap;

use broker::{Allowance, Credit, GroupId, HolderId, LeaseAsk, LeaseKind, LeaseTime, Subscription, Watch};

use super::{
    grant::Granted,
    run::Run,
    streams::{CURSOR_LATER, CURSOR_NARROW, CURSOR_TASKS, TASKS},
};

/// What holders 1 and 2 may have out together, over three cursors.
const RECORDS_MAX: u64 = 7;
const BYTES_MAX: u64 = 24;

/// The last holders that share.
const SHARER_MAX: u64 = 2;

/// One credit, with what is out under it: by cursor and offset, who has it and how long it is.
pub(super) struct Shared {
    credit: Credit,
    out: BTreeMap<(usize, u64), (u64, u64)>,
}

impl Shared {
    /// Nothing is out.
    pub fn new() -> Self {
        Shared { credit: Credit::new(Some(RECORDS_MAX), Some(BYTES_MAX)), out: BTreeMap::new() }
    }
}

impl Run {
    /// Whether the holder takes from the cursor under the shared credit.
    pub fn shares_credit(&self, cursor: usize, holder: u64) -> bool {
        holder <= SHARER_MAX && matches!(cursor, CURSOR_TASKS | CURSOR_NARROW | CURSOR_LATER)
    }

    /// What the holders may still take, after everything has come back that they do not have any more.
    pub fn narrowed(&mut self, allowance: Allowance) -> Allowance {
        let now_ms = self.now_ms();
        let cursors = &self.model.now.cursors;
        let shared = &mut self.shared;
        shared.out.retain(|(cursor, offset), (holder, len)| {
            let lease = cursors[*cursor].leases.get(offset);
            let is_out = lease.is_some_and(|lease| lease.holder == *holder && !lease.is_over(now_ms));
            if !is_out {
                shared.credit.give(1, *len);
            }
            is_out
        });
        let narrowed = shared.credit.narrow(allowance);
        self.report.count("leases under a shared credit");
        if narrowed.records < allowance.records || narrowed.bytes < allowance.bytes.min(BYTES_MAX) {
            self.report.count("leases narrowed by a shared credit");
        }
        narrowed
    }

    /// Notes what a lease took, and that the holders have no more than they may.
    pub fn take_credit(&mut self, cursor: usize, holder: u64, granted: &Granted) {
        let shared = &mut self.shared;
        shared.credit.take(granted.given.len() as u64, granted.bytes);
        for (offset, rec) in &granted.given {
            // What ran out and came back to a sharer before anybody noticed is out once.
            if let Some((_, len)) = shared.out.insert((cursor, *offset), (holder, rec.len())) {
                shared.credit.give(1, len);
            }
        }
        let (records, bytes) =
            (shared.out.len() as u64, shared.out.values().map(|(_, len)| len).sum::<u64>());
        let is_counted = (shared.credit.records_out(), shared.credit.bytes_out()) == (records, bytes);
        // One record may be longer than what is left.
        if records > RECORDS_MAX || bytes >= BYTES_MAX + 8 || !is_counted {
            self.broken(format!("{records} records of {bytes} bytes are out under a shared credit"));
        }
    }

    /// Two consumers of `tasks` wait. Of what comes the one of the higher priority is told, or both are.
    pub fn wait_in_turn(&mut self) {
        if !self.settle() || !self.take_all(CURSOR_TASKS) {
            return;
        }
        let Ok(Some((work, _))) = self.open_work(CURSOR_TASKS) else { return };
        let (low, high) = (Watch::new(), Watch::new());
        let both = [(HolderId(21), 0, &low), (HolderId(22), 9, &high)];
        for (holder, priority, watch) in both {
            let group = GroupId::default();
            if work.join(Subscription { holder, priority, group, prefetch: None }).is_err() {
                return;
            }
            work.wait(holder, watch);
        }
        // What is told of something else meanwhile is told again.
        for (holder, _, watch) in both {
            if watch.take() {
                work.wait(holder, watch);
            }
        }
        let before = self.model.now.records[TASKS].len();
        self.publish_to(TASKS);
        let is_published = self.model.now.records[TASKS].len() > before;
        if self.settle() && is_published {
            self.report.count("consumers told in turn");
            let (low, high) = (low.take(), high.take());
            if !high {
                self.broken(format!("the consumer whose turn it is was not told; the other was: {low}"));
            }
        }
        for (holder, _, _) in both {
            if let Err(error) = work.leave(holder)
                && self.world.powered()
                && self.broker.as_ref().is_some_and(|broker| broker.failure().is_none())
            {
                self.broken(format!("a consumer cannot leave: {error}"));
            }
        }
    }

    /// Takes everything that is ready, until nothing is. False when that does not come about.
    fn take_all(&mut self, cursor: usize) -> bool {
        for _ in 0..10 {
            let (holder, allowance) = (HolderId(8), Allowance::records(1_000));
            let ask = LeaseAsk { holder, allowance, kind: LeaseKind::Recorded, time: LeaseTime::Ms(3_000) };
            match self.grant(cursor, ask) {
                None => return false,
                Some(granted) if granted.given.is_empty() => return true,
                Some(_) => {}
            }
        }
        false
    }
}
