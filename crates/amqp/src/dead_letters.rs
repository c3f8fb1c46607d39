//! Dead letters: from the queue that they leave, through its dead-letter exchange, with what happened in `x-death`.
//!
//! The broker asks where a record goes while it takes it away, and stores the copies in the same unit: a dead letter is
//! neither lost nor there twice, unless its copies are too much for one unit and there is a crash between several.

use std::sync::{Arc, Weak};

use broker::{Broker, DeadLetters, Durability, Letter, LetterReason, NewBatch, Partition, Stream};
use bytes::Bytes;
use model::{Attributes, Namespace, RecordAttributes, Result};

use crate::{
    codec::{Properties, Table, TableWriter, Value, table_of},
    message::{FORMAT, Place, Stored, find, with_headers},
    schedule,
    server::Server,
    vhost::{DEFAULT, Vhost, arguments::OverflowPolicy, queue::Queue},
};

/// How the dialect is called where the broker has to find it.
pub const DIALECT: &str = "amqp";

const DEATHS: &str = "x-death";

/// Entries of `x-death` that are kept.
const DEATHS_MAX: usize = 1_000;

/// Takes the broker's dead letters.
pub(crate) struct Taker {
    pub server: Weak<Server>,
}

/// A queue that a message left, why, and how often.
struct Death<'a> {
    queue: String,
    reason: String,
    count: i64,
    fields: Table<'a>,
}

impl Death<'_> {
    /// Whether the message had another routing key in that queue than it has now: it was given one there.
    fn had_another_key(&self, routing_key: &[u8]) -> bool {
        keys_of(self.fields, "routing-keys").first().is_none_or(|first| *first != routing_key)
    }
}

/// Whether the last queue that a dead letter left gave it its routing key, in place of all that it had.
pub(crate) fn has_own_key(headers: Table<'_>, routing_key: &[u8]) -> bool {
    deaths_of(headers).first().is_some_and(|newest| newest.had_another_key(routing_key))
}

fn reason_of(reason: LetterReason) -> &'static str {
    match reason {
        LetterReason::Rejected => "rejected",
        LetterReason::Exhausted => "delivery_limit",
        LetterReason::Expired => "expired",
        LetterReason::Excess => "maxlen",
    }
}

/// The virtual host that a namespace is.
pub(crate) fn vhost_name(namespace: &Namespace) -> &str {
    if &*namespace.space == "default" { DEFAULT } else { &namespace.space }
}

impl DeadLetters for Taker {
    fn route(&self, letter: &Letter<'_>) -> Result<Vec<(Arc<Partition>, NewBatch)>> {
        let Some((vhost, queue)) = self.queue_of(letter.stream)? else { return Ok(Vec::new()) };
        with_route(letter, &vhost, &queue, &|route| route.copies())
    }

    /// A classic queue that rejects what is published to it rejects letters (`rabbit_amqqueue_process`); to a quorum queue they
    /// come without a publisher that could be told (`rabbit_quorum_queue:deliver`), and are never refused.
    fn refuses(&self, target: &Stream) -> bool {
        let found = self.queue_of(target).ok().flatten();
        found.is_some_and(|(_, queue)| {
            let arguments = &queue.arguments;
            let rejects = match arguments.overflow {
                OverflowPolicy::DropHead => false,
                OverflowPolicy::RejectPublish => true,
                // Theirs go on to its own dead-letter exchange in the original, here they stay.
                OverflowPolicy::RejectPublishDlx => arguments.dead_letter_exchange.is_none(),
            };
            rejects && !arguments.is_quorum
        })
    }

    fn keep(&self, letter: &Letter<'_>) -> Result<Option<(Arc<Partition>, NewBatch)>> {
        let found = self.queue_of(letter.stream)?.filter(|(_, queue)| queue.arguments.keeps_letters());
        let Some((vhost, queue)) = found else { return Ok(None) };
        let kept = |route: &Route<'_>| Ok(route.kept()?.into_iter().collect());
        Ok(with_route(letter, &vhost, &queue, &kept)?.pop())
    }
}

type Copies = Vec<(Arc<Partition>, NewBatch)>;

impl Taker {
    /// The queue that a stream is, if it is one here.
    fn queue_of(&self, stream: &Stream) -> Result<Option<(Arc<Vhost>, Arc<Queue>)>> {
        if stream.key().kind != model::Kind::Queue {
            return Ok(None);
        }
        let Some(server) = self.server.upgrade() else {
            return Err(model::Error::unavailable("the dialect stops"));
        };
        let namespace = &stream.key().namespace;
        let vhost = server.vhosts.of(&server.broker, vhost_name(namespace), namespace.clone());
        let queue = vhost.find_queue(&stream.key().name).map_err(internal)?;
        Ok(queue.map(|queue| (vhost, queue)))
    }
}

