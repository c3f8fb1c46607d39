//! Heartbeat: keeps a membership alive.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request};

impl<'a> Request<'a> for HeartbeatRequest<'a> {
    const KEY: ApiKey = ApiKey::Heartbeat;
    type Response<'r> = HeartbeatResponse;
}

message! {
    /// The member and its generation.
    pub struct HeartbeatRequest<'a> {
        group_id: &'a str;
        generation_id: i32;
        member_id: &'a str;
        group_instance_id: Option<&'a str>, in 3..;
    }

    /// Whether it may go on.
    pub struct HeartbeatResponse {
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode;
    }
}
