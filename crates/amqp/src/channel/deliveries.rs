//! Delivery tags, what is out, and credit: what the consumers of a channel and its reader share.

use std::{
    borrow::Cow,
    collections::VecDeque,
    ops::Range,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
};

use broker::{Broker, Credit, Delivery, GrantRun, HolderId, Partition};
use bytes::Bytes;
use model::{Batch, Offset, Result};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use wire::Gathered;

use crate::{
    channel::assembly::Whole,
    client::Client,
    codec::{Key, Method, TableWriter, Value, put_body, put_body_of, put_content, put_method},
    message::{FORMAT, Place, Stored, find, with_headers},
    vhost::queue::Queue,
};

/// Messages that may be out on one channel without a limit of its own: bounds what the server keeps for it.
pub(crate) const OUT_MAX: u64 = 1_000_000;

/// Headers of messages that were delivered before, in quorum queues.
pub(crate) const DELIVERY_COUNT: &str = "x-delivery-count";
pub(crate) const ACQUIRED_COUNT: &str = "x-acquired-count";

/// How often it is looked at most whether deliveries were settled in time, nanoseconds.
pub(crate) const LOOK_MIN_NS: u64 = 100_000_000;

/// Bytes that may wait for a client before replies to it are dropped.
const REPLIES_LEN: usize = 16 << 20;

/// Who messages of a queue are leased for: a consumer, or a channel that takes them one by one.
pub(crate) struct Lessee {
    pub queue: Arc<Queue>,
    pub holder: HolderId,
    /// Messages that are out.
    pub out: AtomicU64,
    /// How long it may have a message, nanoseconds; `None` = for ever.
    pub timeout_ns: Option<u64>,
    /// Told when it may have more, or has to end.
    pub wake: Notify,
    pub is_stopped: AtomicBool,
}

impl Lessee {
    pub(crate) fn new(queue: Arc<Queue>, holder: HolderId, timeout_ns: Option<u64>) -> Self {
        Lessee {
            queue,
            holder,
            out: AtomicU64::new(0),
            timeout_ns,
            wake: Notify::new(),
            is_stopped: AtomicBool::new(false),
        }
    }
}

/// A delivery that is not settled.
pub(crate) struct Unacked {
    pub tag: u64,
    pub offset: Offset,
    /// Which delivery of it this is.
    pub attempt: u32,
    pub lessee: Arc<Lessee>,
    /// Whether it uses credit up.
    pub counts: bool,
    /// By when it has to be settled, by the monotonic clock, nanoseconds; `u64::MAX` = at any time. 0 once that is over: it
    /// went back, and the client's word on it does not count any more.
    due_ns: u64,
}

impl Unacked {
    fn is_over(&self) -> bool {
        self.due_ns == 0
    }
}

/// What was not settled in time.
#[derive(Default)]
pub(crate) struct Overdue {
    /// Such deliveries, of which the client may still say something.
    pub late: Vec<Unacked>,
    /// When the next one may be, nanoseconds.
    pub next_ns: Option<u64>,
}

/// Where a consumer is in the batch that it reads.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reading {
    batch: Option<(Offset, usize)>,
    place: Place,
}

impl Reading {
    /// The place in that batch: the start, unless it was read last.
    fn place_in(&mut self, batch: &Batch) -> &mut Place {
        let batch = Some((batch.base, batch.body.len()));
        if self.batch != batch {
            *self = Reading { batch, place: Place::default() };
        }
        &mut self.place
    }
}

/// The half of a channel that consumers write to.
pub(crate) struct Deliveries {
    pub client: Arc<Client>,
    pub channel: u16,
    state: Mutex<State>,
}

struct State {
    last_tag: u64,
    /// By tag, ascending.
    unacked: VecDeque<Unacked>,
    /// What all consumers of the channel share.
    credit: Credit,
    /// Who shares it.
    consumers: Vec<Weak<Lessee>>,
    /// Messages that consumers are about to take, as far as they share a limit.
    held: u64,
    /// Somebody found no room that the channel as a whole has.
    waits_for_room: bool,
    is_closed: bool,
}

/// How a message is delivered.
#[derive(Clone, Copy)]
pub(crate) enum Form<'a> {
    /// To a consumer of that tag.
    Pushed(&'a str),
    /// To a client that asked for one, and is told how many there are.
    Got(u32),
}

/// Messages that were found in a batch.
pub(crate) struct Laid<'a> {
    pub offset: Offset,
    attempt: u32,
    is_redelivered: bool,
    pub exchange: &'a [u8],
    pub routing_key: &'a [u8],
    pub properties: &'a [u8],
    /// Where its body is in that of the batch.
    all: &'a Bytes,
    range: Range<usize>,
}

