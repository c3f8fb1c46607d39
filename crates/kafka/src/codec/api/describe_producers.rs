//! DescribeProducers: describes the producers that a partition remembers.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for DescribeProducersRequest<'a> {
    const KEY: ApiKey = ApiKey::DescribeProducers;
    type Response<'r> = DescribeProducersResponse<'r>;
}

message! {
    /// Which partitions.
    pub struct DescribeProducersRequest<'a> {
        topics: Vec<TopicRequest<'a>>;
    }

    pub struct TopicRequest<'a> {
        name: &'a str;
        partition_indexes: Vec<i32>;
    }

    /// Their ids, epochs and sequences.
    pub struct DescribeProducersResponse<'a> {
        throttle_time_ms: i32;
        topics: Vec<TopicResponse<'a>>;
    }

    pub struct TopicResponse<'a> {
        name: Str<'a>;
        partitions: Vec<PartitionResponse<'a>>;
    }

    pub struct PartitionResponse<'a> {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
        active_producers: Vec<ProducerState>;
    }

    pub struct ProducerState {
        producer_id: i64;
        producer_epoch: i32;
        last_sequence: i32 = -1;
        last_timestamp: i64 = -1;
        coordinator_epoch: i32;
        current_txn_start_offset: i64 = -1;
    }
}
