//! AlterConfigs: replaces all settings of resources.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for AlterConfigsRequest<'a> {
    const KEY: ApiKey = ApiKey::AlterConfigs;
    type Response<'r> = AlterConfigsResponse<'r>;
}

message! {
    /// The complete settings per resource.
    pub struct AlterConfigsRequest<'a> {
        resources: Vec<AlterConfigsResource<'a>>;
        validate_only: bool;
    }

    pub struct AlterConfigsResource<'a> {
        resource_type: i8;
        resource_name: &'a str;
        configs: Vec<AlterableConfig<'a>>;
    }

    pub struct AlterableConfig<'a> {
        name: &'a str;
        value: Option<&'a str>;
    }

    /// One code per resource.
    pub struct AlterConfigsResponse<'a> {
        throttle_time_ms: i32;
        responses: Vec<AlterConfigsResourceResponse<'a>>;
    }

    pub struct AlterConfigsResourceResponse<'a> {
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
        resource_type: i8;
        resource_name: Str<'a>;
    }
}
