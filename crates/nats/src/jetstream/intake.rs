//! What one session's publishes mean for streams: gathered while one read is handled, then stored in one unit.

use std::sync::Arc;

use broker::{
    Append, Broker, Conditions, NewBatch, Outcome, Partition, PublishUnit, ReadLimits, Refusal,
    RefusalReason, Replaces,
    routing::{Cache, Routed},
};
use bytes::Bytes;
use model::{Attributes, ErrorKind, Offset, RecordAttributes, Result, Seq, limits};

pub(super) mod again;
pub(crate) mod onward;
mod ttl;

use again::{Lasts, lasts_before};
use onward::{Lone, Onward, batch_len_max};

use super::{
    account::{Account, Bound},
    acks::Acks,
    api::Request,
    config::Discard,
    consumer::{
        Consumer,
        ack::{Ack, Place, Taken},
    },
    error::ApiError,
    headers,
    stored::{FORMAT, Stored, split},
};
use crate::core::{fanout::Message, subject};

/// Subjects whose stream one session keeps.
const SUBJECTS_MAX: usize = 4_096;

/// Headers that ask something of the stream begin so.
const ASKING_PREFIX: &[u8] = b"Nats-";

/// What the subjects of the API, of acknowledgements and the like begin with.
const OWN_PREFIX: &[u8] = b"$JS.";
const NEXT_PREFIX: &[u8] = b"$JS.API.CONSUMER.MSG.NEXT.";
const CONFIRM_PREFIX: &[u8] = b"$JS.FC.";

/// What waits for the end of a read, in order.
pub(crate) enum Work {
    /// Messages for streams.
    Publish(Vec<Run>),
    /// Messages that no stream takes, along routes.
    Routed(Vec<Lone>),
    /// A request of the API, and where its answer goes.
    Request { request: Request, reply: Option<Box<[u8]>>, body: Box<[u8]> },
    /// Acknowledgements of messages.
    Acks(Vec<Ack>),
    /// A request for messages, and where they go.
    Pull { consumer: Arc<Consumer>, reply: Box<[u8]>, body: Vec<u8> },
}

/// Messages that become one batch of one stream.
pub(crate) struct Run {
    bound: Arc<Bound>,
    /// Where its messages go as well, by routes.
    onward: Option<Arc<[Routed]>>,
    body: Vec<u8>,
    rows: Vec<RecordAttributes>,
    replies: Vec<Option<Box<[u8]>>>,
    asks: Asks,
    /// Whether further messages may join.
    is_open: bool,
    /// Why it is not stored at all.
    refused: Option<ApiError>,
}

/// What the headers of a message ask.
#[derive(Default)]
struct Asks {
    conditions: Conditions,
    replaces: Replaces,
    /// When the message goes by itself.
    stay: Stay,
}

/// How long a message stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stay {
    /// As long as the stream says.
    #[default]
    AsAll,
    /// So many milliseconds at most.
    For(u64),
    /// For ever, whatever the stream says of the age of its messages.
    Ever,
}

impl Stay {
    /// When it is over, for a message that is stored now, milliseconds since the Unix epoch.
    fn ends_ms(self, now_ms: i64) -> Option<i64> {
        match self {
            Stay::AsAll => None,
            Stay::For(ttl_ms) => Some(now_ms.saturating_add_unsigned(ttl_ms)),
            Stay::Ever => Some(i64::MAX),
        }
    }
}

/// One session's way into streams.
pub(crate) struct Intake {
    account: Arc<Account>,
    takers: Cache<Option<Arc<Bound>>>,
    onward: Onward,
    work: Vec<Work>,
}

impl Intake {
    pub(crate) fn new(account: Arc<Account>) -> Self {
        Intake { account, takers: Cache::new(SUBJECTS_MAX), onward: Onward::default(), work: Vec::new() }
    }

