//! DeleteRecords: moves the start of partitions forward.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for DeleteRecordsRequest<'a> {
    const KEY: ApiKey = ApiKey::DeleteRecords;
    type Response<'r> = DeleteRecordsResponse<'r>;
}

message! {
    /// The new start per partition, -1 for the end.
    pub struct DeleteRecordsRequest<'a> {
        topics: Vec<DeleteRecordsTopic<'a>>;
        timeout_ms: i32;
    }

    pub struct DeleteRecordsTopic<'a> {
        name: &'a str;
        partitions: Vec<DeleteRecordsPartition>;
    }

    pub struct DeleteRecordsPartition {
        partition_index: i32;
        offset: i64;
    }

    /// The new start per partition.
    pub struct DeleteRecordsResponse<'a> {
        throttle_time_ms: i32;
        topics: Vec<DeleteRecordsTopicResult<'a>>;
    }

    pub struct DeleteRecordsTopicResult<'a> {
        name: Str<'a>;
        partitions: Vec<DeleteRecordsPartitionResult>;
    }

    pub struct DeleteRecordsPartitionResult {
        partition_index: i32;
        low_watermark: i64;
        error_code: ErrorCode;
    }
}
