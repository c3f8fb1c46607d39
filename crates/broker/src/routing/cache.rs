//! What a publish asks of the routes: once for each address while nothing changes.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use bytes::Bytes;
use model::{Namespace, StreamKey};
use route::Template;

use super::{Address, Entrance, Target};
use crate::{Overflow, broker::Broker, stream::Stream};

/// Addresses whose targets one session keeps.
const CACHED_ADDRESSES_MAX: usize = 4_096;

/// One target of an address.
#[derive(Clone)]
pub struct Routed {
    /// Where it leads.
    pub to: Goal,
    /// The record key there; `None` = as the record has it.
    pub key: Option<Bytes>,
}

/// Where a publish goes along a route.
#[derive(Clone)]
pub enum Goal {
    /// Into a stream.
    Stream(Arc<Stream>),
    /// To an address, which is asked for each publish.
    Address(Arc<Approach>),
}

/// How an address is made for the records of a publish.
pub struct Approach {
    pub(super) entrance: Entrance,
    /// What was published to.
    pub(super) from: Address,
    /// The name, where it is the same for every record.
    fixed: Option<Bytes>,
}

impl Approach {
    fn new(entrance: Entrance, from: Address) -> Self {
        let fixed = (!entrance.name.needs_key()).then(|| entrance.name.apply(&from.name, None)).flatten();
        Approach { entrance, from, fixed }
    }

    pub(super) fn name(&self, key: Option<&[u8]>) -> Option<Bytes> {
        self.fixed.clone().or_else(|| self.template().apply(&self.from.name, key))
    }

    pub(super) fn template(&self) -> &Template {
        &self.entrance.name
    }
}

impl Routed {
    /// The stream that it is, unless it is an address.
    pub fn stream(&self) -> Option<&Arc<Stream>> {
        match &self.to {
            Goal::Stream(stream) => Some(stream),
            Goal::Address(_) => None,
        }
    }

    /// Whether records have to be published one by one, so that what one is refused for is its own.
    pub fn may_refuse(&self) -> bool {
        match &self.to {
            Goal::Stream(stream) => {
                let settings = stream.settings();
                settings.overflow != Overflow::DropOldest || settings.record_len_max.is_some()
            }
            Goal::Address(_) => true,
        }
    }

    /// The longest batch that it takes, bytes.
    pub fn batch_len_max(&self) -> usize {
        let max = self.stream().and_then(|stream| stream.settings().batch_len_max);
        max.map_or(usize::MAX, |max| max as usize)
    }
}

impl Broker {
    /// Where a publish to `address` of a dialect goes by routes that people added, each target once: of two routes to
    /// one, the older decides on the key. Streams that are gone are left out until they are made again.
    pub fn routed(&self, namespace: &Namespace, dialect: &str, address: &str) -> Vec<Routed> {
        self.routed_in(namespace, dialect, None, address.as_bytes())
    }

    /// The same in a dialect whose names lie in scopes.
    pub fn routed_in(
        &self,
        namespace: &Namespace,
        dialect: &str,
        scope: Option<&str>,
        address: &[u8],
    ) -> Vec<Routed> {
        let found: Vec<(Target, Option<Bytes>)> = {
            let table = self.inner.routes.read();
            let matching = table.matching(namespace, dialect, scope, address).into_iter();
            matching.map(|(_, placed)| (placed.route.target.clone(), placed.route.key(address))).collect()
        };
        let mut taken = BTreeSet::new();
        let once = found.into_iter().filter(|(target, _)| taken.insert(target.clone()));
        let routed = |(target, key): (Target, Option<Bytes>)| {
            let to = match target {
                Target::Stream(key) => Goal::Stream(self.stream(&key)?),
                Target::Address(entrance) => {
                    let from = Address {
                        dialect: dialect.into(),
                        namespace: namespace.clone(),
                        scope: scope.map(Into::into),
                        name: Bytes::copy_from_slice(address),
                    };
                    Goal::Address(Arc::new(Approach::new(entrance, from)))
                }
            };
            Some(Routed { to, key })
        };
        once.filter_map(routed).collect()
    }

    /// Rises with every change of routes; 0 while there never was one.
    pub fn routes_generation(&self) -> u64 {
        self.inner.routes.generation()
    }
}

/// What one session remembers of where its addresses go.
#[derive(Default)]
pub struct RouteCache {
    /// Of the routes and of the catalog.
    generations: (u64, u64),
    /// Of the addresses below.
    namespace: Namespace,
    dialect: &'static str,
    /// Whether the dialect has no route in that namespace.
    is_idle: bool,
    by_address: HashMap<Box<[u8]>, Arc<[Routed]>>,
}

impl RouteCache {
    /// [`Broker::routed`], from memory while neither routes nor streams change; `None` where no route leads on. A cache
    /// serves one namespace and dialect at a time. Costs one look at a number while there is no route at all.
    pub fn of(
        &mut self,
        broker: &Broker,
        namespace: &Namespace,
        dialect: &'static str,
        address: &[u8],
    ) -> Option<Arc<[Routed]>> {
        let routes = broker.inner.routes.generation();
        if routes == 0 {
            return None;
        }
        let now = (routes, broker.catalog_generation());
        if now != self.generations || *namespace != self.namespace || dialect != self.dialect {
            self.by_address.clear();
            self.generations = now;
            self.namespace = namespace.clone();
            self.dialect = dialect;
            self.is_idle = !broker.inner.routes.read().leads_from(namespace, dialect);
        }
        if self.is_idle {
            return None;
        }
        if let Some(known) = self.by_address.get(address) {
            return (!known.is_empty()).then(|| known.clone());
        }
        if self.by_address.len() >= CACHED_ADDRESSES_MAX {
            self.by_address.clear();
        }
        let found: Arc<[Routed]> = broker.routed_in(namespace, dialect, None, address).into();
        self.by_address.insert(address.into(), found.clone());
        (!found.is_empty()).then_some(found)
    }
}

impl From<StreamKey> for Target {
    fn from(key: StreamKey) -> Self {
        Target::Stream(key)
    }
}
