//! Records that the broker moves by itself: rejected or exhausted ones, expired ones, the oldest of a full queue. Each is
//! in one place at a time.

use std::collections::{BTreeMap, BTreeSet};

use broker::{Broker, ChunkBatch, ReadLimits};

use crate::Turn;

use super::{
    model::Rec,
    run::Run,
    streams::{
        CURSOR_FLEETING, CURSOR_HOSE, DEAD, EXPIRED, FLEETING, HOSE, HOSE_MAX, JOBS, OVERRUN, STREAMS,
    },
};

/// From where to where records are moved.
const MOVES: [(usize, usize); 3] = [(JOBS, DEAD), (FLEETING, EXPIRED), (HOSE, OVERRUN)];

/// How long after its end a record may still be there, milliseconds: the worker tries again after a second.
const OVERDUE_MS: i64 = 5_000;

/// What the two streams of a move hold: numbers by offset.
struct Both {
    here: BTreeMap<u64, u64>,
    there: BTreeMap<u64, u64>,
}

/// Where a record has to be.
enum Must {
    Here,
    There,
    Either,
    Nowhere,
}

impl Run {
    /// Compares what was moved, at rest.
    pub fn compare_moved(&mut self, broker: &Broker) {
        // What is due is done, also what follows from it.
        for _ in 0..3 {
            self.world.clock.advance_ns(20_000_000);
            let _is_at_rest = (0..200).any(|_| self.world.turn() != Turn::Ran);
        }
        if !self.settle() {
            return;
        }
        for (source, target) in MOVES {
            let Some(both) = self.both(broker, source, target) else { return };
            if broker.failure().is_some() {
                // What was under way is not shown any more.
                return;
            }
            let ids: BTreeSet<u64> = both.there.values().copied().collect();
            if ids.len() != both.there.len() {
                self.broken(format!("{} moved records are {} records", both.there.len(), ids.len()));
            }
            self.report.add_count(
                match source {
                    JOBS => "dead letters compared",
                    FLEETING => "expired records compared",
                    _ => "overrun records compared",
                },
                both.there.len() as u64,
            );
            self.compare_places(source, &both, &ids);
            match source {
                FLEETING => self.check_overdue(&both.here),
                HOSE => self.check_overrun(&both.here, &ids),
                _ => {}
            }
        }
        self.check_origins(broker);
    }

    /// Records move while they are read: both streams are taken when neither changed meanwhile.
    fn both(&mut self, broker: &Broker, source: usize, target: usize) -> Option<Both> {
        let (from, to) = (self.partition(source)?, self.partition(target)?);
        let mut last = None;
        for _ in 0..50 {
            let before = self.read_all(broker, source, &from)?;
            let there = self.read_all(broker, target, &to)?;
            let here = self.read_all(broker, source, &from)?;
            let bounds = to.bounds();
            let is_still = before == here && bounds.durable_end == bounds.end;
            let is_whole = there.keys().next_back().is_none_or(|last| last + 1 == bounds.end.0);
            last = Some(Both { here, there });
            if is_still && is_whole {
                break;
            }
            self.world.turn();
        }
        last
    }

    /// Every record is here or there, once, as what became of it says.
    fn compare_places(&mut self, source: usize, both: &Both, ids: &BTreeSet<u64>) {
        let now_ms = self.now_ms();
        let mut faults = Vec::new();
        let mut known = BTreeSet::new();
        for (offset, rec) in &self.model.now.records[source] {
            known.insert(rec.id);
            let (is_here, is_there) = (both.here.contains_key(offset), ids.contains(&rec.id));
            let is_right = match self.must(source, *offset, rec, now_ms) {
                Must::Here => is_here && !is_there,
                Must::There => is_there && !is_here,
                Must::Either => is_here != is_there,
                Must::Nowhere => !is_here && !is_there,
            };
            // A record in memory that was moved is in memory there; one that a crash took is in neither.
            if !is_right && !rec.volatile {
                let name = STREAMS[source].0;
                faults
                    .push(format!("{name} {offset} ({rec:?}): here {is_here}, moved {is_there} at {now_ms}"));
            }
        }
        // A record in memory that is a dead letter lasts, and its own stream forgets it.
        let there = ids.iter().filter(|_| source != JOBS);
        if let Some(id) = both.here.values().chain(there).find(|id| !known.contains(id)) {
            faults.push(format!("{} holds {id}, which was not published there", STREAMS[source].0));
        }
        faults.into_iter().take(3).for_each(|fault| self.broken(fault));
    }

