//! Header values as JSON: as JSON has them, the rest as an object of one field that names the type.

use base64::{Engine, prelude::BASE64_STANDARD};
use model::{Header, HeaderValue};
use serde_json::{Value, json};

/// Nesting of values that is read.
const DEPTH_MAX: u32 = 16;

/// A value as JSON. [`from_json`] reads it.
pub fn to_json(value: &HeaderValue) -> Value {
    match value {
        HeaderValue::Null => Value::Null,
        HeaderValue::Bool(flag) => json!(flag),
        HeaderValue::Int(number) => json!(number),
        // Not as a number: JSON has no infinity, and 1.0 may come back as 1.
        HeaderValue::Float(number) => json!({ "float": number.to_string() }),
        HeaderValue::Text(text) => json!(text),
        HeaderValue::Binary(bytes) => json!({ "b64": BASE64_STANDARD.encode(bytes) }),
        HeaderValue::Time(at_ms) => json!({ "time": at_ms }),
        HeaderValue::List(values) => json!({ "list": values.iter().map(to_json).collect::<Vec<_>>() }),
        HeaderValue::Table(headers) => {
            let row = |header: &Header| json!([header.name, to_json(&header.value)]);
            json!({ "table": headers.iter().map(row).collect::<Vec<_>>() })
        }
    }
}

/// The value of JSON; `None` for what [`to_json`] never writes, and for what is nested too deep.
pub fn from_json(value: &Value) -> Option<HeaderValue> {
    read(value, 0)
}

/// A row of `[name, value]`.
pub(super) fn header(row: &Value) -> Option<Header> {
    header_at(row, 0)
}

fn header_at(row: &Value, depth: u32) -> Option<Header> {
    let [Value::String(name), value] = row.as_array()?.as_slice() else { return None };
    Some(Header { name: name.clone(), value: read(value, depth)? })
}

fn read(value: &Value, depth: u32) -> Option<HeaderValue> {
    if depth == DEPTH_MAX {
        return None;
    }
    let object = match value {
        Value::Null => return Some(HeaderValue::Null),
        Value::Bool(flag) => return Some(HeaderValue::Bool(*flag)),
        Value::Number(number) => {
            let int = number.as_i64().map(HeaderValue::Int);
            return int.or_else(|| number.as_f64().map(HeaderValue::Float));
        }
        Value::String(text) => return Some(HeaderValue::Text(text.clone())),
        Value::Array(_) => return None,
        Value::Object(object) if object.len() == 1 => object,
        Value::Object(_) => return None,
    };
    let (kind, value) = object.iter().next()?;
    match (kind.as_str(), value) {
        ("float", Value::String(text)) => text.parse().ok().map(HeaderValue::Float),
        ("b64", Value::String(text)) => Some(HeaderValue::Binary(BASE64_STANDARD.decode(text).ok()?.into())),
        ("time", Value::Number(at_ms)) => at_ms.as_i64().map(HeaderValue::Time),
        ("list", Value::Array(values)) => {
            let values: Option<_> = values.iter().map(|value| read(value, depth + 1)).collect();
            values.map(HeaderValue::List)
        }
        ("table", Value::Array(rows)) => {
            let headers: Option<_> = rows.iter().map(|row| header_at(row, depth + 1)).collect();
            headers.map(HeaderValue::Table)
        }
        _ => None,
    }
}
