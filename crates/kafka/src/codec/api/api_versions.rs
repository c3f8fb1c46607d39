//! ApiVersions: names the APIs and versions that are served.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for ApiVersionsRequest<'a> {
    const KEY: ApiKey = ApiKey::ApiVersions;
    type Response<'r> = ApiVersionsResponse<'r>;
}

message! {
    /// Who asks.
    pub struct ApiVersionsRequest<'a> {
        client_software_name: &'a str, in 3..;
        client_software_version: &'a str, in 3..;
    }

    /// The table of APIs, and the features of the cluster.
    ///
    /// Written with response header 0 in every version. Supported features with minimum 0 go into version 4 alone.
    pub struct ApiVersionsResponse<'a> {
        error_code: ErrorCode;
        api_keys: Vec<ApiVersion>;
        throttle_time_ms: i32, in 1..;
        supported_features: Vec<SupportedFeatureKey<'a>>, in 3.., tag 0;
        finalized_features_epoch: i64 = -1, in 3.., tag 1;
        finalized_features: Vec<FinalizedFeatureKey<'a>>, in 3.., tag 2;
        zk_migration_ready: bool, in 3.., tag 3;
    }

    pub struct ApiVersion {
        api_key: i16;
        min_version: i16;
        max_version: i16;
    }

    pub struct SupportedFeatureKey<'a> {
        name: Str<'a>;
        min_version: i16;
        max_version: i16;
    }

    pub struct FinalizedFeatureKey<'a> {
        name: Str<'a>;
        max_version_level: i16;
        min_version_level: i16;
    }
}
