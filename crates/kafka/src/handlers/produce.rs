//! Produce: checked and staged in one go; the answer waits for the commit while later requests are staged behind it.

use std::{collections::HashMap, sync::Arc};

use broker::{
    Action, Append, Broker, NewBatch, Outcome, Partition, PublishUnit, Published, Refusal, Stream,
    TimeSource,
    routing::{Onward, RouteCache, Routed},
};
use bytes::{Bytes, BytesMut};
use model::{BatchFlags, ErrorKind, ProducerStamp, Seq};

use super::list_offsets::wire_offset;
use crate::{
    codec::{
        ApiKey, ErrorCode, Field, Records, RequestHeader, Str, Uuid,
        api::produce::{
            BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceRequest, ProduceResponse,
            TopicProduceResponse,
        },
        encode_response,
        records::{BatchFault, RecordBatch, RecordFault, RecordRules, RecordSummary, set_max_timestamp},
    },
    connection::Step,
    errors,
    format::{self, FORMAT, stamp_append_time, stamp_create_time},
    session::Ctx,
    topics::{self, DIALECT},
};

/// Served versions begin here; the lower ones are shown for old clients' sake alone (KAFKA-18659).
const SERVED_FROM: i16 = 3;

/// What packed records may come to, as a multiple of the largest batch of their topic. Text packs tenfold, repeated
/// text a hundredfold; what grows beyond that is sent to keep us busy.
const UNPACKED_RATIO_MAX: usize = 128;

/// Bytes that one request may unpack to where it is handled, which takes a few milliseconds; requests that come to more
/// go to a thread that may take its time.
const UNPACKED_INLINE_MAX: usize = 4 << 20;

/// Streams that this connection produces to, found once per generation of the catalog, and where routes lead from there.
#[derive(Default)]
pub(crate) struct Routes {
    generation: u64,
    by_name: HashMap<String, Arc<Stream>>,
    onward: RouteCache,
}

/// What is published for one request.
struct Unit {
    publish: PublishUnit,
    /// Bytes that further records may unpack to.
    unpacked_left: usize,
}

/// A topic as it is produced to.
struct Target<'a> {
    stream: &'a Arc<Stream>,
    /// Where its records go as well.
    onward: Option<Arc<[Routed]>>,
}

impl Routes {
    fn find(&mut self, ctx: &Ctx, name: &str) -> Option<Arc<Stream>> {
        let broker = &ctx.server.broker;
        let generation = broker.catalog_generation();
        if self.generation != generation {
            self.by_name.clear();
            self.generation = generation;
        }
        if let Some(stream) = self.by_name.get(name) {
            return Some(stream.clone());
        }
        let stream = topics::find(&ctx.server, &ctx.namespace(), name)?;
        self.by_name.insert(name.to_owned(), stream.clone());
        Some(stream)
    }
}

/// What a partition's part of a request came to before it was published.
enum Part {
    /// It is the n-th append of the unit.
    Staged {
        append: usize,
        partition: Arc<Partition>,
        own_time: bool,
    },
    Refused {
        code: ErrorCode,
        message: Option<String>,
        records: Vec<RecordFault>,
    },
}

impl Part {
    fn refused(code: ErrorCode) -> Self {
        Part::Refused { code, message: None, records: Vec::new() }
    }

    fn faulty(fault: BatchFault) -> Self {
        Part::Refused { code: fault.code(), message: Some(fault.to_string()), records: Vec::new() }
    }
}

/// The answer's skeleton: topics and partitions in the order in which they were asked for.
struct Asked {
    topics: Vec<AskedTopic>,
    version: i16,
    correlation: i32,
    acks: i16,
}

/// One topic's part of it: each partition's index with what became of it.
struct AskedTopic {
    name: String,
    id: Uuid,
    parts: Vec<(i32, Part)>,
}

/// What became of an attempt to handle a request.
enum Attempt {
    Done(Step),
    /// The queue to the disk is full.
    NoRoom,
    /// Its records unpack to more than may be walked here.
    Long,
}

