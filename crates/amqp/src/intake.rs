//! What is published while one read is handled: gathered by where it goes, stored in one unit, confirmed when that is
//! durable.
//!
//! A message that goes to several queues is laid out once; the batches of these queues share its bytes. Within a queue,
//! messages keep the order in which they came.

use std::{collections::HashMap, sync::Arc};

use broker::{
    Append, Broker, Durability, Extent, NewBatch, Outcome, Partition, PublishUnit, RefusalReason, Settlement,
    routing::Routed,
};
use bytes::Bytes;
use model::{Attributes, LogId, Origin, RecordAttributes, Result, Seq, limits};

use crate::{
    channel::assembly::Whole,
    codec::{Method, put_method},
    dead_letters,
    message::{FORMAT, Stored, expiration_ms},
    schedule,
    vhost::{Vhost, queue::Queue, routing::Resolved},
};

/// Messages and bytes of one batch.
pub(crate) const BATCH_COUNT: u32 = 4_096;
const BATCH_LEN: usize = 1 << 20;

/// Bytes that are gathered before they are stored, whether the read is handled or not.
pub(crate) const GATHERED_LEN: usize = 4 << 20;

/// Bytes of all copies of what is stored in one unit.
const UNIT_LEN: usize = 32 << 20;

/// The same for what is stored everywhere or nowhere: as much as a unit holds, half of it for what is beside the bodies.
const WHOLE_LEN: usize = limits::BATCH_LEN_MAX / 2;

/// What properties, keys and exchanges add to a message, as far as batches for routes leave room for them.
const PROPERTIES_LEN: usize = 4 << 10;

/// Appends of a unit that are copies of a batch.
type Copies = (usize, std::ops::Range<usize>);

/// Messages of one batch, for the same queues.
struct Open {
    to: Arc<Resolved>,
    is_persistent: bool,
    count: u32,
    body: Vec<u8>,
    /// What the broker has to know of each message, as far as any has something to say.
    rows: Vec<Row>,
    says_something: bool,
    /// Kept where it goes along routes.
    keys: Keys,
}

#[derive(Clone, Copy, Default)]
struct Row {
    priority: Option<u8>,
    /// For how long it may wait, where it says so, and when it came, where that matters.
    ttl_ms: Option<u64>,
    now_ms: i64,
    /// When it is due, where it waits for that.
    due_ms: Option<i64>,
    body_len: u32,
}

/// The routing keys of a batch's messages, where it goes along routes.
type Keys = Vec<Bytes>;

/// A message whose publisher waits.
struct Awaited {
    channel: u16,
    number: u64,
    /// The batch that it is in; none for a message that goes nowhere.
    batch: Option<usize>,
}

/// What is to be said once a sequence is durable.
#[derive(Default)]
pub(crate) struct Answer {
    pub wait: Seq,
    pub frames: Vec<u8>,
}

fn is_refused(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(_))
}

/// What came of a unit.
#[derive(Default)]
pub(crate) struct Kept {
    pub answer: Answer,
    /// A queue refused some of it.
    pub is_partial: bool,
    /// What was to be stored everywhere was refused, and not because there is no room.
    pub is_hopeless: bool,
    /// A queue that was to have it is gone.
    pub is_gone: bool,
    /// Messages that a queue was too full for, as they go through its dead-letter exchange.
    pub letters: Vec<(Arc<Partition>, NewBatch)>,
}

impl Kept {
    /// Bytes of the dead letters.
    pub(crate) fn len(&self) -> usize {
        self.letters.iter().map(|(_, batch)| batch.body.len()).sum()
    }

    /// The dead letters, ready to be stored.
    pub(crate) fn letters(&self) -> Vec<Append> {
        self.letters.iter().map(|(partition, batch)| Append::new(partition, batch.clone())).collect()
    }
}

/// Messages on their way into queues.
#[derive(Default)]
pub(crate) struct Intake {
    open: Vec<Open>,
    /// The last batch of each queue.
    last: HashMap<LogId, usize>,
    awaited: Vec<Awaited>,
    len: usize,
}

