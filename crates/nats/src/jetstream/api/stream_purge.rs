//! `STREAM.PURGE`: takes messages out, all or those below a sequence, all but the newest, of all subjects or some.

use broker::{Span, Spans};
use model::Offset;
use serde::Deserialize;

use super::{Answered, fields, stream};
use crate::{
    core::subject,
    jetstream::{account::Account, error::ApiError},
    server::Server,
};

/// Messages taken out in one unit.
const STEP: usize = 65_536;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    filter: String,
    /// Up to, and without, this sequence.
    seq: u64,
    /// So many of the newest stay.
    keep: u64,
}

pub(super) async fn answer(server: &Server, account: &Account, name: &str, body: &[u8]) -> Answered {
    let asked: Asked = super::asked(body)?;
    let bound = stream(account, name)?;
    if bound.config.sealed {
        return Err(ApiError::sealed());
    }
    if bound.config.deny_purge {
        return Err(ApiError::purge_failed("stream purge not permitted"));
    }
    if asked.seq > 0 && asked.keep > 0 {
        return Err(ApiError::bad_request());
    }
    let filter = if asked.filter.is_empty() { ">" } else { asked.filter.as_str() };
    let Some(pattern) = subject::pattern(filter.as_bytes()) else {
        // A subject that is none has no messages.
        return Ok(fields([("success", true.into()), ("purged", 0.into())]));
    };
    let partition = &bound.partition;
    let mut to = partition.staged_end();
    if asked.seq > 0 {
        to = to.min(Offset(asked.seq - 1));
    }
    let mut from = partition.bounds().start;
    let mut left = partition.count_under(&pattern, from) - partition.count_under(&pattern, to);
    left = left.saturating_sub(asked.keep);
    let (mut purged, mut wait) = (0, server.broker.catalog_staged());
    while left > 0 {
        let count = usize::try_from(left).unwrap_or(STEP).min(STEP);
        let found = partition.offsets_under(&pattern, from, to, count);
        let Some(last) = found.last() else { break };
        from = last.plus(1);
        purged += found.len() as u64;
        left = left.saturating_sub(found.len() as u64);
        let spans: Spans = found.into_iter().map(Span::one).collect();
        wait = server.broker.drop_records(partition, &spans).map_err(|error| ApiError::of(&error))?;
    }
    server.broker.durable(wait).await.map_err(|error| ApiError::of(&error))?;
    Ok(fields([("success", true.into()), ("purged", purged.into())]))
}
