//! What a publish pushes out: records of a stream that is full, deflected ones, copies along routes.

use broker::{Append, Extent, Outcome, PublishUnit, RefusalReason, Replaces, partition_of_key};
use bytes::Bytes;
use model::{Kind, Namespace, Offset};

use super::{
    model::{Fact, Rec},
    people::{ROUTES, address},
    publish::{Expected, Plan},
    run::Run,
    streams::{
        EVENTS, NARROW, NARROW_MAX, RECENT, RECENT_KEY_MAX, RECENT_MAX, RING, RING_MAX, SCRATCH, SPILL,
        SPREAD, SPREAD_COUNT, STREAMS, TASKS,
    },
};

impl Run {
    /// What left the stream with an append, by its limits.
    pub fn follow_limits(&mut self, plan: &Plan, base: u64, seq: u64) {
        match plan.stream {
            RECENT => self.follow_recent(plan, base, seq),
            RING => self.follow_ring(plan.readable_end, seq),
            _ => {}
        }
    }

    /// A log that drops its oldest: exactly those go that its limits say.
    fn follow_recent(&mut self, plan: &Plan, base: u64, seq: u64) {
        let mut live: Vec<(u64, u8)> =
            self.model.now.live(RECENT).map(|(offset, rec)| (offset, rec.key)).collect();
        let before = live.clone();
        match plan.batch.replaces {
            Replaces::Nothing => {}
            Replaces::SameKey => {
                let key = plan.recs.first().map(|rec| rec.key);
                live.retain(|(offset, of)| *offset >= base || Some(*of) != key);
            }
            Replaces::Everything => live.retain(|(offset, _)| *offset >= base),
        }
        for key in 0..3 {
            let is_hit = plan.recs.iter().any(|rec| rec.key == key);
            while is_hit && live.iter().filter(|(_, of)| *of == key).count() as u64 > RECENT_KEY_MAX {
                let oldest = live.iter().position(|(_, of)| *of == key).unwrap_or(0);
                live.remove(oldest);
            }
        }
        while live.len() as u64 > RECENT_MAX {
            live.remove(0);
        }
        let Some(partition) = self.partition(RECENT) else { return };
        for entry in before {
            let is_kept = live.contains(&entry);
            if partition.has(Offset(entry.0)) != is_kept {
                let found = if is_kept { "is dropped" } else { "is there" };
                self.broken(format!("recent: {} {found}, against its limits", entry.0));
            }
            if !is_kept {
                self.report.count("oldest dropped from a log");
                self.model.note(seq, Fact::Dropped { stream: RECENT, offset: entry.0 });
            }
        }
    }

    /// A queue that drops its oldest: those that nobody has, the oldest first, and no more than it must.
    fn follow_ring(&mut self, readable_end: u64, seq: u64) {
        let Some(partition) = self.partition(RING) else { return };
        let live: Vec<(u64, Rec)> = self.model.now.live(RING).collect();
        let (total, excess) = (live.len() as u64, (live.len() as u64).saturating_sub(RING_MAX));
        let excess = excess.min(total.saturating_sub(1)) as usize;
        let leases = &self.model.now.cursors[super::streams::CURSOR_RING].leases;
        let offsets = || live.iter().map(|(offset, _)| *offset);
        let free: Vec<u64> = offsets().filter(|offset| !leases.contains_key(offset)).collect();
        let gone: Vec<u64> = offsets().filter(|offset| !partition.has(Offset(*offset))).collect();
        // A lease whose time is over, as a crash may leave one behind, is in the way until somebody notices.
        let now_ms = self.now_ms();
        let is_over = |offset: &u64| {
            leases.get(offset).is_some_and(|lease| lease.deadline_ms.is_some_and(|due_ms| due_ms <= now_ms))
        };
        let sure: Vec<u64> = gone.iter().copied().filter(|offset| !is_over(offset)).collect();
        let readable = free.iter().filter(|offset| **offset < readable_end).count();
        let is_right = gone.len() <= excess
            && gone.len() >= excess.min(readable)
            && free.get(..sure.len()) == Some(&sure[..]);
        if !is_right {
            self.broken(format!(
                "ring: {gone:?} were dropped, the oldest {excess} of {free:?} had to be, {readable} were readable"
            ));
        }
        for offset in gone {
            self.report.count("oldest dropped from a queue");
            self.model.note(seq, Fact::Dropped { stream: RING, offset });
        }
    }

