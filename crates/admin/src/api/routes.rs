//! Routes: from what is published in a dialect to streams. Where a dialect publishes to streams by their names, those
//! routes are implicit, and explained beside the others.

use std::{collections::HashSet, sync::Arc};

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
    response::IntoResponse,
};
use broker::{
    Action,
    routing::{Place, RouteView},
};
use model::{Error, Result, StreamKey};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::places,
    body::{Asked, Body},
    caller::{Caller, invalid},
    error::Answer,
    server::{AddressSpace, Shared},
};

/// `GET /api/v1/routes`: those that people added.
pub(crate) async fn list(State(shared): State<Arc<Shared>>, caller: Caller) -> Answer {
    let routes = shared.broker.routes();
    let seen = routes.iter().filter(|route| {
        let is_here = route.namespace == caller.namespace || route.target.namespace == caller.namespace;
        is_here && caller.sees(&route.target.name)
    });
    let rows: Vec<Value> = seen.map(|route| shown(&shared, route)).collect();
    Ok(Json(json!({ "routes": rows })).into_response())
}

fn shown(shared: &Shared, route: &RouteView) -> Value {
    json!({
        "id": route.id,
        "namespace": route.namespace.to_string(),
        "from": route.from,
        "to": places::shown(&route.target, &route.namespace),
        "key": route.key,
        "target_exists": shared.broker.stream(&route.target).is_some(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddBody {
    /// `DIALECT:PATTERN`
    from: String,
    /// `KIND:NAME`
    to: String,
    key: Option<String>,
}

/// `POST /api/v1/routes`: in force for every publish after the answer, and for those of sessions that are open.
pub(crate) async fn add(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<AddBody>,
) -> Answer {
    let from = Place::parse(&body.from)?;
    dialect(&shared, &from.dialect)?;
    let to = places::stream(&body.to, &caller.namespace)?;
    may_route(&caller, &from, &to)?;
    let added = shared.broker.add_route(&caller.namespace, &body.from, to, body.key.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(shown(&shared, &added))).into_response())
}

/// What is read here and written there.
fn may_route(caller: &Caller, from: &Place, to: &StreamKey) -> Result<()> {
    if to.namespace.tenant != caller.namespace.tenant {
        caller.need_operator()?;
    }
    caller.need(Action::Read, &from.name)?;
    caller.need(Action::Configure, &to.name)
}

/// `DELETE /api/v1/routes/{id}`
pub(crate) async fn remove(State(shared): State<Arc<Shared>>, caller: Caller, Path(id): Path<u64>) -> Answer {
    let routes = shared.broker.routes();
    let found = routes.iter().find(|route| route.id == id && route.namespace == caller.namespace);
    let route = found.ok_or_else(|| Error::not_found(format!("there is no route {id}")))?;
    may_route(&caller, &Place::parse(&route.from)?, &route.target)?;
    shared.broker.remove_route(id).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Deserialize)]
pub(crate) struct EndsQuery {
    from: String,
    to: String,
}

/// `DELETE /api/v1/routes`: those between two ends, whatever key they give.
pub(crate) async fn remove_all(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Asked(query): Asked<EndsQuery>,
) -> Answer {
    let to = places::stream(&query.to, &caller.namespace)?;
    may_route(&caller, &Place::parse(&query.from)?, &to)?;
    let routes = shared.broker.routes();
    let is_meant = |route: &&RouteView| {
        route.namespace == caller.namespace && route.from == query.from && route.target == to
    };
    let meant: Vec<u64> = routes.iter().filter(is_meant).map(|route| route.id).collect();
    if meant.is_empty() {
        return Err(Error::not_found(format!("there is no route from {} to {}", query.from, query.to)).into());
    }
    for id in meant {
        shared.broker.remove_route(id).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The address space of a dialect, if its publishes follow routes: a route from elsewhere would never be taken.
fn dialect<'a>(shared: &'a Shared, name: &str) -> Result<&'a AddressSpace> {
    let spaces = &shared.options.addresses;
    spaces.iter().find(|space| space.dialect == name).ok_or_else(|| {
        let known: Vec<&str> = spaces.iter().map(|space| space.dialect).collect();
        invalid(format!(
            "no dialect {name:?} is built whose publishes follow routes; there is {}",
            known.join(", ")
        ))
    })
}

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
    let mut targets = Vec::new();
    let mut taken = HashSet::new();
    let mut note = String::new();
    if let Some(kind) = space.names {
        let key = StreamKey { namespace: caller.namespace.clone(), kind, name: place.name.as_str().into() };
        if shared.broker.stream(&key).is_some_and(|_| caller.sees(&place.name)) {
            let why = "implicit: the stream is named like the address".to_owned();
            targets.push(target(&shared, &key, None, &why));
            taken.insert(key);
        } else {
            note = format!(
                "there is no {kind} of that name: the publish creates it where its dialect allows that, else it is refused, and no route is taken"
            );
        }
    }
    for route in shared.broker.explain_routes(&caller.namespace, &query.address)? {
        if !caller.sees(&route.target.name) {
            continue;
        }
        let is_first = taken.insert(route.target.clone());
        targets.push(target(&shared, &route.target, Some(&route), &why(&shared, &route, &place, is_first)));
    }
    Ok(Json(json!({ "address": query.address, "targets": targets, "note": note })).into_response())
}

fn target(shared: &Shared, key: &StreamKey, route: Option<&RouteView>, why: &str) -> Value {
    let partitions = shared.broker.stream(key).map(|stream| stream.partitions().len());
    json!({
        "stream": &*key.name,
        "namespace": key.namespace.to_string(),
        "kind": key.kind.to_string(),
        "partitions": partitions,
        "route": route.map(|route| route.id),
        "why": why,
    })
}

fn why(shared: &Shared, route: &RouteView, address: &Place, is_first: bool) -> String {
    let mut why = format!("route {} from {}", route.id, route.from);
    if let Some(template) = &route.key {
        let key = broker::routing::KeyTemplate::parse(template).ok();
        match key.and_then(|key| key.apply(address.name.as_bytes())) {
            Some(key) => why.push_str(&format!(", with the key {:?}", String::from_utf8_lossy(&key))),
            None => {
                why.push_str(&format!(", with its own key: the address has too few tokens for {template}"))
            }
        }
    }
    if shared.broker.stream(&route.target).is_none() {
        why.push_str("; left out, for there is no such stream now");
    } else if !is_first {
        why.push_str("; not a second time");
    }
    why
}