/// A unit ready to be stored: it can be built again when the broker has no room.
pub(crate) struct Batches {
    appends: Vec<(Arc<Queue>, NewBatch)>,
    /// Those that go along routes as well: which batch, where it goes, and as what.
    onward: Vec<(usize, Arc<Resolved>, NewBatch)>,
    /// For each batch, which appends are of it.
    ranges: Vec<std::ops::Range<usize>>,
    awaited: Vec<Awaited>,
    /// What it means for the others when a queue refuses some.
    extent: Extent,
    /// What became of those that are stored already, where they are stored in several units, and when that is durable.
    stored: (Vec<Outcome>, Seq),
}

impl Intake {
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.awaited.is_empty()
    }

    /// Bytes that are gathered.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Whether enough is gathered to be stored.
    pub(crate) fn is_full(&self) -> bool {
        self.len >= GATHERED_LEN
    }

    /// Takes a message for these queues; `confirmed` is the channel and the message's number there.
    pub(crate) fn add(
        &mut self,
        message: &Whole<'_>,
        properties: &[u8],
        to: &Arc<Resolved>,
        confirmed: Option<(u16, u64)>,
        now_ms: i64,
    ) {
        let batch = (!to.is_nowhere()).then(|| self.batch_for(message, to));
        if let Some(open) = batch.and_then(|at| self.open.get_mut(at)) {
            let before = open.body.len();
            let stored = Stored {
                exchange: message.exchange.as_bytes(),
                routing_key: message.routing_key,
                properties,
                body: message.body,
            };
            stored.put(open.count, &mut open.body);
            let row = Row {
                priority: message.properties.priority,
                ttl_ms: expiration_ms(&message.properties),
                now_ms,
                due_ms: to
                    .has_schedule
                    .then(|| schedule::delay_ms(message.properties.headers.unwrap_or_default()))
                    .flatten()
                    .map(|delay_ms| now_ms.saturating_add_unsigned(delay_ms)),
                body_len: u32::try_from(message.body.len()).unwrap_or(u32::MAX),
            };
            open.says_something |=
                row.priority.is_some_and(|priority| priority > 0) || row.ttl_ms.is_some() || to.is_impatient;
            open.rows.push(row);
            if !open.to.onward.is_empty() {
                open.keys.push(Bytes::copy_from_slice(message.routing_key));
            }
            open.count += 1;
            self.len += open.body.len() - before;
        }
        if let Some((channel, number)) = confirmed {
            self.awaited.push(Awaited { channel, number, batch });
        }
    }

    /// The batch that the message goes into: the last one of all its queues, or a new one.
    fn batch_for(&mut self, message: &Whole<'_>, to: &Arc<Resolved>) -> usize {
        let is_persistent = message.properties.is_persistent();
        if !to.onward.is_empty() {
            return self.batch_onward(message, to, is_persistent);
        }
        // The batch that was begun last is the last one of all its queues.
        if let Some(open) = self.open.last()
            && Arc::ptr_eq(&open.to, to)
            && open.takes(is_persistent)
        {
            return self.open.len() - 1;
        }
        let mut lasts = to.queues.iter().map(|queue| self.last.get(&queue.partition.log_id()));
        let last = lasts.next().flatten().copied();
        if let Some(at) = last
            && lasts.all(|other| other == Some(&at))
            && let Some(open) = self.open.get(at)
            && open.to.onward.is_empty()
            && open.to.queues.len() == to.queues.len()
            && open.takes(is_persistent)
        {
            return at;
        }
        self.new_batch(to, is_persistent)
    }

    fn new_batch(&mut self, to: &Arc<Resolved>, is_persistent: bool) -> usize {
        let at = self.open.len();
        self.open.push(Open {
            to: to.clone(),
            is_persistent,
            count: 0,
            body: Vec::new(),
            rows: Vec::new(),
            says_something: false,
            keys: Vec::new(),
        });
        self.last.extend(to.queues.iter().map(|queue| (queue.partition.log_id(), at)));
        at
    }

    /// The same for a message that takes routes: only the very last batch keeps the order of what they lead to.
    fn batch_onward(&mut self, message: &Whole<'_>, to: &Arc<Resolved>, is_persistent: bool) -> usize {
        let last = self.open.len().checked_sub(1);
        let is_joined = self.open.last().is_some_and(|open| {
            Arc::ptr_eq(&open.to, to)
                && open.is_persistent == is_persistent
                && open.count < open.to.batch_count_max
                && open.body.len() + message.body.len() + PROPERTIES_LEN < to.batch_len_max()
        });
        match last.filter(|_| is_joined) {
            Some(at) => at,
            None => self.new_batch(to, is_persistent),
        }
    }

    /// What was gathered, ready to be stored.
    pub(crate) fn take(&mut self) -> Batches {
        self.last.clear();
        self.len = 0;
        let (mut appends, mut ranges) = (Vec::new(), Vec::with_capacity(self.open.len()));
        let mut onward = Vec::new();
        for mut open in self.open.drain(..) {
            let from = appends.len();
            let body = Bytes::from(std::mem::take(&mut open.body));
            appends.extend(open.to.queues.iter().map(|queue| (queue.clone(), open.batch_of(queue, &body))));
            if !open.to.onward.is_empty() {
                onward.push((ranges.len(), open.to.clone(), open.batch_onward(&body)));
            }
            ranges.push(from..appends.len());
        }
        Batches {
            appends,
            ranges,
            onward,
            awaited: std::mem::take(&mut self.awaited),
            extent: Extent::Each,
            stored: Default::default(),
        }
    }
}

