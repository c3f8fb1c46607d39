//! Moving records to their dead letters: appended there and gone here in one unit ([`carrying`]).

mod carrying;

use std::sync::Arc;

use bytes::Bytes;
use cursor::RecordState;
use model::{Attributes, Batch, ErrorKind, Offset, Origin, Place, Record, RecordAttributes, Result, Seq};
use store::LockedLog;

use super::{Claim, QUEUE_WORK, Settled, Span, Spans, Work, window::Window};
use crate::{
    broker::Broker,
    log_state::LogState,
    publish::NewBatch,
    redirect::LetterReason,
    settings::{DeadLetter, StreamSettings},
    stream::{self, Partition},
};

pub(crate) use self::carrying::{Halfway, Patience};

/// What a moved record takes in the queue beside its body, bytes.
pub(super) const MOVED_LEN: usize = 160;

/// Bytes read at a time to move records.
pub(super) const MOVE_READ_LEN: usize = 1 << 20;

/// Records moved in one unit.
pub(super) const MOVED_MAX: u64 = 1_000;

/// Which records are moved: the state they must be in when the logs are locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// Their holder rejected them.
    Rejected(Claim),
    /// They were delivered as often as allowed.
    Exhausted,
    /// Their time to live is over; nobody has them.
    Expired,
    /// The stream is above its length; nobody has them.
    Excess,
}

impl Why {
    fn reason(self) -> LetterReason {
        match self {
            Why::Rejected(_) => LetterReason::Rejected,
            Why::Exhausted => LetterReason::Exhausted,
            Why::Expired => LetterReason::Expired,
            Why::Excess => LetterReason::Excess,
        }
    }
}

impl Work {
    /// Rejects records of a stream with a dead-letter target.
    pub(super) async fn reject(&self, spans: &Spans, claim: Claim) -> Result<(Settled, Seq)> {
        let (mut settled, mut wait) = (Settled::default(), Seq(0));
        let mut rest = spans.clone();
        loop {
            // What lies below the start of the log is gone already, as a settled record is.
            let start = self.partition.bounds().start;
            rest = rest.iter().map(|span| Span::new(span.start.max(start), span.end.max(start))).collect();
            let Some(first) = first_of(&rest) else { break };
            let window = match self.with(|_, work| work.window.clone())? {
                Some(window) if window.covers(first) => window,
                _ => match self.read_window(first, MOVE_READ_LEN).await {
                    Err(e) if e.kind() == ErrorKind::NotFound && first < self.partition.bounds().start => {
                        continue;
                    }
                    read => read?,
                },
            };
            let (now, later) = split(&rest, &window);
            if now.is_empty() {
                break;
            }
            let carried =
                self.broker.drain_moves(|| self.carry_some(&now, &window, Why::Rejected(claim))).await?;
            let (done, seq) = (carried.settled, carried.wait);
            settled.done = settled.done.iter().chain(done.done.iter()).collect();
            settled.stale = settled.stale.iter().chain(done.stale.iter()).collect();
            wait = wait.max(seq);
            rest = carried.left.iter().chain(later.iter()).collect();
        }
        Ok((settled, wait))
    }

    /// Moves records of the window whose time to live is over.
    pub(super) async fn expire(&self, spans: Spans, window: Arc<Window>) -> Result<()> {
        self.broker.drain_moves(|| self.carry(&spans, &window, Why::Expired)).await.map(drop)
    }

    /// Where a record of the log that it works was appended first.
    fn origin_of(&self, batch: &Batch, offset: Offset) -> Origin {
        let source = self.partition.log_id();
        let own = Origin { log: source, offset, append_time_ms: batch.append_time_ms, attempts: 0, source };
        Origin { source, ..batch.origin.unwrap_or(own) }
    }

    /// A record of `batch` as it is appended elsewhere, with its origin.
    pub(super) fn moved_copy(
        &self,
        (batch, index, row): (&Batch, u32, Option<&RecordAttributes>),
        offset: Offset,
        route_key: Option<&str>,
        singles: &mut Singles,
    ) -> Result<NewBatch> {
        let mut copy = NewBatch {
            count: 1,
            format: batch.format,
            origin: Some(self.origin_of(batch, offset)),
            max_event_time_ms: batch.max_event_time_ms,
            body: singles.body(&self.broker, batch, index)?,
            ..NewBatch::default()
        };
        // What did not count where it was may count where it goes.
        let mut row = row.cloned().unwrap_or_default();
        if row.priority.is_none() || row.body_len.is_none() {
            let is_bare = row == RecordAttributes::default();
            self.broker.formats().of(batch.format)?.attributes(&copy.as_stored(), &mut |_, own| {
                let (priority, body_len) = (row.priority.or(own.priority), row.body_len.or(own.body_len));
                let known = if is_bare { own } else { std::mem::take(&mut row) };
                row = RecordAttributes { priority, body_len, ..known };
                Ok(())
            })?;
        }
        if let Some(route_key) = route_key {
            row.route_key = Some(Bytes::copy_from_slice(route_key.as_bytes()));
        }
        // It is not to expire there, or wait, as it did here.
        (row.expiry_ms, row.deliver_at_ms) = (None, None);
        copy.attributes = attributes(row);
        Ok(copy)
    }
}

/// Whether records of a stream stay where they are when they have no place to go to.
pub(super) fn stays(settings: &StreamSettings) -> bool {
    settings.exhaust == super::Exhaust::WhenOffered
}

fn attributes(row: RecordAttributes) -> Attributes {
    if row == RecordAttributes::default() { Attributes::None } else { Attributes::Same(Box::new(row)) }
}

