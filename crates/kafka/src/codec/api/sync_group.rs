//! SyncGroup: hands the leader's assignment to the members.

use std::borrow::Cow;

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for SyncGroupRequest<'a> {
    const KEY: ApiKey = ApiKey::SyncGroup;
    type Response<'r> = SyncGroupResponse<'r>;
}

message! {
    /// The leader's assignment; empty from the others.
    pub struct SyncGroupRequest<'a> {
        group_id: &'a str;
        generation_id: i32;
        member_id: &'a str;
        group_instance_id: Option<&'a str>, in 3..;
        protocol_type: Option<&'a str>, in 5..;
        protocol_name: Option<&'a str>, in 5..;
        assignments: Vec<SyncGroupRequestAssignment<'a>>;
    }

    pub struct SyncGroupRequestAssignment<'a> {
        member_id: &'a str;
        assignment: &'a [u8];
    }

    /// This member's share.
    pub struct SyncGroupResponse<'a> {
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode;
        protocol_type: Option<Str<'a>>, in 5..;
        protocol_name: Option<Str<'a>>, in 5..;
        assignment: Cow<'a, [u8]>;
    }
}
