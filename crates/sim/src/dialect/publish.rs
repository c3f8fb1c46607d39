//! Publishing: what is asked for, what must come of it, and what came of it.

use broker::{
    Append, Conditions, Extent, NewBatch, Outcome, PublishUnit, RefusalReason, Replaces, Settlement, Verdict,
    plain::PLAIN,
};
use bytes::Bytes;
use model::{Attributes, Error, Format, FormatTag, Offset, ProducerStamp, Record, RecordAttributes};

use super::{
    model::{Fact, Produced, Rec},
    run::Run,
    streams::{
        EVENTS, FLEETING, FLEETING_TTL_MS, FOREIGN, HOSE, INTEREST, JOBS, KEYED, LATER, LEVELS, MIRROR,
        NARROW, RECENT, RING, SCRATCH, TASKS, refuses_above,
    },
};

/// What must come of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    Appended,
    Duplicate(u64),
    Refused(RefusalReason),
}

/// An append that is about to be made.
pub(super) struct Plan {
    pub stream: usize,
    pub recs: Vec<Rec>,
    pub batch: NewBatch,
    pub conditions: Conditions,
    pub expected: Expected,
    /// What follows when it is appended.
    then: Vec<fn(&Plan, u64) -> Fact>,
    tag: u8,
    /// Up to where records were readable before.
    pub readable_end: u64,
}

/// Streams that anything may be published to.
const TARGETS: [usize; 14] = [
    JOBS, KEYED, LEVELS, TASKS, EVENTS, SCRATCH, INTEREST, RECENT, RING, NARROW, FLEETING, LATER, HOSE,
    FOREIGN,
];

/// A tag that nobody registered.
const UNKNOWN: FormatTag = FormatTag(77);

pub(super) fn laid_out(stream: usize, recs: &[Rec]) -> Result<NewBatch, Error> {
    let count = u32::try_from(recs.len()).unwrap_or(0);
    if stream == FOREIGN {
        let text: Vec<String> = recs.iter().map(|rec| rec.id.to_string()).collect();
        return Ok(NewBatch { count, format: UNKNOWN, body: text.join(",").into(), ..NewBatch::default() });
    }
    let body = |rec: &Rec| Record { body: Some(rec.id.to_string().into()), ..Record::default() };
    let records: Vec<Record> = recs.iter().map(body).collect();
    Ok(NewBatch {
        count,
        format: PLAIN,
        attributes: Attributes::Rows(recs.iter().map(row_of).collect()),
        body: broker::plain::Plain.write(&records)?,
        durability: recs.first().filter(|rec| rec.volatile).map(|_| broker::Durability::Memory),
        ..NewBatch::default()
    })
}

/// The attributes of a record as it is published.
pub(super) fn row_of(rec: &Rec) -> RecordAttributes {
    RecordAttributes {
        ordering_key: Some(vec![rec.key].into()),
        record_key: Some(vec![rec.key].into()),
        route_key: Some(route_key(rec.key)),
        priority: Some(rec.level),
        expiry_ms: rec.expiry_ms,
        deliver_at_ms: rec.deliver_at_ms,
        body_len: u32::try_from(rec.len()).ok(),
        ..RecordAttributes::default()
    }
}

pub(super) fn route_key(key: u8) -> Bytes {
    format!("{key}.x").into()
}

impl Run {
    pub(super) fn plan(&mut self, stream: usize) -> Option<Plan> {
        let count = if stream == INTEREST { 1 } else { self.rng.between(1, 4) };
        let volatile = matches!(stream, JOBS | KEYED | TASKS) && self.rng.permille(200);
        let mut recs = Vec::new();
        for _ in 0..count {
            let (key, level) = (self.rng.below(3) as u8, self.rng.below(4) as u8);
            let expiry_ms = self.time_within(if stream == FLEETING { 500 } else { 0 });
            let is_timed = [(LATER, 600), (EVENTS, 80)].into_iter().find(|(of, _)| *of == stream);
            let deliver_at_ms = self.time_within(is_timed.map_or(0, |(_, permille)| permille));
            let (id, seq, expires_ms) = (self.next_id, 0, None);
            recs.push(Rec { id, seq, volatile, key, level, expiry_ms, expires_ms, deliver_at_ms });
            self.next_id += 1;
        }
        let mut batch = match laid_out(stream, &recs) {
            Ok(batch) => batch,
            Err(error) => {
                self.broken(format!("a batch cannot be laid out: {error}"));
                return None;
            }
        };
        if stream == RECENT {
            batch.replaces = match self.rng.below(20) {
                0 => Replaces::Everything,
                1 | 2 => Replaces::SameKey,
                _ => Replaces::Nothing,
            };
        }
        let is_full =
            refuses_above(stream).is_some_and(|max| self.model.now.live(stream).count() as u64 + count > max);
        let expected = if is_full { Expected::Refused(RefusalReason::Full) } else { Expected::Appended };
        let readable_end = self.partition(stream)?.bounds().stable_end.0;
        let (conditions, then, tag) = (Conditions::default(), Vec::new(), 0);
        Some(Plan { stream, recs, batch, conditions, expected, then, tag, readable_end })
    }