pub(super) fn first_of(spans: &Spans) -> Option<Offset> {
    let first = spans.iter().next();
    first.map(|span| span.start)
}

/// The part of `spans` that the window covers, as much as one unit moves, and the rest.
pub(super) fn split(spans: &Spans, window: &Window) -> (Spans, Spans) {
    let mut now = Spans::new();
    let mut later = Spans::new();
    for span in spans.iter() {
        let room = MOVED_MAX.saturating_sub(now.count());
        let middle = window.next().clamp(span.start, span.end).min(span.start.plus(room));
        if window.covers(span.start) && room > 0 {
            now.add(Span::new(span.start, middle));
            later.add(Span::new(middle, span.end));
        } else {
            later.add(span);
        }
    }
    (now, later)
}

/// Those of `spans` that are in the state that `why` asks for.
pub(super) fn still(log: &mut LockedLog<'_, LogState>, name: &str, spans: &Spans, why: Why) -> Spans {
    let (core, state) = log.parts();
    let Some(work) = state.followed(name, core) else { return Spans::new() };
    let is = |offset: &Offset| {
        let state = work.cursor.state(*offset);
        match why {
            Why::Rejected(_) => true,
            Why::Exhausted => state == RecordState::Exhausted,
            Why::Expired | Why::Excess => {
                matches!(state, RecordState::Ready { .. } | RecordState::Delayed(_))
            }
        }
    };
    spans.offsets().filter(is).map(Span::one).collect()
}

/// How often a record was delivered.
pub(super) fn attempts_of(log: &mut LockedLog<'_, LogState>, name: &str, offset: Offset) -> u32 {
    let (core, state) = log.parts();
    let Some(work) = state.followed(name, core) else { return 0 };
    match work.cursor.state(offset) {
        RecordState::Leased(lease) => lease.attempt,
        RecordState::Ready { attempts } => attempts,
        RecordState::Exhausted | RecordState::Delayed(_) => work.cursor.attempts(offset),
        RecordState::Settled | RecordState::Beyond => 0,
    }
}

/// The batch with the deliveries of the place that it leaves.
pub(super) fn with_attempts(batch: NewBatch, attempts: u32) -> NewBatch {
    let add = |origin: Origin| Origin { attempts: origin.attempts.saturating_add(attempts), ..origin };
    NewBatch { origin: batch.origin.map(add), ..batch }
}

impl Work {
    /// The settings of the queue that it works: those of the log, or of the queue over it. None for other cursors.
    pub(super) fn settings(&self) -> Option<Arc<StreamSettings>> {
        match stream::queue_of_work(&self.name) {
            Some(queue) => Some(self.broker.stream_by_id(queue)?.settings().clone()),
            None => self.partition.log().with(|_, state| state.settings.clone()),
        }
    }

    /// How often records are delivered of a queue whose settings say so while it lives; `Some(None)` = any number, also
    /// because there is no place for them to go to.
    pub(super) fn limit(&self) -> Option<Option<u32>> {
        let is_of_queue = &*self.name == QUEUE_WORK || stream::queue_of_work(&self.name).is_some();
        let settings = self.settings().filter(|settings| is_of_queue && stays(settings))?;
        let limit = settings.delivery_limit;
        Some(limit.filter(|_| self.broker.dead_letters_by(&settings, &self.partition).is_some()))
    }
}

impl Broker {
    /// The partition that takes the dead letters of `partition`, if its stream names one that is there.
    pub(crate) fn dead_letters_of(&self, partition: &Partition) -> Option<(Arc<Partition>, DeadLetter)> {
        let settings = partition.log().with(|_, state| state.settings.clone())?;
        self.dead_letters_by(&settings, partition)
    }

    fn dead_letters_by(
        &self,
        settings: &StreamSettings,
        partition: &Partition,
    ) -> Option<(Arc<Partition>, DeadLetter)> {
        let dead_letter = settings.dead_letter.clone()?;
        let target = self.stream(&dead_letter.target)?;
        let count = u32::try_from(target.partitions().len()).ok().filter(|count| *count > 0)?;
        let index = model::PartitionIndex(partition.index().0 % count);
        Some((target.partition(index)?.clone(), dead_letter))
    }
}

/// Takes records out of batches, each as a batch of its own. In the order of their offsets each batch is looked through
/// once.
#[derive(Default)]
pub(super) struct Singles {
    /// The batch that it is in, and where there.
    base: Option<Offset>,
    place: Place,
    /// Its records, where their format has no bytes of each.
    records: Vec<(u32, Record)>,
}

impl Singles {
    fn body(&mut self, broker: &Broker, batch: &Batch, index: u32) -> Result<Bytes> {
        if batch.count == 1 {
            return Ok(batch.body.clone());
        }
        let format = broker.formats().of(batch.format)?;
        let is_new = self.base != Some(batch.base);
        if is_new {
            *self = Singles { base: Some(batch.base), ..Singles::default() };
        }
        if let Some(own) = format.alone(batch, index, &mut self.place)? {
            return Ok(own);
        }
        if is_new {
            format.read(batch, &mut |index, record| {
                self.records.push((index, record));
                Ok(())
            })?;
        }
        let found = self.records.binary_search_by_key(&index, |(index, _)| *index).ok();
        match found.and_then(|at| self.records.get(at)) {
            Some((_, record)) => format.write(std::slice::from_ref(record)),
            None => Err(model::Error::corrupt("a record that is there is not in its batch")),
        }
    }
}

#[cfg(test)]
mod tests;
