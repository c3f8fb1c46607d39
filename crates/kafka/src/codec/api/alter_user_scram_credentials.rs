//! AlterUserScramCredentials: sets and deletes SCRAM credentials.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for AlterUserScramCredentialsRequest<'a> {
    const KEY: ApiKey = ApiKey::AlterUserScramCredentials;
    type Response<'r> = AlterUserScramCredentialsResponse<'r>;
}

message! {
    /// Salted passwords to set, mechanisms to delete.
    pub struct AlterUserScramCredentialsRequest<'a> {
        deletions: Vec<ScramCredentialDeletion<'a>>;
        upsertions: Vec<ScramCredentialUpsertion<'a>>;
    }

    pub struct ScramCredentialDeletion<'a> {
        name: &'a str;
        mechanism: i8;
    }

    pub struct ScramCredentialUpsertion<'a> {
        name: &'a str;
        mechanism: i8;
        iterations: i32;
        salt: &'a [u8];
        salted_password: &'a [u8];
    }

    /// One code per user.
    pub struct AlterUserScramCredentialsResponse<'a> {
        throttle_time_ms: i32;
        results: Vec<AlterUserScramCredentialsResult<'a>>;
    }

    pub struct AlterUserScramCredentialsResult<'a> {
        user: Str<'a>;
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
    }
}
