//! DescribeTopicPartitions: describes topics partition by partition, page by page.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str, Uuid};

impl<'a> Request<'a> for DescribeTopicPartitionsRequest<'a> {
    const KEY: ApiKey = ApiKey::DescribeTopicPartitions;
    type Response<'r> = DescribeTopicPartitionsResponse<'r>;
}

message! {
    /// Which topics, how many partitions, and where to go on.
    pub struct DescribeTopicPartitionsRequest<'a> {
        topics: Vec<TopicRequest<'a>>;
        response_partition_limit: i32 = 2000;
        cursor: Option<Cursor<'a>>;
    }

    pub struct TopicRequest<'a> {
        name: &'a str;
    }

    /// Where a page begins.
    pub struct Cursor<'a> {
        topic_name: Str<'a>;
        partition_index: i32;
    }

    /// The partitions, and where the next page begins.
    pub struct DescribeTopicPartitionsResponse<'a> {
        throttle_time_ms: i32;
        topics: Vec<DescribeTopicPartitionsResponseTopic<'a>>;
        next_cursor: Option<Cursor<'a>>;
    }

    pub struct DescribeTopicPartitionsResponseTopic<'a> {
        error_code: ErrorCode;
        name: Option<Str<'a>>;
        topic_id: Uuid;
        is_internal: bool;
        partitions: Vec<DescribeTopicPartitionsResponsePartition>;
        topic_authorized_operations: i32 = i32::MIN;
    }

    pub struct DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode;
        partition_index: i32;
        leader_id: i32;
        leader_epoch: i32 = -1;
        replica_nodes: Vec<i32>;
        isr_nodes: Vec<i32>;
        eligible_leader_replicas: Option<Vec<i32>>;
        last_known_elr: Option<Vec<i32>>;
        offline_replicas: Vec<i32>;
    }
}
