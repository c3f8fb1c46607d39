//! Routes that people add: what is published in one dialect's address space also goes to a stream elsewhere.
//!
//! A dialect asks [`RouteCache::of`] for each address it publishes to (a steady publisher's session answers with a hash
//! look-up) and adds [`Broker::followers`] to its own unit: the copies stand and fall with the publish. A route lives in
//! the namespace of its addresses; its target, a stream and not another address, may be in any. Routes do not chain. The
//! matchers themselves are re-exported for tables that a dialect keeps of its own.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use model::{Error, Namespace, Result, Seq, StreamKey};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use route::{
    Cache, Expansion, Generations, HeaderMatch, HeaderRule, Hop, KeyTemplate, Pattern, Place, Route, Routes,
    Rule, Syntax, Token, Way, expand, explain, tokens,
};

use crate::{
    broker::Broker,
    catalog::{
        Command,
        command::{Section, put_key, put_namespace, read_key, read_namespace},
    },
    codec::{Reader, put_bytes, put_option, put_u64},
    stream::Stream,
};

mod followers;

/// Routes that may exist.
pub const ROUTES_MAX: usize = 100_000;

/// Addresses whose targets one session keeps.
const CACHED_ADDRESSES_MAX: usize = 4_096;

const STORED_VERSION: u8 = 2;

/// A route as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteView {
    /// Its number, never used again.
    pub id: u64,
    /// Where it is in force.
    pub namespace: Namespace,
    /// `dialect:pattern`.
    pub from: String,
    /// Where records go as well.
    pub target: StreamKey,
    /// The record key there; `None` = as the record has it.
    pub key: Option<String>,
}

/// One target of an address.
#[derive(Clone)]
pub struct Routed {
    /// The stream.
    pub stream: Arc<Stream>,
    /// The record key there; `None` = as the record has it.
    pub key: Option<Bytes>,
}

/// A route and where it is in force.
#[derive(Clone, PartialEq, Eq)]
struct Placed {
    namespace: Namespace,
    route: Route<StreamKey>,
}

/// The routes of this process.
#[derive(Default)]
pub(crate) struct RouteBook {
    table: RwLock<RouteTable>,
    /// Rises with every change; 0 while there never was a route. Read without the lock.
    generation: AtomicU64,
}

impl RouteBook {
    fn read(&self) -> RwLockReadGuard<'_, RouteTable> {
        self.table.read()
    }

    fn write(&self) -> RwLockWriteGuard<'_, RouteTable> {
        self.table.write()
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// To be called before the table is unlocked, so that nobody keeps what is old under the new number.
    fn changed(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }
}

/// Routes by address, ready to be asked.
#[derive(Default)]
struct RouteTable {
    by_id: BTreeMap<u64, Placed>,
    by_place: HashMap<Namespace, HashMap<String, Routes<u64>>>,
}

impl RouteTable {
    fn insert(&mut self, id: u64, placed: Placed) {
        let table = self.by_place.entry(placed.namespace.clone()).or_default();
        table
            .entry(placed.route.from.dialect.clone())
            .or_insert_with(|| Routes::new(Generations::single()))
            .add(&Rule::Tokens(placed.route.pattern.clone()), id);
        self.by_id.insert(id, placed);
    }

    fn remove(&mut self, id: u64) {
        let Some(Placed { namespace, route }) = self.by_id.remove(&id) else { return };
        let tables = self.by_place.get_mut(&namespace);
        if let Some(table) = tables.and_then(|tables| tables.get_mut(&route.from.dialect)) {
            table.remove(&Rule::Tokens(route.pattern), &id);
        }
    }

    /// The routes that apply to an address, in the order in which they were added.
    fn matching(&self, namespace: &Namespace, dialect: &str, address: &str) -> Vec<(u64, &Placed)> {
        let mut ids = BTreeSet::new();
        if let Some(table) = self.by_place.get(namespace).and_then(|tables| tables.get(dialect)) {
            table.targets(address.as_bytes(), &[], |id| {
                ids.insert(*id);
            });
        }
        ids.into_iter().filter_map(|id| Some((id, self.by_id.get(&id)?))).collect()
    }
}

fn view(id: u64, placed: &Placed) -> RouteView {
    let Placed { namespace, route } = placed;
    let key = route.key.as_ref().map(ToString::to_string);
    let (from, target) = (route.from.to_string(), route.target.clone());
    RouteView { id, namespace: namespace.clone(), from, target, key }
}

