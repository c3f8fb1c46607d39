//! Metadata and DescribeTopicPartitions: which topics there are, and that this node leads all of them.

use std::sync::Arc;

use broker::{Action, Partition, Stream};
use model::Seq;

use super::{NamedTopic, create_topics::auto_create, once_each, topics::not_durable};
use crate::{
    codec::{
        ErrorCode, Str, Uuid,
        api::{
            describe_topic_partitions::{
                Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse,
                DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, TopicRequest,
            },
            metadata::{
                MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker,
                MetadataResponsePartition, MetadataResponseTopic,
            },
        },
    },
    configs::replicas_of,
    session::Ctx,
    topics,
};

/// Most partitions in one DescribeTopicPartitions answer (`max.request.partition.size.limit`).
const PARTITIONS_MAX: usize = 2_000;

pub(crate) async fn metadata(ctx: &Ctx, request: MetadataRequest<'_>) -> MetadataResponse<'static> {
    let wanted = match request.topics {
        // Version 0 has no null: there an empty list means all.
        Some(topics) if !(topics.is_empty() && ctx.version == 0) => {
            let mut created = Created::default();
            let mut found = Vec::with_capacity(topics.len());
            for topic in once_each(&topics, |topic| (topic.name, topic.topic_id)) {
                let before = created.partitions;
                found.push(of_topic(ctx, topic, request.allow_auto_topic_creation, &mut created));
                if created.partitions > before {
                    created.at.push(found.len() - 1);
                }
            }
            created.stored(ctx, &mut found).await;
            found
        }
        _ => {
            let all = topics::list(&ctx.server.broker, &ctx.namespace());
            all.iter().filter(|s| may_describe(ctx, &s.key().name)).map(|s| topic_of(ctx, s)).collect()
        }
    };
    let mut topics = wanted;
    if request.include_topic_authorized_operations {
        for topic in topics.iter_mut().filter(|t| t.error_code == ErrorCode::NONE) {
            let stream = topics::find_by_id(&ctx.server.broker, &ctx.namespace(), topic.topic_id.0);
            let operations = stream.map(|stream| topic_operations(ctx, &stream.key().name));
            topic.topic_authorized_operations = operations.unwrap_or(0);
        }
    }
    let (host, port) = ctx.advertised();
    let node_id = ctx.server.options.node_id;
    let cluster_authorized_operations =
        if request.include_cluster_authorized_operations { cluster_operations(ctx) } else { i32::MIN };
    MetadataResponse {
        brokers: vec![MetadataResponseBroker { node_id, host: host.into(), port, rack: None }],
        cluster_id: Some(ctx.server.cluster_id.clone().into()),
        controller_id: node_id,
        topics,
        cluster_authorized_operations,
        ..Default::default()
    }
}

/// What a request creates by asking.
#[derive(Default)]
pub(crate) struct Created {
    pub staged: Seq,
    pub partitions: u64,
    /// Where in the answer.
    at: Vec<usize>,
}

impl Created {
    /// Waits for all of it at once.
    async fn stored(&self, ctx: &Ctx, answer: &mut [MetadataResponseTopic<'static>]) {
        let Some((error_code, _)) = not_durable(ctx, self.staged).await else { return };
        for at in &self.at {
            let Some(topic) = answer.get_mut(*at) else { continue };
            let name = topic.name.take();
            *topic = MetadataResponseTopic { error_code, name, ..Default::default() };
        }
    }
}

/// Topics in which the original keeps its own state. There are none here: a tool that looks into them is told so, and does
/// not find an ordinary topic of the name that its question made.
const INTERNAL_TOPICS: [&str; 2] = ["__consumer_offsets", "__transaction_state"];

pub(crate) fn may_describe(ctx: &Ctx, topic: &str) -> bool {
    [Action::Read, Action::Write, Action::Configure].into_iter().any(|action| ctx.allows(action, topic))
}

fn of_topic(
    ctx: &Ctx,
    topic: &MetadataRequestTopic<'_>,
    may_create: bool,
    created: &mut Created,
) -> MetadataResponseTopic<'static> {
    // An id counts before a name that comes with it.
    let Some(name) = topic.name.filter(|_| topic.topic_id.is_zero()) else {
        return match topics::find_by_id(&ctx.server.broker, &ctx.namespace(), topic.topic_id.0) {
            Some(stream) if may_describe(ctx, &stream.key().name) => topic_of(ctx, &stream),
            _ => MetadataResponseTopic {
                error_code: ErrorCode::UNKNOWN_TOPIC_ID,
                topic_id: topic.topic_id,
                ..Default::default()
            },
        };
    };
    let refused = |error_code| MetadataResponseTopic {
        error_code,
        name: Some(name.to_owned().into()),
        ..Default::default()
    };
    let named = NamedTopic::find(ctx, name);
    if !named.may_describe(ctx, name) {
        return refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    let may_create = may_create && ctx.server.options.auto_create_topics;
    // A queue of the name is looked at only by requests that create nothing.
    let creates = may_create && ctx.allows(Action::Configure, name);
    if let Some(stream) = &named.0
        && !(creates && named.is_queue())
    {
        return topic_of(ctx, stream);
    }
    if topics::invalid_name(name).is_some() {
        return refused(ErrorCode::INVALID_TOPIC_EXCEPTION);
    }
    if !may_create || INTERNAL_TOPICS.contains(&name) {
        return refused(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    match auto_create(ctx, name, created) {
        Ok(stream) => topic_of(ctx, &stream),
        Err(error_code) => refused(error_code),
    }
}

pub(crate) fn topic_id(stream: &Stream) -> Uuid {
    Uuid(stream.id().0.to_be_bytes())
}

pub(crate) fn leader_epoch(partition: &Partition) -> i32 {
    i32::try_from(partition.epoch().0).unwrap_or(i32::MAX)
}

pub(crate) fn partition_index(partition: &Partition) -> i32 {
    i32::try_from(partition.index().0).unwrap_or(i32::MAX)
}

/// This node, as often as the topic has replicas by its creator's wish: whoever counts finds that number, all of them
/// in sync, and no broker that is not there.
fn replicas(ctx: &Ctx, stream: &Stream) -> Vec<i32> {
    vec![ctx.server.options.node_id; replicas_of(stream.settings())]
}

fn topic_of(ctx: &Ctx, stream: &Arc<Stream>) -> MetadataResponseTopic<'static> {
    let (node, replicas) = (ctx.server.options.node_id, replicas(ctx, stream));
    let partitions = stream
        .partitions()
        .iter()
        .map(|partition| MetadataResponsePartition {
            error_code: ErrorCode::NONE,
            partition_index: partition_index(partition),
            leader_id: node,
            leader_epoch: leader_epoch(partition),
            replica_nodes: replicas.clone(),
            isr_nodes: replicas.clone(),
            offline_replicas: Vec::new(),
        })
        .collect();
    MetadataResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(Str::from(topics::shown_name(stream.key()))),
        topic_id: topic_id(stream),
        is_internal: false,
        partitions,
        ..Default::default()
    }
}

/// Bits of `AclOperation`, as `authorized_operations` carries them.
fn bits(operations: &[(bool, u8)]) -> i32 {
    operations.iter().filter(|(allowed, _)| *allowed).fold(0, |bits, (_, operation)| bits | 1 << operation)
}

const READ: u8 = 3;
const WRITE: u8 = 4;
const CREATE: u8 = 5;
const DELETE: u8 = 6;
const ALTER: u8 = 7;
const DESCRIBE: u8 = 8;
const DESCRIBE_CONFIGS: u8 = 10;
const ALTER_CONFIGS: u8 = 11;
const IDEMPOTENT_WRITE: u8 = 12;

fn topic_operations(ctx: &Ctx, topic: &str) -> i32 {
    let configure = ctx.allows(Action::Configure, topic);
    bits(&[
        (ctx.allows(Action::Read, topic), READ),
        (ctx.allows(Action::Write, topic), WRITE),
        (configure, CREATE),
        (configure, DELETE),
        (configure, ALTER),
        (may_describe(ctx, topic), DESCRIBE),
        (may_describe(ctx, topic), DESCRIBE_CONFIGS),
        (configure, ALTER_CONFIGS),
    ])
}

/// What may be done to the cluster: everything for whoever may do everything.
pub(crate) fn cluster_operations(ctx: &Ctx) -> i32 {
    let admin = ctx.allows(Action::Admin, "*");
    bits(&[
        (admin, CREATE),
        (ctx.principal.runs_the_server(), ALTER),
        (true, DESCRIBE),
        (true, DESCRIBE_CONFIGS),
        (admin, ALTER_CONFIGS),
        (true, IDEMPOTENT_WRITE),
    ])
}

/// What may be done to a group.
pub(crate) fn group_operations(ctx: &Ctx, group: &str) -> i32 {
    let read = ctx.allows(Action::Read, group);
    bits(&[(read, READ), (ctx.allows(Action::Configure, group), DELETE), (read, DESCRIBE)])
}

pub(crate) async fn describe_topic_partitions(
    ctx: &Ctx,
    request: DescribeTopicPartitionsRequest<'_>,
) -> DescribeTopicPartitionsResponse<'static> {
    if request.cursor.as_ref().is_some_and(|cursor| cursor.partition_index < 0) {
        let refused = |topic: &TopicRequest<'_>| DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::INVALID_REQUEST,
            name: Some(topic.name.to_owned().into()),
            ..Default::default()
        };
        let topics = request.topics.iter().map(refused).collect();
        return DescribeTopicPartitionsResponse { topics, ..Default::default() };
    }
    let limit = usize::try_from(request.response_partition_limit).unwrap_or(1).clamp(1, PARTITIONS_MAX);
    let mut names: Vec<String> = match request.topics.is_empty() {
        true => topics::list(&ctx.server.broker, &ctx.namespace())
            .iter()
            .filter(|stream| may_describe(ctx, &stream.key().name))
            .map(|stream| topics::shown_name(stream.key()))
            .collect(),
        false => request.topics.iter().map(|topic| topic.name.to_owned()).collect(),
    };
    names.sort_unstable();
    names.dedup();
    let (from_topic, mut from) = match &request.cursor {
        Some(cursor) => (cursor.topic_name.as_ref(), usize::try_from(cursor.partition_index).unwrap_or(0)),
        None => ("", 0),
    };
    let mut answer = DescribeTopicPartitionsResponse::default();
    let mut room = limit;
    for name in names.into_iter().filter(|name| name.as_str() >= from_topic) {
        if name != from_topic {
            from = 0;
        }
        if room == 0 {
            answer.next_cursor = Some(cursor_at(name, from));
            break;
        }
        let topic = described(ctx, &name, from, room);
        let given = topic.partitions.len();
        let total = topics::find(&ctx.server, &ctx.namespace(), &name).map_or(0, |s| s.partitions().len());
        answer.topics.push(topic);
        room -= given;
        if from + given < total {
            answer.next_cursor = Some(cursor_at(name, from + given));
            break;
        }
    }
    answer
}

