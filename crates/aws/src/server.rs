//! What all connections share, and how one is served.

use std::{net::SocketAddr, sync::Arc};

use broker::Broker;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::watch,
};

use crate::{door, sigv4::SigningKeys, sqs};

/// Whether signatures are checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Auth {
    /// Never: a caller is whom its access key names, without proof.
    None,
    /// Once any user exists.
    #[default]
    Verify,
}

/// Settings of the dialect.
#[derive(Clone, Debug)]
pub struct Options {
    /// The region that is the space `default`, and that a request without a region is in.
    pub region: String,
    /// Whether signatures are checked.
    pub auth: Auth,
    /// Whether a queue that is sent to, received from or asked for is made when it is not there.
    pub auto_create_queues: bool,
    /// Whether AWS's rules of sixty seconds hold: one purge of a queue, and none of its name after a deletion.
    pub strict_timing: bool,
    /// Deliveries after which messages of a new queue without a redrive policy go to a queue `NAME.dlq`, which is made with
    /// it (its dot shown as SQS shows it); `None` = queues have no dead-letter queue unless they say so.
    pub default_dead_letter: Option<u32>,
}

impl Options {
    /// The space of a region.
    pub(crate) fn space<'a>(&self, region: &'a str) -> &'a str {
        if region == self.region { "default" } else { region }
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            region: "us-east-1".to_owned(),
            auth: Auth::default(),
            auto_create_queues: false,
            strict_timing: false,
            default_dead_letter: None,
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
    /// Host and port that queue URLs have, when configured; else those that the client asked for.
    pub advertised: Option<(String, u16)>,
    /// Whether it came through TLS, for the scheme of queue URLs.
    pub tls: bool,
}

/// The dialect's server: one for the process, whatever the number of its listeners.
pub struct Server {
    pub(crate) broker: Broker,
    pub(crate) options: Options,
    /// What the operations of SQS share.
    pub(crate) sqs: sqs::Service,
    /// Memory for the long bodies of all connections while they are read and handled.
    pub(crate) body_room: door::BodyRoom,
    pub(crate) signing_keys: SigningKeys,
    pub(crate) request_ids: door::RequestIds,
}

impl Server {
    /// The server over `broker`.
    pub fn new(broker: Broker, options: Options) -> Arc<Self> {
        let sqs = sqs::Service::new(&broker);
        let body_room = door::BodyRoom::new(broker.options().memory_budget_len);
        let request_ids = door::RequestIds::new(broker.env().random.u128());
        Arc::new(Server {
            broker,
            options,
            sqs,
            body_room,
            signing_keys: SigningKeys::default(),
            request_ids,
        })
    }

    /// Serves one connection until it ends.
    pub async fn serve_connection<S>(
        self: Arc<Self>,
        stream: S,
        info: ConnectionInfo,
        shutdown: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        door::serve(self, stream, info, shutdown).await;
    }
}
