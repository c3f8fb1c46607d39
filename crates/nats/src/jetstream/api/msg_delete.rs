//! `STREAM.MSG.DELETE`: takes one message out. Its bytes go with the segment that has them, erased or not.

use broker::Span;
use model::Offset;
use serde::Deserialize;

use super::{Answered, fields, stream};
use crate::{
    jetstream::{account::Account, config::from_json, error::ApiError},
    server::Server,
};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    seq: u64,
    #[serde(rename = "no_erase")]
    _no_erase: bool,
}

pub(super) async fn answer(server: &Server, account: &Account, name: &str, body: &[u8]) -> Answered {
    if super::expect_empty(body).is_ok() {
        return Err(ApiError::bad_request());
    }
    let asked: Asked = from_json(body)?;
    let bound = stream(account, name)?;
    if bound.config.sealed {
        return Err(ApiError::sealed());
    }
    if bound.config.deny_delete {
        return Err(ApiError::delete_failed("message delete not permitted"));
    }
    let not_found = || ApiError::sequence_not_found(asked.seq);
    let offset = asked.seq.checked_sub(1).map(Offset);
    let offset = offset.ok_or_else(|| ApiError::delete_failed("no message found"))?;
    let partition = &bound.partition;
    if offset >= partition.staged_end() {
        return Err(ApiError::delete_failed("stream store EOF"));
    }
    if !partition.has(offset) {
        return Err(not_found());
    }
    let spans = [Span::one(offset)].into_iter().collect();
    let seq = server.broker.drop_records(partition, &spans).map_err(|error| ApiError::of(&error))?;
    server.broker.durable(seq).await.map_err(|error| ApiError::of(&error))?;
    Ok(fields([("success", true.into())]))
}
