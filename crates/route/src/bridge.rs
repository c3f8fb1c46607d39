//! One line that connects dialects: what is published under a pattern also goes to a stream elsewhere, under a key
//! made from the address.

use std::fmt;

use bytes::Bytes;
use model::{Error, Result};

use crate::pattern::{PATTERN_TOKENS_MAX, Pattern, Syntax, tokens};

/// Bytes of a key template.
pub const TEMPLATE_LEN_MAX: usize = 1_024;

/// Something in the address space of one dialect: `dialect:name`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which dialect, as listeners are named: lower-case letters, digits and `-`.
    pub dialect: String,
    /// A name or pattern there, never empty.
    pub name: String,
}

impl Place {
    /// The place that `text` names. [`model::ErrorKind::Invalid`] when it does not read `dialect:name`.
    pub fn parse(text: &str) -> Result<Self> {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        match text.split_once(':') {
            Some((dialect, name))
                if !dialect.is_empty() && dialect.bytes().all(is_word) && !name.is_empty() =>
            {
                Ok(Place { dialect: dialect.into(), name: name.into() })
            }
            _ => Err(Error::invalid("a place is written as dialect:name")),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.dialect, self.name)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    /// The nth token of the address, counted from 0.
    Token(usize),
    Address,
}

/// How a record key is made from the address that was published to: text with `{token.N}` (the Nth token, from 1) and
/// `{address}`; braces of the text are doubled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    text: String,
    parts: Vec<Part>,
}

impl KeyTemplate {
    /// The template that `text` is. [`model::ErrorKind::Invalid`] for unknown or unclosed braces and for tokens
    /// beyond what patterns have; [`model::ErrorKind::Limit`] above [`TEMPLATE_LEN_MAX`] bytes.
    pub fn parse(text: &str) -> Result<Self> {
        if text.len() > TEMPLATE_LEN_MAX {
            return Err(Error::limit(format!("a key template is longer than {TEMPLATE_LEN_MAX} bytes")));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            push_text(&mut parts, &rest[..at]);
            rest = &rest[at..];
            if let Some(after) = rest.strip_prefix("{{") {
                push_text(&mut parts, "{");
                rest = after;
            } else if let Some(after) = rest.strip_prefix("}}") {
                push_text(&mut parts, "}");
                rest = after;
            } else {
                let inner = rest.strip_prefix('{').and_then(|inner| inner.split_once('}'));
                let (name, after) = inner.ok_or_else(|| {
                    Error::invalid("a brace in a key template is not closed, or not doubled")
                })?;
                parts.push(part(name)?);
                rest = after;
            }
        }
        push_text(&mut parts, rest);
        Ok(KeyTemplate { text: text.into(), parts })
    }

    /// The key for an address; `None` when it lacks a token that the template names.
    pub fn apply(&self, address: &[u8]) -> Option<Bytes> {
        let mut key = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => key.extend_from_slice(text.as_bytes()),
                Part::Token(index) => key.extend_from_slice(tokens(address).nth(*index)?),
                Part::Address => key.extend_from_slice(address),
            }
        }
        Some(key.into())
    }

    /// How many tokens an address needs to have a key.
    pub fn tokens_needed(&self) -> usize {
        let needed = |part: &Part| if let Part::Token(index) = part { index + 1 } else { 0 };
        self.parts.iter().map(needed).max().unwrap_or(0)
    }
}

impl fmt::Display for KeyTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn part(name: &str) -> Result<Part> {
    if name == "address" {
        return Ok(Part::Address);
    }
    let number = name.strip_prefix("token.").filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    match number.and_then(|digits| digits.parse::<usize>().ok()) {
        Some(number) if (1..=PATTERN_TOKENS_MAX).contains(&number) => Ok(Part::Token(number - 1)),
        _ => Err(Error::invalid(format!("a key template knows {{address}} and {{token.N}}, not {{{name}}}"))),
    }
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    match parts.last_mut() {
        Some(Part::Text(before)) => before.push_str(text),
        _ if text.is_empty() => {}
        _ => parts.push(Part::Text(text.into())),
    }
}

