//! DescribeQuorum: describes the quorum that keeps the cluster's metadata.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str, Uuid};

impl<'a> Request<'a> for DescribeQuorumRequest<'a> {
    const KEY: ApiKey = ApiKey::DescribeQuorum;
    type Response<'r> = DescribeQuorumResponse<'r>;
}

message! {
    /// The metadata partition.
    pub struct DescribeQuorumRequest<'a> {
        topics: Vec<RequestTopic<'a>>;
    }

    pub struct RequestTopic<'a> {
        topic_name: &'a str;
        partitions: Vec<RequestPartition>;
    }

    pub struct RequestPartition {
        partition_index: i32;
    }

    /// Its leader, voters and observers.
    pub struct DescribeQuorumResponse<'a> {
        error_code: ErrorCode;
        error_message: Option<Str<'a>>, in 2..;
        topics: Vec<TopicData<'a>>;
        nodes: Vec<Node<'a>>, in 2..;
    }

    pub struct TopicData<'a> {
        topic_name: Str<'a>;
        partitions: Vec<PartitionData<'a>>;
    }

    pub struct PartitionData<'a> {
        partition_index: i32;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>, in 2..;
        leader_id: i32;
        leader_epoch: i32;
        high_watermark: i64;
        current_voters: Vec<ReplicaState>;
        observers: Vec<ReplicaState>;
    }

    pub struct ReplicaState {
        replica_id: i32;
        replica_directory_id: Uuid, in 2..;
        log_end_offset: i64;
        last_fetch_timestamp: i64 = -1, in 1..;
        last_caught_up_timestamp: i64 = -1, in 1..;
    }

    pub struct Node<'a> {
        node_id: i32;
        listeners: Vec<Listener<'a>>;
    }

    pub struct Listener<'a> {
        name: Str<'a>;
        host: Str<'a>;
        port: u16;
    }
}
