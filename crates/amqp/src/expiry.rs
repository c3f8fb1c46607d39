//! `x-expires`: queues that nobody uses are deleted.
//!
//! A queue is in use while it has consumers; a declaration, a get and the departure of its last consumer begin its time
//! anew. After a restart the time begins with the start.

use std::sync::{Arc, Weak};

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

/// A queue that expires.
#[derive(Clone)]
struct Entry {
    namespace: Namespace,
    name: Arc<str>,
    stream: StreamId,
}

/// The queues that expire.
#[derive(Default)]
pub(crate) struct Expiry {
    signal: Signal,
    entries: Mutex<Vec<Entry>>,
}

impl Expiry {
    /// A queue expires when it is not used. `namespace` is its virtual host's.
    pub(crate) fn watch(&self, namespace: &Namespace, queue: &Queue) {
        let entry =
            Entry { namespace: namespace.clone(), name: queue.name.clone(), stream: queue.stream.id() };
        self.entries.lock().push(entry);
        self.signal.raise();
    }

    /// A queue's time begins.
    pub(crate) fn look(&self) {
        self.signal.raise();
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
    let worker = Sweeper { server: Arc::downgrade(server), at: 0, next_ns: u64::MAX };
    let signal = server.vhosts.expiry.signal.clone();
    server.broker.env().spawn.worker("wm-amqp-expiry", signal, Box::new(worker));
}

struct Sweeper {
    server: Weak<Server>,
    /// Where the round under way goes on.
    at: usize,
    /// When the first queue of the round is due.
    next_ns: u64,
}

/// What became of a queue that was looked at.
enum Looked {
    /// It is gone.
    Gone,
    /// It is in use: its time has not begun.
    InUse,
    /// It is due at this time.
    DueAt(u64),
}

impl Worker for Sweeper {
    fn step(&mut self) -> Next {
        let Some(server) = self.server.upgrade() else { return Next::Done };
        let expiry = server.vhosts.expiry.clone();
        let now_ns = server.broker.env().clock.mono_ns();
        for _ in 0..STEP_COUNT {
            let Some(entry) = expiry.entries.lock().get(self.at).cloned() else {
                self.at = 0;
                let next_ns = std::mem::replace(&mut self.next_ns, u64::MAX);
                return if next_ns == u64::MAX { Next::Park } else { Next::ParkUntil(next_ns) };
            };
            match look(&server, &entry, now_ns) {
                Looked::Gone => {
                    expiry.entries.lock().swap_remove(self.at);
                }
                Looked::InUse => self.at += 1,
                Looked::DueAt(due_ns) => {
                    self.next_ns = self.next_ns.min(due_ns);
                    self.at += 1;
                }
            }
        }
        Next::Again
    }
}

fn look(server: &Server, entry: &Entry, now_ns: u64) -> Looked {
    let vhost: Arc<Vhost> =
        server.vhosts.of(&server.broker, vhost_name(&entry.namespace), entry.namespace.clone());
    let Ok(Some(queue)) = vhost.find_queue(&entry.name) else { return Looked::Gone };
    let Some(expires_ms) = queue.arguments.expires_ms.filter(|_| queue.stream.id() == entry.stream) else {
        return Looked::Gone;
    };
    let due_ns = {
        let users = queue.users.lock();
        if users.consumers > 0 {
            return Looked::InUse;
        }
        users.used_ns.saturating_add(expires_ms.saturating_mul(1_000_000))
    };
    if due_ns > now_ns {
        return Looked::DueAt(due_ns);
    }
    match vhost.drop_queue(&queue) {
        Ok(_) => Looked::Gone,
        Err(error) => {
            tracing::warn!(queue = %queue.name, %error, "a queue that nobody uses could not be deleted");
            Looked::DueAt(now_ns.saturating_add(1_000_000_000))
        }
    }
}
