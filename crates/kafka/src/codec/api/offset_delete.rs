//! OffsetDelete: forgets how far a group has read.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for OffsetDeleteRequest<'a> {
    const KEY: ApiKey = ApiKey::OffsetDelete;
    type Response<'r> = OffsetDeleteResponse<'r>;
}

message! {
    /// Which partitions.
    pub struct OffsetDeleteRequest<'a> {
        group_id: &'a str;
        topics: Vec<OffsetDeleteRequestTopic<'a>>;
    }

    pub struct OffsetDeleteRequestTopic<'a> {
        name: &'a str;
        partitions: Vec<OffsetDeleteRequestPartition>;
    }

    pub struct OffsetDeleteRequestPartition {
        partition_index: i32;
    }

    /// One code per partition.
    pub struct OffsetDeleteResponse<'a> {
        error_code: ErrorCode;
        throttle_time_ms: i32;
        topics: Vec<OffsetDeleteResponseTopic<'a>>;
    }

    pub struct OffsetDeleteResponseTopic<'a> {
        name: Str<'a>;
        partitions: Vec<OffsetDeleteResponsePartition>;
    }

    pub struct OffsetDeleteResponsePartition {
        partition_index: i32;
        error_code: ErrorCode;
    }
}
