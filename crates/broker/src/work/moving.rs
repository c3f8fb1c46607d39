//! Moving records to their dead letters: appended there and gone here in one unit.

use std::sync::Arc;

use bytes::Bytes;
use cursor::RecordState;
use model::{Attributes, Batch, Error, ErrorKind, Offset, Origin, RecordAttributes, Result, Seq};
use store::{Class, LockedLog};

use super::{Claim, QUEUE_WORK, Settled, Span, Spans, Work, settling, window::Window};
use crate::{
    broker::{Broker, append},
    faults::Fault,
    log_state::LogState,
    publish::{Conditions, NewBatch},
    redirect::{DEAD_LETTERS, DeadLetters, Letter, LetterReason},
    settings::{DeadLetter, StreamSettings},
    stream::{self, Partition, Stream},
};

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

/// A record ready to be appended elsewhere.
struct Ready {
    offset: Offset,
    copies: Vec<(Arc<Partition>, NewBatch)>,
}

/// Who takes the dead letters of a stream.
enum Takes {
    /// One partition.
    One(Arc<Partition>, DeadLetter),
    /// A dialect, along its routes.
    Dialect(Arc<Stream>, Arc<dyn DeadLetters>),
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
            let (done, seq) = self.broker.drain(|| self.carry(&now, &window, Why::Rejected(claim))).await?;
            settled.done = settled.done.iter().chain(done.done.iter()).collect();
            settled.stale = settled.stale.iter().chain(done.stale.iter()).collect();
            wait = wait.max(seq);
            rest = later;
        }
        Ok((settled, wait))
    }

    /// Moves records of the window whose time to live is over.
    pub(super) async fn expire(&self, spans: Spans, window: Arc<Window>) -> Result<()> {
        self.broker.drain(|| self.carry(&spans, &window, Why::Expired)).await.map(drop)
    }

    /// Moves those of `spans` that are still as `why` says. Without a target they are gone.
    pub(super) fn carry(&self, spans: &Spans, window: &Window, why: Why) -> Result<(Settled, Seq)> {
        let settings = self.settings();
        let takes = settings.as_deref().map(|of| self.takes(of)).transpose()?.flatten();
        let ready = match &takes {
            Some(takes) => self.prepare(spans, window, takes, why)?,
            None => Vec::new(),
        };
        let targets = targets_of(&ready, takes.as_ref());
        let store = self.broker.store();
        let copies = ready.iter().flat_map(|one| &one.copies);
        let len = copies.map(|(_, batch)| batch.body.len() + MOVED_LEN).sum::<usize>();
        let class = if len > 0 { Class::Move } else { Class::Drain };
        let permit = store.reserve(len + 64 * spans.run_count(), class)?;
        let logs: Vec<_> =
            [&self.partition].into_iter().chain(&targets).map(|partition| partition.log()).collect();
        let mut locked = store.lock(&logs);
        let now_ms = locked.now_ms();
        let has_place = match &takes {
            Some(Takes::One(partition, _)) => !locked.log(partition.log_id())?.core().is_deleted(),
            Some(Takes::Dialect(..)) => true,
            None => false,
        };
        let mut source = locked.log(self.partition.log_id())?;
        settling_check(&mut source)?;
        if !has_place && why == Why::Exhausted && settings.is_some_and(|settings| stays(&settings)) {
            return Ok((Settled::default(), Seq(0)));
        }
        let spans = still(&mut source, &self.name, spans, why);
        let claim = match why {
            Why::Rejected(claim) => claim,
            Why::Exhausted | Why::Expired | Why::Excess => Claim::Anyone,
        };
        let mut attempts = Vec::with_capacity(ready.len());
        for one in &ready {
            attempts.push(attempts_of(&mut source, &self.name, one.offset));
        }
        let settled = if self.broker.options().faults.has(Fault::RejectedStays) {
            Settled { done: spans, ..Settled::default() }
        } else {
            settling::settle_as(
                &mut source,
                &self.name,
                &spans,
                claim,
                cursor::Verdict::Settle,
                settling::Fate::Gone,
                now_ms,
            )?
        };
        for (one, attempts) in ready.into_iter().zip(attempts) {
            if !settled.done.contains(one.offset) {
                continue;
            }
            for (partition, batch) in one.copies {
                let mut log = locked.log(partition.log_id())?;
                if !log.core().is_deleted() {
                    append(&mut log, with_attempts(batch, attempts), Conditions::default());
                }
            }
        }
        let wait = store.commit(permit, locked);
        self.broker.inner.counters.dead_lettered.add(settled.done.count());
        self.broker.schedule(&self.partition);
        targets.iter().for_each(|partition| self.broker.schedule(partition));
        Ok((settled, wait))
    }

    /// Who takes the dead letters of the queue that it works.
    fn takes(&self, settings: &StreamSettings) -> Result<Option<Takes>> {
        if let Some(dialect) = settings.extras.get(DEAD_LETTERS) {
            let by = self.broker.inner.redirects.read().get(dialect.as_str()).cloned();
            let by = by.ok_or_else(|| Error::unavailable(format!("{dialect} takes no dead letters yet")))?;
            let stream = self.broker.stream_by_id(self.partition.stream_id());
            return Ok(stream.map(|stream| Takes::Dialect(stream, by)));
        }
        let target = self.broker.dead_letters_by(settings, &self.partition);
        Ok(target.map(|(partition, dead_letter)| Takes::One(partition, dead_letter)))
    }

    /// Makes copies of the records that the window has of `spans`.
    fn prepare(&self, spans: &Spans, window: &Window, takes: &Takes, why: Why) -> Result<Vec<Ready>> {
        let mut ready = Vec::new();
        for offset in spans.offsets() {
            let Some((batch, index, row)) = window.batch_at(offset) else { continue };
            let copies = match takes {
                Takes::One(partition, dead_letter) => {
                    let route_key = dead_letter.route_key.as_deref();
                    vec![(partition.clone(), self.moved_copy(batch, index, offset, row, route_key)?)]
                }
                Takes::Dialect(stream, by) => {
                    let letter = Letter { stream, batch, index, offset, reason: why.reason() };
                    let origin = Some(self.origin_of(batch, offset));
                    let copies = by.route(&letter)?.into_iter();
                    copies.map(|(partition, copy)| (partition, NewBatch { origin, ..copy })).collect()
                }
            };
            ready.push(Ready { offset, copies });
        }
        Ok(ready)
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
        batch: &Batch,
        index: u32,
        offset: Offset,
        row: Option<&RecordAttributes>,
        route_key: Option<&str>,
    ) -> Result<NewBatch> {
        let mut row = row.cloned().unwrap_or_default();
        if let Some(route_key) = route_key {
            row.route_key = Some(Bytes::copy_from_slice(route_key.as_bytes()));
        }
        // It is not to expire there, or wait, as it did here.
        (row.expiry_ms, row.deliver_at_ms) = (None, None);
        Ok(NewBatch {
            count: 1,
            format: batch.format,
            origin: Some(self.origin_of(batch, offset)),
            attributes: attributes(row),
            max_event_time_ms: batch.max_event_time_ms,
            body: self.broker.one_record(batch, index)?,
            ..NewBatch::default()
        })
    }
}

