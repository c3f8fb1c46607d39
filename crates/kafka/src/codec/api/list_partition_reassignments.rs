//! ListPartitionReassignments: lists replicas that are being moved.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for ListPartitionReassignmentsRequest<'a> {
    const KEY: ApiKey = ApiKey::ListPartitionReassignments;
    type Response<'r> = ListPartitionReassignmentsResponse<'r>;
}

message! {
    /// Which partitions; null means all.
    pub struct ListPartitionReassignmentsRequest<'a> {
        timeout_ms: i32 = 60000;
        topics: Option<Vec<ListPartitionReassignmentsTopics<'a>>>;
    }

    pub struct ListPartitionReassignmentsTopics<'a> {
        name: &'a str;
        partition_indexes: Vec<i32>;
    }

    /// Moves under way.
    pub struct ListPartitionReassignmentsResponse<'a> {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
        topics: Vec<OngoingTopicReassignment<'a>>;
    }

    pub struct OngoingTopicReassignment<'a> {
        name: Str<'a>;
        partitions: Vec<OngoingPartitionReassignment>;
    }

    pub struct OngoingPartitionReassignment {
        partition_index: i32;
        replicas: Vec<i32>;
        adding_replicas: Vec<i32>;
        removing_replicas: Vec<i32>;
    }
}
