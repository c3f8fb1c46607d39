//! `STREAM.CREATE`, `STREAM.UPDATE`, `STREAM.DELETE`.

use std::sync::Arc;

use broker::{Facets, StreamSpec};
use model::{ErrorKind, Offset};

use super::{Answered, expect_empty, stream, stream_info::describe};
use crate::{
    jetstream::{
        account::{Account, Bound},
        advisory::Done,
        config::{RetentionPolicy, StreamConfig, created_ms},
        consumer::{Consumer, config::ConsumerConfig},
        error::ApiError,
    },
    server::Server,
};

/// Makes a stream; one that is there with the same configuration is answered as if it had been made.
pub(super) async fn create(server: &Server, account: &Account, name: &str, body: &[u8]) -> Answered {
    let asked = StreamConfig::parse(body)?;
    if asked.name != name {
        return Err(ApiError::name_mismatch());
    }
    if name.contains(['/', '\\']) {
        return Err(ApiError::path_in_name());
    }
    if asked.mirror_direct {
        return Err(ApiError::invalid_config("stream has no mirror but does have mirror direct"));
    }
    if asked.sealed {
        return Err(ApiError::invalid_config("stream configuration for create can not be sealed"));
    }
    let config = asked.checked(server.options.accepts_replicas)?;
    let broker = &server.broker;
    let wait = {
        let _changing = account.changing.lock();
        match account.stream(name) {
            Some(known) if known.config == config => broker.catalog_staged(),
            Some(_) => return Err(ApiError::name_in_use()),
            None => {
                if account.overlapping(&config.patterns(), name).is_some() {
                    return Err(ApiError::overlap());
                }
                let settings = config.settings(broker.env().clock.wall_ms());
                let facets = Facets { hidden: is_hidden(name), ..Facets::default() };
                let spec = StreamSpec { settings, facets, ..StreamSpec::with_partitions(1) };
                let start = Offset(config.first_seq.saturating_sub(1));
                let staged = broker.stage_create_stream_at(account.key(name), spec, start);
                staged.map_err(|error| ApiError::of(&error))?.1
            }
        }
    };
    broker.durable(wait).await.map_err(|error| ApiError::of(&error))?;
    account.consumers.advise_of_stream(name, Done::Created);
    let bound = stream(account, name)?;
    let mut answer = describe(server, account, &bound).await?;
    answer.insert("did_create".to_owned(), true.into());
    Ok(answer)
}

/// Names that have no face in other dialects.
fn is_hidden(name: &str) -> bool {
    ["__", "$", "KV_", "OBJ_"].iter().any(|prefix| name.starts_with(prefix))
}

/// Changes a stream's configuration.
pub(super) async fn update(server: &Server, account: &Account, name: &str, body: &[u8]) -> Answered {
    let config = StreamConfig::parse(body)?.checked(server.options.accepts_replicas)?;
    if config.name != name {
        return Err(ApiError::name_mismatch());
    }
    let broker = &server.broker;
    let (wait, readers) = {
        let _changing = account.changing.lock();
        let known = stream(account, name)?;
        if known.is_foreign {
            return Err(ApiError::invalid_config(
                "the stream is changed where it was made, by another protocol",
            ));
        }
        let config = known.config.updated(config)?;
        if account.overlapping(&config.patterns(), name).is_some() {
            return Err(ApiError::overlap());
        }
        check_consumers(account, &known, &config)?;
        let settings = config.settings(created_ms(known.stream.settings()));
        let change = |current: &mut broker::StreamSettings| {
            *current = settings;
            Ok(())
        };
        let altered = broker.stage_alter_stream(&account.key(name), change);
        let wait = altered.map_err(|error| ApiError::of(&error))?.1;
        (wait, readers_of(account, &known, &config))
    };
    readers.iter().for_each(|reader| reader.end());
    broker.durable(wait).await.map_err(|error| ApiError::of(&error))?;
    account.consumers.advise_of_stream(name, Done::Updated);
    let bound = stream(account, name)?;
    describe(server, account, &bound).await
}

/// The consumers that hold no message of a stream that keeps from now on only what consumers want: they end, and a client
/// that goes on makes one that does.
fn readers_of(account: &Account, known: &Bound, new: &StreamConfig) -> Vec<Arc<Consumer>> {
    if known.config.retention != RetentionPolicy::Limits || new.retention == RetentionPolicy::Limits {
        return Vec::new();
    }
    let all = account.consumers.of_stream(known);
    all.into_iter().filter(|consumer| consumer.work.is_none()).collect()
}

/// Whether the consumers that are there keep to what consumers may ask for from now on.
fn check_consumers(account: &Account, known: &Bound, new: &StreamConfig) -> Result<(), ApiError> {
    let limits = &new.consumer_limits;
    if known.config.consumer_limits == *limits {
        return Ok(());
    }
    let all = account.consumers.of_stream(known);
    let is_over = |config: &ConsumerConfig| {
        config.inactive_threshold > limits.inactive_threshold
            || config.max_ack_pending > limits.max_ack_pending
    };
    let over: Vec<&str> =
        all.iter().filter(|one| is_over(&one.config())).map(|one| one.name.as_str()).collect();
    if over.is_empty() {
        return Ok(());
    }
    Err(ApiError::update_failed(format!("change to limits violates consumers: {}", over.join(", "))))
}

/// Deletes a stream with its messages.
pub(super) async fn delete(server: &Server, account: &Account, name: &str, body: &[u8]) -> Answered {
    expect_empty(body)?;
    let bound = stream(account, name)?;
    if bound.parts > 1 {
        return Err(ApiError::delete_failed("one partition of several is not deleted by itself"));
    }
    let key = bound.stream.key().clone();
    match server.broker.delete_stream(&key).await {
        Ok(()) => {
            account.consumers.advise_of_stream(name, Done::Deleted);
            Ok(super::fields([("success", true.into())]))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(ApiError::stream_not_found()),
        Err(error) => Err(ApiError::of(&error)),
    }
}
