//! Leases: what is asked for, and what must hold of whatever is handed out.

use std::collections::{BTreeMap, BTreeSet};

use broker::{Allowance, Delivery, HolderId, LeaseAsk, LeaseKind, LeaseTime, Leased, Oversize, Work};

use model::Offset;

use super::{
    check::{id_of, is_moving},
    model::{Fact, Lease, Rec},
    run::Run,
    streams::{
        CURSOR_LATER, CURSOR_REPLAY, CURSOR_RING, CURSORS, DELIVERY_LIMIT, JOBS, KEYED, LEVELS, WANTED,
    },
};

/// What a lease gave: offsets in the order of delivery.
pub(super) struct Granted {
    pub given: Vec<(u64, Rec)>,
    pub bytes: u64,
}

impl Run {
    /// A lease of a random cursor for a random holder.
    pub fn lease(&mut self) {
        let cursor = self.rng.index(CURSORS.len());
        let holder = self.rng.between(1, 4);
        let bytes = if self.rng.permille(150) { self.rng.between(0, 14) } else { u64::MAX };
        let oversize = self.rng.pick(&[Oversize::First, Oversize::First, Oversize::Never]);
        let mut allowance = Allowance { records: self.rng.between(1, 6), bytes, oversize };
        let is_shared = self.shares_credit(cursor, holder);
        if is_shared {
            allowance = self.narrowed(allowance);
        }
        let lease_ms = self.rng.permille(600).then(|| self.rng.between(20, 2_000));
        // A lease that ends by itself, and that nobody has noticed, is in the way of a queue that drops its oldest.
        let lease_ms = lease_ms.filter(|_| cursor != CURSOR_RING);
        let time = lease_ms.map_or(LeaseTime::Setting, LeaseTime::Ms);
        let ask = LeaseAsk { holder: HolderId(holder), allowance, kind: self.kind_for(cursor), time };
        let Some(granted) = self.grant(cursor, ask) else { return };
        if is_shared && ask.kind != LeaseKind::Taken {
            self.take_credit(cursor, holder, &granted);
        }
    }

    /// Where deliveries are counted exactly, none of them is forgotten.
    fn kind_for(&mut self, cursor: usize) -> LeaseKind {
        let is_exact = cursor > 7 && !matches!(cursor, CURSOR_LATER | CURSOR_REPLAY);
        match self.rng.below(10) {
            0 => LeaseKind::Taken,
            1..=4 if !is_exact => LeaseKind::Volatile,
            _ => LeaseKind::Recorded,
        }
    }

    /// The records that the cursor has ready, as far as everybody can know.
    pub fn ready(&self, cursor: usize) -> BTreeMap<u64, Rec> {
        let Some(partition) = self.partition(CURSORS[cursor].0) else { return BTreeMap::new() };
        let (now_ms, end) = (self.now_ms(), partition.bounds().stable_end.0);
        let state = &self.model.now.cursors[cursor];
        let is_offered = |(offset, rec): &(u64, Rec)| {
            let is_spent = CURSORS[cursor].0 == JOBS
                && (!self.model.is_exact(cursor, *offset)
                    || state.attempts.get(offset).is_some_and(|attempts| *attempts >= DELIVERY_LIMIT));
            // It may have been moved elsewhere.
            let is_there = !is_moving(CURSORS[cursor].0) || partition.has(Offset(*offset));
            *offset < end && state.is_ready(*offset, rec, now_ms) && !is_spent && is_there
        };
        self.model.now.unsettled(cursor).filter(is_offered).collect()
    }

    /// Records that certainly nobody ever had.
    fn never_delivered(&self, cursor: usize) -> BTreeSet<u64> {
        let attempts = &self.model.now.cursors[cursor].attempts;
        let is_new = |offset: &u64| !attempts.contains_key(offset) && self.model.is_exact(cursor, *offset);
        self.model.now.unsettled(cursor).map(|(offset, _)| offset).filter(is_new).collect()
    }

