//! The API: requests by subject, one file per kind.

mod account_info;
mod consumer_create;
mod consumer_delete;
mod consumer_info;
mod consumer_pause;
mod consumer_unpin;
mod direct_get;
mod message;
mod msg_delete;
mod msg_get;
mod stream_changes;
mod stream_info;
mod stream_list;
mod stream_purge;

use std::sync::{Arc, atomic::Ordering::Relaxed};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::consumer_create::Form;
use super::{
    account::{Account, Bound},
    config::from_json,
    error::ApiError,
};
use crate::server::Server;

/// What every request's subject begins with.
const PREFIX: &[u8] = b"$JS.API.";

/// What every answer's type begins with.
const TYPE_PREFIX: &str = "io.nats.jetstream.api.v1.";

/// Requests that only who serves them answers: with nobody there they find nobody, as everything else does not.
const SERVED_PREFIXES: [&str; 2] = ["CONSUMER.MSG.NEXT.", "DIRECT.GET"];

/// What the original takes in its system account alone, and passes over elsewhere.
const SYSTEM_PREFIXES: [&str; 3] = ["META.LEADER.STEPDOWN", "SERVER.REMOVE", "ACCOUNT."];

/// A request, by its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    AccountInfo,
    StreamCreate(String),
    StreamUpdate(String),
    StreamInfo(String),
    StreamDelete(String),
    StreamPurge(String),
    StreamNames,
    StreamList,
    MsgGet(String),
    MsgDelete(String),
    /// Of a stream; the last message of a subject, where there is one.
    DirectGet(String, Option<String>),
    ConsumerCreate(String, Form),
    ConsumerInfo(String, String),
    ConsumerDelete(String, String),
    ConsumerPause(String, String),
    ConsumerUnpin(String, String),
    ConsumerNames(String),
    ConsumerList(String),
    /// What is not done here: the middle of its answer's type, and why.
    Refused(&'static str, ApiError),
}

/// An answer, ready to be sent.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// A whole block, or nothing.
    pub headers: Vec<u8>,
    pub body: Vec<u8>,
}

/// What a request is answered with: fields beside its type, or an error.
type Answered = std::result::Result<Map<String, Value>, ApiError>;

impl Request {
    /// The request of a subject; `None` when nobody answers there.
    pub(crate) fn of(subject: &[u8], account: &Account) -> Option<Self> {
        let subject = std::str::from_utf8(subject.strip_prefix(PREFIX)?).ok()?;
        if let Some(rest) = subject.strip_prefix("DIRECT.GET.") {
            let (stream, key) =
                rest.split_once('.').map_or((rest, None), |(stream, key)| (stream, Some(key)));
            let answers = account.stream(stream).is_some_and(|bound| bound.config.allow_direct);
            return answers.then(|| Request::DirectGet(stream.to_owned(), key.map(str::to_owned)));
        }
        if SERVED_PREFIXES.iter().chain(&SYSTEM_PREFIXES).any(|prefix| subject.starts_with(prefix)) {
            return None;
        }
        let known = match subject.strip_prefix("CONSUMER.") {
            Some(rest) => Request::of_consumer(rest),
            None => Request::of_stream(subject),
        };
        Some(known.unwrap_or_else(|| Request::Refused("system", ApiError::bad_request())))
    }

    /// The request of a subject that is not about consumers.
    fn of_stream(subject: &str) -> Option<Self> {
        let tokens: Vec<&str> = subject.split('.').collect();
        let name = |name: &&str| (*name).to_owned();
        Some(match tokens.as_slice() {
            ["INFO"] => Request::AccountInfo,
            ["STREAM", "NAMES"] => Request::StreamNames,
            ["STREAM", "LIST"] => Request::StreamList,
            ["STREAM", "CREATE", stream] => Request::StreamCreate(name(stream)),
            ["STREAM", "UPDATE", stream] => Request::StreamUpdate(name(stream)),
            ["STREAM", "INFO", stream] => Request::StreamInfo(name(stream)),
            ["STREAM", "DELETE", stream] => Request::StreamDelete(name(stream)),
            ["STREAM", "PURGE", stream] => Request::StreamPurge(name(stream)),
            ["STREAM", "MSG", "GET", stream] => Request::MsgGet(name(stream)),
            ["STREAM", "MSG", "DELETE", stream] => Request::MsgDelete(name(stream)),
            ["STREAM", "LEADER", "STEPDOWN", _] => {
                Request::Refused("stream_leader_stepdown", ApiError::cluster_required())
            }
            ["STREAM", "PEER", "REMOVE", _] => {
                Request::Refused("stream_remove_peer", ApiError::cluster_required())
            }
            ["STREAM", "SNAPSHOT", _] => Request::Refused("stream_snapshot", ApiError::no_snapshot()),
            ["STREAM", "RESTORE", _] => Request::Refused("stream_restore", ApiError::not_restored()),
            _ => return None,
        })
    }

