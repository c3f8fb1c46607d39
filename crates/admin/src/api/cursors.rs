//! Cursors of the offset kind: who is how far behind, and moving them.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use broker::{Action, Broker, CursorKey, LagStatus, LagView, Stream};
use model::{Error, PartitionIndex, Result, StreamKey, limits};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    api::{groups, page::PageQuery, records, streams},
    body::{Asked, Body, Path},
    caller::{Caller, invalid},
    error::{Answer, unless_gone},
    server::Shared,
};

/// `GET /api/v1/cursors`: every cursor with its sums over all partitions.
pub(crate) async fn list(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Asked(page): Asked<PageQuery>,
) -> Answer {
    let mut names: Vec<Arc<str>> =
        shared.broker.cursors(&caller.namespace).into_iter().map(|cursor| cursor.name).collect();
    let with_members = groups::cursors(&shared.broker, &caller.namespace);
    names.extend(with_members.into_iter().map(|cursor| cursor.name));
    names.sort_unstable();
    names.dedup();
    let seen = names.into_iter().filter(|name| caller.sees(name));
    let (part, next) = page.of(seen, |name| name.to_string())?;
    let mut rows = Vec::new();
    for name in part {
        let cursor = CursorKey { namespace: caller.namespace.clone(), name };
        rows.extend(unless_gone(row(&shared.broker, &cursor).await)?);
    }
    Ok(Json(json!({ "cursors": rows, "next": next })).into_response())
}

async fn row(broker: &Broker, cursor: &CursorKey) -> Result<Value> {
    let views = match broker.positions(cursor) {
        Some(_) => broker.lag(cursor).await?,
        None => Vec::new(), // members, and nothing committed yet
    };
    let worst = views.iter().map(|view| view.status).max_by_key(|status| severity(*status));
    let headroom = views.iter().filter_map(|view| view.retention_headroom_ms).min();
    Ok(json!({
        "name": &*cursor.name,
        "namespace": cursor.namespace.to_string(),
        "streams": streams_of(&views),
        "partitions": views.len(),
        "state": groups::state(broker, cursor),
        "members": groups::members_of(broker, cursor).len(),
        "lag_records": views.iter().map(|view| view.lag_records).sum::<u64>(),
        "lag_bytes": views.iter().map(|view| view.lag_bytes).sum::<u64>(),
        "lag_age_seconds": seconds(views.iter().map(|view| view.lag_age_ms).max().unwrap_or(0)),
        "retention_headroom_seconds": headroom.map(seconds),
        "status": worst.unwrap_or(LagStatus::Ok).name(),
    }))
}

/// Which of two states an operator should hear of first.
fn severity(status: LagStatus) -> u8 {
    match status {
        LagStatus::Ok => 0,
        LagStatus::Rewound => 1,
        LagStatus::Lagging => 2,
        LagStatus::Stalled => 3,
        LagStatus::Stopped => 4,
        LagStatus::Truncated => 5,
    }
}

fn streams_of(views: &[LagView]) -> Vec<&str> {
    let mut names: Vec<&str> = views.iter().map(|view| &*view.stream.name).collect();
    names.sort_unstable();
    names.dedup();
    names
}

#[expect(clippy::cast_precision_loss, reason = "ages of centuries would be needed to lose a millisecond")]
pub(crate) fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}

