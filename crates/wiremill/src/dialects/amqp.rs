//! AMQP 0-9-1 on its listener.

use std::{sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use tokio::sync::watch;

use super::Shared;
use crate::listeners::{
    Connection, Dialect, Io, Serving,
    certificate::{self, NameOf},
};

struct Amqp {
    server: Arc<amqp::Server>,
    login_from: NameOf,
}

/// The dialect, as the settings have it.
pub(super) fn dialect(shared: &Shared<'_>) -> Arc<dyn Dialect> {
    let options = amqp::Options {
        message_len_max: shared.settings.amqp_max_message_len,
        vhosts: shared.settings.amqp_vhosts.clone(),
        consumer_timeout: Duration::from_millis(shared.settings.amqp_consumer_timeout_ms),
        ..amqp::Options::default()
    };
    let login_from = shared.settings.amqp_login_from;
    Arc::new(Amqp { server: amqp::Server::new(shared.broker.clone(), options), login_from })
}

impl Dialect for Amqp {
    fn serve(&self, io: Io, connection: Connection, shutdown: watch::Receiver<bool>) -> Serving {
        let name = |certificate: &CertificateDer<'_>| certificate::name(certificate, self.login_from);
        let certified = connection.certificate.as_ref().and_then(name);
        let info = amqp::ConnectionInfo { peer: connection.peer, certified };
        Box::pin(self.server.clone().serve_connection(io, info, shutdown))
    }
}
