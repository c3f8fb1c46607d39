//! JoinGroup: makes a client a member of a group and waits for the others.

use std::borrow::Cow;

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for JoinGroupRequest<'a> {
    const KEY: ApiKey = ApiKey::JoinGroup;
    type Response<'r> = JoinGroupResponse<'r>;
}

message! {
    /// Who joins, and with which protocols.
    pub struct JoinGroupRequest<'a> {
        group_id: &'a str;
        session_timeout_ms: i32;
        rebalance_timeout_ms: i32 = -1, in 1..;
        member_id: &'a str;
        group_instance_id: Option<&'a str>, in 5..;
        protocol_type: &'a str;
        protocols: Vec<JoinGroupRequestProtocol<'a>>;
        reason: Option<&'a str>, in 8..;
    }

    pub struct JoinGroupRequestProtocol<'a> {
        name: &'a str;
        metadata: &'a [u8];
    }

    /// The member's id and generation; to the leader also everyone's subscription.
    pub struct JoinGroupResponse<'a> {
        throttle_time_ms: i32, in 2..;
        error_code: ErrorCode;
        generation_id: i32 = -1;
        protocol_type: Option<Str<'a>>, in 7..;
        protocol_name: Option<Str<'a>>, null 7..;
        leader: Str<'a>;
        skip_assignment: bool, in 9..;
        member_id: Str<'a>;
        members: Vec<JoinGroupResponseMember<'a>>;
    }

    pub struct JoinGroupResponseMember<'a> {
        member_id: Str<'a>;
        group_instance_id: Option<Str<'a>>, in 5..;
        metadata: Cow<'a, [u8]>;
    }
}
