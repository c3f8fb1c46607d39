//! ListOffsets and OffsetForLeaderEpoch: where records lie in time, and under which leader epoch.

use broker::{Action, EpochStart, Partition};
use model::{Offset, OwnerEpoch};

use super::{NamedTopic, metadata::leader_epoch, named_twice, once_each};
use crate::{
    codec::{
        ErrorCode,
        api::{
            list_offsets::{
                ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsRequest, ListOffsetsResponse,
                ListOffsetsTopicResponse,
            },
            offset_for_leader_epoch::{
                EpochEndOffset, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
                OffsetForLeaderPartition, OffsetForLeaderTopicResult,
            },
        },
    },
    errors,
    session::Ctx,
};

/// Timestamps that are not times (KIP-79, KIP-734, KIP-405, KIP-1005, KIP-1023).
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// The request version from which on a special timestamp is understood; other negative ones never are.
fn understood_from(timestamp: i64) -> Option<i16> {
    match timestamp {
        LATEST | EARLIEST => Some(1),
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL => Some(8),
        LATEST_TIERED => Some(9),
        EARLIEST_PENDING_UPLOAD => Some(11),
        _ => None,
    }
}

const READ_COMMITTED: i8 = 1;

/// Offsets are below 2^63 by construction.
pub(crate) fn wire_offset(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

/// Checks a client's idea of the leader epoch (KIP-320); -1 is no idea.
pub(crate) fn check_leader_epoch(partition: &Partition, claimed: i32) -> Result<(), ErrorCode> {
    match claimed.cmp(&leader_epoch(partition)) {
        _ if claimed < 0 => Ok(()),
        std::cmp::Ordering::Less => Err(ErrorCode::FENCED_LEADER_EPOCH),
        std::cmp::Ordering::Greater => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        std::cmp::Ordering::Equal => Ok(()),
    }
}

pub(crate) async fn list_offsets(ctx: &Ctx, request: ListOffsetsRequest<'_>) -> ListOffsetsResponse<'static> {
    let mut answer = ListOffsetsResponse::default();
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        let twice = named_twice(&topic.partitions, |wanted| wanted.partition_index);
        let named = NamedTopic::find(ctx, topic.name);
        let allowed = named.may_describe(ctx, topic.name);
        for wanted in once_each(&topic.partitions, |wanted| wanted.partition_index) {
            let found = match allowed {
                false => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
                true if twice.contains(&wanted.partition_index) => Err(ErrorCode::INVALID_REQUEST),
                true => offset_at(ctx, &named, wanted, request.isolation_level).await,
            };
            partitions.push(match found {
                Ok(found) => found,
                Err(error_code) => ListOffsetsPartitionResponse {
                    partition_index: wanted.partition_index,
                    error_code,
                    ..Default::default()
                },
            });
        }
        answer.topics.push(ListOffsetsTopicResponse { name: topic.name.to_owned().into(), partitions });
    }
    answer
}

async fn offset_at(
    ctx: &Ctx,
    topic: &NamedTopic,
    wanted: &ListOffsetsPartition,
    isolation_level: i8,
) -> Result<ListOffsetsPartitionResponse, ErrorCode> {
    if wanted.timestamp < 0 && understood_from(wanted.timestamp).is_none_or(|from| ctx.version < from) {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    let partition = topic.partition(wanted.partition_index)?;
    check_leader_epoch(partition, wanted.current_leader_epoch)?;
    let bounds = partition.bounds();
    let broker = &ctx.server.broker;
    let (offset, timestamp) = match wanted.timestamp {
        LATEST if isolation_level == READ_COMMITTED => (Some(bounds.stable_end), -1),
        LATEST => (Some(bounds.durable_end), -1),
        EARLIEST | EARLIEST_LOCAL => (Some(bounds.start), -1),
        // Nothing is in a remote tier, and nothing waits to go there.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => (None, -1),
        MAX_TIMESTAMP => {
            let latest = broker.latest_time(partition).await.map_err(|e| errors::of(&e))?;
            latest.map_or((None, -1), |(offset, at_ms)| (Some(offset), at_ms))
        }
        at_ms => {
            let found = broker.search_time(partition, at_ms).await.map_err(|e| errors::of(&e))?;
            found.map_or((None, -1), |(offset, at_ms)| (Some(offset), at_ms))
        }
    };
    let epoch = offset.map(|offset| epoch_of(partition, offset));
    Ok(ListOffsetsPartitionResponse {
        partition_index: wanted.partition_index,
        error_code: ErrorCode::NONE,
        timestamp,
        offset: offset.map_or(-1, wire_offset),
        leader_epoch: epoch.map_or(-1, |epoch| i32::try_from(epoch.0).unwrap_or(i32::MAX)),
    })
}

/// The epoch under which `offset` was, or will be, written.
fn epoch_of(partition: &Partition, offset: Offset) -> OwnerEpoch {
    let epochs = partition.epochs();
    epochs.iter().rev().find(|e| e.start <= offset).map_or_else(|| partition.epoch(), |e| e.epoch)
}

pub(crate) async fn offset_for_leader_epoch(
    ctx: &Ctx,
    request: OffsetForLeaderEpochRequest<'_>,
) -> OffsetForLeaderEpochResponse<'static> {
    let mut answer = OffsetForLeaderEpochResponse::default();
    for topic in &request.topics {
        let named = NamedTopic::find(ctx, topic.topic);
        let allowed = named.may(ctx, Action::Read, topic.topic);
        let partitions = topic
            .partitions
            .iter()
            .map(|wanted| {
                let found = match allowed {
                    false => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
                    true => epoch_end(&named, wanted),
                };
                found.unwrap_or_else(|error_code| EpochEndOffset {
                    error_code,
                    partition: wanted.partition,
                    ..Default::default()
                })
            })
            .collect();
        answer.topics.push(OffsetForLeaderTopicResult { topic: topic.topic.to_owned().into(), partitions });
    }
    answer
}

/// Where the largest epoch that is not above the one asked for ends (KIP-101).
fn epoch_end(topic: &NamedTopic, wanted: &OffsetForLeaderPartition) -> Result<EpochEndOffset, ErrorCode> {
    let partition = topic.partition(wanted.partition)?;
    check_leader_epoch(partition, wanted.current_leader_epoch)?;
    let (leader_epoch, end_offset) = end_of_epoch(partition, wanted.leader_epoch).unwrap_or((-1, -1));
    Ok(EpochEndOffset { error_code: ErrorCode::NONE, partition: wanted.partition, leader_epoch, end_offset })
}

/// The largest epoch up to `asked` with its end, or where all that are known are above, `asked` with where those begin;
/// `None` when none is above.
pub(crate) fn end_of_epoch(partition: &Partition, asked: i32) -> Option<(i32, i64)> {
    let end = wire_offset(partition.bounds().durable_end);
    end_among(&partition.epochs(), partition.epoch(), end, asked)
}

/// As `LeaderEpochFileCache.endOffsetFor` has it.
fn end_among(epochs: &[EpochStart], current: OwnerEpoch, end: i64, asked: i32) -> Option<(i32, i64)> {
    let epoch = OwnerEpoch(u32::try_from(asked).ok()?);
    if epoch == current {
        return Some((asked, end));
    }
    let above = epochs.partition_point(|known| known.epoch <= epoch);
    let epoch_end = epochs.get(above).map_or(end, |next| wire_offset(next.start));
    match above.checked_sub(1).and_then(|at| epochs.get(at)) {
        Some(floor) if epoch < current => Some((i32::try_from(floor.epoch.0).ok()?, epoch_end)),
        None if above < epochs.len() => Some((asked, epoch_end)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_ends_where_the_next_one_begins() {
        let known = [(3, 10), (5, 20)]
            .map(|(epoch, start)| EpochStart { epoch: OwnerEpoch(epoch), start: Offset(start) });
        let check = |asked, expected| {
            assert_eq!(end_among(&known, OwnerEpoch(7), 30, asked), expected, "{asked}");
        };
        check(-1, None);
        check(0, Some((0, 10)));
        check(2, Some((2, 10)));
        check(3, Some((3, 20)));
        check(4, Some((3, 20)));
        check(5, Some((5, 30)));
        check(6, Some((5, 30)));
        check(7, Some((7, 30)));
        check(8, None);
        assert_eq!(end_among(&[], OwnerEpoch(7), 0, 6), None);
    }
}