/// Handles one request.
pub(crate) fn produce(ctx: &Ctx, routes: &mut Routes, frame: &Bytes, correlation: i32) -> Step {
    match attempt(ctx, routes, frame, correlation, UNPACKED_INLINE_MAX) {
        Attempt::Done(step) => step,
        Attempt::NoRoom => try_again(ctx, frame.clone(), correlation, false),
        Attempt::Long => try_again(ctx, frame.clone(), correlation, true),
    }
}

/// Handles a request if its records unpack to at most `unpacked_max` bytes and there is room for them.
fn attempt(ctx: &Ctx, routes: &mut Routes, frame: &Bytes, correlation: i32, unpacked_max: usize) -> Attempt {
    let request = RequestHeader::read(frame).map_err(|e| e.to_string()).and_then(|(header, mut reader)| {
        ProduceRequest::read(&mut reader, header.version).map_err(|e| format!("a request body: {e}"))
    });
    let request = match request {
        Ok(request) => request,
        Err(why) => return Attempt::Done(Step::Close(why)),
    };
    let mut unit = Unit { publish: PublishUnit::default(), unpacked_left: unpacked_max };
    let Some(asked) = ask(ctx, routes, frame, &request, correlation, &mut unit) else {
        return Attempt::Long;
    };
    let broker = &ctx.server.broker;
    let publish = unit.publish;
    if publish.appends.is_empty() {
        return Attempt::Done(finish(broker, asked, Ok(Published::default())));
    }
    match broker.publish(publish) {
        Err(e) if e.kind() == ErrorKind::Throttled => Attempt::NoRoom,
        published => Attempt::Done(finish(broker, asked, published)),
    }
}

/// The request is taken again, when there is room or, when it is `long`, where it holds nobody up; nothing behind it is
/// taken before.
fn try_again(ctx: &Ctx, frame: Bytes, correlation: i32, mut long: bool) -> Step {
    let ctx = Arc::new(Ctx {
        server: ctx.server.clone(),
        info: ctx.info.clone(),
        principal: ctx.principal.clone(),
        client: ctx.client.clone(),
        version: ctx.version,
    });
    Step::Barrier(Box::pin(async move {
        if !long {
            ctx.server.broker.room().await;
        }
        loop {
            let attempted = match long {
                true => unpack_apart(&ctx, &frame, correlation).await?,
                false => attempt(&ctx, &mut Routes::default(), &frame, correlation, UNPACKED_INLINE_MAX),
            };
            match attempted {
                Attempt::Done(Step::Answer(answer)) => return Ok(answer),
                Attempt::Done(Step::Later(answering) | Step::Barrier(answering) | Step::Poll(answering)) => {
                    return answering.await;
                }
                Attempt::Done(Step::Silent) => return Ok(Vec::new()),
                Attempt::Done(Step::Close(why)) => return Err(why),
                // Still no room: somebody else took it.
                Attempt::NoRoom => ctx.server.broker.room().await,
                Attempt::Long => long = true,
            }
        }
    }))
}

/// On a thread of its own, few at a time: each may hold a decoder's window.
async fn unpack_apart(ctx: &Arc<Ctx>, frame: &Bytes, correlation: i32) -> Result<Attempt, String> {
    let _turn = ctx.server.unpacking.acquire().await.map_err(|e| e.to_string())?;
    let (ctx, frame) = (ctx.clone(), frame.clone());
    let attempting = tokio::task::spawn_blocking(move || {
        attempt(&ctx, &mut Routes::default(), &frame, correlation, usize::MAX)
    });
    attempting.await.map_err(|e| e.to_string())
}

