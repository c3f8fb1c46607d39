//! DeleteTopics, CreatePartitions and DeleteRecords.

use std::collections::HashSet;

use broker::Action;
use model::{ErrorKind, Kind, Offset, Seq, limits};

use super::{
    NamedTopic,
    create_topics::{PARTITIONS_PER_REQUEST_MAX, Refused},
    list_offsets::wire_offset,
    named_twice, once_each,
};
use crate::{
    codec::{
        ErrorCode, Uuid,
        api::{
            create_partitions::{
                CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
                CreatePartitionsTopicResult,
            },
            delete_records::{
                DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsResponse,
                DeleteRecordsTopicResult,
            },
            delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse},
        },
    },
    errors,
    session::Ctx,
    topics,
};

pub(crate) async fn delete_topics(
    ctx: &Ctx,
    request: DeleteTopicsRequest<'_>,
) -> DeleteTopicsResponse<'static> {
    let wanted: Vec<(Option<&str>, Uuid)> = match ctx.version >= 6 {
        true => request.topics.iter().map(|topic| (topic.name, topic.topic_id)).collect(),
        false => request.topic_names.iter().map(|name| (Some(*name), Uuid::ZERO)).collect(),
    };
    let contradictions = Contradictions::of(ctx, &wanted);
    let mut responses = Vec::with_capacity(wanted.len());
    let mut staged = Seq(0);
    for &(name, id) in once_each(&wanted, |wanted| *wanted) {
        pace(ctx, responses.len(), staged).await;
        let result = match contradictions.refuse(ctx, name, id) {
            Some(why) => Err((ErrorCode::INVALID_REQUEST, why.to_owned())),
            None => delete(ctx, name, id, &mut staged),
        };
        let (name, topic_id) = match &result {
            Ok((name, id)) => (Some(name.clone()), *id),
            Err(_) => (name.map(str::to_owned), id),
        };
        let refused = result.err();
        responses.push(DeletableTopicResult {
            name: name.map(Into::into),
            topic_id,
            error_code: refused.as_ref().map_or(ErrorCode::NONE, |(code, _)| *code),
            error_message: refused.map(|(_, why)| why.into()),
        });
    }
    if let Some((code, why)) = not_durable(ctx, staged).await {
        for response in responses.iter_mut().filter(|response| response.error_code == ErrorCode::NONE) {
            (response.error_code, response.error_message) = (code, Some(why.clone().into()));
        }
    }
    DeleteTopicsResponse { responses, ..Default::default() }
}

/// Waits for everything that a request staged: many changes are one wait. Why it failed, if it did.
pub(crate) async fn not_durable(ctx: &Ctx, staged: Seq) -> Option<Refused> {
    let stored = ctx.server.broker.durable(staged).await;
    stored.err().map(|e| (errors::of(&e), e.text().to_owned()))
}

/// Changes that are staged in one go, and between which others have their turn.
const STAGED_MAX: usize = 256;

/// After every [`STAGED_MAX`] changes of a request waits for them: acknowledgements share the queue that they are in. A
/// failure stays one for whoever waits for the whole.
pub(crate) async fn pace(ctx: &Ctx, done: usize, staged: Seq) {
    if done > 0 && done.is_multiple_of(STAGED_MAX) {
        drop(ctx.server.broker.durable(staged).await);
        tokio::task::yield_now().await;
    }
}

/// What a request to delete says twice; nothing of that is deleted.
struct Contradictions<'a> {
    twice: HashSet<(Option<&'a str>, Uuid)>,
    /// Topics that are meant by their name and by their id.
    both_ways: HashSet<String>,
}