/// The partitions that get something, each once.
fn targets_of(ready: &[Ready], takes: Option<&Takes>) -> Vec<Arc<Partition>> {
    let copies = ready.iter().flat_map(|one| &one.copies);
    let mut targets: Vec<Arc<Partition>> = copies.map(|(partition, _)| partition.clone()).collect();
    if let Some(Takes::One(partition, _)) = takes {
        targets.push(partition.clone());
    }
    targets.sort_unstable_by_key(|partition| partition.log_id());
    targets.dedup_by_key(|partition| partition.log_id());
    targets
}

/// Whether records of a stream stay where they are when they have no place to go to.
fn stays(settings: &StreamSettings) -> bool {
    settings.exhaust == super::Exhaust::WhenOffered
}

fn attributes(row: RecordAttributes) -> Attributes {
    if row == RecordAttributes::default() { Attributes::None } else { Attributes::Same(Box::new(row)) }
}

pub(super) fn first_of(spans: &Spans) -> Option<Offset> {
    let first = spans.iter().next();
    first.map(|span| span.start)
}

/// The part of `spans` that the window covers, and the rest.
pub(super) fn split(spans: &Spans, window: &Window) -> (Spans, Spans) {
    let mut now = Spans::new();
    let mut later = Spans::new();
    for span in spans.iter() {
        let middle = window.next().clamp(span.start, span.end);
        if window.covers(span.start) && now.count() < MOVED_MAX {
            now.add(Span::new(span.start, middle));
            later.add(Span::new(middle, span.end));
        } else {
            later.add(span);
        }
    }
    (now, later)
}

fn settling_check(log: &mut LockedLog<'_, LogState>) -> Result<()> {
    if log.core().is_deleted() { Err(crate::stream::closed()) } else { Ok(()) }
}

/// Those of `spans` that are in the state that `why` asks for.
fn still(log: &mut LockedLog<'_, LogState>, name: &str, spans: &Spans, why: Why) -> Spans {
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

    /// The bytes of one record of a batch, as a batch of its own.
    fn one_record(&self, batch: &Batch, index: u32) -> Result<Bytes> {
        if batch.count == 1 {
            return Ok(batch.body.clone());
        }
        let format = self.formats().of(batch.format)?;
        let mut found = None;
        format.read(batch, &mut |at, record| {
            if at == index {
                found = Some(record);
            }
            Ok(())
        })?;
        match found {
            Some(record) => format.write(&[record]),
            None => Err(model::Error::corrupt("a record that is there is not in its batch")),
        }
    }
}

#[cfg(test)]
mod tests;