    /// The request of a subject after `CONSUMER.`.
    fn of_consumer(subject: &str) -> Option<Self> {
        let tokens: Vec<&str> = subject.splitn(4, '.').collect();
        let name = |name: &str| name.to_owned();
        Some(match tokens.as_slice() {
            ["DURABLE", "CREATE", stream, consumer] if !consumer.contains('.') => {
                Request::ConsumerCreate(name(stream), Form::Durable { consumer: name(consumer) })
            }
            ["LEADER", "STEPDOWN", _, _] => {
                Request::Refused("consumer_leader_stepdown", ApiError::cluster_required())
            }
            ["CREATE", stream] => Request::ConsumerCreate(name(stream), Form::Unnamed),
            ["CREATE", stream, consumer] => {
                Request::ConsumerCreate(name(stream), Form::Named { consumer: name(consumer), filter: None })
            }
            ["CREATE", stream, consumer, filter] => {
                let filter = Some(name(filter));
                Request::ConsumerCreate(name(stream), Form::Named { consumer: name(consumer), filter })
            }
            ["INFO", stream, consumer] => Request::ConsumerInfo(name(stream), name(consumer)),
            ["DELETE", stream, consumer] => Request::ConsumerDelete(name(stream), name(consumer)),
            ["PAUSE", stream, consumer] => Request::ConsumerPause(name(stream), name(consumer)),
            ["UNPIN", stream, consumer] => Request::ConsumerUnpin(name(stream), name(consumer)),
            ["NAMES", stream] => Request::ConsumerNames(name(stream)),
            ["LIST", stream] => Request::ConsumerList(name(stream)),
            _ => return None,
        })
    }

    /// The middle of its answer's type.
    fn kind(&self) -> &'static str {
        match self {
            Request::AccountInfo => "account_info",
            Request::StreamCreate(_) => "stream_create",
            Request::StreamUpdate(_) => "stream_update",
            Request::StreamInfo(_) => "stream_info",
            Request::StreamDelete(_) => "stream_delete",
            Request::StreamPurge(_) => "stream_purge",
            Request::StreamNames => "stream_names",
            Request::StreamList => "stream_list",
            Request::MsgGet(_) | Request::DirectGet(..) => "stream_msg_get",
            Request::MsgDelete(_) => "stream_msg_delete",
            Request::ConsumerCreate(..) => "consumer_create",
            Request::ConsumerInfo(..) => "consumer_info",
            Request::ConsumerDelete(..) => "consumer_delete",
            Request::ConsumerPause(..) => "consumer_pause",
            Request::ConsumerUnpin(..) => "consumer_unpin",
            Request::ConsumerNames(_) => "consumer_names",
            Request::ConsumerList(_) => "consumer_list",
            Request::Refused(kind, _) => kind,
        }
    }

    /// Does what is asked. Whatever changes something is durable when this returns.
    pub(crate) async fn answer(&self, server: &Server, account: &Account, body: &[u8]) -> Vec<Answer> {
        let answered = match self {
            Request::DirectGet(stream, key) => {
                return direct_get::answer(server, account, stream, key.as_deref(), body).await;
            }
            Request::AccountInfo => Ok(account_info::answer(account)),
            Request::StreamNames => stream_list::names(account, body),
            Request::StreamList => stream_list::list(server, account, body).await,
            Request::StreamCreate(stream) => stream_changes::create(server, account, stream, body).await,
            Request::StreamUpdate(stream) => stream_changes::update(server, account, stream, body).await,
            Request::StreamInfo(stream) => stream_info::answer(server, account, stream, body).await,
            Request::StreamDelete(stream) => stream_changes::delete(server, account, stream, body).await,
            Request::StreamPurge(stream) => stream_purge::answer(server, account, stream, body).await,
            Request::MsgGet(stream) => msg_get::answer(server, account, stream, body).await,
            Request::MsgDelete(stream) => msg_delete::answer(server, account, stream, body).await,
            Request::ConsumerCreate(stream, form) => {
                consumer_create::answer(server, account, stream, form, body).await
            }
            Request::ConsumerInfo(of, name) => consumer_info::answer(server, account, of, name, body),
            Request::ConsumerDelete(of, name) => {
                consumer_delete::answer(server, account, of, name, body).await
            }
            Request::ConsumerPause(of, name) => consumer_pause::answer(server, account, of, name, body).await,
            Request::ConsumerUnpin(of, name) => consumer_unpin::answer(account, of, name, body),
            Request::ConsumerNames(of) => consumer_info::names(account, of, body),
            Request::ConsumerList(of) => consumer_info::list(server, account, of, body),
            Request::Refused(_, why) => Err(why.clone()),
        };
        account.requests.all.fetch_add(1, Relaxed);
        account.requests.refused.fetch_add(u64::from(answered.is_err()), Relaxed);
        vec![Answer { headers: Vec::new(), body: self.json(answered) }]
    }

    fn json(&self, answered: Answered) -> Vec<u8> {
        let mut all = Map::new();
        all.insert("type".to_owned(), format!("{TYPE_PREFIX}{}_response", self.kind()).into());
        match answered {
            Ok(fields) => all.extend(fields),
            Err(error) => {
                all.extend(fields([("error", json(&error))]));
                // Fields that typed clients read also where there is an error.
                if let Request::StreamPurge(_) = self {
                    all.extend(fields([("purged", 0.into())]));
                }
            }
        }
        serde_json::to_vec(&all).unwrap_or_default()
    }
}

fn fields<const N: usize>(all: [(&str, Value); N]) -> Map<String, Value> {
    all.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn stream(account: &Account, name: &str) -> std::result::Result<Arc<Bound>, ApiError> {
    account.stream(name).ok_or_else(ApiError::stream_not_found)
}

/// A request that is looked at only where it is an object, as the original does with those that have defaults for all.
fn asked<T: Default + for<'a> Deserialize<'a>>(body: &[u8]) -> std::result::Result<T, ApiError> {
    match body.trim_ascii_start().first() {
        Some(b'{' | b'[') => from_json(body),
        _ => Ok(T::default()),
    }
}

/// A request that takes no body; an object without fields is none.
fn expect_empty(body: &[u8]) -> std::result::Result<(), ApiError> {
    let is_empty_object =
        || serde_json::from_slice::<Map<String, Value>>(body).is_ok_and(|map| map.is_empty());
    if body.is_empty() || is_empty_object() { Ok(()) } else { Err(ApiError::not_empty()) }
}