impl<'a> Laid<'a> {
    pub(crate) fn body(&self) -> &'a [u8] {
        self.all.get(self.range.clone()).unwrap_or_default()
    }
}

impl State {
    /// How many more messages may go out.
    fn room(&self) -> u64 {
        let shared = self.credit.narrow(broker::Allowance::records(OUT_MAX)).records;
        shared.saturating_sub(self.held).min(OUT_MAX.saturating_sub(self.unacked.len() as u64))
    }

    /// The credit is shared: whoever waits for it may have some.
    fn tell_room(&mut self) {
        self.waits_for_room = false;
        self.consumers.retain(|consumer| {
            consumer.upgrade().is_some_and(|other| {
                other.wake.notify_one();
                true
            })
        });
    }
}

/// Room that a consumer has for what it takes next. What is out by the end counts by itself.
pub(crate) struct Held<'a> {
    deliveries: &'a Deliveries,
    /// Messages there is room for.
    pub count: u64,
    shared: u64,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if self.shared > 0 {
            let mut state = self.deliveries.lock();
            state.held -= self.shared;
            if state.waits_for_room {
                state.tell_room();
            }
        }
    }
}

impl Deliveries {
    pub(crate) fn new(client: Arc<Client>, channel: u16) -> Self {
        let state = State {
            last_tag: 0,
            unacked: VecDeque::new(),
            credit: Credit::new(None, None),
            consumers: Vec::new(),
            held: 0,
            waits_for_room: false,
            is_closed: false,
        };
        Deliveries { client, channel, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Sets what all consumers together may have out; `None` = any number.
    pub(crate) fn set_limit(&self, records: Option<u64>) {
        let mut state = self.lock();
        state.credit.limit(records, None);
        state.consumers.iter().filter_map(Weak::upgrade).for_each(|consumer| consumer.wake.notify_one());
    }

    /// What all consumers together may have out; `None` = any number.
    pub(crate) fn limit(&self) -> Option<u64> {
        self.lock().credit.records_max()
    }

    /// How many more messages may go out; `None` once the channel is closed.
    pub(crate) fn room(&self) -> Option<u64> {
        let mut state = self.lock();
        if state.is_closed {
            return None;
        }
        let room = state.room();
        state.waits_for_room |= room == 0;
        Some(room)
    }

    /// Room for up to `count` messages, for a consumer that is about to take some: where consumers share a limit, no other
    /// takes it meanwhile.
    pub(crate) fn hold(&self, count: u64) -> Held<'_> {
        let mut state = self.lock();
        let count = count.min(state.room());
        let shared = if state.credit.records_max().is_some() { count } else { 0 };
        state.held += shared;
        state.waits_for_room |= count == 0;
        Held { deliveries: self, count, shared }
    }

    /// Nothing is delivered any more. What is out.
    pub(crate) fn close(&self) -> Vec<Unacked> {
        let mut state = self.lock();
        state.is_closed = true;
        state.unacked.drain(..).filter(|unacked| !unacked.is_over()).collect()
    }

    /// What was to be settled by now: it is the client's no longer, although its word on it is taken.
    pub(crate) fn overdue(&self, now_ns: u64) -> Overdue {
        let mut state = self.lock();
        let mut found = Overdue::default();
        // What goes out from now on is due when its consumer's time is over, at the soonest.
        let times = state.consumers.iter().filter_map(Weak::upgrade).filter_map(|lessee| lessee.timeout_ns);
        let mut next_ns = times.min().map(|timeout_ns| now_ns.saturating_add(timeout_ns.max(LOOK_MIN_NS)));
        for unacked in state.unacked.iter_mut().filter(|unacked| !unacked.is_over()) {
            if unacked.due_ns <= now_ns {
                unacked.due_ns = 0;
                found.late.push(Unacked { lessee: unacked.lessee.clone(), ..*unacked });
            } else if unacked.due_ns < u64::MAX {
                next_ns = next_ns.into_iter().chain([unacked.due_ns]).min();
            }
        }
        found.next_ns = next_ns;
        found
    }

    /// Has a consumer end. Whether it had not been told before.
    pub(crate) fn stop(lessee: &Lessee) -> bool {
        let was_running = !lessee.is_stopped.swap(true, Relaxed);
        lessee.wake.notify_one();
        was_running
    }

    /// Takes deliveries out: that of the tag, or all up to it (0 = all there are). `None` when there is no such one.
    pub(crate) fn take(&self, tag: u64, multiple: bool) -> Option<Vec<Unacked>> {
        let mut state = self.lock();
        let mut taken: Vec<Unacked> = if multiple && tag == 0 {
            state.unacked.drain(..).collect()
        } else {
            let at = state.unacked.binary_search_by_key(&tag, |unacked| unacked.tag).ok()?;
            if multiple {
                state.unacked.drain(..=at).collect()
            } else {
                state.unacked.remove(at).into_iter().collect()
            }
        };
        taken.retain(|unacked| !unacked.is_over());
        Some(taken)
    }

    /// So many of a lessee's messages are settled: it may have others.
    pub(crate) fn give(&self, lessee: &Lessee, count: u64) {
        let mut state = self.lock();
        let was_open = state.credit.is_open();
        state.credit.give(count, 0);
        lessee.out.fetch_update(Relaxed, Relaxed, |out| Some(out.saturating_sub(count))).ok();
        if !was_open || state.waits_for_room {
            state.tell_room();
        }
        drop(state);
        lessee.wake.notify_one();
    }

    /// A consumer shares the channel's credit.
    pub(crate) fn join(&self, lessee: &Arc<Lessee>) {
        let consumers = &mut self.lock().consumers;
        if consumers.len() == consumers.capacity() {
            consumers.retain(|consumer| consumer.strong_count() > 0);
        }
        consumers.push(Arc::downgrade(lessee));
    }

    /// Deliveries are out again as they were.
    pub(crate) fn restore(&self, mut unacked: Vec<Unacked>) {
        let mut state = self.lock();
        if state.is_closed {
            return;
        }
        unacked.extend(state.unacked.drain(..));
        unacked.sort_unstable_by_key(|unacked| unacked.tag);
        state.unacked = unacked.into();
    }

    /// Sends a message that no queue holds. Whether there is anybody to send it to; a client that does not read its
    /// replies loses them.
    pub(crate) fn reply(&self, consumer_tag: &str, message: &Whole<'_>, properties: &[u8]) -> bool {
        let mut state = self.lock();
        if state.is_closed {
            return false;
        }
        if self.client.outbox.len() > REPLIES_LEN {
            return true;
        }
        state.last_tag += 1;
        let mut frames = Vec::with_capacity(256 + message.body.len());
        let method = Method::BasicDeliver {
            consumer_tag,
            delivery_tag: state.last_tag,
            redelivered: false,
            exchange: message.exchange,
            routing_key: Key(message.routing_key),
        };
        put_method(&mut frames, self.channel, method);
        put_content(&mut frames, self.channel, properties, message.body.len());
        let mut out = Gathered::default();
        out.slice(&frames);
        let body = Bytes::copy_from_slice(message.body);
        put_body(&mut out, self.channel, &body, self.client.frame_max());
        self.client.push(&mut out);
        true
    }

    /// Sends leased messages. `false` when the channel was closed meanwhile: then nothing was sent.
    pub(crate) fn deliver(
        &self,
        broker: &Broker,
        lessee: &Arc<Lessee>,
        form: Form<'_>,
        no_ack: bool,
        deliveries: &[Delivery],
        reading: &mut Reading,
    ) -> Result<bool> {
        let frame_max = self.client.frame_max();
        let mut out = Gathered::default();
        let deliveries = owned(broker, &lessee.queue.partition, deliveries)?;
        let mut state = self.lock();
        if state.is_closed {
            return Ok(false);
        }
        let counts = matches!(form, Form::Pushed(_));
        let due_ns = match lessee.timeout_ns {
            Some(timeout_ns) => broker.env().clock.mono_ns().saturating_add(timeout_ns).max(1),
            None => u64::MAX,
        };
        let mut frames = Vec::with_capacity(256);
        let mut out_count = 0;
        for delivery in &deliveries {
            each_message(delivery, reading, &mut |laid| {
                state.last_tag += 1;
                let tag = state.last_tag;
                if !no_ack {
                    let (offset, attempt) = (laid.offset, laid.attempt);
                    let unacked = Unacked { tag, offset, attempt, lessee: lessee.clone(), counts, due_ns };
                    state.unacked.push_back(unacked);
                    out_count += u64::from(counts);
                }
                self.put(&mut frames, &mut out, form, tag, &laid, lessee, frame_max);
            })?;
        }
        lessee.out.fetch_add(out_count, Relaxed);
        state.credit.take(out_count, 0);
        self.client.push(&mut out);
        Ok(true)
    }

    #[allow(clippy::too_many_arguments)]
    fn put(
        &self,
        frames: &mut Vec<u8>,
        out: &mut Gathered,
        form: Form<'_>,
        delivery_tag: u64,
        laid: &Laid<'_>,
        lessee: &Lessee,
        frame_max: usize,
    ) {
        frames.clear();
        let exchange = std::str::from_utf8(laid.exchange).unwrap_or_default();
        let (redelivered, routing_key) = (laid.is_redelivered, Key(laid.routing_key));
        let method = match form {
            Form::Pushed(consumer_tag) => {
                Method::BasicDeliver { consumer_tag, delivery_tag, redelivered, exchange, routing_key }
            }
            Form::Got(message_count) => {
                Method::BasicGetOk { delivery_tag, redelivered, exchange, routing_key, message_count }
            }
        };
        put_method(frames, self.channel, method);
        if lessee.queue.arguments.is_quorum && (laid.attempt > 1 || laid.is_redelivered) {
            let failed = laid.attempt.saturating_sub(1);
            let counted = with_counts(laid.properties, failed, lessee.queue.uncounted(laid.offset));
            put_content(frames, self.channel, &counted, laid.range.len());
        } else {
            put_content(frames, self.channel, laid.properties, laid.range.len());
        }
        out.slice(frames);
        put_body_of(out, self.channel, laid.all, laid.range.clone(), frame_max);
    }
}

/// How often a message was delivered before, and how often that failed, as the original tells it from the second delivery
/// on. What a start took the count of was delivered once at least.
fn with_counts(properties: &[u8], failed: u32, uncounted: u32) -> Vec<u8> {
    let read = crate::codec::Properties::read(properties).unwrap_or_default();
    let mut headers = TableWriter::default();
    for (name, field) in read.headers.unwrap_or_default().raw_fields() {
        if name != DELIVERY_COUNT.as_bytes() && name != ACQUIRED_COUNT.as_bytes() {
            headers.raw(field);
        }
    }
    let acquired = failed.saturating_add(uncounted).max(1);
    headers.field(ACQUIRED_COUNT, Value::I64(acquired.into()));
    if failed > 0 {
        headers.field(DELIVERY_COUNT, Value::I64(failed.into()));
    }
    with_headers(&read, &headers.finish(), true)
}

/// A delivery as this dialect has it.
pub(crate) struct Own<'d> {
    /// Its batch, or of one of another dialect the delivered records alone, written anew.
    batch: Cow<'d, Batch>,
    runs: &'d [GrantRun],
}

