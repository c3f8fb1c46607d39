//! Records of other dialects that enter an exchange by a route: they spread by its bindings as if published there.

use std::sync::Arc;

use broker::routing::{Address, Entered, Hop, Reached, explain};
use bytes::Bytes;
use model::{Error, Header, StreamKey};

use super::{Vhost, binding::Target, routing::Headers};
use crate::error::Result;

/// Longest routing key, bytes.
pub(crate) const KEY_LEN_MAX: usize = 255;

/// To a queue, or to another exchange.
type Next = Hop<Arc<str>, Arc<str>>;

impl Vhost {
    /// Whether there is such an exchange.
    pub(crate) fn has_exchange(&self, name: &str) -> bool {
        self.topology.read().exchanges.contains_key(name)
    }

    /// The queues that get what enters at `address`; `None` without its exchange.
    pub(crate) fn enter(&self, address: &Address, headers: Option<&[Header]>) -> Result<Option<Entered>> {
        let exchange = address.scope.as_deref().unwrap_or_default();
        if !self.has_exchange(exchange) || address.name.len() > KEY_LEN_MAX {
            return Ok(None);
        }
        let known = headers.map_or(Headers::Unknown, Headers::Read);
        let mut leads_on = |exchange: &str, key: &[u8]| !self.routed(exchange, key).is_empty();
        let found = self.topology.read().targets(exchange, &[&address.name], known, &mut leads_on);
        if !found.is_by_key && headers.is_none() {
            return Ok(Some(Entered { needs_headers: true, ..Entered::default() }));
        }
        let queues = self.queues_of(&found.queues)?;
        let streams = queues.iter().map(|queue| (queue.stream.clone(), address.name.clone()));
        let further = found.through.into_iter().skip(1);
        let reached = further.map(|name| Address { scope: Some(name), ..address.clone() });
        Ok(Some(Entered { streams: streams.collect(), reached: reached.collect(), ..Entered::default() }))
    }

    /// The queues that a message without headers would reach, each with the bindings on its way; for people.
    pub(crate) fn explain(&self, exchange: &str, key: &Bytes) -> model::Result<Vec<Reached>> {
        let topology = self.topology.read();
        if !topology.exchanges.contains_key(exchange) {
            return Err(Error::not_found(format!("there is no exchange {exchange:?}")));
        }
        let start: Arc<str> = exchange.into();
        let mut skipped = Vec::new();
        let ways = explain(start, |name, hops: &mut Vec<(String, Next)>| {
            if name.is_empty() {
                let queue = String::from_utf8_lossy(key).into_owned();
                hops.push(("the default exchange, by the queue's name".into(), Hop::Target(queue.into())));
                return;
            }
            let Some(exchange) = topology.exchanges.get(name) else { return };
            for (rule, binding) in exchange.routes.explain(key, &[]) {
                let kind = exchange.spec.kind.name();
                let why = format!(
                    "binding {:?} of the {kind} exchange {name} ({rule})",
                    text(&binding.routing_key)
                );
                hops.push(match &binding.target {
                    Target::Queue(queue) => (why, Hop::Target(queue.clone())),
                    Target::Exchange(to) => (why, Hop::Onward(to.clone())),
                });
            }
            if exchange.routes.needs_headers() {
                skipped.push(name.clone());
            }
            if hops.is_empty()
                && self.routed(name, key).is_empty()
                && let Some(alternate) = &exchange.alternate
            {
                hops.push((format!("alternate exchange of {name}"), Hop::Onward(alternate.clone())));
            }
        });
        let mut all = Vec::new();
        for way in ways {
            let steps: Vec<String> = way.steps.into_iter().map(|(_, why)| why).collect();
            let stream = StreamKey::queue(&self.namespace, &way.target);
            if self.broker.stream(&stream).is_some() {
                all.push(Reached { stream: Some(stream), who: None, why: steps.join(", then ") });
            }
        }
        all.extend(skipped.into_iter().map(|name| Reached {
            stream: None,
            who: Some("by headers".into()),
            why: format!("exchange {name} has bindings that look at the headers of each message"),
        }));
        Ok(all)
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}
