//! `CONSUMER.DELETE`.

use super::{Answered, consumer_info::find, expect_empty, fields};
use crate::{
    jetstream::{account::Account, error::ApiError},
    server::Server,
};

pub(super) async fn answer(
    server: &Server,
    account: &Account,
    of: &str,
    name: &str,
    body: &[u8],
) -> Answered {
    expect_empty(body)?;
    let wait = {
        let _changing = account.changing.lock();
        let consumer = find(account, of, name)?;
        let wait = account.consumers.forget(&consumer).map_err(|error| ApiError::of(&error))?;
        consumer.end();
        wait
    };
    server.broker.durable(wait).await.map_err(|error| ApiError::of(&error))?;
    Ok(fields([("success", true.into())]))
}
