//! Routes that people add: what is published in one dialect's address space also goes elsewhere, into a stream or to an
//! address of another dialect.
//!
//! A dialect asks [`RouteCache::of`] for each address it publishes to (a steady publisher's session answers with a hash
//! look-up) and adds [`Broker::onward`] to its own unit: the copies stand and fall with the publish. A route lives in
//! the namespace of its addresses; its target may be in any. What enters a stream stays there: only at addresses do
//! routes lead on, at most [`route::HOPS_MAX`] of them, and no record is twice at one address or in one stream. The
//! matchers themselves are re-exported for tables that a dialect keeps of its own.

use bytes::Bytes;
use model::{Error, Namespace, Result, Seq, StreamKey};
pub use route::{
    Cache, Expansion, Generations, HOPS_MAX, HeaderMatch, HeaderRule, Hop, Pattern, Place, Route, Routes,
    Rule, Syntax, Template, Token, Way, expand, explain, tokens,
};

use crate::{
    broker::Broker,
    catalog::{Command, command::Section},
    codec::{Reader, put_u64},
};

mod addresses;
mod cache;
mod onward;
mod spread;
mod table;

pub(crate) use self::table::RouteBook;
use self::table::{Placed, decode, encode};
pub use self::{
    addresses::{Address, Addresses, Entered, Entering, Laying, Live, Reached},
    cache::{Approach, Goal, RouteCache, Routed},
    onward::Onward,
};

/// Routes that may exist.
pub const ROUTES_MAX: usize = 100_000;

/// Where a route leads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// Into a stream.
    Stream(StreamKey),
    /// To addresses of a dialect, as if published there.
    Address(Entrance),
}

/// Addresses that routes lead to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entrance {
    /// Where they are.
    pub namespace: Namespace,
    /// In which dialect.
    pub dialect: String,
    /// What they lie in, where the dialect has such.
    pub scope: Option<String>,
    /// How the name is made for each record.
    pub name: Template,
}

/// A route as people see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteView {
    /// Its number, never used again.
    pub id: u64,
    /// Where it is in force.
    pub namespace: Namespace,
    /// `dialect:pattern`, or `dialect:scope/pattern`.
    pub from: String,
    /// Where records go as well.
    pub target: Target,
    /// The record key there; `None` = as the record has it.
    pub key: Option<String>,
}

fn view(id: u64, placed: &Placed) -> RouteView {
    let Placed { namespace, route } = placed;
    let key = route.key.as_ref().map(ToString::to_string);
    let (from, target) = (route.from.to_string(), route.target.clone());
    RouteView { id, namespace: namespace.clone(), from, target, key }
}

fn stored_id(id: u64) -> Bytes {
    let mut out = Vec::new();
    put_u64(&mut out, id);
    out.into()
}

impl Broker {
    /// The place that `text` names: with a scope where its dialect has such.
    pub fn place(&self, text: &str) -> Result<Place> {
        let place = Place::parse(text)?;
        let is_scoped = self.addresses(&place.dialect).is_some_and(|space| space.is_scoped());
        if is_scoped { place.scoped() } else { Ok(place) }
    }

    /// Adds a route from `dialect:pattern` in a namespace to a stream or an address, with a template for the record key
    /// there. Answers after the commit. [`model::ErrorKind::Invalid`] when one of them does not read,
    /// [`model::ErrorKind::NotFound`] without the target, [`model::ErrorKind::Exists`] for the same route again.
    pub async fn add_route(
        &self,
        namespace: &Namespace,
        from: &str,
        target: impl Into<Target>,
        key: Option<&str>,
    ) -> Result<RouteView> {
        let key = key.map(Template::parse).transpose()?;
        let place = self.place(from)?;
        if let Some(space) = self.addresses(&place.dialect) {
            space.check_source(&place.name)?;
        }
        let route = Route::new(place, target.into(), key)?;
        let (added, seq) = self.stage_route(Placed { namespace: namespace.clone(), route })?;
        self.durable(seq).await?;
        Ok(added)
    }

    fn stage_route(&self, placed: Placed) -> Result<(RouteView, Seq)> {
        if let Target::Address(entrance) = &placed.route.target {
            self.check_entrance(entrance)?;
            placed.route.check(&entrance.name)?;
        }
        let mut state = self.catalog().lock();
        if let Target::Stream(target) = &placed.route.target
            && !state.streams.contains_key(target)
        {
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

    fn check_entrance(&self, entrance: &Entrance) -> Result<()> {
        let Entrance { namespace, dialect, scope, name } = entrance;
        let space = self
            .addresses(dialect)
            .ok_or_else(|| Error::invalid(format!("no dialect {dialect} is built that routes lead to")))?;
        space.check(namespace, scope.as_deref(), name.text())
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

    /// The routes that a publish to a place takes.
    pub fn routes_at(&self, namespace: &Namespace, place: &Place) -> Vec<RouteView> {
        let table = self.inner.routes.read();
        let name = place.name.as_bytes();
        let matching = table.matching(namespace, &place.dialect, place.scope.as_deref(), name);
        matching.into_iter().map(|(id, placed)| view(id, placed)).collect()
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
            let names: Vec<_> =
                targets.iter().map(|target| target.stream().unwrap().key().name.to_string()).collect();
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
        assert!(cache.of(&rig.broker, &public(), "nats", b"a").is_none());
        let added = wait(rig.broker.add_route(&public(), "nats:a", key("orders"), None)).unwrap();
        assert_eq!(cache.of(&rig.broker, &public(), "nats", b"a").unwrap().len(), 1);
        let place = rig.broker.place("nats:a").unwrap();
        assert_eq!(rig.broker.routes_at(&public(), &place), std::slice::from_ref(&added));
        wait(rig.broker.remove_route(added.id)).unwrap();
        assert!(cache.of(&rig.broker, &public(), "nats", b"a").is_none());
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