    /// A time soon, so many times in a thousand.
    fn time_within(&mut self, permille: u32) -> Option<i64> {
        self.rng.permille(permille).then(|| self.now_ms() + self.rng.between(1, 3_000) as i64)
    }

    pub(super) fn end_of(&self, stream: usize) -> Offset {
        self.partition(stream).map_or(Offset::ZERO, |partition| partition.bounds().end)
    }

    /// One batch to one stream.
    pub fn publish_one(&mut self) {
        let stream = self.rng.pick(&TARGETS);
        self.publish_to(stream);
    }

    /// One batch to this stream.
    pub fn publish_to(&mut self, stream: usize) {
        if let Some(plan) = self.plan(stream) {
            self.submit(vec![plan], Extent::Each, None);
        }
    }

    /// Several appends at one end, of which one may win.
    pub fn publish_racing(&mut self) {
        let by_key = self.rng.permille(500);
        let stream = if by_key { EVENTS } else { self.rng.pick(&[EVENTS, TASKS, LEVELS]) };
        let end = self.end_of(stream);
        let mut plans = Vec::new();
        for _ in 0..3 {
            let Some(mut plan) = self.plan(stream) else { return };
            plan.recs.truncate(1);
            let Ok(batch) = laid_out(plan.stream, &plan.recs) else { return };
            plan.batch = batch;
            let (first, key) = (plans.is_empty(), self.rng.below(3) as u8);
            let key = plans.first().map_or(key, |plan: &Plan| plan.tag);
            plan.tag = key;
            if by_key {
                plan.recs.iter_mut().for_each(|rec| rec.key = key);
                let Ok(batch) = laid_out(plan.stream, &plan.recs) else { return };
                plan.batch = batch;
                let last = self.model.now.key_last.get(&key).copied().map(Offset);
                plan.conditions.expected_key_last = Some((route_key(key), last));
            } else {
                plan.conditions.expected_end = Some(end);
            }
            if !first {
                plan.expected = Expected::Refused(RefusalReason::ConditionFailed);
            }
            plans.push(plan);
        }
        self.note("conditional appends raced");
        // Each in a unit of its own, staged one after another with nothing durable in between.
        for plan in plans {
            self.submit(vec![plan], Extent::Each, None);
        }
    }

    /// A producer that goes on, says something twice, or skips something.
    pub fn publish_in_sequence(&mut self) {
        let Some(mut plan) = self.plan(EVENTS) else { return };
        plan.recs.truncate(1);
        let Ok(batch) = laid_out(plan.stream, &plan.recs) else { return };
        plan.batch = batch;
        plan.tag = self.rng.below(3) as u8;
        let last = self.model.now.producers.get(&plan.tag).copied();
        let next = last.map_or(0, |last| last.sequence + 1);
        let sequence = match (last, self.rng.below(4)) {
            (Some(last), 0) => {
                plan.expected = Expected::Duplicate(last.base);
                self.note("sequences said twice");
                last.sequence
            }
            (Some(_), 1) => {
                plan.expected = Expected::Refused(RefusalReason::SequenceGap);
                next + 5
            }
            _ => next,
        };
        plan.batch.producer =
            Some(ProducerStamp { id: i64::from(plan.tag) + 1, epoch: 0, first_sequence: sequence });
        plan.then.push(|plan, base| {
            let sequence = plan.batch.producer.map_or(0, |stamp| stamp.first_sequence);
            Fact::Produced { producer: plan.tag, last: Produced { sequence, base } }
        });
        self.submit(vec![plan], Extent::Each, None);
    }

    /// A key that may have been there before.
    pub fn publish_deduplicated(&mut self) {
        let Some(mut plan) = self.plan(EVENTS) else { return };
        plan.tag = self.rng.below(100) as u8;
        plan.conditions.dedup_key = Some(Bytes::from(vec![plan.tag]));
        if let Some(base) = self.model.now.dedup.get(&plan.tag) {
            plan.expected = Expected::Duplicate(*base);
        }
        plan.then.push(|plan, base| Fact::Dedup { key: plan.tag, base });
        self.submit(vec![plan], Extent::Each, None);
    }

    /// At an offset of its own choosing, as a mirror does.
    pub fn publish_placed(&mut self) {
        let Some(mut plan) = self.plan(MIRROR) else { return };
        let end = self.end_of(MIRROR);
        let at = if end.0 > 0 && self.rng.permille(200) {
            plan.expected = Expected::Refused(RefusalReason::Invalid);
            Offset(end.0 - 1)
        } else {
            end.plus(self.rng.below(5))
        };
        plan.conditions.placed_at = Some((at, self.now_ms()));
        self.submit(vec![plan], Extent::Each, None);
    }