fn encode(placed: &Placed) -> Bytes {
    let Placed { namespace, route } = placed;
    let mut out = vec![STORED_VERSION];
    put_namespace(&mut out, namespace);
    put_bytes(&mut out, route.from.to_string().as_bytes());
    put_key(&mut out, &route.target);
    put_option(&mut out, route.key.as_ref(), |out, key| put_bytes(out, key.to_string().as_bytes()));
    out.into()
}

fn decode(bytes: &[u8]) -> Result<Placed> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != STORED_VERSION {
        return Err(Error::corrupt("a route has an unknown version"));
    }
    let namespace = read_namespace(&mut reader)?;
    let from = Place::parse(reader.text()?)?;
    let target = read_key(&mut reader)?;
    let key = reader.option(|reader| KeyTemplate::parse(reader.text()?))?;
    reader.finish()?;
    Ok(Placed { namespace, route: Route::new(from, target, key)? })
}

fn stored_id(id: u64) -> Bytes {
    let mut out = Vec::new();
    put_u64(&mut out, id);
    out.into()
}

impl Broker {
    /// Adds a route from `dialect:pattern` in a namespace to a stream, with a template for the record key there. Answers
    /// after the commit. [`model::ErrorKind::Invalid`] when one of them does not read, [`model::ErrorKind::NotFound`]
    /// without the stream, [`model::ErrorKind::Exists`] for the same route again.
    pub async fn add_route(
        &self,
        namespace: &Namespace,
        from: &str,
        target: StreamKey,
        key: Option<&str>,
    ) -> Result<RouteView> {
        let route = Route::new(Place::parse(from)?, target, key.map(KeyTemplate::parse).transpose()?)?;
        let (added, seq) = self.stage_route(Placed { namespace: namespace.clone(), route })?;
        self.durable(seq).await?;
        Ok(added)
    }

    fn stage_route(&self, placed: Placed) -> Result<(RouteView, Seq)> {
        let mut state = self.catalog().lock();
        let target = &placed.route.target;
        if !state.streams.contains_key(target) {
            return Err(Error::not_found(format!("there is no {target}")));
        }
        let mut table = self.inner.routes.write();
        if table.by_id.values().any(|known| *known == placed) {
            return Err(Error::exists("the route is there already"));
        }
        if table.by_id.len() >= ROUTES_MAX {
            return Err(Error::limit(format!("there are {ROUTES_MAX} routes already")));
        }
        // A command's position is never used again, and neither is a number made from it.
        let id = state.applied.0 + 1;
        let command =
            Command::PutEntry { section: Section::Routes, key: stored_id(id), body: Some(encode(&placed)) };
        let seq = self.command(&mut state, command)?;
        let added = view(id, &placed);
        table.insert(id, placed);
        self.inner.routes.changed();
        Ok((added, seq))
    }

    /// Removes a route. Answers after the commit. [`model::ErrorKind::NotFound`] when it is not there.
    pub async fn remove_route(&self, id: u64) -> Result<()> {
        let seq = self.stage_remove_route(id)?;
        self.durable(seq).await
    }

    fn stage_remove_route(&self, id: u64) -> Result<Seq> {
        let mut state = self.catalog().lock();
        let mut table = self.inner.routes.write();
        if !table.by_id.contains_key(&id) {
            return Err(Error::not_found(format!("there is no route {id}")));
        }
        let command = Command::PutEntry { section: Section::Routes, key: stored_id(id), body: None };
        let seq = self.command(&mut state, command)?;
        table.remove(id);
        self.inner.routes.changed();
        Ok(seq)
    }

    /// Every route, in the order in which they were added.
    pub fn routes(&self) -> Vec<RouteView> {
        self.inner.routes.read().by_id.iter().map(|(id, placed)| view(*id, placed)).collect()
    }

    /// The routes that a publish to `dialect:address` takes.
    pub fn explain_routes(&self, namespace: &Namespace, address: &str) -> Result<Vec<RouteView>> {
        let place = Place::parse(address)?;
        let table = self.inner.routes.read();
        let matching = table.matching(namespace, &place.dialect, &place.name);
        Ok(matching.into_iter().map(|(id, placed)| view(id, placed)).collect())
    }

    /// Where a publish to `address` of a dialect goes by routes that people added, each stream once: of two routes to
    /// one, the older decides on the key. Streams that are gone are left out until they are made again.
    pub fn routed(&self, namespace: &Namespace, dialect: &str, address: &str) -> Vec<Routed> {
        let found: Vec<_> = {
            let table = self.inner.routes.read();
            let matching = table.matching(namespace, dialect, address).into_iter();
            matching
                .map(|(_, Placed { route, .. })| (route.target.clone(), route.key(address.as_bytes())))
                .collect()
        };
        let mut taken = BTreeSet::new();
        let once = found.into_iter().filter(|(target, _)| taken.insert(target.clone()));
        once.filter_map(|(target, key)| Some(Routed { stream: self.stream(&target)?, key })).collect()
    }

