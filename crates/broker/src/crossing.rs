//! How headers and properties cross between dialects that know fewer types than a record has.
//!
//! A value that is no text crosses as text beside a hint in `wm-types` that restores it on the way back; bytes cross as
//! they are where a dialect carries bytes, else in Base64, and `wm-b64` names them; what a dialect has no room for, or no
//! form, goes into `wm-headers`. Properties of a record cross as headers under the names of [`PROPERTIES`].
//!
//! ```text
//! wm-types    a JSON object: name → type, or a list of types where a name is there several times
//! wm-b64      names, with commas between; `body` is the body
//! wm-headers  a JSON list of [name, value]; see [`to_json`]
//! ```
//! What clients send under these names is validated, applied and taken out; every other name with `wm-` is the broker's
//! own, and dropped. Whatever is lost is counted.

mod json;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    sync::atomic::{AtomicU64, Ordering},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use model::{Header, HeaderValue, Record};
use serde_json::{Map, Value};

pub use json::{from_json, to_json};

/// The header with the types of others.
pub const TYPES: &str = "wm-types";
/// The header with the names of what is in Base64.
pub const BASE64: &str = "wm-b64";
/// The header with what found no room.
pub const SURPLUS: &str = "wm-headers";
/// How all names begin that are the broker's own.
pub const OWN_PREFIX: &str = "wm-";
/// How [`BASE64`] calls the body.
pub const BODY: &str = "body";

/// Names under which properties of a record cross. `type`, `user-id` and `app-id` are headers in a record as well.
pub const PROPERTIES: [&str; 10] = [
    "content-type",
    "correlation-id",
    "message-id",
    "reply-to",
    "priority",
    "expiration",
    "type",
    "user-id",
    "app-id",
    "timestamp",
];

/// Headers lost in this process since its start.
static LOST: AtomicU64 = AtomicU64::new(0);

pub(crate) fn lost() -> u64 {
    LOST.load(Ordering::Relaxed)
}

fn lose(count: u64) {
    if count > 0 {
        LOST.fetch_add(count, Ordering::Relaxed);
    }
}

/// What the values of a dialect's headers are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// UTF-8.
    Text,
    /// Bytes, or none.
    Bytes,
}

/// What a dialect has room for.
pub struct Room<'a> {
    /// What its values are.
    pub values: Values,
    /// Headers of one record, at most; those named above are among them.
    pub count_max: usize,
    /// Whether it takes such a header.
    pub takes: &'a dyn Fn(&str, Option<&[u8]>) -> bool,
    /// Whether it takes a body as it is; in Base64 it takes any.
    pub takes_body: &'a dyn Fn(&[u8]) -> bool,
    /// Whether it carries the event time in a place of its own.
    pub has_time: bool,
}

/// A record's headers as a dialect carries them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// In order; names may repeat. A value is absent only where values are bytes.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// The body in Base64, where it had to be text and was none.
    pub body: Option<Bytes>,
}

/// A header on its way out.
struct Out {
    name: String,
    original: HeaderValue,
    value: Option<Bytes>,
    hint: Option<&'static str>,
    is_base64: bool,
}

/// The headers and properties of a record, for a dialect with this room.
pub fn carry(record: &Record, room: &Room<'_>) -> Carried {
    let mut out: Vec<Out> = Vec::new();
    let mut surplus: Vec<Header> = Vec::new();
    let own = record.headers.iter().filter(|header| header.name.starts_with(OWN_PREFIX)).count();
    lose(own as u64);
    let headers = record.headers.iter().filter(|header| !header.name.starts_with(OWN_PREFIX)).cloned();
    let all: Vec<Header> = headers.chain(properties(record, room.has_time)).collect();
    let mut names: BTreeMap<String, usize> = BTreeMap::new();
    all.iter().for_each(|header| *names.entry(header.name.clone()).or_default() += 1);
    for header in all {
        let is_alone = names.get(&header.name) == Some(&1);
        match encoded(header, room.values, is_alone) {
            Ok(one) if (room.takes)(&one.name, one.value.as_deref()) => out.push(one),
            Ok(one) => surplus.push(Header { name: one.name, value: one.original }),
            Err(header) => surplus.push(header),
        }
    }
    let body = record.body.as_ref().filter(|body| !(room.takes_body)(body));
    let body = body.map(|body| Bytes::from(BASE64_STANDARD.encode(body)));
    if out.len() > room.count_max {
        let over = out.split_off(room.count_max);
        surplus.splice(..0, over.into_iter().map(|one| Header { name: one.name, value: one.original }));
    }
    while out.len() + hints(&out, &surplus, body.is_some()).len() > room.count_max
        && let Some(last) = out.pop()
    {
        surplus.insert(0, Header { name: last.name, value: last.original });
    }
    let hints = hints(&out, &surplus, body.is_some());
    let fits = hints.into_iter().filter(|(name, value)| (room.takes)(name, Some(value.as_ref())));
    let fits: Vec<_> = fits.take(room.count_max).collect();
    if !surplus.is_empty() && fits.iter().all(|(name, _)| *name != SURPLUS) {
        lose(surplus.len() as u64);
    }
    let mut headers: Vec<_> = out.into_iter().map(|one| (one.name, one.value)).collect();
    headers.extend(fits.into_iter().map(|(name, value)| (name.to_owned(), Some(value))));
    Carried { headers, body }
}

