//! Publishing: conditions checked and offsets assigned in one short critical section per partition.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use model::{Attributes, Error, RecordAttributes, Result, Seq, limits};
use route::Pattern;
use store::{Class, Durability, LockedLog};

use super::{
    Broker,
    conditions::check,
    overflow::{drop_the_wrong_one, keys_to_thin, make_room, make_room_of_keys, replace},
};
use crate::{
    faults::Fault,
    log_state::{
        LogState,
        dedup::{Dedup, DedupKey},
        first_expiry_ms, may_wait,
        surplus::counted_rows,
    },
    publish::{
        Append, Conditions, Extent, Follower, NewBatch, Outcome, PublishUnit, Published, Refusal,
        RefusalReason, Replaces,
    },
    routing::Live,
    settings::{DeadLetter, Mode},
    stream::Partition,
    tenant::TenantCounters,
    work::{Settled, Settlement, check_open, room_of, settle_one},
};

/// Bytes that the route keys of one batch may take, which lie beside its bytes and are not packed: those of a large batch of
/// short records.
const ROUTE_KEYS_LEN_MAX: usize = 16 << 20;

/// What a batch takes in the queue beside its body, bytes: header and attributes without their texts.
const BATCH_OVERHEAD_LEN: usize = 64;

/// A unit, taken apart so that its logs can stay locked while the batches are given away. Appends come first, then the
/// followers in the order of what they follow.
struct Parts {
    partitions: Vec<Arc<Partition>>,
    /// How many of them are appends.
    append_count: usize,
    /// For each follower, which append it goes with; ascending.
    follows: Vec<usize>,
    /// Where refused batches of full partitions go, by index; few units have any.
    deflections: Vec<(usize, Arc<Partition>, DeadLetter)>,
    /// Lengths of the longest records, by index, where that is limited and the batch does not say; or what speaks against
    /// the records themselves.
    longest: Vec<(usize, Result<u32>)>,
}

type Batches = Vec<(NewBatch, Conditions)>;

impl Parts {
    fn followers_of(&self, append: usize) -> Range<usize> {
        let from = self.follows.partition_point(|of| *of < append);
        let to = self.follows.partition_point(|of| *of <= append);
        self.append_count + from..self.append_count + to
    }

    fn longest_of(&self, index: usize) -> Option<&Result<u32>> {
        self.longest.iter().find(|(at, _)| *at == index).map(|(_, longest)| longest)
    }

    /// What speaks against one of them, in the state as staged.
    fn against(
        &self,
        index: usize,
        batches: &[(NewBatch, Conditions)],
        locked: &mut Locked<'_>,
        rests_on: &mut Seq,
    ) -> Result<Option<Outcome>> {
        let now_ms = locked.now_ms();
        let (Some(partition), Some((batch, conditions))) = (self.partitions.get(index), batches.get(index))
        else {
            return Ok(None);
        };
        let mut log = locked.log(partition.log_id())?;
        let (core, state) = log.parts();
        *rests_on = (*rests_on).max(core.applied());
        Ok(check(core, state, batch, conditions, self.longest_of(index), now_ms).err())
    }
}

