//! Which service and operation a request means, and in which protocol it is written. The order is that in which AWS's
//! clients can be told apart: a Smithy path, a target header, an action with the version of its API, the service of the
//! signature's scope, and last the path of a queue.

use std::borrow::Cow;

use hyper::{HeaderMap, Method, Uri, header::CONTENT_TYPE, http::request::Parts};

use super::answer::{JSON_1_0, JSON_1_1, Protocol, SNS_XMLNS, SQS_XMLNS};
use crate::{
    AwsError,
    codec::{
        Node, Wire, json,
        query::{self, Parameters},
    },
    shapes::{Input, Operation},
    sts,
};

/// What is to be called.
#[derive(Debug)]
pub(crate) enum Call<'a> {
    /// An operation of SQS.
    Sqs(Input<'a>),
    /// An operation of STS, by name.
    Sts(Cow<'a, str>),
}

impl Call<'_> {
    /// The service as signatures name it.
    pub(crate) fn service(&self) -> &'static str {
        match self {
            Call::Sqs(_) => "sqs",
            Call::Sts(_) => "sts",
        }
    }
}

const TARGET: &str = "x-amz-target";
const SMITHY_PROTOCOL: &str = "smithy-protocol";

/// Longer names of operations are not shown in texts.
const NAME_SHOWN_MAX: usize = 128;

/// The protocol as far as the head of a request says it.
pub(crate) fn protocol(headers: &HeaderMap) -> Protocol {
    if headers.contains_key(SMITHY_PROTOCOL) {
        return Protocol::Cbor;
    }
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    if content_type.starts_with(JSON_1_1.as_bytes()) {
        return Protocol::Json(JSON_1_1);
    }
    if headers.contains_key(TARGET) || content_type.starts_with(JSON_1_0.as_bytes()) {
        return Protocol::Json(JSON_1_0);
    }
    Protocol::Query(SQS_XMLNS)
}

/// The parameters of a form, when the request is one: those of the URL, then those of the body.
pub(crate) fn parameters<'a>(
    protocol: Protocol,
    parts: &'a Parts,
    body: &'a [u8],
) -> Result<Parameters<'a>, AwsError> {
    let mut parameters = Vec::new();
    query::parse(parts.uri.query().unwrap_or_default().as_bytes(), &mut parameters)?;
    if protocol.wire() == Wire::Query {
        query::parse(body, &mut parameters)?;
    }
    Ok(parameters)
}

/// What a request asks for. May narrow `protocol` down to the service, which errors are told in.
pub(crate) fn call<'a>(
    protocol: &mut Protocol,
    parts: &'a Parts,
    body: &'a [u8],
    parameters: Parameters<'a>,
    service: Option<&str>,
) -> Result<Call<'a>, AwsError> {
    match *protocol {
        Protocol::Cbor => Err(AwsError::unknown_action(shown(parts.uri.path()))),
        Protocol::Json(_) => by_target(parts, body),
        Protocol::Query(_) => by_action(protocol, &parts.method, &parts.uri, parameters, service),
    }
}

fn by_target<'a>(parts: &'a Parts, body: &'a [u8]) -> Result<Call<'a>, AwsError> {
    let target = parts.headers.get(TARGET).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let operation = target.strip_prefix("AmazonSQS.").and_then(Operation::parse);
    let operation = operation.ok_or_else(|| AwsError::unknown_action(shown(target)))?;
    let node = with_queue_url(json::parse(body)?, &parts.uri);
    Input::decode(operation, node, Wire::Json).map(Call::Sqs)
}

fn by_action<'a>(
    protocol: &mut Protocol,
    method: &Method,
    uri: &'a Uri,
    parameters: Parameters<'a>,
    service: Option<&str>,
) -> Result<Call<'a>, AwsError> {
    if !matches!(*method, Method::GET | Method::POST) {
        return Err(AwsError::unknown_action(shown(method.as_str())));
    }
    let find =
        |wanted: &str| parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.clone());
    let version = find("Version").unwrap_or_default();
    let action = find("Action");
    let service = match &*version {
        "2010-03-31" => "sns",
        "2011-06-15" => "sts",
        "" if action.as_deref() == Some("GetCallerIdentity") => "sts",
        "" => service.filter(|service| matches!(*service, "sns" | "sts")).unwrap_or("sqs"),
        // SQS has had several versions, and their requests read alike.
        _ => "sqs",
    };
    *protocol = Protocol::Query(match service {
        "sns" => SNS_XMLNS,
        "sts" => sts::XMLNS,
        _ => SQS_XMLNS,
    });
    let action = action
        .filter(|action| !action.is_empty())
        .ok_or_else(|| AwsError::missing_action("The request must contain the parameter Action."))?;
    if service == "sts" {
        return Ok(Call::Sts(action));
    }
    let operation = Operation::parse(&action).filter(|_| service == "sqs");
    let operation = operation.ok_or_else(|| AwsError::unknown_action(shown(&action)))?;
    let node = with_queue_url(query::tree(parameters)?, uri);
    Input::decode(operation, node, Wire::Query).map(Call::Sqs)
}

/// A request to the path of a queue says so which queue it means.
fn with_queue_url<'a>(mut node: Node<'a>, uri: &'a Uri) -> Node<'a> {
    const NAME: &str = "QueueUrl";
    let path = uri.path();
    if let Node::Map(members) = &mut node
        && path.len() > 1
        && !members.iter().any(|(name, _)| name == NAME)
    {
        members.push((Cow::Borrowed(NAME), Node::Text(Cow::Borrowed(path))));
    }
    node
}

/// The service that a scope names, among those that a request can be told apart by.
pub(crate) fn service(scope: &str) -> &'static str {
    ["sqs", "sts", "sns"].into_iter().find(|known| *known == scope).unwrap_or("another")
}

fn shown(name: &str) -> &str {
    name.get(..name.floor_char_boundary(NAME_SHOWN_MAX)).unwrap_or_default()
}
