//! The spine's errors as HTTP answers.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use model::{Error, ErrorKind, Result};
use serde_json::json;

/// An error on its way out. Built from [`model::Error`] with `?`.
#[derive(Debug)]
pub(crate) struct Failed(pub(crate) Error);

/// What a handler answers.
pub(crate) type Answer = Result<Response, Failed>;

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed(error)
    }
}

impl IntoResponse for Failed {
    fn into_response(self) -> Response {
        let (status, kind) = code(self.0.kind());
        if self.0.kind() == ErrorKind::Internal {
            tracing::error!(error = %self.0, "an admin request failed");
        }
        (status, Json(json!({ "error": { "kind": kind, "message": self.0.text() } }))).into_response()
    }
}

/// What was found; `None` when it went while it was looked at, which spoils no list.
pub(crate) fn unless_gone<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(found) => Ok(Some(found)),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::Closed) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Status and word of each kind: the one place that decides.
pub(crate) fn code(kind: ErrorKind) -> (StatusCode, &'static str) {
    match kind {
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "not_found"),
        ErrorKind::Exists => (StatusCode::CONFLICT, "exists"),
        ErrorKind::Invalid => (StatusCode::BAD_REQUEST, "invalid"),
        ErrorKind::Limit => (StatusCode::UNPROCESSABLE_ENTITY, "limit"),
        ErrorKind::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated"),
        ErrorKind::Denied => (StatusCode::FORBIDDEN, "denied"),
        ErrorKind::Conflict => (StatusCode::CONFLICT, "conflict"),
        ErrorKind::Fenced => (StatusCode::CONFLICT, "fenced"),
        ErrorKind::Throttled => (StatusCode::TOO_MANY_REQUESTS, "throttled"),
        ErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        ErrorKind::Indeterminate => (StatusCode::INTERNAL_SERVER_ERROR, "indeterminate"),
        ErrorKind::TooLate => (StatusCode::GONE, "too_late"),
        ErrorKind::Closed => (StatusCode::GONE, "closed"),
        ErrorKind::Corrupt => (StatusCode::INTERNAL_SERVER_ERROR, "corrupt"),
        ErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_meanwhile_is_no_error_of_a_list() {
        assert_eq!(unless_gone(Ok(1)), Ok(Some(1)));
        assert_eq!(unless_gone::<()>(Err(Error::not_found("it"))), Ok(None));
        assert_eq!(unless_gone::<()>(Err(Error::new(ErrorKind::Closed, "it"))), Ok(None));
        assert!(unless_gone::<()>(Err(Error::corrupt("it"))).is_err());
    }

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        let kinds = [
            ErrorKind::NotFound,
            ErrorKind::Exists,
            ErrorKind::Invalid,
            ErrorKind::Limit,
            ErrorKind::Unauthenticated,
            ErrorKind::Denied,
            ErrorKind::Conflict,
            ErrorKind::Fenced,
            ErrorKind::Throttled,
            ErrorKind::Unavailable,
            ErrorKind::Indeterminate,
            ErrorKind::TooLate,
            ErrorKind::Closed,
            ErrorKind::Corrupt,
            ErrorKind::Internal,
        ];
        let words: std::collections::BTreeSet<_> = kinds.iter().map(|kind| code(*kind).1).collect();
        assert_eq!(words.len(), kinds.len());
    }
}
