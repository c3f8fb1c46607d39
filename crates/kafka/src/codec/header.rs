//! Request and response headers, and whole messages around a body.
//!
//! Rules: a request header ends in tagged fields from its API's first flexible version on, its client id keeps the
//! classic form; a response header likewise, except that of ApiVersions, which a client must be able to read before it
//! knows any version (KIP-482, KIP-511).

use wire::{Error, Reader, Result, Writer};

use super::field::read_tagged;
use super::table::{Api, ApiKey};
use super::{Field, Version};

/// A request: its body's type, and with it the answer's.
pub trait Request<'a>: Field<'a> {
    /// The API.
    const KEY: ApiKey;
    /// What answers it.
    type Response<'r>: Field<'r>;
}

/// What every request begins with.
#[derive(Clone, Copy, Debug)]
pub struct RequestHeader<'a> {
    /// The API that is asked for.
    pub api: &'static Api,
    /// The version in which it is asked and will be answered.
    pub version: Version,
    /// Returned with the answer.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<&'a str>,
}

/// Why a request cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// ApiVersions in a version that is not served: answered in version 0 with UNSUPPORTED_VERSION, its body unread
    /// (KIP-511).
    #[error("ApiVersions version {version}")]
    ApiVersions {
        /// The version that was asked for.
        version: i16,
        /// Returned with the answer.
        correlation_id: i32,
    },
    /// Any other API or version that is not served: the connection is closed without an answer.
    #[error("API {key} version {version} is not served")]
    Unserved {
        /// The API's number.
        key: i16,
        /// The version.
        version: i16,
    },
    /// Not a header: the connection is closed without an answer.
    #[error("request header: {0}")]
    Malformed(#[from] Error),
}

impl<'a> RequestHeader<'a> {
    /// Reads the header of a frame and returns it with the reader of the body. Versions that are shown but not served
    /// (Produce 0 to 2) pass; see [`Api::serves`].
    pub fn read(frame: &'a [u8]) -> std::result::Result<(Self, Reader<'a>), HeaderError> {
        let mut reader = Reader::new(frame);
        let key = reader.i16()?;
        let number = reader.i16()?;
        let correlation_id = reader.i32()?;
        let api = Api::by_number(key).ok_or(HeaderError::Unserved { key, version: number })?;
        if !(api.shown_min..=api.max).contains(&number) {
            return Err(match api.key {
                ApiKey::ApiVersions => HeaderError::ApiVersions { version: number, correlation_id },
                _ => HeaderError::Unserved { key, version: number },
            });
        }
        let version = api.version(number);
        let client_id = Field::read(&mut reader, Version { number, flexible: false })?;
        if version.flexible {
            read_tagged(&mut reader, |_, _| Ok(false))?;
        }
        Ok((RequestHeader { api, version, correlation_id, client_id }, reader))
    }
}

/// A whole request frame, length prefix included.
pub fn encode_request<'a, R: Request<'a>>(
    request: &R,
    version: i16,
    correlation_id: i32,
    client_id: Option<&str>,
) -> Writer {
    let version = R::KEY.api().version(version);
    let mut writer = begin_frame();
    writer.i16(R::KEY.number());
    writer.i16(version.number);
    writer.i32(correlation_id);
    client_id.write(&mut writer, Version { flexible: false, ..version });
    if version.flexible {
        writer.uvarint(0);
    }
    request.write(&mut writer, version);
    end_frame(&mut writer);
    writer
}

/// A whole response frame, length prefix included.
pub fn encode_response<'a>(
    key: ApiKey,
    version: i16,
    correlation_id: i32,
    response: &impl Field<'a>,
) -> Writer {
    let version = key.api().version(version);
    let mut writer = begin_response(key, version, correlation_id);
    response.write(&mut writer, version);
    end_frame(&mut writer);
    writer
}

/// The head of a response whose body follows piece by piece, up to [`end_frame`].
pub(crate) fn begin_response(key: ApiKey, version: Version, correlation_id: i32) -> Writer {
    let mut writer = begin_frame();
    writer.i32(correlation_id);
    if tagged_response(key, version) {
        writer.uvarint(0);
    }
    writer
}

/// Reads a response frame (without length prefix) to a request of type `R`: its correlation id and body.
pub fn decode_response<'q, 'r, R: Request<'q>>(
    frame: &'r [u8],
    version: i16,
) -> Result<(i32, R::Response<'r>)> {
    let version = R::KEY.api().version(version);
    let mut reader = Reader::new(frame);
    let correlation_id = reader.i32()?;
    if tagged_response(R::KEY, version) {
        read_tagged(&mut reader, |_, _| Ok(false))?;
    }
    let body = Field::read(&mut reader, version)?;
    reader.finish()?;
    Ok((correlation_id, body))
}

fn tagged_response(key: ApiKey, version: Version) -> bool {
    version.flexible && key != ApiKey::ApiVersions
}

/// Room for a frame's length, which [`end_frame`] fills in.
fn begin_frame() -> Writer {
    let mut writer = Writer::with_capacity(256);
    writer.u32(0);
    writer
}

/// Says in front how long the frame is.
pub(crate) fn end_frame(writer: &mut Writer) {
    let len = u32::try_from(writer.len() - 4).unwrap_or(u32::MAX);
    writer.patch_u32(0, len);
}

#[cfg(test)]
mod tests;
