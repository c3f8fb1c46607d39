//! For test suites: only in an ephemeral run.

use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode, response::IntoResponse};
use model::Error;
use serde::Deserialize;
use serde_json::json;

use crate::{body::Body, caller::Caller, error::Answer, server::Shared};

/// A clock that can be put forward.
pub trait TestClock: Send + Sync + 'static {
    /// Puts both clocks forward, and wakes whoever waits for a time.
    fn advance(&self, by_ms: u64);
}

/// The furthest that one request puts the clock forward: ten years.
const ADVANCE_MAX_MS: u64 = 10 * 365 * 86_400_000;

/// `POST /reset`: deletes every stream, every cursor with its members and every route, in every namespace. Users stay.
pub(crate) async fn reset(State(shared): State<Arc<Shared>>, caller: Caller) -> Answer {
    caller.need_operator()?;
    let broker = &shared.broker;
    let (mut streams, mut cursors) = (0_u64, 0_u64);
    // First, so that nobody is a member of anything any more when the cursors go.
    for members in broker.memberships() {
        members.forget_all().await?;
    }
    for namespace in broker.namespaces() {
        for cursor in broker.cursors(&namespace) {
            broker.delete_cursor(&cursor).await?;
            cursors += 1;
        }
        // Queues come last in that order, and those over a log have to go before it.
        for stream in broker.streams(&namespace, None).iter().rev() {
            broker.delete_stream(stream.key()).await?;
            streams += 1;
        }
    }
    for route in broker.routes() {
        broker.remove_route(route.id).await?;
    }
    Ok(Json(json!({ "streams": streams, "cursors": cursors })).into_response())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AdvanceBody {
    by_ms: u64,
}

/// `POST /clock/advance`
pub(crate) async fn advance(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    Body(body): Body<AdvanceBody>,
) -> Answer {
    caller.need_operator()?;
    if body.by_ms > ADVANCE_MAX_MS {
        return Err(Error::limit(format!("by_ms is at most {ADVANCE_MAX_MS}")).into());
    }
    if let Some(clock) = &shared.options.test_clock {
        clock.advance(body.by_ms);
    }
    Ok((StatusCode::OK, Json(json!({ "now_ms": shared.broker.env().clock.wall_ms() }))).into_response())
}
