//! Request bodies and query strings, with errors in the API's own shape.

use axum::{
    Json, RequestExt,
    extract::{FromRequest, FromRequestParts, Query, Request, rejection::JsonRejection},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use crate::{caller::invalid, error::Failed};

/// A JSON body. At most 2 MiB (axum's default); the content type must say JSON, which no form of a web page can.
pub(crate) struct Body<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + 'static> FromRequest<S> for Body<T> {
    type Rejection = Failed;

    async fn from_request(request: Request, _state: &S) -> Result<Self, Failed> {
        let parsed: Result<Json<T>, JsonRejection> = request.extract().await;
        parsed.map(|Json(value)| Body(value)).map_err(|e| Failed(invalid(e.body_text())))
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