    /// A full stream sent what was published to it elsewhere, in the same unit.
    pub fn take_deflected(&mut self, recs: &[Rec], seq: u64) {
        let base = self.end_of(SPILL).0.saturating_sub(recs.len() as u64);
        self.report.add_count("records deflected", recs.len() as u64);
        if base < self.model.used[SPILL] || self.model.now.records[SPILL].contains_key(&base) {
            self.broken(format!("spill: offset {base} was given out before, or nothing was deflected"));
        }
        for (offset, rec) in (base..).zip(recs) {
            let rec = Rec { seq, expiry_ms: None, expires_ms: None, deliver_at_ms: None, ..*rec };
            self.model.note(seq, Fact::Appended { stream: SPILL, offset, rec });
        }
    }

    /// What was rejected of the stream went there too. A dead letter lasts, also one of a record in memory.
    pub fn take_spilled(&mut self, offset: u64, seq: u64) {
        if let Some(rec) = self.model.now.records[NARROW].get(&offset).copied() {
            self.take_deflected(&[Rec { volatile: false, ..rec }], seq);
        }
    }

    /// To an address: to a stream, and along the routes that people added, in one unit.
    pub fn publish_routed(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        let main = self.rng.pick(&[TASKS, EVENTS, SCRATCH]);
        let (Some(mut plan), number) = (self.plan(main), self.rng.index(ROUTES.len())) else { return };
        let targets = broker.routed(&Namespace::default(), "neutral", &address(number));
        let known = self.named.get(&format!("route:{}", address(number))).copied();
        if known.is_some_and(|is_there| is_there == targets.is_empty()) {
            return self.broken(format!(
                "{} routes from {}, there: {known:?}",
                targets.len(),
                address(number)
            ));
        }
        let Some(own) = broker.stream(&super::streams::key(main)) else { return };
        let onward = match broker.onward(&targets, &plan.batch, &[own]) {
            Ok(onward) => onward,
            Err(error) => return self.broken(format!("a publish does not follow its routes: {error}")),
        };
        let copies = if targets.is_empty() { Vec::new() } else { self.copies(&plan, number) };
        let is_full = self.model.now.live(NARROW).count() as u64 + plan.recs.len() as u64 > NARROW_MAX;
        let is_stopped = plan.expected == Expected::Appended
            && is_full
            && copies.iter().any(|(stream, ..)| *stream == NARROW);
        if is_stopped {
            plan.expected = Expected::Refused(RefusalReason::Full);
        }
        let Some(partition) = self.partition(main) else { return };
        let append = Append::new(&partition, plan.batch.clone());
        let mut unit = PublishUnit { extent: Extent::Each, ..PublishUnit::of(vec![append]) };
        onward.follow(0, &mut unit);
        let published = match broker.publish(unit) {
            Ok(published) => published,
            Err(error) => return self.not_taken(&error),
        };
        let Some(outcome) = published.outcomes.first() else { return };
        self.take_outcome(&plan, outcome, published.wait.0);
        if is_stopped {
            self.report.count("publishes stopped by a further target");
            self.take_deflected(&plan.recs, published.wait.0);
        }
        if matches!(outcome, Outcome::Appended { .. }) {
            self.take_copies(&copies, published.wait.0);
        }
        if self.rng.permille(250) {
            self.durable(published.wait.0);
        }
    }

    /// Where the copies of a publish must go by the route with that number: stream, offset and record.
    fn copies(&self, plan: &Plan, number: usize) -> Vec<(usize, u64, Rec)> {
        let (target, template) = ROUTES[number];
        let mut copies = Vec::new();
        if target == plan.stream {
            return copies;
        }
        let mut ends = [0; STREAMS.len()];
        for (stream, end) in ends.iter_mut().enumerate() {
            *end = self.end_of(stream).0;
        }
        for rec in &plan.recs {
            let key = template.map_or(Bytes::from(vec![rec.key]), |_| address(number).into());
            let stream = match target {
                SPREAD => SPREAD + partition_of_key(&key, SPREAD_COUNT) as usize,
                other => other,
            };
            // What a queue keeps in memory alone, a log stores as it stores everything.
            let volatile = rec.volatile && super::streams::key(stream).kind == Kind::Queue;
            copies.push((stream, ends[stream], Rec { expires_ms: None, volatile, ..*rec }));
            ends[stream] += 1;
        }
        copies
    }

    fn take_copies(&mut self, copies: &[(usize, u64, Rec)], seq: u64) {
        self.report.add_count("records along routes", copies.len() as u64);
        for (stream, offset, rec) in copies {
            let Some(partition) = self.partition(*stream) else { return };
            if !partition.has(Offset(*offset)) {
                self.broken(format!("stream {stream}: {offset} is not there, where a route leads"));
            }
            self.model
                .note(seq, Fact::Appended { stream: *stream, offset: *offset, rec: Rec { seq, ..*rec } });
        }
    }
}