impl Resolved {
    /// Bytes of a batch of several messages that every target of its routes takes.
    fn batch_len_max(&self) -> usize {
        self.onward.iter().map(Routed::batch_len_max).min().unwrap_or(BATCH_LEN).min(BATCH_LEN) / 2
    }
}

impl Open {
    /// Whether one more message goes into it.
    fn takes(&self, is_persistent: bool) -> bool {
        self.is_persistent == is_persistent
            && self.count < self.to.batch_count_max
            && self.body.len() < BATCH_LEN
    }

    fn batch_of(&self, queue: &Queue, body: &Bytes) -> NewBatch {
        let attributes = if queue.is_schedule {
            let row = |row: &Row| RecordAttributes {
                deliver_at_ms: row.due_ms,
                body_len: Some(row.body_len),
                ..RecordAttributes::default()
            };
            Attributes::Rows(self.rows.iter().map(row).collect())
        } else if queue.arguments.max_priority.is_some() || self.says_something {
            let row = |row: &Row| RecordAttributes {
                priority: queue.arguments.level(row.priority),
                expiry_ms: queue.expiry_ms(row.ttl_ms, row.now_ms),
                body_len: Some(row.body_len),
                ..RecordAttributes::default()
            };
            Attributes::Rows(self.rows.iter().map(row).collect())
        } else {
            Attributes::None
        };
        NewBatch {
            count: self.count,
            format: FORMAT,
            attributes,
            body: body.clone(),
            // What waits for its time survives a restart, whatever it is then.
            durability: (!self.is_persistent && !queue.is_schedule).then_some(Durability::Memory),
            counted_len: Some(self.rows.iter().map(|row| u64::from(row.body_len)).sum()),
            ..NewBatch::default()
        }
    }
}

impl Open {
    /// The batch as routes take it along: in other queues and logs it neither expires nor comes before others.
    fn batch_onward(&self, body: &Bytes) -> NewBatch {
        let row = |(row, key): (&Row, &Bytes)| RecordAttributes {
            route_key: Some(key.clone()),
            body_len: Some(row.body_len),
            ..RecordAttributes::default()
        };
        NewBatch {
            count: self.count,
            format: FORMAT,
            attributes: Attributes::Rows(self.rows.iter().zip(&self.keys).map(row).collect()),
            body: body.clone(),
            durability: (!self.is_persistent).then_some(Durability::Memory),
            ..NewBatch::default()
        }
    }
}

impl Batches {
    /// The same, as copies of a record that was moved here.
    pub(crate) fn of(mut self, origin: Option<Origin>) -> Self {
        self.appends.iter_mut().for_each(|(_, batch)| batch.origin = origin);
        self
    }

