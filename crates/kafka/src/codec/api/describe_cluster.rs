//! DescribeCluster: describes the cluster's brokers.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for DescribeClusterRequest {
    const KEY: ApiKey = ApiKey::DescribeCluster;
    type Response<'r> = DescribeClusterResponse<'r>;
}

message! {
    /// What to include.
    pub struct DescribeClusterRequest {
        include_cluster_authorized_operations: bool;
        endpoint_type: i8 = 1, in 1..;
        include_fenced_brokers: bool, in 2..;
    }

    /// The brokers and the cluster's id.
    pub struct DescribeClusterResponse<'a> {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
        endpoint_type: i8 = 1, in 1..;
        cluster_id: Str<'a>;
        controller_id: i32 = -1;
        brokers: Vec<DescribeClusterBroker<'a>>;
        cluster_authorized_operations: i32 = i32::MIN;
    }

    pub struct DescribeClusterBroker<'a> {
        broker_id: i32;
        host: Str<'a>;
        port: i32;
        rack: Option<Str<'a>>;
        is_fenced: bool, in 2..;
    }
}
