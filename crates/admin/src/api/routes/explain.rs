//! Who would get a record that is published to an address, and why: the stream of that name, what the dialect itself says
//! (bindings, subjects of streams, live subscribers), and the routes that people added, along every hop.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use axum::{Json, extract::State, response::IntoResponse};
use broker::routing::{Address, Entrance, HOPS_MAX, Place, Reached, RouteView, Target, Template};
use bytes::Bytes;
use model::{Namespace, Result, StreamKey};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{dialect, target};
use crate::{
    body::Asked,
    caller::{Caller, invalid},
    error::Answer,
    server::{AddressSpace, Shared},
};

#[derive(Deserialize)]
pub(crate) struct ExplainQuery {
    /// `DIALECT:ADDRESS`
    address: String,
}

/// `GET /api/v1/routes/explain`: who would get a record that is published there, and why.
pub(crate) async fn explain(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Asked(query): Asked<ExplainQuery>,
) -> Answer {
    let place = Place::parse(&query.address)
        .map_err(|_| invalid("an address is DIALECT:NAME, such as kafka:orders"))?;
    let space = dialect(&shared, &place.dialect)?;
    let place = shared.broker.place(&query.address)?;
    let mut walk = Walk {
        shared: &shared,
        caller: &caller,
        targets: Vec::new(),
        taken: HashSet::new(),
        visited: BTreeSet::new(),
    };
    let note = walk.own_stream(space, &place);
    walk.at(&caller.namespace.clone(), &place, "", 0)?;
    let targets = walk.targets;
    Ok(Json(json!({ "address": query.address, "targets": targets, "note": note })).into_response())
}

struct Walk<'a> {
    shared: &'a Shared,
    caller: &'a Caller,
    targets: Vec<Value>,
    taken: HashSet<StreamKey>,
    visited: BTreeSet<(Namespace, Place)>,
}

impl Walk<'_> {
    /// The stream that is named like the address, where the dialect publishes to streams by their names. A note where
    /// there is none.
    fn own_stream(&mut self, space: &AddressSpace, place: &Place) -> String {
        let Some(kind) = space.names else { return String::new() };
        let namespace = self.caller.namespace.clone();
        let key = StreamKey { namespace, kind, name: place.name.as_str().into() };
        if self.shared.broker.stream(&key).is_some_and(|_| self.caller.sees(&place.name)) {
            self.stream(&key, None, "implicit: the stream is named like the address");
            self.taken.insert(key);
            return String::new();
        }
        format!(
            "there is no {kind} of that name: the publish creates it where its dialect allows that, else it is refused, and no route is taken"
        )
    }

    fn stream(&mut self, key: &StreamKey, route: Option<u64>, why: &str) {
        let partitions = self.shared.broker.stream(key).map(|stream| stream.partitions().len());
        self.targets.push(json!({
            "who": &*key.name,
            "stream": &*key.name,
            "namespace": key.namespace.to_string(),
            "kind": key.kind.to_string(),
            "partitions": partitions,
            "route": route,
            "why": why,
        }));
    }

    fn who(&mut self, who: &str, kind: &str, route: Option<u64>, why: &str) {
        self.targets.push(json!({
            "who": who, "stream": null, "namespace": null, "kind": kind, "partitions": null, "route": route,
            "why": why,
        }));
    }

    /// What happens at an address that was reached as `path` says, with what its dialect has there.
    fn at(&mut self, namespace: &Namespace, place: &Place, path: &str, depth: usize) -> Result<()> {
        if !self.visited.insert((namespace.clone(), place.clone())) {
            return Ok(());
        }
        if let Some(space) = self.shared.broker.addresses(&place.dialect) {
            let address = Address {
                dialect: place.dialect.as_str().into(),
                namespace: namespace.clone(),
                scope: place.scope.as_deref().map(Into::into),
                name: Bytes::copy_from_slice(place.name.as_bytes()),
            };
            match space.explain(&address) {
                Ok(all) => all.into_iter().for_each(|reached| self.reached(reached, path)),
                Err(error) if depth == 0 => return Err(error),
                Err(error) => {
                    self.who(&place.to_string(), "address", None, &format!("{path}{}", error.text()))
                }
            }
        }
        for route in self.shared.broker.routes_at(namespace, place) {
            if !self.caller.sees(target::resource(&route.target)) {
                continue;
            }
            let why = format!("{path}{}", why(&route, place));
            match &route.target {
                Target::Stream(key) => self.routed(key, &route, &why),
                Target::Address(entrance) => self.onward(entrance, &route, place, &why, depth)?,
            }
        }
        Ok(())
    }

    fn reached(&mut self, reached: Reached, path: &str) {
        let why = format!("{path}{}", reached.why);
        match (reached.stream, reached.who) {
            (Some(key), _) if !self.caller.sees(&key.name) => {}
            (Some(key), _) => {
                let is_first = self.taken.insert(key.clone());
                self.stream(&key, None, &once(why, is_first));
            }
            (None, Some(who)) => self.who(&who, "live", None, &why),
            (None, None) => {}
        }
    }

    fn routed(&mut self, key: &StreamKey, route: &RouteView, why: &str) {
        let is_first = self.taken.insert(key.clone());
        let why = match self.shared.broker.stream(key) {
            None => format!("{why}; left out, for there is no such stream now"),
            Some(_) => once(why.to_owned(), is_first),
        };
        self.stream(key, Some(route.id), &why);
    }

    fn onward(
        &mut self,
        entrance: &Entrance,
        route: &RouteView,
        from: &Place,
        why: &str,
        depth: usize,
    ) -> Result<()> {
        let shown = target::shown(&route.target, &self.caller.namespace);
        if depth >= HOPS_MAX {
            self.who(
                &shown,
                "address",
                Some(route.id),
                &format!("{why}; not followed, it is {depth} hops away"),
            );
            return Ok(());
        }
        if entrance.name.needs_key() {
            self.who(
                &shown,
                "address",
                Some(route.id),
                &format!("{why}; which, the key of each record says"),
            );
            return Ok(());
        }
        let name = entrance.name.apply(from.name.as_bytes(), None);
        let Some(name) = name.and_then(|name| String::from_utf8(name.to_vec()).ok()) else {
            self.who(
                &shown,
                "address",
                Some(route.id),
                &format!("{why}; left out, the address has too few tokens"),
            );
            return Ok(());
        };
        if !target::exists(&self.shared.broker, &route.target) {
            self.who(&shown, "address", Some(route.id), &format!("{why}; left out, for it is not there now"));
            return Ok(());
        }
        let place = Place { dialect: entrance.dialect.clone(), scope: entrance.scope.clone(), name };
        let before = self.targets.len();
        self.at(&entrance.namespace, &place, &format!("{why}, to {place}, then "), depth + 1)?;
        if self.targets.len() == before {
            self.who(
                &place.to_string(),
                "address",
                Some(route.id),
                &format!("{why}; nobody is there, or was not before"),
            );
        }
        Ok(())
    }
}

fn once(mut why: String, is_first: bool) -> String {
    if !is_first {
        why.push_str("; not a second time");
    }
    why
}

fn why(route: &RouteView, address: &Place) -> String {
    let mut why = format!("route {} from {}", route.id, route.from);
    if let Some(template) = &route.key {
        let key = Template::parse(template).ok();
        match key.and_then(|key| key.apply(address.name.as_bytes(), None)) {
            Some(key) => why.push_str(&format!(", with the key {:?}", String::from_utf8_lossy(&key))),
            None => {
                why.push_str(&format!(", with its own key: the address has too few tokens for {template}"))
            }
        }
    }
    why
}
