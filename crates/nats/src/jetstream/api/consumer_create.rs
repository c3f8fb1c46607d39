//! `CONSUMER.CREATE` in its three forms, and `CONSUMER.DURABLE.CREATE`.

use serde::Deserialize;

use super::{Answered, stream};
use crate::{
    jetstream::{
        account::Account,
        config::from_json,
        consumer::{
            config::ConsumerConfig,
            make::{Action, make},
        },
        error::ApiError,
    },
    server::Server,
};

/// What the subject of a request says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// `CONSUMER.CREATE.<stream>`
    Unnamed,
    /// `CONSUMER.CREATE.<stream>.<consumer>`, and the filter that may follow.
    Named { consumer: String, filter: Option<String> },
    /// `CONSUMER.DURABLE.CREATE.<stream>.<consumer>`
    Durable { consumer: String },
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Asked {
    stream_name: String,
    config: ConsumerConfig,
    action: String,
}

pub(super) async fn answer(
    server: &Server,
    account: &Account,
    name: &str,
    form: &Form,
    body: &[u8],
) -> Answered {
    let asked: Asked = if body.is_empty() { Asked::default() } else { from_json(body)? };
    if asked.stream_name != name {
        return Err(ApiError::name_mismatch());
    }
    let action = match asked.action.as_str() {
        "" => Action::CreateOrUpdate,
        "create" => Action::Create,
        "update" => Action::Update,
        other => return Err(ApiError::invalid_json(&format!("unknown consumer action: \"{other}\""))),
    };
    let mut config = asked.config;
    match form {
        Form::Unnamed if config.is_durable() => {
            let text = "consumer expected to be ephemeral but a durable name was set in request";
            return Err(ApiError::consumer(10_020, text));
        }
        Form::Unnamed => {}
        Form::Durable { consumer } => {
            if !config.is_durable() {
                let text = "consumer expected to be durable but a durable name was not set";
                return Err(ApiError::consumer(10_018, text));
            }
            name_it(&mut config, consumer)?;
        }
        Form::Named { consumer, filter } => {
            name_it(&mut config, consumer)?;
            if let Some(filter) = filter {
                check_filter(&config, filter)?;
            }
        }
    }
    if config.num_replicas > 1 && !server.options.accepts_replicas {
        return Err(ApiError::replicas());
    }
    let bound = stream(account, name)?;
    let consumer = make(server, account, &bound, config, action).await?;
    Ok(consumer.info(&server.id))
}

fn name_it(config: &mut ConsumerConfig, name: &str) -> Result<(), ApiError> {
    if name.contains(['/', '\\']) {
        return Err(ApiError::consumer(10_127, "Consumer name can not contain path separators"));
    }
    if config.is_durable() && config.durable_name != name {
        let text = "consumer name in subject does not match durable name in request";
        return Err(ApiError::consumer(10_017, text));
    }
    config.name = name.to_owned();
    Ok(())
}

fn check_filter(config: &ConsumerConfig, filter: &str) -> Result<(), ApiError> {
    if !config.filter_subjects.is_empty() {
        let text = "consumer with multiple subject filters cannot use subject based API";
        return Err(ApiError::consumer(10_137, text));
    }
    if config.filter_subject != filter {
        let text = "Consumer create request did not match filtered subject from create subject";
        return Err(ApiError::consumer(10_131, text));
    }
    Ok(())
}
