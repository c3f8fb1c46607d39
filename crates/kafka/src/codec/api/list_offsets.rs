//! ListOffsets: finds the offset that belongs to a timestamp or to one of the special positions.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for ListOffsetsRequest<'a> {
    const KEY: ApiKey = ApiKey::ListOffsets;
    type Response<'r> = ListOffsetsResponse<'r>;
}

message! {
    /// One timestamp per partition; negative ones are special positions.
    pub struct ListOffsetsRequest<'a> {
        replica_id: i32;
        isolation_level: i8, in 2..;
        topics: Vec<ListOffsetsTopic<'a>>;
        timeout_ms: i32, in 10..;
    }

    pub struct ListOffsetsTopic<'a> {
        name: &'a str;
        partitions: Vec<ListOffsetsPartition>;
    }

    pub struct ListOffsetsPartition {
        partition_index: i32;
        current_leader_epoch: i32 = -1, in 4..;
        timestamp: i64;
    }

    /// The offset found, -1 when there is none.
    pub struct ListOffsetsResponse<'a> {
        throttle_time_ms: i32, in 2..;
        topics: Vec<ListOffsetsTopicResponse<'a>>;
    }

    pub struct ListOffsetsTopicResponse<'a> {
        name: Str<'a>;
        partitions: Vec<ListOffsetsPartitionResponse>;
    }

    pub struct ListOffsetsPartitionResponse {
        partition_index: i32;
        error_code: ErrorCode;
        timestamp: i64 = -1;
        offset: i64 = -1;
        leader_epoch: i32 = -1, in 4..;
    }
}