    /// The same, to be stored everywhere or nowhere; as far as one unit holds it.
    pub(crate) fn everywhere(self) -> Self {
        Batches { extent: Extent::All, ..self }
    }

    /// Bytes of those of its batches that memory alone keeps.
    pub(crate) fn volatile_len(&self) -> usize {
        let is_volatile = |(queue, batch): &&(Arc<Queue>, NewBatch)| {
            batch.durability == Some(Durability::Memory) || queue.stream.facets().transient
        };
        self.appends.iter().filter(is_volatile).map(|(_, batch)| batch.body.len()).sum()
    }

    /// The unit, and which of its appends are copies of a batch that routes took along.
    fn unit(&self, broker: &Broker, settlements: &[Settlement]) -> Result<(PublishUnit, Vec<Copies>)> {
        let append = |(queue, batch): &(Arc<Queue>, NewBatch)| Append::new(&queue.partition, batch.clone());
        let appends = self.appends.iter().map(append).collect();
        let (settlements, extent) = (settlements.to_vec(), self.extent);
        let mut unit = PublishUnit { settlements, extent, ..PublishUnit::of(appends) };
        let mut copies = Vec::with_capacity(self.onward.len());
        for (of, to, batch) in &self.onward {
            let already: Vec<_> = to.queues.iter().map(|queue| queue.stream.clone()).collect();
            let from = unit.appends.len();
            broker.onward(&to.onward, batch, &already)?.join(&mut unit);
            copies.push((*of, from..unit.appends.len()));
        }
        Ok((unit, copies))
    }

    /// Stores everything, with these settlements in the same unit; what to say of it, and when. An error says whether to
    /// try again: nothing happened then, but that a part of very much may be stored, which is not stored again.
    pub(crate) fn publish(&mut self, vhost: &Vhost, settlements: &[Settlement]) -> Result<Kept> {
        if self.appends.is_empty() && self.onward.is_empty() && settlements.is_empty() {
            let answer = Answer { wait: Seq(0), frames: self.confirms(|_| true) };
            return Ok(Kept { answer, ..Kept::default() });
        }
        let (mut unit, copies) = self.unit(&vhost.broker, settlements)?;
        if unit.live.is_empty()
            && unit.followers.is_empty()
            && let Some(refused) = self.store_much(&vhost.broker, &mut unit)?
        {
            return Ok(self.refused(&refused));
        }
        let mut published = vhost.broker.publish(unit)?;
        if self.extent == Extent::All && published.outcomes.iter().any(is_refused) {
            return Ok(self.refused(&published.outcomes));
        }
        let (stored, wait) = std::mem::take(&mut self.stored);
        published.outcomes = stored.into_iter().chain(published.outcomes).collect();
        published.wait = published.wait.max(wait);
        let letters = self.letters(vhost, &published.outcomes);
        let is_taken = |at: usize| {
            let refused = |outcome: &Outcome| match outcome {
                // A queue that is gone takes what it gets, as the original has it.
                Outcome::Refused(refusal) => refusal.reason != broker::RefusalReason::Closed,
                Outcome::Appended { .. } | Outcome::Duplicate { .. } => false,
            };
            let of_copies = copies.iter().filter(|(of, _)| *of == at).map(|(_, range)| range);
            let ranges = self.ranges.get(at).into_iter().chain(of_copies);
            let mut outcomes = ranges.filter_map(|range| published.outcomes.get(range.clone())).flatten();
            !outcomes.any(refused)
        };
        let is_partial = !(0..self.ranges.len()).all(&is_taken);
        let answer = Answer { wait: published.wait, frames: self.confirms(is_taken) };
        Ok(Kept { answer, is_partial, letters, ..Kept::default() })
    }

    /// What was to be stored everywhere and was refused like this: the next try goes on with what is not stored yet.
    fn refused(&self, outcomes: &[Outcome]) -> Kept {
        let has = |reason: RefusalReason| {
            outcomes.iter().any(|outcome| matches!(outcome, Outcome::Refused(of) if of.reason == reason))
        };
        let is_gone = has(RefusalReason::Closed);
        let others = [RefusalReason::TooLarge, RefusalReason::Invalid, RefusalReason::ConditionFailed];
        // With a full one among them they wait for that.
        let is_hopeless = others.into_iter().any(has) && !has(RefusalReason::Full);
        let answer = Answer { wait: self.stored.1, frames: Vec::new() };
        Kept { answer, is_partial: true, is_hopeless, is_gone, letters: Vec::new() }
    }

