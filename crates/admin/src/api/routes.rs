//! Routes: from what is published in a dialect to streams and to addresses of others. Where a dialect publishes to streams
//! by their names, those routes are implicit, and explained beside the others.

mod explain;
mod target;

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use broker::{
    Action,
    routing::{Place, RouteView, Target},
};
use model::{Error, Namespace, Result};
use serde::Deserialize;
use serde_json::{Value, json};

pub(crate) use self::explain::explain;
use crate::{
    body::{Asked, Body, Path},
    caller::{Caller, invalid},
    error::Answer,
    server::{AddressSpace, Shared},
};

/// `GET /api/v1/routes`: those that people added.
pub(crate) async fn list(State(shared): State<Arc<Shared>>, caller: Caller) -> Answer {
    let routes = shared.broker.routes();
    let seen = routes.iter().filter(|route| {
        let is_here = route.namespace == caller.namespace || *namespace_of(&route.target) == caller.namespace;
        is_here && caller.sees(target::resource(&route.target))
    });
    let rows: Vec<Value> = seen.map(|route| shown(&shared, route)).collect();
    Ok(Json(json!({ "routes": rows })).into_response())
}

fn namespace_of(target: &Target) -> &Namespace {
    match target {
        Target::Stream(key) => &key.namespace,
        Target::Address(entrance) => &entrance.namespace,
    }
}

fn shown(shared: &Shared, route: &RouteView) -> Value {
    json!({
        "id": route.id,
        "namespace": route.namespace.to_string(),
        "from": route.from,
        "to": target::shown(&route.target, &route.namespace),
        "key": route.key,
        "target_exists": target::exists(&shared.broker, &route.target),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AddBody {
    /// `DIALECT:PATTERN`
    from: String,
    /// `KIND:NAME`, or `DIALECT:ADDRESS`
    to: String,
    key: Option<String>,
}

/// `POST /api/v1/routes`: in force for every publish after the answer, and for those of sessions that are open.
pub(crate) async fn add(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<AddBody>,
) -> Answer {
    dialect(&shared, &Place::parse(&body.from)?.dialect)?;
    let from = shared.broker.place(&body.from)?;
    let to = target::parse(&shared.broker, &body.to, &caller.namespace)?;
    may_route(&caller, &from, &to)?;
    let added = shared.broker.add_route(&caller.namespace, &body.from, to, body.key.as_deref()).await?;
    Ok((StatusCode::CREATED, Json(shown(&shared, &added))).into_response())
}

/// What is read here and written there.
fn may_route(caller: &Caller, from: &Place, to: &Target) -> Result<()> {
    if namespace_of(to).tenant != caller.namespace.tenant {
        caller.need_operator()?;
    }
    caller.need(Action::Read, from.scope.as_deref().unwrap_or(&from.name))?;
    let action = match to {
        Target::Stream(_) => Action::Configure,
        Target::Address(_) => Action::Write,
    };
    caller.need(action, target::resource(to))
}

/// `DELETE /api/v1/routes/{id}`
pub(crate) async fn remove(State(shared): State<Arc<Shared>>, caller: Caller, Path(id): Path<u64>) -> Answer {
    let routes = shared.broker.routes();
    let found = routes.iter().find(|route| route.id == id && route.namespace == caller.namespace);
    let route = found.ok_or_else(|| Error::not_found(format!("there is no route {id}")))?;
    may_route(&caller, &shared.broker.place(&route.from)?, &route.target)?;
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
    let to = target::parse(&shared.broker, &query.to, &caller.namespace)?;
    may_route(&caller, &shared.broker.place(&query.from)?, &to)?;
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
