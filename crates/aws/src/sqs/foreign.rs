//! Messages and the records of other dialects, both ways.
//!
//! A header becomes an attribute where SQS has a form for it: text, numbers, binary. Ten attributes is all there is room
//! for; what is over, or has a name or value that SQS does not know, goes into `wm-headers`, and whatever cannot be told
//! from its text is named in `wm-types`. A body that is not text is carried in Base64, and `wm-b64` says so. What SQS's
//! own clients send under these names is read the same way, so that it crosses as it would have come.

use std::borrow::Cow;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use model::{Header, HeaderValue, Record};
use serde_json::{Map, Value as Json, json};

use super::{
    message::{Attribute, Message, TRACE_HEADER, Value},
    validate,
};

/// Attributes that a message may have.
const ATTRIBUTES_MAX: usize = 10;

const TYPES: &str = "wm-types";
const BASE64: &str = "wm-b64";
const SURPLUS: &str = "wm-headers";

/// How `wm-b64` calls the body.
const BODY: &str = "body";

/// Nesting of header values that is read.
const DEPTH_MAX: u32 = 16;

/// A message as other dialects see it.
pub(crate) fn to_record(message: &Message<'_>) -> Record {
    let named = |name: &str| message.attributes.iter().find(|one| one.name == name).map(|one| &one.value);
    let types = named(TYPES).and_then(json_of);
    let is_base64 =
        matches!(named(BASE64), Some(Value::Text(text)) if text.split(',').any(|one| one == BODY));
    let body = is_base64.then(|| STANDARD.decode(message.body.as_bytes()).ok()).flatten();
    let body = body.map_or_else(|| Bytes::copy_from_slice(message.body.as_bytes()), Bytes::from);
    let mut record = Record {
        key: message.group_id.as_deref().map(|group| Bytes::copy_from_slice(group.as_bytes())),
        body: Some(body),
        ..Record::default()
    };
    for attribute in message.attributes.iter().filter(|one| !one.name.starts_with("wm-")) {
        let hint = types.as_ref().and_then(|types| types.get(attribute.name.as_ref())?.as_str());
        add(&mut record, attribute.name.clone().into_owned(), header_value(attribute, hint));
    }
    if let Some(Json::Array(surplus)) = named(SURPLUS).and_then(json_of) {
        for one in &surplus {
            if let Some(header) = header_of(one, 0) {
                add(&mut record, header.name, header.value);
            }
        }
    }
    if let Some(trace) = &message.trace_header {
        add(&mut record, TRACE_HEADER.to_owned(), HeaderValue::Text(trace.clone().into_owned()));
    }
    record
}

fn json_of(value: &Value<'_>) -> Option<Json> {
    match value {
        Value::Text(text) => serde_json::from_str(text).ok(),
        Value::Binary(_) => None,
    }
}

fn header_value(attribute: &Attribute<'_>, hint: Option<&str>) -> HeaderValue {
    let text = match &attribute.value {
        Value::Binary(bytes) => return HeaderValue::Binary(Bytes::copy_from_slice(bytes)),
        Value::Text(text) => text.as_ref(),
    };
    let by_hint = match hint {
        Some("bool") => text.parse().ok().map(HeaderValue::Bool),
        Some("time") => text.parse().ok().map(HeaderValue::Time),
        Some("float") => text.parse().ok().map(HeaderValue::Float),
        _ => None,
    };
    let is_number = attribute.data_type == "Number" || attribute.data_type.starts_with("Number.");
    let by_type = || {
        let number = text.parse().map(HeaderValue::Int).or_else(|_| text.parse().map(HeaderValue::Float));
        is_number.then(|| number.ok()).flatten()
    };
    by_hint.or_else(by_type).unwrap_or_else(|| HeaderValue::Text(text.to_owned()))
}

