//! Produce: appends record batches to partitions.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Records, Request, Str, Uuid};

impl<'a> Request<'a> for ProduceRequest<'a> {
    const KEY: ApiKey = ApiKey::Produce;
    type Response<'r> = ProduceResponse<'r>;
}

message! {
    /// Batches for any number of partitions, one per partition.
    pub struct ProduceRequest<'a> {
        transactional_id: Option<&'a str>, in 3..;
        acks: i16;
        timeout_ms: i32;
        topic_data: Vec<TopicProduceData<'a>>;
    }

    pub struct TopicProduceData<'a> {
        name: &'a str, in ..=12;
        topic_id: Uuid, in 13..;
        partition_data: Vec<PartitionProduceData<'a>>;
    }

    pub struct PartitionProduceData<'a> {
        index: i32;
        records: Option<Records<'a>>;
    }

    /// Where each batch went, or why it did not; not sent at all when `acks` was 0.
    pub struct ProduceResponse<'a> {
        responses: Vec<TopicProduceResponse<'a>>;
        throttle_time_ms: i32, in 1..;
        node_endpoints: Vec<NodeEndpoint<'a>>, in 10.., tag 0;
    }

    pub struct TopicProduceResponse<'a> {
        name: Str<'a>, in ..=12;
        topic_id: Uuid, in 13..;
        partition_responses: Vec<PartitionProduceResponse<'a>>;
    }

    pub struct PartitionProduceResponse<'a> {
        index: i32;
        error_code: ErrorCode;
        base_offset: i64;
        log_append_time_ms: i64 = -1, in 2..;
        log_start_offset: i64 = -1, in 5..;
        record_errors: Vec<BatchIndexAndErrorMessage<'a>>, in 8..;
        error_message: Option<Str<'a>>, in 8..;
        current_leader: LeaderIdAndEpoch, in 10.., tag 0;
    }

    pub struct BatchIndexAndErrorMessage<'a> {
        batch_index: i32;
        batch_index_error_message: Option<Str<'a>>;
    }

    pub struct LeaderIdAndEpoch {
        leader_id: i32 = -1;
        leader_epoch: i32 = -1;
    }

    pub struct NodeEndpoint<'a> {
        node_id: i32;
        host: Str<'a>;
        port: i32;
        rack: Option<Str<'a>>;
    }
}
