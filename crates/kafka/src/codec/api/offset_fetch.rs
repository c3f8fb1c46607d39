//! OffsetFetch: asks how far a group has read.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str, Uuid};

impl<'a> Request<'a> for OffsetFetchRequest<'a> {
    const KEY: ApiKey = ApiKey::OffsetFetch;
    type Response<'r> = OffsetFetchResponse<'r>;
}

message! {
    /// Which groups and partitions; null partitions mean all that have a position.
    ///
    /// One group up to version 7, many from version 8 on.
    pub struct OffsetFetchRequest<'a> {
        group_id: &'a str, in ..=7;
        topics: Option<Vec<OffsetFetchRequestTopic<'a>>>, in ..=7, null 2..=7;
        groups: Vec<OffsetFetchRequestGroup<'a>>, in 8..;
        require_stable: bool, in 7..;
    }

    pub struct OffsetFetchRequestTopic<'a> {
        name: &'a str;
        partition_indexes: Vec<i32>;
    }

    pub struct OffsetFetchRequestGroup<'a> {
        group_id: &'a str;
        member_id: Option<&'a str>, in 9..;
        member_epoch: i32 = -1, in 9..;
        topics: Option<Vec<OffsetFetchRequestTopics<'a>>>;
    }

    pub struct OffsetFetchRequestTopics<'a> {
        name: &'a str, in ..=9;
        topic_id: Uuid, in 10..;
        partition_indexes: Vec<i32>;
    }

    /// The positions, -1 where there is none.
    pub struct OffsetFetchResponse<'a> {
        throttle_time_ms: i32, in 3..;
        topics: Vec<OffsetFetchResponseTopic<'a>>, in ..=7;
        error_code: ErrorCode, in 2..=7;
        groups: Vec<OffsetFetchResponseGroup<'a>>, in 8..;
    }

    pub struct OffsetFetchResponseTopic<'a> {
        name: Str<'a>;
        partitions: Vec<OffsetFetchResponsePartition<'a>>;
    }

    pub struct OffsetFetchResponsePartition<'a> {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 = -1, in 5..;
        metadata: Option<Str<'a>>;
        error_code: ErrorCode;
    }

    pub struct OffsetFetchResponseGroup<'a> {
        group_id: Str<'a>;
        topics: Vec<OffsetFetchResponseTopics<'a>>;
        error_code: ErrorCode;
    }

    pub struct OffsetFetchResponseTopics<'a> {
        name: Str<'a>, in ..=9;
        topic_id: Uuid, in 10..;
        partitions: Vec<OffsetFetchResponsePartitions<'a>>;
    }

    pub struct OffsetFetchResponsePartitions<'a> {
        partition_index: i32;
        committed_offset: i64;
        committed_leader_epoch: i32 = -1;
        metadata: Option<Str<'a>>;
        error_code: ErrorCode;
    }
}
