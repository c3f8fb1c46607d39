//! SaslHandshake: chooses how to authenticate.

use crate::codec::message::message;
use crate::codec::{ApiKey, ErrorCode, Request, Str};

impl<'a> Request<'a> for SaslHandshakeRequest<'a> {
    const KEY: ApiKey = ApiKey::SaslHandshake;
    type Response<'r> = SaslHandshakeResponse<'r>;
}

message! {
    /// The mechanism that the client wants.
    pub struct SaslHandshakeRequest<'a> {
        mechanism: &'a str;
    }

    /// Whether it is there, and which are.
    pub struct SaslHandshakeResponse<'a> {
        error_code: ErrorCode;
        mechanisms: Vec<Str<'a>>;
    }
}
