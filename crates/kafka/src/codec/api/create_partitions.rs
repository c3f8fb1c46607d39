//! CreatePartitions: adds partitions to topics.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for CreatePartitionsRequest<'a> {
    const KEY: ApiKey = ApiKey::CreatePartitions;
    type Response<'r> = CreatePartitionsResponse<'r>;
}

message! {
    /// The new number of partitions per topic.
    pub struct CreatePartitionsRequest<'a> {
        topics: Vec<CreatePartitionsTopic<'a>>;
        timeout_ms: i32;
        validate_only: bool;
    }

    pub struct CreatePartitionsTopic<'a> {
        name: &'a str;
        count: i32;
        assignments: Option<Vec<CreatePartitionsAssignment>>;
    }

    pub struct CreatePartitionsAssignment {
        broker_ids: Vec<i32>;
    }

    /// One code per topic.
    pub struct CreatePartitionsResponse<'a> {
        throttle_time_ms: i32;
        results: Vec<CreatePartitionsTopicResult<'a>>;
    }

    pub struct CreatePartitionsTopicResult<'a> {
        name: Str<'a>;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
    }
}