    pub(crate) fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// What was gathered.
    pub(crate) fn take(&mut self) -> Vec<Work> {
        std::mem::take(&mut self.work)
    }

    /// Offers a publish; whether a stream or the API takes it.
    pub(crate) fn offer(&mut self, message: &Message<'_>) -> bool {
        if message.subject.starts_with(OWN_PREFIX)
            && (self.offer_to_consumers(message) || self.offer_to_api(message))
        {
            return true;
        }
        let generations = self.account.generations();
        let account = &self.account;
        if account.is_empty() {
            return false;
        }
        let Some(bound) = self.takers.of(generations, message.subject, || account.taker(message.subject))
        else {
            return false;
        };
        let bound = bound.clone();
        self.gather(&bound, message);
        true
    }

    fn offer_to_api(&mut self, message: &Message<'_>) -> bool {
        let Some(request) = Request::of(message.subject, &self.account) else { return false };
        let reply = message.reply.map(Into::into);
        let body = message.payload.get(message.headers_len.unwrap_or(0)..).unwrap_or_default().into();
        self.work.push(Work::Request { request, reply, body });
        true
    }

    /// Offers what is for consumers alone: acknowledgements, requests for messages, confirmations.
    fn offer_to_consumers(&mut self, message: &Message<'_>) -> bool {
        let body = message.payload.get(message.headers_len.unwrap_or(0)..).unwrap_or_default();
        if let Some(place) = Place::parse(message.subject) {
            let Some(consumer) = self.consumer(place.stream, place.consumer) else { return false };
            match Ack::of(&consumer, &place, body, message.reply) {
                Some(Taken::Ack(ack)) => self.gather_ack(ack),
                Some(Taken::Next(ack, body)) => {
                    self.gather_ack(ack);
                    if let Some(reply) = message.reply {
                        self.work.push(Work::Pull { consumer, reply: reply.into(), body });
                    }
                }
                None => {}
            }
            return true;
        }
        let (prefix, is_pull) = match message.subject {
            subject if subject.starts_with(NEXT_PREFIX) => (NEXT_PREFIX, true),
            subject if subject.starts_with(CONFIRM_PREFIX) => (CONFIRM_PREFIX, false),
            _ => return false,
        };
        let names = message.subject.get(prefix.len()..).and_then(|names| std::str::from_utf8(names).ok());
        let mut names = names.unwrap_or_default().split('.');
        let (Some(stream), Some(name)) = (names.next(), names.next()) else { return false };
        let Some(consumer) = self.consumer(stream, name) else { return false };
        if !is_pull {
            consumer.confirm(message.subject);
        } else if let Some(reply) = message.reply {
            self.work.push(Work::Pull { consumer, reply: reply.into(), body: body.to_vec() });
        }
        true
    }

    fn consumer(&self, stream: &str, name: &str) -> Option<Arc<Consumer>> {
        let bound = self.account.stream(stream)?;
        self.account.consumers.find(&bound, name)
    }

    fn gather_ack(&mut self, ack: Ack) {
        match self.work.last_mut() {
            Some(Work::Acks(acks)) => acks.push(ack),
            _ => self.work.push(Work::Acks(vec![ack])),
        }
    }