/// A route as people add it: from addresses to one target, with the key that records get there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route<T> {
    /// What has to be published to, in which dialect.
    pub from: Place,
    /// The name of `from`, as a pattern in [`Syntax::ALL`].
    pub pattern: Pattern,
    /// Where it goes as well.
    pub target: T,
    /// The record key there; `None` = as the record has it.
    pub key: Option<KeyTemplate>,
}

impl<T> Route<T> {
    /// A route. [`model::ErrorKind::Invalid`] when the pattern does not read, or the key needs a token that no
    /// matching address has.
    pub fn new(from: Place, target: T, key: Option<KeyTemplate>) -> Result<Self> {
        let pattern = Pattern::parse(from.name.as_bytes(), Syntax::ALL)?;
        if let (Some(has), Some(key)) = (pattern.tokens_max(), &key)
            && has < key.tokens_needed()
        {
            return Err(Error::invalid(format!(
                "addresses that match {pattern} have no token {}",
                key.tokens_needed()
            )));
        }
        Ok(Route { from, pattern, target, key })
    }

    /// The key that a record gets which was published to `address`; `None` = as the record has it.
    pub fn key(&self, address: &[u8]) -> Option<Bytes> {
        self.key.as_ref()?.apply(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(template: &str, address: &str) -> Option<String> {
        let key = KeyTemplate::parse(template).unwrap().apply(address.as_bytes())?;
        Some(String::from_utf8(key.to_vec()).unwrap())
    }

    #[test]
    fn keys_are_made_from_tokens_and_text() {
        for (template, address, expected) in [
            ("{token.2}", "orders.created.us", Some("created")),
            ("{token.3}-{token.1}", "orders.created.us", Some("us-orders")),
            ("{address}", "a.b", Some("a.b")),
            ("{{{token.1}}}", "a.b", Some("{a}")),
            ("fixed", "a", Some("fixed")),
            ("", "a", Some("")),
            ("{token.4}", "a.b.c", None),
            ("{token.2}", "a.", Some("")),
        ] {
            assert_eq!(key(template, address).as_deref(), expected, "{template} of {address}");
        }
    }

    #[test]
    fn templates_that_mean_nothing_are_refused() {
        for template in [
            "{",
            "}",
            "{token.0}",
            "{token.x}",
            "{token.256}",
            "{token.+1}",
            "{token.}",
            "{key}",
            "{token.1",
            "a}b",
        ] {
            let error = KeyTemplate::parse(template).unwrap_err();
            assert_eq!(error.kind(), model::ErrorKind::Invalid, "{template}");
        }
    }

    #[test]
    fn templates_are_limited() {
        for (len, is_taken) in
            [(TEMPLATE_LEN_MAX - 1, true), (TEMPLATE_LEN_MAX, true), (TEMPLATE_LEN_MAX + 1, false)]
        {
            assert_eq!(KeyTemplate::parse(&"x".repeat(len)).is_ok(), is_taken, "{len}");
        }
    }

    #[test]
    fn places_are_a_dialect_and_a_name() {
        let place = Place::parse("one:orders.>").unwrap();
        assert_eq!((place.dialect.as_str(), place.name.as_str()), ("one", "orders.>"));
        assert_eq!(place.to_string(), "one:orders.>");
        assert_eq!(Place::parse("one:a:b").unwrap().name, "a:b");
        for text in ["", "orders", ":orders", "one:", "One:orders", "a b:c"] {
            assert!(Place::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_route_whose_key_can_never_be_made_is_refused() {
        let route = |from: &str, key: &str| {
            Route::new(Place::parse(from).unwrap(), 7, Some(KeyTemplate::parse(key).unwrap()))
        };
        assert!(route("one:orders.*", "{token.2}").is_ok());
        assert!(route("one:orders.*", "{token.3}").is_err());
        assert!(route("one:a.>.b", "x").is_err());
        let open = route("one:orders.>", "{token.3}").unwrap();
        assert_eq!(open.key(b"orders.eu.new").as_deref(), Some(b"new".as_slice()));
        assert_eq!(open.key(b"orders.eu"), None);
    }
}