impl<'a> Contradictions<'a> {
    fn of(ctx: &Ctx, wanted: &[(Option<&'a str>, Uuid)]) -> Self {
        let names: HashSet<&str> = wanted.iter().filter_map(|(name, _)| *name).collect();
        let by_id = wanted.iter().filter(|(name, _)| name.is_none()).filter_map(|(_, id)| name_of(ctx, *id));
        let both_ways = by_id.filter(|name| names.contains(name.as_str())).collect();
        Contradictions { twice: named_twice(wanted, |wanted| *wanted), both_ways }
    }

    fn refuse(&self, ctx: &Ctx, name: Option<&str>, id: Uuid) -> Option<&'static str> {
        match name {
            Some(_) if !id.is_zero() => Some("You may not specify both topic name and topic id."),
            None if id.is_zero() => Some("Neither topic name nor id were specified."),
            Some(_) if self.twice.contains(&(name, id)) => Some("Duplicate topic name."),
            None if self.twice.contains(&(name, id)) => Some("Duplicate topic id."),
            _ => {
                let name = name.map(str::to_owned).or_else(|| name_of(ctx, id));
                let both_ways = name.is_some_and(|name| self.both_ways.contains(&name));
                both_ways.then_some("The provided topic name maps to an ID that was already supplied.")
            }
        }
    }
}

fn name_of(ctx: &Ctx, id: Uuid) -> Option<String> {
    let stream = topics::find_by_id(&ctx.server.broker, &ctx.namespace(), id.0)?;
    Some(topics::shown_name(stream.key()))
}

/// Deletes by name or by id; the answer has both.
fn delete(ctx: &Ctx, name: Option<&str>, id: Uuid, staged: &mut Seq) -> Result<(String, Uuid), Refused> {
    let refuse = |code: ErrorCode, why: &str| Err((code, why.to_owned()));
    let (broker, namespace) = (&ctx.server.broker, ctx.namespace());
    let found = match name {
        Some(name) => topics::find(&ctx.server, &namespace, name),
        None => topics::find_by_id(broker, &namespace, id.0),
    };
    // Queues are looked at here, never deleted.
    let Some(stream) = found.filter(|stream| stream.key().kind == Kind::Log) else {
        return match name {
            Some(_) => refuse(
                ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                "This server does not host this topic-partition.",
            ),
            None => refuse(ErrorCode::UNKNOWN_TOPIC_ID, "This server does not host this topic ID."),
        };
    };
    if !ctx.allows(Action::Configure, &stream.key().name) {
        return refuse(ErrorCode::TOPIC_AUTHORIZATION_FAILED, "Authorization failed.");
    }
    let deleted = broker.stage_delete_this_stream(&stream);
    *staged = (*staged).max(deleted.map_err(|e| (errors::of(&e), e.text().to_owned()))?);
    Ok((topics::shown_name(stream.key()), super::metadata::topic_id(&stream)))
}

pub(crate) async fn create_partitions(
    ctx: &Ctx,
    request: CreatePartitionsRequest<'_>,
) -> CreatePartitionsResponse<'static> {
    let mut results = Vec::with_capacity(request.topics.len());
    let mut staged = Seq(0);
    let twice = named_twice(&request.topics, |topic| topic.name);
    let mut left = PARTITIONS_PER_REQUEST_MAX;
    for topic in once_each(&request.topics, |topic| topic.name) {
        pace(ctx, results.len(), staged).await;
        let refused = match twice.contains(topic.name) {
            true => Some((ErrorCode::INVALID_REQUEST, "Duplicate topic name.".to_owned())),
            false => add_partitions(ctx, topic, request.validate_only, &mut left, &mut staged).err(),
        };
        results.push(CreatePartitionsTopicResult {
            name: topic.name.to_owned().into(),
            error_code: refused.as_ref().map_or(ErrorCode::NONE, |(code, _)| *code),
            error_message: refused.map(|(_, why)| why.into()),
        });
    }
    if let Some((code, why)) = not_durable(ctx, staged).await {
        for result in results.iter_mut().filter(|result| result.error_code == ErrorCode::NONE) {
            (result.error_code, result.error_message) = (code, Some(why.clone().into()));
        }
    }
    CreatePartitionsResponse { results, ..Default::default() }
}

