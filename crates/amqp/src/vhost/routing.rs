//! Which queues a message goes to, and which routes it takes beside its bindings.

use std::{borrow::Cow, sync::Arc};

use broker::routing::{Hop, Routed, expand};
use model::{Header, HeaderValue};

use super::{Topology, Vhost, binding::Target, queue::Queue};
use crate::{
    codec::Table,
    dead_letters::DIALECT,
    error::Result,
    intake::BATCH_COUNT,
    message::{canonical, compared},
    schedule,
};

/// Headers of one message that a binding may look at.
const HEADERS_MAX: usize = 10_000;

/// Where messages of one exchange and key go.
pub(crate) struct Resolved {
    pub queues: Box<[Arc<Queue>]>,
    /// Where they go as well, by routes that people added.
    pub onward: Box<[Routed]>,
    /// Whether one of them holds messages until their time.
    pub has_schedule: bool,
    /// Whether one of them wants messages delivered at once or not at all.
    pub is_impatient: bool,
    /// Messages of one batch: where a queue refuses what is too much, each stands for itself.
    pub batch_count_max: u32,
    /// Whether it depends on exchange and key alone.
    pub is_by_key: bool,
}

impl Resolved {
    /// No queue at all.
    pub(crate) fn nowhere() -> Self {
        Resolved::of(Vec::new(), Box::default(), false)
    }

    pub(crate) fn of(queues: Vec<Arc<Queue>>, onward: Box<[Routed]>, is_by_key: bool) -> Self {
        let has_schedule = queues.iter().any(|queue| queue.is_schedule);
        let is_impatient = queues.iter().any(|queue| queue.arguments.message_ttl_ms == Some(0));
        let refuses = |queue: &Arc<Queue>| queue.stream.settings().overflow == broker::Overflow::Refuse;
        let is_one_by_one = queues.iter().any(refuses) || onward.iter().any(Routed::may_refuse);
        let batch_count_max = if is_one_by_one { 1 } else { BATCH_COUNT };
        Resolved { queues: queues.into(), onward, has_schedule, is_impatient, batch_count_max, is_by_key }
    }

    /// Those that hold messages until their time, and the others.
    pub(crate) fn split(&self) -> (Self, Self) {
        let (later, now) = self.queues.iter().cloned().partition(|queue| queue.is_schedule);
        (Resolved::of(later, Box::default(), false), Resolved::of(now, self.onward.clone(), false))
    }

    /// Whether nobody gets it.
    pub(crate) fn is_nowhere(&self) -> bool {
        self.queues.is_empty() && self.onward.is_empty()
    }
}

