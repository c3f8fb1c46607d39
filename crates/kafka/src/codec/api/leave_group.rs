//! LeaveGroup: ends memberships.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for LeaveGroupRequest<'a> {
    const KEY: ApiKey = ApiKey::LeaveGroup;
    type Response<'r> = LeaveGroupResponse<'r>;
}

message! {
    /// One member up to version 2, many from version 3 on.
    pub struct LeaveGroupRequest<'a> {
        group_id: &'a str;
        member_id: &'a str, in ..=2;
        members: Vec<MemberIdentity<'a>>, in 3..;
    }

    pub struct MemberIdentity<'a> {
        member_id: &'a str;
        group_instance_id: Option<&'a str>;
        reason: Option<&'a str>, in 5..;
    }

    /// One code per member.
    pub struct LeaveGroupResponse<'a> {
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode;
        members: Vec<MemberResponse<'a>>, in 3..;
    }

    pub struct MemberResponse<'a> {
        member_id: Str<'a>;
        group_instance_id: Option<Str<'a>>;
        error_code: ErrorCode;
    }
}
