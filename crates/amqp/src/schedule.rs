//! Messages that wait: for the time that they name, in an exchange of the type `x-delayed-message`, or for a queue, as dead
//! letters that have to arrive.
//!
//! Each such exchange, and each queue whose dead letters have to arrive, has a queue of the broker beside it, in which a
//! message is stored at once with the time at which it is due: it survives a restart, and is listed, looked at and
//! cancelled as what waits in any queue. When its time has come it is routed, in one unit with its settlement: never lost
//! and never there twice.

use std::{
    collections::HashSet,
    sync::{Arc, Weak},
    time::Duration,
};

use broker::{
    Allowance, Broker, Claim, Count, Delivery, HolderId, LeaseAsk, LeaseKind, LeaseTime, Oversize,
    PublishUnit, Settlement, Span, Spans, Verdict, Watch,
};
use model::{ErrorKind, Header, HeaderValue, Kind, Result};

use crate::{
    channel::{
        assembly::Whole,
        deliveries::{Laid, Reading, each_message, owned},
    },
    codec::{Properties, Table, TableWriter, Value},
    dead_letters::{goes_round, has_own_key, internal, keys_of, vhost_name},
    intake::{Batches, Intake, Kept},
    message::with_headers,
    server::Server,
    vhost::{Vhost, queue::Queue, routing::Resolved},
};

/// How the queues of exchanges are called, and those of dead letters.
const OF_EXCHANGE: &str = "amq.delayed.";
const OF_LETTERS: &str = "amq.dead-letters.";

/// The header that says for how long a message waits, milliseconds.
const DELAY: &str = "x-delay";

/// Messages and bytes that are routed together.
const LEASE_RECORDS: u64 = 1_000;
const LEASE_LEN: u64 = 1 << 20;

/// How long a dead letter waits for a queue before it is tried again, and messages after a failure.
pub(crate) const RETRY: Duration = Duration::from_secs(5);

/// How often a dead letter of which some queues have their copy is tried before it goes back, and gets a way of its own anew.
const TRIES: u32 = 12;

/// The queue in which messages to an exchange wait.
pub(crate) fn of_exchange(name: &str) -> String {
    format!("{OF_EXCHANGE}{name}")
}

/// The queue in which dead letters of a queue wait that no other queue takes.
pub(crate) fn of_letters(queue: &str) -> String {
    format!("{OF_LETTERS}{queue}")
}

/// Whether a queue of that name holds messages until their time: no client uses it as a queue.
pub(crate) fn is_schedule(name: &str) -> bool {
    name.starts_with(OF_EXCHANGE) || name.starts_with(OF_LETTERS)
}

/// For how long a message with these headers waits, milliseconds: an integer, one in text, or a number whose fraction does
/// not count, as the original's plugin has it (`rabbit_delayed_message_utils:get_delay/1`). What is not above 0 does not
/// count either.
pub(crate) fn delay_ms(headers: Table<'_>) -> Option<u64> {
    let delay = match headers.get(DELAY)? {
        Value::Text(text) | Value::Bytes(text) => std::str::from_utf8(text).ok()?.parse().ok()?,
        Value::F32(number) => whole(number.into())?,
        Value::F64(number) => whole(number)?,
        other => other.integer()?,
    };
    u64::try_from(delay).ok().filter(|delay| *delay > 0)
}