impl Broker {
    /// Checks conditions, assigns offsets and stages, all in one short critical section per partition. The outcomes are
    /// known at once; pass [`Published::wait`] to [`Broker::durable`] before answering.
    ///
    /// [`model::ErrorKind::Throttled`] when the queue to the disk is full (await [`Broker::room`], or slow the
    /// client down), [`model::ErrorKind::Unavailable`] when the disk is, [`model::ErrorKind::Indeterminate`] once a write
    /// failed, [`model::ErrorKind::Closed`] when a cursor that is settled on is gone. Nothing happened then.
    pub fn publish(&self, unit: PublishUnit) -> Result<Published> {
        let PublishUnit { appends, followers, live, settlements, extent } = unit;
        let append_count = appends.len();
        let (appends, follows) = in_order(appends, followers)?;
        if appends.is_empty() && settlements.is_empty() {
            // Nothing to store: who is served on the spot is all that there is.
            live.iter().filter(|live| live.of.is_none()).for_each(Live::serve);
            return Ok(Published::default());
        }
        let len: usize = appends.iter().map(|append| append.batch.body.len() + BATCH_OVERHEAD_LEN).sum();
        let permit = self.store().reserve(len + room_of(&settlements), Class::Publish)?;
        if appends.iter().any(is_volatile) {
            self.store().reserve_volatile(len)?;
        }
        let (parts, mut batches) = self.take_apart(appends, append_count, follows);
        let logs: Vec<_> = parts
            .partitions
            .iter()
            .chain(parts.deflections.iter().map(|(_, target, _)| target))
            .chain(settlements.iter().map(|settlement| settlement.work.partition()))
            .map(|partition| partition.log())
            .collect();
        let mut locked = self.store().lock(&logs);
        for settlement in &settlements {
            check_open(&mut locked.log(settlement.work.partition().log_id())?, settlement)?;
        }
        let mut rests_on = Seq(0);
        if extent == Extent::All
            && !self.options().faults.has(Fault::UnitInParts)
            && let Some(outcomes) = refuse_all(&parts, &batches, &mut locked, &mut rests_on)?
        {
            return Ok(Published { outcomes, settled: Vec::new(), wait: rests_on });
        }
        let mut outcomes = Vec::with_capacity(append_count);
        let mut due = Vec::new();
        for at in 0..append_count {
            let applied =
                self.apply_with_followers(at, &parts, &mut batches, &mut locked, &mut rests_on, &mut due);
            outcomes.push(applied?);
        }
        let settled = if self.options().faults.has(Fault::SettlementDropped) {
            let claimed = |one: &Settlement| Settled { done: one.spans.clone(), ..Settled::default() };
            settlements.iter().map(claimed).collect()
        } else {
            settle_all(&mut locked, &settlements)?
        };
        let wait = self.store().commit(permit, locked).max(rests_on);
        due.into_iter()
            .filter_map(|at| parts.partitions.get(at))
            .for_each(|partition| self.schedule(partition));
        settlements.iter().for_each(|settlement| self.schedule(settlement.work.partition()));
        let is_stored = |of: usize| matches!(outcomes.get(of), Some(Outcome::Appended { .. }));
        live.iter().filter(|live| live.of.is_none_or(is_stored)).for_each(Live::serve);
        Ok(Published { outcomes, settled, wait })
    }

    fn take_apart(
        &self,
        mut appends: Vec<Append>,
        append_count: usize,
        follows: Vec<usize>,
    ) -> (Parts, Batches) {
        let (mut deflections, mut longest) = (Vec::new(), Vec::new());
        for (at, append) in appends.iter_mut().enumerate() {
            if let Some(patterns) = append.partition.entry_keys()
                && let Err(error) = self.give_route_keys(&mut append.batch, &patterns)
            {
                longest.push((at, Err(error)));
            }
            if append.partition.deflects()
                && let Some((target, dead_letter)) = self.dead_letters_of(&append.partition)
            {
                deflections.push((at, target, dead_letter));
            }
            let is_measured = append.batch.longest_len.is_some()
                || append.batch.attributes.of(0).is_some_and(|row| row.body_len.is_some());
            if append.partition.measures() && !is_measured {
                longest.push((at, self.longest_record(&append.batch)));
            }
        }
        let (partitions, batches) =
            appends.into_iter().map(|append| (append.partition, (append.batch, append.conditions))).unzip();
        (Parts { partitions, append_count, follows, deflections, longest }, batches)
    }

    /// Makes the record keys of a batch whose dialect has no route keys those. [`model::ErrorKind::Invalid`] where one is
    /// missing, or none of `patterns` matches it.
    fn give_route_keys(&self, batch: &mut NewBatch, patterns: &[Pattern]) -> Result<()> {
        let has_key = |index| batch.attributes.of(index).is_some_and(|row| row.route_key.is_some());
        // Of more records none is stored.
        if batch.flags.control || batch.count > limits::BATCH_RECORDS_MAX || (0..batch.count).all(has_key) {
            return Ok(());
        }
        let stored = batch.as_stored();
        let mut rows = vec![RecordAttributes::default(); batch.count as usize];
        let mut keys_left = ROUTE_KEYS_LEN_MAX.max(batch.body.len());
        self.formats().of(batch.format)?.attributes(&stored, &mut |index, derived| {
            let own_key = derived.record_key.clone();
            let mut row = batch.attributes.of(index).cloned().unwrap_or(derived);
            row.record_key = row.record_key.or(own_key);
            let key = row.route_key.take().or_else(|| row.record_key.clone()).unwrap_or_default();
            if !is_address(&key) || !patterns.iter().any(|pattern| pattern.matches(&key)) {
                return Err(Error::invalid("the key of a record is none that the stream takes"));
            }
            let left = keys_left.checked_sub(key.len());
            keys_left =
                left.ok_or_else(|| Error::invalid("the keys of the records are too long together"))?;
            row.route_key = Some(key);
            if let Some(place) = rows.get_mut(index as usize) {
                *place = row;
            }
            Ok(())
        })?;
        batch.attributes = Attributes::Rows(rows.into());
        Ok(())
    }

