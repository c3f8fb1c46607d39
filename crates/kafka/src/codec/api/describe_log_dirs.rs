//! DescribeLogDirs: describes the directories that hold logs.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for DescribeLogDirsRequest<'a> {
    const KEY: ApiKey = ApiKey::DescribeLogDirs;
    type Response<'r> = DescribeLogDirsResponse<'r>;
}

message! {
    /// Which partitions; null means all.
    pub struct DescribeLogDirsRequest<'a> {
        topics: Option<Vec<DescribableLogDirTopic<'a>>>;
    }

    pub struct DescribableLogDirTopic<'a> {
        topic: &'a str;
        partitions: Vec<i32>;
    }

    /// Size and room per directory and partition.
    pub struct DescribeLogDirsResponse<'a> {
        throttle_time_ms: i32;
        error_code: ErrorCode, in 3..;
        results: Vec<DescribeLogDirsResult<'a>>;
    }

    pub struct DescribeLogDirsResult<'a> {
        error_code: ErrorCode;
        log_dir: Str<'a>;
        topics: Vec<DescribeLogDirsTopic<'a>>;
        total_bytes: i64 = -1, in 4..;
        usable_bytes: i64 = -1, in 4..;
    }

    pub struct DescribeLogDirsTopic<'a> {
        name: Str<'a>;
        partitions: Vec<DescribeLogDirsPartition>;
    }

    pub struct DescribeLogDirsPartition {
        partition_index: i32;
        partition_size: i64;
        offset_lag: i64;
        is_future_key: bool;
    }
}
