//! Fetch: batches as they are stored, waiting for them if asked to.

use std::{collections::HashMap, sync::Arc, time::Duration};

use broker::{Action, Ahead, Bounds, Chunk, Oversize, Partition, ReadLimits, Stream, Upto, Watch};
use bytes::Bytes;
use model::{ErrorKind, Offset};
use tokio::time::Instant;

use self::waiting::{Source, Waited};
use super::list_offsets::{check_leader_epoch, end_of_epoch, wire_offset};
use crate::{
    answer_budget::Charge,
    codec::{
        ErrorCode, Records, Uuid,
        api::fetch::{
            EpochEndOffset, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, PartitionData,
        },
    },
    errors,
    fetch_sessions::{Ask, FINAL_EPOCH, PARTITIONS_MAX, PartitionKey, Plan, SessionError, Told, Wanted},
    format::{is_repacked, wire_batches},
    session::Ctx,
    topics::{self, TOPIC_NAME_MAX},
};

mod waiting;

const READ_COMMITTED: i8 = 1;

/// Bytes of one answer, whatever is asked for (`fetch.max.bytes`).
const FETCH_LEN_MAX: usize = 55 << 20;

/// Longest wait taken: a client that asks for more asks again.
const WAIT_MAX: Duration = Duration::from_secs(300);

/// Partitions that are read for an answer although what is left of it was too little for the one before. Lagging clients
/// ask for hundreds: each would cost a read, of the disk too, for nothing.
const MISSES_MAX: u32 = 2;

/// Partitions that are looked at in a row before others have their turn.
const TURN_LEN: usize = 256;

/// Shares of an answer that are kept while one waits for more, some hundred bytes each: those of a larger one are made
/// anew.
const SHARES_KEPT_MAX: usize = 1_000;

