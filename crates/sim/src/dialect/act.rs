//! Random operations: what any dialect may ask of the broker.

use broker::{
    Allowance, Claim, Count, CursorKey, HolderId, LeaseAsk, LeaseKind, Position, ReadLimits, Settled,
    Settlement, Span, Spans, UserSpec, Verdict,
};
use model::{Namespace, Offset};

use super::{
    check::{POSITIONS, id_of},
    model::{
        CURSOR_SCRATCH, CURSORS, DELIVERY_LIMIT, EVENTS, Fact, JOBS, KEYED, LEVELS, Lease, SCRATCH, STREAMS,
    },
    run::{Run, key, spec},
};

impl Run {
    /// One operation.
    pub fn act(&mut self) {
        match self.rng.below(1000) {
            0..150 => self.publish_one(),
            150..190 => self.publish_racing(),
            190..230 => self.publish_in_sequence(),
            230..260 => self.publish_deduplicated(),
            260..280 => self.publish_placed(),
            280..400 => self.publish_fan_out(),
            400..600 => self.lease(),
            600..820 => self.settle_one(),
            820..850 => self.commit_position(),
            850..890 => self.browse(),
            890..905 => self.drop_from_the_middle(),
            905..910 => self.make_scratch_again(),
            910..925 => self.change_names(),
            925..965 => self.let_time_pass(),
            965..985 => drop(self.settle()),
            985..992 => self.release_all(),
            _ => self.compare(),
        }
    }

    /// A record of the cursor that somebody has, as far as the model knows.
    pub fn held(&mut self, cursor: usize) -> Option<(u64, Lease)> {
        // A record that was in memory only went with its boot.
        let records = &self.model.now.records[CURSORS[cursor].0];
        let leases = self.model.now.cursors[cursor].leases.iter();
        let there: Vec<_> = leases.filter(|(offset, _)| records.contains_key(offset)).collect();
        let at = self.rng.index(there.len());
        there.get(at).map(|(offset, lease)| (**offset, **lease))
    }

    /// The word of whoever has the record.
    pub fn settlement(&self, cursor: usize, offset: u64, verdict: Verdict) -> Option<Settlement> {
        let (work, _) = self.open_work(cursor).ok()??;
        let lease = self.model.now.cursors[cursor].leases.get(&offset)?;
        let spans = [Span::one(Offset(offset))].into_iter().collect();
        Some(Settlement { work, spans, claim: Claim::Holder(HolderId(lease.holder)), verdict })
    }

    fn lease(&mut self) {
        let cursor = self.rng.index(CURSORS.len());
        let Ok(Some((work, _))) = self.open_work(cursor) else { return };
        let kind = match self.rng.below(10) {
            0 => LeaseKind::Taken,
            1..=4 => LeaseKind::Volatile,
            _ => LeaseKind::Recorded,
        };
        let holder = self.rng.between(1, 4);
        let ask = LeaseAsk {
            holder: HolderId(holder),
            allowance: Allowance::records(self.rng.between(1, 6)),
            kind,
            lease_ms: self.rng.permille(600).then(|| self.rng.between(20, 2_000)),
        };
        let asked_ms = self.now_ms();
        let leased = match self.wait(work.lease(ask)) {
            None => return,
            Some(Ok(leased)) => leased,
            Some(Err(error)) => {
                if self.broker.as_ref().is_some_and(|broker| broker.failure().is_none()) {
                    self.broken(format!("a lease failed: {error}"));
                }
                return;
            }
        };
        let mut levels = Vec::new();
        for delivery in &leased.deliveries {
            let mut ids = std::collections::BTreeMap::new();
            let Some(broker) = self.broker.clone() else { return };
            let read = broker.formats().read(&delivery.batch, &mut |index, record| {
                ids.insert(delivery.batch.base.plus(u64::from(index)).0, id_of(&record));
                Ok(())
            });
            if let Err(error) = read {
                self.broken(format!("a delivery does not read: {error}"));
            }
            for run in &delivery.runs {
                for offset in run.span.start.0..run.span.end.0 {
                    let id = ids.get(&offset).copied().flatten();
                    levels.extend(self.check_grant(cursor, offset, id, run.attempt));
                    let lease = self.lease_of(cursor, ask, asked_ms, offset, run.attempt, &work);
                    let fact = match kind {
                        LeaseKind::Taken => Fact::Settled { cursor, offset },
                        _ => Fact::Leased { cursor, offset, lease },
                    };
                    self.model.note(leased.wait.0, fact);
                }
            }
        }
        self.report.add_count("records leased", leased.records);
        if CURSORS[cursor].0 == LEVELS && levels.windows(2).any(|pair| pair[0] < pair[1]) {
            self.broken(format!("a lower level was delivered before a higher one: {levels:?}"));
        }
        if leased.records > 0 && self.rng.permille(400) {
            self.durable(leased.wait.0);
        }
    }

