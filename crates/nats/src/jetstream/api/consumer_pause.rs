//! `CONSUMER.PAUSE`: nothing is delivered until then; without a time, or one that is over, it goes on.

use serde::Deserialize;

use super::{Answered, consumer_info::find, fields};
use crate::{
    jetstream::{account::Account, error::ApiError, time},
    server::Server,
};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    pause_until: Option<String>,
}

pub(super) async fn answer(
    server: &Server,
    account: &Account,
    of: &str,
    name: &str,
    body: &[u8],
) -> Answered {
    let asked: Asked = super::asked(body)?;
    let until_ms = match asked.pause_until.as_deref() {
        None | Some(time::NEVER) => None,
        Some(text) => Some(time::parse(text).ok_or_else(|| ApiError::no_time(text))?),
    };
    let now_ms = server.broker.env().clock.wall_ms();
    let until_ms = until_ms.filter(|until| *until > now_ms);
    let wait = {
        let _changing = account.changing.lock();
        let consumer = find(account, of, name)?;
        let mut config = (*consumer.config()).clone();
        config.pause_until = until_ms.map(time::text);
        account.consumers.advise_of_pause(&consumer, config.pause_until.as_deref());
        consumer.set_config(config);
        account.consumers.keep(&consumer).map_err(|error| ApiError::of(&error))?
    };
    server.broker.durable(wait).await.map_err(|error| ApiError::of(&error))?;
    let until = until_ms.map_or(time::NEVER.to_owned(), time::text);
    let mut answer = fields([("paused", until_ms.is_some().into()), ("pause_until", until.into())]);
    if let Some(until_ms) = until_ms {
        answer.insert("pause_remaining".to_owned(), (until_ms - now_ms).saturating_mul(1_000_000).into());
    }
    Ok(answer)
}
