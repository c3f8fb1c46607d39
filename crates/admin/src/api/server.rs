//! What this server is.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use serde_json::json;

use crate::{caller::Caller, server::Shared};

/// `GET /api/v1/server`
pub(crate) async fn describe(State(shared): State<Arc<Shared>>, _caller: Caller) -> Response {
    let options = shared.broker.options();
    Json(json!({
        "version": env!("CARGO_PKG_VERSION"),
        "incarnation": format!("{:032x}", shared.broker.incarnation_id()),
        "data_dir": shared.options.data_dir,
        "ephemeral": options.ephemeral,
        "listeners": shared.options.listeners,
        "advertised": shared.options.advertised,
        "memory_budget_len": options.memory_budget_len,
        "default_partitions": options.default_partitions,
        "streams_max": options.streams_max,
        "failure": shared.broker.failure().map(|e| e.to_string()),
    }))
    .into_response()
}
