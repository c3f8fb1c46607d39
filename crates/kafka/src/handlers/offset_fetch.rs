//! OffsetFetch: how far groups have read.

use std::collections::BTreeMap;

use broker::{Action, CursorKey, Position};
use model::StreamKey;

use super::{NamedTopic, list_offsets::wire_offset, once_each};
use crate::{
    codec::{
        ErrorCode, Str, Uuid,
        api::offset_fetch::{
            OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse, OffsetFetchResponseGroup,
            OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
            OffsetFetchResponseTopics,
        },
    },
    session::Ctx,
    topics,
};

/// One topic's share of an answer, before it takes the form of its version.
struct Topic {
    name: String,
    id: Uuid,
    /// Partition, and its position or error.
    partitions: Vec<(i32, Result<Option<Position>, ErrorCode>)>,
}

pub(crate) async fn offset_fetch(ctx: &Ctx, request: OffsetFetchRequest<'_>) -> OffsetFetchResponse<'static> {
    if ctx.version >= 8 {
        let groups =
            once_each(&request.groups, |group| group.group_id).map(|group| of_group(ctx, group)).collect();
        return OffsetFetchResponse { groups, ..Default::default() };
    }
    let named = request.topics.as_ref().map(|topics| {
        topics.iter().map(|t| (t.name.to_owned(), Uuid::ZERO, t.partition_indexes.clone())).collect()
    });
    match fetch(ctx, request.group_id, named) {
        Ok(topics) => {
            let topics = topics.into_iter().map(classic_topic).collect();
            OffsetFetchResponse { topics, ..Default::default() }
        }
        Err(error_code) => {
            // Before version 2 an error has no place but the partitions.
            let topics = request.topics.iter().flatten().map(|t| OffsetFetchResponseTopic {
                name: t.name.to_owned().into(),
                partitions: t
                    .partition_indexes
                    .iter()
                    .map(|p| classic_partition(*p, Err(error_code)))
                    .collect(),
            });
            OffsetFetchResponse { topics: topics.collect(), error_code, ..Default::default() }
        }
    }
}

fn of_group(ctx: &Ctx, group: &OffsetFetchRequestGroup<'_>) -> OffsetFetchResponseGroup<'static> {
    let named = group.topics.as_ref().map(|topics| {
        topics.iter().map(|t| (t.name.to_owned(), t.topic_id, t.partition_indexes.clone())).collect()
    });
    let group_id = Str::from(group.group_id.to_owned());
    match fetch(ctx, group.group_id, named) {
        Ok(topics) => OffsetFetchResponseGroup {
            group_id,
            topics: topics.into_iter().map(batched_topic).collect(),
            error_code: ErrorCode::NONE,
        },
        Err(error_code) => OffsetFetchResponseGroup { group_id, topics: Vec::new(), error_code },
    }
}

fn fetch(
    ctx: &Ctx,
    group: &str,
    named: Option<Vec<(String, Uuid, Vec<i32>)>>,
) -> Result<Vec<Topic>, ErrorCode> {
    if !ctx.allows(Action::Read, group) {
        return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
    }
    let key = CursorKey::new(&ctx.namespace(), group);
    Ok(match named {
        Some(named) => {
            named.into_iter().map(|(name, id, indexes)| of_topic(ctx, &key, name, id, &indexes)).collect()
        }
        None => everything(ctx, &key),
    })
}

/// The positions that were asked for by partition.
fn of_topic(ctx: &Ctx, key: &CursorKey, name: String, id: Uuid, indexes: &[i32]) -> Topic {
    let found = match ctx.version >= 10 {
        true => topics::find_by_id(&ctx.server.broker, &ctx.namespace(), id.0)
            .map(|stream| (topics::shown_name(stream.key()), NamedTopic(Some(stream)))),
        false => {
            let named = NamedTopic::find(ctx, &name);
            Some((name, named))
        }
    };
    let Some((name, named)) = found else {
        let unknown = indexes.iter().map(|index| (*index, Err(ErrorCode::UNKNOWN_TOPIC_ID))).collect();
        return Topic { name: String::new(), id, partitions: unknown };
    };
    let allowed = named.may(ctx, Action::Read, &name);
    let position = |index: i32| match allowed {
        false => Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED),
        // A partition that is not there has no position; that is not an error.
        true => Ok(named.partition(index).ok().and_then(|p| ctx.server.broker.position(key, p))),
    };
    let partitions = indexes.iter().map(|index| (*index, position(*index))).collect();
    Topic { name, id, partitions }
}

/// Every position of a group.
fn everything(ctx: &Ctx, key: &CursorKey) -> Vec<Topic> {
    let mut by_stream: BTreeMap<StreamKey, Topic> = BTreeMap::new();
    for view in ctx.server.broker.positions(key).unwrap_or_default() {
        if !ctx.allows(Action::Read, &view.stream.name) {
            continue;
        }
        let name = topics::shown_name(&view.stream);
        let stream = ctx.server.broker.stream(&view.stream);
        let id = stream.map_or(Uuid::ZERO, |stream| super::metadata::topic_id(&stream));
        let topic =
            by_stream.entry(view.stream).or_insert_with(|| Topic { name, id, partitions: Vec::new() });
        topic.partitions.push((i32::try_from(view.partition.0).unwrap_or(i32::MAX), Ok(Some(view.position))));
    }
    by_stream.into_values().collect()
}

fn metadata_of(position: &Option<Position>) -> Str<'static> {
    let bytes = position.as_ref().map(|p| p.metadata.to_vec()).unwrap_or_default();
    // It came in as UTF-8.
    String::from_utf8(bytes).unwrap_or_default().into()
}

fn epoch_of(position: &Option<Position>) -> i32 {
    position.as_ref().and_then(|p| i32::try_from(p.note?).ok()).unwrap_or(-1)
}

fn classic_topic(topic: Topic) -> OffsetFetchResponseTopic<'static> {
    let partitions =
        topic.partitions.into_iter().map(|(index, found)| classic_partition(index, found)).collect();
    OffsetFetchResponseTopic { name: topic.name.into(), partitions }
}

fn classic_partition(
    index: i32,
    found: Result<Option<Position>, ErrorCode>,
) -> OffsetFetchResponsePartition<'static> {
    let position = found.as_ref().ok().cloned().flatten();
    OffsetFetchResponsePartition {
        partition_index: index,
        committed_offset: position.as_ref().map_or(-1, |p| wire_offset(p.offset)),
        committed_leader_epoch: epoch_of(&position),
        metadata: Some(metadata_of(&position)),
        error_code: found.err().unwrap_or(ErrorCode::NONE),
    }
}

fn batched_topic(topic: Topic) -> OffsetFetchResponseTopics<'static> {
    let partitions = topic.partitions.into_iter().map(|(index, found)| {
        let position = found.as_ref().ok().cloned().flatten();
        OffsetFetchResponsePartitions {
            partition_index: index,
            committed_offset: position.as_ref().map_or(-1, |p| wire_offset(p.offset)),
            committed_leader_epoch: epoch_of(&position),
            metadata: Some(metadata_of(&position)),
            error_code: found.err().unwrap_or(ErrorCode::NONE),
        }
    });
    OffsetFetchResponseTopics {
        partitions: partitions.collect(),
        name: topic.name.into(),
        topic_id: topic.id,
    }
}