    /// Length of the longest record of a batch whose dialect did not say, bytes.
    pub(crate) fn longest_record(&self, batch: &NewBatch) -> Result<u32> {
        let mut longest = 0;
        self.formats().of(batch.format)?.outlines(&batch.as_stored(), &mut |_, row| {
            longest = longest.max(row.body_len.unwrap_or(0));
            Ok(())
        })?;
        Ok(longest)
    }

    /// Appends one of the unit and its followers, or none of them.
    fn apply_with_followers(
        &self,
        at: usize,
        parts: &Parts,
        batches: &mut [(NewBatch, Conditions)],
        locked: &mut Locked<'_>,
        rests_on: &mut Seq,
        due: &mut Vec<usize>,
    ) -> Result<Outcome> {
        let followers = parts.followers_of(at);
        if !followers.is_empty() && parts.against(at, batches, locked, rests_on)?.is_none() {
            for follower in followers.clone() {
                if let Some(refused @ Outcome::Refused(_)) =
                    parts.against(follower, batches, locked, rests_on)?
                {
                    // It says what speaks against it, and deflects what it is too full for.
                    self.apply_at(follower, parts, batches, locked, rests_on, due)?;
                    return Ok(refused);
                }
            }
        }
        let outcome = self.apply_at(at, parts, batches, locked, rests_on, due)?;
        if matches!(outcome, Outcome::Appended { .. }) && !self.options().faults.has(Fault::FollowerLost) {
            for follower in followers {
                self.apply_at(follower, parts, batches, locked, rests_on, due)?;
            }
        }
        Ok(outcome)
    }

    /// Appends one of the unit, unless something speaks against it.
    fn apply_at(
        &self,
        at: usize,
        parts: &Parts,
        batches: &mut [(NewBatch, Conditions)],
        locked: &mut Locked<'_>,
        rests_on: &mut Seq,
        due: &mut Vec<usize>,
    ) -> Result<Outcome> {
        let missing = || Error::internal("a unit lost one of its parts");
        let partition = parts.partitions.get(at).ok_or_else(missing)?;
        let (batch, conditions) = batches.get_mut(at).map(std::mem::take).ok_or_else(missing)?;
        let longest = parts.longest_of(at);
        let mut log = locked.log(partition.log_id())?;
        let due_before = log.attached().own_due_ms();
        let deflection = parts.deflections.iter().find(|(index, ..)| *index == at);
        let copy = deflection.map(|(_, target, dead_letter)| (target, deflected(&batch, dead_letter)));
        let outcome = self.apply(partition.tenant(), &mut log, batch, conditions, longest, rests_on);
        if log.attached().own_due_ms() != due_before {
            due.push(at);
        }
        if let (Some((target, copy)), Outcome::Refused(Refusal { reason: RefusalReason::Full, .. })) =
            (copy, &outcome)
            && !self.options().faults.has(Fault::DeflectionLost)
        {
            append(&mut locked.log(target.log_id())?, copy, Conditions::default());
        }
        Ok(outcome)
    }
}

/// The appends with the followers behind them, and what each of those follows, ascending.
fn in_order(mut appends: Vec<Append>, mut followers: Vec<Follower>) -> Result<(Vec<Append>, Vec<usize>)> {
    if followers.iter().any(|follower| follower.of >= appends.len()) {
        return Err(Error::invalid("a follower of no append"));
    }
    followers.sort_by_key(|follower| follower.of);
    let follows = followers.iter().map(|follower| follower.of).collect();
    appends.extend(followers.into_iter().map(|follower| follower.append));
    Ok((appends, follows))
}

fn is_volatile(append: &Append) -> bool {
    match append.batch.durability {
        Some(durability) => durability == Durability::Memory,
        None => append.partition.is_volatile(),
    }
}

/// The batch as it goes to the dead letters of a full stream, where it is not to expire or wait as it was to here.
fn deflected(batch: &NewBatch, dead_letter: &DeadLetter) -> NewBatch {
    let mut copy = NewBatch { producer: None, replaces: Replaces::Nothing, ..batch.clone() };
    let route_key = dead_letter.route_key.as_deref().map(|key| Bytes::copy_from_slice(key.as_bytes()));
    if copy.attributes == Attributes::None && route_key.is_some() {
        copy.attributes = Attributes::Same(Box::default());
    }
    for row in copy.attributes.rows_mut() {
        (row.expiry_ms, row.deliver_at_ms) = (None, None);
        row.route_key = route_key.clone().or_else(|| row.route_key.take());
    }
    copy
}

/// Has records delivered before the time that they name: a mistake.
fn hurry(attributes: &mut Attributes) {
    for row in attributes.rows_mut() {
        row.deliver_at_ms = row.deliver_at_ms.map(|at_ms| at_ms - 700);
    }
}

