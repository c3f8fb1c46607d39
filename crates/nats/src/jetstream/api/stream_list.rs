//! `STREAM.NAMES` and `STREAM.LIST`, in pages.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{Answered, fields, stream_info::describe};
use crate::{
    core::subject,
    jetstream::{
        account::{Account, Bound},
        config::overlap,
        error::ApiError,
    },
    server::Server,
};

const NAMES_MAX: usize = 1_024;
const STREAMS_MAX: usize = 256;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    offset: usize,
    subject: String,
}

/// Streams, and the fields about the page that they are.
type Page = (Vec<Arc<Bound>>, [(&'static str, Value); 3]);

fn page(account: &Account, body: &[u8], limit: usize) -> Result<Page, ApiError> {
    let asked: Asked = super::asked(body)?;
    let mut streams = account.streams();
    if !asked.subject.is_empty() {
        let pattern = subject::pattern(asked.subject.as_bytes()).ok_or_else(ApiError::bad_request)?;
        streams.retain(|bound| bound.config.patterns().iter().any(|one| overlap(one, &pattern)));
    }
    let total = streams.len();
    let offset = asked.offset.min(total);
    let page = streams.into_iter().skip(offset).take(limit).collect();
    Ok((page, [("total", total.into()), ("offset", offset.into()), ("limit", limit.into())]))
}

pub(super) fn names(account: &Account, body: &[u8]) -> Answered {
    let (streams, about) = page(account, body, NAMES_MAX)?;
    let names: Vec<&str> = streams.iter().map(|bound| bound.name()).collect();
    let mut answer = fields(about);
    // Clients tell "none" from "not an answer" by the field's absence or null.
    let names = if names.is_empty() { Value::Null } else { names.into() };
    answer.insert("streams".to_owned(), names);
    Ok(answer)
}

pub(super) async fn list(server: &Server, account: &Account, body: &[u8]) -> Answered {
    let (streams, about) = page(account, body, STREAMS_MAX)?;
    let mut all: Vec<Value> = Vec::with_capacity(streams.len());
    for bound in &streams {
        all.push(describe(server, account, bound).await?.into());
    }
    let mut answer = fields(about);
    answer.insert("streams".to_owned(), all.into());
    Ok(answer)
}