fn add_partitions(
    ctx: &Ctx,
    topic: &CreatePartitionsTopic<'_>,
    validate_only: bool,
    left: &mut u64,
    staged: &mut Seq,
) -> Result<(), Refused> {
    let refuse = |code: ErrorCode, why: String| Err((code, why));
    let named = NamedTopic::find(ctx, topic.name);
    if !named.may(ctx, Action::Configure, topic.name) {
        return refuse(ErrorCode::TOPIC_AUTHORIZATION_FAILED, "Authorization failed.".to_owned());
    }
    let broker = &ctx.server.broker;
    let Some(stream) = named.0.filter(|stream| stream.key().kind == Kind::Log) else {
        return refuse(
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            "This server does not host this topic-partition.".to_owned(),
        );
    };
    let now = stream.partitions().len();
    let total = usize::try_from(topic.count).unwrap_or(0);
    if total == now {
        return refuse(ErrorCode::INVALID_PARTITIONS, format!("Topic already has {now} partition(s)."));
    }
    if total < now {
        let why = format!(
            "The topic {} currently has {now} partition(s); {} would not be an increase.",
            topic.name, topic.count
        );
        return refuse(ErrorCode::INVALID_PARTITIONS, why);
    }
    if let Some(assignments) = &topic.assignments {
        let node = ctx.server.options.node_id;
        if assignments.len() != total - now || assignments.iter().any(|a| a.broker_ids != [node]) {
            let why =
                format!("Replicas can only be assigned to node {node}, one list for each new partition.");
            return refuse(ErrorCode::INVALID_REPLICA_ASSIGNMENT, why);
        }
    }
    let total = u32::try_from(total).unwrap_or(u32::MAX);
    if total > limits::PARTITIONS_MAX {
        let why = format!("A topic has at most {} partitions here.", limits::PARTITIONS_MAX);
        return refuse(ErrorCode::INVALID_PARTITIONS, why);
    }
    let Some(rest) = left.checked_sub((total as usize - now) as u64) else {
        let why = "Excessively large number of partitions per request.".to_owned();
        return refuse(ErrorCode::POLICY_VIOLATION, why);
    };
    *left = rest;
    if validate_only {
        return Ok(());
    }
    match broker.stage_add_partitions(stream.key(), total) {
        Ok((_, seq)) => {
            *staged = (*staged).max(seq);
            Ok(())
        }
        Err(e) if e.kind() == ErrorKind::Invalid => {
            refuse(ErrorCode::INVALID_PARTITIONS, e.text().to_owned())
        }
        Err(e) => refuse(errors::of(&e), e.text().to_owned()),
    }
}

/// Stands for the high watermark.
const TO_THE_END: i64 = -1;

pub(crate) async fn delete_records(
    ctx: &Ctx,
    request: DeleteRecordsRequest<'_>,
) -> DeleteRecordsResponse<'static> {
    let mut answer = DeleteRecordsResponse::default();
    let (mut staged, mut done) = (Seq(0), 0);
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let named = NamedTopic::find(ctx, topic.name);
        let allowed = named.may(ctx, Action::Configure, topic.name);
        for wanted in &topic.partitions {
            pace(ctx, done, staged).await;
            done += 1;
            let result = match allowed {
                true => delete_before(ctx, &named, wanted.partition_index, wanted.offset, &mut staged),
                false => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: wanted.partition_index,
                low_watermark: result.unwrap_or(-1),
                error_code: result.err().unwrap_or(ErrorCode::NONE),
            });
        }
        answer.topics.push(DeleteRecordsTopicResult { name: topic.name.to_owned().into(), partitions });
    }
    if let Some((code, _)) = not_durable(ctx, staged).await {
        let all = answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for partition in all.filter(|partition| partition.error_code == ErrorCode::NONE) {
            (partition.error_code, partition.low_watermark) = (code, -1);
        }
    }
    answer
}

fn delete_before(
    ctx: &Ctx,
    topic: &NamedTopic,
    index: i32,
    offset: i64,
    staged: &mut Seq,
) -> Result<i64, ErrorCode> {
    let partition = topic.partition(index)?;
    if topic.is_queue() {
        // It is looked at here; what its consumers hold is not taken from under them.
        return Err(ErrorCode::POLICY_VIOLATION);
    }
    let bounds = partition.bounds();
    let to = match offset {
        TO_THE_END => bounds.durable_end,
        offset => Offset(u64::try_from(offset).map_err(|_| ErrorCode::OFFSET_OUT_OF_RANGE)?),
    };
    if to > bounds.durable_end {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    let (start, seq) = ctx.server.broker.stage_trim(partition, to).map_err(|e| errors::of(&e))?;
    *staged = (*staged).max(seq);
    Ok(wire_offset(start))
}

#[cfg(test)]
mod tests;
