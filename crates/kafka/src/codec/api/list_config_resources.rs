//! ListConfigResources: lists resources that have settings.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for ListConfigResourcesRequest {
    const KEY: ApiKey = ApiKey::ListConfigResources;
    type Response<'r> = ListConfigResourcesResponse<'r>;
}

message! {
    /// Which types; empty means all (version 0: client metrics).
    pub struct ListConfigResourcesRequest {
        resource_types: Vec<i8>, in 1..;
    }

    /// The resources.
    pub struct ListConfigResourcesResponse<'a> {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        config_resources: Vec<ConfigResource<'a>>;
    }

    pub struct ConfigResource<'a> {
        resource_name: Str<'a>;
        resource_type: i8 = 16, in 1..;
    }
}
