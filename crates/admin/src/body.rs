//! Request bodies and query strings, with errors in the API's own shape.

use std::{sync::Arc, time::Duration};

use axum::{
    Json, RequestExt,
    extract::{DefaultBodyLimit, FromRequest, FromRequestParts, Query, Request, rejection::JsonRejection},
    http::{StatusCode, header, request::Parts},
};
use model::{Error, limits};
use serde::de::DeserializeOwned;
use tokio::{sync::OwnedSemaphorePermit, time::timeout};

use crate::{
    caller::invalid,
    error::Failed,
    server::{Shared, Working},
};

/// Bytes of a body, unless it has records in it.
const BODY_LEN_MAX: usize = 2 << 20;

/// Bytes of a body with records in it: the longest record there is, as base64, and what is said of it.
pub(crate) const RECORDS_LEN_MAX: usize = limits::BATCH_LEN_MAX / 3 * 4 + BODY_LEN_MAX;

/// How long a longer body than others may take to come: the next one waits for it.
const LONG_LIMIT: Duration = Duration::from_secs(60);

/// A JSON body; the content type must say JSON, which no form of a web page can.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + 'static> FromRequest<S> for Body<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Failed> {
        parsed(request, BODY_LEN_MAX).await.map(Body)
    }
}

async fn parsed<T: DeserializeOwned + 'static>(mut request: Request, len_max: usize) -> Result<T, Failed> {
    DefaultBodyLimit::max(len_max).apply(&mut request);
    let working = request.extensions().get::<Working>().cloned().unwrap_or_default();
    working.set(false); // not before it came whole
    let parsed: Result<Json<T>, JsonRejection> = request.extract().await;
    working.set(true);
    parsed.map(|Json(value)| value).map_err(|e| match e.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Failed(Error::limit(format!(
            "the body is longer than {len_max} bytes, the most that is taken here"
        ))),
        _ => Failed(invalid(e.body_text())),
    })
}

/// A JSON body with records in it, which may be long. One of those is held in memory at a time.
pub(crate) struct Records<T> {
    pub(crate) body: T,
    /// Until the records are stored.
    pub(crate) _turn: Option<OwnedSemaphorePermit>,
}

impl<T: DeserializeOwned + 'static> FromRequest<Arc<Shared>> for Records<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, shared: &Arc<Shared>) -> Result<Self, Failed> {
        let len =
            request.headers().get(header::CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
        if len.is_some_and(|len: usize| len <= BODY_LEN_MAX) {
            return Ok(Records { body: parsed(request, BODY_LEN_MAX).await?, _turn: None });
        }
        let turn = shared.long_bodies.clone().acquire_owned().await;
        let turn = turn.map_err(|_| Error::unavailable("the server is ending"))?;
        let body = timeout(LONG_LIMIT, parsed(request, RECORDS_LEN_MAX)).await;
        let late = |_| Error::unavailable(format!("the body did not come within {} s", LONG_LIMIT.as_secs()));
        Ok(Records { body: body.map_err(late)??, _turn: Some(turn) })
    }
}

/// The query string.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failed> {
        Query::<T>::try_from_uri(&parts.uri)
            .map(|Query(value)| Asked(value))
            .map_err(|e| Failed(invalid(format!("the query does not read: {e}"))))
    }
}

/// What a path names.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Failed;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failed> {
        let named = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        named
            .map(|axum::extract::Path(value)| Path(value))
            .map_err(|e| Failed(invalid(format!("the path does not read: {}", e.body_text()))))
    }
}