/// Deliveries of records of `partition` as this dialect has them.
pub(crate) fn owned<'d>(
    broker: &Broker,
    partition: &Partition,
    deliveries: &'d [Delivery],
) -> Result<Vec<Own<'d>>> {
    let own = |delivery: &'d Delivery| {
        let batch = match delivery.batch.format {
            FORMAT => Cow::Borrowed(&delivery.batch),
            _ => Cow::Owned(converted(broker, partition, delivery)?),
        };
        Ok(Own { batch, runs: &delivery.runs })
    };
    deliveries.iter().map(own).collect()
}

/// Calls `each` with the messages of a delivery, in its order.
pub(crate) fn each_message(
    delivery: &Own<'_>,
    reading: &mut Reading,
    each: &mut dyn FnMut(Laid<'_>),
) -> Result<()> {
    let mut start = Place::default();
    let (batch, place) = match &delivery.batch {
        Cow::Borrowed(batch) => (*batch, reading.place_in(batch)),
        Cow::Owned(batch) => (batch, &mut start),
    };
    for run in delivery.runs {
        for number in run.span.start.0..run.span.end.0 {
            let index = u32::try_from(number.saturating_sub(batch.base.0)).unwrap_or(u32::MAX);
            let Some((stored, range)) = find(&batch.body, index, place)? else { continue };
            let Stored { exchange, routing_key, properties, .. } = stored;
            each(Laid {
                offset: Offset(number),
                attempt: run.attempt,
                is_redelivered: run.is_redelivered,
                exchange,
                routing_key,
                properties,
                all: &batch.body,
                range,
            });
        }
    }
    Ok(())
}

fn converted(broker: &Broker, partition: &Partition, delivery: &Delivery) -> Result<Batch> {
    let batch = &delivery.batch;
    let decoded = broker.decoded(partition, batch)?;
    let format = broker.formats().of(FORMAT)?;
    let mut body = Vec::new();
    for offset in delivery.spans().offsets() {
        let index = u32::try_from(offset.since(batch.base)).unwrap_or(u32::MAX);
        let Some(record) = decoded.record(index) else { continue };
        let one = format.write(std::slice::from_ref(record))?;
        if let Some((stored, _)) = find(&one, 0, &mut Place::default())? {
            stored.put(index, &mut body);
        }
    }
    Ok(Batch { format: FORMAT, body: body.into(), ..batch.clone() })
}
