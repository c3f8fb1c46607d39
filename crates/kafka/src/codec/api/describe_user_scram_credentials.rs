//! DescribeUserScramCredentials: lists which users have SCRAM credentials.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for DescribeUserScramCredentialsRequest<'a> {
    const KEY: ApiKey = ApiKey::DescribeUserScramCredentials;
    type Response<'r> = DescribeUserScramCredentialsResponse<'r>;
}

message! {
    /// Which users; null or empty means all.
    pub struct DescribeUserScramCredentialsRequest<'a> {
        users: Option<Vec<UserName<'a>>>;
    }

    pub struct UserName<'a> {
        name: &'a str;
    }

    /// Mechanisms and iterations, never secrets.
    pub struct DescribeUserScramCredentialsResponse<'a> {
        throttle_time_ms: i32;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
        results: Vec<DescribeUserScramCredentialsResult<'a>>;
    }

    pub struct DescribeUserScramCredentialsResult<'a> {
        user: Str<'a>;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
        credential_infos: Vec<CredentialInfo>;
    }

    pub struct CredentialInfo {
        mechanism: i8;
        iterations: i32;
    }
}