/// The same for headers as every dialect reads them. Dialects whose headers are all text say numbers in text.
pub(crate) fn delay_of(headers: &[Header]) -> Option<u64> {
    let delay: i64 = match &headers.iter().find(|header| header.name == DELAY)?.value {
        HeaderValue::Int(delay) => *delay,
        HeaderValue::Float(number) => whole(*number)?,
        HeaderValue::Text(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    u64::try_from(delay).ok().filter(|delay| *delay > 0)
}

/// A number without its fraction; more than there is is the most.
fn whole(number: f64) -> Option<i64> {
    number.is_finite().then_some(number as i64)
}

/// Serves what waits in every virtual host.
pub(crate) fn resume_all(server: &Arc<Server>) {
    let mut namespaces = HashSet::new();
    for stream in server.broker.all_streams() {
        if stream.key().kind == Kind::Queue && is_schedule(&stream.key().name) {
            namespaces.insert(stream.key().namespace.clone());
        }
    }
    for namespace in namespaces {
        server.vhosts.of(&server.broker, vhost_name(&namespace), namespace.clone());
    }
}

/// Serves what waits in a virtual host that was just loaded.
pub(crate) fn resume(vhost: &Arc<Vhost>) {
    for stream in vhost.broker.streams(&vhost.namespace, Some(Kind::Queue)) {
        let name = &stream.key().name;
        if !is_schedule(name) {
            continue;
        }
        match vhost.find_any_queue(name) {
            Ok(Some(queue)) => start(vhost, queue),
            Ok(None) => {}
            Err(error) => tracing::error!(queue = %name, %error, "what waits there cannot be served"),
        }
    }
}

/// Serves what waits in a queue, once.
pub(crate) fn start(vhost: &Arc<Vhost>, queue: Arc<Queue>) {
    if let Some(runtime) = &vhost.runtime
        && vhost.schedules.lock().insert(queue.stream.id())
    {
        let body = run(Arc::downgrade(vhost), vhost.broker.clone(), queue);
        runtime.spawn(vhost.broker.needed("amqp schedule", body));
    }
}

async fn run(vhost: Weak<Vhost>, broker: Broker, queue: Arc<Queue>) {
    let id = queue.stream.id();
    let mut courier =
        Courier { holder: broker.new_holder_id(), vhost, broker, queue, reading: Reading::default() };
    let watch = Watch::new();
    loop {
        courier.queue.work.wait(courier.holder, &watch);
        watch.changed().await;
        match courier.serve().await {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::NotFound) => break,
            Err(error) => {
                tracing::warn!(queue = %courier.queue.name, %error, "what is due could not be routed");
                if courier.broker.failure().is_some() {
                    break;
                }
                tokio::time::sleep(RETRY).await;
            }
        }
    }
    if let Some(vhost) = courier.vhost.upgrade() {
        vhost.schedules.lock().remove(&id);
    }
}

/// Takes what is due out of one queue.
struct Courier {
    vhost: Weak<Vhost>,
    broker: Broker,
    queue: Arc<Queue>,
    holder: HolderId,
    reading: Reading,
}

/// What is due, on its way.
#[derive(Default)]
struct Due {
    intake: Intake,
    done: Spans,
    /// Dead letters that no queue takes.
    unroutable: Spans,
}

impl Courier {
    /// Routes everything that is due. `false` when the virtual host is gone.
    async fn serve(&mut self) -> Result<bool> {
        loop {
            let allowance = Allowance { records: LEASE_RECORDS, bytes: LEASE_LEN, oversize: Oversize::First };
            let (kind, time) = (LeaseKind::Volatile, LeaseTime::UntilSettled);
            let ask = LeaseAsk { holder: self.holder, allowance, kind, time };
            let leased = self.queue.work.lease(ask).await?;
            if leased.records == 0 {
                return Ok(true);
            }
            let Some(vhost) = self.vhost.upgrade() else { return Ok(false) };
            let runs = leased.deliveries.iter().flat_map(|delivery| &delivery.runs);
            let all: Spans = runs.map(|run| run.span).collect();
            if let Err(error) = self.send(&vhost, &leased.deliveries).await {
                // What is settled already stays that.
                self.back(all).await?;
                return Err(error);
            }
        }
    }

    async fn send(&mut self, vhost: &Vhost, deliveries: &[Delivery]) -> Result<()> {
        for delivery in deliveries {
            let due = self.route(vhost, delivery)?;
            let Due { mut intake, done, unroutable } = due;
            if !done.is_empty() {
                let work = self.queue.work.clone();
                let claim = Claim::Holder(self.holder);
                let settlement = Settlement { work, spans: done, claim, verdict: Verdict::Accept };
                // A dead letter that waited is one still: what it says of its deaths is the broker's own.
                let batches = intake.take().of(delivery.batch.origin);
                if self.queue.name.starts_with(OF_LETTERS) {
                    self.store_everywhere(vhost, batches.everywhere(), settlement).await?;
                } else {
                    self.store(vhost, batches, &settlement).await?;
                }
            }
            if !unroutable.is_empty() {
                self.back(unroutable).await?;
            }
        }
        Ok(())
    }

    /// They come again after a while.
    async fn back(&self, spans: Spans) -> Result<()> {
        let delay_ms = u64::try_from(RETRY.as_millis()).unwrap_or(u64::MAX);
        let verdict = Verdict::Release { delay_ms, count: Count::Keep };
        let claim = Claim::Holder(self.holder);
        let settlement = Settlement { work: self.queue.work.clone(), spans, claim, verdict };
        self.broker.settle(vec![settlement]).await.map(drop)
    }

    fn route(&mut self, vhost: &Vhost, delivery: &Delivery) -> Result<Due> {
        let now_ms = self.broker.env().clock.wall_ms();
        let (mut due, mut failed) = (Due::default(), None);
        let (queue, is_moved) = (&self.queue, delivery.batch.origin.is_some());
        let own = owned(&self.broker, &queue.partition, std::slice::from_ref(delivery))?;
        let mut each = |laid: Laid<'_>| {
            let routed = route_one(vhost, queue, &laid, (is_moved, now_ms), &mut due.intake);
            match routed {
                Ok(true) => due.done.add(Span::one(laid.offset)),
                Ok(false) => due.unroutable.add(Span::one(laid.offset)),
                Err(error) => failed = Some(error),
            }
        };
        own.iter().try_for_each(|delivery| each_message(delivery, &mut self.reading, &mut each))?;
        failed.map_or(Ok(due), Err)
    }

    /// Stores what has to arrive: it waits on while a queue refuses it.
    async fn store_everywhere(
        &self,
        vhost: &Vhost,
        mut batches: Batches,
        settlement: Settlement,
    ) -> Result<()> {
        for _ in 0..TRIES {
            let stored = self.publish(vhost, &mut batches, &settlement).await?;
            if !stored.is_partial {
                return Ok(());
            }
            if stored.is_hopeless {
                // A queue will never take it: the others get it without that one.
                return self.store(vhost, batches.wherever(), &settlement).await;
            }
            if stored.is_gone || !batches.is_begun() {
                break;
            }
            // Those that have it do not get it again.
            tokio::time::sleep(RETRY).await;
        }
        self.back(settlement.spans).await
    }

    async fn publish(&self, vhost: &Vhost, batches: &mut Batches, settlement: &Settlement) -> Result<Kept> {
        loop {
            match batches.publish(vhost, std::slice::from_ref(settlement)) {
                Ok(stored) => return Ok(stored),
                Err(error) => self.wait_for_room(error).await?,
            }
        }
    }

    async fn store(&self, vhost: &Vhost, mut batches: Batches, settlement: &Settlement) -> Result<()> {
        let stored = self.publish(vhost, &mut batches, settlement).await?;
        while !stored.letters.is_empty() {
            match self.broker.publish(PublishUnit::of(stored.letters())) {
                Ok(_) => break,
                Err(error) => self.wait_for_room(error).await?,
            }
        }
        Ok(())
    }

    async fn wait_for_room(&self, error: model::Error) -> Result<()> {
        match error.kind() {
            ErrorKind::Throttled => self.broker.room().await,
            ErrorKind::Unavailable if self.broker.failure().is_none() => tokio::time::sleep(RETRY).await,
            _ => return Err(error),
        }
        Ok(())
    }
}