/// The answer, with what it takes of the memory for answers until it is written.
/// What it was asked with is gone while it waits.
pub(crate) fn fetch<'c>(
    ctx: &'c Ctx,
    request: FetchRequest<'_>,
) -> impl Future<Output = (FetchResponse<'static>, Option<Charge>)> + Send + use<'c> {
    let plan = plan_of(ctx, &request);
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(FETCH_LEN_MAX);
    let several = plan.as_ref().is_ok_and(|plan| plan.partitions.len() > 1);
    let read = Fetch {
        ctx,
        by_ids: ctx.version >= 13,
        // More than fits into an answer never comes.
        min_bytes: usize::try_from(request.min_bytes).unwrap_or(0).min(max_bytes),
        upto: if request.isolation_level == READ_COMMITTED { Upto::Stable } else { Upto::Durable },
        ahead: if several { Ahead::Asked } else { Ahead::Own },
    };
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(WAIT_MAX);
    async move {
        match plan {
            Ok(plan) => {
                let (shares, charge) = read.until_enough(&plan, max_bytes, Instant::now() + wait).await;
                (answer(ctx, &plan, shares), charge)
            }
            Err(error) => (FetchResponse { error_code: session_code(error), ..Default::default() }, None),
        }
    }
}

fn session_code(error: SessionError) -> ErrorCode {
    match error {
        SessionError::NotFound => ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        SessionError::InvalidEpoch => ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        SessionError::TopicIdMix => ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
        SessionError::TooMany => ErrorCode::INVALID_REQUEST,
    }
}

fn plan_of(ctx: &Ctx, request: &FetchRequest<'_>) -> Result<Plan, SessionError> {
    let (topics, forgotten_topics) = (&request.topics, &request.forgotten_topics_data);
    let count: usize = topics.iter().map(|topic| topic.partitions.len()).sum();
    let forgotten_count: usize = forgotten_topics.iter().map(|topic| topic.partitions.len()).sum();
    if count + forgotten_count > PARTITIONS_MAX {
        return Err(SessionError::TooMany);
    }
    let mut is_keepable = true;
    let mut named = |name: &str| -> Arc<str> {
        is_keepable &= name.len() <= TOPIC_NAME_MAX;
        name.into()
    };
    let partitions = each_once(topics, &mut named);
    let mut forgotten = Vec::with_capacity(forgotten_count);
    for topic in forgotten_topics {
        let (name, topic_id) = (named(topic.topic), topic.topic_id.0);
        let key = |partition: &i32| PartitionKey { topic: name.clone(), topic_id, partition: *partition };
        forgotten.extend(topic.partitions.iter().map(key));
    }
    let ask = Ask {
        session_id: request.session_id,
        epoch: if ctx.version >= 7 { request.session_epoch } else { FINAL_EPOCH },
        by_ids: ctx.version >= 13,
        partitions,
        forgotten,
        is_keepable,
    };
    let env = ctx.server.broker.env();
    // Any 31 bits will do.
    let new_id = i32::try_from(env.random.u64() >> 33).unwrap_or(1);
    ctx.server.fetch_sessions.lock().plan(ask, new_id, env.clock.mono_ns() / 1_000_000)
}

/// The partitions of a request in their order. One that is named again is asked for once, in its first place, as it was
/// named last: to the original they are a map.
fn each_once(
    topics: &[FetchTopic<'_>],
    named: &mut impl FnMut(&str) -> Arc<str>,
) -> Vec<(PartitionKey, Wanted)> {
    let mut partitions: Vec<(PartitionKey, Wanted)> = Vec::new();
    // Topics are numbered, so that a long name is looked at once and not with each partition.
    let mut names: Vec<Arc<str>> = Vec::new();
    let mut numbers: HashMap<(&str, [u8; 16]), usize> = HashMap::new();
    let mut places: HashMap<(usize, i32), usize> = HashMap::new();
    for topic in topics {
        let topic_id = topic.topic_id.0;
        let number = *numbers.entry((topic.topic, topic_id)).or_insert_with(|| {
            names.push(named(topic.topic));
            names.len() - 1
        });
        let Some(name) = names.get(number) else { continue };
        for asked in &topic.partitions {
            let wanted = Wanted {
                offset: asked.fetch_offset,
                max_bytes: asked.partition_max_bytes,
                current_leader_epoch: asked.current_leader_epoch,
                last_fetched_epoch: asked.last_fetched_epoch,
            };
            let place = *places.entry((number, asked.partition)).or_insert(partitions.len());
            match partitions.get_mut(place) {
                Some((_, known)) => *known = wanted,
                None => {
                    let key = PartitionKey { topic: name.clone(), topic_id, partition: asked.partition };
                    partitions.push((key, wanted));
                }
            }
        }
    }
    partitions
}

/// One partition's share of the answer.
struct Share {
    data: PartitionData<'static>,
    len: usize,
    /// Bytes as the least length counts them, as the original does: up to the partition's limit those that are there,
    /// whether the next batch fits under it or not.
    available: usize,
    /// Whether what is left of the answer kept records back.
    kept_back: bool,
    /// Where something new would be worth an answer.
    source: Option<Source>,
    /// Where the client will read on, if the disk was asked for what it has now.
    cold_next: Option<Offset>,
    /// Whether the client should hear of it at once.
    urgent: bool,
    /// The topic's name, once it was found.
    name: Option<Arc<str>>,
}

struct Fetch<'a> {
    ctx: &'a Ctx,
    by_ids: bool,
    /// Less than this is answered only when the time is over.
    min_bytes: usize,
    upto: Upto,
    ahead: Ahead,
}

impl Fetch<'_> {
    /// Reads until there is enough, reading fails somewhere, or the time is over. Partitions that were never there do
    /// not cut the wait short (their client would come back at once, again and again); one that goes meanwhile does.
    async fn until_enough(
        &self,
        plan: &Plan,
        max_bytes: usize,
        deadline: Instant,
    ) -> (Vec<Share>, Option<Charge>) {
        let watch = Watch::new();
        let mut there = 0;
        loop {
            let mut charge = self.ctx.server.answer_budget.take(max_bytes, deadline).await;
            let mut shares = self.once(plan, charge.as_ref().map(Charge::len)).await;
            let total: usize = shares.iter().map(|share| share.len).sum();
            if let Some(charge) = &mut charge {
                charge.settle(total);
            }
            let available: usize = shares.iter().map(|share| share.available).sum();
            // What is there and has no room in the answer is no reason to wait for more.
            let kept_back = total > 0 && shares.iter().any(|share| share.kept_back);
            let sources = shares.iter().filter(|share| share.source.is_some()).count();
            let nothing_to_wait_for = sources == 0 || sources < there;
            if available >= self.min_bytes
                || kept_back
                || nothing_to_wait_for
                || shares.iter().any(|share| share.urgent)
                || Instant::now() >= deadline
            {
                return (shares, charge);
            }
            there = sources;
            // Nothing is held while one waits.
            drop(charge);
            let is_kept = shares.len() <= SHARES_KEPT_MAX;
            let mut sources: Vec<Source> = Vec::new();
            match is_kept {
                true => shares.iter_mut().for_each(|share| share.data.records = Records::default()),
                false => {
                    sources.extend(std::mem::take(&mut shares).into_iter().filter_map(|share| share.source))
                }
            }
            let kept = shares.iter_mut().filter_map(|share| share.source.as_mut());
            let sources = kept.chain(&mut sources).collect();
            let waited = waiting::until_there(sources, self.min_bytes - available, &watch, deadline).await;
            if waited == Waited::InVain && total == 0 && is_kept {
                return (shares, None);
            }
        }
    }

    /// Reads what `room` bytes hold; without room, bounds alone.
    async fn once(&self, plan: &Plan, room: Option<usize>) -> Vec<Share> {
        let mut shares = Vec::with_capacity(plan.partitions.len());
        let mut last = None;
        let mut left = Left { first: room.is_some(), room: room.unwrap_or(0), misses: 0 };
        let mut is_cold = false;
        for (index, (key, wanted)) in plan.partitions.iter().enumerate() {
            if index % TURN_LEN == TURN_LEN - 1 {
                tokio::task::yield_now().await;
            }
            let share = match self.find(key, &mut last) {
                Ok((stream, partition)) => {
                    let read = self.read(&stream, &partition, key, wanted, left).await;
                    let refused = |error_code| Share { urgent: true, ..refused(key.partition, error_code) };
                    Share { name: Some(stream.key().name.clone()), ..read.unwrap_or_else(refused) }
                }
                Err(error_code) => refused(key.partition, self.in_session(plan, key, error_code)),
            };
            left.take(&share);
            if self.ahead == Ahead::Asked
                && share.cold_next.is_some()
                && !std::mem::replace(&mut is_cold, true)
            {
                self.announce(plan.partitions.get(index + 1..).unwrap_or_default());
            }
            shares.push(share);
        }
        if is_cold {
            self.announce_next(plan, &shares);
        }
        shares
    }

    /// Where one partition's records are on the disk, those of the others beside it are likely to be too, in the same
    /// stretch of a file: all at once they are read together.
    fn announce(&self, partitions: &[(PartitionKey, Wanted)]) {
        let mut last = None;
        let wanted = partitions.iter().filter_map(|(key, wanted)| {
            let (_, partition) = self.find(key, &mut last).ok()?;
            let len = usize::try_from(wanted.max_bytes).ok()?;
            Some((partition, Offset(u64::try_from(wanted.offset).ok()?), len))
        });
        self.ctx.server.broker.look_ahead(&wanted.collect::<Vec<_>>());
    }

    /// The client asks for what comes next while it works on what it has.
    fn announce_next(&self, plan: &Plan, shares: &[Share]) {
        let wanted = plan.partitions.iter().zip(shares).filter_map(|((_, wanted), share)| {
            let partition = &share.source.as_ref()?.partition;
            Some((partition.clone(), share.cold_next?, usize::try_from(wanted.max_bytes).ok()?))
        });
        self.ctx.server.broker.look_ahead(&wanted.collect::<Vec<_>>());
    }

    /// The partition of `key`. Partitions of one topic come one after another, so what was found last is tried first.
    fn find(
        &self,
        key: &PartitionKey,
        last: &mut Option<Found>,
    ) -> Result<(Arc<Stream>, Arc<Partition>), ErrorCode> {
        let found = match last.take() {
            Some(last) if last.of.is_same_topic(key) => last,
            _ => Found { of: key.clone(), stream: self.find_topic(key) },
        };
        let stream = last.insert(found).stream.clone()?;
        let index = usize::try_from(key.partition).map_err(|_| ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let partition = stream.partitions().get(index).cloned();
        Ok((stream, partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?))
    }

    fn find_topic(&self, key: &PartitionKey) -> Result<Arc<Stream>, ErrorCode> {
        let (broker, namespace) = (&self.ctx.server.broker, self.ctx.namespace());
        let stream = match self.by_ids {
            true => {
                let found = topics::find_by_id(broker, &namespace, key.topic_id);
                found.ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?
            }
            false => {
                let found = topics::find(&self.ctx.server, &namespace, &key.topic);
                found.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?
            }
        };
        match self.ctx.allows(Action::Read, &stream.key().name) {
            true => Ok(stream),
            false => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        }
    }

    /// What is said of a topic id that nothing has. A session remembers the name that it stood for, as the original's
    /// does: deleted, the topic is unknown; made again, it has another id than the session's.
    fn in_session(&self, plan: &Plan, key: &PartitionKey, error_code: ErrorCode) -> ErrorCode {
        let sessions = &self.ctx.server.fetch_sessions;
        if error_code != ErrorCode::UNKNOWN_TOPIC_ID {
            return error_code;
        }
        let Some(name) = sessions.lock().name_of(plan.session_id, key) else { return error_code };
        match topics::find(&self.ctx.server, &self.ctx.namespace(), &name) {
            Some(_) => ErrorCode::INCONSISTENT_TOPIC_ID,
            None => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        }
    }

    async fn read(
        &self,
        stream: &Stream,
        partition: &Arc<Partition>,
        key: &PartitionKey,
        wanted: &Wanted,
        left: Left,
    ) -> Result<Share, ErrorCode> {
        check_leader_epoch(partition, wanted.current_leader_epoch)?;
        if let Some(diverging) = diverging(partition, wanted)? {
            let mut share = Share { urgent: true, ..refused(key.partition, ErrorCode::NONE) };
            let bounds = partition.bounds();
            share.data.high_watermark = wire_offset(bounds.durable_end);
            share.data.last_stable_offset = wire_offset(bounds.stable_end);
            share.data.log_start_offset = wire_offset(bounds.start);
            share.data.diverging_epoch = diverging;
            return Ok(share);
        }
        let from = Offset(u64::try_from(wanted.offset).map_err(|_| ErrorCode::OFFSET_OUT_OF_RANGE)?);
        if left.is_over() {
            return self.unread(partition, key, from);
        }
        let own_limit = usize::try_from(wanted.max_bytes).unwrap_or(0);
        let limit = left.room.min(own_limit);
        // The first partition with data gives a whole batch, however long (KIP-74).
        let oversize = if left.first { Oversize::First } else { Oversize::Never };
        let limits = ReadLimits { upto: self.upto, oversize, ahead: self.ahead, ..ReadLimits::bytes(limit) };
        let (mut chunk, mut pieces) = self.look(stream, partition, from, limits).await?;
        let mut len = pieces.iter().map(Bytes::len).sum::<usize>();
        // A read of the disk may end early: what is there and wanted is not waited for.
        let mut reached = from;
        while chunk.next > reached
            && chunk.next < self.readable_end(chunk.bounds)
            && len < self.min_bytes.min(limit)
        {
            reached = chunk.next;
            let limits = ReadLimits { bytes: limit - len, oversize: Oversize::Never, ..limits };
            let (more, more_pieces) = self.look(stream, partition, reached, limits).await?;
            len += more_pieces.iter().map(Bytes::len).sum::<usize>();
            pieces.extend(more_pieces);
            chunk = Chunk { of_disk: chunk.of_disk || more.of_disk, ..more };
        }
        let readable = self.readable_end(chunk.bounds);
        // With less than is waited for, nothing but a limit ends a read before that.
        let is_cut = chunk.next < readable;
        Ok(Share {
            data: PartitionData {
                records: Records::Chunks(pieces),
                ..self.without_records(key.partition, chunk.bounds)
            },
            len,
            available: if is_cut { len.max(limit) } else { len },
            kept_back: is_cut && limit < own_limit,
            source: Some(Source {
                partition: partition.clone(),
                upto: self.upto,
                from,
                // What a limit kept back is there already: only what comes behind it is worth waking up for.
                end: chunk.next.max(readable),
                // One batch is given whatever the limit.
                room: if is_cut { 0 } else { own_limit.saturating_sub(len).max(1) },
            }),
            cold_next: chunk.of_disk.then_some(chunk.next),
            urgent: false,
            name: None,
        })
    }

    /// What is told of a partition whose records have no room.
    fn unread(
        &self,
        partition: &Arc<Partition>,
        key: &PartitionKey,
        from: Offset,
    ) -> Result<Share, ErrorCode> {
        partition.check_open().map_err(|e| errors::of(&e))?;
        let bounds = partition.bounds();
        if !(bounds.start..=bounds.end).contains(&from) {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        let readable = self.readable_end(bounds);
        Ok(Share {
            data: self.without_records(key.partition, bounds),
            len: 0,
            available: 0,
            kept_back: from < readable,
            source: Some(Source {
                partition: partition.clone(),
                upto: self.upto,
                from,
                end: from.max(readable),
                room: 0,
            }),
            cold_next: None,
            urgent: false,
            name: None,
        })
    }

    fn without_records(&self, partition_index: i32, bounds: Bounds) -> PartitionData<'static> {
        PartitionData {
            partition_index,
            high_watermark: wire_offset(bounds.durable_end),
            last_stable_offset: wire_offset(bounds.stable_end),
            log_start_offset: wire_offset(bounds.start),
            aborted_transactions: (self.upto == Upto::Stable).then(Vec::new),
            ..Default::default()
        }
    }
}

/// What the topic of a partition was found to be.
struct Found {
    of: PartitionKey,
    stream: Result<Arc<Stream>, ErrorCode>,
}

/// What is left of an answer for the partitions that have not had their turn.
#[derive(Clone, Copy)]
struct Left {
    room: usize,
    /// Nothing was put in yet.
    first: bool,
    /// How many had records and no room for any.
    misses: u32,
}

impl Left {
    fn take(&mut self, share: &Share) {
        self.room = self.room.saturating_sub(share.len);
        self.first &= share.len == 0;
        self.misses += u32::from(share.kept_back && share.len == 0);
    }

    /// Whether nothing more is read.
    fn is_over(&self) -> bool {
        !self.first && (self.room == 0 || self.misses >= MISSES_MAX)
    }
}

impl Fetch<'_> {
    /// What one read gives, and its bytes as they go to the client.
    async fn look(
        &self,
        stream: &Stream,
        partition: &Arc<Partition>,
        from: Offset,
        limits: ReadLimits,
    ) -> Result<(Chunk, Vec<Bytes>), ErrorCode> {
        let broker = &self.ctx.server.broker;
        let chunk = broker.look(stream, partition, from, limits).await.map_err(|e| match e.kind() {
            ErrorKind::NotFound => ErrorCode::OFFSET_OUT_OF_RANGE,
            _ => errors::of(&e),
        })?;
        let (chunk, pieces) = self.on_the_wire(chunk, from).await;
        let pieces = pieces.map_err(|e| {
            tracing::warn!(log = partition.log_id().0, error = %e, "stored records do not read");
            errors::of(&e)
        })?;
        Ok((chunk, pieces))
    }

    /// A chunk with its bytes for the client, on a thread that may take its time where something is unpacked for them.
    async fn on_the_wire(&self, chunk: Chunk, from: Offset) -> (Chunk, model::Result<Vec<Bytes>>) {
        let server = &self.ctx.server;
        if !is_repacked(&chunk) {
            let pieces = wire_batches(server.broker.formats(), &chunk, from);
            return (chunk, pieces);
        }
        let _turn = server.repacking.acquire().await;
        let (broker, bounds) = (server.broker.clone(), chunk.bounds);
        let packing = tokio::task::spawn_blocking(move || {
            let pieces = wire_batches(broker.formats(), &chunk, from);
            (chunk, pieces)
        });
        packing.await.unwrap_or_else(|e| {
            let empty = Chunk { batches: Vec::new(), next: from, bounds, lost: Vec::new(), of_disk: false };
            (empty, Err(model::Error::internal(e.to_string())))
        })
    }

    fn readable_end(&self, bounds: Bounds) -> Offset {
        waiting::readable_end(self.upto, bounds)
    }
}

