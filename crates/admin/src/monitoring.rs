//! `/varz`, `/connz` and their like: what the tools of NATS read, answered by its slice. With `callback=NAME` the answer
//! is a script that calls it, as with the original.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{OriginalUri, Query, State},
    http::header,
    response::IntoResponse,
    routing::get,
};
use model::Error;

use crate::{caller::Caller, error::Answer, server::Shared};

/// The endpoints that there may be.
const PATHS: [&str; 5] = ["/varz", "/connz", "/subsz", "/subscriptionsz", "/jsz"];

pub(crate) fn router() -> Router<Arc<Shared>> {
    PATHS.iter().fold(Router::new(), |router, path| router.route(path, get(answer)))
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    caller: Caller,
    OriginalUri(uri): OriginalUri,
    Query(query): Query<BTreeMap<String, String>>,
) -> Answer {
    caller.need_operator()?;
    let monitoring = shared.options.monitoring.as_ref();
    let answer = monitoring.and_then(|monitoring| monitoring(uri.path(), &query));
    let answer = answer.ok_or_else(|| Error::not_found(format!("nothing answers {}", uri.path())))?;
    match query.get("callback") {
        None => Ok(Json(answer).into_response()),
        Some(name)
            if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.') =>
        {
            let script = format!("{name}({answer})");
            Ok(([(header::CONTENT_TYPE, "application/javascript")], script).into_response())
        }
        Some(_) => Err(Error::invalid("a callback is a name").into()),
    }
}