/// Checks every part of a request; `None` when its records unpack to more than may be walked here.
fn ask(
    ctx: &Ctx,
    routes: &mut Routes,
    frame: &Bytes,
    request: &ProduceRequest<'_>,
    correlation: i32,
    unit: &mut Unit,
) -> Option<Asked> {
    let refused = refuse_all(ctx, request);
    let mut asked_topics = Vec::with_capacity(request.topic_data.len());
    for topic in &request.topic_data {
        let by_id = ctx.version >= 13;
        let found = match by_id {
            true => topics::find_by_id(&ctx.server.broker, &ctx.namespace(), topic.topic_id.0),
            false => routes.find(ctx, topic.name),
        };
        // Whether a topic is there is not for everybody to know: permission comes first, by the name that was given.
        let allowed = match &found {
            Some(stream) => ctx.allows(Action::Write, &stream.key().name),
            None => by_id || ctx.allows(Action::Write, topic.name),
        };
        let target = found.as_ref().map(|stream| Target {
            stream,
            onward: routes.onward.of(
                &ctx.server.broker,
                &stream.key().namespace,
                DIALECT,
                stream.key().name.as_bytes(),
            ),
        });
        let mut parts = Vec::with_capacity(topic.partition_data.len());
        for data in &topic.partition_data {
            let part = match (&target, refused) {
                (_, Some(code)) => Part::refused(code),
                _ if !allowed => Part::refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
                (None, _) if by_id => Part::refused(ErrorCode::UNKNOWN_TOPIC_ID),
                (None, _) => Part::refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                (Some(target), _) => check(ctx, target, data.index, data.records.as_ref(), frame, unit)?,
            };
            parts.push((data.index, part));
        }
        asked_topics.push(AskedTopic { name: topic.name.to_owned(), id: topic.topic_id, parts });
    }
    Some(Asked { topics: asked_topics, version: ctx.version, correlation, acks: request.acks })
}

/// Why nothing of a request can be taken.
fn refuse_all(ctx: &Ctx, request: &ProduceRequest<'_>) -> Option<ErrorCode> {
    if ctx.version < SERVED_FROM {
        return Some(ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT);
    }
    if !matches!(request.acks, -1..=1) {
        return Some(ErrorCode::INVALID_REQUIRED_ACKS);
    }
    // Transactions are not served.
    request.transactional_id.map(|_| ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED)
}

