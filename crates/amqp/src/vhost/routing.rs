//! Which queues a message goes to.

use std::sync::Arc;

use broker::routing::{Hop, expand};
use model::Header;

use super::{Topology, Vhost, binding::Target, queue::Queue};
use crate::{codec::Table, error::Result, intake::BATCH_COUNT, message::canonical, schedule};

/// Headers of one message that a binding may look at.
const HEADERS_MAX: usize = 10_000;

/// Where messages of one exchange and key go.
pub(crate) struct Resolved {
    pub queues: Box<[Arc<Queue>]>,
    /// Whether one of them holds messages until their time.
    pub has_schedule: bool,
    /// Messages of one batch: where a queue refuses what is too much, each stands for itself.
    pub batch_count_max: u32,
    /// Whether it depends on exchange and key alone.
    pub is_by_key: bool,
}

impl Resolved {
    /// No queue at all.
    pub(crate) fn nowhere() -> Self {
        Resolved::of(Vec::new(), false)
    }

    pub(crate) fn of(queues: Vec<Arc<Queue>>, is_by_key: bool) -> Self {
        let has_schedule = queues.iter().any(|queue| queue.is_schedule);
        let refuses = |queue: &Arc<Queue>| queue.stream.settings().overflow == broker::Overflow::Refuse;
        let batch_count_max = if queues.iter().any(refuses) { 1 } else { BATCH_COUNT };
        Resolved { queues: queues.into(), has_schedule, batch_count_max, is_by_key }
    }

    /// Those that hold messages until their time, and the others.
    pub(crate) fn split(&self) -> (Self, Self) {
        let (later, now) = self.queues.iter().cloned().partition(|queue| queue.is_schedule);
        (Resolved::of(later, false), Resolved::of(now, false))
    }
}

impl Topology {
    /// The names of the queues that get a message published to `exchange` under any of `keys`, each once.
    fn targets(&self, exchange: &str, keys: &[&[u8]], headers: Table<'_>) -> (Vec<Arc<str>>, bool) {
        let mut is_by_key = true;
        let mut read: Option<Vec<Header>> = None;
        let start: Arc<str> = exchange.into();
        let expansion = expand(start, |name, hops: &mut Vec<Hop<Arc<str>, Arc<str>>>| {
            if name.is_empty() {
                let names = keys.iter().filter_map(|key| std::str::from_utf8(key).ok());
                let queues = names.filter(|name| !schedule::is_schedule(name));
                hops.extend(queues.map(|name| Hop::Target(name.into())));
                return;
            }
            let Some(exchange) = self.exchanges.get(name) else { return };
            if exchange.spec.is_delayed {
                is_by_key = false;
                if schedule::delay_ms(headers).is_some() {
                    return hops.push(Hop::Target(schedule::of_exchange(name).into()));
                }
            }
            let by_headers = exchange.routes.needs_headers();
            is_by_key &= !by_headers;
            let headers: &[Header] = match by_headers {
                true => read.get_or_insert_with(|| headers_of(headers)),
                false => &[],
            };
            for key in keys {
                exchange.routes.targets(key, headers, |binding| {
                    hops.push(match &binding.target {
                        Target::Queue(queue) => Hop::Target(queue.clone()),
                        Target::Exchange(exchange) => Hop::Onward(exchange.clone()),
                    });
                });
            }
            if hops.is_empty() {
                hops.extend(exchange.alternate.clone().map(Hop::Onward));
            }
        });
        (expansion.targets, is_by_key)
    }
}

fn headers_of(table: Table<'_>) -> Vec<Header> {
    let mut room = HEADERS_MAX;
    let fields = table.fields().take(HEADERS_MAX);
    fields
        .map(|(name, value)| Header {
            name: String::from_utf8_lossy(name).into_owned(),
            value: canonical(value, &mut room),
        })
        .collect()
}

impl Vhost {
    /// The queues that get a message. An exchange that is not there has none.
    pub(crate) fn resolve(&self, exchange: &str, keys: &[&[u8]], headers: Table<'_>) -> Result<Resolved> {
        let (names, is_by_key) = self.topology.read().targets(exchange, keys, headers);
        let mut queues = Vec::with_capacity(names.len());
        for name in names {
            queues.extend(self.find_any_queue(&name)?);
        }
        Ok(Resolved::of(queues, is_by_key && keys.len() == 1))
    }
}
