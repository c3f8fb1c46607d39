//! Metadata: names brokers, topics, partitions and their leaders.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str, Uuid};

impl<'a> Request<'a> for MetadataRequest<'a> {
    const KEY: ApiKey = ApiKey::Metadata;
    type Response<'r> = MetadataResponse<'r>;
}

message! {
    /// Which topics to describe.
    ///
    /// Version 0 means all topics with an empty list; later ones with null, and none with an empty list.
    pub struct MetadataRequest<'a> {
        topics: Option<Vec<MetadataRequestTopic<'a>>>, null 1..;
        allow_auto_topic_creation: bool = true, in 4..;
        include_cluster_authorized_operations: bool, in 8..=10;
        include_topic_authorized_operations: bool, in 8..;
    }

    pub struct MetadataRequestTopic<'a> {
        topic_id: Uuid, in 10..;
        name: Option<&'a str>, null 10..;
    }

    /// The cluster as this listener's clients should see it.
    pub struct MetadataResponse<'a> {
        throttle_time_ms: i32, in 3..;
        brokers: Vec<MetadataResponseBroker<'a>>;
        cluster_id: Option<Str<'a>>, in 2..;
        controller_id: i32 = -1, in 1..;
        topics: Vec<MetadataResponseTopic<'a>>;
        cluster_authorized_operations: i32 = i32::MIN, in 8..=10;
        error_code: ErrorCode, in 13..;
    }

    pub struct MetadataResponseBroker<'a> {
        node_id: i32;
        host: Str<'a>;
        port: i32;
        rack: Option<Str<'a>>, in 1..;
    }

    pub struct MetadataResponseTopic<'a> {
        error_code: ErrorCode;
        name: Option<Str<'a>>, null 12..;
        topic_id: Uuid, in 10..;
        is_internal: bool, in 1..;
        partitions: Vec<MetadataResponsePartition>;
        topic_authorized_operations: i32 = i32::MIN, in 8..;
    }

    pub struct MetadataResponsePartition {
        error_code: ErrorCode;
        partition_index: i32;
        leader_id: i32;
        leader_epoch: i32 = -1, in 7..;
        replica_nodes: Vec<i32>;
        isr_nodes: Vec<i32>;
        offline_replicas: Vec<i32>, in 5..;
    }
}