/// Checks one partition's batch and adds it to what is published; `None` as in [`ask`].
fn check(
    ctx: &Ctx,
    target: &Target<'_>,
    index: i32,
    records: Option<&Records<'_>>,
    frame: &Bytes,
    unit: &mut Unit,
) -> Option<Part> {
    let stream = target.stream;
    let partition = usize::try_from(index).ok().and_then(|index| stream.partitions().get(index));
    let Some(partition) = partition else {
        return Some(Part::refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    };
    let Some(Records::Slice(bytes)) = records else { return Some(Part::refused(ErrorCode::INVALID_RECORD)) };
    let settings = stream.settings();
    if settings.batch_len_max.is_some_and(|max| bytes.len() > max as usize) {
        return Some(Part::refused(ErrorCode::MESSAGE_TOO_LARGE));
    }
    let batch = match RecordBatch::from_producer(bytes, ctx.version) {
        Ok(batch) => batch,
        Err(fault) => return Some(Part::faulty(fault)),
    };
    if batch.header.attributes.is_transactional() {
        return Some(Part::refused(ErrorCode::INVALID_TXN_STATE));
    }
    let own_time = settings.time == TimeSource::Append;
    let summary = match check_records(ctx, stream, &batch, own_time, &mut unit.unpacked_left)? {
        Ok(summary) => summary,
        Err(part) => return Some(part),
    };
    let body = match body_of(frame, &batch, &summary) {
        Ok(body) => body,
        Err(fault) => return Some(Part::faulty(fault)),
    };
    // Numbered anew, it may have become longer.
    if settings.batch_len_max.is_some_and(|max| body.len() > max as usize) {
        return Some(Part::refused(ErrorCode::MESSAGE_TOO_LARGE));
    }
    let append = unit.publish.appends.len();
    let newest_ms = summary.max_timestamp;
    let new = new_batch(body, &batch, own_time, newest_ms);
    if let Some(onward) = &target.onward {
        match copies(&ctx.server.broker, stream, onward, newest_ms, &new) {
            Ok(copies) => copies.follow(append, &mut unit.publish),
            Err(error) => {
                let message = Some(error.text().to_owned());
                let code = ErrorCode::INVALID_RECORD;
                return Some(Part::Refused { code, message, records: Vec::new() });
            }
        }
    }
    unit.publish.appends.push(Append::new(partition, new));
    Some(Part::Staged { append, partition: partition.clone(), own_time })
}

/// Bytes that a packed batch which numbers its records wrongly may unpack to: it is unpacked whole, and packed again.
const RENUMBERED_LEN_MAX: usize = 16 << 20;

/// The bytes of a checked batch, which are the producer's unless it numbered its records or named their newest time wrongly:
/// the original puts both right.
fn body_of(frame: &Bytes, batch: &RecordBatch<'_>, summary: &RecordSummary) -> Result<Bytes, BatchFault> {
    if summary.is_misnumbered {
        if summary.unpacked_len > RENUMBERED_LEN_MAX {
            return Err(BatchFault::TooLarge(RENUMBERED_LEN_MAX));
        }
        return batch.renumbered(RENUMBERED_LEN_MAX.max(batch.bytes().len()));
    }
    if batch.header.max_timestamp == summary.max_timestamp {
        return Ok(frame.slice_ref(batch.bytes()));
    }
    let mut body = BytesMut::from(batch.bytes());
    set_max_timestamp(&mut body, summary.max_timestamp)?;
    Ok(body.freeze())
}

/// A checked batch as it is stored in a topic that has the times of its producers, or its own.
fn new_batch(body: Bytes, batch: &RecordBatch<'_>, own_time: bool, newest_ms: i64) -> NewBatch {
    let header = batch.header;
    NewBatch {
        count: u32::try_from(header.record_count).unwrap_or(0),
        format: FORMAT,
        flags: BatchFlags::default(),
        producer: header.has_producer_id().then_some(ProducerStamp {
            id: header.producer_id,
            epoch: header.producer_epoch,
            first_sequence: header.base_sequence,
        }),
        max_event_time_ms: max_event_time_ms(newest_ms, own_time),
        body,
        stamp: Some(if own_time { stamp_append_time } else { stamp_create_time }),
        ..NewBatch::default()
    }
}

/// From the records' own times, whatever the header claims.
fn max_event_time_ms(newest_ms: i64, own_time: bool) -> Option<i64> {
    (!own_time && newest_ms >= 0).then_some(newest_ms)
}

/// The copies that go along the topic's routes. Which time counts is for each target to say.
fn copies(
    broker: &Broker,
    stream: &Arc<Stream>,
    onward: &[Routed],
    newest_ms: i64,
    new: &NewBatch,
) -> model::Result<Onward> {
    let mut copies = broker.onward(onward, new, std::slice::from_ref(stream))?;
    for append in copies.appends.iter_mut().filter(|append| append.batch.format == FORMAT) {
        let target = broker.stream_by_id(append.partition.stream_id());
        let own_time = target.is_some_and(|stream| stream.settings().time == TimeSource::Append);
        let copy = &mut append.batch;
        copy.stamp = Some(if own_time { stamp_append_time } else { stamp_create_time });
        copy.max_event_time_ms = match own_time {
            true => None,
            // A part of the batch knows its own newest time.
            false => copy.max_event_time_ms.or(max_event_time_ms(newest_ms, false)),
        };
    }
    Ok(copies)
}

/// Holds the records against the topic's rules, unpacking what is left to unpack.
fn check_records(
    ctx: &Ctx,
    stream: &Stream,
    batch: &RecordBatch<'_>,
    own_time: bool,
    unpacked_left: &mut usize,
) -> Option<Result<RecordSummary, Part>> {
    let batch_max = stream.settings().batch_len_max.map_or(usize::MAX, |max| max as usize);
    let unpacked_max = batch_max.saturating_mul(UNPACKED_RATIO_MAX).min(format::UNPACKED_LEN_MAX);
    let rules = rules_of(ctx, stream, own_time);
    let summary = match batch.check_records(&rules, unpacked_max.min(*unpacked_left)) {
        Ok(summary) => summary,
        Err(BatchFault::TooLarge(max)) if max < unpacked_max => return None,
        Err(fault) => return Some(Err(Part::faulty(fault))),
    };
    *unpacked_left = unpacked_left.saturating_sub(summary.unpacked_len);
    if summary.refused.is_empty() {
        return Some(Ok(summary));
    }
    let (code, message) = RecordFault::answer(&summary.refused);
    Some(Err(Part::Refused { code, message: Some(message), records: summary.refused }))
}

/// `message.timestamp.before.max.ms` and `message.timestamp.after.max.ms`, around now. They do not concern a topic that
/// takes the broker's time.
fn rules_of(ctx: &Ctx, stream: &Stream, own_time: bool) -> RecordRules {
    if own_time {
        return RecordRules::default();
    }
    let limit = |name: &str, default: i64| {
        let set = stream.settings().extras.get(name);
        set.and_then(|value| value.parse::<i64>().ok()).unwrap_or(default)
    };
    let now_ms = ctx.server.broker.env().clock.wall_ms();
    let before_ms = limit("kafka.message.timestamp.before.max.ms", i64::MAX);
    let after_ms = limit("kafka.message.timestamp.after.max.ms", 3_600_000);
    RecordRules {
        needs_key: false,
        oldest_ms: now_ms.saturating_sub(before_ms),
        newest_ms: now_ms.saturating_add(after_ms),
    }
}

/// Turns outcomes into the answer, which goes out after the commit.
fn finish(broker: &Broker, asked: Asked, published: model::Result<Published>) -> Step {
    let (outcomes, wait) = match published {
        Ok(published) => (Ok(published.outcomes), published.wait),
        Err(e) => (Err(errors::of(&e)), Seq(0)),
    };
    let response = response_of(&asked, &outcomes);
    if asked.acks == 0 {
        // Nothing is answered; a failure is shown by closing, as the original does.
        let failed = response
            .responses
            .iter()
            .flat_map(|t| &t.partition_responses)
            .find(|p| p.error_code != ErrorCode::NONE);
        return match failed {
            Some(part) => Step::Close(format!("a batch sent with acks=0 was refused: {:?}", part.error_code)),
            None => Step::Silent,
        };
    }
    let answer = encode_response(ApiKey::Produce, asked.version, asked.correlation, &response).into_chunks();
    if outcomes.is_err() || wait == Seq(0) {
        return Step::Answer(answer);
    }
    let durable = broker.durable(wait);
    Step::Later(Box::pin(async move {
        // Whether it is stored is not known: the client finds out by trying again on a new connection.
        durable.await.map_err(|e| e.to_string())?;
        Ok(answer)
    }))
}

fn response_of(asked: &Asked, outcomes: &Result<Vec<Outcome>, ErrorCode>) -> ProduceResponse<'static> {
    let responses = asked
        .topics
        .iter()
        .map(|topic| TopicProduceResponse {
            name: Str::from(topic.name.clone()),
            topic_id: topic.id,
            partition_responses: topic
                .parts
                .iter()
                .map(|(index, part)| part_response(*index, part, outcomes))
                .collect(),
        })
        .collect();
    ProduceResponse { responses, ..Default::default() }
}

