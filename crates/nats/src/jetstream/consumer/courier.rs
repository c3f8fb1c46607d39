//! The task of a consumer: takes messages from its source and sends them to whoever asked or listens.

use std::{future::poll_fn, sync::Arc, time::Duration};

use broker::Watch;
use model::ErrorKind;
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    Consumer, State,
    book::Book,
    config::{ConsumerConfig, ReplayPolicy},
    dead::Why,
    pull::{status, tell},
    source::{Fetched, Item, Source, Wanted},
};
use crate::{
    core::fanout::{Fanout, Laggard, Message},
    jetstream::headers::VERSION_LINE,
};

mod pulling;
mod pushing;

/// Messages taken at a time, and their bytes.
const RECORDS_MAX: u64 = 256;
const BYTES_MAX: u64 = 512 << 10;

/// How long it waits after a failure of the broker.
const RETRY: Duration = Duration::from_millis(500);

/// How long a receiver that lags behind is waited for before it is looked at again.
const STALL: Duration = Duration::from_secs(10);

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// There may be more at once.
    Again,
    /// Nothing to do until told, or until then.
    Wait(Option<Instant>),
    /// The consumer is gone.
    End,
}

/// See the module.
pub(super) struct Courier {
    consumer: Arc<Consumer>,
    book: Arc<Book>,
    source: Source,
    out: Fanout,
    pending_len_max: usize,
    /// When something was sent last; heartbeats follow from it.
    spoke: Instant,
    /// When the last message was sent and how old it was, for the original's pace.
    replayed: Option<(Instant, i64)>,
}

impl Courier {
    pub(super) fn new(
        consumer: Arc<Consumer>,
        book: Arc<Book>,
        source: Source,
        out: Fanout,
        pending_len_max: usize,
    ) -> Self {
        Courier { consumer, book, source, out, pending_len_max, spoke: Instant::now(), replayed: None }
    }

    /// Works until the consumer is gone.
    pub(super) async fn run(mut self) {
        loop {
            let pace = self.round().await;
            if let Some(laggard) = self.out.flush(self.pending_len_max) {
                wait_for(laggard).await;
            }
            match pace {
                Pace::Again => tokio::task::yield_now().await,
                Pace::Wait(until) => wait(&self.consumer, until).await,
                Pace::End => break,
            }
        }
        self.say_goodbye();
    }

    async fn round(&mut self) -> Pace {
        let consumer = self.consumer.clone();
        if consumer.is_deleted() {
            return Pace::End;
        }
        let has_cursor =
            |work: &broker::Work| consumer.broker.work(&consumer.partition, work.name()).is_some();
        if consumer.partition.check_open().is_err()
            || consumer.work.as_ref().is_some_and(|work| !has_cursor(work))
        {
            return Pace::End;
        }
        let config = consumer.config();
        if config.is_push() { self.push(&config).await } else { self.pull(&config).await }
    }