fn settle_all(locked: &mut Locked<'_>, settlements: &[Settlement]) -> Result<Vec<Settled>> {
    let now_ms = locked.now_ms();
    let settle = |settlement: &Settlement| {
        settle_one(&mut locked.log(settlement.work.partition().log_id())?, settlement, now_ms)
    };
    settlements.iter().map(settle).collect()
}

type Locked<'a> = store::Locked<'a, LogState>;

/// The outcomes of a unit that is not appended at all because one of its appends is refused; `None` when none is.
fn refuse_all(
    parts: &Parts,
    batches: &[(NewBatch, Conditions)],
    locked: &mut Locked<'_>,
    rests_on: &mut Seq,
) -> Result<Option<Vec<Outcome>>> {
    let mut found = Vec::with_capacity(parts.append_count);
    for at in 0..parts.append_count {
        let mut outcome = parts.against(at, batches, locked, rests_on)?;
        for follower in parts.followers_of(at) {
            if outcome.is_none()
                && let Some(refused @ Outcome::Refused(_)) =
                    parts.against(follower, batches, locked, rests_on)?
            {
                outcome = Some(refused);
            }
        }
        found.push(outcome);
    }
    if !found.iter().any(|outcome| matches!(outcome, Some(Outcome::Refused(_)))) {
        return Ok(None);
    }
    let others = || {
        let error = Error::conflict("another append of the unit was refused");
        Outcome::Refused(Refusal { reason: RefusalReason::OthersRefused, error })
    };
    Ok(Some(found.into_iter().map(|outcome| outcome.unwrap_or_else(others)).collect()))
}

impl Broker {
    /// Appends to one log, unless something speaks against it.
    fn apply(
        &self,
        tenant: &TenantCounters,
        log: &mut LockedLog<'_, LogState>,
        mut batch: NewBatch,
        conditions: Conditions,
        longest: Option<&Result<u32>>,
        rests_on: &mut Seq,
    ) -> Outcome {
        let counters = &self.inner.counters;
        let now_ms = log.now_ms();
        let (core, state) = log.parts();
        if let Err(outcome) = check(core, state, &batch, &conditions, longest, now_ms) {
            *rests_on = (*rests_on).max(core.applied());
            match &outcome {
                Outcome::Duplicate { .. } => counters.duplicates.add(1),
                _ => counters.refused.add(1),
            }
            return outcome;
        }
        counters.appended_batches.add(1);
        counters.appended_records.add(u64::from(batch.count));
        counters.appended_bytes.add(batch.body.len() as u64);
        tenant.appended_records.add(u64::from(batch.count));
        tenant.appended_bytes.add(batch.body.len() as u64);
        if self.options().faults.has(Fault::DeliveredEarly) {
            hurry(&mut batch.attributes);
        }
        if self.options().faults.has(Fault::WrongOneDropped) {
            drop_the_wrong_one(log, &batch);
        }
        append(log, batch, conditions)
    }
}

/// Whether a record key reads as dot-separated tokens: none is empty, and no byte is a blank.
fn is_address(key: &[u8]) -> bool {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || byte.is_ascii_control();
    route::tokens(key).all(|token| !token.is_empty()) && !key.iter().any(is_blank)
}

