//! What all connections share, and how one is served.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use broker::{Broker, Identity, Principal};
use parking_lot::RwLock;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};
use tracing::debug;

use crate::{
    codec::Connect,
    connection::{self, End},
    core::{client::Client, hub::Hub, pending::Pending},
    jetstream::{
        account::Account,
        markers::{self, Markers},
    },
    monitor::Registry,
    nkey,
    routes::{DIALECT, Subjects},
    session::{Ending, Session},
    welcome::{News, info_line},
};

/// Settings of the dialect. Names and defaults are those of the original.
#[derive(Clone, Debug)]
pub struct Options {
    /// `max_control_line`, bytes.
    pub control_line_len_max: usize,
    /// `max_payload`, bytes of headers and body.
    pub payload_len_max: usize,
    /// `max_pending`: bytes that may wait for one client before it is cut off.
    pub pending_len_max: usize,
    /// Bytes that may wait for all clients together; over it, those are cut off for whom the most waits.
    pub pending_total_len_max: usize,
    /// `max_subscriptions` of one connection.
    pub subscriptions_max: usize,
    /// `write_deadline`: how long a write may make no headway before the client is cut off.
    pub write_deadline_ms: u64,
    /// `ping_interval`.
    pub ping_interval_ms: u64,
    /// `lame_duck_duration`: over how long connections are closed when the process stops, after they were told; 0 = at
    /// once.
    pub lame_duck_ms: u64,
    /// `max_request_batch`: what a consumer may allow its pull requests to ask for at most, and allows where it says nothing;
    /// 0 = any number.
    pub request_batch_max: u32,
    /// Whether more than one replica may be asked for: the number is kept and shown, and means nothing.
    pub accepts_replicas: bool,
    /// `ping_max`: unanswered PINGs after which a connection is stale.
    pub pings_out_max: u32,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            control_line_len_max: 4_096,
            payload_len_max: 1 << 20,
            pending_len_max: 64 << 20,
            pending_total_len_max: 512 << 20,
            subscriptions_max: 1_000_000,
            write_deadline_ms: 10_000,
            ping_interval_ms: 120_000,
            pings_out_max: 2,
            lame_duck_ms: 0,
            request_batch_max: 0,
            accepts_replicas: false,
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
    /// Whether its bytes come through TLS.
    pub is_tls: bool,
    /// The number that [`Server::greeting`] gave, where the first line went out before TLS began.
    pub greeted: Option<u64>,
}

/// The dialect's server: one for the process, whatever the number of its listeners.
pub struct Server {
    pub(crate) broker: Broker,
    pub(crate) options: Options,
    pub(crate) id: String,
    hubs: RwLock<HashMap<Box<str>, Arc<Hub>>>,
    accounts: RwLock<HashMap<Box<str>, Arc<Account>>>,
    next_client_id: AtomicU64,
    /// What nonces are made with.
    nonce_key: [u8; 32],
    pub(crate) pending: Arc<Pending>,
    pub(crate) registry: Registry,
}

impl Server {
    /// The server over `broker`. To be made where tasks can be started.
    pub fn new(broker: Broker, options: Options) -> Arc<Self> {
        let id = server_id(broker.env().random.u128());
        let mut nonce_key = [0; 32];
        broker.env().random.fill(&mut nonce_key);
        let pending = Arc::new(Pending::new(options.pending_total_len_max));
        let registry = Registry::new(broker.env().clock.wall_ms());
        let (markers, stored) = Markers::new();
        broker.register_successors(DIALECT, Arc::new(markers));
        let server = Arc::new(Server {
            broker,
            options,
            id,
            hubs: RwLock::default(),
            accounts: RwLock::default(),
            next_client_id: AtomicU64::new(1),
            nonce_key,
            pending,
            registry,
        });
        server.broker.register_addresses(DIALECT, Subjects::new(&server));
        let body = markers::run(Arc::downgrade(&server), stored);
        tokio::spawn(server.broker.needed("nats markers", body));
        server
    }

