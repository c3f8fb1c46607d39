//! A small HTTP/1.1 client for the admin API: one connection per request, JSON both ways.

use std::{path::Path, sync::Arc};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::ServerName};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

use crate::listeners::tls::certificates;

/// An answer longer than this is not from us.
const ANSWER_LEN_MAX: usize = 256 << 20;

/// Asks one server.
#[derive(Clone)]
pub struct Client {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    authorization: Option<String>,
    always: Vec<(String, String)>,
}

impl Client {
    /// A client of the server at `url` (`http://HOST:PORT` or `https://…`). `credentials` is `NAME:PASSWORD`.
    pub fn new(url: &str, ca: Option<&Path>, credentials: Option<&str>) -> Result<Client, String> {
        let wrong = || format!("--admin {url:?} is not http://HOST:PORT or https://HOST:PORT");
        let uri: hyper::Uri = url.parse().map_err(|_| wrong())?;
        let host = uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned();
        let (tls, default_port) = match uri.scheme_str() {
            Some("http") => (None, 80),
            Some("https") => (Some(Arc::new(trusting(ca)?)), 443),
            _ => return Err(wrong()),
        };
        let authorization = credentials.map(|pair| format!("Basic {}", BASE64_STANDARD.encode(pair)));
        Ok(Client {
            host,
            port: uri.port_u16().unwrap_or(default_port),
            tls,
            authorization,
            always: Vec::new(),
        })
    }

    /// Adds a query parameter to every request.
    pub fn always(&mut self, name: &str, value: &str) {
        self.always.push((name.to_owned(), value.to_owned()));
    }

    /// GET.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        self.call(Method::GET, path, query, None).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: Value) -> Result<Value, String> {
        self.call(Method::POST, path, &[], Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str, query: &[(&str, &str)]) -> Result<Value, String> {
        self.call(Method::DELETE, path, query, None).await
    }

    /// Sends a request and gives the answer's JSON (`null` when it has none). An answer that is no success is an error:
    /// its message, for people.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Value, String> {
        let request = self.request(method, path, query, body)?;
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|e| {
            format!(
                "no server answers at {}:{} ({e}); is it running, and is --admin right?",
                self.host, self.port
            )
        })?;
        let (status, bytes) = match &self.tls {
            None => exchange(stream, request).await?,
            Some(config) => {
                let name = ServerName::try_from(self.host.clone()).map_err(|e| e.to_string())?;
                let stream = TlsConnector::from(config.clone()).connect(name, stream).await;
                exchange(stream.map_err(|e| format!("TLS with {}: {e}", self.host))?, request).await?
            }
        };
        let value = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
        let value: Value = value.map_err(|_| format!("{} answered something that is no JSON", self.host))?;
        if status.is_success() {
            return Ok(value);
        }
        let message = value["error"]["message"].as_str().map(str::to_owned);
        Err(message.unwrap_or_else(|| format!("the server answered {status}")))
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Request<Full<Bytes>>, String> {
        let always = self.always.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let pairs =
            always.chain(query.iter().copied()).map(|(name, value)| format!("{name}={}", escaped(value)));
        let query = pairs.collect::<Vec<_>>().join("&");
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let mut request = Request::builder()
            .method(method)
            .uri(target)
            .header(header::HOST, format!("{host}:{}", self.port))
            .header(header::CONNECTION, "close");
        if let Some(authorization) = &self.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let body = match body {
            None => Bytes::new(),
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                body.to_string().into()
            }
        };
        request.body(Full::new(body)).map_err(|e| e.to_string())
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> Result<(StatusCode, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let status = answer.status();
        let body =
            Limited::new(answer.into_body(), ANSWER_LEN_MAX).collect().await.map_err(|e| e.to_string())?;
        Ok((status, body.to_bytes()))
    };
    let mut answer = std::pin::pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        Err(e) = connection => Err(e.to_string()),
        else => Err("the connection was closed before the answer".to_owned()),
    }
}

fn trusting(ca: Option<&Path>) -> Result<ClientConfig, String> {
    let ca = ca.ok_or("https:// needs --admin-ca FILE: the certificate, or the authority behind it")?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|e| format!("{}: {e}", ca.display()))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// A path segment or query value with everything but unreserved characters escaped (RFC 3986 §2.3).
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_escaped_for_paths() {
        assert_eq!(escaped("orders.v1"), "orders.v1");
        assert_eq!(escaped("a/b c%ü"), "a%2Fb%20c%25%C3%BC");
    }

    #[test]
    fn an_address_has_scheme_host_and_port() {
        let client = Client::new("http://[::1]:8222", None, None).unwrap();
        assert_eq!((client.host.as_str(), client.port), ("::1", 8222));
        assert_eq!(Client::new("http://wire.example", None, None).unwrap().port, 80);
        for wrong in ["127.0.0.1:8222", "ftp://x", "", "https://x"] {
            assert!(Client::new(wrong, None, None).is_err(), "{wrong}");
        }
    }
}