fn cursor_at(topic: String, partition: usize) -> Cursor<'static> {
    Cursor { topic_name: topic.into(), partition_index: i32::try_from(partition).unwrap_or(i32::MAX) }
}

fn described(
    ctx: &Ctx,
    name: &str,
    from: usize,
    room: usize,
) -> DescribeTopicPartitionsResponseTopic<'static> {
    let refused = |error_code| DescribeTopicPartitionsResponseTopic {
        error_code,
        name: Some(name.to_owned().into()),
        ..Default::default()
    };
    let named = NamedTopic::find(ctx, name);
    if !named.may_describe(ctx, name) {
        return refused(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    }
    let Some(stream) = named.0 else {
        let invalid = topics::invalid_name(name).is_some();
        return refused(if invalid {
            ErrorCode::INVALID_TOPIC_EXCEPTION
        } else {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        });
    };
    let (node, replicas) = (ctx.server.options.node_id, replicas(ctx, &stream));
    let partitions = stream
        .partitions()
        .iter()
        .skip(from)
        .take(room)
        .map(|partition| DescribeTopicPartitionsResponsePartition {
            error_code: ErrorCode::NONE,
            partition_index: partition_index(partition),
            leader_id: node,
            leader_epoch: leader_epoch(partition),
            replica_nodes: replicas.clone(),
            isr_nodes: replicas.clone(),
            eligible_leader_replicas: Some(Vec::new()),
            last_known_elr: Some(Vec::new()),
            offline_replicas: Vec::new(),
        })
        .collect();
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::NONE,
        name: Some(Str::from(topics::shown_name(stream.key()))),
        topic_id: topic_id(&stream),
        is_internal: false,
        partitions,
        topic_authorized_operations: topic_operations(ctx, &stream.key().name),
    }
}
