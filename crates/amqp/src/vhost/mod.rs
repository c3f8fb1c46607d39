//! A virtual host: its exchanges, their bindings, and its queues. A virtual host is a namespace of the broker, a queue one
//! of its queues; exchanges and bindings are this dialect's own, kept as documents where they are durable.
//!
//! - [`exchange`] declares and deletes exchanges; [`binding`] binds and unbinds;
//! - [`routing`] says which queues a message goes to, [`entering`] what enters from other dialects;
//! - [`queue`] declares and deletes queues, [`arguments`] reads what they are declared with;
//! - [`stored`] is how exchanges and bindings lie in documents.

pub(crate) mod arguments;
pub(crate) mod binding;
pub(crate) mod entering;
pub(crate) mod exchange;
pub(crate) mod queue;
pub(crate) mod routing;
mod stored;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use broker::{Broker, Principal};
use model::{Namespace, StreamId};
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;

use crate::{expiry::Expiry, schedule};

use self::{
    binding::Target,
    exchange::{Exchange, predeclared},
    queue::Queue,
};

/// The virtual host that a client means by saying nothing else.
pub(crate) const DEFAULT: &str = "/";

/// Exchanges that one virtual host may have.
pub(crate) const EXCHANGES_MAX: usize = 100_000;

/// Bindings that one virtual host may have.
pub(crate) const BINDINGS_MAX: usize = 5_000_000;

/// What connections to one virtual host share.
pub(crate) struct Vhost {
    /// As clients call it.
    pub name: String,
    pub namespace: Namespace,
    pub broker: Broker,
    pub expiry: Arc<Expiry>,
    topology: RwLock<Topology>,
    /// Rises with every change of the topology: what a channel remembers of routes is current while it lasts.
    generation: AtomicU64,
    /// Queues that somebody uses, by name.
    queues: Mutex<HashMap<Arc<str>, Arc<Queue>>>,
    /// How many of them there may be before unused ones are looked for.
    pub handles_max: AtomicUsize,
    /// Queues that hold messages until their time and are served.
    pub schedules: Mutex<HashSet<StreamId>>,
    /// Where they are served.
    pub runtime: Option<Handle>,
}

#[derive(Default)]
pub(crate) struct Topology {
    exchanges: HashMap<Arc<str>, Exchange>,
    /// The exchanges that have bindings to a destination.
    sources: BTreeMap<Target, BTreeSet<Arc<str>>>,
    binding_count: usize,
}

impl Vhost {
    /// The virtual host with what is durable of it.
    fn load(broker: Broker, vhosts: &Vhosts, name: &str, namespace: Namespace) -> Arc<Self> {
        let mut topology = Topology::default();
        for (name, exchange) in predeclared() {
            topology.exchanges.insert(name.into(), exchange);
        }
        stored::load(&broker, &namespace, &mut topology);
        let vhost = Arc::new(Vhost {
            name: name.to_owned(),
            namespace,
            broker,
            expiry: vhosts.expiry.clone(),
            topology: RwLock::new(topology),
            generation: AtomicU64::new(1),
            queues: Mutex::default(),
            handles_max: AtomicUsize::new(queue::HANDLES_MAX),
            schedules: Mutex::default(),
            runtime: vhosts.runtime.clone(),
        });
        schedule::resume(&vhost);
        vhost
    }

    /// How many handles of queues there are.
    #[cfg(test)]
    pub(crate) fn handle_count(&self) -> usize {
        self.queues.lock().len()
    }

    /// Changes with every change of exchanges, bindings, routes or streams.
    pub(crate) fn generation(&self) -> (u64, u64) {
        let elsewhere = self.broker.catalog_generation() + self.broker.routes_generation();
        (self.generation.load(Ordering::Acquire), elsewhere)
    }

    /// To be called while the topology is locked, so that nobody keeps what is old under the new number.
    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// The namespace that a virtual host is, for a client of that tenant.
pub(crate) fn namespace_of(principal: &Principal, name: &str) -> Namespace {
    Namespace::new(&principal.tenant, if name == DEFAULT { "default" } else { name })
}

/// Every virtual host that somebody has connected to.
pub(crate) struct Vhosts {
    /// Queues of all of them that expire.
    pub expiry: Arc<Expiry>,
    /// Where their background work runs: with the server.
    runtime: Option<Handle>,
    by_namespace: Mutex<HashMap<Namespace, Arc<Vhost>>>,
}

impl Default for Vhosts {
    fn default() -> Self {
        let runtime = Handle::try_current().ok();
        Vhosts { expiry: Arc::default(), runtime, by_namespace: Mutex::default() }
    }
}

impl Vhosts {
    /// The virtual host of that namespace. Reads what is stored of it when it is asked for the first time.
    pub(crate) fn of(&self, broker: &Broker, name: &str, namespace: Namespace) -> Arc<Vhost> {
        let mut known = self.by_namespace.lock();
        let load = || Vhost::load(broker.clone(), self, name, namespace.clone());
        known.entry(namespace.clone()).or_insert_with(load).clone()
    }
}