/// The properties of a record as headers.
fn properties(record: &Record, has_time: bool) -> Vec<Header> {
    let text = |text: &Option<String>| text.clone().map(HeaderValue::Text);
    let bytes = |bytes: &Bytes| match std::str::from_utf8(bytes) {
        Ok(text) => HeaderValue::Text(text.to_owned()),
        Err(_) => HeaderValue::Binary(bytes.clone()),
    };
    let all = [
        ("content-type", text(&record.content_type)),
        ("correlation-id", record.correlation_id.as_ref().map(bytes)),
        ("message-id", text(&record.message_id)),
        ("reply-to", text(&record.reply_to)),
        ("priority", record.priority.map(|priority| HeaderValue::Text(priority.to_string()))),
        ("expiration", record.expiry_ms.map(HeaderValue::Time)),
        ("timestamp", record.event_time_ms.filter(|_| !has_time).map(HeaderValue::Time)),
    ];
    let there =
        all.into_iter().filter_map(|(name, value)| Some(Header { name: name.to_owned(), value: value? }));
    there.collect()
}

/// A header in the form that it has in a dialect; itself when there is none.
fn encoded(header: Header, values: Values, is_alone: bool) -> Result<Out, Header> {
    let Header { name, value: original } = header;
    let text = |text: String| Some(Bytes::from(text));
    let (value, hint, is_base64) = match &original {
        HeaderValue::Text(value) => (text(value.clone()), None, false),
        HeaderValue::Bool(value) => (text(value.to_string()), Some("bool"), false),
        HeaderValue::Int(value) => (text(value.to_string()), Some("int"), false),
        HeaderValue::Float(value) => (text(value.to_string()), Some("float"), false),
        HeaderValue::Time(value) => (text(value.to_string()), Some("time"), false),
        HeaderValue::Null if values == Values::Bytes => (None, None, false),
        HeaderValue::Null => (text(String::new()), Some("null"), false),
        HeaderValue::Binary(value) if values == Values::Bytes => {
            // Else it would come back as text.
            let hint = std::str::from_utf8(value).is_ok().then_some("binary");
            (Some(value.clone()), hint, false)
        }
        // These names mean something in the list, or part it; and it knows a name but not which of several.
        HeaderValue::Binary(_) if !is_alone || name.contains(',') || name == BODY || name != name.trim() => {
            return Err(Header { name, value: original });
        }
        HeaderValue::Binary(value) => (text(BASE64_STANDARD.encode(value)), None, true),
        HeaderValue::List(_) => (text(to_json(&original).to_string()), Some("list"), false),
        HeaderValue::Table(_) => (text(to_json(&original).to_string()), Some("table"), false),
    };
    Ok(Out { name, original, value, hint, is_base64 })
}

/// The headers that restore others.
fn hints(out: &[Out], surplus: &[Header], is_body_base64: bool) -> Vec<(&'static str, Bytes)> {
    let mut all = Vec::new();
    let mut by_name: BTreeMap<&str, Vec<Option<&str>>> = BTreeMap::new();
    for one in out {
        by_name.entry(&one.name).or_default().push(one.hint);
    }
    by_name.retain(|_, hints| hints.iter().any(Option::is_some));
    if !by_name.is_empty() {
        let word = |hint: &Option<&str>| Value::from(hint.unwrap_or("text"));
        let types: Map<String, Value> = by_name
            .into_iter()
            .map(|(name, hints)| {
                let value = match &hints[..] {
                    [first, rest @ ..] if rest.iter().all(|hint| hint == first) => word(first),
                    _ => hints.iter().map(word).collect(),
                };
                (name.to_owned(), value)
            })
            .collect();
        all.push((TYPES, Value::Object(types).to_string().into()));
    }
    let names: Vec<&str> = out.iter().filter(|one| one.is_base64).map(|one| one.name.as_str()).collect();
    let names: Vec<&str> = is_body_base64.then_some(BODY).into_iter().chain(names).collect();
    if !names.is_empty() {
        all.push((BASE64, names.join(",").into()));
    }
    if !surplus.is_empty() {
        let row =
            |header: &Header| Value::from(vec![Value::from(header.name.as_str()), to_json(&header.value)]);
        all.push((SURPLUS, surplus.iter().map(row).collect::<Value>().to_string().into()));
    }
    all
}

/// What the hints of a record say.
#[derive(Default)]
struct Hints {
    types: Map<String, Value>,
    base64: HashSet<String>,
    surplus: Vec<Header>,
}