    fn gather(&mut self, bound: &Arc<Bound>, message: &Message<'_>) {
        let (block, body) =
            message.payload.split_at_checked(message.headers_len.unwrap_or(0)).unwrap_or_default();
        let mapped = bound.transform.as_ref().and_then(|mapping| mapping.apply(message.subject));
        let subject = mapped.as_deref().unwrap_or(message.subject);
        let longer = ttl::at_least_markers(&bound.config, block);
        let stored = Stored { subject, headers: longer.as_deref().unwrap_or(block), body };
        let reply = message.reply.filter(|_| !bound.config.no_ack).map(Into::into);
        let onward = self.onward.of(self.account.broker(), &self.account.namespace, message.subject);
        if !matches!(self.work.last(), Some(Work::Publish(_))) {
            self.work.push(Work::Publish(Vec::new()));
        }
        let Some(Work::Publish(runs)) = self.work.last_mut() else { return };
        let asks_nothing = !block.windows(ASKING_PREFIX.len()).any(|part| part == ASKING_PREFIX);
        // A refusal is of one message, so what may be refused goes alone.
        let may_refuse = |onward: &Arc<[Routed]>| onward.iter().any(Routed::may_refuse);
        let is_open = asks_nothing
            && bound.config.discard == Discard::Old
            && bound.config.max_msg_size < 0
            && !onward.as_ref().is_some_and(may_refuse);
        let joined = runs.last_mut().filter(|run| {
            is_open
                && run.is_open
                && Arc::ptr_eq(&run.bound, bound)
                && is_same_way(run.onward.as_ref(), onward.as_ref())
                && run.rows.len() < limits::BATCH_RECORDS_MAX as usize
                && run.body.len() + message.payload.len()
                    < onward.as_deref().map_or(limits::BATCH_LEN_MAX / 2, batch_len_max)
        });
        let run = match joined {
            Some(run) => run,
            None => {
                let (asks, refused) = match Asks::of(bound, &stored) {
                    Ok(asks) => (asks, None),
                    Err(error) => (Asks::default(), Some(error)),
                };
                runs.push(Run {
                    bound: bound.clone(),
                    onward,
                    body: Vec::new(),
                    rows: Vec::new(),
                    replies: Vec::new(),
                    asks,
                    is_open,
                    refused,
                });
                let Some(run) = runs.last_mut() else { return };
                run
            }
        };
        stored.put(u32::try_from(run.rows.len()).unwrap_or(u32::MAX), &mut run.body);
        let mut row = stored.attributes();
        row.expiry_ms = run.asks.stay.ends_ms(self.account.now_ms());
        run.rows.push(row);
        run.replies.push(reply);
    }
}

impl Asks {
    /// What a message's headers ask; an error when they cannot be met whatever the stream holds.
    fn of(bound: &Bound, message: &Stored<'_>) -> std::result::Result<Self, ApiError> {
        if bound.config.sealed {
            return Err(ApiError::sealed());
        }
        let mut asks = Asks::default();
        let value = |name: &str| headers::value(message.headers, name).filter(|value| !value.is_empty());
        if value("Nats-Expected-Stream").is_some_and(|name| name != bound.name().as_bytes()) {
            return Err(ApiError::other_stream());
        }
        if let Some(ttl) = value("Nats-TTL") {
            asks.stay = ttl::stay(ttl).ok_or_else(ApiError::ttl_invalid)?;
            if !bound.config.allow_msg_ttl {
                return Err(ApiError::ttl_disabled());
            }
        }
        let of_subject = value("Nats-Expected-Last-Subject-Sequence-Subject");
        match value("Nats-Expected-Last-Subject-Sequence").map(number) {
            Some(seq) => {
                let pattern = subject::pattern(of_subject.unwrap_or(message.subject));
                let pattern = pattern.ok_or_else(ApiError::last_subject_sequence)?;
                asks.conditions.expected_pattern_last = Some((pattern, seq.checked_sub(1).map(Offset)));
            }
            None if of_subject.is_some() => return Err(ApiError::last_subject_sequence()),
            None => {}
        }
        asks.conditions.expected_end = value("Nats-Expected-Last-Sequence").map(number).map(Offset);
        asks.conditions.is_dedup_last = true;
        asks.conditions.dedup_key = value("Nats-Msg-Id").map(Bytes::copy_from_slice);
        let last_id = value("Nats-Expected-Last-Msg-Id").map(Bytes::copy_from_slice);
        asks.conditions.expected_last_dedup_key = last_id;
        if let Some(rollup) = value("Nats-Rollup") {
            if !bound.config.allow_rollup_hdrs {
                return Err(ApiError::rollup("rollup not permitted"));
            }
            asks.replaces = match rollup.to_ascii_lowercase().as_slice() {
                b"sub" => Replaces::SameKey,
                b"all" => Replaces::Everything,
                _ => {
                    let rollup = String::from_utf8_lossy(rollup);
                    return Err(ApiError::rollup(&format!("rollup value invalid: \"{rollup}\"")));
                }
            };
        }
        Ok(asks)
    }
}

