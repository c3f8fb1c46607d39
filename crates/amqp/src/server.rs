//! What all connections share, and how one is served.

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use broker::{Broker, Count, HolderId, Work};
use model::{Namespace, Offset, PartitionIndex};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, watch},
};

use crate::{
    channel::deliveries::Deliveries,
    client::Client,
    connection::{self, End},
    dead_letters::{DIALECT, Taker},
    expiry,
    held::Budget,
    routes::Exchanges,
    schedule,
    session::Session,
    vhost::{self, DEFAULT, Vhosts},
};

/// The original that is spoken for: clients look at both.
pub(crate) const PRODUCT: &str = "RabbitMQ";
pub(crate) const VERSION: &str = "4.3.6";

/// What is announced.
pub(crate) const CAPABILITIES: [&str; 9] = [
    "publisher_confirms",
    "exchange_exchange_bindings",
    "basic.nack",
    "consumer_cancel_notify",
    "connection.blocked",
    "consumer_priorities",
    "authentication_failure_close",
    "per_consumer_qos",
    "direct_reply_to",
];

/// Longest frame before one is negotiated, bytes.
const FRAME_LEN_BEFORE: usize = 8_192;

/// Confirms that wait for their sync, in groups.
const ANSWERS_MAX: usize = 1_024;

/// Share of the memory budget for messages that have not arrived whole, percent.
const BODIES_SHARE: usize = 10;

/// Settings of the dialect. Names and defaults are those of the original.
#[derive(Clone, Debug)]
pub struct Options {
    /// `channel_max`: channels of one connection.
    pub channel_max: u16,
    /// `frame_max`: bytes of a frame.
    pub frame_max: u32,
    /// `heartbeat`: what is proposed, seconds; 0 = none.
    pub heartbeat_s: u16,
    /// `max_message_size`: bytes of a message's body.
    pub message_len_max: usize,
    /// `handshake_timeout`: how long a client may take until its connection is open.
    pub handshake: Duration,
    /// How long a publish that the disk has no room for waits before it is tried again.
    pub blocked_retry: Duration,
    /// How long a message may wait for memory to arrive whole.
    pub memory_wait: Duration,
    /// `consumer_timeout`: how long a consumer of a quorum queue may have a message, unless it or the queue says otherwise.
    pub consumer_timeout: Duration,
    /// Virtual hosts that exist beside `/` and those that have queues.
    pub vhosts: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            channel_max: 2_047,
            frame_max: 131_072,
            heartbeat_s: 60,
            message_len_max: 128 << 20,
            handshake: Duration::from_secs(10),
            blocked_retry: Duration::from_millis(500),
            memory_wait: Duration::from_secs(30),
            consumer_timeout: Duration::from_secs(1_800),
            vhosts: Vec::new(),
        }
    }
}

/// Where a connection comes from.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The client.
    pub peer: SocketAddr,
    /// The name in the client's certificate, where that was verified and has one: EXTERNAL logs in by it.
    pub certified: Option<String>,
}

/// The dialect's server: one for the process, whatever the number of its listeners.
pub struct Server {
    pub(crate) broker: Broker,
    pub(crate) options: Options,
    pub(crate) vhosts: Vhosts,
    /// Who consumes replies that need no queue, and under which tag, by address.
    pub(crate) replies: Mutex<HashMap<String, (Arc<Deliveries>, String)>>,
    /// What messages may take that have not arrived whole, over all connections.
    pub(crate) bodies: Arc<Budget>,
    next_client_id: AtomicU64,
}

impl Server {
    /// The server over `broker`.
    pub fn new(broker: Broker, options: Options) -> Arc<Self> {
        let server = Arc::new(Server {
            bodies: Budget::new(broker.options().memory_budget_len / 100 * BODIES_SHARE),
            broker,
            options,
            vhosts: Vhosts::default(),
            replies: Mutex::default(),
            next_client_id: AtomicU64::new(1),
        });
        let taker = Taker { server: Arc::downgrade(&server) };
        server.broker.register_dead_letters(DIALECT, Arc::new(taker));
        give_back(&server.broker);
        if !server.broker.was_closed_in_order() {
            doubt(&server.broker);
        }
        server.broker.register_addresses(DIALECT, Exchanges::new(&server));
        expiry::start(&server);
        schedule::resume_all(&server);
        server
    }

    /// Whether connections are let in without a user: while there is none, the binary listens on loopback alone, or was
    /// told to be open.
    pub(crate) fn lets_anyone_in(&self) -> bool {
        !self.broker.users().any()
    }

    /// Whether there is such a virtual host.
    pub(crate) fn has_vhost(&self, name: &str, namespace: &Namespace) -> bool {
        name == DEFAULT
            || self.options.vhosts.iter().any(|known| known == name)
            || self.broker.namespaces().contains(namespace)
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
        let id = self.next_client_id.fetch_add(1, Relaxed);
        let client = Arc::new(Client::new(id, FRAME_LEN_BEFORE));
        let (answers, waiting) = mpsc::channel(ANSWERS_MAX);
        let session = Session::new(self.clone(), info, client.clone(), answers);
        match connection::run(stream, &self, (session, waiting), &client, shutdown).await {
            End::Gone | End::Shutdown | End::Closed => {}
            End::Silent(why) => tracing::debug!(%peer, why, "closed"),
            End::Failed(text) => tracing::info!(%peer, text, "closed with an error"),
            End::Stale => tracing::info!(%peer, "a client was not heard in time"),
        }
    }
}

/// Leases looked at in one go.
const LEASES_MAX: usize = 4_096;

/// Gives back what consumers of an earlier run had. Queues that count deliveries keep their leases in the log, and without
/// an end: whoever had them is gone with its connection.
fn give_back(broker: &Broker) {
    for stream in broker.all_streams() {
        let counts = stream.settings().delivery_limit.is_some();
        let Some(work) = broker.queue_work_there(&stream, PartitionIndex(0)).filter(|_| counts) else {
            continue;
        };
        if let Err(error) = give_back_all(&work) {
            tracing::error!(queue = %stream.key().name, %error, "what consumers had before the start is not given back");
        }
    }
}

/// Queues that count no deliveries keep leases in memory alone: after a kill nobody knows what was delivered, and everything
/// is said to have been, as the original has it.
fn doubt(broker: &Broker) {
    for stream in broker.all_streams() {
        if !vhost::queue::is_own(&stream) || stream.settings().delivery_limit.is_some() {
            continue;
        }
        let Some(work) = broker.queue_work_there(&stream, PartitionIndex(0)) else { continue };
        if let Err(error) = work.doubt() {
            tracing::error!(queue = %stream.key().name, %error, "what was delivered before the kill may not say so");
        }
    }
}

fn give_back_all(work: &Work) -> model::Result<()> {
    let mut from = Offset(0);
    loop {
        let leases = work.leases(from, LEASES_MAX)?;
        let Some(last) = leases.last() else { return Ok(()) };
        from = last.span.end;
        let gone: BTreeSet<HolderId> =
            leases.iter().filter(|lease| lease.deadline_ms.is_none()).map(|lease| lease.holder).collect();
        for holder in gone {
            work.release_all(holder, Count::Add)?;
        }
    }
}
