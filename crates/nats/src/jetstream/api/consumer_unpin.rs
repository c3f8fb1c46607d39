//! `CONSUMER.UNPIN`: another client may be pinned.

use serde::Deserialize;

use super::{Answered, consumer_info::find};
use crate::jetstream::{account::Account, config::from_json, error::ApiError};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    group: String,
}

pub(super) fn answer(account: &Account, of: &str, name: &str, body: &[u8]) -> Answered {
    let asked: Asked = if body.is_empty() { Asked::default() } else { from_json(body)? };
    if asked.group.is_empty() {
        return Err(ApiError::invalid_json("consumer group not specified"));
    }
    if !find(account, of, name)?.unpin(&asked.group) {
        return Err(ApiError::consumer(10_160, "Provided priority group does not exist for this consumer"));
    }
    Ok(serde_json::Map::new())
}