/// Appends what was checked, and does what follows from it.
pub(crate) fn append(
    log: &mut LockedLog<'_, LogState>,
    mut batch: NewBatch,
    conditions: Conditions,
) -> Outcome {
    let (producer, count, epoch) = (batch.producer, batch.count, log.core().epoch());
    let expiry_ms = first_expiry_ms(&batch.attributes);
    if interests_nobody(log.attached(), &batch) {
        let base = log.core().end();
        log.advance(base.plus(u64::from(count)));
        return Outcome::Appended { base, append_time_ms: log.now_ms() };
    }
    let base = conditions.placed_at.map_or(log.core().end(), |(offset, _)| offset);
    let is_volatile = batch.durability.unwrap_or(log.core().durability()) == Durability::Memory;
    if let Some(route_keys) = &mut log.attached().route_keys {
        route_keys.note(base, count, &batch.attributes, is_volatile);
    }
    let placed = base.max(log.core().end());
    log.attached().tell_appended(placed, count, &batch.attributes);
    let replaces = batch.replaces;
    let keys = keys_to_thin(log.attached(), &batch);
    let due = may_wait(&batch.attributes).then(|| batch.attributes.clone());
    let expires = log.attached().settings.as_ref().is_some_and(|settings| settings.expires_records);
    let expiring = (expiry_ms.is_some() && expires).then(|| batch.attributes.clone());
    let weighing = Weighing::of(log, &mut batch, is_volatile);
    let appended = match conditions.placed_at {
        Some((offset, time_ms)) => log.append_at(offset, time_ms, batch.into()),
        None => log.append(batch.into()),
    };
    let store::Appended { base, append_time_ms } = appended;
    if let Some(weighing) = weighing {
        weighing.end(log);
    }
    let state = log.attached();
    state.note_epoch(epoch, base);
    if let Some(stamp) = producer {
        state.producers_mut().note(stamp, count, base, append_time_ms);
    }
    note_expiry(state, append_time_ms, expiry_ms);
    if let Some(attributes) = due {
        state.note_due(base, count, &attributes);
    }
    if let Some(attributes) = expiring {
        state.note_expiries(base, count, &attributes);
    }
    if let Some(key) = conditions.dedup_key.as_deref().map(DedupKey::of) {
        let window_ms = state.settings.as_ref().map_or(0, |settings| settings.dedup_window_ms);
        state.dedup_mut().note(key, base, append_time_ms, window_ms);
        log.note(Dedup::note_of(key, base, append_time_ms));
    }
    replace(log, replaces, base);
    make_room_of_keys(log, &keys);
    make_room(log, append_time_ms);
    Outcome::Appended { base, append_time_ms }
}

/// What a batch takes beside what it counts for, where only what is ready counts: known once it is appended.
struct Weighing {
    count: u32,
    is_volatile: bool,
    /// What it counts for, bytes.
    counted_len: u64,
    /// Bytes of the log before it.
    before: u64,
}

impl Weighing {
    /// Begins with a batch, and has its rows say what it counts for: a restart reads them back.
    fn of(log: &mut LockedLog<'_, LogState>, batch: &mut NewBatch, is_volatile: bool) -> Option<Self> {
        let (core, state) = log.parts();
        let settings = state.settings.as_deref().filter(|settings| settings.limits_ready)?;
        let counted = batch.counted();
        if let (Attributes::None, Some(counted_len), Some(_)) =
            (&batch.attributes, counted, settings.bytes_max)
        {
            batch.attributes = counted_rows(batch.count, counted_len);
        }
        let before = core.bytes();
        state.surplus.now_holds(core.records(), before);
        Some(Weighing { count: batch.count, is_volatile, counted_len: counted.unwrap_or(0), before })
    }

    fn end(self, log: &mut LockedLog<'_, LogState>) {
        let (core, state) = log.parts();
        let stored_len = core.bytes().saturating_sub(self.before);
        let beside = stored_len.saturating_sub(self.counted_len);
        state.surplus.add(u64::from(self.count), beside, self.is_volatile);
    }
}

/// Whether the stream keeps only what a cursor wants, and none wants this. A batch whose dialect gave no attributes is
/// kept: its cursors pass over what they do not want.
fn interests_nobody(state: &LogState, batch: &NewBatch) -> bool {
    if state.settings.as_ref().is_none_or(|settings| settings.mode != Mode::Interest) {
        return false;
    }
    let Some(works) = state.works.as_deref().filter(|works| !works.is_empty()) else { return true };
    if matches!(batch.attributes, Attributes::None) {
        return false;
    }
    let route_key = |index| batch.attributes.of(index).and_then(|row| row.route_key.as_deref());
    !(0..batch.count).any(|index| works.wants_key(route_key(index)))
}

/// Has the head of a queue looked at when its records expire.
fn note_expiry(state: &mut LogState, append_time_ms: i64, expiry_ms: Option<i64>) {
    state.expires |= expiry_ms.is_some();
    let Some(settings) = state.settings.as_deref().filter(|settings| settings.mode == Mode::Queue) else {
        return;
    };
    let expiry_ms = expiry_ms.filter(|_| !settings.expires_records);
    let by_ttl = settings.ttl_ms.map(|ttl_ms| append_time_ms.saturating_add_unsigned(ttl_ms));
    state.head_due_ms = [state.head_due_ms, by_ttl, expiry_ms].into_iter().flatten().min();
}

impl From<NewBatch> for store::NewBatch {
    fn from(batch: NewBatch) -> Self {
        let NewBatch {
            count,
            format,
            flags,
            producer,
            origin,
            attributes,
            max_event_time_ms,
            body,
            stamp,
            durability,
            replaces: _,
            longest_len: _,
            counted_len: _,
        } = batch;
        store::NewBatch {
            count,
            max_event_time_ms,
            format,
            flags,
            producer,
            origin,
            attributes,
            body,
            stamp,
            durability,
        }
    }
}
