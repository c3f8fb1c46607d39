//! Taking the records of a queue elsewhere, or back to where they came from.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use broker::{Action, MoveFilter, MoveId, MoveSpec, MoveState, MoveView, Stream};
use model::{Error, Namespace, Offset, Result, StreamKey};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{find, peek::Look};
use crate::{
    api::places,
    body::{Body, Path},
    caller::Caller,
    error::Answer,
    server::Shared,
};

/// Records that a dry run shows.
const SHOWN_MAX: usize = 20;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveBody {
    /// `KIND:NAME`, or the name of a queue; absent: each record goes back to the stream that it came from.
    to: Option<String>,
    /// Records per second.
    rate: Option<u32>,
    #[serde(default)]
    filter: FilterBody,
    /// Says what would be moved, and moves nothing.
    #[serde(default)]
    dry_run: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterBody {
    key: Option<String>,
    body_contains: Option<String>,
    header: Option<(String, String)>,
}

impl FilterBody {
    fn filter(self) -> MoveFilter {
        MoveFilter {
            key: self.key.map(Into::into),
            body_contains: self.body_contains.map(Into::into),
            header: self.header,
        }
    }
}

/// `POST /api/v1/queues/{name}/moves`
pub(crate) async fn start(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<MoveBody>,
) -> Answer {
    let queue = find(&shared.broker, &caller, &name)?;
    caller.need(Action::Read, &name)?;
    let destination = body.to.as_deref().map(|to| destination(to, &caller)).transpose()?;
    let filter = body.filter.filter();
    if body.dry_run {
        return dry_run(&shared, &queue, filter).await;
    }
    caller.need(Action::Configure, &name)?;
    let spec = MoveSpec { source: queue.key().clone(), destination, rate: body.rate, filter };
    let started = shared.broker.start_move(spec).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(&started, &caller.namespace))).into_response())
}

pub(super) fn destination(to: &str, caller: &Caller) -> Result<StreamKey> {
    let to = if to.contains(':') { to.to_owned() } else { format!("queue:{to}") };
    let to = places::stream(&to, &caller.namespace)?;
    if to.namespace.tenant != caller.namespace.tenant {
        caller.need_operator()?;
    }
    caller.need(Action::Write, &to.name)?;
    Ok(to)
}

/// What waits now and the filter wants.
async fn dry_run(shared: &Shared, queue: &Stream, filter: MoveFilter) -> Answer {
    let (mut count, mut rows) = (0_u64, Vec::new());
    for partition in queue.partitions() {
        let look =
            Look { broker: &shared.broker, queue, partition, state: Some("ready"), filter: filter.clone() };
        let end = partition.bounds().stable_end;
        let mut from = Offset::ZERO;
        while from < end {
            let found = look.from(from, 1_000).await?;
            count += found.rows.len() as u64;
            let more = SHOWN_MAX.saturating_sub(rows.len());
            rows.extend(found.rows.iter().take(more).map(|row| look.shown(row)));
            if found.next <= from {
                break;
            }
            from = found.next;
        }
    }
    Ok(Json(json!({ "would_move": count, "records": rows })).into_response())
}

/// `GET /api/v1/queues/{name}/moves`: the last ten, newest first.
pub(crate) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer {
    let queue = find(&shared.broker, &caller, &name)?;
    let moves = shared.broker.moves(queue.key());
    let rows: Vec<Value> = moves.iter().map(|one| shown(one, &caller.namespace)).collect();
    Ok(Json(json!({ "moves": rows })).into_response())
}

/// `DELETE /api/v1/queues/{name}/moves/{id}`: what was moved stays moved.
pub(crate) async fn cancel(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path((name, id)): Path<(String, u64)>,
) -> Answer {
    let queue = find(&shared.broker, &caller, &name)?;
    caller.need(Action::Configure, &name)?;
    let is_here = shared.broker.moves(queue.key()).iter().any(|one| one.id == MoveId(id));
    if !is_here {
        return Err(Error::not_found(format!("{name:?} has no move {id}")).into());
    }
    let cancelled = shared.broker.cancel_move(MoveId(id)).await?;
    Ok(Json(shown(&cancelled, &caller.namespace)).into_response())
}

pub(super) fn shown(view: &MoveView, home: &Namespace) -> Value {
    let (state, reason) = match &view.state {
        MoveState::Running => ("running", None),
        MoveState::Completed => ("completed", None),
        MoveState::Cancelling => ("cancelling", None),
        MoveState::Cancelled => ("cancelled", None),
        MoveState::Failed(reason) => ("failed", Some(reason)),
    };
    json!({
        "id": view.id.0,
        "from": places::shown(&view.spec.source, home),
        "to": view.spec.destination.as_ref().map(|to| places::shown(to, home)),
        "rate": view.spec.rate,
        "replays_since_ms": view.replays_since_ms,
        "state": state,
        "reason": reason,
        "moved": view.moved,
        "to_move": view.to_move,
        "started_at_ms": view.started_at_ms,
        "ended_at_ms": view.ended_at_ms,
    })
}
