//! What all connections share, and how one is served.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use broker::Broker;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Semaphore, watch},
};
use tracing::debug;

use crate::{
    answer_budget::AnswerBudget,
    connection::{self, End, Limits},
    coordinator::Coordinator,
    fetch_sessions::FetchSessions,
    group::GroupLimits,
    request_budget::RequestBudget,
    session::Session,
    topics::Aliases,
};

/// Settings of the dialect. Names and defaults are Kafka's.
#[derive(Clone, Debug)]
pub struct Options {
    /// `node.id`: the id of the only broker.
    pub node_id: i32,
    /// `auto.create.topics.enable`.
    pub auto_create_topics: bool,
    /// `num.partitions`.
    pub num_partitions: u32,
    /// `socket.request.max.bytes`.
    pub request_len_max: usize,
    /// `connections.max.idle.ms`.
    pub idle_max_ms: u64,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_len_max: usize,
    /// `offsets.retention.minutes`.
    pub offsets_retention_min: u64,
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min_ms: u64,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max_ms: u64,
    /// `group.max.size`.
    pub group_size_max: usize,
    /// `group.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: u64,
    /// Whether replication factors above one are taken and shown, though there is one node.
    pub accept_replicas: bool,
    /// Where data is kept, as DescribeLogDirs shows it.
    pub log_dir: String,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            node_id: 1,
            auto_create_topics: true,
            num_partitions: 1,
            request_len_max: 100 << 20,
            idle_max_ms: 600_000,
            offset_metadata_len_max: 4_096,
            offsets_retention_min: 10_080,
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            group_size_max: i32::MAX as usize,
            initial_rebalance_delay_ms: 3_000,
            accept_replicas: false,
            log_dir: String::new(),
        }
    }
}

/// Where a connection comes from and what it is told.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The client.
    pub peer: SocketAddr,
    /// The address that it connected to.
    pub local: SocketAddr,
    /// Host and port that clients are told to connect to, when configured; else `local`.
    pub advertised: Option<(String, u16)>,
}

/// The dialect's server: one for the process, whatever the number of its listeners.
pub struct Server {
    pub(crate) broker: Broker,
    pub(crate) options: Options,
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) fetch_sessions: Mutex<FetchSessions>,
    pub(crate) cluster_id: String,
    /// Bytes that long requests of all connections may take while they are read and handled.
    request_budget: Arc<RequestBudget>,
    /// Bytes that fetch answers of all connections may take until they are read.
    pub(crate) answer_budget: Arc<AnswerBudget>,
    pub(crate) aliases: Mutex<Aliases>,
    /// Turns of requests whose records unpack to much.
    pub(crate) unpacking: Semaphore,
    /// Turns of fetches for which batches are packed anew.
    pub(crate) repacking: Semaphore,
}

/// Requests that unpack much at a time: a decoder's window has up to 128 MiB.
const UNPACKING_MAX: usize = 2;

impl Server {
    /// The server over `broker`, with every group that was stored.
    pub fn new(broker: Broker, options: Options) -> Arc<Self> {
        let limits = GroupLimits {
            session_timeout_min_ms: options.session_timeout_min_ms,
            session_timeout_max_ms: options.session_timeout_max_ms,
            members_max: options.group_size_max,
            initial_delay_ms: options.initial_rebalance_delay_ms,
        };
        let retention_ms =
            i64::try_from(options.offsets_retention_min.saturating_mul(60_000)).unwrap_or(i64::MAX);
        let coordinator = Coordinator::open(broker.clone(), limits, retention_ms);
        broker.register_membership(coordinator.clone());
        let cluster_id = cluster_id(broker.incarnation_id());
        let request_budget = RequestBudget::new(request_budget_len(&broker, &options));
        let fetch_sessions = Mutex::default();
        // An eighth, of which twice as much is held at the most.
        let answer_budget = AnswerBudget::new(broker.options().memory_budget_len / 8);
        let unpacking = Semaphore::new(UNPACKING_MAX);
        let repacking = Semaphore::new(UNPACKING_MAX);
        Arc::new(Server {
            broker,
            options,
            coordinator,
            fetch_sessions,
            cluster_id,
            request_budget,
            answer_budget,
            aliases: Mutex::default(),
            unpacking,
            repacking,
        })
    }

    /// Starts the dialect's clockwork, once; it runs until the process ends.
    pub fn start_clockwork(&self) {
        self.coordinator.start_clockwork();
    }

    /// Serves one connection until it ends.
    pub async fn serve_connection<S>(
        self: Arc<Self>,
        stream: S,
        info: ConnectionInfo,
        shutdown: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Send,
    {
        let peer = info.peer;
        let limits = Limits {
            idle_max: Duration::from_millis(self.options.idle_max_ms),
            requests: self.request_budget.clone(),
            answers: self.answer_budget.clone(),
        };
        let mut session = Session::new(self, info);
        match connection::run(stream, &mut session, limits, shutdown).await {
            End::Gone => {}
            End::Idle => debug!(%peer, "closed: idle"),
            End::Shutdown => debug!(%peer, "closed: stopping"),
            End::Broken(why) => debug!(%peer, why, "closed"),
        }
    }
}

/// A quarter of the broker's memory, and in any case one request of the largest kind.
fn request_budget_len(broker: &Broker, options: &Options) -> usize {
    let quarter = broker.options().memory_budget_len / 4;
    quarter.max(options.request_len_max)
}

/// The cluster id as the original writes it: 128 bits in URL-safe Base64 without padding.
fn cluster_id(incarnation: u128) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(incarnation.to_be_bytes())
}