    /// Leases, and checks what comes of it.
    pub fn grant(&mut self, cursor: usize, ask: LeaseAsk) -> Option<Granted> {
        let (work, _) = self.open_work(cursor).ok()??;
        let before = self.ready(cursor);
        let new = self.never_delivered(cursor);
        let asked_ms = self.now_ms();
        let leased = match self.wait(work.lease(ask))? {
            Ok(leased) => leased,
            Err(error) => {
                if self.broker.as_ref().is_some_and(|broker| broker.failure().is_none()) {
                    self.broken(format!("a lease failed: {error}"));
                }
                return None;
            }
        };
        let mut given = Vec::new();
        for delivery in &leased.deliveries {
            let ids = self.ids_of(delivery)?;
            for run in &delivery.runs {
                if run.attempt > 1 && !run.is_redelivered {
                    self.broken(format!("cursor {cursor}: {:?} does not say that it came before", run.span));
                }
                for offset in run.span.start.0..run.span.end.0 {
                    let id = ids.get(&offset).copied().flatten();
                    let is_volatile = ask.kind == LeaseKind::Volatile;
                    given.extend(self.check_grant(cursor, offset, id, run.attempt, asked_ms));
                    self.model.handed_out(cursor, offset, is_volatile);
                    let lease = self.lease_of(cursor, ask, asked_ms, offset, run.attempt, &work);
                    let fact = match ask.kind {
                        LeaseKind::Taken => Fact::Settled { cursor, offset },
                        _ => Fact::Leased { cursor, offset, lease },
                    };
                    self.model.note(leased.wait.0, fact);
                }
            }
        }
        self.report.add_count("records leased", leased.records);
        self.check_allowance(cursor, ask, &leased, &given);
        self.check_order(cursor, &before, &new, &given);
        if leased.records > 0 && self.rng.permille(400) {
            self.durable(leased.wait.0);
        }
        Some(Granted { given, bytes: leased.bytes })
    }

    fn ids_of(&mut self, delivery: &Delivery) -> Option<BTreeMap<u64, Option<u64>>> {
        let broker = self.broker.clone()?;
        let mut ids = BTreeMap::new();
        let read = broker.formats().read(&delivery.batch, &mut |index, record| {
            ids.insert(delivery.batch.base.plus(u64::from(index)).0, id_of(&record));
            Ok(())
        });
        if let Err(error) = read {
            self.broken(format!("a delivery does not read: {error}"));
        }
        Some(ids)
    }

    /// The lease as the cursor lists it: its deadline follows from the time at which it was granted.
    fn lease_of(
        &mut self,
        cursor: usize,
        ask: LeaseAsk,
        asked_ms: i64,
        offset: u64,
        attempt: u32,
        work: &Work,
    ) -> Lease {
        let recorded = ask.kind == LeaseKind::Recorded;
        let listed = work.leases(Offset(offset), 1).ok().and_then(|leases| leases.first().copied());
        let deadline_ms = listed.and_then(|lease| lease.deadline_ms);
        let by_default = matches!(CURSORS[cursor].0, KEYED | LEVELS).then_some(300);
        let lease_ms = match ask.time {
            LeaseTime::Setting => by_default,
            LeaseTime::Ms(lease_ms) => Some(lease_ms),
            LeaseTime::UntilSettled => None,
        };
        let least = lease_ms.map(|lease_ms| asked_ms.saturating_add_unsigned(lease_ms));
        if ask.kind != LeaseKind::Taken && deadline_ms < least {
            self.broken(format!("cursor {cursor}: {offset} is leased until {deadline_ms:?}, not {least:?}"));
        }
        Lease { holder: ask.holder.0, deadline_ms, attempt, recorded }
    }

    /// No more is given than was allowed, and what is said to have been given is what was.
    fn check_allowance(&mut self, cursor: usize, ask: LeaseAsk, leased: &Leased, given: &[(u64, Rec)]) {
        let Allowance { records, bytes, oversize } = ask.allowance;
        let len: u64 = given.iter().map(|(_, rec)| rec.len()).sum();
        if leased.records > records || leased.records != given.len() as u64 || leased.bytes != len {
            let text = format!("{} records of {} bytes", leased.records, leased.bytes);
            self.broken(format!(
                "cursor {cursor}: {text} were given, {} of {len}, of {records} allowed",
                given.len()
            ));
        }
        let is_one_too_long = leased.records == 1 && oversize == Oversize::First && bytes > 0;
        if leased.bytes > bytes && !is_one_too_long {
            self.broken(format!("cursor {cursor}: {} bytes were given of {bytes} allowed", leased.bytes));
        }
        if bytes < u64::MAX && leased.records > 0 {
            self.report.count("leases by bytes");
        }
    }

