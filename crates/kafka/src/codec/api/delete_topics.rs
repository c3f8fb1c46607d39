//! DeleteTopics: deletes topics.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str, Uuid};

impl<'a> Request<'a> for DeleteTopicsRequest<'a> {
    const KEY: ApiKey = ApiKey::DeleteTopics;
    type Response<'r> = DeleteTopicsResponse<'r>;
}

message! {
    /// By name up to version 5, by name or id from version 6 on.
    pub struct DeleteTopicsRequest<'a> {
        topics: Vec<DeleteTopicState<'a>>, in 6..;
        topic_names: Vec<&'a str>, in ..=5;
        timeout_ms: i32;
    }

    pub struct DeleteTopicState<'a> {
        name: Option<&'a str>;
        topic_id: Uuid;
    }

    /// One code per topic.
    pub struct DeleteTopicsResponse<'a> {
        throttle_time_ms: i32;
        responses: Vec<DeletableTopicResult<'a>>;
    }

    pub struct DeletableTopicResult<'a> {
        name: Option<Str<'a>>, null 6..;
        topic_id: Uuid, in 6..;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>, in 5..;
    }
}
