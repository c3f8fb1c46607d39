//! OffsetCommit: answered after the commit is on disk.

use std::sync::Arc;

use broker::{Action, CursorKey, Partition, Position};
use bytes::Bytes;
use model::{ErrorKind, Offset, Seq};

use super::NamedTopic;
use crate::{
    codec::{
        ErrorCode, Uuid,
        api::offset_commit::{
            OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
            OffsetCommitResponse, OffsetCommitResponsePartition, OffsetCommitResponseTopic,
        },
    },
    errors,
    group::Committer,
    session::Ctx,
    topics,
};

pub(crate) async fn offset_commit(
    ctx: &Ctx,
    request: OffsetCommitRequest<'_>,
) -> OffsetCommitResponse<'static> {
    let key = CursorKey::new(&ctx.namespace(), request.group_id);
    if let Err(error_code) = may_commit(ctx, &key, &request) {
        return answer(&request, |_, _| error_code);
    }
    let expires_in_ms = u64::try_from(request.retention_time_ms).ok();
    let checked = check_all(ctx, &request, expires_in_ms);
    let stored = store(ctx, &key, checked.commits, &checked.cleared).await;
    let mut checked = checked.codes.into_iter();
    answer(&request, |_, _| match checked.next().unwrap_or(ErrorCode::UNKNOWN_SERVER_ERROR) {
        ErrorCode::NONE => stored,
        refused => refused,
    })
}

fn may_commit(ctx: &Ctx, key: &CursorKey, request: &OffsetCommitRequest<'_>) -> Result<(), ErrorCode> {
    if !ctx.allows(Action::Read, request.group_id) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    let who = Committer {
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        generation: request.generation_id_or_member_epoch,
    };
    ctx.server.coordinator.check_commit(key, who).map_err(|refusal| match errors::of_group(refusal) {
        // Clients older than KIP-848 do not know the code.
        ErrorCode::GROUP_ID_NOT_FOUND if ctx.version < 9 => ErrorCode::ILLEGAL_GENERATION,
        code => code,
    })
}

/// A code for each partition, what moves, and what is taken away.
#[derive(Default)]
struct Checked {
    codes: Vec<ErrorCode>,
    commits: Vec<(Arc<Partition>, Position)>,
    cleared: Vec<Arc<Partition>>,
}

fn check_all(ctx: &Ctx, request: &OffsetCommitRequest<'_>, expires_in_ms: Option<u64>) -> Checked {
    let now_ms = ctx.server.broker.env().clock.wall_ms();
    let mut all = Checked::default();
    for topic in &request.topics {
        let named = named_topic(ctx, topic);
        for wanted in &topic.partitions {
            let checked = named.as_ref().map_err(|code| *code).and_then(|named| check(ctx, named, wanted));
            all.codes.push(match checked {
                Ok((partition, None)) => {
                    all.cleared.push(partition);
                    ErrorCode::NONE
                }
                Ok((partition, Some(mut position))) => {
                    position.expires_at_ms =
                        expires_in_ms.map(|ms| now_ms.saturating_add(i64::try_from(ms).unwrap_or(i64::MAX)));
                    all.commits.push((partition, position));
                    ErrorCode::NONE
                }
                Err(code) => code,
            });
        }
    }
    all
}

/// The topic by its name; version 10 gives its id instead.
fn named_topic(ctx: &Ctx, topic: &OffsetCommitRequestTopic<'_>) -> Result<NamedTopic, ErrorCode> {
    let by_id = || topics::find_by_id(&ctx.server.broker, &ctx.namespace(), topic.topic_id.0);
    let named = match ctx.version < 10 {
        true => NamedTopic::find(ctx, topic.name),
        false => NamedTopic(Some(by_id().ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?)),
    };
    match named.may(ctx, Action::Read, topic.name) {
        true => Ok(named),
        false => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
    }
}

fn check(
    ctx: &Ctx,
    topic: &NamedTopic,
    wanted: &OffsetCommitRequestPartition<'_>,
) -> Result<(Arc<Partition>, Option<Position>), ErrorCode> {
    let metadata = wanted.committed_metadata.unwrap_or_default();
    if metadata.len() > ctx.server.options.offset_metadata_len_max {
        return Err(ErrorCode::OFFSET_METADATA_TOO_LARGE);
    }
    let partition = topic.partition(wanted.partition_index)?.clone();
    // The original stores what it is given, and a negative offset reads as "none": so it takes the position away.
    let Ok(offset) = u64::try_from(wanted.committed_offset) else { return Ok((partition, None)) };
    let position = Position {
        note: (wanted.committed_leader_epoch >= 0).then(|| i64::from(wanted.committed_leader_epoch)),
        metadata: Bytes::copy_from_slice(metadata.as_bytes()),
        ..Position::at(Offset(offset))
    };
    Ok((partition, Some(position)))
}

async fn store(
    ctx: &Ctx,
    key: &CursorKey,
    commits: Vec<(Arc<Partition>, Position)>,
    cleared: &[Arc<Partition>],
) -> ErrorCode {
    let broker = &ctx.server.broker;
    let staged = || {
        let moved = if commits.is_empty() { Seq(0) } else { broker.commit_positions(key, commits)? };
        let gone = if cleared.is_empty() { Seq(0) } else { broker.delete_positions(key, cleared)? };
        Ok::<Seq, model::Error>(moved.max(gone))
    };
    let stored = match staged() {
        Ok(seq) => broker.durable(seq).await,
        Err(e) => Err(e),
    };
    match stored {
        Ok(()) => ErrorCode::NONE,
        // Clients try again by themselves on this one, as they do when the original's log is not available.
        Err(e) if matches!(e.kind(), ErrorKind::Throttled | ErrorKind::Unavailable) => {
            ErrorCode::COORDINATOR_NOT_AVAILABLE
        }
        Err(e) => errors::of(&e),
    }
}

fn answer(
    request: &OffsetCommitRequest<'_>,
    mut code: impl FnMut(Uuid, i32) -> ErrorCode,
) -> OffsetCommitResponse<'static> {
    let topics = request
        .topics
        .iter()
        .map(|topic| OffsetCommitResponseTopic {
            name: topic.name.to_owned().into(),
            topic_id: topic.topic_id,
            partitions: topic
                .partitions
                .iter()
                .map(|p| OffsetCommitResponsePartition {
                    partition_index: p.partition_index,
                    error_code: code(topic.topic_id, p.partition_index),
                })
                .collect(),
        })
        .collect();
    OffsetCommitResponse { topics, ..Default::default() }
}
