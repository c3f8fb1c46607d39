//! Settled records, available again.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use broker::{Action, Stream};
use serde::Deserialize;
use serde_json::json;

use super::{
    find,
    moves::{destination, shown},
};
use crate::{
    body::{Body, Path},
    caller::{Caller, invalid},
    error::Answer,
    server::Shared,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplayBody {
    /// Records appended at this time or later, milliseconds since the Unix epoch.
    since_ms: Option<i64>,
    /// Records at most this old, milliseconds.
    age_ms: Option<u64>,
    /// Another queue; absent: the queue itself.
    to: Option<String>,
    /// Records per second.
    rate: Option<u32>,
}

/// `POST /api/v1/queues/{name}/replay`: of a queue with a history, as a move out of the history; of a queue over a log, in
/// place.
pub(crate) async fn start(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<ReplayBody>,
) -> Answer {
    let queue = find(&shared.broker, &caller, &name)?;
    caller.need(Action::Configure, &name)?;
    let now_ms = shared.broker.env().clock.wall_ms();
    let since_ms = match (body.since_ms, body.age_ms) {
        (Some(since_ms), None) => since_ms,
        (None, Some(age_ms)) => now_ms.saturating_sub_unsigned(age_ms),
        _ => return Err(invalid("either since_ms or age_ms says from where on").into()),
    };
    let to = body.to.as_deref().map(|to| destination(to, &caller)).transpose()?;
    if queue.settings().over.is_some() {
        if to.is_some() {
            return Err(invalid("a queue over a log is replayed in place: its records are the log's").into());
        }
        return in_place(&shared, &queue, since_ms).await;
    }
    let started = shared.broker.start_replay(queue.key().clone(), since_ms, to, body.rate).await?;
    Ok((StatusCode::ACCEPTED, Json(shown(&started, &caller.namespace))).into_response())
}

/// Sets the queue's cursors back: everything from that time on counts as never delivered.
async fn in_place(shared: &Shared, queue: &Stream, since_ms: i64) -> Answer {
    let broker = &shared.broker;
    for partition in queue.partitions() {
        let (work, _) = broker.stream_work(queue, partition.index())?;
        let found = broker.search_time(partition, since_ms).await?;
        let to = found.map_or(partition.bounds().stable_end, |(offset, _)| offset);
        broker.durable(work.seek(to)?).await?;
    }
    let ready = broker.queue_counts(queue).ready;
    Ok(Json(json!({ "queue": &*queue.key().name, "state": "completed", "ready": ready })).into_response())
}