fn part_response(
    index: i32,
    part: &Part,
    outcomes: &Result<Vec<Outcome>, ErrorCode>,
) -> PartitionProduceResponse<'static> {
    let refused = |code: ErrorCode, message: Option<String>| PartitionProduceResponse {
        index,
        error_code: code,
        base_offset: -1,
        error_message: message.map(Into::into),
        ..Default::default()
    };
    match part {
        Part::Refused { code, message, records } => {
            let mut response = refused(*code, message.clone());
            response.record_errors = records.iter().map(record_error).collect();
            response
        }
        Part::Staged { append, partition, own_time } => match outcomes {
            Err(code) => refused(*code, None),
            Ok(outcomes) => match outcomes.get(*append) {
                Some(
                    Outcome::Appended { base, append_time_ms } | Outcome::Duplicate { base, append_time_ms },
                ) => PartitionProduceResponse {
                    index,
                    error_code: ErrorCode::NONE,
                    base_offset: wire_offset(*base),
                    log_append_time_ms: if *own_time { *append_time_ms } else { -1 },
                    log_start_offset: wire_offset(partition.bounds().start),
                    ..Default::default()
                },
                Some(Outcome::Refused(Refusal { reason, error })) => {
                    refused(errors::of_refused_append(*reason), Some(error.text().to_owned()))
                }
                None => refused(ErrorCode::UNKNOWN_SERVER_ERROR, None),
            },
        },
    }
}

fn record_error(fault: &RecordFault) -> BatchIndexAndErrorMessage<'static> {
    BatchIndexAndErrorMessage {
        batch_index: i32::try_from(fault.index).unwrap_or(i32::MAX),
        batch_index_error_message: Some(fault.refusal.to_string().into()),
    }
}

#[cfg(test)]
mod tests;
