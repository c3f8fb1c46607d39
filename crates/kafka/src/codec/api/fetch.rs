//! Fetch: reads record batches from partitions, waiting for them if asked to.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Records, Request, Str, Uuid};

impl<'a> Request<'a> for FetchRequest<'a> {
    const KEY: ApiKey = ApiKey::Fetch;
    type Response<'r> = FetchResponse<'r>;
}

message! {
    /// What to read, and for how long to wait.
    ///
    /// From version 13 on topics are named by id. A session (KIP-227) sends only what changed since its last request.
    pub struct FetchRequest<'a> {
        replica_id: i32 = -1, in ..=14;
        max_wait_ms: i32;
        min_bytes: i32;
        max_bytes: i32 = i32::MAX;
        isolation_level: i8;
        session_id: i32, in 7..;
        session_epoch: i32 = -1, in 7..;
        topics: Vec<FetchTopic<'a>>;
        forgotten_topics_data: Vec<ForgottenTopic<'a>>, in 7..;
        rack_id: &'a str, in 11..;
        cluster_id: Option<&'a str>, in 12.., tag 0;
        replica_state: ReplicaState, in 15.., tag 1;
    }

    pub struct FetchTopic<'a> {
        topic: &'a str, in ..=12;
        topic_id: Uuid, in 13..;
        partitions: Vec<FetchPartition>;
    }

    pub struct FetchPartition {
        partition: i32;
        current_leader_epoch: i32 = -1, in 9..;
        fetch_offset: i64;
        last_fetched_epoch: i32 = -1, in 12..;
        log_start_offset: i64 = -1, in 5..;
        partition_max_bytes: i32;
        replica_directory_id: Uuid, in 17.., tag 0;
        high_watermark: i64 = i64::MAX, in 18.., tag 1;
    }

    pub struct ForgottenTopic<'a> {
        topic: &'a str, in ..=12;
        topic_id: Uuid, in 13..;
        partitions: Vec<i32>;
    }

    pub struct ReplicaState {
        replica_id: i32 = -1;
        replica_epoch: i64 = -1;
    }

    /// Batches and positions per partition.
    ///
    /// `records` is never null on the wire: some clients fail on a null even beside an error.
    pub struct FetchResponse<'a> {
        throttle_time_ms: i32;
        error_code: ErrorCode, in 7..;
        session_id: i32, in 7..;
        responses: Vec<FetchableTopicResponse<'a>>;
        node_endpoints: Vec<NodeEndpoint<'a>>, in 16.., tag 0;
    }

    pub struct FetchableTopicResponse<'a> {
        topic: Str<'a>, in ..=12;
        topic_id: Uuid, in 13..;
        partitions: Vec<PartitionData<'a>>;
    }

    pub struct PartitionData<'a> {
        partition_index: i32;
        error_code: ErrorCode;
        high_watermark: i64;
        last_stable_offset: i64 = -1;
        log_start_offset: i64 = -1, in 5..;
        aborted_transactions: Option<Vec<AbortedTransaction>>;
        preferred_read_replica: i32 = -1, in 11..;
        records: Records<'a>;
        diverging_epoch: EpochEndOffset, in 12.., tag 0;
        current_leader: LeaderIdAndEpoch, in 12.., tag 1;
        snapshot_id: SnapshotId, in 12.., tag 2;
    }

    pub struct AbortedTransaction {
        producer_id: i64;
        first_offset: i64;
    }

    pub struct EpochEndOffset {
        epoch: i32 = -1;
        end_offset: i64 = -1;
    }

    pub struct LeaderIdAndEpoch {
        leader_id: i32 = -1;
        leader_epoch: i32 = -1;
    }

    pub struct SnapshotId {
        end_offset: i64 = -1;
        epoch: i32 = -1;
    }

    pub struct NodeEndpoint<'a> {
        node_id: i32;
        host: Str<'a>;
        port: i32;
        rack: Option<Str<'a>>;
    }
}
