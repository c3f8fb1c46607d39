//! CreateTopics: creates topics.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str, Uuid};

impl<'a> Request<'a> for CreateTopicsRequest<'a> {
    const KEY: ApiKey = ApiKey::CreateTopics;
    type Response<'r> = CreateTopicsResponse<'r>;
}

message! {
    /// The topics with partitions, replicas and settings.
    pub struct CreateTopicsRequest<'a> {
        topics: Vec<CreatableTopic<'a>>;
        timeout_ms: i32 = 60000;
        validate_only: bool;
    }

    pub struct CreatableTopic<'a> {
        name: &'a str;
        num_partitions: i32;
        replication_factor: i16;
        assignments: Vec<CreatableReplicaAssignment>;
        configs: Vec<CreatableTopicConfig<'a>>;
    }

    pub struct CreatableReplicaAssignment {
        partition_index: i32;
        broker_ids: Vec<i32>;
    }

    pub struct CreatableTopicConfig<'a> {
        name: &'a str;
        value: Option<&'a str>;
    }

    /// One code per topic, and what was created.
    pub struct CreateTopicsResponse<'a> {
        throttle_time_ms: i32;
        topics: Vec<CreatableTopicResult<'a>>;
    }

    pub struct CreatableTopicResult<'a> {
        name: Str<'a>;
        topic_id: Uuid, in 7..;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
        num_partitions: i32 = -1, in 5..;
        replication_factor: i16 = -1, in 5..;
        configs: Option<Vec<CreatableTopicConfigs<'a>>>, in 5..;
        topic_config_error_code: ErrorCode, in 5.., tag 0;
    }

    pub struct CreatableTopicConfigs<'a> {
        name: Str<'a>;
        value: Option<Str<'a>>;
        read_only: bool;
        config_source: i8 = -1;
        is_sensitive: bool;
    }
}