    /// The lease as the cursor lists it: its deadline follows from the time at which it was granted.
    fn lease_of(
        &mut self,
        cursor: usize,
        ask: LeaseAsk,
        asked_ms: i64,
        offset: u64,
        attempt: u32,
        work: &broker::Work,
    ) -> Lease {
        let recorded = ask.kind == LeaseKind::Recorded;
        let listed = work.leases(Offset(offset), 1).ok().and_then(|leases| leases.first().copied());
        let deadline_ms = listed.and_then(|lease| lease.deadline_ms);
        let by_default = matches!(CURSORS[cursor].0, KEYED | LEVELS).then_some(300);
        let least = ask.lease_ms.or(by_default).map(|lease_ms| asked_ms.saturating_add_unsigned(lease_ms));
        if ask.kind != LeaseKind::Taken && deadline_ms < least {
            self.broken(format!("cursor {cursor}: {offset} is leased until {deadline_ms:?}, not {least:?}"));
        }
        Lease { holder: ask.holder.0, deadline_ms, attempt, recorded }
    }

    /// What must hold of every record that is handed out. Answers its level.
    fn check_grant(&mut self, cursor: usize, offset: u64, id: Option<u64>, attempt: u32) -> Option<u8> {
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
        if of_cursor.settled.contains(&offset) || state.gone[stream].contains(&offset) {
            faults.push("was settled".to_owned());
        }
        let is_over = |lease: &Lease| lease.deadline_ms.is_some_and(|at| at <= now_ms);
        if let Some(lease) = of_cursor.leases.get(&offset).filter(|lease| !is_over(lease)) {
            faults.push(format!("is in the hands of {}", lease.holder));
        }
        if of_cursor.due_ms.get(&offset).is_some_and(|due_ms| *due_ms > now_ms) {
            faults.push("is delayed".to_owned());
        }
        let before = of_cursor.attempts.get(&offset).copied().unwrap_or(0);
        if attempt <= before {
            faults.push(format!("is delivery {attempt} after {before}"));
        }
        if super::model::WANTED[cursor].is_some_and(|key| key != rec.key) {
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
        if stream == JOBS && attempt >= DELIVERY_LIMIT {
            self.model.exhausted.insert(offset);
        }
        if of_cursor.delivered.contains(&offset) {
            // How far these went is logged with the next settlement, and a delivery that did not count may hide it.
            let what = if attempt > 1 { "volatile grants remembered" } else { "volatile grants forgotten" };
            self.report.count(what);
        }
        self.report.count("grants checked");
        if attempt > 1 {
            self.report.count("grants again");
        }
        faults
            .iter()
            .for_each(|fault| self.broken(format!("cursor {cursor}: {offset}, handed out, {fault}")));
        Some(rec.level)
    }

    fn settle_one(&mut self) {
        let cursor = self.rng.index(CURSORS.len());
        let Some((offset, lease)) = self.held(cursor) else { return };
        let now_ms = self.now_ms();
        let deadline_ms = self.rng.permille(700).then(|| now_ms + self.rng.between(50, 2_000) as i64);
        let (verdict, fact) = match self.rng.below(10) {
            0 | 1 => {
                let keep = self.rng.permille(300);
                let delay_ms = if keep || self.rng.permille(500) { 0 } else { self.rng.between(1, 500) };
                let count = if keep { Count::Keep } else { Count::Add };
                let due_ms = now_ms.saturating_add_unsigned(delay_ms);
                (Verdict::Release { delay_ms, count }, Fact::Released { cursor, offset, due_ms, keep })
            }
            2 => (Verdict::Reject, Fact::Rejected { cursor, offset }),
            3 => {
                let lease = Lease { deadline_ms, ..lease };
                (Verdict::Extend { deadline_ms }, Fact::Leased { cursor, offset, lease })
            }
            4 => {
                let holder = self.rng.between(1, 4);
                let lease = Lease { holder, deadline_ms, ..lease };
                let to = HolderId(holder);
                let verdict = Verdict::Transfer { holder: to, deadline_ms, count: Count::Keep };
                (verdict, Fact::Leased { cursor, offset, lease })
            }
            _ => (Verdict::Accept, Fact::Settled { cursor, offset }),
        };
        let Some(broker) = self.broker.clone() else { return };
        let Some(settlement) = self.settlement(cursor, offset, verdict) else { return };
        match self.wait(broker.settle(vec![settlement])) {
            Some(Ok((settled, seq))) => {
                self.report.count(match verdict {
                    Verdict::Accept => "accepted",
                    Verdict::Release { .. } => "released",
                    Verdict::Reject => "rejected",
                    Verdict::Extend { .. } => "extended",
                    Verdict::Transfer { .. } => "transferred",
                });
                let done = settled.first().cloned().unwrap_or_default();
                self.take_settled(cursor, offset, &done, seq.0, fact);
                if self.rng.permille(300) {
                    self.durable(seq.0);
                }
            }
            Some(Err(error)) if broker.failure().is_none() => {
                self.broken(format!("a settlement failed: {error}"))
            }
            _ => {}
        }
    }

    /// What a settlement of one record came to: a holder whose lease is not over is always heard.
    pub fn take_settled(&mut self, cursor: usize, offset: u64, done: &Settled, seq: u64, fact: Fact) {
        let Some(lease) = self.model.now.cursors[cursor].leases.get(&offset).copied() else { return };
        let is_over = lease.deadline_ms.is_some_and(|at| at <= self.now_ms());
        if !done.done.contains(Offset(offset)) {
            if !is_over {
                self.broken(format!("cursor {cursor}: the holder of {offset} was not heard: {done:?}"));
            }
            return self.report.count("settlements too late");
        }
        let out: Vec<u64> = self.model.now.cursors[cursor]
            .leases
            .iter()
            .filter(|(_, lease)| !lease.recorded)
            .map(|(offset, _)| *offset)
            .collect();
        for offset in out {
            self.model.note(seq, Fact::Delivered { cursor, offset });
        }
        self.model.note(seq, fact);
    }

    fn release_all(&mut self) {
        let cursor = self.rng.index(CURSORS.len());
        let Ok(Some((work, _))) = self.open_work(cursor) else { return };
        let holder = self.rng.between(1, 4);
        let Ok((settled, seq)) = work.release_all(HolderId(holder), Count::Add) else { return };
        self.report.count("holders gone");
        let due_ms = self.now_ms();
        let done: Vec<u64> = settled.done.offsets().map(|offset| offset.0).collect();
        for offset in done {
            self.model.note(seq.0, Fact::Released { cursor, offset, due_ms, keep: false });
        }
    }

    fn commit_position(&mut self) {
        let (Some(broker), Some(partition)) = (self.broker.clone(), self.partition(EVENTS)) else { return };
        let at = self.rng.index(POSITIONS.len());
        let offset = self.rng.below(partition.bounds().end.0 + 1);
        let cursor = CursorKey::new(&Namespace::default(), POSITIONS[at]);
        if let Ok(seq) = broker.commit_positions(&cursor, vec![(partition, Position::at(Offset(offset)))]) {
            self.report.count("positions committed");
            self.model.note(seq.0, Fact::Committed { position: at, offset });
            if self.rng.permille(300) {
                self.durable(seq.0);
            }
        }
    }

    /// Looks at records without taking them.
    fn browse(&mut self) {
        let stream = self.rng.index(STREAMS.len());
        let (Some(broker), Some(partition)) = (self.broker.clone(), self.partition(stream)) else { return };
        let bounds = partition.bounds();
        let from = Offset(self.rng.between(bounds.start.0, bounds.stable_end.0));
        let Some(Ok(chunk)) = self.wait(broker.read(&partition, from, ReadLimits::bytes(500))) else {
            return;
        };
        let Ok(records) = broker.records(&chunk) else { return };
        for (offset, record) in records {
            self.report.count("records browsed");
            let known = self.model.now.records[stream].get(&offset.0).copied();
            self.model.used[stream] = self.model.used[stream].max(offset.0 + 1);
            let is_known = known.is_some_and(|rec| Some(rec.id) == id_of(&record));
            if stream != super::model::DEAD && !is_known {
                self.broken(format!("stream {stream}: {offset} reads {record:?} instead of {known:?}"));
            }
            if known.is_some_and(|rec| !rec.volatile && !self.is_durable(rec.seq)) {
                self.broken(format!("stream {stream}: {offset} was read before it was durable"));
            }
        }
    }

    fn drop_from_the_middle(&mut self) {
        let (Some(broker), Some(partition)) = (self.broker.clone(), self.partition(EVENTS)) else { return };
        let lasts: Vec<u64> = self.model.now.key_last.values().copied().collect();
        let live: Vec<u64> =
            self.model.now.live(EVENTS).map(|(offset, _)| offset).filter(|at| !lasts.contains(at)).collect();
        let Some(offset) = live.get(self.rng.index(live.len())).copied() else { return };
        let spans: Spans = [Span::one(Offset(offset))].into_iter().collect();
        if let Ok(seq) = broker.drop_records(&partition, &spans) {
            self.report.count("dropped from the middle");
            self.model.note(seq.0, Fact::Dropped { stream: EVENTS, offset });
        }
    }

    /// Deletes `scratch` and makes it anew.
    fn make_scratch_again(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        if !self.settle() {
            return;
        }
        let Some(Ok(())) = self.wait(broker.delete_stream(&key(SCRATCH))) else { return };
        self.deleted = self.scratch.take();
        self.model.forget_scratch();
        let Some(Ok(made)) = self.wait(broker.create_stream(key(SCRATCH), spec(SCRATCH))) else { return };
        self.note("deleted and made again");
        self.scratch = Some(made.id());
        if let Ok(Some((_, seq))) = self.open_work(CURSOR_SCRATCH) {
            self.durable(seq.0);
        }
    }

    /// Adds and removes users and routes.
    fn change_names(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        let number = self.rng.below(4);
        let (name, namespace) = (format!("user{number}"), Namespace::default());
        let is_user = self.rng.permille(500);
        let name = if is_user { name } else { format!("route:address{number}") };
        // Unknown until it is answered.
        let before = self.named.remove(&name);
        let done = match (is_user, before) {
            (true, Some(true)) => self.wait(broker.users().delete(&name)),
            (true, _) => self.wait(broker.users().put(&name, UserSpec::default())),
            (false, _) => {
                let address = name.replace("route:", "neutral:");
                let known = broker.routes().into_iter().find(|route| route.from == address);
                match known {
                    Some(route) => self.wait(broker.remove_route(route.id)),
                    None => self
                        .wait(broker.add_route(&namespace, &address, key(EVENTS), None))
                        .map(|added| added.map(drop)),
                }
            }
        };
        if let Some(Ok(())) = done {
            self.report.count("users and routes changed");
            let is_there = match is_user {
                true => before != Some(true),
                false => broker.routes().iter().any(|route| route.from == name.replace("route:", "neutral:")),
            };
            self.named.insert(name, is_there);
        }
    }

    fn let_time_pass(&mut self) {
        let ms = self.rng.between(1, 600);
        self.world.clock.advance_ns(ms * 1_000_000);
        for _ in 0..20 {
            self.world.turn();
        }
    }
}
