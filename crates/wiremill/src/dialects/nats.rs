//! NATS on its listener.

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;

use super::Shared;
use crate::{
    listeners::{Connection, Dialect, Greeting, Io, Serving},
    settings::{Replicas, TlsFirst},
};

struct Nats {
    server: Arc<nats::Server>,
    tls_first: TlsFirst,
}

/// How long `auto` waits for the handshake, as the original does.
const TLS_FIRST_LIMIT: Duration = Duration::from_millis(50);

/// How much of the memory budget may wait for clients: a quarter.
const PENDING_SHARE: u64 = 4;

/// The server, as the settings have it.
pub(super) fn server(shared: &Shared<'_>) -> Arc<nats::Server> {
    let pending_share = usize::try_from(shared.settings.memory_budget_len / PENDING_SHARE);
    let options = nats::Options {
        payload_len_max: shared.settings.nats_max_payload,
        pending_len_max: shared.settings.nats_max_pending,
        pending_total_len_max: pending_share.unwrap_or(usize::MAX).max(shared.settings.nats_max_pending),
        lame_duck_ms: shared.settings.nats_lame_duck_ms.min(shared.settings.shutdown_deadline_ms / 4 * 3),
        request_batch_max: shared.settings.nats_max_request_batch,
        accepts_replicas: shared.settings.single_node_replicas == Replicas::Accept,
        ..nats::Options::default()
    };
    nats::Server::new(shared.broker.clone(), options)
}

/// The dialect.
pub(super) fn dialect(server: Arc<nats::Server>, tls_first: TlsFirst) -> Arc<dyn Dialect> {
    Arc::new(Nats { server, tls_first })
}

impl Dialect for Nats {
    fn greeting(&self, connection: &Connection) -> Option<Greeting> {
        if self.tls_first == TlsFirst::Always {
            return None;
        }
        let (number, line) = self.server.greeting(&info_of(connection, true));
        Some(Greeting { bytes: line.into_bytes(), number })
    }

    fn greets_after(&self) -> Duration {
        if self.tls_first == TlsFirst::Auto { TLS_FIRST_LIMIT } else { Duration::ZERO }
    }

    fn serve(&self, io: Io, connection: Connection, shutdown: watch::Receiver<bool>) -> Serving {
        let info = info_of(&connection, matches!(io, Io::Tls(_)));
        Box::pin(self.server.clone().serve_connection(io, info, shutdown))
    }
}

fn info_of(connection: &Connection, is_tls: bool) -> nats::ConnectionInfo {
    nats::ConnectionInfo {
        peer: connection.peer,
        local: connection.local,
        advertised: connection.advertised.as_ref().map(|to| (to.host.clone(), to.port)),
        is_tls,
        greeted: connection.greeted,
    }
}
