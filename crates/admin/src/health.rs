//! Is it alive, is it ready: `/healthz` with the body and parameters of NATS's monitoring endpoint, and `/readyz`.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use model::{Namespace, StreamKey};
use serde::Deserialize;
use serde_json::json;

use crate::server::Shared;

/// Parameters of `/healthz` as nats-server has them (2.10 and later).
#[derive(Debug, Default, Deserialize)]
pub(crate) struct HealthQuery {
    /// Ask only whether streams can be served at all, not each of them; the same here.
    #[serde(default, rename = "js-enabled-only")]
    _enabled_only: Option<String>,
    #[serde(default, rename = "js-server-only")]
    _server_only: Option<String>,
    /// Namespace of `stream`; `$G` is the default.
    account: Option<String>,
    /// A stream that must be there.
    stream: Option<String>,
}

pub(crate) async fn healthz(State(shared): State<Arc<Shared>>, Query(query): Query<HealthQuery>) -> Response {
    if let Some(failure) = shared.broker.failure() {
        return unhealthy(StatusCode::SERVICE_UNAVAILABLE, &failure.to_string());
    }
    if let Some(name) = &query.stream {
        let namespace = match query.account.as_deref() {
            None | Some("$G") => Namespace::default(),
            Some(account) => Namespace::new(account, "default"),
        };
        if shared.broker.stream(&StreamKey::log(&namespace, name)).is_none() {
            return unhealthy(
                StatusCode::NOT_FOUND,
                &format!("JetStream stream '{name}' could not be found"),
            );
        }
    }
    Json(json!({ "status": "ok" })).into_response()
}

fn unhealthy(status: StatusCode, why: &str) -> Response {
    let word = if status == StatusCode::NOT_FOUND { "error" } else { "unavailable" };
    (status, Json(json!({ "status": word, "status_code": status.as_u16(), "error": why }))).into_response()
}

/// Whether requests that change something would be served.
pub(crate) async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    match shared.broker.failure() {
        None => Json(json!({ "status": "ready", "listeners": shared.options.listeners })).into_response(),
        Some(failure) => unhealthy(StatusCode::SERVICE_UNAVAILABLE, &failure.to_string()),
    }
}