    fn must(&self, source: usize, offset: u64, rec: &Rec, now_ms: i64) -> Must {
        let state = &self.model.now;
        if state.rejected.contains(&(source, offset)) {
            return Must::There;
        }
        if state.gone[source].contains(&offset) {
            return Must::Nowhere;
        }
        let may_move = match source {
            JOBS => self.model.exhausted.contains(&offset),
            FLEETING => rec.is_over(now_ms),
            _ => true,
        };
        if may_move { Must::Either } else { Must::Here }
    }

    /// What is long past its time and in nobody's hands is gone.
    fn check_overdue(&mut self, here: &BTreeMap<u64, u64>) {
        let now_ms = self.now_ms();
        let state = &self.model.now.cursors[CURSOR_FLEETING];
        let is_free = |offset: &u64| {
            let lease = state.leases.get(offset);
            let returned_ms = lease.and_then(|lease| lease.deadline_ms);
            let released_ms = state.due_ms.get(offset).copied();
            let is_out = lease.is_some_and(|lease| !lease.is_over(now_ms));
            let since_ms = returned_ms.into_iter().chain(released_ms).max().unwrap_or(i64::MIN);
            !is_out && since_ms + OVERDUE_MS < now_ms
        };
        let records = &self.model.now.records[FLEETING];
        let overdue = here.keys().find(|offset| {
            let rec = records.get(offset);
            rec.is_some_and(|rec| rec.is_over(now_ms - OVERDUE_MS)) && is_free(offset)
        });
        if let Some(offset) = overdue {
            let rec = records.get(offset);
            self.broken(format!("fleeting: {offset} ({rec:?}) is long past its time, and there at {now_ms}"));
        }
    }

    /// A queue that sends its oldest away is down to its length, unless the rest is out; and the oldest went first.
    fn check_overrun(&mut self, here: &BTreeMap<u64, u64>, moved: &BTreeSet<u64>) {
        let state = &self.model.now;
        let leases = &state.cursors[CURSOR_HOSE].leases;
        let attempts = &state.cursors[CURSOR_HOSE].attempts;
        let free = here.keys().filter(|offset| !leases.contains_key(offset)).count() as u64;
        let over = (here.len() as u64).saturating_sub(HOSE_MAX);
        let left = over.min(free).min((here.len() as u64).saturating_sub(1));
        // Those that nobody ever had.
        let oldest = here.keys().find(|offset| !attempts.contains_key(offset));
        let younger = oldest.and_then(|oldest| {
            let after = state.records[HOSE].range(oldest + 1..);
            let is_wrong = |(_, rec): &(&u64, &Rec)| moved.contains(&rec.id);
            let rejected = |offset: &u64| state.rejected.contains(&(HOSE, *offset));
            after.filter(is_wrong).map(|(offset, _)| *offset).find(|offset| !rejected(offset))
        });
        if left > 0 {
            let text = format!("{} records, {free} of them in nobody's hands", here.len());
            self.broken(format!("hose: {text}, above its length of {HOSE_MAX}"));
        }
        if let (Some(oldest), Some(younger)) = (oldest, younger) {
            self.broken(format!("hose: {younger} was sent away before {oldest}"));
        }
    }

    /// What expired says where it comes from, and how often it was delivered there.
    fn check_origins(&mut self, broker: &Broker) {
        let (Some(home), Some(partition)) = (self.partition(FLEETING), self.partition(EXPIRED)) else {
            return;
        };
        let from = partition.bounds().start;
        let Some(Ok(chunk)) = self.wait(broker.read(&partition, from, ReadLimits::bytes(4_000))) else {
            return;
        };
        let parts: Vec<ChunkBatch> = chunk.batches;
        for part in &parts {
            for (offset, id) in self.ids_in(EXPIRED, part) {
                let Some(origin) = part.batch.origin else {
                    return self.broken(format!("expired: {offset} does not say where it comes from"));
                };
                let at = origin.offset.0;
                let rec = self.model.now.records[FLEETING].get(&at).copied();
                let state = &self.model.now.cursors[CURSOR_FLEETING];
                let attempts = state.attempts.get(&at).copied().unwrap_or(0);
                let is_right = origin.log == home.log_id()
                    && rec.map(|rec| Some(rec.id)) == Some(id)
                    && origin.attempts == attempts;
                self.report.count("origins checked");
                if !is_right {
                    self.broken(format!(
                        "expired: {offset} comes from {origin:?}; {rec:?} was there, delivered {attempts} times"
                    ));
                }
            }
        }
    }
}