    /// Nothing that was ready is passed over for what comes after it.
    fn check_order(
        &mut self,
        cursor: usize,
        before: &BTreeMap<u64, Rec>,
        new: &BTreeSet<u64>,
        given: &[(u64, Rec)],
    ) {
        let stream = CURSORS[cursor].0;
        if stream == LEVELS && given.windows(2).any(|pair| pair[0].1.level < pair[1].1.level) {
            self.broken(format!("a lower level was delivered before a higher one: {given:?}"));
        }
        if stream == KEYED || given.is_empty() {
            return;
        }
        self.report.count("orders checked");
        let is_given = |offset: &u64| given.iter().any(|(other, _)| other == offset);
        let is_new = |offset: &u64, rec: &Rec| new.contains(offset) && rec.deliver_at_ms.is_none();
        let Some(partition) = self.partition(stream) else { return };
        let is_there = |offset: &u64| !is_moving(stream) || partition.has(Offset(*offset));
        let left = before.iter().filter(|(offset, _)| !is_given(offset) && is_there(offset));
        let passed = { left }.find(|(offset, rec)| {
            given.iter().any(|(other, got)| match stream {
                LEVELS => (rec.level, other) > (got.level, offset),
                _ => *offset < other && is_new(offset, rec) && is_new(other, got),
            })
        });
        if let Some((offset, rec)) = passed {
            self.broken(format!("cursor {cursor}: {offset} ({rec:?}) was passed over for {given:?}"));
        }
    }

    /// What must hold of every record that is handed out.
    fn check_grant(
        &mut self,
        cursor: usize,
        offset: u64,
        id: Option<u64>,
        attempt: u32,
        asked_ms: i64,
    ) -> Option<(u64, Rec)> {
        let stream = CURSORS[cursor].0;
        let now_ms = self.now_ms();
        self.model.used[stream] = self.model.used[stream].max(offset + 1);
        let state = &self.model.now;
        let of_cursor = &state.cursors[cursor];
        let Some(rec) = state.records[stream].get(&offset).copied() else {
            self.broken(format!("cursor {cursor}: {offset} was handed out, and is not there"));
            return None;
        };
        let mut faults = Vec::new();
        if id != Some(rec.id) {
            faults.push(format!("holds {id:?} instead of {}", rec.id));
        }
        if of_cursor.is_settled(offset) || state.gone[stream].contains(&offset) {
            faults.push("was settled".to_owned());
        }
        if let Some(lease) = of_cursor.leases.get(&offset).filter(|lease| !lease.is_over(now_ms)) {
            faults.push(format!("is in the hands of {}", lease.holder));
        }
        if of_cursor.due_ms.get(&offset).is_some_and(|due_ms| *due_ms > now_ms) {
            faults.push("is delayed".to_owned());
        }
        if rec.is_early(now_ms) {
            faults.push(format!("is early: {:?} is to come", rec.deliver_at_ms));
        }
        if rec.is_over(asked_ms) {
            faults.push(format!("is past its time: {:?} is over", rec.expires_ms));
        }
        if WANTED[cursor].is_some_and(|key| key != rec.key) {
            faults.push("is not what the cursor is for".to_owned());
        }
        if stream == KEYED
            && state.unsettled(cursor).any(|(other, earlier)| other < offset && earlier.key == rec.key)
        {
            faults.push("comes before an earlier one of its key".to_owned());
        }
        if !rec.volatile && !self.is_durable(rec.seq) {
            faults.push("is not durable".to_owned());
        }
        faults.extend(self.check_attempt(cursor, offset, attempt));
        self.count_grant(cursor, offset, &rec, attempt);
        faults
            .iter()
            .for_each(|fault| self.broken(format!("cursor {cursor}: {offset}, handed out, {fault}")));
        Some((offset, rec))
    }

    /// Deliveries are counted: exactly where all of them were logged or were in this boot, and never down.
    fn check_attempt(&mut self, cursor: usize, offset: u64, attempt: u32) -> Option<String> {
        let before = self.model.now.cursors[cursor].attempts.get(&offset).copied().unwrap_or(0);
        let is_exact = self.model.is_exact(cursor, offset);
        if is_exact {
            self.report.count("attempts counted exactly");
        }
        let is_right = if is_exact { attempt == before + 1 } else { attempt > before };
        (!is_right).then(|| format!("is delivery {attempt} after {before}"))
    }

    fn count_grant(&mut self, cursor: usize, offset: u64, rec: &Rec, attempt: u32) {
        if self.model.now.cursors[cursor].delivered.contains(&offset) {
            // How far these went is logged with the next settlement, and a delivery that did not count may hide it.
            let what = if attempt > 1 { "volatile grants remembered" } else { "volatile grants forgotten" };
            self.report.count(what);
        }
        self.report.count("grants checked");
        for (happened, what) in [
            (attempt > 1, "grants again"),
            (rec.deliver_at_ms.is_some(), "grants at their time"),
            (rec.expires_ms.is_some(), "grants before their end"),
        ] {
            if happened {
                self.report.count(what);
            }
        }
    }
}