    /// Reads the stored routes, at start.
    pub(crate) fn load_routes(&self) -> Result<()> {
        let state = self.catalog().read();
        let mut table = self.inner.routes.write();
        for ((section, id), body) in &state.entries {
            if *section == Section::Routes {
                table.insert(Reader::new(id).u64()?, decode(body)?);
                self.inner.routes.changed();
            }
        }
        Ok(())
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
    by_address: HashMap<String, Arc<[Routed]>>,
}

impl RouteCache {
    /// [`Broker::routed`], from memory while neither routes nor streams change; `None` where no route leads on. A cache
    /// serves one namespace and dialect at a time.
    pub fn of(
        &mut self,
        broker: &Broker,
        namespace: &Namespace,
        dialect: &'static str,
        address: &str,
    ) -> Option<Arc<[Routed]>> {
        let routes = broker.inner.routes.generation();
        if routes == 0 {
            return None;
        }
        let now = (routes, broker.catalog_generation());
        if now != self.generations
            || *namespace != self.namespace
            || dialect != self.dialect
            || self.by_address.len() >= CACHED_ADDRESSES_MAX
        {
            self.by_address.clear();
            self.generations = now;
            self.namespace = namespace.clone();
            self.dialect = dialect;
        }
        let found = match self.by_address.get(address) {
            Some(known) => known.clone(),
            None => {
                let found: Arc<[Routed]> = broker.routed(namespace, dialect, address).into();
                self.by_address.insert(address.to_owned(), found.clone());
                found
            }
        };
        (!found.is_empty()).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Rig, key, wait};

    fn public() -> Namespace {
        Namespace::default()
    }

    #[test]
    fn a_publish_goes_along_its_routes_once_to_each_stream() {
        let mut rig = Rig::new();
        rig.log("orders", 2);
        rig.log("audit", 1);
        for (from, target, key_template) in [
            ("nats:orders.*", "orders", Some("{token.2}")),
            ("nats:orders.>", "orders", None),
            ("nats:>", "audit", None),
        ] {
            wait(rig.broker.add_route(&public(), from, key(target), key_template)).unwrap();
        }
        for _ in 0..2 {
            let targets = rig.broker.routed(&public(), "nats", "orders.eu");
            let names: Vec<_> = targets.iter().map(|target| target.stream.key().name.to_string()).collect();
            assert_eq!(names, ["orders", "audit"]);
            assert_eq!(targets[0].key.as_deref(), Some(&b"eu"[..]));
            assert!(rig.broker.routed(&public(), "kafka", "orders.eu").is_empty());
            rig.reopen();
        }
        assert!(rig.broker.routed(&Namespace::new("acme", "default"), "nats", "orders.eu").is_empty());
    }

    #[test]
    fn a_session_sees_a_route_that_was_added_or_removed() {
        let rig = Rig::new();
        rig.log("orders", 1);
        let mut cache = RouteCache::default();
        assert!(cache.of(&rig.broker, &public(), "nats", "a").is_none());
        let added = wait(rig.broker.add_route(&public(), "nats:a", key("orders"), None)).unwrap();
        assert_eq!(cache.of(&rig.broker, &public(), "nats", "a").unwrap().len(), 1);
        assert_eq!(rig.broker.explain_routes(&public(), "nats:a").unwrap(), std::slice::from_ref(&added));
        wait(rig.broker.remove_route(added.id)).unwrap();
        assert!(cache.of(&rig.broker, &public(), "nats", "a").is_none());
        assert!(rig.broker.routes().is_empty());
    }

    #[test]
    fn a_route_to_nowhere_twice_or_that_does_not_read_is_refused() {
        use model::ErrorKind;
        let rig = Rig::new();
        rig.log("orders", 1);
        let add = |from: &str, target: &str| {
            wait(rig.broker.add_route(&public(), from, key(target), None)).err().map(|e| e.kind())
        };
        assert_eq!(add("nats:a", "nowhere"), Some(ErrorKind::NotFound));
        assert_eq!(add("nats", "orders"), Some(ErrorKind::Invalid));
        assert_eq!(add("nats:a", "orders"), None);
        assert_eq!(add("nats:a", "orders"), Some(ErrorKind::Exists));
    }
}