/// Takes one message in that is due, and that came from another queue if it `is_moved`. Whether it is done with here.
fn route_one(
    vhost: &Vhost,
    queue: &Queue,
    laid: &Laid<'_>,
    (is_moved, now_ms): (bool, i64),
    intake: &mut Intake,
) -> Result<bool> {
    let stored = Properties::read(laid.properties).unwrap_or_default();
    let headers = stored.headers.unwrap_or_default();
    let own_exchange = std::str::from_utf8(laid.exchange).unwrap_or_default();
    let exchange = queue.name.strip_prefix(OF_EXCHANGE);
    let mut keys = vec![laid.routing_key];
    if !(is_moved && has_own_key(headers, laid.routing_key)) {
        keys.extend(keys_of(headers, "CC"));
        keys.extend(keys_of(headers, "BCC"));
    }
    let raw_properties = if exchange.is_some() { due_properties(&stored) } else { laid.properties.to_vec() };
    let properties = Properties::read(&raw_properties).unwrap_or_default();
    let headers = properties.headers.unwrap_or_default();
    let mut resolved = vhost.resolve(exchange.unwrap_or(own_exchange), &keys, headers).map_err(internal)?;
    if exchange.is_none() {
        if resolved.is_nowhere() {
            return Ok(false);
        }
        let goes_on = |queue: &Arc<Queue>| !goes_round(headers, &queue.name);
        let queues = resolved.queues.iter().filter(|one| goes_on(one)).cloned().collect();
        resolved = Resolved::of(queues, resolved.onward, false);
    }
    let message = Whole {
        exchange: own_exchange,
        routing_key: laid.routing_key,
        mandatory: false,
        raw_properties: &raw_properties,
        properties,
        body: laid.body(),
    };
    intake.add(&message, &raw_properties, &Arc::new(resolved), None, now_ms);
    Ok(true)
}

