//! DeleteGroups: deletes groups without members.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for DeleteGroupsRequest<'a> {
    const KEY: ApiKey = ApiKey::DeleteGroups;
    type Response<'r> = DeleteGroupsResponse<'r>;
}

message! {
    /// Which groups.
    pub struct DeleteGroupsRequest<'a> {
        groups_names: Vec<&'a str>;
    }

    /// One code per group.
    pub struct DeleteGroupsResponse<'a> {
        throttle_time_ms: i32;
        results: Vec<DeletableGroupResult<'a>>;
    }

    pub struct DeletableGroupResult<'a> {
        group_id: Str<'a>;
        error_code: ErrorCode;
    }
}
