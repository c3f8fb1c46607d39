//! DescribeCluster, DescribeQuorum and DescribeLogDirs: one node, one directory.

use std::{collections::HashSet, path::Path};

use broker::Stream;

use super::{
    list_offsets::wire_offset,
    metadata::{cluster_operations, may_describe, partition_index},
    once_each,
};
use crate::{
    codec::{
        ErrorCode,
        api::{
            describe_cluster::{DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse},
            describe_log_dirs::{
                DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse,
                DescribeLogDirsResult, DescribeLogDirsTopic,
            },
            describe_quorum::{
                DescribeQuorumRequest, DescribeQuorumResponse, Listener, Node, PartitionData, ReplicaState,
                TopicData,
            },
        },
    },
    session::Ctx,
    topics,
};

/// `endpoint_type` of brokers; 2 asks for controllers, which have no listener of their own here.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(crate) async fn describe_cluster(
    ctx: &Ctx,
    request: DescribeClusterRequest,
) -> DescribeClusterResponse<'static> {
    let refused = |error_code, why: String| DescribeClusterResponse {
        error_code,
        error_message: Some(why.into()),
        ..Default::default()
    };
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => {
            let why = "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER";
            return refused(ErrorCode::MISMATCHED_ENDPOINT_TYPE, why.to_owned());
        }
        other => {
            let why = format!("Unsupported endpoint type {other}");
            return refused(ErrorCode::UNSUPPORTED_ENDPOINT_TYPE, why);
        }
    }
    let (host, port) = ctx.advertised();
    let broker_id = ctx.server.options.node_id;
    DescribeClusterResponse {
        cluster_id: ctx.server.cluster_id.clone().into(),
        controller_id: broker_id,
        brokers: vec![DescribeClusterBroker {
            broker_id,
            host: host.into(),
            port,
            rack: None,
            is_fenced: false,
        }],
        cluster_authorized_operations: match request.include_cluster_authorized_operations {
            true => cluster_operations(ctx),
            false => i32::MIN,
        },
        ..Default::default()
    }
}

/// The topic that a quorum keeps its metadata in. There is none here; the tools ask about no other.
pub(crate) const METADATA_TOPIC: &str = "__cluster_metadata";

/// A quorum of one whose log is the catalog: its end is the catalog's generation.
pub(crate) async fn describe_quorum(
    ctx: &Ctx,
    request: DescribeQuorumRequest<'_>,
) -> DescribeQuorumResponse<'static> {
    let node = ctx.server.options.node_id;
    let broker = &ctx.server.broker;
    let generation = i64::try_from(broker.catalog_generation()).unwrap_or(i64::MAX);
    let now_ms = broker.env().clock.wall_ms();
    let topics = request
        .topics
        .iter()
        .map(|topic| TopicData {
            topic_name: topic.topic_name.to_owned().into(),
            partitions: topic
                .partitions
                .iter()
                .map(|wanted| {
                    if topic.topic_name != METADATA_TOPIC || wanted.partition_index != 0 {
                        return PartitionData {
                            partition_index: wanted.partition_index,
                            error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                            ..Default::default()
                        };
                    }
                    PartitionData {
                        partition_index: 0,
                        leader_id: node,
                        leader_epoch: 1,
                        high_watermark: generation,
                        current_voters: vec![ReplicaState {
                            replica_id: node,
                            log_end_offset: generation,
                            last_fetch_timestamp: now_ms,
                            last_caught_up_timestamp: now_ms,
                            ..Default::default()
                        }],
                        ..Default::default()
                    }
                })
                .collect(),
        })
        .collect();
    let (host, port) = ctx.advertised();
    let listener =
        Listener { name: "PLAINTEXT".into(), host: host.into(), port: u16::try_from(port).unwrap_or(0) };
    let nodes = vec![Node { node_id: node, listeners: vec![listener] }];
    DescribeQuorumResponse { topics, nodes, ..Default::default() }
}

pub(crate) async fn describe_log_dirs(
    ctx: &Ctx,
    request: DescribeLogDirsRequest<'_>,
) -> DescribeLogDirsResponse<'static> {
    let (broker, namespace) = (&ctx.server.broker, ctx.namespace());
    let topics: Vec<DescribeLogDirsTopic<'static>> = match &request.topics {
        None => topics::list(broker, &namespace)
            .iter()
            .filter(|stream| may_describe(ctx, &stream.key().name))
            .map(|stream| topic_sizes(stream, |_| true))
            .collect(),
        Some(named) => once_each(named, |wanted| wanted.topic)
            .filter_map(|wanted| {
                let stream = topics::find(&ctx.server, &namespace, wanted.topic)?;
                if !may_describe(ctx, &stream.key().name) {
                    return None;
                }
                let indexes: HashSet<i32> = wanted.partitions.iter().copied().collect();
                Some(topic_sizes(&stream, |index| indexes.contains(&index)))
            })
            .collect(),
    };
    let dir = &ctx.server.options.log_dir;
    let usable = broker.env().files.free_bytes(Path::new(dir)).ok();
    let stored: i64 = topics
        .iter()
        .flat_map(|topic| &topic.partitions)
        .map(|partition| partition.partition_size)
        .fold(0, i64::saturating_add);
    let usable_bytes = usable.and_then(|bytes| i64::try_from(bytes).ok()).unwrap_or(-1);
    let result = DescribeLogDirsResult {
        log_dir: dir.clone().into(),
        topics,
        // What is stored and what still fits: the rest of the disk is others' business.
        total_bytes: if usable_bytes < 0 { -1 } else { usable_bytes.saturating_add(stored) },
        usable_bytes,
        ..Default::default()
    };
    DescribeLogDirsResponse { results: vec![result], ..Default::default() }
}

fn topic_sizes(stream: &Stream, wanted: impl Fn(i32) -> bool) -> DescribeLogDirsTopic<'static> {
    let partitions = stream
        .partitions()
        .iter()
        .filter(|partition| wanted(partition_index(partition)))
        .map(|partition| DescribeLogDirsPartition {
            partition_index: partition_index(partition),
            partition_size: wire_offset(model::Offset(partition.stats().bytes)),
            offset_lag: 0,
            is_future_key: false,
        })
        .collect();
    DescribeLogDirsTopic { name: topics::shown_name(stream.key()).into(), partitions }
}