    /// To several streams at once, now and then with something that speaks against one of them, and with a settlement.
    pub fn publish_fan_out(&mut self) {
        let extent = if self.rng.permille(600) { Extent::All } else { Extent::Each };
        let from = self.rng.index(TARGETS.len());
        let mut plans = Vec::new();
        for at in 0..self.rng.between(2, 4) as usize {
            let Some(mut plan) = self.plan(TARGETS[(from + at) % TARGETS.len()]) else { return };
            if self.rng.permille(150) && plan.expected == Expected::Appended {
                plan.conditions.expected_end = Some(self.end_of(plan.stream).plus(1));
                plan.expected = Expected::Refused(RefusalReason::ConditionFailed);
            }
            plans.push(plan);
        }
        let cursor = self.rng.index(5);
        let settled = self.held(cursor).map(|(offset, _)| (cursor, offset));
        self.note("fan-out units");
        self.submit(plans, extent, settled);
    }

    fn submit(&mut self, plans: Vec<Plan>, extent: Extent, settled: Option<(usize, u64)>) {
        let Some(broker) = self.broker.clone() else { return };
        let mut unit = PublishUnit { extent, ..PublishUnit::default() };
        for plan in &plans {
            let Some(partition) = self.partition(plan.stream) else { return };
            let (batch, conditions) = (plan.batch.clone(), plan.conditions.clone());
            unit.appends.push(Append { partition, batch, conditions });
        }
        if let Some((cursor, offset)) = settled
            && let Some(settlement) = self.settlement(cursor, offset, Verdict::Accept)
        {
            unit.settlements.push(settlement);
        }
        let settlements: Vec<Settlement> = unit.settlements.clone();
        let published = match broker.publish(unit) {
            Ok(published) => published,
            Err(error) => return self.not_taken(&error),
        };
        let seq = published.wait.0;
        let is_refused =
            extent == Extent::All && plans.iter().any(|plan| matches!(plan.expected, Expected::Refused(_)));
        if is_refused {
            self.note("units refused whole");
            let none = published.outcomes.iter().all(|outcome| matches!(outcome, Outcome::Refused(_)));
            if !none || !published.settled.is_empty() {
                self.broken(format!(
                    "a unit that is all or nothing was made in part: {:?}",
                    published.outcomes
                ));
            }
            return;
        }
        for (plan, outcome) in plans.iter().zip(&published.outcomes) {
            self.take_outcome(plan, outcome, seq);
        }
        if let (Some((cursor, offset)), Some(done), false) =
            (settled, published.settled.first(), settlements.is_empty())
        {
            self.report.count("settlements in a unit");
            self.take_settled(cursor, offset, done, seq, Fact::Settled { cursor, offset });
        }
        if self.rng.permille(250) {
            self.durable(seq);
        }
    }

    pub(super) fn not_taken(&mut self, error: &Error) {
        self.report.count("publishes not taken");
        let is_slowed = error.kind() == model::ErrorKind::Throttled;
        let is_well = self.broker.as_ref().is_some_and(|broker| broker.failure().is_none());
        if !is_slowed && is_well && self.world.powered() {
            self.broken(format!("a publish was not taken: {error}"));
        }
    }

    /// Whether it came out as expected, and what follows.
    pub(super) fn take_outcome(&mut self, plan: &Plan, outcome: &Outcome, seq: u64) {
        match (plan.expected, outcome) {
            (Expected::Appended, Outcome::Appended { base, append_time_ms }) => {
                self.report.add_count("records published", plan.recs.len() as u64);
                if base.0 < self.model.used[plan.stream]
                    || self.model.now.records[plan.stream].contains_key(&base.0)
                {
                    self.broken(format!("stream {}: offset {base} was given out before", plan.stream));
                }
                let is_kept = plan.stream != INTEREST || plan.recs.iter().any(|rec| rec.key < 2);
                let ttl_ms = (plan.stream == FLEETING)
                    .then(|| append_time_ms.saturating_add_unsigned(FLEETING_TTL_MS));
                for (offset, rec) in (base.0..).zip(&plan.recs).filter(|_| is_kept) {
                    let expires_ms = rec.expiry_ms.into_iter().chain(ttl_ms).min();
                    let rec = Rec { seq, expires_ms, ..*rec };
                    self.model.note(seq, Fact::Appended { stream: plan.stream, offset, rec });
                }
                plan.then.iter().for_each(|then| self.model.note(seq, then(plan, base.0)));
                self.follow_limits(plan, base.0, seq);
            }
            (Expected::Duplicate(first), Outcome::Duplicate { base, .. }) if base.0 == first => {
                self.report.count("duplicates");
            }
            (Expected::Refused(reason), Outcome::Refused(refusal)) if refusal.reason == reason => {
                self.report.count("appends refused");
                if plan.stream == NARROW && reason == RefusalReason::Full {
                    self.take_deflected(&plan.recs, seq);
                }
            }
            (expected, found) => {
                self.broken(format!("stream {}: {found:?} instead of {expected:?}", plan.stream))
            }
        }
    }
}