/// Puts headers as a client sent them, or [`carry`] made them, into a record: properties into their places, typed as the
/// hints say. The record's body may be decoded, too. A hint that does not read is ignored and counts as lost.
pub fn restore(record: &mut Record, headers: Vec<(String, Option<Bytes>)>) {
    let (own, others): (Vec<_>, Vec<_>) =
        headers.into_iter().partition(|(name, _)| name.starts_with(OWN_PREFIX));
    let hints = read_hints(own);
    if hints.base64.contains(BODY)
        && let Some(decoded) = record.body.as_ref().and_then(|body| BASE64_STANDARD.decode(body).ok())
    {
        record.body = Some(decoded.into());
    }
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (name, value) in others {
        let count = seen.entry(name.clone()).or_default();
        let hint = match hints.types.get(&name) {
            Some(Value::String(word)) => Some(word.as_str()),
            Some(Value::Array(words)) => words.get(*count).and_then(Value::as_str),
            _ => None,
        };
        *count += 1;
        let value = decoded(value, hint, hints.base64.contains(&name));
        place(record, Header { name, value });
    }
    for header in hints.surplus {
        if header.name.starts_with(OWN_PREFIX) {
            lose(1);
        } else {
            place(record, header);
        }
    }
}

fn read_hints(own: Vec<(String, Option<Bytes>)>) -> Hints {
    let mut hints = Hints::default();
    for (name, value) in own {
        let text = value.as_deref().and_then(|value| std::str::from_utf8(value).ok());
        let json = || text.and_then(|text| serde_json::from_str::<Value>(text).ok());
        let is_read = match name.as_str() {
            TYPES => match json() {
                Some(Value::Object(types)) => {
                    hints.types = types;
                    true
                }
                _ => false,
            },
            BASE64 => {
                hints
                    .base64
                    .extend(text.iter().flat_map(|text| text.split(',')).map(|one| one.trim().to_owned()));
                text.is_some()
            }
            SURPLUS => match json() {
                Some(Value::Array(rows)) => {
                    let read: Vec<Header> = rows.iter().filter_map(json::header).collect();
                    lose((rows.len() - read.len()) as u64);
                    hints.surplus.extend(read);
                    true
                }
                _ => false,
            },
            _ => false,
        };
        lose(u64::from(!is_read));
    }
    hints
}

/// A value with its type again; as it looks where the hint does not fit.
fn decoded(value: Option<Bytes>, hint: Option<&str>, is_base64: bool) -> HeaderValue {
    let Some(bytes) = value else { return HeaderValue::Null };
    if is_base64 && let Ok(decoded) = BASE64_STANDARD.decode(&bytes) {
        return HeaderValue::Binary(decoded.into());
    }
    let Ok(text) = std::str::from_utf8(&bytes) else { return HeaderValue::Binary(bytes) };
    let by_hint = match hint {
        Some("bool") => text.parse().ok().map(HeaderValue::Bool),
        Some("int") => text.parse().ok().map(HeaderValue::Int),
        Some("float") => text.parse().ok().map(HeaderValue::Float),
        Some("time") => text.parse().ok().map(HeaderValue::Time),
        Some("null") if text.is_empty() => Some(HeaderValue::Null),
        Some("binary") => Some(HeaderValue::Binary(bytes.clone())),
        Some("list" | "table") => serde_json::from_str(text).ok().and_then(|json| from_json(&json)),
        _ => None,
    };
    by_hint.unwrap_or_else(|| HeaderValue::Text(text.to_owned()))
}

/// Puts a header that names a property into its place if that is free and it fits, else among the headers.
///
/// A bare `expiration` or `timestamp` stays a header: what clients mean by them differs (a time, a span, seconds), so only
/// a value that says it is a time is one.
fn place(record: &mut Record, header: Header) {
    let Header { name, value } = &header;
    let is_taken = match (name.as_str(), value) {
        ("content-type", HeaderValue::Text(text)) => set(&mut record.content_type, text.clone()),
        ("message-id", HeaderValue::Text(text)) => set(&mut record.message_id, text.clone()),
        ("reply-to", HeaderValue::Text(text)) => set(&mut record.reply_to, text.clone()),
        ("correlation-id", HeaderValue::Text(text)) => {
            set(&mut record.correlation_id, Bytes::copy_from_slice(text.as_bytes()))
        }
        ("correlation-id", HeaderValue::Binary(bytes)) => set(&mut record.correlation_id, bytes.clone()),
        ("priority", HeaderValue::Text(text)) => match text.parse() {
            Ok(priority) => set(&mut record.priority, priority),
            Err(_) => false,
        },
        ("priority", HeaderValue::Int(number)) => match u8::try_from(*number) {
            Ok(priority) => set(&mut record.priority, priority),
            Err(_) => false,
        },
        ("expiration", HeaderValue::Time(at_ms)) => set(&mut record.expiry_ms, *at_ms),
        ("timestamp", HeaderValue::Time(at_ms)) => set(&mut record.event_time_ms, *at_ms),
        _ => false,
    };
    if !is_taken {
        record.headers.push(header);
    }
}

fn set<T>(place: &mut Option<T>, value: T) -> bool {
    let is_free = place.is_none();
    if is_free {
        *place = Some(value);
    }
    is_free
}
