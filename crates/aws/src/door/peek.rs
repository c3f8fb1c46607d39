//! Looking at a queue under the path that developers' tools read: `/_aws/sqs/messages?QueueUrl=URL` and
//! `/_aws/sqs/messages/REGION/ACCOUNT/NAME`, with `ShowInvisible` and `ShowDelayed`. Not an operation of AWS.

use std::borrow::Cow;

use hyper::{header::ACCEPT, http::request::Parts};
use model::StreamKey;

use super::answer::{JSON_1_0, Protocol};
use crate::{
    AccountId, AwsError, Context,
    codec::{Node, Wire, json, query::Parameters},
    shapes::ReceiveMessageOutput,
    sqs::Peek,
};

const PATH: &str = "/_aws/sqs/messages";

/// What is to be looked at.
pub(super) struct PeekRequest<'a> {
    place: Place<'a>,
    peek: Peek,
}

enum Place<'a> {
    Url(Option<Cow<'a, str>>),
    Named { region: &'a str, account: &'a str, name: &'a str },
}

impl<'a> PeekRequest<'a> {
    /// The request, if it is one. Who accepts JSON gets it.
    pub(super) fn of(
        protocol: &mut Protocol,
        parts: &'a Parts,
        body: &'a [u8],
        parameters: &Parameters<'a>,
    ) -> Result<Option<PeekRequest<'a>>, AwsError> {
        let Some(rest) = parts.uri.path().strip_prefix(PATH) else { return Ok(None) };
        let segments: Vec<&str> = rest.split('/').filter(|segment| !segment.is_empty()).collect();
        let mut given: Parameters<'a> = parameters.clone();
        if protocol.wire() == Wire::Json
            && let Node::Map(members) = json::parse(body)?
        {
            given.extend(members.into_iter().filter_map(|(name, value)| Some((name, text_of(value)?))));
        }
        let accepts_json =
            parts.headers.get(ACCEPT).is_some_and(|accept| accept.as_bytes() == b"application/json");
        if accepts_json && protocol.wire() == Wire::Query {
            *protocol = Protocol::Json(JSON_1_0);
        }
        let find =
            |wanted: &str| given.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
        let is_on =
            |name: &str| find(name).is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
        let place = match segments[..] {
            [] => Place::Url(find("QueueUrl")),
            [region, account, name] => Place::Named { region, account, name },
            _ => return Ok(None),
        };
        let peek = Peek { show_invisible: is_on("ShowInvisible"), show_delayed: is_on("ShowDelayed") };
        Ok(Some(PeekRequest { place, peek }))
    }

    pub(super) async fn look(&self, ctx: &Context) -> Result<ReceiveMessageOutput, AwsError> {
        let key = match &self.place {
            Place::Url(None) => return Err(AwsError::no_such_queue()),
            Place::Url(Some(url)) => ctx.queue(url)?,
            Place::Named { region, account, name } => {
                let account = AccountId::parse(account).ok_or_else(AwsError::no_such_queue)?;
                StreamKey::queue(&ctx.namespace(Some(&account), Some(region))?, name)
            }
        };
        self.peek.look(ctx, &key).await
    }
}

fn text_of(value: Node<'_>) -> Option<Cow<'_, str>> {
    match value {
        Node::Text(text) => Some(text),
        Node::Bool(flag) => Some(flag.to_string().into()),
        Node::Number(number) => Some(number.into()),
        Node::Null | Node::List(_) | Node::Map(_) => None,
    }
}
