//! One line that connects dialects: what is published under a pattern also goes elsewhere, under a key or an address made
//! from the one that was published to.

use std::fmt;

use bytes::Bytes;
use model::{Error, Result};

use crate::pattern::{PATTERN_TOKENS_MAX, Pattern, Syntax, tokens};

/// Bytes of a template.
pub const TEMPLATE_LEN_MAX: usize = 1_024;

/// Something in the address space of one dialect: `dialect:name`, or `dialect:scope/name` where names lie in scopes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Which dialect, as listeners are named: lower-case letters, digits and `-`.
    pub dialect: String,
    /// What the name lies in, where the dialect has such: taken as it is written, and may be empty.
    pub scope: Option<String>,
    /// A name or pattern there; empty only within a scope.
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
                Ok(Place { dialect: dialect.into(), scope: None, name: name.into() })
            }
            _ => Err(Error::invalid("a place is written as dialect:name")),
        }
    }

    /// The same place of a dialect whose names lie in scopes: what is before the first slash is the scope.
    /// [`model::ErrorKind::Invalid`] without a slash.
    pub fn scoped(self) -> Result<Self> {
        let Place { dialect, name, .. } = self;
        match name.split_once('/') {
            Some((scope, name)) => Ok(Place { dialect, scope: Some(scope.into()), name: name.into() }),
            None => Err(Error::invalid(format!("a place there is written as {dialect}:scope/name"))),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.scope {
            Some(scope) => write!(f, "{}:{scope}/{}", self.dialect, self.name),
            None => write!(f, "{}:{}", self.dialect, self.name),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    Text(String),
    /// The nth token of the address, counted from 0.
    Token(usize),
    Address,
    Key,
}

/// How a record key, or an address, is made from the address that was published to: text with `{token.N}` (the Nth
/// token, from 1) and `{address}`, and for addresses `{key}` (the record's key); braces of the text are doubled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

impl Template {
    /// The template that `text` is, for a key. [`model::ErrorKind::Invalid`] for unknown or unclosed braces and for
    /// tokens beyond what patterns have; [`model::ErrorKind::Limit`] above [`TEMPLATE_LEN_MAX`] bytes.
    pub fn parse(text: &str) -> Result<Self> {
        Template::read(text, false)
    }

    /// The same for an address, which may have the record's key in it.
    pub fn for_address(text: &str) -> Result<Self> {
        Template::read(text, true)
    }

    fn read(text: &str, knows_key: bool) -> Result<Self> {
        if text.len() > TEMPLATE_LEN_MAX {
            return Err(Error::limit(format!("a template is longer than {TEMPLATE_LEN_MAX} bytes")));
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
                let (name, after) = inner
                    .ok_or_else(|| Error::invalid("a brace in a template is not closed, or not doubled"))?;
                parts.push(part(name, knows_key)?);
                rest = after;
            }
        }
        push_text(&mut parts, rest);
        Ok(Template { text: text.into(), parts })
    }

    /// What it comes to for an address; `None` when that lacks a token that the template names, or the record has no key
    /// where the template has it.
    pub fn apply(&self, address: &[u8], key: Option<&[u8]>) -> Option<Bytes> {
        let mut out = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Token(index) => out.extend_from_slice(tokens(address).nth(*index)?),
                Part::Address => out.extend_from_slice(address),
                Part::Key => out.extend_from_slice(key?),
            }
        }
        Some(out.into())
    }

    /// Whether it has the record's key in it.
    pub fn needs_key(&self) -> bool {
        self.parts.contains(&Part::Key)
    }

    /// As it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// How many tokens an address needs to have.
    pub fn tokens_needed(&self) -> usize {
        let needed = |part: &Part| if let Part::Token(index) = part { index + 1 } else { 0 };
        self.parts.iter().map(needed).max().unwrap_or(0)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn part(name: &str, knows_key: bool) -> Result<Part> {
    match name {
        "address" => return Ok(Part::Address),
        "key" if knows_key => return Ok(Part::Key),
        _ => {}
    }
    let number = name.strip_prefix("token.").filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
    match number.and_then(|digits| digits.parse::<usize>().ok()) {
        Some(number) if (1..=PATTERN_TOKENS_MAX).contains(&number) => Ok(Part::Token(number - 1)),
        _ if knows_key => Err(Error::invalid(format!(
            "the template of an address knows {{address}}, {{token.N}} and {{key}}, not {{{name}}}"
        ))),
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
    pub key: Option<Template>,
}

impl<T> Route<T> {
    /// A route. [`model::ErrorKind::Invalid`] when the pattern does not read, or the key needs a token that no
    /// matching address has.
    pub fn new(from: Place, target: T, key: Option<Template>) -> Result<Self> {
        let pattern = Pattern::parse(from.name.as_bytes(), Syntax::ALL)?;
        let route = Route { from, pattern, target, key };
        route.key.iter().try_for_each(|key| route.check(key))?;
        Ok(route)
    }

    /// [`model::ErrorKind::Invalid`] when a template needs a token that no matching address has.
    pub fn check(&self, template: &Template) -> Result<()> {
        let needed = template.tokens_needed();
        match self.pattern.tokens_max() {
            Some(has) if has < needed => {
                Err(Error::invalid(format!("addresses that match {} have no token {needed}", self.pattern)))
            }
            _ => Ok(()),
        }
    }

    /// The key that a record gets which was published to `address`; `None` = as the record has it.
    pub fn key(&self, address: &[u8]) -> Option<Bytes> {
        self.key.as_ref()?.apply(address, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(template: &str, address: &str) -> Option<String> {
        let key = Template::parse(template).unwrap().apply(address.as_bytes(), None)?;
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
    fn an_address_may_have_the_key_of_the_record_in_it() {
        let template = Template::for_address("orders.{key}.{token.1}").unwrap();
        let made = |key: Option<&[u8]>| template.apply(b"eu.new", key);
        assert_eq!(made(Some(b"k7")).as_deref(), Some(&b"orders.k7.eu"[..]));
        assert_eq!(made(None), None);
        assert!(template.needs_key() && !Template::for_address("{address}").unwrap().needs_key());
        assert!(Template::for_address("{keys}").is_err());
    }

    #[test]
    fn a_scope_is_what_is_before_the_first_slash() {
        let place = |text: &str| Place::parse(text).unwrap().scoped();
        for (text, scope, name) in [
            ("one:s/a.b", "s", "a.b"),
            ("one:/a", "", "a"),
            ("one:s.t/", "s.t", ""),
            ("one:s/a/b", "s", "a/b"),
        ] {
            let place = place(text).unwrap();
            assert_eq!((place.scope.as_deref(), place.name.as_str()), (Some(scope), name), "{text}");
            assert_eq!(place.to_string(), text);
        }
        assert!(place("one:a.b").is_err());
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
            let error = Template::parse(template).unwrap_err();
            assert_eq!(error.kind(), model::ErrorKind::Invalid, "{template}");
        }
    }

    #[test]
    fn templates_are_limited() {
        for (len, is_taken) in
            [(TEMPLATE_LEN_MAX - 1, true), (TEMPLATE_LEN_MAX, true), (TEMPLATE_LEN_MAX + 1, false)]
        {
            assert_eq!(Template::parse(&"x".repeat(len)).is_ok(), is_taken, "{len}");
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
            Route::new(Place::parse(from).unwrap(), 7, Some(Template::parse(key).unwrap()))
        };
        assert!(route("one:orders.*", "{token.2}").is_ok());
        assert!(route("one:orders.*", "{token.3}").is_err());
        assert!(route("one:a.>.b", "x").is_err());
        let open = route("one:orders.>", "{token.3}").unwrap();
        assert_eq!(open.key(b"orders.eu.new").as_deref(), Some(b"new".as_slice()));
        assert_eq!(open.key(b"orders.eu"), None);
    }
}
