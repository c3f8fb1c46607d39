//! Who may ask at all: hosts, origins, credentials.

use std::{net::IpAddr, sync::Arc};

use axum::{
    Extension, Json,
    extract::{Request, State},
    http::{HeaderMap, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::server::{Peer, Shared, Working};

/// Refuses requests that a web page could have made somebody's browser send: an unknown Host (a name that was rebound to
/// loopback), or a write from another origin. Notes for how long any other is being worked on.
pub(crate) async fn check(
    State(shared): State<Arc<Shared>>,
    Extension(peer): Extension<Peer>,
    Extension(working): Extension<Working>,
    request: Request,
    next: Next,
) -> Response {
    let host = host_of(&request);
    let known = host.as_deref().is_some_and(|host| is_known(host, peer.local.ip(), &shared.options.hosts));
    if !known {
        return refuse(
            StatusCode::MISDIRECTED_REQUEST,
            "this Host is not served; see the setting admin_hosts",
        );
    }
    if is_write(request.method()) && is_cross_origin(request.headers()) {
        return refuse(StatusCode::FORBIDDEN, "a write from another origin is refused");
    }
    working.set(true);
    let answer = next.run(request).await;
    working.set(false);
    answer
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, Json(json!({ "error": { "kind": "denied", "message": why } }))).into_response()
}

/// The Host without its port, in lower case.
fn host_of(request: &Request) -> Option<String> {
    let named = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    let authority =
        named.map(str::to_owned).or_else(|| request.uri().authority().map(ToString::to_string))?;
    Some(without_port(&authority).to_ascii_lowercase())
}

fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split_once(']').map_or(authority, |(host, _)| host);
    }
    authority.split_once(':').map_or(authority, |(host, _)| host)
}

fn is_known(host: &str, local: IpAddr, configured: &[String]) -> bool {
    let loopback =
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback() || ip == local);
    loopback || configured.iter().any(|name| name.eq_ignore_ascii_case(host))
}

fn is_write(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD)
}

/// Whether a browser says that another site's page sent this. Programs send neither header.
fn is_cross_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let origin =
        origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    origin.is_none() || origin != text("host")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_loopback_or_connected_to_or_configured() {
        let local: IpAddr = "10.0.0.5".parse().unwrap();
        let configured = ["wire.example".to_owned()];
        for (host, expected) in [
            ("localhost:8222", true),
            ("127.0.0.1:8222", true),
            ("127.9.9.9", true),
            ("[::1]:8222", true),
            ("10.0.0.5:8222", true),
            ("10.0.0.6:8222", false),
            ("WIRE.example", true),
            ("evil.example:8222", false),
            ("localhost.evil.example", false),
            ("", false),
        ] {
            let host = without_port(host).to_ascii_lowercase();
            assert_eq!(is_known(&host, local, &configured), expected, "{host}");
        }
    }

    #[test]
    fn a_write_from_another_site_is_recognised() {
        let check = |pairs: &[(&'static str, &'static str)], expected: bool| {
            let headers: HeaderMap =
                pairs.iter().map(|(k, v)| (k.parse().unwrap(), v.parse().unwrap())).collect();
            assert_eq!(is_cross_origin(&headers), expected, "{pairs:?}");
        };
        check(&[("host", "localhost:8222")], false);
        check(&[("host", "localhost:8222"), ("origin", "http://localhost:8222")], false);
        check(&[("host", "localhost:8222"), ("origin", "http://evil.example")], true);
        check(&[("host", "localhost:8222"), ("origin", "null")], true);
        check(&[("host", "localhost:8222"), ("sec-fetch-site", "cross-site")], true);
        check(&[("host", "localhost:8222"), ("sec-fetch-site", "same-site")], true);
        check(&[("host", "localhost:8222"), ("sec-fetch-site", "none")], false);
    }
}
