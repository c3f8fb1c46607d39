//! INFO lines: the first of a connection, and later news.

use crate::{
    codec::Info,
    server::{ConnectionInfo, Server},
};

/// What a line says beyond who the server is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct News<'a> {
    /// Whether the client is in already.
    pub is_known: bool,
    /// Whether connections are about to be closed.
    pub is_lame: bool,
    /// The account that the client is in, in the line that follows its first PING.
    pub account: Option<&'a str>,
}

/// The line for connection `id`, with its end.
pub(crate) fn info_line(server: &Server, info: &ConnectionInfo, id: u64, news: &News<'_>) -> String {
    let host = info.local.ip().to_string();
    let peer = info.peer.ip().to_string();
    let url = match &info.advertised {
        Some((host, port)) => format!("{host}:{port}"),
        None => info.local.to_string(),
    };
    let nonce = server.nonce(id).filter(|_| !news.is_known);
    Info {
        server_id: &server.id,
        server_name: &server.id,
        version: crate::VERSION,
        proto: 1,
        go: "",
        host: &host,
        port: info.local.port(),
        headers: true,
        auth_required: !news.is_known && !server.lets_anyone_in(),
        tls_required: info.is_tls,
        max_payload: server.options.payload_len_max,
        client_id: id,
        client_ip: &peer,
        nonce: nonce.as_deref(),
        connect_urls: &[url],
        jetstream: true,
        api_lvl: crate::jetstream::API_LEVEL,
        ldm: news.is_lame,
        connect_info: news.account.is_some(),
        remote_account: news.account,
    }
    .line()
}