/// What does not read as a number is one that no sequence is.
fn number(text: &[u8]) -> u64 {
    std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}

/// Stores runs in one unit; what their publishers are told, and the sequence to wait for first.
pub(crate) async fn publish(broker: &Broker, runs: Vec<Run>) -> Acks {
    let mut runs: Vec<(Run, Bytes)> = runs
        .into_iter()
        .map(|mut run| (std::mem::take(&mut run.body), run))
        .map(|(body, run)| (run, body.into()))
        .collect();
    let lasts = lasts_before(&runs);
    let stored = store(broker, &runs).await;
    let (outcomes, wait) = match stored {
        Ok(stored) => stored,
        Err(error) => {
            let refused = ApiError::store_failed(error.text());
            runs.iter_mut().for_each(|(run, _)| run.refused = run.refused.take().or(Some(refused.clone())));
            (Vec::new(), Seq(0))
        }
    };
    let mut outcomes = outcomes.into_iter();
    let mut acks = Acks { wait, all: Vec::new(), again: Vec::new() };
    let now_ms = broker.env().clock.wall_ms();
    let mut lasts = Lasts(lasts);
    for (run, body) in &runs {
        let answer = match &run.refused {
            Some(error) => Err(error.clone()),
            None => match outcomes.next() {
                Some(Outcome::Appended { base, .. }) => Ok((base, false)),
                Some(Outcome::Duplicate { base, .. }) => Ok((base, true)),
                Some(Outcome::Refused(refusal)) => Err(refused(broker, run, body.len(), &refusal)),
                None => Err(ApiError::store_failed("the message was not stored")),
            },
        };
        if let Ok((base, false)) = &answer {
            lasts.publish_again(run, body, *base, now_ms, &mut acks.again);
        }
        for (index, reply) in (0u64..).zip(&run.replies) {
            let Some(reply) = reply else { continue };
            let body = match &answer {
                Ok((base, is_duplicate)) => ack(run.bound.name(), base.0 + index + 1, *is_duplicate),
                Err(error) => refusal(run.bound.name(), error),
            };
            acks.all.push((reply.clone(), body));
        }
    }
    acks
}

async fn store(broker: &Broker, runs: &[(Run, Bytes)]) -> Result<(Vec<Outcome>, Seq)> {
    loop {
        let appends: Vec<Append> = runs
            .iter()
            .filter(|(run, _)| run.refused.is_none())
            .map(|(run, body)| append(run, body))
            .collect();
        if appends.is_empty() {
            return Ok((Vec::new(), Seq(0)));
        }
        let mut unit = PublishUnit::of(appends);
        for (of, (run, _)) in runs.iter().filter(|(run, _)| run.refused.is_none()).enumerate() {
            if let (Some(onward), Some(append)) = (&run.onward, unit.appends.get(of)) {
                let own = std::slice::from_ref(&run.bound.stream);
                broker.onward(onward, &append.batch, own)?.follow(of, &mut unit);
            }
        }
        match broker.publish(unit) {
            Ok(published) => return Ok((published.outcomes, published.wait)),
            Err(error) if error.kind() == ErrorKind::Throttled => broker.room().await,
            Err(error) => return Err(error),
        }
    }
}

/// Messages with different ways on are batches of their own.
fn is_same_way(one: Option<&Arc<[Routed]>>, other: Option<&Arc<[Routed]>>) -> bool {
    match (one, other) {
        (None, None) => true,
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        _ => false,
    }
}

