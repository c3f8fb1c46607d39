//! OffsetForLeaderEpoch: asks where an epoch of leadership ended.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for OffsetForLeaderEpochRequest<'a> {
    const KEY: ApiKey = ApiKey::OffsetForLeaderEpoch;
    type Response<'r> = OffsetForLeaderEpochResponse<'r>;
}

message! {
    /// The epoch per partition.
    pub struct OffsetForLeaderEpochRequest<'a> {
        replica_id: i32 = -2, in 3..;
        topics: Vec<OffsetForLeaderTopic<'a>>;
    }

    pub struct OffsetForLeaderTopic<'a> {
        topic: &'a str;
        partitions: Vec<OffsetForLeaderPartition>;
    }

    pub struct OffsetForLeaderPartition {
        partition: i32;
        current_leader_epoch: i32 = -1;
        leader_epoch: i32;
    }

    /// The end offset of that epoch, or of the last one before it.
    pub struct OffsetForLeaderEpochResponse<'a> {
        throttle_time_ms: i32;
        topics: Vec<OffsetForLeaderTopicResult<'a>>;
    }

    pub struct OffsetForLeaderTopicResult<'a> {
        topic: Str<'a>;
        partitions: Vec<EpochEndOffset>;
    }

    pub struct EpochEndOffset {
        error_code: ErrorCode;
        partition: i32;
        leader_epoch: i32 = -1;
        end_offset: i64 = -1;
    }
}