    /// Takes messages; `Err` = how to go on where there was a failure.
    async fn fetch(&mut self, config: &ConsumerConfig, wanted: Wanted) -> Result<Fetched, Pace> {
        let consumer = &self.consumer;
        let patterns = consumer.state.lock().patterns.clone();
        let fetched =
            self.source.fetch(&consumer.broker, &consumer.partition, (config, &patterns), wanted).await;
        match fetched {
            Ok(mut fetched) => {
                if let Some(max) = config.deliveries_max() {
                    self.bury_spent(max, &mut fetched).await;
                }
                let consumer = &self.consumer;
                if let Source::Read(reader) = &self.source
                    && reader.firsts.is_empty()
                    && fetched.items.is_empty()
                {
                    consumer.state.lock().pass(reader.next);
                }
                Ok(fetched)
            }
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::Closed | ErrorKind::Throttled) {
                    tracing::warn!(stream = consumer.stream, consumer = consumer.name, %error, "no delivery");
                }
                Err(Pace::Wait(Some(Instant::now() + RETRY)))
            }
        }
    }

    /// Takes out what was delivered as often as it may: it goes to the dead letters, where there are any.
    async fn bury_spent(&mut self, max: u32, fetched: &mut Fetched) {
        let (spent, left): (Vec<Item>, Vec<Item>) =
            std::mem::take(&mut fetched.items).into_iter().partition(|item| item.attempt > max);
        fetched.items = left;
        fetched.has_more = !spent.is_empty();
        let Some(account) = self.book.account() else { return };
        for item in spent {
            let place = (item.offset, item.attempt);
            self.book.advise_of_limit(&self.consumer, item.offset.0 + 1, item.attempt - 1);
            if let Err(error) = self.consumer.bury(&account, place, Some(item), Why::TooOften).await {
                tracing::warn!(stream = self.consumer.stream, %error, "a message was not given up");
            }
        }
    }

    /// Has the courier told when there may be messages.
    fn arm(&self) {
        let consumer = &self.consumer;
        let patterns = consumer.state.lock().patterns.clone();
        self.source.arm(&consumer.partition, &patterns, &consumer.watch);
    }

    /// Waits as long as the message came after the one before, where that is asked for.
    async fn keep_pace(&mut self, config: &ConsumerConfig, item: &Item) {
        if config.replay_policy == ReplayPolicy::Instant || item.attempt > 1 {
            return;
        }
        if let Some((sent, at_ms)) = self.replayed {
            let gap = u64::try_from(item.at_ms.saturating_sub(at_ms)).unwrap_or(0);
            self.out.flush(self.pending_len_max);
            sleep_until(sent + Duration::from_millis(gap)).await;
        }
        self.replayed = Some((Instant::now(), item.at_ms));
    }

    /// Sends a message to `to`; how many bytes that was for the receiver.
    fn send(&mut self, config: &ConsumerConfig, to: &[u8], item: &Item) -> usize {
        let consumer = &self.consumer;
        let (sequence, pending, pin) = {
            let mut state = consumer.state.lock();
            state.sent += 1;
            state.last_sent_ms = Some(consumer.broker.env().clock.wall_ms());
            state.pending(&consumer.partition);
            if item.attempt == 1 && item.offset >= state.sent_end {
                state.note_sent(item.offset);
            }
            let pin = state.pin.as_ref().map(|pin| pin.id.clone());
            (state.sent, state.firsts_left + state.pending.count, pin)
        };
        let Item { attempt, at_ms, .. } = item;
        let (stream, name, seq) = (&consumer.stream, &consumer.name, item.offset.0 + 1);
        let reply = format!("$JS.ACK.{stream}.{name}.{attempt}.{seq}.{sequence}.{at_ms}000000.{pending}");
        let mut payload = Vec::with_capacity(item.headers.len() + item.body.len() + 48);
        let more = match (config.headers_only, &pin) {
            (true, Some(pin)) => {
                Some(format!("Nats-Pin-Id: {pin}\r\nNats-Msg-Size: {}\r\n", item.body.len()))
            }
            (true, None) => Some(format!("Nats-Msg-Size: {}\r\n", item.body.len())),
            (false, Some(pin)) => Some(format!("Nats-Pin-Id: {pin}\r\n")),
            (false, None) => None,
        };
        match &more {
            Some(more) => put_headers(&item.headers, more, &mut payload),
            None => payload.extend_from_slice(&item.headers),
        }
        let headers_len = payload.len();
        if !config.headers_only {
            payload.extend_from_slice(&item.body);
        }
        let message = Message {
            subject: &item.subject,
            reply: Some(reply.as_bytes()),
            headers_len: Some(headers_len).filter(|len| *len > 0),
            payload: &payload,
        };
        self.out.deliver(to, &message);
        item.subject.len() + reply.len() + payload.len()
    }

    /// Says that it is there, and how far.
    fn beat(&mut self, to: &[u8]) {
        let state = self.consumer.state.lock();
        let (sent, end) = (state.sent.to_string(), state.sent_end.0.to_string());
        let mut lines = vec![("Nats-Last-Consumer", sent.as_str()), ("Nats-Last-Stream", end.as_str())];
        if let Some(open) = state.flow.open() {
            lines.push(("Nats-Consumer-Stalled", open));
        }
        let block = status("100 Idle Heartbeat", &lines);
        drop(state);
        tell(&mut self.out, to, None, &block);
    }

    /// When it goes for want of use; `None` where it does not. It is used now if `is_used`.
    fn lapses(&self, config: &ConsumerConfig, is_used: bool, now: Instant) -> Option<Instant> {
        let mut state = self.consumer.state.lock();
        if is_used {
            state.used = now;
        }
        let ns = config.inactive_ns();
        (ns > 0 && !is_used).then(|| state.used + Duration::from_nanos(ns))
    }

    fn say_goodbye(&mut self) {
        let consumer = self.consumer.clone();
        let requests = std::mem::take(&mut consumer.state.lock().requests);
        for request in &requests {
            tell(&mut self.out, &request.reply, None, &status("409 Consumer Deleted", &[]));
        }
        self.out.flush(self.pending_len_max);
        // What is durable of that follows with the next commit.
        if let Err(error) = self.book.forget(&consumer) {
            tracing::warn!(stream = consumer.stream, consumer = consumer.name, %error, "a consumer is not all gone");
        }
    }
}

impl State {
    fn front_wants(&self) -> Option<Wanted> {
        let front = self.requests.front()?;
        // Each is weighed as it is sent where bytes are limited.
        let records = if front.bytes_left.is_some() { 1 } else { front.left.min(RECORDS_MAX) };
        Some(Wanted { records, bytes: BYTES_MAX })
    }
}

/// Headers with one more line.
fn put_headers(headers: &[u8], line: &str, out: &mut Vec<u8>) {
    match headers.strip_suffix(b"\r\n") {
        Some(lines) => out.extend_from_slice(lines),
        None => out.extend_from_slice(VERSION_LINE),
    }
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn earliest(times: impl IntoIterator<Item = Option<Instant>>) -> Option<Instant> {
    times.into_iter().flatten().min()
}

/// How long until a time of the wall clock, as an instant.
fn instant_of(consumer: &Consumer, at_ms: i64) -> Instant {
    let left = at_ms.saturating_sub(consumer.broker.env().clock.wall_ms());
    Instant::now() + Duration::from_millis(u64::try_from(left).unwrap_or(0))
}

async fn wait(consumer: &Consumer, until: Option<Instant>) {
    let watch: &Watch = &consumer.watch;
    let timer = async {
        match until {
            Some(until) => sleep_until(until).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = watch.changed() => {}
        () = consumer.signal.notified() => {}
        () = timer => {}
    }
}

/// Waits until a receiver that lags behind has caught up, or is cut off for it.
async fn wait_for(laggard: Laggard) {
    let Laggard { client, len } = laggard;
    let drained = poll_fn(|cx| client.outbox.poll_drained(cx, len));
    if timeout(STALL, drained).await.is_err() {
        tracing::trace!(client = client.id, "a receiver of a consumer lags behind");
    }
}
