//! ListGroups: lists the groups that this broker coordinates.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for ListGroupsRequest<'a> {
    const KEY: ApiKey = ApiKey::ListGroups;
    type Response<'r> = ListGroupsResponse<'r>;
}

message! {
    /// Filters by state and type; empty ones let all pass.
    pub struct ListGroupsRequest<'a> {
        states_filter: Vec<&'a str>, in 4..;
        types_filter: Vec<&'a str>, in 5..;
    }

    /// The groups that pass.
    pub struct ListGroupsResponse<'a> {
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode;
        groups: Vec<ListedGroup<'a>>;
    }

    pub struct ListedGroup<'a> {
        group_id: Str<'a>;
        protocol_type: Str<'a>;
        group_state: Str<'a>, in 4..;
        group_type: Str<'a>, in 5..;
    }
}
