//! Matching by headers: all of them, or any.

use model::{Header, HeaderValue};

/// How many of the fields have to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderMatch {
    /// Every one; with no fields, every record matches.
    All,
    /// At least one; with no fields, no record matches.
    Any,
}

/// Fields that a record's headers have to have.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderRule {
    /// How many of the fields have to match.
    pub mode: HeaderMatch,
    /// Name, and value; without a value, the header has to be there.
    pub fields: Vec<(String, Option<HeaderValue>)>,
}

impl HeaderRule {
    /// Whether `headers` match. Of a name that is there more than once, any value will do.
    pub fn matches(&self, headers: &[Header]) -> bool {
        let has = |(name, value): &(String, Option<HeaderValue>)| {
            headers
                .iter()
                .filter(|header| header.name == *name)
                .any(|header| value.as_ref().is_none_or(|value| header.value == *value))
        };
        match self.mode {
            HeaderMatch::All => self.fields.iter().all(has),
            HeaderMatch::Any => self.fields.iter().any(has),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> Vec<Header> {
        let header = |name: &str, value| Header { name: name.into(), value };
        vec![
            header("kind", HeaderValue::Text("order".into())),
            header("size", HeaderValue::Int(3)),
            header("size", HeaderValue::Int(4)),
        ]
    }

    fn check(mode: HeaderMatch, fields: &[(&str, Option<HeaderValue>)], expected: bool) {
        let fields: Vec<_> = fields.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        assert_eq!(
            HeaderRule { mode, fields: fields.clone() }.matches(&headers()),
            expected,
            "{mode:?} {fields:?}"
        );
    }

    #[test]
    fn fields_match_by_name_and_value_or_by_name_alone() {
        let order = || Some(HeaderValue::Text("order".into()));
        check(HeaderMatch::All, &[("kind", order()), ("size", Some(HeaderValue::Int(4)))], true);
        check(HeaderMatch::All, &[("kind", order()), ("size", Some(HeaderValue::Int(5)))], false);
        check(HeaderMatch::Any, &[("kind", order()), ("size", Some(HeaderValue::Int(5)))], true);
        check(HeaderMatch::All, &[("size", None)], true);
        check(HeaderMatch::Any, &[("weight", None)], false);
        check(HeaderMatch::All, &[("size", Some(HeaderValue::Text("3".into())))], false);
        check(HeaderMatch::All, &[], true);
        check(HeaderMatch::Any, &[], false);
    }
}
