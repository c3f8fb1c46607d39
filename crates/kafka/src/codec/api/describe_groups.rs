//! DescribeGroups: describes groups and their members.

use std::borrow::Cow;

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for DescribeGroupsRequest<'a> {
    const KEY: ApiKey = ApiKey::DescribeGroups;
    type Response<'r> = DescribeGroupsResponse<'r>;
}

message! {
    /// Which groups.
    pub struct DescribeGroupsRequest<'a> {
        groups: Vec<&'a str>;
        include_authorized_operations: bool, in 3..;
    }

    /// State and members of each.
    pub struct DescribeGroupsResponse<'a> {
        throttle_time_ms: i32, in 1..;
        groups: Vec<DescribedGroup<'a>>;
    }

    pub struct DescribedGroup<'a> {
        error_code: ErrorCode;
        error_message: Option<Str<'a>>, in 6..;
        group_id: Str<'a>;
        group_state: Str<'a>;
        protocol_type: Str<'a>;
        protocol_data: Str<'a>;
        members: Vec<DescribedGroupMember<'a>>;
        authorized_operations: i32 = i32::MIN, in 3..;
    }

    pub struct DescribedGroupMember<'a> {
        member_id: Str<'a>;
        group_instance_id: Option<Str<'a>>, in 4..;
        client_id: Str<'a>;
        client_host: Str<'a>;
        member_metadata: Cow<'a, [u8]>;
        member_assignment: Cow<'a, [u8]>;
    }
}
