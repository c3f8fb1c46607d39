//! Exchanges as addresses of routes, written `amqp:EXCHANGE/KEY`: records of other dialects enter at them.
//!
//! What a consumer is told of a message (exchange, key, properties) is made when the record enters, so it is stored as
//! this dialect stores its own; a message of this dialect keeps its properties and body byte for byte.

use std::sync::{Arc, Weak};

use broker::{
    Durability, NewBatch,
    routing::{Address, Addresses, Entered, Entering, Laying, Reached},
};
use bytes::Bytes;
use model::{Attributes, Error, Namespace, Record, RecordAttributes, Result};

use crate::{
    dead_letters::vhost_name,
    error::Exception,
    message::{FORMAT, Place, Stored, find, properties_of},
    schedule,
    server::Server,
    vhost::{Vhost, entering::KEY_LEN_MAX},
};

/// The exchanges of every virtual host.
pub(crate) struct Exchanges {
    server: Weak<Server>,
}

impl Exchanges {
    pub(crate) fn new(server: &Arc<Server>) -> Arc<Self> {
        Arc::new(Exchanges { server: Arc::downgrade(server) })
    }

    fn vhost(&self, namespace: &Namespace) -> Result<Arc<Vhost>> {
        let server = self.server.upgrade().ok_or_else(|| Error::unavailable("the dialect stops"))?;
        Ok(server.vhosts.of(&server.broker, vhost_name(namespace), namespace.clone()))
    }
}

fn internal(exception: Exception) -> Error {
    Error::internal(exception.to_string())
}

impl Addresses for Exchanges {
    fn is_scoped(&self) -> bool {
        true
    }

    fn check(&self, namespace: &Namespace, scope: Option<&str>, template: &str) -> Result<()> {
        let exchange = scope.unwrap_or_default();
        if template.len() > KEY_LEN_MAX {
            return Err(Error::invalid(format!("a routing key has at most {KEY_LEN_MAX} bytes")));
        }
        match self.vhost(namespace)?.has_exchange(exchange) {
            true => Ok(()),
            false => Err(Error::not_found(format!("there is no exchange {exchange:?}"))),
        }
    }

    fn enter(&self, entering: &Entering<'_>) -> Result<Option<Entered>> {
        let vhost = self.vhost(&entering.address.namespace)?;
        vhost.enter(entering.address, entering.headers).map_err(internal)
    }

    fn lay(&self, laying: &Laying<'_>) -> Result<Option<NewBatch>> {
        let vhost = self.vhost(&laying.stream.key().namespace)?;
        let queue = vhost.find_any_queue(&laying.stream.key().name).map_err(internal)?;
        let is_schedule = queue.as_ref().is_some_and(|queue| queue.is_schedule);
        let queue = queue.filter(|_| !is_schedule);
        let now_ms = vhost.broker.env().clock.wall_ms();
        let (mut body, mut attributes) = (Vec::new(), Vec::with_capacity(laying.rows.len()));
        let mut place = Place::default();
        let mut is_transient = true;
        for (number, (index, address, routing_key)) in (0..).zip(laying.rows) {
            let to = (address.scope.as_deref().unwrap_or_default().as_bytes(), &routing_key[..]);
            let mut row = if laying.batch.format == FORMAT {
                let (own, _) = find(&laying.batch.body, *index, &mut place)?
                    .ok_or_else(|| Error::corrupt("a stored message is missing"))?;
                is_transient &= !own.read_properties().is_persistent();
                own_row(own, to, number, now_ms, &mut body)
            } else {
                is_transient = false;
                foreign_row(laying.record(*index)?, to, number, &mut body)
            };
            row.priority = queue.as_ref().and_then(|queue| queue.arguments.level(row.priority));
            if is_schedule {
                let delay_ms = schedule::delay_of(&laying.record(*index)?.headers);
                row = RecordAttributes {
                    deliver_at_ms: delay_ms.map(|delay_ms| now_ms.saturating_add_unsigned(delay_ms)),
                    body_len: row.body_len,
                    ..RecordAttributes::default()
                };
            }
            attributes.push(row);
        }
        Ok(Some(NewBatch {
            count: u32::try_from(attributes.len()).unwrap_or(u32::MAX),
            format: FORMAT,
            attributes: Attributes::Rows(attributes.into()),
            body: body.into(),
            // What waits for its time survives a restart, whatever it is then.
            durability: (is_transient && !is_schedule).then_some(Durability::Memory),
            ..NewBatch::default()
        }))
    }

    /// Consumers have queues: nobody is served on the spot.
    fn serve(&self, _: &Namespace, _: &[(Bytes, Record)]) {}

    fn explain(&self, address: &Address) -> Result<Vec<Reached>> {
        let exchange = address.scope.as_deref().unwrap_or_default();
        self.vhost(&address.namespace)?.explain(exchange, &address.name)
    }
}

fn own_row(
    own: Stored<'_>,
    (exchange, routing_key): (&[u8], &[u8]),
    index: u32,
    now_ms: i64,
    body: &mut Vec<u8>,
) -> RecordAttributes {
    let stored = Stored { exchange, routing_key, ..own };
    stored.put(index, body);
    stored.attributes(now_ms)
}

fn foreign_row(
    record: &Record,
    (exchange, routing_key): (&[u8], &[u8]),
    index: u32,
    out: &mut Vec<u8>,
) -> RecordAttributes {
    let (properties, body) = (properties_of(record), record.body.as_deref().unwrap_or_default());
    Stored { exchange, routing_key, properties: &properties, body }.put(index, out);
    RecordAttributes {
        route_key: Some(Bytes::copy_from_slice(routing_key)),
        record_key: record.key.clone(),
        priority: record.priority,
        expiry_ms: record.expiry_ms,
        body_len: Some(u32::try_from(body.len()).unwrap_or(u32::MAX)),
        ..RecordAttributes::default()
    }
}
