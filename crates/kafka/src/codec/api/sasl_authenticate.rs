//! SaslAuthenticate: carries one step of an authentication.

use std::borrow::Cow;

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for SaslAuthenticateRequest<'a> {
    const KEY: ApiKey = ApiKey::SaslAuthenticate;
    type Response<'r> = SaslAuthenticateResponse<'r>;
}

message! {
    /// The client's message.
    pub struct SaslAuthenticateRequest<'a> {
        auth_bytes: &'a [u8];
    }

    /// The server's message, or why it failed.
    pub struct SaslAuthenticateResponse<'a> {
        error_code: ErrorCode;
        error_message: Option<Str<'a>>;
        auth_bytes: Cow<'a, [u8]>;
        session_lifetime_ms: i64, in 1..;
    }
}
