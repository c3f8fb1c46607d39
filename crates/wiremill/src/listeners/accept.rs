//! The accept loop of one listener.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};
use tracing::{debug, warn};

use super::{Bound, Connection, Dialect, Io, ListenerName, tls::Tls};
use crate::{
    settings::Advertised,
    supervisor::{Class, Supervisor},
};

/// A client that has not finished its TLS handshake by then is not serious.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Out of file descriptors: accepting again at once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What one listener needs to turn sockets into sessions.
pub struct Acceptor {
    /// Who serves the connections.
    pub dialect: Arc<dyn Dialect>,
    /// Present on a TLS listener.
    pub tls: Option<Arc<Tls>>,
    /// Told to clients instead of the address that they used.
    pub advertised: Option<Arc<Advertised>>,
    /// Connections at a time.
    pub connections_max: usize,
    /// Where each connection's task is registered.
    pub supervisor: Supervisor,
    /// Turns true when the process ends.
    pub shutdown: watch::Receiver<bool>,
}

/// Accepts until shutdown; the socket is closed on return.
pub async fn run(bound: Bound, acceptor: Acceptor) {
    let Bound { name, socket, .. } = bound;
    let room = Arc::new(Semaphore::new(acceptor.connections_max.min(Semaphore::MAX_PERMITS)));
    let acceptor = Arc::new(acceptor);
    let mut shutdown = acceptor.shutdown.clone();
    let mut full = false;
    loop {
        let accepted = tokio::select! {
            accepted = next(&socket) => accepted,
            _ = shutdown.wait_for(|stop| *stop) => return,
        };
        let Some((stream, peer)) = accepted else { continue };
        match room.clone().try_acquire_owned() {
            Ok(permit) => {
                full = false;
                start(name, acceptor.clone(), stream, peer, permit);
            }
            Err(_) => {
                if !full {
                    warn!(listener = name.text(), %peer, "closed at once: connections_max is reached");
                }
                full = true;
            }
        }
    }
}

async fn next(socket: &TcpListener) -> Option<(TcpStream, SocketAddr)> {
    match socket.accept().await {
        Ok((stream, peer)) => Some((stream, canonical(peer))),
        Err(e) => {
            warn!(error = %e, "a connection could not be accepted");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            None
        }
    }
}

/// Who comes by IPv4 to a socket of both is seen with an address of IPv4, as other servers see it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn start(
    name: ListenerName,
    acceptor: Arc<Acceptor>,
    stream: TcpStream,
    peer: SocketAddr,
    permit: OwnedSemaphorePermit,
) {
    let supervisor = acceptor.supervisor.clone();
    supervisor.spawn(Class::Session, name.text(), async move {
        let _until_the_end = permit;
        let mut shutdown = acceptor.shutdown.clone();
        let opened = tokio::select! {
            opened = open(&acceptor, stream, peer) => opened,
            // Nothing was said on it yet.
            _ = shutdown.wait_for(|stop| *stop) => Err("the process ends".to_owned()),
        };
        match opened {
            Ok((io, connection)) => {
                acceptor.dialect.serve(io, connection, acceptor.shutdown.clone()).await;
            }
            Err(why) => debug!(listener = name.text(), %peer, why, "a connection was not opened"),
        }
    });
}

/// Whether the client sends something within `limit`.
async fn begins_within(stream: &TcpStream, limit: Duration) -> bool {
    !limit.is_zero() && matches!(timeout(limit, stream.peek(&mut [0])).await, Ok(Ok(1)))
}

async fn open(
    acceptor: &Acceptor,
    mut stream: TcpStream,
    peer: SocketAddr,
) -> Result<(Io, Connection), String> {
    stream.set_nodelay(true).map_err(|e| e.to_string())?;
    let local = canonical(stream.local_addr().map_err(|e| e.to_string())?);
    let advertised = acceptor.advertised.clone();
    let mut connection = Connection { peer, local, advertised, greeted: None, certificate: None };
    let Some(tls) = &acceptor.tls else { return Ok((Io::Plain(stream), connection)) };
    let has_begun = begins_within(&stream, acceptor.dialect.greets_after()).await;
    if !has_begun && let Some(greeting) = acceptor.dialect.greeting(&connection) {
        stream.write_all(&greeting.bytes).await.map_err(|e| e.to_string())?;
        connection.greeted = Some(greeting.number);
    }
    let handshake = timeout(HANDSHAKE_LIMIT, tls.acceptor().accept(stream)).await;
    let stream = handshake.map_err(|_| "the TLS handshake took too long")?.map_err(|e| e.to_string())?;
    // It is that of the client itself: the verifier has looked at the chain.
    let certificate = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
    connection.certificate = certificate.map(|own| own.clone().into_owned());
    Ok((Io::Tls(Box::new(stream)), connection))
}
