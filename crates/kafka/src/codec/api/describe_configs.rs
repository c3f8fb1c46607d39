//! DescribeConfigs: describes settings of topics, brokers and groups.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for DescribeConfigsRequest<'a> {
    const KEY: ApiKey = ApiKey::DescribeConfigs;
    type Response<'r> = DescribeConfigsResponse<'r>;
}

message! {
    /// Which resources and which of their settings; null means all.
    pub struct DescribeConfigsRequest<'a> {
        resources: Vec<DescribeConfigsResource<'a>>;
        include_synonyms: bool;
        include_documentation: bool, in 3..;
    }

    pub struct DescribeConfigsResource<'a> {
        resource_type: i8;
        resource_name: &'a str;
        configuration_keys: Option<Vec<&'a str>>;
    }

    /// Values with their source and synonyms.
    pub struct DescribeConfigsResponse<'a> {
        throttle_time_ms: i32;
        results: Vec<DescribeConfigsResult<'a>>;
    }

    pub struct DescribeConfigsResult<'a> {
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
        resource_type: i8;
        resource_name: Str<'a>;
        configs: Vec<DescribeConfigsResourceResult<'a>>;
    }

    pub struct DescribeConfigsResourceResult<'a> {
        name: Str<'a>;
        value: Option<Str<'a>>;
        read_only: bool;
        config_source: i8 = -1;
        is_sensitive: bool;
        synonyms: Vec<DescribeConfigsSynonym<'a>>;
        config_type: i8, in 3..;
        documentation: Option<Str<'a>>, in 3..;
    }

    pub struct DescribeConfigsSynonym<'a> {
        name: Str<'a>;
        value: Option<Str<'a>>;
        source: i8;
    }
}
