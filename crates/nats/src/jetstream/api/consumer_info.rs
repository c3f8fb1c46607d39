//! `CONSUMER.INFO`, `CONSUMER.NAMES`, `CONSUMER.LIST`.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use super::{Answered, expect_empty, fields, stream};
use crate::{
    jetstream::{account::Account, consumer::Consumer, error::ApiError},
    server::Server,
};

const NAMES_MAX: usize = 1_024;
const CONSUMERS_MAX: usize = 256;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    offset: usize,
}

/// The consumer of that name.
pub(super) fn find(account: &Account, of: &str, name: &str) -> Result<Arc<Consumer>, ApiError> {
    let bound = stream(account, of)?;
    account.consumers.find(&bound, name).ok_or_else(ApiError::consumer_not_found)
}

pub(super) fn answer(server: &Server, account: &Account, of: &str, name: &str, body: &[u8]) -> Answered {
    expect_empty(body)?;
    Ok(find(account, of, name)?.info(&server.id))
}

/// Consumers, and the fields about the page that they are.
type Page = (Vec<Arc<Consumer>>, [(&'static str, Value); 3]);

fn page(account: &Account, of: &str, body: &[u8], limit: usize) -> Result<Page, ApiError> {
    let asked: Asked = super::asked(body)?;
    let bound = stream(account, of)?;
    let (page, total) = account.consumers.page_of(&bound, asked.offset, limit);
    let offset = asked.offset.min(total);
    Ok((page, [("total", total.into()), ("offset", offset.into()), ("limit", limit.into())]))
}

pub(super) fn names(account: &Account, of: &str, body: &[u8]) -> Answered {
    let (page, about) = page(account, of, body, NAMES_MAX)?;
    let names: Vec<&str> = page.iter().map(|consumer| consumer.name.as_str()).collect();
    let mut answer = fields(about);
    answer.insert("consumers".to_owned(), names.into());
    Ok(answer)
}

pub(super) fn list(server: &Server, account: &Account, of: &str, body: &[u8]) -> Answered {
    let (page, about) = page(account, of, body, CONSUMERS_MAX)?;
    let all: Vec<Value> = page.iter().map(|consumer| consumer.info(&server.id).into()).collect();
    let mut answer = fields(about);
    answer.insert("consumers".to_owned(), all.into());
    Ok(answer)
}