    /// Whether some of it is stored, and not with the rest.
    pub(crate) fn is_begun(&self) -> bool {
        !self.stored.0.is_empty()
    }

    /// The same, to be stored wherever it is taken.
    pub(crate) fn wherever(self) -> Self {
        Batches { extent: Extent::Each, ..self }
    }

    /// Stores the first of a unit's appends, until no more is left than one unit holds: what goes to very many queues is
    /// stored in several, and is there with the last of them, which has the settlements. Answers what came of a part that
    /// was to be stored everywhere and was not.
    fn store_much(&mut self, broker: &Broker, unit: &mut PublishUnit) -> Result<Option<Vec<Outcome>>> {
        unit.appends.drain(..self.stored.0.len().min(unit.appends.len()));
        let len_of = |append: &Append| append.batch.body.len();
        let mut left: usize = unit.appends.iter().map(len_of).sum();
        let unit_len = if self.extent == Extent::All { WHOLE_LEN } else { UNIT_LEN };
        while left > unit_len && unit.appends.len() > 1 {
            let mut len = 0;
            let fits = |append: &&Append| {
                len += len_of(append);
                len <= unit_len
            };
            let count = unit.appends.iter().take_while(fits).count().clamp(1, unit.appends.len() - 1);
            let part: Vec<Append> = unit.appends.drain(..count).collect();
            left -= part.iter().map(len_of).sum::<usize>();
            let published = broker.publish(PublishUnit { extent: self.extent, ..PublishUnit::of(part) })?;
            if self.extent == Extent::All && published.outcomes.iter().any(is_refused) {
                return Ok(Some(published.outcomes));
            }
            self.stored.0.extend(published.outcomes);
            self.stored.1 = self.stored.1.max(published.wait);
        }
        Ok(None)
    }

    /// The dead letters of what full queues refused.
    fn letters(&self, vhost: &Vhost, outcomes: &[Outcome]) -> Vec<(Arc<Partition>, NewBatch)> {
        let mut letters = Vec::new();
        for ((queue, batch), outcome) in self.appends.iter().zip(outcomes) {
            let Outcome::Refused(refusal) = outcome else { continue };
            if refusal.reason != broker::RefusalReason::Full {
                continue;
            }
            match dead_letters::of_refused(vhost, queue, batch) {
                Ok(copies) => letters.extend(copies),
                Err(error) => {
                    tracing::error!(queue = %queue.name, %error, "a refused message has no dead letter");
                }
            }
        }
        letters
    }

    /// Confirms, as few as can say it, in the order of the messages of each channel: what was taken up to the next that was
    /// refused, or to the last, and each that was refused. A client that is told of one that was refused after others with
    /// higher numbers would take it for one of those.
    fn confirms(&self, is_taken: impl Fn(usize) -> bool) -> Vec<u8> {
        let mut frames = Vec::new();
        let mut upto: Vec<(u16, u64, u32)> = Vec::new();
        let acked = |delivery_tag, count| Method::BasicAck { delivery_tag, multiple: count > 1 };
        for Awaited { channel, number, batch } in &self.awaited {
            let open = upto.iter().position(|(known, ..)| known == channel);
            if batch.is_some_and(|batch| !is_taken(batch)) {
                if let Some((_, last, count)) = open.map(|at| upto.remove(at)) {
                    put_method(&mut frames, *channel, acked(last, count));
                }
                let nack = Method::BasicNack { delivery_tag: *number, multiple: false, requeue: false };
                put_method(&mut frames, *channel, nack);
                continue;
            }
            match open.and_then(|at| upto.get_mut(at)) {
                Some((_, last, count)) => (*last, *count) = (*number, *count + 1),
                None => upto.push((*channel, *number, 1)),
            }
        }
        for (channel, last, count) in upto {
            put_method(&mut frames, channel, acked(last, count));
        }
        frames
    }
}
