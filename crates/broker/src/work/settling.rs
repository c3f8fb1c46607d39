//! Settling: the holders' word, taken in one unit with what follows from it.

use model::{Error, Offset, Result, Seq};
use store::{Class, LockedLog};

use super::{
    Claim, Count, Settled, Settlement, Span, Spans, Verdict, Work, gone,
    state::{self, Drops},
};
use crate::{
    broker::Broker,
    faults::Fault,
    log_state::LogState,
    stream::{Partition, closed},
};

/// What one settlement takes in the queue beside its runs, and what a run takes, bytes.
const SETTLEMENT_LEN: usize = 128;
pub(super) const RUN_LEN: usize = 20;

/// The room that settlements take.
pub(crate) fn room_of(settlements: &[Settlement]) -> usize {
    settlements
        .iter()
        .map(|one| SETTLEMENT_LEN + one.work.name.len() + 2 * RUN_LEN * one.spans.run_count())
        .sum()
}

impl Broker {
    /// Takes the holders' word on records, all in one unit; rejected records go to their dead letters in that unit too,
    /// or one per cursor where they have to be read first. Answers, per settlement, which records it took effect on
    /// and which are not as claimed; wait for the sequence where the answer has to follow the commit. Waits while the
    /// queue to the disk is full.
    ///
    /// [`model::ErrorKind::Closed`] when a stream or cursor is gone; then nothing of the unit happened.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<(Vec<Settled>, Seq)> {
        let mut outcomes: Vec<Option<Settled>> = vec![None; settlements.len()];
        let mut wait = Seq(0);
        // Once for all: settings may change while it waits.
        let is_moved = |one: &Settlement| one.verdict == Verdict::Reject && one.work.has_dead_letter();
        let moves: Vec<bool> = settlements.iter().map(is_moved).collect();
        let all = settlements.iter().zip(&moves);
        // Ahead of what moves: that may wait for memory which these give back.
        let rest: Vec<&Settlement> = all.filter(|(_, moves)| !**moves).map(|(one, _)| one).collect();
        if !rest.is_empty() {
            let (settled, seq) = self.drain(|| self.settle_in_place(&rest)).await?;
            wait = wait.max(seq);
            let places = outcomes.iter_mut().zip(&moves).filter(|(_, moves)| !**moves);
            places.zip(settled).for_each(|((place, _), settled)| *place = Some(settled));
        }
        for ((settlement, outcome), moves) in settlements.iter().zip(&mut outcomes).zip(&moves) {
            if *moves {
                let (settled, seq) = settlement.work.reject(&settlement.spans, settlement.claim).await?;
                wait = wait.max(seq);
                *outcome = Some(settled);
            }
        }
        Ok((outcomes.into_iter().map(Option::unwrap_or_default).collect(), wait))
    }

    /// As [`Broker::settle`], for what needs no record to be moved.
    pub(super) fn settle_in_place(&self, settlements: &[&Settlement]) -> Result<(Vec<Settled>, Seq)> {
        let len = settlements.iter().map(|one| room_of(std::slice::from_ref(*one))).sum();
        let permit = self.store().reserve(len, Class::Drain)?;
        let logs: Vec<_> = settlements.iter().map(|one| one.work.partition.log()).collect();
        let mut locked = self.store().lock(&logs);
        for settlement in settlements {
            check_open(&mut locked.log(settlement.work.partition.log_id())?, settlement)?;
        }
        let now_ms = locked.now_ms();
        let mut settled = Vec::with_capacity(settlements.len());
        for settlement in settlements {
            let mut log = locked.log(settlement.work.partition.log_id())?;
            let forgotten = self.options().faults.has(Fault::AttemptForgotten).then(|| uncounted(settlement));
            settled.push(settle_one(&mut log, forgotten.as_ref().unwrap_or(settlement), now_ms)?);
        }
        let wait = self.store().commit(permit, locked);
        for (settlement, settled) in settlements.iter().zip(&settled) {
            if matches!(settlement.verdict, Verdict::Accept | Verdict::Reject) {
                self.inner.counters.settled_records.add(settled.done.count());
            }
            self.schedule(&settlement.work.partition);
        }
        Ok((settled, wait))
    }
}

impl Work {
    fn has_dead_letter(&self) -> bool {
        self.partition
            .log()
            .with(|_, state| state.settings.as_ref().is_some_and(|set| set.has_dead_letters()))
    }
}