    /// The subjects of a tenant.
    pub(crate) fn hub(&self, tenant: &str) -> Arc<Hub> {
        if let Some(hub) = self.hubs.read().get(tenant) {
            return hub.clone();
        }
        self.hubs.write().entry(tenant.into()).or_default().clone()
    }

    /// The subjects of every tenant.
    pub(crate) fn hubs(&self) -> BTreeMap<String, Arc<Hub>> {
        self.hubs.read().iter().map(|(tenant, hub)| (tenant.to_string(), hub.clone())).collect()
    }

    /// The streams of a tenant.
    pub(crate) fn account(&self, tenant: &str) -> Arc<Account> {
        if let Some(account) = self.accounts.read().get(tenant) {
            return account.clone();
        }
        let (hub, len_max) = (self.hub(tenant), self.options.pending_len_max);
        let make = || Account::new(self.broker.clone(), tenant, hub, len_max);
        self.accounts.write().entry(tenant.into()).or_insert_with(make).clone()
    }

    /// The accounts that somebody used, and the one that everybody is in by default.
    pub(crate) fn accounts(&self) -> Vec<Arc<Account>> {
        self.account("public");
        self.accounts.read().values().cloned().collect()
    }

    /// A seed for a session's own choices.
    pub(crate) fn seed(&self) -> u64 {
        self.broker.env().random.u64()
    }

    /// Whether connections are let in without a user: while there is none, the binary listens on loopback alone, or was
    /// told to be open.
    pub(crate) fn lets_anyone_in(&self) -> bool {
        !self.broker.users().any()
    }

    /// What the owner of a key signs on connection `id`; `None` while no user has one.
    pub(crate) fn nonce(&self, id: u64) -> Option<String> {
        self.broker.users().any_public_key().then(|| nkey::nonce(&self.nonce_key, id))
    }

    /// Whom a CONNECT on connection `id` speaks for; `None` when it may not come in.
    pub(crate) async fn authenticate(&self, id: u64, connect: &Connect) -> Option<Principal> {
        if self.lets_anyone_in() {
            return Some(Principal::anonymous());
        }
        if let Some(key) = connect.nkey.as_deref().filter(|key| !key.is_empty()) {
            let nonce = nkey::nonce(&self.nonce_key, id);
            let is_signed = nkey::is_signed(key, &nonce, connect.sig.as_deref()?);
            return is_signed.then(|| self.broker.users().identified(Identity::PublicKey(key)))?;
        }
        if let Some(token) = connect.auth_token.as_deref().filter(|token| !token.is_empty()) {
            return self.broker.users().identified(Identity::Token(token));
        }
        let (user, password) = (connect.user.as_deref()?, connect.pass.as_deref()?);
        self.broker.users().authenticate(user, password).await.ok()
    }

    /// The first line of a connection whose TLS begins after it, as it does with the original, and the number under which
    /// the connection is then served.
    pub fn greeting(&self, info: &ConnectionInfo) -> (u64, String) {
        let id = self.next_client_id.fetch_add(1, Relaxed);
        (id, info_line(self, info, id, &News::default()))
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
        let id = info.greeted.unwrap_or_else(|| self.next_client_id.fetch_add(1, Relaxed));
        let client = Arc::new(Client::new(id, self.options.pending_len_max, self.pending.clone()));
        self.registry.enter(&client, &info, self.broker.env().clock.wall_ms());
        let session = Session::new(self.clone(), info, client.clone());
        let end = connection::run(stream, &self, session, &client, shutdown).await;
        self.registry.leave(&client, end);
        match end {
            End::Gone | End::Shutdown => {}
            End::Closed(Ending::Told(why) | Ending::Silent(why)) => debug!(%peer, why, "closed"),
            End::Stale => debug!(%peer, "closed: stale"),
            End::Slow => debug!(%peer, "closed: slow consumer"),
        }
    }
}

/// An id of the shape that clients expect: `N` and 55 letters and digits of Base32.
fn server_id(random: u128) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let letter = |at: u32| {
        let bits = random.rotate_right(at * 5) ^ u128::from(at);
        char::from(ALPHABET[(bits % 32) as usize])
    };
    std::iter::once('N').chain((0..55).map(letter)).collect()
}
