//! ElectLeaders: elects leaders of partitions.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for ElectLeadersRequest<'a> {
    const KEY: ApiKey = ApiKey::ElectLeaders;
    type Response<'r> = ElectLeadersResponse<'r>;
}

message! {
    /// Which partitions; null means all.
    pub struct ElectLeadersRequest<'a> {
        election_type: i8, in 1..;
        topic_partitions: Option<Vec<TopicPartitions<'a>>>;
        timeout_ms: i32 = 60000;
    }

    pub struct TopicPartitions<'a> {
        topic: &'a str;
        partitions: Vec<i32>;
    }

    /// One code per partition.
    pub struct ElectLeadersResponse<'a> {
        throttle_time_ms: i32;
        error_code: ErrorCode, in 1..;
        replica_election_results: Vec<ReplicaElectionResult<'a>>;
    }

    pub struct ReplicaElectionResult<'a> {
        topic: Str<'a>;
        partition_result: Vec<PartitionResult<'a>>;
    }

    pub struct PartitionResult<'a> {
        partition_id: i32;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
    }
}
