//! AlterPartitionReassignments: moves replicas of partitions.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for AlterPartitionReassignmentsRequest<'a> {
    const KEY: ApiKey = ApiKey::AlterPartitionReassignments;
    type Response<'r> = AlterPartitionReassignmentsResponse<'r>;
}

message! {
    /// The replicas per partition; null cancels a move.
    pub struct AlterPartitionReassignmentsRequest<'a> {
        timeout_ms: i32 = 60000;
        allow_replication_factor_change: bool = true, in 1..;
        topics: Vec<ReassignableTopic<'a>>;
    }

    pub struct ReassignableTopic<'a> {
        name: &'a str;
        partitions: Vec<ReassignablePartition>;
    }

    pub struct ReassignablePartition {
        partition_index: i32;
        replicas: Option<Vec<i32>>;
    }

    /// One code per partition.
    pub struct AlterPartitionReassignmentsResponse<'a> {
        throttle_time_ms: i32;
        allow_replication_factor_change: bool = true, in 1..;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
        responses: Vec<ReassignableTopicResponse<'a>>;
    }

    pub struct ReassignableTopicResponse<'a> {
        name: Str<'a>;
        partitions: Vec<ReassignablePartitionResponse<'a>>;
    }

    pub struct ReassignablePartitionResponse<'a> {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
    }
}
