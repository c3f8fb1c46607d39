//! INFO: what the server says of itself.

use serde::Serialize;

/// The first line of every connection, and later news of the same shape.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Info<'a> {
    pub server_id: &'a str,
    pub server_name: &'a str,
    pub version: &'a str,
    pub proto: u8,
    pub go: &'a str,
    pub host: &'a str,
    pub port: u16,
    pub headers: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub auth_required: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub tls_required: bool,
    pub max_payload: usize,
    pub client_id: u64,
    pub client_ip: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nonce: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub connect_urls: &'a [String],
    /// Whether there are streams.
    pub jetstream: bool,
    /// The level of their API.
    pub api_lvl: u32,
    /// Lame duck: connections are about to be closed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ldm: bool,
    /// In the INFO that follows the first PING: who the client is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub connect_info: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_account: Option<&'a str>,
}

impl Info<'_> {
    /// The line, with its end.
    pub(crate) fn line(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("INFO {json} \r\n")
    }
}