/// [`model::ErrorKind::Closed`] when stream or cursor are gone.
pub(crate) fn check_open(log: &mut LockedLog<'_, LogState>, settlement: &Settlement) -> Result<()> {
    if log.core().is_deleted() {
        return Err(closed());
    }
    log.attached().work(&settlement.work.name).map(drop).ok_or_else(gone)
}

/// The settlement as if a delivery that is over had not happened: a mistake.
fn uncounted(settlement: &Settlement) -> Settlement {
    let verdict = match settlement.verdict {
        Verdict::Release { delay_ms, .. } => Verdict::Release { delay_ms, count: Count::Keep },
        other => other,
    };
    Settlement { verdict, ..settlement.clone() }
}

/// Applies one settlement that moves no record, with its drops and its note.
pub(crate) fn settle_one(
    log: &mut LockedLog<'_, LogState>,
    settlement: &Settlement,
    now_ms: i64,
) -> Result<Settled> {
    let Settlement { work, spans, claim, verdict } = settlement;
    let verdict = match *verdict {
        Verdict::Accept | Verdict::Reject => cursor::Verdict::Settle,
        Verdict::Release { delay_ms, count } => {
            let due_ms = (delay_ms > 0).then(|| now_ms.saturating_add_unsigned(delay_ms));
            cursor::Verdict::Release { due_ms, count }
        }
        Verdict::Extend { deadline_ms } => cursor::Verdict::Extend { deadline_ms },
        Verdict::Transfer { holder, deadline_ms, count } => {
            cursor::Verdict::Transfer { holder, deadline_ms, count }
        }
    };
    settle_as(log, &work.name, spans, *claim, verdict, Fate::Done, now_ms)
}

/// What became of records that are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// They are done with: a queue with a history keeps them.
    Done,
    /// They are elsewhere now, or were to be deleted.
    Gone,
}

/// Lets a cursor settle, drops or keeps what is done with, notes the rest.
pub(super) fn settle_as(
    log: &mut LockedLog<'_, LogState>,
    name: &str,
    spans: &Spans,
    claim: Claim,
    verdict: cursor::Verdict,
    fate: Fate,
    now_ms: i64,
) -> Result<Settled> {
    let (core, state) = log.parts();
    let has_history = state.settings.as_ref().is_some_and(|settings| settings.history_ms.is_some());
    state.followed(name, core).ok_or_else(gone)?;
    if let Claim::Attempt(_) = claim {
        // Whether a delivery is over is a matter of time, not of when somebody looked.
        state.end_due(name, now_ms);
    }
    let work = state.work_mut(name).ok_or_else(gone)?;
    let mut changes = state::changes();
    let settled = work.cursor.settle(spans, claim, verdict, now_ms, &mut changes);
    let keeps = has_history && fate == Fate::Done && work.drops == Drops::Settled;
    let is_told_by_drops = verdict == cursor::Verdict::Settle && work.drops == Drops::Settled && !keeps;
    let mut noted = if is_told_by_drops { state::changes() } else { changes };
    noted.note_delivered(&mut work.cursor);
    // Released records may be for another; settled ones make room below a limit on leases.
    if !settled.done.is_empty() {
        work.tell_next();
    }
    if matches!(verdict, cursor::Verdict::Release { .. }) && !settled.done.is_empty() {
        log.attached().came_back(now_ms);
    }
    if verdict == cursor::Verdict::Settle {
        if keeps {
            log.attached().keep(&settled.done, now_ms);
        } else {
            drop_settled(log, name, &settled.done);
        }
    }
    if let Some(entry) = noted.into_entry() {
        log.note(state::change_note(name, &entry));
    }
    Ok(settled)
}

/// Takes records that cursor `name` has settled out of the log, if its mode says so.
pub(super) fn drop_settled(log: &mut LockedLog<'_, LogState>, name: &str, done: &Spans) {
    match log.attached().work(name).map(|work| work.drops) {
        Some(Drops::Settled) => drop_spans(log, done),
        Some(Drops::SettledByAll) => {
            let state = log.attached();
            let by_all: Spans =
                done.offsets().filter(|offset| is_settled_by_all(state, *offset)).map(Span::one).collect();
            drop_spans(log, &by_all);
            if log.attached().route_keys.is_none() {
                reap_interest(log);
            }
        }
        Some(Drops::Never) | None => {}
    }
}