/// What `each` makes of a letter of `queue`, if that has an exchange for it.
fn with_route(
    letter: &Letter<'_>,
    vhost: &Vhost,
    queue: &Queue,
    each: &dyn Fn(&Route<'_>) -> Result<Copies>,
) -> Result<Copies> {
    let Some(exchange) = &queue.arguments.dead_letter_exchange else { return Ok(Vec::new()) };
    let (own, mut place);
    let (body, index) = if letter.batch.format == FORMAT {
        place = letter.place.get();
        (&letter.batch.body, letter.index)
    } else {
        (own, place) = (converted(&vhost.broker, &queue.partition, letter)?, Place::default());
        (&own, 0)
    };
    let Some((stored, _)) = find(body, index, &mut place)? else { return Ok(Vec::new()) };
    letter.place.set(place);
    let now_ms = vhost.broker.env().clock.wall_ms();
    let is_moved = letter.batch.origin.is_some();
    each(&Route { vhost, queue, exchange, reason: letter.reason, is_moved, stored, now_ms })
}

/// The dead letters of a message that `queue` is too full for, where its overflow policy has some: `batch` has it alone.
pub(crate) fn of_refused(
    vhost: &Vhost,
    queue: &Queue,
    batch: &NewBatch,
) -> Result<Vec<(Arc<Partition>, NewBatch)>> {
    let policy = queue.arguments.overflow;
    let Some(exchange) = queue.arguments.dead_letter_exchange.as_deref() else { return Ok(Vec::new()) };
    if policy != OverflowPolicy::RejectPublishDlx {
        return Ok(Vec::new());
    }
    let Some((stored, _)) = find(&batch.body, 0, &mut Place::default())? else { return Ok(Vec::new()) };
    let now_ms = vhost.broker.env().clock.wall_ms();
    let reason = LetterReason::Excess;
    Route { vhost, queue, exchange, reason, is_moved: false, stored, now_ms }.copies()
}

pub(crate) fn internal(exception: crate::error::Exception) -> model::Error {
    model::Error::internal(exception.to_string())
}

/// The one record of another dialect, as this one stores it.
fn converted(broker: &Broker, partition: &Partition, letter: &Letter<'_>) -> Result<Bytes> {
    let decoded = broker.decoded(partition, letter.batch)?;
    let record = decoded.record(letter.index).map(std::slice::from_ref);
    broker.formats().of(FORMAT)?.write(record.unwrap_or_default())
}

/// A dead letter on its way.
struct Route<'a> {
    vhost: &'a Vhost,
    queue: &'a Queue,
    exchange: &'a str,
    reason: LetterReason,
    /// It came from another queue: what it says of its deaths is the broker's own.
    is_moved: bool,
    stored: Stored<'a>,
    now_ms: i64,
}

/// A dead letter as it is stored.
struct Written<'a> {
    properties: Properties<'a>,
    deaths: Vec<Death<'a>>,
    headers: Vec<u8>,
    raw_properties: Vec<u8>,
    routing_key: &'a [u8],
}

impl Written<'_> {
    fn message<'m>(&'m self, route: &'m Route<'_>) -> Stored<'m> {
        Stored {
            exchange: route.exchange.as_bytes(),
            routing_key: self.routing_key,
            properties: &self.raw_properties,
            body: route.stored.body,
        }
    }
}

fn body_of(message: &Stored<'_>) -> Bytes {
    let mut body = Vec::new();
    message.put(0, &mut body);
    body.into()
}