/// A message that has waited says so with a delay below 0, and does not name its hidden keys.
fn due_properties(properties: &Properties<'_>) -> Vec<u8> {
    let mut headers = TableWriter::default();
    for (name, field) in properties.headers.unwrap_or_default().raw_fields() {
        if name != DELAY.as_bytes() && name != b"BCC" {
            headers.raw(field);
        }
    }
    if let Some(delay_ms) = delay_ms(properties.headers.unwrap_or_default()) {
        let waited = i64::try_from(delay_ms).map_or(i64::MIN, |delay_ms| -delay_ms);
        headers.field(DELAY, i32::try_from(waited).map_or(Value::I64(waited), Value::I32));
    }
    with_headers(properties, &headers.finish(), true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::table_of;

    #[test]
    fn a_delay_is_a_number_in_any_form_whose_whole_part_counts() {
        for (value, expected) in [
            (Value::I32(5), Some(5)),
            (Value::U64(5), Some(5)),
            (Value::Text(b"5000"), Some(5_000)),
            (Value::Text(b"+5000"), Some(5_000)),
            (Value::Bytes(b"7"), Some(7)),
            (Value::F64(1_500.9), Some(1_500)),
            (Value::F32(2.5), Some(2)),
            (Value::F64(0.9), None),
            (Value::F64(f64::NAN), None),
            (Value::F64(f64::INFINITY), None),
            (Value::F64(-3.0), None),
            (Value::I64(0), None),
            (Value::I64(-5), None),
            (Value::Text(b"-5"), None),
            (Value::Text(b"5.5"), None),
            (Value::Text(b"soon"), None),
            (Value::Bool(true), None),
        ] {
            let mut headers = TableWriter::default();
            headers.field(DELAY, value);
            let headers = headers.finish();
            assert_eq!(delay_ms(table_of(&headers)), expected, "{value:?}");
            let Some(waited) = expected else { continue };
            let properties = Properties { headers: Some(table_of(&headers)), ..Properties::default() };
            let due = due_properties(&properties);
            let due = Properties::read(&due).unwrap().headers.unwrap().get(DELAY).unwrap();
            assert_eq!(due, Value::I32(-i32::try_from(waited).unwrap()), "{value:?}");
        }
        let of = |value| delay_of(&[Header { name: DELAY.into(), value }]);
        assert_eq!(of(HeaderValue::Float(1_500.9)), Some(1_500));
        assert_eq!(of(HeaderValue::Text(" 5 ".into())), Some(5));
        assert_eq!(of(HeaderValue::Float(-1.0)), None);
    }
}
