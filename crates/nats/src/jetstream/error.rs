//! The errors of the API and of publish acknowledgements: what clients name by code, with the original's texts.

use serde::Serialize;

/// An error as clients see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct ApiError {
    /// As in HTTP.
    pub code: u16,
    /// The original's own number.
    pub err_code: u16,
    pub description: String,
}

impl ApiError {
    fn new(code: u16, err_code: u16, description: impl Into<String>) -> Self {
        ApiError { code, err_code, description: description.into() }
    }

    /// One of the errors of a consumer's configuration.
    pub(crate) fn consumer(err_code: u16, description: impl Into<String>) -> Self {
        ApiError::new(400, err_code, description)
    }

    /// Why a consumer could not be made or changed.
    pub(crate) fn consumer_create(why: impl Into<String>) -> Self {
        ApiError::new(500, 10_012, why)
    }

    pub(crate) fn consumer_not_found() -> Self {
        ApiError::new(404, 10_014, "consumer not found")
    }

    pub(crate) fn bad_request() -> Self {
        ApiError::new(400, 10_003, "bad request")
    }

    pub(crate) fn invalid_json(why: &str) -> Self {
        ApiError::new(400, 10_025, format!("invalid JSON: {why}"))
    }

    /// What several servers do together, asked of one.
    pub(crate) fn cluster_required() -> Self {
        ApiError::new(503, 10_010, "JetStream clustering support required")
    }

    pub(crate) fn not_restored() -> Self {
        ApiError::new(500, 10_062, "restore failed: not supported by this server")
    }

    pub(crate) fn no_snapshot() -> Self {
        ApiError::new(500, 10_064, "snapshot failed: not supported by this server")
    }

    pub(crate) fn sealed() -> Self {
        ApiError::new(400, 10_109, "invalid operation on sealed stream")
    }

    pub(crate) fn path_in_name() -> Self {
        ApiError::new(400, 10_128, "Stream name can not contain path separators")
    }

    pub(crate) fn negative_replicas() -> Self {
        ApiError::new(400, 10_133, "replicas count cannot be negative")
    }

    /// A text that is no time.
    pub(crate) fn no_time(text: &str) -> Self {
        let layout = "2006-01-02T15:04:05Z07:00";
        ApiError::invalid_json(&format!(
            "parsing time {text:?} as {layout:?}: cannot parse {text:?} as \"2006\""
        ))
    }

    pub(crate) fn no_message() -> Self {
        ApiError::new(404, 10_037, "no message found")
    }

    pub(crate) fn not_empty() -> Self {
        ApiError::new(400, 10_038, "expected an empty request payload")
    }

    pub(crate) fn sequence_not_found(seq: u64) -> Self {
        ApiError::new(400, 10_043, format!("sequence {seq} not found"))
    }

    pub(crate) fn invalid_config(why: impl Into<String>) -> Self {
        ApiError::new(500, 10_052, why)
    }

    pub(crate) fn message_too_large() -> Self {
        ApiError::new(400, 10_054, "message size exceeds maximum allowed")
    }

    pub(crate) fn name_mismatch() -> Self {
        ApiError::new(400, 10_056, "stream name in subject does not match request")
    }

    pub(crate) fn delete_failed(why: &str) -> Self {
        ApiError::new(500, 10_057, why)
    }

    pub(crate) fn name_in_use() -> Self {
        ApiError::new(400, 10_058, "stream name already in use with a different configuration")
    }

    pub(crate) fn stream_not_found() -> Self {
        ApiError::new(404, 10_059, "stream not found")
    }

    pub(crate) fn other_stream() -> Self {
        ApiError::new(400, 10_060, "expected stream does not match")
    }

    pub(crate) fn overlap() -> Self {
        ApiError::new(400, 10_065, "subjects overlap with an existing stream")
    }

    pub(crate) fn wrong_last_message_id(last: &str) -> Self {
        ApiError::new(400, 10_070, format!("wrong last msg ID: {last}"))
    }

    pub(crate) fn wrong_last_sequence(last: u64) -> Self {
        ApiError::new(400, 10_071, format!("wrong last sequence: {last}"))
    }

    pub(crate) fn update_failed(why: impl Into<String>) -> Self {
        ApiError::new(500, 10_069, why)
    }

    pub(crate) fn replicas() -> Self {
        ApiError::new(500, 10_074, "replicas > 1 not supported in non-clustered mode")
    }

    pub(crate) fn store_failed(why: &str) -> Self {
        ApiError::new(503, 10_077, why)
    }

    pub(crate) fn purge_failed(why: &str) -> Self {
        ApiError::new(500, 10_110, why)
    }

    pub(crate) fn rollup(why: &str) -> Self {
        ApiError::new(500, 10_111, why)
    }

    pub(crate) fn ttl_invalid() -> Self {
        ApiError::new(400, 10_165, "invalid per-message TTL")
    }

    pub(crate) fn ttl_disabled() -> Self {
        ApiError::new(400, 10_166, "per-message TTL is disabled")
    }

    pub(crate) fn last_subject_sequence() -> Self {
        ApiError::new(400, 10_193, "missing sequence for expected last sequence per subject")
    }

    /// What the broker could not do, for requests of the API.
    pub(crate) fn of(error: &model::Error) -> Self {
        use model::ErrorKind;
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::Closed => ApiError::stream_not_found(),
            ErrorKind::Exists | ErrorKind::Conflict => ApiError::name_in_use(),
            ErrorKind::Invalid => ApiError::invalid_config(error.text()),
            ErrorKind::Limit => ApiError::new(500, 10_049, error.text()),
            ErrorKind::Unauthenticated | ErrorKind::Denied => ApiError::bad_request(),
            ErrorKind::Fenced
            | ErrorKind::Throttled
            | ErrorKind::Unavailable
            | ErrorKind::Indeterminate
            | ErrorKind::TooLate
            | ErrorKind::Corrupt
            | ErrorKind::Internal => ApiError::store_failed(error.text()),
        }
    }
}