/// Whether every cursor that is for the record has settled it. Where its route key is not known, every cursor counts, and
/// one that it is not for has settled it when it passed over it.
fn is_settled_by_all(state: &LogState, offset: Offset) -> bool {
    let Some(works) = state.works.as_deref() else { return true };
    let is_settled = |work: &state::WorkState| work.cursor.state(offset) == cursor::RecordState::Settled;
    match state.route_keys.as_ref().and_then(|keys| keys.key_at(offset)) {
        Some(key) => works.all_that_want(key, is_settled),
        None => works.iter().all(is_settled),
    }
}

/// Trims a log of the interest mode to where every cursor is done: what was passed over by a filter goes at the latest then
/// where route keys are not indexed, and what only one that is gone now was to settle.
pub(super) fn reap_interest(log: &mut LockedLog<'_, LogState>) {
    let (core, state) = log.parts();
    let Some(works) = state.works.as_deref() else { return };
    if works.iter().any(|work| work.drops != Drops::SettledByAll) {
        return;
    }
    let Some(floor) = works.iter().map(|work| work.cursor.floor()).min() else { return };
    let floor = floor.min(core.durable_end());
    if floor > core.start() {
        log.trim(floor);
        log.attached().forget(Span::new(Offset::ZERO, floor));
    }
}

/// Records of a log of the interest mode that are judged anew at a time.
const JUDGED_MAX: u64 = 1_024;

impl Broker {
    /// Takes away what no cursor is to settle any more of `span`, of a log of the interest mode; a part at a time, so that
    /// others come to the log between. Wait for the sequence.
    pub(super) fn drop_unwanted(&self, partition: &Partition, span: Span) -> Result<Seq> {
        let (mut from, mut wait) = (span.start, Seq(0));
        while from < span.end {
            let permit = self.store().reserve(SETTLEMENT_LEN + RUN_LEN * 64, Class::Drain)?;
            let mut locked = self.store().lock(&[partition.log()]);
            let mut log = locked.log(partition.log_id())?;
            let (core, state) = log.parts();
            if core.is_deleted() {
                break;
            }
            from = from.max(core.start());
            let end = from.plus(JUDGED_MAX).min(span.end);
            let unwanted = (from.0..end.0)
                .map(Offset)
                .filter(|offset| core.is_live(*offset) && is_settled_by_all(state, *offset));
            let unwanted: Spans = unwanted.map(Span::one).collect();
            drop_spans(&mut log, &unwanted);
            from = end;
            wait = wait.max(self.store().commit(permit, locked));
        }
        Ok(wait)
    }

    /// Takes away what cursors have settled of a log that is one of the interest mode from now on, where none is left that is
    /// to settle it. Where there is no cursor, everything stays. Wait for the sequence.
    pub(crate) fn drop_settled_by_all(&self, partition: &Partition) -> Result<Seq> {
        let span = partition.log().with(|core, state| {
            let floors = state.works.iter_mut().flat_map(|works| works.all_followed(core));
            let floor = floors.map(|work| work.cursor.floor()).max();
            Span::new(core.start(), floor.unwrap_or(core.start()).max(core.start()))
        });
        self.drop_unwanted(partition, span)
    }
}

/// Drops records from a log, and from the view of its other cursors.
pub(crate) fn drop_spans(log: &mut LockedLog<'_, LogState>, spans: &Spans) {
    if spans.is_empty() {
        return;
    }
    log.drop_offsets(spans.iter().map(|span| span.start..span.end).collect());
    let (core, state) = log.parts();
    spans.iter().for_each(|span| state.forget(span));
    state.weigh(core);
    if let Some(works) = state.works.as_deref_mut().filter(|works| works.len() > 1) {
        spans.iter().for_each(|span| works.left(core, span));
    }
}

impl Broker {
    /// Deletes records from the middle of a partition, whoever holds them. Wait for the sequence.
    /// [`model::ErrorKind::Closed`] once the stream is deleted.
    pub fn drop_records(&self, partition: &crate::Partition, spans: &Spans) -> Result<Seq> {
        let permit = self.store().reserve(RUN_LEN * spans.run_count() + SETTLEMENT_LEN, Class::Drain)?;
        let mut locked = self.store().lock(&[partition.log()]);
        let mut log = locked.log(partition.log_id())?;
        if log.core().is_deleted() {
            return Err(closed());
        }
        if spans.end() > log.core().end() {
            return Err(Error::invalid(format!("the partition ends at {}", log.core().end())));
        }
        log.drop_offsets(spans.iter().map(|span| span.start..span.end).collect());
        let (core, state) = log.parts();
        spans.iter().for_each(|span| state.skip(core, span));
        let applied = log.core().applied();
        Ok(self.store().commit(permit, locked).max(applied))
    }
}
