//! AMQP 0-9-1 on its listener.

use std::sync::Arc;

use tokio::sync::watch;

use super::Shared;
use crate::listeners::{Connection, Dialect, Io, Serving};

struct Amqp {
    server: Arc<amqp::Server>,
}

/// The dialect, as the settings have it.
pub(super) fn dialect(shared: &Shared<'_>) -> Arc<dyn Dialect> {
    let options = amqp::Options {
        message_len_max: shared.settings.amqp_max_message_len,
        vhosts: shared.settings.amqp_vhosts.clone(),
        ..amqp::Options::default()
    };
    Arc::new(Amqp { server: amqp::Server::new(shared.broker.clone(), options) })
}

impl Dialect for Amqp {
    fn serve(&self, io: Io, connection: Connection, shutdown: watch::Receiver<bool>) -> Serving {
        let info = amqp::ConnectionInfo { peer: connection.peer };
        Box::pin(self.server.clone().serve_connection(io, info, shutdown))
    }
}
