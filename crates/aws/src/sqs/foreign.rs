//! Messages and the records of other dialects, both ways, by the rules of [`broker::crossing`].
//!
//! What is peculiar to SQS: an attribute says whether it is text, a number or binary, so numbers and bytes need no hint
//! to come back as such; ten attributes is all there is room for; a trace header has a place of its own; and text may
//! have only the characters of XML.

use std::{borrow::Cow, cell::RefCell, collections::HashSet};

use broker::crossing::{self, Carried, OWN_PREFIX, Room, TYPES, Values};
use bytes::Bytes;
use model::{Header, HeaderValue, Record};
use serde_json::{Map, Value as Json};

use super::{
    message::{Attribute, Message, TRACE_HEADER, Value},
    validate,
};

/// A message as other dialects see it.
pub(crate) fn to_record(message: &Message<'_>) -> Record {
    let mut record = Record {
        key: message.group_id.as_deref().map(|group| Bytes::copy_from_slice(group.as_bytes())),
        body: Some(Bytes::copy_from_slice(message.body.as_bytes())),
        ..Record::default()
    };
    let mut headers: Vec<(String, Option<Bytes>)> = Vec::with_capacity(message.attributes.len() + 1);
    let mut types = Types::default();
    for attribute in &message.attributes {
        let value = match &attribute.value {
            Value::Text(text) if attribute.name == TYPES && types.read(text) => continue,
            Value::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Value::Binary(bytes) => Bytes::copy_from_slice(bytes),
        };
        headers.push((attribute.name.clone().into_owned(), Some(value)));
    }
    message.attributes.iter().for_each(|attribute| types.add(attribute));
    headers.extend(types.header());
    crossing::restore(&mut record, headers);
    if let Some(trace) = &message.trace_header {
        let value = HeaderValue::Text(trace.clone().into_owned());
        record.headers.push(Header { name: TRACE_HEADER.to_owned(), value });
    }
    record
}

/// The hints of a message: those that it has, and those that its attributes' types are.
#[derive(Default)]
struct Types(Map<String, Json>);

impl Types {
    /// Takes in the hints of a client; whether they read.
    fn read(&mut self, text: &str) -> bool {
        let read = serde_json::from_str::<Map<String, Json>>(text);
        let is_read = read.is_ok();
        self.0.extend(read.unwrap_or_default());
        is_read
    }

    fn add(&mut self, attribute: &Attribute<'_>) {
        let word = match &attribute.value {
            _ if attribute.name.starts_with(OWN_PREFIX) || self.0.contains_key(attribute.name.as_ref()) => {
                return;
            }
            Value::Binary(_) => "binary",
            Value::Text(text) if validate::base_type(&attribute.data_type) == "Number" => {
                if text.parse::<i64>().is_ok() { "int" } else { "float" }
            }
            Value::Text(_) => return,
        };
        self.0.insert(attribute.name.clone().into_owned(), word.into());
    }

    fn header(self) -> Option<(String, Option<Bytes>)> {
        let is_empty = self.0.is_empty();
        (!is_empty).then(|| (TYPES.to_owned(), Some(Json::Object(self.0).to_string().into())))
    }

    /// The type of attribute under which a hinted value is shown.
    fn data_type(&self, name: &str) -> &'static str {
        match self.0.get(name).and_then(Json::as_str) {
            Some("int" | "float" | "time") => "Number",
            Some("binary") => "Binary",
            _ => "String",
        }
    }
}

/// A record of another dialect as SQS's clients see it.
pub(crate) fn from_record(record: &Record) -> Message<'_> {
    // A name is there once; what has the same waits in the surplus.
    let taken = RefCell::new(HashSet::new());
    let room = Room {
        values: Values::Bytes,
        count_max: validate::ATTRIBUTES_MAX,
        takes: &|name, value| {
            let attribute = value.and_then(|value| attribute_of(name, value, "String"));
            let is_one = attribute.is_some_and(|attribute| validate::attribute(&attribute).is_ok());
            is_one && taken.borrow_mut().insert(name.to_owned())
        },
        takes_body: &|body| text_of(body).is_some(),
        has_time: false,
    };
    let (trace_header, Carried { headers, body }) = match trace_of(record) {
        None => (None, crossing::carry(record, &room)),
        Some((trace, rest)) => (Some(trace.into()), crossing::carry(&rest, &room)),
    };
    let body = match body {
        Some(encoded) => Cow::Owned(String::from_utf8_lossy(&encoded).into_owned()),
        None => Cow::Borrowed(record.body.as_deref().and_then(text_of).unwrap_or_default()),
    };
    Message {
        body,
        attributes: attributes_of(&headers),
        trace_header,
        group_id: record.key.as_deref().and_then(group_of).map(Cow::Borrowed),
        ..Message::default()
    }
}

/// The trace header of a record, and the record without it.
fn trace_of(record: &Record) -> Option<(String, Record)> {
    let (at, trace) = record.headers.iter().enumerate().find_map(|(at, header)| match &header.value {
        HeaderValue::Text(text) if header.name == TRACE_HEADER => Some((at, text.clone())),
        _ => None,
    })?;
    let mut rest = record.clone();
    rest.headers.remove(at);
    Some((trace, rest))
}

fn attributes_of(headers: &[(String, Option<Bytes>)]) -> Vec<Attribute<'static>> {
    let mut types = Types::default();
    let hints = headers.iter().find(|(name, _)| name == TYPES).and_then(|(_, value)| value.as_deref());
    if let Some(hints) = hints.and_then(text_of) {
        types.read(hints);
    }
    let mut attributes = Vec::with_capacity(headers.len());
    for (name, value) in headers {
        let typed = value.as_deref().and_then(|value| attribute_of(name, value, types.data_type(name)));
        let Some(Attribute { name, mut data_type, value }) = typed.map(Attribute::into_owned) else {
            continue;
        };
        // A number of ours may be none of SQS's, as infinity is.
        let is_number = matches!(&value, Value::Text(text) if validate::number(&name, text).is_ok());
        if data_type == "Number" && !is_number {
            data_type = "String".into();
        }
        attributes.push(Attribute { name, data_type, value });
    }
    attributes
}

/// Bytes as an attribute: of that type where they are text, else binary; `None` where they are text that XML has not.
fn attribute_of<'a>(name: &'a str, value: &'a [u8], data_type: &'static str) -> Option<Attribute<'a>> {
    let (data_type, value) = match std::str::from_utf8(value) {
        Ok(_) if data_type == "Binary" => ("Binary", Value::Binary(value.into())),
        Ok(text) if validate::contents(text).is_ok() => (data_type, Value::Text(text.into())),
        Ok(_) => return None,
        Err(_) => ("Binary", Value::Binary(value.into())),
    };
    Some(Attribute { name: name.into(), data_type: data_type.into(), value })
}

/// Bytes as text that SQS's clients could have sent.
fn text_of(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok().filter(|text| validate::contents(text).is_ok())
}

/// A key as a group, where it is one that a client could have sent.
fn group_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok().filter(|key| validate::is_id(key))
}
