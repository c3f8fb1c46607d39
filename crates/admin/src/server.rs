//! One HTTP/1.1 connection after another, over whatever the binary accepted.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Extension, Json, Router,
    http::{Method, StatusCode},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use broker::{Broker, NewBatch, TimeSource};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use model::{Error, Kind, Record, Result};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
};
use tracing::debug;

use crate::{
    api::{self, testing::TestClock},
    caller,
    error::Failed,
    guard, health, metrics, monitoring,
};

/// How long the head of a request may take to come whole, also the first byte of the next one on a connection.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// How long a connection has in a shutdown, unless a request is being worked on that came whole.
const GOODBYE_LIMIT: Duration = Duration::from_secs(1);

/// What the server is made with.
#[derive(Clone, Default)]
pub struct Options {
    /// Host names under which it may be asked, besides loopback and the address connected to.
    pub hosts: Vec<String>,
    /// What accepts where: listener name → address.
    pub listeners: BTreeMap<String, String>,
    /// Whether others than this machine reach a listener, and nobody consented to let them in without a user.
    pub beyond_loopback: bool,
    /// What clients are told instead: listener name → address.
    pub advertised: BTreeMap<String, String>,
    /// Where the data is, for people.
    pub data_dir: String,
    /// Turns records that are published here into a batch that some dialect reads.
    pub composer: Option<Arc<dyn Composer>>,
    /// The dialects whose publishes follow routes.
    pub addresses: Vec<AddressSpace>,
    /// Present in an ephemeral run: puts the clock forward, and lets `/reset` exist.
    pub test_clock: Option<Arc<dyn TestClock>>,
    /// Open connections per listener.
    pub connections: Option<Arc<ConnectionCounts>>,
    /// Answers the monitoring endpoints that a dialect's own tools read.
    pub monitoring: Option<Arc<Monitoring>>,
}

/// Answers a path and its parameters; `None` for what is not there.
pub type Monitoring = dyn Fn(&str, &BTreeMap<String, String>) -> Option<serde_json::Value> + Send + Sync;

/// Tells how many connections each listener has open.
pub type ConnectionCounts = dyn Fn() -> Vec<(String, u64)> + Send + Sync;

/// What one dialect publishes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    /// The dialect, as routes name it.
    pub dialect: &'static str,
    /// Which kind of stream gets what is published to its name; `None` = addresses are no names of streams.
    pub names: Option<Kind>,
}

/// Makes batches of records that come without a dialect.
pub trait Composer: Send + Sync + 'static {
    /// In which dialect they are published: its routes from the log's name are followed.
    fn dialect(&self) -> &'static str;
    /// One batch of all of them, for a stream whose records have the times of `time`.
    fn compose(&self, records: &[Record], time: TimeSource) -> Result<NewBatch>;
    /// The partition, of `count`, that clients of the dialect choose for a key.
    fn partition(&self, key: &[u8], count: u32) -> u32;
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Who asks.
    pub remote: SocketAddr,
    /// The address that was connected to.
    pub local: SocketAddr,
}

/// Turns true when the process ends: whoever waits for something answers with what there is.
#[derive(Clone, Debug)]
pub(crate) struct Stopping(pub(crate) watch::Receiver<bool>);

/// Whether a request of a connection is being worked on: it came whole, and is not answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Working(Arc<AtomicBool>);

impl Working {
    pub(crate) fn set(&self, is_working: bool) {
        self.0.store(is_working, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What handlers share.
pub(crate) struct Shared {
    pub(crate) broker: Broker,
    pub(crate) options: Options,
    /// Taken by requests whose bodies are longer than those of others.
    pub(crate) long_bodies: Arc<Semaphore>,
}

/// The admin API of one broker.
pub struct Server {
    router: Router,
}

impl Server {
    /// A server that answers for `broker`.
    pub fn new(broker: Broker, options: Options) -> Arc<Server> {
        let shared = Arc::new(Shared { broker, options, long_bodies: Arc::new(Semaphore::new(1)) });
        let router = Router::new()
            .route("/metrics", get(metrics::metrics))
            .merge(monitoring::router())
            .merge(api::router(&shared))
            .fallback(unknown)
            .method_not_allowed_fallback(not_so)
            .layer(middleware::from_fn_with_state(shared.clone(), caller::authenticate))
            .route("/healthz", get(health::healthz)) // asked by machines without credentials
            .route("/readyz", get(health::readyz))
            .layer(middleware::from_fn_with_state(shared.clone(), guard::check))
            .with_state(shared);
        Arc::new(Server { router })
    }

    /// Answers the requests of one connection until it closes; after `shutdown` turns true, until the one in flight is
    /// answered: one that came whole, however long that takes, and any other for no longer than a second.
    pub async fn serve_connection<S>(&self, io: S, peer: Peer, mut shutdown: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let working = Working::default();
        let known = (Extension(peer), Extension(Stopping(shutdown.clone())), Extension(working.clone()));
        let router = self.router.clone().layer(known);
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_LIMIT)
            .serve_connection(TokioIo::new(io), TowerToHyperService::new(router));
        let mut connection = std::pin::pin!(connection);
        let stopped = async { drop(shutdown.wait_for(|stop| *stop).await) };
        let outcome = tokio::select! {
            outcome = connection.as_mut() => outcome,
            () = stopped => {
                connection.as_mut().graceful_shutdown();
                loop {
                    match tokio::time::timeout(GOODBYE_LIMIT, connection.as_mut()).await {
                        Ok(outcome) => break outcome,
                        Err(_) if working.is_set() => {}
                        Err(_) => return,
                    }
                }
            }
        };
        if let Err(e) = outcome {
            debug!(peer = %peer.remote, error = %e, "an admin connection ended early");
        }
    }
}

async fn not_so(method: Method) -> Response {
    let why = format!("{method} is not done to this; docs/admin-api.md lists what is");
    (StatusCode::METHOD_NOT_ALLOWED, Json(json!({ "error": { "kind": "invalid", "message": why } })))
        .into_response()
}

async fn unknown() -> Failed {
    Failed(Error::not_found("there is nothing here; docs/admin-api.md lists what there is"))
}
