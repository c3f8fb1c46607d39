//! OffsetCommit: stores how far a group has read.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str, Uuid};

impl<'a> Request<'a> for OffsetCommitRequest<'a> {
    const KEY: ApiKey = ApiKey::OffsetCommit;
    type Response<'r> = OffsetCommitResponse<'r>;
}

message! {
    /// Positions per partition, with the member's generation for groups that have members.
    pub struct OffsetCommitRequest<'a> {
        group_id: &'a str;
        generation_id_or_member_epoch: i32 = -1;
        member_id: &'a str;
        group_instance_id: Option<&'a str>, in 7..;
        retention_time_ms: i64 = -1, in ..=4;
        topics: Vec<OffsetCommitRequestTopic<'a>>;
    }

    pub struct OffsetCommitRequestTopic<'a> {
        name: &'a str, in ..=9;
        topic_id: Uuid, in 10..;
        partitions: Vec<OffsetCommitRequestPartition<'a>>;
    }

    pub struct OffsetCommitRequestPartition<'a> {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 = -1, in 6..;
        committed_metadata: Option<&'a str>;
    }

    /// One code per partition.
    pub struct OffsetCommitResponse<'a> {
        throttle_time_ms: i32, in 3..;
        topics: Vec<OffsetCommitResponseTopic<'a>>;
    }

    pub struct OffsetCommitResponseTopic<'a> {
        name: Str<'a>, in ..=9;
        topic_id: Uuid, in 10..;
        partitions: Vec<OffsetCommitResponsePartition>;
    }

    pub struct OffsetCommitResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }
}