/// Where the client's log and this one part, when they do (KIP-595's truncation on fetch). An epoch whose end is not
/// known, or an offset before the log, leaves nothing to go by: the client has to look where the log begins and ends.
fn diverging(partition: &Partition, wanted: &Wanted) -> Result<Option<EpochEndOffset>, ErrorCode> {
    if wanted.last_fetched_epoch < 0 {
        return Ok(None);
    }
    let end = end_of_epoch(partition, wanted.last_fetched_epoch);
    let (epoch, end_offset) = end.ok_or(ErrorCode::OFFSET_OUT_OF_RANGE)?;
    if wanted.offset < wire_offset(partition.bounds().start) {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let parts = epoch < wanted.last_fetched_epoch || end_offset < wanted.offset;
    Ok(parts.then_some(EpochEndOffset { epoch, end_offset }))
}

fn refused(partition_index: i32, error_code: ErrorCode) -> Share {
    let data = PartitionData {
        partition_index,
        error_code,
        high_watermark: -1,
        aborted_transactions: None,
        // Never null, not even beside an error: some clients fail on it.
        records: Records::default(),
        ..Default::default()
    };
    Share {
        data,
        len: 0,
        available: 0,
        kept_back: false,
        source: None,
        cold_next: None,
        urgent: false,
        name: None,
    }
}

fn answer(ctx: &Ctx, plan: &Plan, shares: Vec<Share>) -> FetchResponse<'static> {
    let mut sessions = ctx.server.fetch_sessions.lock();
    let mut responses: Vec<FetchableTopicResponse<'static>> = Vec::new();
    let mut current: Option<&PartitionKey> = None;
    for ((key, _), share) in plan.partitions.iter().zip(shares) {
        let told = Told { high_watermark: share.data.high_watermark, log_start: share.data.log_start_offset };
        let failed = share.data.error_code != ErrorCode::NONE || share.data.diverging_epoch.epoch >= 0;
        let news = plan.session_id == 0 || sessions.tell(plan.session_id, key, told, share.len > 0, failed);
        if let Some(name) = share.name.filter(|_| plan.session_id != 0 && key.topic.is_empty()) {
            sessions.remember_name(plan.session_id, key, name);
        }
        if plan.incremental && !news {
            continue;
        }
        if !current.is_some_and(|current| current.is_same_topic(key)) {
            current = Some(key);
            responses.push(FetchableTopicResponse {
                topic: key.topic.as_ref().to_owned().into(),
                topic_id: Uuid(key.topic_id),
                partitions: Vec::new(),
            });
        }
        if let Some(topic) = responses.last_mut() {
            topic.partitions.push(share.data);
        }
    }
    FetchResponse { session_id: plan.session_id, responses, ..Default::default() }
}

#[cfg(test)]
mod tests;
