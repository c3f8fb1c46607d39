//! What this crate's tests run on: a server over a broker in a scratch directory, asked over connections in memory.
#![allow(clippy::disallowed_methods)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use broker::{Broker, BrokerOptions};
use model::Formats;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    sync::watch,
    task::JoinHandle,
};

use crate::{ConnectionInfo, Options, Server};

/// A server on a directory of its own, which goes with it.
pub(crate) struct Rig {
    pub server: Arc<Server>,
    dir: PathBuf,
}

impl Rig {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("wm-aws-{}-{number}", std::process::id()));
        let mut formats = Formats::default();
        formats.register(crate::format()).unwrap();
        let broker = Broker::open(env::real(), &dir, BrokerOptions::default(), formats).unwrap().0;
        Rig { server: Server::new(broker, Options::default()), dir }
    }

    pub(crate) fn connect(&self) -> Client {
        let (near, far) = duplex(64 << 10);
        let address = "127.0.0.1:4566".parse().unwrap();
        let info = ConnectionInfo { peer: address, local: address, advertised: None, tls: false };
        let (stop, stopped) = watch::channel(false);
        let serving = tokio::spawn(self.server.clone().serve_connection(far, info, stopped));
        Client { stream: near, serving, _stop: stop }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.server.broker.close());
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

/// One connection's client side.
pub(crate) struct Client {
    pub stream: DuplexStream,
    pub serving: JoinHandle<()>,
    _stop: watch::Sender<bool>,
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answered {
    pub status: u16,
    head: String,
    /// With what is no UTF-8 replaced.
    pub body: String,
}

impl Answered {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (other, value) = line.split_once(':')?;
            other.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// The next answer; `None` when the connection ends instead.
    pub(crate) async fn answer(&mut self) -> Option<Answered> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if self.stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return None;
            }
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answered { status, head, body: String::new() };
        let len: usize = answer.header("content-length").map_or(0, |len| len.parse().unwrap());
        let mut body = bytes[end + 4..].to_vec();
        assert!(body.len() <= len, "one answer at a time");
        body.reserve(len);
        while body.len() < len {
            assert_ne!(self.stream.read_buf(&mut body).await.unwrap(), 0);
        }
        answer.body = String::from_utf8_lossy(&body).into_owned();
        Some(answer)
    }

    pub(crate) async fn json(&mut self, target: &str, body: &str) -> Answered {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: localhost:4566\r\nContent-Type: application/x-amz-json-1.0\r\n\
             X-Amz-Target: {target}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(request.as_bytes()).await;
        self.answer().await.unwrap()
    }

    pub(crate) async fn form(&mut self, path: &str, body: &str) -> Answered {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost:4566\r\n\
             Content-Type: application/x-www-form-urlencoded; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.send(request.as_bytes()).await;
        self.answer().await.unwrap()
    }

    pub(crate) async fn get(&mut self, target: &str) -> Answered {
        self.send(format!("GET {target} HTTP/1.1\r\nHost: localhost:4566\r\n\r\n").as_bytes()).await;
        self.answer().await.unwrap()
    }
}
