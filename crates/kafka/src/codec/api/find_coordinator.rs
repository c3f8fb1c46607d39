//! FindCoordinator: asks which broker coordinates a group or a transaction.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for FindCoordinatorRequest<'a> {
    const KEY: ApiKey = ApiKey::FindCoordinator;
    type Response<'r> = FindCoordinatorResponse<'r>;
}

message! {
    /// One key up to version 3, many from version 4 on.
    pub struct FindCoordinatorRequest<'a> {
        key: &'a str, in ..=3;
        key_type: i8, in 1..;
        coordinator_keys: Vec<&'a str>, in 4..;
    }

    /// Where the coordinator of each key is.
    pub struct FindCoordinatorResponse<'a> {
        throttle_time_ms: i32, in 1..;
        error_code: ErrorCode, in ..=3;
        error_message: Option<Str<'a>>, in 1..=3;
        node_id: i32, in ..=3;
        host: Str<'a>, in ..=3;
        port: i32, in ..=3;
        coordinators: Vec<Coordinator<'a>>, in 4..;
    }

    pub struct Coordinator<'a> {
        key: Str<'a>;
        node_id: i32;
        host: Str<'a>;
        port: i32;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
    }
}
