//! IncrementalAlterConfigs: changes single settings of resources.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for IncrementalAlterConfigsRequest<'a> {
    const KEY: ApiKey = ApiKey::IncrementalAlterConfigs;
    type Response<'r> = IncrementalAlterConfigsResponse<'r>;
}

message! {
    /// Operations per setting: set, delete, append, subtract.
    pub struct IncrementalAlterConfigsRequest<'a> {
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
        config_operation: i8;
        value: Option<&'a str>;
    }

    /// One code per resource.
    pub struct IncrementalAlterConfigsResponse<'a> {
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