/// Puts a header into the record's properties if it names one, else among its headers.
fn add(record: &mut Record, name: String, value: HeaderValue) {
    if let HeaderValue::Text(text) = &value {
        let place = match name.as_str() {
            "content-type" => &mut record.content_type,
            "message-id" => &mut record.message_id,
            "reply-to" => &mut record.reply_to,
            "correlation-id" if record.correlation_id.is_none() => {
                record.correlation_id = Some(Bytes::copy_from_slice(text.as_bytes()));
                return;
            }
            _ => return record.headers.push(Header { name, value }),
        };
        if place.is_none() {
            *place = Some(text.clone());
            return;
        }
    }
    match (name.as_str(), &value) {
        ("priority", HeaderValue::Int(priority)) if record.priority.is_none() => {
            record.priority = u8::try_from(*priority).ok();
        }
        ("expiration", HeaderValue::Int(at_ms)) if record.expiry_ms.is_none() => {
            record.expiry_ms = Some(*at_ms)
        }
        _ => record.headers.push(Header { name, value }),
    }
}

/// A record of another dialect as SQS's clients see it.
pub(crate) fn from_record(record: &Record) -> Message<'_> {
    let mut made = Made::default();
    let body = match record.body.as_deref().map(std::str::from_utf8) {
        None => Cow::Borrowed(""),
        Some(Ok(text)) if validate::contents(text).is_ok() => Cow::Borrowed(text),
        Some(_) => {
            made.is_base64 = true;
            STANDARD.encode(record.body.as_deref().unwrap_or_default()).into()
        }
    };
    let text = |text: &str| HeaderValue::Text(text.to_owned());
    let properties = [
        ("content-type", record.content_type.as_deref().map(text)),
        ("message-id", record.message_id.as_deref().map(text)),
        ("reply-to", record.reply_to.as_deref().map(text)),
        ("correlation-id", record.correlation_id.as_ref().map(bytes_value)),
        ("priority", record.priority.map(|priority| HeaderValue::Int(priority.into()))),
        ("expiration", record.expiry_ms.map(HeaderValue::Int)),
    ];
    let properties = properties.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let headers = record.headers.iter().map(|header| (header.name.as_str(), header.value.clone()));
    // Those of clients of ours are the broker's to say.
    let all: Vec<_> = properties.chain(headers.filter(|(name, _)| !name.starts_with("wm-"))).collect();
    let trace_header = made.fill(all);
    Message {
        body,
        attributes: made.attributes(),
        trace_header: trace_header.map(Cow::Owned),
        group_id: record.key.as_deref().and_then(group_of).map(Cow::Borrowed),
        ..Message::default()
    }
}

/// A key as a group, where it is one that a client could have sent.
fn group_of(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key).ok().filter(|key| validate::is_id(key))
}

fn bytes_value(bytes: &Bytes) -> HeaderValue {
    match std::str::from_utf8(bytes) {
        Ok(text) => HeaderValue::Text(text.to_owned()),
        Err(_) => HeaderValue::Binary(bytes.clone()),
    }
}

/// Attributes in the making.
#[derive(Default)]
struct Made {
    own: Vec<Attribute<'static>>,
    types: Map<String, Json>,
    surplus: Vec<(String, HeaderValue)>,
    is_base64: bool,
}

impl Made {
    /// Takes the headers in; answers the trace header, which has a place of its own.
    fn fill(&mut self, all: Vec<(&str, HeaderValue)>) -> Option<String> {
        let mut trace = None;
        for (name, value) in all {
            match value {
                HeaderValue::Text(text) if name == TRACE_HEADER && trace.is_none() => trace = Some(text),
                value => self.add(name, value),
            }
        }
        while self.count() > ATTRIBUTES_MAX
            && let Some(last) = self.own.pop()
        {
            let hint = self.types.remove(last.name.as_ref());
            let value = header_value(&last, hint.as_ref().and_then(Json::as_str));
            self.surplus.push((last.name.into_owned(), value));
        }
        trace
    }

    fn add(&mut self, name: &str, value: HeaderValue) {
        let (data_type, text, hint) = match &value {
            HeaderValue::Text(text) => ("String", text.clone(), None),
            HeaderValue::Bool(flag) => ("String", flag.to_string(), Some("bool")),
            HeaderValue::Int(number) => ("Number", number.to_string(), None),
            HeaderValue::Time(at_ms) => ("Number", at_ms.to_string(), Some("time")),
            // Without a point its text would be read as a whole number.
            HeaderValue::Float(number) => ("Number", number.to_string(), Some("float")),
            HeaderValue::Binary(bytes) => {
                let value = Value::Binary(bytes.to_vec().into());
                return self.add_attribute(name, "Binary", value, None);
            }
            HeaderValue::Null | HeaderValue::List(_) | HeaderValue::Table(_) => {
                return self.surplus.push((name.to_owned(), value));
            }
        };
        self.add_attribute(name, data_type, Value::Text(text.into()), hint);
    }