/// The headers of a message, as far as they are known.
#[derive(Clone, Copy)]
pub(crate) enum Headers<'a> {
    Sent(Table<'a>),
    Read(&'a [Header]),
    Unknown,
}

/// What a look at bindings came to.
pub(super) struct Found {
    /// The names of queues, each once.
    pub queues: Vec<Arc<str>>,
    /// The exchanges that the message came through, each once, the one that it was published to first.
    pub through: Vec<Arc<str>>,
    pub is_by_key: bool,
}

impl Topology {
    /// Where a message goes that is published to `exchange` under any of `keys`. `leads_on` says whether a route leads on
    /// from an exchange: it is as good as a binding.
    pub(super) fn targets(
        &self,
        exchange: &str,
        keys: &[&[u8]],
        headers: Headers<'_>,
        leads_on: &mut dyn FnMut(&str, &[u8]) -> bool,
    ) -> Found {
        let mut is_by_key = true;
        let mut read: Option<Cow<'_, [Header]>> = None;
        let mut through = Vec::new();
        let start: Arc<str> = exchange.into();
        let expansion = expand(start, usize::MAX, |name, hops: &mut Vec<Hop<Arc<str>, Arc<str>>>| {
            let known = self.exchanges.get(name);
            if name.is_empty() {
                through.push(name.clone());
                for key in keys {
                    leads_on(name, key);
                }
                let names = keys.iter().filter_map(|key| std::str::from_utf8(key).ok());
                let queues = names.filter(|name| !schedule::is_schedule(name));
                hops.extend(queues.map(|name| Hop::Target(name.into())));
                return;
            }
            let Some(exchange) = known else { return };
            if exchange.spec.is_delayed {
                is_by_key = false;
                let delay_ms = match headers {
                    Headers::Sent(table) => schedule::delay_ms(table),
                    Headers::Read(headers) => schedule::delay_of(headers),
                    Headers::Unknown => None,
                };
                if delay_ms.is_some() {
                    return hops.push(Hop::Target(schedule::of_exchange(name).into()));
                }
            }
            through.push(name.clone());
            let mut is_led_on = false;
            for key in keys {
                is_led_on |= leads_on(name, key);
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
            if hops.is_empty() && !is_led_on {
                hops.extend(exchange.alternate.clone().map(Hop::Onward));
            }
        });
        Found { queues: expansion.targets, through, is_by_key }
    }
}

fn headers_of(headers: Headers<'_>) -> Cow<'_, [Header]> {
    let table = match headers {
        Headers::Sent(table) => table,
        Headers::Read(headers) => {
            let is_bytes = |header: &Header| matches!(header.value, HeaderValue::Binary(_));
            if !headers.iter().any(is_bytes) {
                return Cow::Borrowed(headers);
            }
            let read =
                |header: &Header| Header { name: header.name.clone(), value: compared(header.value.clone()) };
            return headers.iter().map(read).collect();
        }
        Headers::Unknown => return Cow::Borrowed(&[]),
    };
    let mut room = HEADERS_MAX;
    let fields = table.fields().take(HEADERS_MAX);
    fields
        .map(|(name, value)| Header {
            name: String::from_utf8_lossy(name).into_owned(),
            value: compared(canonical(value, &mut room)),
        })
        .collect()
}

impl Vhost {
    /// Where a message goes. An exchange that is not there leads nowhere.
    pub(crate) fn resolve(&self, exchange: &str, keys: &[&[u8]], headers: Table<'_>) -> Result<Resolved> {
        loop {
            let (resolved, missing) = self.resolve_once(exchange, keys, headers)?;
            if missing.is_empty() {
                return Ok(resolved);
            }
            // Another dialect deleted them. Without their bindings an alternate exchange may apply.
            for queue in &missing {
                self.forget_queue(queue)?;
            }
        }
    }

    /// Where a message goes, and the queues that are not there although bindings lead to them.
    fn resolve_once(
        &self,
        exchange: &str,
        keys: &[&[u8]],
        headers: Table<'_>,
    ) -> Result<(Resolved, Vec<Arc<str>>)> {
        let mut onward = Vec::new();
        let mut leads_on = |exchange: &str, key: &[u8]| {
            let routed = self.routed(exchange, key);
            let is_any = !routed.is_empty();
            onward.extend(routed);
            is_any
        };
        let found = self.topology.read().targets(exchange, keys, Headers::Sent(headers), &mut leads_on);
        let queues = self.queues_of(&found.queues)?;
        let missing = match queues.len() < found.queues.len() {
            true => self.missing(&found.queues),
            false => Vec::new(),
        };
        let is_by_key = found.is_by_key && keys.len() == 1;
        Ok((Resolved::of(queues, onward.into(), is_by_key), missing))
    }

    /// Those of these queues that have bindings and are not there.
    fn missing(&self, queues: &[Arc<str>]) -> Vec<Arc<str>> {
        let topology = self.topology.read();
        let is_bound = |name: &&Arc<str>| topology.sources.contains_key(&Target::Queue(Arc::clone(name)));
        let bound = queues.iter().filter(is_bound);
        bound.filter(|name| self.stream(name).is_none()).cloned().collect()
    }

    pub(super) fn queues_of(&self, names: &[Arc<str>]) -> Result<Vec<Arc<Queue>>> {
        let mut queues = Vec::with_capacity(names.len());
        for name in names {
            queues.extend(self.find_any_queue(name)?);
        }
        Ok(queues)
    }

    /// The routes that people added from an exchange and a key.
    pub(super) fn routed(&self, exchange: &str, key: &[u8]) -> Vec<Routed> {
        match self.broker.routes_generation() {
            0 => Vec::new(),
            _ => self.broker.routed_in(&self.namespace, DIALECT, Some(exchange), key),
        }
    }
}
