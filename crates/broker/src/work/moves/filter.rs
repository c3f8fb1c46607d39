//! Which records of a queue are meant.

use bytes::Bytes;
use model::{HeaderValue, Record};

/// What records must have to be moved. The default asks nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MoveFilter {
    /// The record key.
    pub key: Option<Bytes>,
    /// Bytes that are somewhere in the body.
    pub body_contains: Option<Bytes>,
    /// A header with this name and, as text, this value.
    pub header: Option<(String, String)>,
}

impl MoveFilter {
    /// Whether it lets everything through.
    pub fn is_empty(&self) -> bool {
        *self == MoveFilter::default()
    }

    /// Whether it lets `record` through.
    pub fn wants(&self, record: &Record) -> bool {
        let has_key = self.key.as_ref().is_none_or(|key| record.key.as_ref() == Some(key));
        let body = record.body.as_deref().unwrap_or_default();
        let has_bytes = self.body_contains.as_deref().is_none_or(|bytes| contains(body, bytes));
        let has_header = self.header.as_ref().is_none_or(|(name, value)| {
            record.headers.iter().any(|header| header.name == *name && is_text(&header.value, value))
        });
        has_key && has_bytes && has_header
    }
}

fn contains(body: &[u8], bytes: &[u8]) -> bool {
    bytes.is_empty() || body.windows(bytes.len()).any(|window| window == bytes)
}

fn is_text(value: &HeaderValue, text: &str) -> bool {
    match value {
        HeaderValue::Text(value) => value == text,
        HeaderValue::Binary(value) => value.as_ref() == text.as_bytes(),
        HeaderValue::Int(value) | HeaderValue::Time(value) => value.to_string() == text,
        HeaderValue::Bool(value) => value.to_string() == text,
        HeaderValue::Float(value) => value.to_string() == text,
        HeaderValue::Null => text.is_empty(),
        HeaderValue::List(_) | HeaderValue::Table(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use model::Header;

    use super::*;

    #[test]
    fn a_record_is_wanted_when_it_has_everything_that_is_asked() {
        let record = Record {
            key: Some(Bytes::from_static(b"k")),
            body: Some(Bytes::from_static(b"the body")),
            headers: vec![Header { name: "n".into(), value: HeaderValue::Int(7) }],
            ..Record::default()
        };
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let check = |key: Option<&'static str>,
                     body: Option<&'static str>,
                     header: Option<(&str, &str)>,
                     expected| {
            let filter = MoveFilter {
                key: key.map(bytes),
                body_contains: body.map(bytes),
                header: header.map(|(name, value)| (name.to_owned(), value.to_owned())),
            };
            assert_eq!(filter.wants(&record), expected, "{filter:?}");
        };
        check(None, None, None, true);
        check(Some("k"), None, None, true);
        check(Some("x"), None, None, false);
        check(None, Some("body"), None, true);
        check(None, Some(""), None, true);
        check(None, Some("bodies"), None, false);
        check(None, None, Some(("n", "7")), true);
        check(None, None, Some(("n", "8")), false);
        check(Some("k"), Some("the"), Some(("m", "7")), false);
    }
}
