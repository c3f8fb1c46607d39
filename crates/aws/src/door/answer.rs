//! Answers and errors, each in the protocol that was asked in.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Response, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue},
};

use super::request_id::RequestId;
use crate::{
    AwsError,
    codec::{
        Wire,
        encode::{Encode, Object, element, xml_text},
    },
    shapes::Output,
};

/// The protocol of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// AWS JSON of this version, 1.0 or 1.1.
    Json(&'static str),
    /// AWS Query, with the namespace of its service.
    Query(&'static str),
    /// Smithy RPC v2 with CBOR, in which nothing but errors is answered.
    Cbor,
}

/// The namespace of SQS in XML.
pub(crate) const SQS_XMLNS: &str = "http://queue.amazonaws.com/doc/2012-11-05/";
/// The namespace of SNS in XML.
pub(crate) const SNS_XMLNS: &str = "http://sns.amazonaws.com/doc/2010-03-31/";
pub(crate) const JSON_1_0: &str = "application/x-amz-json-1.0";
pub(crate) const JSON_1_1: &str = "application/x-amz-json-1.1";

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const QUERY_ERROR: HeaderName = HeaderName::from_static("x-amzn-query-error");
const SMITHY_PROTOCOL: HeaderName = HeaderName::from_static("smithy-protocol");

/// A whole answer.
pub(crate) type Answer = Response<Full<Bytes>>;

impl Protocol {
    /// How requests in it are read.
    pub(crate) fn wire(self) -> Wire {
        match self {
            Protocol::Json(_) | Protocol::Cbor => Wire::Json,
            Protocol::Query(_) => Wire::Query,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Protocol::Json(version) => version,
            Protocol::Query(_) => "text/xml",
            Protocol::Cbor => "application/cbor",
        }
    }

    /// What an operation answered.
    pub(crate) fn success(self, output: &Output, id: RequestId) -> Answer {
        let mut body = Vec::with_capacity(output.len_hint());
        match self {
            Protocol::Json(_) | Protocol::Cbor => output.json(&mut body),
            Protocol::Query(xmlns) => {
                let name = output.operation().name();
                enveloped(&mut body, name, xmlns, id, |body| {
                    let result = format!("{name}Result");
                    let mut members = Vec::new();
                    if output.xml_members(&mut members) {
                        element(&result, body, |body| body.append(&mut members));
                    }
                });
            }
        }
        self.answer(StatusCode::OK, body, id)
    }

    /// An answer in XML whose result `inside` appends.
    pub(crate) fn xml(self, action: &str, id: RequestId, inside: impl FnOnce(&mut Vec<u8>)) -> Answer {
        let mut body = Vec::new();
        if let Protocol::Query(xmlns) = self {
            enveloped(&mut body, action, xmlns, id, inside);
        }
        self.answer(StatusCode::OK, body, id)
    }

    /// What an operation, or the door before it, refused.
    pub(crate) fn failure(self, error: &AwsError, id: RequestId) -> Answer {
        let mut body = Vec::new();
        let message = error.text(self.wire());
        match self {
            Protocol::Json(_) => {
                let mut object = Object::open(&mut body);
                object.member("__type", error.shape);
                object.member("message", message);
                object.close();
            }
            Protocol::Query(xmlns) => error_body(&mut body, error, message, xmlns, id),
            Protocol::Cbor => {
                body.push(0xa2); // a map of two
                for text in ["__type", error.shape, "message", message] {
                    cbor_text(text, &mut body);
                }
            }
        }
        let mut answer = self.answer(error.status, body, id);
        if !matches!(self, Protocol::Query(_)) {
            let value = format!("{};{}", error.code, error.fault.text());
            if let Ok(value) = HeaderValue::try_from(value) {
                answer.headers_mut().insert(QUERY_ERROR, value);
            }
        }
        answer
    }

    fn answer(self, status: StatusCode, body: Vec<u8>, id: RequestId) -> Answer {
        let mut answer = Response::new(Full::new(Bytes::from(body)));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        if let Ok(id) = HeaderValue::try_from(id.to_string()) {
            headers.insert(REQUEST_ID, id);
        }
        if self == Protocol::Cbor {
            headers.insert(SMITHY_PROTOCOL, HeaderValue::from_static("rpc-v2-cbor"));
        }
        answer
    }
}

/// Lets the connection end behind the answer.
pub(crate) fn closing(mut answer: Answer) -> Answer {
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    answer
}

fn enveloped(
    body: &mut Vec<u8>,
    action: &str,
    xmlns: &str,
    id: RequestId,
    inside: impl FnOnce(&mut Vec<u8>),
) {
    body.extend_from_slice(format!("<?xml version=\"1.0\"?><{action}Response xmlns=\"{xmlns}\">").as_bytes());
    inside(body);
    element("ResponseMetadata", body, |body| id.to_string().xml("RequestId", body));
    body.extend_from_slice(format!("</{action}Response>").as_bytes());
}

fn error_body(body: &mut Vec<u8>, error: &AwsError, message: &str, xmlns: &str, id: RequestId) {
    body.extend_from_slice(format!("<?xml version=\"1.0\"?><ErrorResponse xmlns=\"{xmlns}\">").as_bytes());
    element("Error", body, |body| {
        error.fault.text().xml("Type", body);
        error.code.xml("Code", body);
        element("Message", body, |body| xml_text(message, body));
        body.extend_from_slice(b"<Detail/>");
    });
    id.to_string().xml("RequestId", body);
    body.extend_from_slice(b"</ErrorResponse>");
}

/// A text of CBOR (RFC 8949 §3.1), below 64 KiB.
fn cbor_text(text: &str, body: &mut Vec<u8>) {
    let text = text.get(..text.floor_char_boundary(usize::from(u16::MAX))).unwrap_or_default();
    match u8::try_from(text.len()) {
        Ok(len @ 0..24) => body.push(0x60 | len),
        Ok(len) => body.extend_from_slice(&[0x78, len]),
        Err(_) => {
            body.push(0x79);
            body.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    body.extend_from_slice(text.as_bytes());
}