    fn add_attribute(
        &mut self,
        name: &str,
        data_type: &'static str,
        value: Value<'static>,
        hint: Option<&str>,
    ) {
        let attribute = Attribute { name: name.to_owned().into(), data_type: data_type.into(), value };
        let is_known = self.own.iter().any(|one| one.name == name);
        if is_known || validate::attribute(&attribute).is_err() {
            let value = header_value(&attribute, hint);
            return self.surplus.push((attribute.name.into_owned(), value));
        }
        if let Some(hint) = hint {
            self.types.insert(name.to_owned(), hint.into());
        }
        self.own.push(attribute);
    }

    fn count(&self) -> usize {
        let extra = [!self.types.is_empty(), !self.surplus.is_empty(), self.is_base64];
        self.own.len() + extra.into_iter().filter(|is_there| *is_there).count()
    }

    fn attributes(self) -> Vec<Attribute<'static>> {
        let mut all = self.own;
        if !self.types.is_empty() {
            all.push(Attribute::text(TYPES, Json::Object(self.types).to_string()));
        }
        if !self.surplus.is_empty() {
            let surplus = self.surplus.iter().map(|(name, value)| json!([name, to_json(value)])).collect();
            all.push(Attribute::text(SURPLUS, Json::Array(surplus).to_string()));
        }
        if self.is_base64 {
            all.push(Attribute::text(BASE64, BODY));
        }
        all
    }
}

/// A header value in `wm-headers`: as JSON has it, the rest as an object of one field that names the type.
fn to_json(value: &HeaderValue) -> Json {
    match value {
        HeaderValue::Null => Json::Null,
        HeaderValue::Bool(flag) => json!(flag),
        HeaderValue::Int(number) => json!(number),
        HeaderValue::Float(number) => json!({ "float": number.to_string() }),
        HeaderValue::Text(text) => json!(text),
        HeaderValue::Binary(bytes) => json!({ "b64": STANDARD.encode(bytes) }),
        HeaderValue::Time(at_ms) => json!({ "time": at_ms }),
        HeaderValue::List(values) => json!({ "list": values.iter().map(to_json).collect::<Vec<_>>() }),
        HeaderValue::Table(headers) => {
            let rows: Vec<Json> =
                headers.iter().map(|header| json!([header.name, to_json(&header.value)])).collect();
            json!({ "table": rows })
        }
    }
}

fn header_of(row: &Json, depth: u32) -> Option<Header> {
    let [Json::String(name), value] = row.as_array()?.as_slice() else { return None };
    Some(Header { name: name.clone(), value: from_json(value, depth)? })
}

/// `None` for what [`to_json`] never writes.
fn from_json(value: &Json, depth: u32) -> Option<HeaderValue> {
    if depth > DEPTH_MAX {
        return None;
    }
    let object = match value {
        Json::Null => return Some(HeaderValue::Null),
        Json::Bool(flag) => return Some(HeaderValue::Bool(*flag)),
        Json::Number(number) => {
            return number.as_i64().map(HeaderValue::Int).or_else(|| number.as_f64().map(HeaderValue::Float));
        }
        Json::String(text) => return Some(HeaderValue::Text(text.clone())),
        Json::Array(_) => return None,
        Json::Object(object) => object,
    };
    let (kind, value) = object.iter().next()?;
    match (kind.as_str(), value) {
        ("float", Json::String(text)) => text.parse().ok().map(HeaderValue::Float),
        ("b64", Json::String(text)) => Some(HeaderValue::Binary(STANDARD.decode(text).ok()?.into())),
        ("time", Json::Number(at_ms)) => at_ms.as_i64().map(HeaderValue::Time),
        ("list", Json::Array(values)) => {
            let values: Option<_> = values.iter().map(|value| from_json(value, depth + 1)).collect();
            values.map(HeaderValue::List)
        }
        ("table", Json::Array(rows)) => {
            let headers: Option<_> = rows.iter().map(|row| header_of(row, depth + 1)).collect();
            headers.map(HeaderValue::Table)
        }
        _ => None,
    }
}