fn append(run: &Run, body: &Bytes) -> Append {
    let batch = NewBatch {
        count: u32::try_from(run.rows.len()).unwrap_or(u32::MAX),
        format: FORMAT,
        attributes: Attributes::Rows(run.rows.clone().into()),
        body: body.clone(),
        replaces: run.asks.replaces,
        ..NewBatch::default()
    };
    Append { conditions: run.asks.conditions.clone(), ..Append::new(&run.bound.partition, batch) }
}

/// Why a message was not stored, as its publisher is told.
fn refused(broker: &Broker, run: &Run, len: usize, refusal: &Refusal) -> ApiError {
    let partition = &run.bound.partition;
    match refusal.reason {
        RefusalReason::ConditionFailed => {
            let end = partition.staged_end();
            let conditions = &run.asks.conditions;
            if let Some((pattern, expected)) = &conditions.expected_pattern_last {
                let last = partition.last_under(pattern, end);
                if last != *expected {
                    return ApiError::wrong_last_sequence(last.map_or(0, |last| last.0 + 1));
                }
            }
            match conditions.expected_end {
                Some(expected) if expected != end => ApiError::wrong_last_sequence(end.0),
                _ => ApiError::wrong_last_message_id(&last_message_id(broker, partition)),
            }
        }
        // What speaks against a copy elsewhere.
        RefusalReason::TooLarge | RefusalReason::Full | RefusalReason::Closed if run.onward.is_some() => {
            ApiError::store_failed(refusal.error.text())
        }
        RefusalReason::TooLarge => ApiError::message_too_large(),
        RefusalReason::Full => {
            let (stats, config) = (partition.stats(), &run.bound.config);
            let is_over = |max: i64, value: u64| u64::try_from(max).is_ok_and(|max| value > max);
            if is_over(config.max_msgs, stats.records + 1) {
                ApiError::store_failed("maximum messages exceeded")
            } else if is_over(config.max_bytes, stats.bytes.saturating_add(len as u64)) {
                ApiError::store_failed("maximum bytes exceeded")
            } else {
                ApiError::store_failed("maximum messages per subject exceeded")
            }
        }
        RefusalReason::Closed => ApiError::stream_not_found(),
        RefusalReason::SequenceGap
        | RefusalReason::SequenceStale
        | RefusalReason::ProducerFenced
        | RefusalReason::Invalid
        | RefusalReason::OthersRefused => ApiError::store_failed(refusal.error.text()),
    }
}

/// The id of the last message, for the text of an error: nothing where it has none, or is not in memory.
fn last_message_id(broker: &Broker, partition: &Partition) -> String {
    let last = partition.bounds().end.0.checked_sub(1).map(Offset);
    let chunk = last.and_then(|last| broker.try_read(partition, last, ReadLimits::bytes(1)).ok().flatten());
    let mut id = String::new();
    for part in chunk.iter().flat_map(|chunk| &chunk.batches) {
        let read = split(&part.batch, |index, _, stored| {
            if Some(part.batch.base.plus(u64::from(index))) == last {
                let value = headers::value(stored.headers, "Nats-Msg-Id").unwrap_or_default();
                id = String::from_utf8_lossy(value).into_owned();
            }
            Ok(())
        });
        if read.is_err() {
            return String::new();
        }
    }
    id
}

fn ack(stream: &str, seq: u64, is_duplicate: bool) -> Vec<u8> {
    let duplicate = if is_duplicate { ",\"duplicate\":true" } else { "" };
    format!("{{\"stream\":{},\"seq\":{seq}{duplicate}}}", quoted(stream)).into_bytes()
}

fn refusal(stream: &str, error: &ApiError) -> Vec<u8> {
    let error = serde_json::to_string(error).unwrap_or_default();
    format!("{{\"error\":{error},\"stream\":{},\"seq\":0}}", quoted(stream)).into_bytes()
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
