//! Is it alive, is it ready: `/healthz` with the body and parameters of NATS's monitoring endpoint, and `/readyz`.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::json;

use crate::{body::Asked, server::Shared};

/// Parameters of `/healthz` as nats-server has them.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct HealthQuery {
    /// Ask only whether streams can be served at all, not each of them; the same here.
    #[serde(default, rename = "js-enabled-only")]
    enabled_only: String,
    #[serde(default, rename = "js-server-only")]
    server_only: String,
    /// Namespace of `stream`; `$G` is the default.
    #[serde(default)]
    account: String,
    /// A stream that must be there.
    #[serde(default)]
    stream: String,
    /// A consumer of the stream that must be there.
    #[serde(default)]
    consumer: String,
}

impl HealthQuery {
    /// Whether it reads, in the original's words (`HandleHealthz` and `healthz` of its `server/monitor.go`).
    fn check(&self) -> Result<(), String> {
        for (name, value) in [("js-enabled-only", &self.enabled_only), ("js-server-only", &self.server_only)]
        {
            // What Go's `strconv.ParseBool` takes, and nothing at all.
            if !["", "1", "t", "T", "true", "TRUE", "True", "0", "f", "F", "false", "FALSE", "False"]
                .contains(&value.as_str())
            {
                return Err(format!(
                    "error decoding boolean for '{name}': strconv.ParseBool: parsing {value:?}: invalid syntax"
                ));
            }
        }
        let missing = |name, of| Err(format!("\"{name}\" must not be empty when checking {of} health"));
        match (&*self.account, &*self.stream, &*self.consumer) {
            ("", stream, _) if !stream.is_empty() => missing("account", "stream"),
            (_, "", consumer) if !consumer.is_empty() => missing("stream", "consumer"),
            _ => Ok(()),
        }
    }

    /// What is asked for and not there, as the dialect that knows says it.
    fn missing(&self, shared: &Shared) -> Option<String> {
        let HealthQuery { account, stream, consumer, .. } = self;
        let names = [("account", account), ("stream", stream), ("consumer", consumer)];
        let names = names.map(|(name, value)| (name.to_owned(), value.clone())).into();
        let missing = shared.options.monitoring.as_ref()?("/healthz", &names)?;
        missing.as_str().map(str::to_owned)
    }
}

pub(crate) async fn healthz(State(shared): State<Arc<Shared>>, Asked(query): Asked<HealthQuery>) -> Response {
    if let Some(failure) = shared.broker.failure() {
        return unhealthy(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &failure.to_string());
    }
    if let Err(why) = query.check() {
        return unhealthy(StatusCode::BAD_REQUEST, "error", &why);
    }
    match query.missing(&shared) {
        Some(missing) => unhealthy(StatusCode::NOT_FOUND, "unavailable", &missing),
        None => Json(json!({ "status": "ok" })).into_response(),
    }
}

fn unhealthy(status: StatusCode, word: &str, why: &str) -> Response {
    (status, Json(json!({ "status": word, "error": why }))).into_response()
}

/// Whether requests that change something would be served.
pub(crate) async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    match shared.broker.failure() {
        None => Json(json!({ "status": "ready", "listeners": shared.options.listeners })).into_response(),
        Some(failure) => unhealthy(StatusCode::SERVICE_UNAVAILABLE, "unavailable", &failure.to_string()),
    }
}
