//! Random operations: what any dialect may ask of the broker.

use broker::{
    Allowance, Claim, Count, CursorKey, HolderId, LeaseAsk, LeaseKind, LeaseTime, Position, Settled,
    Settlement, Span, Spans, Verdict,
};
use model::{Namespace, Offset};

use super::{
    check::POSITIONS,
    model::{Fact, Lease},
    run::Run,
    streams::{
        CURSOR_NARROW, CURSOR_REPLAY, CURSOR_RING, CURSOR_SCRATCH, CURSORS, EVENTS, KEYED, NARROW, SCRATCH,
        key, spec,
    },
};

impl Run {
    /// One operation.
    pub fn act(&mut self) {
        match self.rng.below(1000) {
            0..150 => self.publish_one(),
            150..180 => self.publish_racing(),
            180..210 => self.publish_in_sequence(),
            210..235 => self.publish_deduplicated(),
            235..250 => self.publish_placed(),
            250..350 => self.publish_fan_out(),
            350..390 => self.publish_routed(),
            390..600 => self.lease(),
            600..800 => self.settle_one(),
            800..820 => self.commit_position(),
            820..855 => self.browse(),
            855..875 => self.look_at_a_state(),
            875..887 => self.drop_from_the_middle(),
            887..891 => self.make_scratch_again(),
            891..906 => self.change_names(),
            906..922 => self.act_for_a_user(),
            922..930 => self.read_the_unknown(),
            930..937 => self.seek(),
            937..940 => self.purge(),
            940..970 => self.let_time_pass(),
            970..980 => drop(self.settle()),
            980..986 => self.release_all(),
            986..991 => self.take_whatever_is_ready(),
            991..993 => self.wait_in_turn(),
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

    fn settle_one(&mut self) {
        let cursor = self.rng.index(CURSORS.len());
        let Some((offset, lease)) = self.held(cursor) else { return };
        let now_ms = self.now_ms();
        let deadline_ms = self.rng.permille(700).then(|| now_ms + self.rng.between(50, 2_000) as i64);
        let deadline_ms = deadline_ms.filter(|_| cursor != CURSOR_RING);
        let (verdict, fact) = match self.rng.below(10) {
            0 | 1 => self.released(cursor, offset, lease),
            2 => (Verdict::Reject, Fact::Rejected { cursor, offset }),
            3 => {
                let lease = Lease { deadline_ms, ..lease };
                (Verdict::Extend { deadline_ms }, Fact::Leased { cursor, offset, lease })
            }
            4 => {
                let (holder, count) = (self.rng.between(1, 4), self.count());
                let attempt = match count {
                    Count::Keep => lease.attempt,
                    Count::Add => lease.attempt + 1,
                    Count::Set(attempts) => attempts,
                };
                let lease = Lease { holder, deadline_ms, attempt, ..lease };
                let verdict = Verdict::Transfer { holder: HolderId(holder), deadline_ms, count };
                (verdict, Fact::Leased { cursor, offset, lease })
            }
            _ => (Verdict::Accept, Fact::Settled { cursor, offset }),
        };
        self.settle_as(cursor, offset, verdict, fact);
    }

    fn count(&mut self) -> Count {
        match self.rng.below(5) {
            0 | 1 => Count::Keep,
            2 | 3 => Count::Add,
            _ => Count::Set(self.rng.below(3) as u32),
        }
    }

    fn released(&mut self, cursor: usize, offset: u64, lease: Lease) -> (Verdict, Fact) {
        let count = self.count();
        let keep = count == Count::Keep;
        let delay_ms = if keep || self.rng.permille(500) { 0 } else { self.rng.between(1, 500) };
        let due_ms = self.now_ms().saturating_add_unsigned(delay_ms);
        let attempts = match count {
            Count::Keep => lease.attempt.saturating_sub(1),
            Count::Add => lease.attempt,
            Count::Set(attempts) => attempts,
        };
        let fact = Fact::Released { cursor, offset, due_ms, attempts };
        (Verdict::Release { delay_ms, count }, fact)
    }

    fn settle_as(&mut self, cursor: usize, offset: u64, verdict: Verdict, fact: Fact) {
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
                if cursor == CURSOR_NARROW && verdict == Verdict::Reject && done.done.contains(Offset(offset))
                {
                    self.take_spilled(offset, seq.0);
                }
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
        if !done.done.contains(Offset(offset)) {
            if !lease.is_over(self.now_ms()) {
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
            let lease = self.model.now.cursors[cursor].leases.get(&offset);
            let attempts = lease.map_or(1, |lease| lease.attempt);
            let fact = Fact::Released { cursor, offset, due_ms, attempts };
            self.model.note(seq.0, fact);
        }
    }

    /// Everything that is ready can be had, now.
    fn take_whatever_is_ready(&mut self) {
        if !self.settle() {
            return;
        }
        let cursor = self.rng.index(CURSORS.len());
        let mut expected = self.ready(cursor);
        if CURSORS[cursor].0 == KEYED {
            // The first of each key, and none whose first is out or waits.
            let mut keys = std::collections::BTreeSet::new();
            let firsts: Vec<u64> = self
                .model
                .now
                .unsettled(cursor)
                .filter(|(_, rec)| keys.insert(rec.key))
                .map(|(offset, _)| offset)
                .collect();
            expected.retain(|offset, _| firsts.contains(offset));
        }
        let mut got = Vec::new();
        for _ in 0..10 {
            let (holder, allowance) = (HolderId(9), Allowance::records(1_000));
            let ask = LeaseAsk { holder, allowance, kind: LeaseKind::Recorded, time: LeaseTime::Ms(600_000) };
            let Some(granted) = self.grant(cursor, ask) else { return };
            if granted.given.is_empty() {
                break;
            }
            got.extend(granted.given);
        }
        let now_ms = self.now_ms();
        let Some(partition) = self.partition(CURSORS[cursor].0) else { return };
        let left = expected.iter().find(|(offset, rec)| {
            let is_got = got.iter().any(|(other, _)| other == *offset);
            !is_got && !rec.is_over(now_ms) && partition.has(Offset(**offset))
        });
        if let Some((offset, rec)) = left {
            self.broken(format!("cursor {cursor}: {offset} ({rec:?}) is ready, and nobody can have it"));
        }
        self.report.count("everything ready was taken");
        self.report.add_count("records that had to be there", expected.len() as u64);
        for (offset, _) in got {
            let Some(lease) = self.model.now.cursors[cursor].leases.get(&offset).copied() else { continue };
            let fact = Fact::Released {
                cursor,
                offset,
                due_ms: self.now_ms(),
                attempts: lease.attempt.saturating_sub(1),
            };
            self.settle_as(cursor, offset, Verdict::Release { delay_ms: 0, count: Count::Keep }, fact);
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

    /// Sets the cursor on the log to some offset: what lies below is done with, the rest was never delivered.
    fn seek(&mut self) {
        let Ok(Some((work, _))) = self.open_work(CURSOR_REPLAY) else { return };
        let Some(partition) = self.partition(EVENTS) else { return };
        let to = self.rng.below(partition.bounds().durable_end.0 + 1);
        if let Ok(seq) = work.seek(Offset(to)) {
            self.report.count("cursors set");
            self.model.note(seq.0, Fact::Sought { cursor: CURSOR_REPLAY, to });
            if self.rng.permille(500) {
                self.durable(seq.0);
            }
        }
    }

    /// Takes everything off a queue that is durable.
    fn purge(&mut self) {
        let (Some(broker), Some(partition)) = (self.broker.clone(), self.partition(NARROW)) else { return };
        let Ok(Some((work, _))) = self.open_work(CURSOR_NARROW) else { return };
        let end = partition.bounds().durable_end.0;
        match work.purge() {
            Ok(seq) => {
                self.report.count("purged");
                let gone: Vec<u64> = self.model.now.live(NARROW).map(|(offset, _)| offset).collect();
                for offset in gone.into_iter().filter(|offset| *offset < end) {
                    self.model.note(seq.0, Fact::Dropped { stream: NARROW, offset });
                }
            }
            Err(error) if broker.failure().is_none() && self.world.powered() => {
                self.broken(format!("a purge failed: {error}"));
            }
            Err(_) => {}
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

    fn let_time_pass(&mut self) {
        let ms = self.rng.between(1, 600);
        self.world.clock.advance_ns(ms * 1_000_000);
        for _ in 0..20 {
            self.world.turn();
        }
    }
}