impl Route<'_> {
    fn own_key(&self) -> Option<&[u8]> {
        self.queue.arguments.dead_letter_key.as_deref()
    }

    fn written(&self) -> Written<'_> {
        let properties = self.stored.read_properties();
        let old = properties.headers.unwrap_or_default();
        let deaths = self.earlier(old);
        let headers = self.headers(&properties, old, &deaths, reason_of(self.reason));
        let raw_properties = with_headers(&properties, &headers, false);
        let routing_key = self.own_key().unwrap_or(self.stored.routing_key);
        Written { properties, deaths, headers, raw_properties, routing_key }
    }

    fn copies(&self) -> Result<Copies> {
        let written = self.written();
        let mut keys: Vec<&[u8]> = vec![written.routing_key];
        if self.own_key().is_none() {
            let old = written.properties.headers.unwrap_or_default();
            keys.extend(self.further_keys(old, &written.deaths));
        }
        let headers = table_of(&written.headers);
        let resolved = self.vhost.resolve(self.exchange, &keys, headers).map_err(internal)?;
        if resolved.is_nowhere() && self.queue.arguments.keeps_letters() {
            return Ok(self.kept()?.into_iter().collect());
        }
        let message = written.message(self);
        let body = body_of(&message);
        let goes = |queue: &&Arc<Queue>| !self.goes_round(&queue.name, &written.deaths);
        let due_ms = schedule::delay_ms(headers).map(|delay| self.now_ms.saturating_add_unsigned(delay));
        let copy = |queue: &Arc<Queue>| {
            let batch = batch_for(queue, &message, &written.properties, &body, (due_ms, self.now_ms));
            (queue.partition.clone(), batch)
        };
        let mut copies: Vec<_> = resolved.queues.iter().filter(goes).map(copy).collect();
        if !resolved.onward.is_empty() {
            let streams: Vec<_> = resolved.queues.iter().map(|queue| queue.stream.clone()).collect();
            let batch = batch_onward(&message, &body);
            let onward = self.vhost.broker.onward(&resolved.onward, &batch, &streams)?;
            copies.extend(onward.appends.into_iter().map(|append| (append.partition, append.batch)));
        }
        Ok(copies)
    }

    /// The letter as it waits for a queue that takes it.
    fn kept(&self) -> Result<Option<(Arc<Partition>, NewBatch)>> {
        let name = schedule::of_letters(&self.queue.name);
        let Some(queue) = self.vhost.find_any_queue(&name).map_err(internal)? else { return Ok(None) };
        let retry_ms = i64::try_from(schedule::RETRY.as_millis()).unwrap_or(i64::MAX);
        let due_ms = Some(self.now_ms.saturating_add(retry_ms));
        let written = self.written();
        let message = written.message(self);
        let times = (due_ms, self.now_ms);
        let batch = batch_for(&queue, &message, &written.properties, &body_of(&message), times);
        Ok(Some((queue.partition.clone(), batch)))
    }

    /// What happened to the message before. What a client wrote there does not count.
    fn earlier<'t>(&self, headers: Table<'t>) -> Vec<Death<'t>> {
        if !self.is_moved {
            return Vec::new();
        }
        deaths_of(headers)
    }

    /// Whether a message comes back to a queue that it left, and nobody has rejected it on the way: it would go round for
    /// ever.
    fn goes_round(&self, queue: &str, deaths: &[Death<'_>]) -> bool {
        if self.reason == LetterReason::Rejected {
            return false;
        }
        if queue == &*self.queue.name {
            return true;
        }
        let Some(at) = deaths.iter().position(|death| death.queue == queue) else { return false };
        deaths.iter().take(at + 1).all(|death| death.reason != "rejected")
    }

    /// The further routing keys that count for the message: those of its header, which stays as it was sent, unless a queue
    /// that it left before put a key of its own in place of all of them.
    fn further_keys<'t>(&self, headers: Table<'t>, deaths: &[Death<'t>]) -> Vec<&'t [u8]> {
        match deaths.first() {
            Some(newest) if newest.had_another_key(self.stored.routing_key) => Vec::new(),
            _ => keys_of(headers, "CC"),
        }
    }

    fn headers(
        &self,
        properties: &Properties<'_>,
        old: Table<'_>,
        deaths: &[Death<'_>],
        reason: &str,
    ) -> Vec<u8> {
        let is_known = |death: &&Death<'_>| death.queue == *self.queue.name && death.reason == reason;
        let newest = match deaths.iter().find(is_known) {
            Some(death) => again(death),
            None => self.entry(properties, &self.further_keys(old, deaths), reason),
        };
        let mut all = vec![Value::Table(table_of(&newest))];
        all.extend(deaths.iter().filter(|death| !is_known(death)).map(|death| Value::Table(death.fields)));
        let mut headers = TableWriter::default();
        let (queue, exchange) = (self.queue.name.as_bytes(), self.stored.exchange);
        let has_first = !deaths.is_empty() && old.get("x-first-death-reason").is_some();
        for (name, field) in old.raw_fields() {
            let is_replaced = name == DEATHS.as_bytes()
                || name.starts_with(b"x-last-death-")
                || (!has_first && name.starts_with(b"x-first-death-"))
                || name == b"x-delivery-count";
            if !is_replaced {
                headers.raw(field);
            }
        }
        headers.array(DEATHS, all.into_iter());
        let places = if has_first { &["last"][..] } else { &["first", "last"] };
        for place in places {
            headers
                .field(&format!("x-{place}-death-exchange"), Value::Text(exchange))
                .field(&format!("x-{place}-death-queue"), Value::Text(queue))
                .field(&format!("x-{place}-death-reason"), Value::Text(reason.as_bytes()));
        }
        headers.finish()
    }

    /// The entry of `x-death` of a queue that the message leaves for the first time for that reason.
    fn entry(&self, properties: &Properties<'_>, further: &[&[u8]], reason: &str) -> Vec<u8> {
        let keys = [self.stored.routing_key].into_iter().chain(further.iter().copied()).map(Value::Text);
        let mut entry = TableWriter::default();
        entry
            .field("count", Value::I64(1))
            .field("reason", Value::Text(reason.as_bytes()))
            .field("queue", Value::Text(self.queue.name.as_bytes()))
            .field("time", Value::Time(u64::try_from(self.now_ms / 1_000).unwrap_or(0)))
            .field("exchange", Value::Text(self.stored.exchange))
            .array("routing-keys", keys);
        if let Some(expiration) = properties.expiration {
            entry.field("original-expiration", Value::Text(expiration));
        }
        entry.finish()
    }
}

/// An entry once more: everything but the count stays as it was the first time.
fn again(death: &Death<'_>) -> Vec<u8> {
    let mut entry = TableWriter::default();
    entry.field("count", Value::I64(death.count.saturating_add(1)));
    for (_, field) in death.fields.raw_fields().filter(|(name, _)| *name != b"count") {
        entry.raw(field);
    }
    entry.finish()
}

/// What `x-death` says.
fn deaths_of(headers: Table<'_>) -> Vec<Death<'_>> {
    let Some(Value::Array(deaths)) = headers.get(DEATHS) else { return Vec::new() };
    let text =
        |fields: Table<'_>, name: &str| fields.get(name).and_then(Value::text).unwrap_or_default().to_owned();
    let read = deaths.values().take(DEATHS_MAX).filter_map(|value| match value {
        Value::Table(fields) => Some(Death {
            queue: text(fields, "queue"),
            reason: text(fields, "reason"),
            count: fields.get("count").and_then(Value::integer).unwrap_or(1),
            fields,
        }),
        _ => None,
    });
    read.collect()
}

/// Whether a dead letter with these headers comes back to a queue that it left, and nobody has rejected it on the way.
pub(crate) fn goes_round(headers: Table<'_>, queue: &str) -> bool {
    let deaths = deaths_of(headers);
    let at = deaths.iter().position(|death| death.queue == queue);
    at.is_some_and(|at| deaths.iter().take(at + 1).all(|death| death.reason != "rejected"))
}

pub(crate) fn keys_of<'t>(headers: Table<'t>, name: &str) -> Vec<&'t [u8]> {
    let Some(Value::Array(keys)) = headers.get(name) else { return Vec::new() };
    let text = |value| match value {
        Value::Text(key) => Some(key),
        _ => None,
    };
    keys.values().filter_map(text).collect()
}

/// A dead letter that a route takes from its exchange.
fn batch_onward(message: &Stored<'_>, body: &Bytes) -> NewBatch {
    let row = RecordAttributes {
        route_key: Some(Bytes::copy_from_slice(message.routing_key)),
        body_len: Some(u32::try_from(message.body.len()).unwrap_or(u32::MAX)),
        ..RecordAttributes::default()
    };
    NewBatch {
        count: 1,
        format: FORMAT,
        attributes: Attributes::Same(Box::new(row)),
        body: body.clone(),
        ..NewBatch::default()
    }
}

/// The batch of one queue; where messages wait in that one, this waits until `due_ms`.
fn batch_for(
    queue: &Queue,
    message: &Stored<'_>,
    properties: &Properties<'_>,
    body: &Bytes,
    (due_ms, now_ms): (Option<i64>, i64),
) -> NewBatch {
    let row = RecordAttributes {
        priority: queue.arguments.level(properties.priority),
        expiry_ms: queue.expiry_ms(None, now_ms),
        deliver_at_ms: due_ms.filter(|_| queue.is_schedule),
        body_len: Some(u32::try_from(message.body.len()).unwrap_or(u32::MAX)),
        ..RecordAttributes::default()
    };
    NewBatch {
        count: 1,
        format: FORMAT,
        attributes: Attributes::Same(Box::new(row)),
        body: body.clone(),
        durability: (!properties.is_persistent() && !queue.is_schedule).then_some(Durability::Memory),
        ..NewBatch::default()
    }
}
