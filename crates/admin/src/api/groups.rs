//! Who works on a cursor, and how they came to share it. Asked of the dialects' books of members.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use broker::{
    Action, Broker, CursorKey, MemberView, Membership, RebalanceCause, RebalanceView, mark_differences,
};
use model::{Error, Namespace, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    body::{Body, Path},
    caller::Caller,
    error::Answer,
    server::Shared,
};

/// The dialect that knows the cursor's members, if one does.
fn book(broker: &Broker, cursor: &CursorKey) -> Option<Arc<dyn Membership>> {
    broker.memberships().into_iter().find(|book| book.state(cursor).is_some())
}

fn need_book(broker: &Broker, caller: &Caller, name: &str) -> Result<(CursorKey, Arc<dyn Membership>)> {
    let cursor = CursorKey::new(&caller.namespace, name);
    let found = if caller.sees(name) { book(broker, &cursor) } else { None };
    let missing =
        || Error::not_found(format!("no cursor {name:?} in {} has or lately had members", cursor.namespace));
    Ok((cursor.clone(), found.ok_or_else(missing)?))
}

/// Cursors of a namespace that have or lately had members.
pub(crate) fn cursors(broker: &Broker, namespace: &Namespace) -> Vec<CursorKey> {
    let all = broker.memberships().into_iter().flat_map(|book| book.cursors());
    all.filter(|cursor| cursor.namespace == *namespace).collect()
}

/// In which state the group of a cursor is, in its dialect's words.
pub(crate) fn state(broker: &Broker, cursor: &CursorKey) -> Option<String> {
    book(broker, cursor).and_then(|book| book.state(cursor))
}

/// Who works on a cursor now.
pub(crate) fn members_of(broker: &Broker, cursor: &CursorKey) -> Vec<MemberView> {
    book(broker, cursor).map_or_else(Vec::new, |book| book.members(cursor))
}

/// `GET /api/v1/cursors/{name}/members`
pub(crate) async fn members(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer {
    let (cursor, book) = need_book(&shared.broker, &caller, &name)?;
    let mut members = book.members(&cursor);
    for member in &mut members {
        member.differs_in.clear();
    }
    mark_differences(&mut members);
    let rows: Vec<Value> = members.iter().map(member_row).collect();
    let head =
        json!({ "cursor": name, "dialect": book.dialect(), "state": book.state(&cursor), "members": rows });
    Ok(Json(head).into_response())
}

fn member_row(member: &MemberView) -> Value {
    let assignment = member.assignment.iter();
    json!({
        "id": member.id,
        "instance_id": member.instance_id,
        "client_id": member.client_id,
        "software": member.software,
        "software_version": member.software_version,
        "address": member.address,
        "session_timeout_ms": member.session_timeout_ms,
        "rebalance_timeout_ms": member.rebalance_timeout_ms,
        "assignors": member.assignors,
        "subscription": member.subscription,
        "assignment": assignment
            .map(|(stream, partition)| json!({ "stream": &*stream.name, "partition": partition.0 }))
            .collect::<Vec<_>>(),
        "joined_at_ms": member.joined_at_ms,
        "last_heartbeat_ms": member.last_heartbeat_ms,
        "last_commit_ms": member.last_commit_ms,
        "differs_in": member.differs_in,
    })
}

/// `GET /api/v1/cursors/{name}/history`: the last rebalances, oldest first.
pub(crate) async fn history(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Answer {
    let (cursor, book) = need_book(&shared.broker, &caller, &name)?;
    let rows: Vec<Value> = book.history(&cursor).iter().map(rebalance_row).collect();
    Ok(Json(json!({ "cursor": name, "dialect": book.dialect(), "rebalances": rows })).into_response())
}

fn rebalance_row(rebalance: &RebalanceView) -> Value {
    let (cause, reason) = cause(&rebalance.cause);
    json!({
        "at_ms": rebalance.at_ms,
        "took_ms": rebalance.took_ms,
        "generation": rebalance.generation,
        "cause": cause,
        "reason": reason,
        "member": rebalance.member,
        "client_id": rebalance.client_id,
        "members": rebalance.members,
    })
}

fn cause(cause: &RebalanceCause) -> (&'static str, Option<&str>) {
    match cause {
        RebalanceCause::Joined => ("joined", None),
        RebalanceCause::Left { reason } => {
            ("left", Some(reason.as_str()).filter(|reason| !reason.is_empty()))
        }
        RebalanceCause::SessionExpired => ("session expired", None),
        RebalanceCause::RebalanceTimeout => ("rebalance time-out", None),
        RebalanceCause::SubscriptionChanged => ("subscription changed", None),
        RebalanceCause::Evicted => ("evicted", None),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct EvictBody {
    member: String,
}

/// `POST /api/v1/cursors/{name}/evict`
pub(crate) async fn evict(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Path(name): Path<String>,
    Body(body): Body<EvictBody>,
) -> Answer {
    let (cursor, book) = need_book(&shared.broker, &caller, &name)?;
    caller.need(Action::Configure, &name)?;
    book.evict(&cursor, &body.member).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