/// `GET /api/v1/cursors/{name}/lag`: one row per partition.
pub(crate) async fn lag(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer {
    let cursor = known(&shared.broker, &caller, &name)?;
    let views = shared.broker.lag(&cursor).await?;
    let rows: Vec<Value> = views.iter().map(lag_row).collect();
    Ok(Json(json!({ "cursor": name, "state": groups::state(&shared.broker, &cursor), "lag": rows }))
        .into_response())
}

fn lag_row(view: &LagView) -> Value {
    json!({
        "stream": &*view.stream.name,
        "kind": view.stream.kind.to_string(),
        "partition": view.partition.0,
        "position": view.position.0,
        "start": view.start.0,
        "end": view.end.0,
        "lag_records": view.lag_records,
        "lag_bytes": view.lag_bytes,
        "lag_age_seconds": seconds(view.lag_age_ms),
        "retention_headroom_seconds": view.retention_headroom_ms.map(seconds),
        "protected_bytes_max": view.protect_len,
        "committed_at_ms": view.committed_at_ms,
        "status": view.status.name(),
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SeekBody {
    /// Which stream; may be absent when the cursor has positions on one only.
    stream: Option<String>,
    /// Which partition; absent = each.
    partition: Option<u32>,
    /// `earliest`, `latest`, an offset or `time:MILLISECONDS`.
    to: String,
}

/// `POST /api/v1/cursors/{name}/seek`. Makes the cursor when it is not there.
pub(crate) async fn seek(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<SeekBody>,
) -> Answer {
    caller.need(Action::Configure, &name)?;
    let cursor = CursorKey::new(&caller.namespace, &name);
    let stream = match &body.stream {
        Some(stream) => streams::find(&shared.broker, &caller, stream, None)?,
        None => only_stream(&shared.broker, &cursor)?,
    };
    let mut to = Vec::new();
    for partition in stream.partitions() {
        if body.partition.is_some_and(|index| partition.index() != PartitionIndex(index)) {
            continue;
        }
        let offset = records::place(&shared.broker, partition, &body.to).await?;
        let bounds = partition.bounds();
        if offset > bounds.stable_end {
            let (index, end) = (partition.index(), bounds.stable_end);
            return Err(invalid(format!("partition {index} ends at {end}, before {offset}")).into());
        }
        to.push((partition.clone(), offset));
    }
    if to.is_empty() {
        return Err(Error::not_found("the stream has no such partition").into());
    }
    let moved: Vec<Value> = to
        .iter()
        .map(|(partition, offset)| json!({ "partition": partition.index().0, "position": offset.0 }))
        .collect();
    shared.broker.seek(&cursor, to).await?;
    let members = groups::members_of(&shared.broker, &cursor).len();
    Ok(Json(json!({ "stream": &*stream.key().name, "moved": moved, "active_members": members }))
        .into_response())
}

fn only_stream(broker: &Broker, cursor: &CursorKey) -> Result<Arc<Stream>> {
    let positions = broker.positions(cursor).ok_or_else(|| missing(cursor))?;
    let keys: BTreeMap<StreamKey, ()> = positions.into_iter().map(|view| (view.stream, ())).collect();
    match (keys.len(), keys.into_keys().next()) {
        (1, Some(key)) => broker.stream(&key).ok_or_else(|| Error::not_found("its stream was deleted")),
        _ => Err(invalid("the cursor has positions on several streams: say which one")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CopyBody {
    to: String,
}

/// `POST /api/v1/cursors/{name}/copy`
pub(crate) async fn copy(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<CopyBody>,
) -> Answer {
    let from = known(&shared.broker, &caller, &name)?;
    if body.to.is_empty() || body.to.len() > limits::NAME_LEN_MAX {
        return Err(invalid(format!("a cursor's name has 1 to {} bytes", limits::NAME_LEN_MAX)).into());
    }
    caller.need(Action::Configure, &body.to)?;
    let to = CursorKey::new(&caller.namespace, &body.to);
    if !groups::members_of(&shared.broker, &to).is_empty() {
        return Err(Error::conflict(format!(
            "{:?} has members who would go on from where they are",
            body.to
        ))
        .into());
    }
    shared.broker.copy_cursor(&from, &to).await?;
    Ok((StatusCode::CREATED, Json(json!({ "from": name, "to": body.to }))).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProtectBody {
    /// Bytes per partition; `null` = retention goes over unread records.
    bytes_max: Option<u64>,
}

/// `POST /api/v1/cursors/{name}/protect`
pub(crate) async fn protect(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<ProtectBody>,
) -> Answer {
    let cursor = known(&shared.broker, &caller, &name)?;
    caller.need(Action::Configure, &name)?;
    shared.broker.protect(&cursor, body.bytes_max).await?;
    Ok(Json(json!({ "name": name, "protected_bytes_max": body.bytes_max })).into_response())
}

#[derive(Deserialize)]
pub(crate) struct DeleteQuery {
    #[serde(default)]
    force: bool,
}

/// `DELETE /api/v1/cursors/{name}`; one with members only with `force=true`.
pub(crate) async fn delete(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Asked(query): Asked<DeleteQuery>,
) -> Answer {
    let cursor = known(&shared.broker, &caller, &name)?;
    caller.need(Action::Configure, &name)?;
    let members = groups::members_of(&shared.broker, &cursor).len();
    if members > 0 && !query.force {
        return Err(Error::conflict(format!(
            "{name:?} has {members} members; force=true deletes it all the same"
        ))
        .into());
    }
    shared.broker.delete_cursor(&cursor).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The cursor of that name, when it has positions and the caller may see it.
fn known(broker: &Broker, caller: &Caller, name: &str) -> Result<CursorKey> {
    let cursor = CursorKey::new(&caller.namespace, name);
    match broker.positions(&cursor) {
        Some(_) if caller.sees(name) => Ok(cursor),
        _ => Err(missing(&cursor)),
    }
}

fn missing(cursor: &CursorKey) -> Error {
    Error::not_found(format!("there is no cursor {:?} with positions in {}", cursor.name, cursor.namespace))
}
