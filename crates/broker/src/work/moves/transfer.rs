//! One unit of a move: records appended there and gone here.

use std::sync::Arc;

use cursor::RecordState;
use model::{Batch, Error, ErrorKind, Offset, Origin, Result};
use store::Class;

use super::{MoveFilter, Task};
use crate::{
    broker::{append, check},
    publish::{Conditions, NewBatch, Outcome},
    stream::{Partition, Stream, closed},
    work::{
        Claim, Spans, Work,
        moving::{MOVE_READ_LEN, MOVED_LEN, Singles, attempts_of, with_attempts},
        settling::{self, Fate},
        window::Window,
    },
};

/// What a unit came to.
#[derive(Default)]
pub(super) struct Transferred {
    /// Records moved.
    pub moved: u64,
    /// Why the target took no more.
    pub refused: Option<Error>,
}

/// Whether a task is for records in this state: those that wait, or those that are kept.
fn is_meant(state: RecordState, is_replay: bool) -> bool {
    match state {
        RecordState::Ready { .. } => !is_replay,
        RecordState::Settled => is_replay,
        RecordState::Leased(_) | RecordState::Delayed(_) | RecordState::Exhausted | RecordState::Beyond => {
            false
        }
    }
}

/// A record ready to be appended elsewhere.
struct Ready {
    offset: Offset,
    partition: Arc<Partition>,
    batch: NewBatch,
    /// Length of the record, where the target limits it and the batch does not say.
    longest: Option<Result<u32>>,
}

impl Work {
    /// Moves up to `count` of the records of `from..until` that the task is for: to `destination`, or back to where each
    /// came from. Reads where that may block. Answers also up to where all was looked at.
    pub(super) fn transfer_from(
        &self,
        from: Offset,
        until: Offset,
        count: u64,
        task: &Task,
        destination: Option<&Arc<Stream>>,
    ) -> Result<(Transferred, Offset)> {
        let is_replay = task.replays_since_ms.is_some();
        let floor = self.with(|core, work| match is_replay {
            true => core.start(),
            false => work.cursor.floor().max(core.start()),
        })?;
        let from = from.max(floor);
        if from >= until {
            return Ok((Transferred::default(), until));
        }
        let window = match self.read_blocking(from, MOVE_READ_LEN) {
            // Retention went by meanwhile.
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok((Transferred::default(), from)),
            read => read?,
        };
        let mut chosen = Spans::new();
        let mut reached = window.next().min(until);
        let within = window.records().filter(|(offset, ..)| *offset >= from && *offset < until);
        for (offset, append_time_ms, _) in within {
            let is_meant = self.with(|_, work| is_meant(work.cursor.state(offset), is_replay))?;
            let is_old = task.replays_since_ms.is_some_and(|since_ms| append_time_ms < since_ms);
            if !is_meant || is_old || !self.is_wanted(&window, offset, &task.spec.filter)? {
                continue;
            }
            chosen.add_one(offset);
            if chosen.count() >= count {
                reached = offset.plus(1);
                break;
            }
        }
        if chosen.is_empty() {
            // Nothing more can be read of what is not durable yet; it was not there when the task started.
            let reached = if reached > from { reached } else { until };
            return Ok((Transferred::default(), reached));
        }
        let (mut ready, mut singles) = (Vec::new(), Singles::default());
        for offset in chosen.offsets() {
            ready.extend(self.ready(&window, offset, destination, &mut singles)?);
        }
        Ok((self.transfer(ready, is_replay)?, reached))
    }

    fn is_wanted(&self, window: &Window, offset: Offset, filter: &MoveFilter) -> Result<bool> {
        if filter.is_empty() {
            return Ok(true);
        }
        let Some((batch, index, _)) = window.batch_at(offset) else { return Ok(false) };
        let decoded = self.broker.decoded(&self.partition, batch)?;
        Ok(decoded.record(index).is_some_and(|record| filter.wants(record)))
    }

    fn ready(
        &self,
        window: &Window,
        offset: Offset,
        destination: Option<&Arc<Stream>>,
        singles: &mut Singles,
    ) -> Result<Option<Ready>> {
        let Some(found) = window.batch_at(offset) else { return Ok(None) };
        let batch = found.0;
        let copy = self.moved_copy(found, offset, None, singles)?;
        let placed = match destination {
            None => Some((self.home_of(batch, offset)?, copy)),
            Some(stream) => self.broker.spread(stream, copy)?.into_iter().next(),
        };
        Ok(placed.map(|(partition, batch)| {
            let longest = partition.measures().then(|| self.broker.longest_record(&batch));
            Ready { offset, partition, batch, longest }
        }))
    }

    /// The partition that a record was appended to first.
    fn home_of(&self, batch: &Batch, offset: Offset) -> Result<Arc<Partition>> {
        let Some(Origin { log, .. }) = batch.origin else {
            return Err(Error::conflict(format!(
                "the record at offset {offset} was not moved here from anywhere: name a destination"
            )));
        };
        let home = self.broker.partition_of(log).filter(|home| home.log_id() != self.partition.log_id());
        home.ok_or_else(|| {
            Error::not_found(format!("the stream that the record at offset {offset} came from is gone"))
        })
    }

    /// Appends each record that is still as it was, up to the first that its target refuses, and settles or drops them
    /// here.
    fn transfer(&self, ready: Vec<Ready>, is_replay: bool) -> Result<Transferred> {
        let store = self.broker.store();
        let len = ready.iter().map(|one| one.batch.body.len() + MOVED_LEN).sum::<usize>();
        let permit = store.reserve(len + settling::RUN_LEN * ready.len(), Class::Publish)?;
        if ready.iter().any(|one| one.partition.is_volatile()) {
            store.reserve_volatile(len)?;
        }
        let targets: Vec<_> = ready.iter().map(|one| one.partition.clone()).collect();
        let logs: Vec<_> = targets.iter().chain([&self.partition]).map(|partition| partition.log()).collect();
        let mut locked = store.lock(&logs);
        let now_ms = locked.now_ms();
        let (mut moved, mut refused) = (Spans::new(), None);
        for one in ready {
            let mut source = locked.log(self.partition.log_id())?;
            if source.core().is_deleted() {
                return Err(closed());
            }
            let (core, state) = source.parts();
            let is_live = core.is_live(one.offset);
            let state = state.followed(&self.name, core).map(|work| work.cursor.state(one.offset));
            if !is_live || !state.is_some_and(|state| is_meant(state, is_replay)) {
                continue; // Somebody has it now, or its time in the history is over.
            }
            let attempts = attempts_of(&mut source, &self.name, one.offset);
            let mut log = locked.log(one.partition.log_id())?;
            let (core, state) = log.parts();
            if let Err(Outcome::Refused(refusal)) =
                check(core, state, &one.batch, &Conditions::default(), one.longest.as_ref(), now_ms)
            {
                refused = Some(refusal.error);
                break;
            }
            append(&mut log, with_attempts(one.batch, attempts), Conditions::default());
            moved.add_one(one.offset);
        }
        let mut source = locked.log(self.partition.log_id())?;
        if is_replay {
            settling::drop_spans(&mut source, &moved);
        } else {
            let (claim, verdict) = (Claim::Anyone, cursor::Verdict::Settle);
            settling::settle_as(&mut source, &self.name, &moved, claim, verdict, Fate::Gone, now_ms)?;
        }
        store.commit(permit, locked);
        self.broker.inner.counters.moved_records.add(moved.count());
        targets.iter().chain([&self.partition]).for_each(|partition| self.broker.schedule(partition));
        Ok(Transferred { moved: moved.count(), refused })
    }
}
