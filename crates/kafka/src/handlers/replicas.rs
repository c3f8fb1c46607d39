//! ElectLeaders and the reassignment APIs, as one node answers them: it leads everything, and nothing can move.

use std::{collections::BTreeSet, sync::Arc};

use broker::{Action, Stream};

use super::NamedTopic;
use crate::{
    codec::{
        ErrorCode, Str,
        api::{
            alter_partition_reassignments::{
                AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse,
                ReassignablePartitionResponse, ReassignableTopicResponse,
            },
            elect_leaders::{
                ElectLeadersRequest, ElectLeadersResponse, PartitionResult, ReplicaElectionResult,
            },
            list_partition_reassignments::{
                ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse,
            },
        },
    },
    session::Ctx,
    topics,
};

/// `ElectionType`: preferred and unclean.
const ELECTION_TYPES: [i8; 2] = [0, 1];

pub(crate) async fn elect_leaders(
    ctx: &Ctx,
    request: ElectLeadersRequest<'_>,
) -> ElectLeadersResponse<'static> {
    if !ctx.allows(Action::Admin, "*") {
        return ElectLeadersResponse {
            error_code: ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
            ..Default::default()
        };
    }
    let refused = !ELECTION_TYPES.contains(&request.election_type);
    // Asked about all, the original names each topic and leaves out the partitions that need no election.
    let wanted: Vec<(String, NamedTopic, Vec<i32>)> = match request.topic_partitions {
        Some(named) => {
            let found =
                named.into_iter().map(|t| (t.topic.to_owned(), NamedTopic::find(ctx, t.topic), t.partitions));
            found.collect()
        }
        None => {
            let all = topics::list(&ctx.server.broker, &ctx.namespace());
            let shown = |stream: &Arc<Stream>| topics::shown_name(stream.key());
            all.into_iter().map(|stream| (shown(&stream), NamedTopic(Some(stream)), Vec::new())).collect()
        }
    };
    let unknown_type = || Str::from(format!("Unknown election type {}", request.election_type));
    let result = |topic: &NamedTopic, index: i32| {
        let (error_code, message) = match topic.partition(index) {
            _ if refused => (ErrorCode::INVALID_REQUEST, unknown_type()),
            Ok(_) => {
                (ErrorCode::ELECTION_NOT_NEEDED, "Leader election not needed for topic partition.".into())
            }
            Err(code) => (code, "The partition does not exist.".into()),
        };
        PartitionResult { partition_id: index, error_code, error_message: Some(message) }
    };
    let replica_election_results = wanted
        .into_iter()
        .map(|(topic, named, indexes)| ReplicaElectionResult {
            partition_result: indexes.into_iter().map(|index| result(&named, index)).collect(),
            topic: topic.into(),
        })
        .collect();
    let error_code = if refused { ErrorCode::INVALID_REQUEST } else { ErrorCode::NONE };
    ElectLeadersResponse { error_code, replica_election_results, ..Default::default() }
}

pub(crate) async fn alter_partition_reassignments(
    ctx: &Ctx,
    request: AlterPartitionReassignmentsRequest<'_>,
) -> AlterPartitionReassignmentsResponse<'static> {
    if !ctx.allows(Action::Admin, "*") {
        return AlterPartitionReassignmentsResponse {
            error_code: ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
            error_message: Some("Cluster authorization failed.".into()),
            ..Default::default()
        };
    }
    let node = ctx.server.options.node_id;
    let verdict = |topic: &NamedTopic, index: i32, replicas: Option<&Vec<i32>>| {
        if let Err(code) = topic.partition(index) {
            return (code, Some(Str::from("This server does not host this topic-partition.")));
        }
        match replicas {
            None => (ErrorCode::NO_REASSIGNMENT_IN_PROGRESS, None),
            // Already there: the original finishes such a reassignment at once.
            Some(replicas) if replicas == &[node] => (ErrorCode::NONE, None),
            Some(replicas) => {
                let unknown: BTreeSet<i32> = replicas.iter().copied().filter(|id| *id != node).collect();
                let why = format!("Replica assignment contains brokers that are not registered: {unknown:?}");
                (ErrorCode::INVALID_REPLICA_ASSIGNMENT, Some(why.into()))
            }
        }
    };
    let responses = request
        .topics
        .iter()
        .map(|topic| {
            let named = NamedTopic::find(ctx, topic.name);
            let partitions = topic.partitions.iter().map(|p| {
                let (error_code, error_message) = verdict(&named, p.partition_index, p.replicas.as_ref());
                ReassignablePartitionResponse {
                    partition_index: p.partition_index,
                    error_code,
                    error_message,
                }
            });
            ReassignableTopicResponse { partitions: partitions.collect(), name: topic.name.to_owned().into() }
        })
        .collect();
    AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        responses,
        ..Default::default()
    }
}

/// Nothing ever moves, so nothing is on its way.
pub(crate) async fn list_partition_reassignments(
    ctx: &Ctx,
    _request: ListPartitionReassignmentsRequest<'_>,
) -> ListPartitionReassignmentsResponse<'static> {
    let error_code = match ctx.allows(Action::Admin, "*") {
        true => ErrorCode::NONE,
        false => ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
    };
    ListPartitionReassignmentsResponse { error_code, ..Default::default() }
}
