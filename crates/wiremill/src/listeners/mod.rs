//! Listeners: binding, accepting, TLS, and handing each connection to its dialect.
//!
//! A dialect plugs in through [`Dialect`]: one call per connection, with the bytes already decrypted. How many
//! connections there may be, handshakes and shutdown are settled here, the same for all.

mod accept;
mod bind;
pub mod certificate;
mod io;
mod name;
pub mod tls;

use std::{future::Future, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

pub use accept::{Acceptor, run};
pub use bind::{Bound, bind};
pub use io::Io;
pub use name::ListenerName;

use crate::settings::Advertised;

/// What is known of a connection before its first byte is read.
#[derive(Clone, Debug)]
pub struct Connection {
    /// The client's address.
    pub peer: SocketAddr,
    /// The address that the client connected to.
    pub local: SocketAddr,
    /// What clients are to be told instead of `local`, if configured.
    pub advertised: Option<Arc<Advertised>>,
    /// The number of the greeting that went out before TLS began, if one did.
    pub greeted: Option<u64>,
    /// The client's certificate, where one was wanted and verified.
    pub certificate: Option<CertificateDer<'static>>,
}

/// What a server says in the clear before TLS begins.
pub struct Greeting {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Tells the dialect which greeting it was, when it takes the connection over.
    pub number: u64,
}

/// Serves one connection until it is done. Ends soon after `shutdown` turns true, having said goodbye.
pub type Serving = Pin<Box<dyn Future<Output = ()> + Send>>;

/// One protocol family behind a listener.
pub trait Dialect: Send + Sync + 'static {
    /// What is said on a TLS listener before the handshake; most protocols begin with the handshake itself.
    fn greeting(&self, _connection: &Connection) -> Option<Greeting> {
        None
    }

    /// How long a client on a TLS listener has to begin the handshake before it is greeted in the clear; one that began
    /// is not greeted.
    fn greets_after(&self) -> Duration {
        Duration::ZERO
    }

    /// Takes over one connection.
    fn serve(&self, io: Io, connection: Connection, shutdown: watch::Receiver<bool>) -> Serving;
}
