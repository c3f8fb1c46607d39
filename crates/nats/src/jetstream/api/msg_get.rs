//! `STREAM.MSG.GET`: one message by its sequence, the last of a subject, or the next of one.

use base64::{Engine, prelude::BASE64_STANDARD};
use model::Offset;
use serde::Deserialize;
use serde_json::json;

use super::{
    Answered, fields,
    message::{self, Found},
    stream,
};
use crate::{
    core::subject,
    jetstream::{
        account::{Account, Bound},
        config::from_json,
        error::ApiError,
        time,
    },
    server::Server,
};

/// Which message.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    seq: u64,
    last_by_subj: String,
    next_by_subj: String,
    start_time: Option<String>,
    no_hdr: bool,
    /// For several messages, which are had directly alone.
    batch: i64,
    max_bytes: i64,
    #[serde(rename = "multi_last")]
    _multi_last: Vec<String>,
    #[serde(rename = "up_to_seq")]
    _up_to_seq: u64,
    #[serde(rename = "up_to_time")]
    _up_to_time: Option<String>,
}

pub(super) async fn answer(server: &Server, account: &Account, name: &str, body: &[u8]) -> Answered {
    if super::expect_empty(body).is_ok() {
        return Err(ApiError::bad_request());
    }
    let asked: Asked = from_json(body)?;
    if !is_one(&asked) {
        return Err(ApiError::bad_request());
    }
    let bound = stream(account, name)?;
    let found = find(server, &bound, &asked).await?.ok_or_else(ApiError::no_message)?;
    let mut message =
        fields([("subject", String::from_utf8_lossy(&found.subject).into()), ("seq", found.seq.into())]);
    if !found.headers.is_empty() && !asked.no_hdr {
        message.insert("hdrs".to_owned(), BASE64_STANDARD.encode(&found.headers).into());
    }
    if !found.body.is_empty() {
        message.insert("data".to_owned(), BASE64_STANDARD.encode(&found.body).into());
    }
    message.insert("time".to_owned(), time::text(found.at_ms).into());
    Ok(fields([("message", json!(message))]))
}

/// Whether it names one message, in one way.
fn is_one(asked: &Asked) -> bool {
    let (last, next) = (!asked.last_by_subj.is_empty(), !asked.next_by_subj.is_empty());
    let is_alone = asked.batch <= 0 && asked.max_bytes <= 0;
    is_alone
        && match (asked.seq, &asked.start_time) {
            (0, None) => last != next,
            (0, Some(_)) | (_, None) => !last,
            (_, Some(_)) => false,
        }
}

/// The message that is asked for, as far as it is durable.
async fn find(server: &Server, bound: &Bound, asked: &Asked) -> std::result::Result<Option<Found>, ApiError> {
    bound.shed(&server.broker);
    // A subject that is none has no message.
    let pattern = |text: &str| subject::pattern(text.as_bytes()).ok_or_else(ApiError::no_message);
    let partition = &bound.partition;
    let from = match &asked.start_time {
        None => Offset(asked.seq.saturating_sub(1)),
        Some(text) => {
            let at_ms = time::parse(text).ok_or_else(|| ApiError::no_time(text))?;
            let found = server.broker.search_time(partition, at_ms).await;
            match found.map_err(|error| ApiError::of(&error))? {
                Some((offset, _)) => offset,
                None => return Ok(None),
            }
        }
    };
    let offset = if !asked.last_by_subj.is_empty() {
        partition.last_under(&pattern(&asked.last_by_subj)?, partition.bounds().end)
    } else if !asked.next_by_subj.is_empty() {
        partition.next_under(&pattern(&asked.next_by_subj)?, from)
    } else {
        Some(from)
    };
    match offset {
        Some(offset) => message::at(server, bound, offset).await,
        None => Ok(None),
    }
}
