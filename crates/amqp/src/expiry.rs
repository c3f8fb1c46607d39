//! `x-expires`: queues that nobody uses are deleted.
//!
//! A queue is in use while it has consumers; a declaration, a get (or what other dialects have for that) and the departure of
//! its last consumer begin its time anew. After a restart the time begins with the start.

use std::{
    collections::BTreeMap,
    sync::{Arc, Weak},
};

use broker::{Next, Signal, Worker};
use model::{Namespace, StreamId};
use parking_lot::Mutex;

use crate::{
    dead_letters::vhost_name,
    server::Server,
    vhost::{Vhost, queue::Queue},
};

/// Queues looked at in one step.
const STEP_COUNT: usize = 1_000;

/// When a queue is looked at again that could not be looked at or deleted, nanoseconds.
const RETRY_NS: u64 = 1_000_000_000;

/// A queue that expires.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    namespace: Namespace,
    name: Arc<str>,
    stream: StreamId,
}

/// The queues that expire and had no consumers when they were looked at last, each once. Only those are looked at that may
/// have expired: use makes it later, and is found out about then.
#[derive(Default)]
pub(crate) struct Expiry {
    signal: Signal,
    /// By the time from which on they may have expired, monotonic nanoseconds.
    entries: Mutex<BTreeMap<(u64, StreamId), Entry>>,
}

impl Expiry {
    /// A queue may have expired at `due_ns`, the monotonic clock's. `namespace` is its virtual host's.
    pub(crate) fn watch(&self, namespace: &Namespace, queue: &Queue, due_ns: u64) {
        let entry =
            Entry { namespace: namespace.clone(), name: queue.name.clone(), stream: queue.stream.id() };
        if self.put(entry, due_ns) {
            self.signal.raise();
        }
    }

    /// Time has passed of which nothing told.
    #[cfg(test)]
    pub(crate) fn look(&self) {
        self.signal.raise();
    }

    /// Whether it is the first of all.
    fn put(&self, entry: Entry, due_ns: u64) -> bool {
        let mut entries = self.entries.lock();
        let is_first = entries.first_key_value().is_none_or(|((first, _), _)| due_ns < *first);
        entries.insert((due_ns, entry.stream), entry);
        is_first
    }

    /// Takes out the first that is due. Without one, when the next is.
    fn take_due(&self, now_ns: u64) -> Result<Entry, Option<u64>> {
        let mut entries = self.entries.lock();
        match entries.first_entry() {
            Some(first) if first.key().0 <= now_ns => Ok(first.remove()),
            first => Err(first.map(|first| first.key().0)),
        }
    }
}

/// Starts the worker of `server`, with the queues that were there before.
pub(crate) fn start(server: &Arc<Server>) {
    for stream in server.broker.all_streams() {
        if !stream.settings().extras.contains_key(crate::vhost::queue::EXPIRES) {
            continue;
        }
        let namespace = &stream.key().namespace;
        let vhost = server.vhosts.of(&server.broker, vhost_name(namespace), namespace.clone());
        if let Err(error) = vhost.find_queue(&stream.key().name) {
            tracing::error!(queue = %stream.key().name, %error, "a queue that expires cannot be watched");
        }
    }
    let worker = Sweeper { server: Arc::downgrade(server) };
    let signal = server.vhosts.expiry.signal.clone();
    server.broker.env().spawn.worker("wm-amqp-expiry", signal, Box::new(worker));
}

struct Sweeper {
    server: Weak<Server>,
}

impl Worker for Sweeper {
    fn step(&mut self) -> Next {
        let Some(server) = self.server.upgrade() else { return Next::Done };
        let expiry = &server.vhosts.expiry;
        let now_ns = server.broker.env().clock.mono_ns();
        for _ in 0..STEP_COUNT {
            let entry = match expiry.take_due(now_ns) {
                Ok(entry) => entry,
                Err(Some(due_ns)) => return Next::ParkUntil(due_ns),
                Err(None) => return Next::Park,
            };
            if let Some(due_ns) = look(&server, &entry, now_ns) {
                expiry.put(entry, due_ns);
            }
        }
        Next::Again
    }
}

/// Looks at a queue that may have expired. When it may have next; `None` where it is gone, or in use: its time begins when
/// its last consumer leaves.
fn look(server: &Server, entry: &Entry, now_ns: u64) -> Option<u64> {
    let vhost: Arc<Vhost> =
        server.vhosts.of(&server.broker, vhost_name(&entry.namespace), entry.namespace.clone());
    let queue = match vhost.find_queue(&entry.name) {
        Ok(queue) => queue.filter(|queue| queue.stream.id() == entry.stream)?,
        Err(error) => {
            tracing::warn!(queue = %entry.name, %error, "a queue that expires could not be looked at");
            return Some(now_ns.saturating_add(RETRY_NS));
        }
    };
    let expires_ms = queue.arguments.expires_ms?;
    // Gone since: nobody asks any more.
    let asked_ago_ms = queue.work.asked_ago_ms().unwrap_or_default();
    let due_ns = {
        let mut users = queue.users.lock();
        if users.consumers > 0 {
            users.is_watched = false;
            return None;
        }
        let asked_ns = |ago_ms: u64| now_ns.saturating_sub(ago_ms.saturating_mul(1_000_000));
        let used_ns = users.used_ns.max(asked_ago_ms.map_or(0, asked_ns));
        used_ns.saturating_add(expires_ms.saturating_mul(1_000_000))
    };
    if due_ns > now_ns {
        return Some(due_ns);
    }
    match vhost.drop_queue(&queue) {
        Ok(_) => None,
        Err(error) => {
            tracing::warn!(queue = %queue.name, %error, "a queue that nobody uses could not be deleted");
            Some(now_ns.saturating_add(RETRY_NS))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_may_have_expired_is_looked_at_the_first_of_it_first() {
        let expiry = Expiry::default();
        let entry = |number: u128| Entry {
            namespace: Namespace::default(),
            name: format!("q{number}").into(),
            stream: StreamId(number),
        };
        assert_eq!(expiry.take_due(100), Err(None));
        assert!(expiry.put(entry(1), 20));
        assert!(!expiry.put(entry(2), 30));
        assert!(expiry.put(entry(3), 10));
        assert!(!expiry.put(entry(4), 10));
        assert_eq!(expiry.take_due(9), Err(Some(10)));
        assert_eq!(expiry.take_due(20), Ok(entry(3)));
        assert_eq!(expiry.take_due(20), Ok(entry(4)));
        assert_eq!(expiry.take_due(20), Ok(entry(1)));
        assert_eq!(expiry.take_due(20), Err(Some(30)));
    }
}
