//! JSON bodies to trees (RFC 8259, strictly: no comments, no trailing commas, nothing after the value).

use std::borrow::Cow;

use memchr::memchr2;

use super::{DEPTH_MAX, NODES_MAX, Node};
use crate::AwsError;

/// Parses a body; an empty one is an object without members.
pub(crate) fn parse(body: &[u8]) -> Result<Node<'_>, AwsError> {
    let text = std::str::from_utf8(body).map_err(|_| refused("The body is not UTF-8."))?;
    let mut parser = Parser { text, at: 0, depth: 0, nodes: 0 };
    parser.skip_space();
    if parser.at == text.len() {
        return Ok(Node::Map(Vec::new()));
    }
    let node = parser.value()?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(refused("Something follows the JSON value."));
    }
    Ok(node)
}

fn refused(why: &'static str) -> AwsError {
    AwsError::serialization(why)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    nodes: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    /// What follows, if it is `word`.
    fn take(&mut self, word: &str) -> bool {
        let found = self.rest().starts_with(word);
        if found {
            self.at += word.len();
        }
        found
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn value(&mut self) -> Result<Node<'a>, AwsError> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(refused("The body has too many values."));
        }
        match self.peek() {
            Some(b'"') => Ok(Node::Text(self.string()?)),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(b't') if self.take("true") => Ok(Node::Bool(true)),
            Some(b'f') if self.take("false") => Ok(Node::Bool(false)),
            Some(b'n') if self.take("null") => Ok(Node::Null),
            Some(_) => Err(refused("Unexpected character in JSON.")),
            None => Err(refused("Unexpected end of JSON.")),
        }
    }

    fn nested(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<Node<'a>, AwsError>,
    ) -> Result<Node<'a>, AwsError> {
        if self.depth == DEPTH_MAX {
            return Err(refused("The body is nested too deeply."));
        }
        self.depth += 1;
        self.at += 1;
        let node = read(self);
        self.depth -= 1;
        node
    }

    fn object(&mut self) -> Result<Node<'a>, AwsError> {
        let mut members = Vec::new();
        self.skip_space();
        if self.take("}") {
            return Ok(Node::Map(members));
        }
        loop {
            self.skip_space();
            if self.peek() != Some(b'"') {
                return Err(refused("Expected a member's name in JSON."));
            }
            let name = self.string()?;
            self.skip_space();
            if !self.take(":") {
                return Err(refused("Expected a colon in JSON."));
            }
            self.skip_space();
            members.push((name, self.value()?));
            self.skip_space();
            if self.take("}") {
                return Ok(Node::Map(members));
            }
            if !self.take(",") {
                return Err(refused("Expected a comma or the object's end in JSON."));
            }
        }
    }

    fn array(&mut self) -> Result<Node<'a>, AwsError> {
        let mut items = Vec::new();
        self.skip_space();
        if self.take("]") {
            return Ok(Node::List(items));
        }
        loop {
            self.skip_space();
            items.push(self.value()?);
            self.skip_space();
            if self.take("]") {
                return Ok(Node::List(items));
            }
            if !self.take(",") {
                return Err(refused("Expected a comma or the array's end in JSON."));
            }
        }
    }

    fn number(&mut self) -> Result<Node<'a>, AwsError> {
        let rest = self.rest();
        let len =
            rest.find(|c: char| !matches!(c, '0'..='9' | '-' | '+' | '.' | 'e' | 'E')).unwrap_or(rest.len());
        let number = rest.get(..len).unwrap_or_default();
        if !is_number(number) {
            return Err(refused("A number in JSON does not read."));
        }
        self.at += len;
        Ok(Node::Number(number))
    }

    /// A string, from its opening quote; borrowed unless something in it is escaped.
    fn string(&mut self) -> Result<Cow<'a, str>, AwsError> {
        self.at += 1;
        let mut whole: Option<String> = None;
        loop {
            let rest = self.rest();
            let end = memchr2(b'"', b'\\', rest.as_bytes()).ok_or_else(unfinished)?;
            let run = rest.get(..end).unwrap_or_default();
            if run.bytes().fold(false, |found, byte| found | (byte < 0x20)) {
                return Err(refused("A string in JSON has a control character."));
            }
            self.at += end + 1;
            if rest.as_bytes().get(end) == Some(&b'"') {
                return Ok(match whole {
                    None => Cow::Borrowed(run),
                    Some(mut whole) => {
                        whole.push_str(run);
                        Cow::Owned(whole)
                    }
                });
            }
            let whole = whole.get_or_insert_default();
            whole.push_str(run);
            whole.push(self.escaped()?);
        }
    }

    /// What an escape stands for, from behind its backslash.
    fn escaped(&mut self) -> Result<char, AwsError> {
        let kind = self.peek().ok_or_else(unfinished)?;
        self.at += 1;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => return self.escaped_unit(),
            _ => return Err(refused("Unknown escape in JSON.")),
        })
    }

    fn escaped_unit(&mut self) -> Result<char, AwsError> {
        let lone = || refused("Half of a surrogate pair in JSON.");
        let first = self.unit()?;
        if !(0xd800..0xdc00).contains(&first) {
            return char::from_u32(first).ok_or_else(lone);
        }
        if !self.take("\\u") {
            return Err(lone());
        }
        let second = self.unit()?;
        if !(0xdc00..0xe000).contains(&second) {
            return Err(lone());
        }
        char::from_u32(0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)).ok_or_else(lone)
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u32, AwsError> {
        let digits = self.rest().get(..4).filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()));
        let digits = digits.ok_or_else(|| refused("An escape in JSON lacks its four digits."))?;
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| refused("An escape in JSON lacks its four digits."))
    }
}

fn unfinished() -> AwsError {
    refused("Unexpected end of JSON.")
}

/// The grammar of RFC 8259 §6.
fn is_number(text: &str) -> bool {
    let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let rest = text.strip_prefix('-').unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest.starts_with('0')) {
        return false;
    }
    let mut rest = rest.get(whole..).unwrap_or_default();
    if let Some(fraction) = rest.strip_prefix('.') {
        let len = digits(fraction);
        if len == 0 {
            return false;
        }
        rest = fraction.get(len..).unwrap_or_default();
    }
    if let Some(exponent) = rest.strip_prefix(['e', 'E']) {
        let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        let len = digits(exponent);
        return len > 0 && len == exponent.len();
    }
    rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a parser that many use makes of the same bytes.
    pub(crate) fn reference(body: &str) -> Option<serde_json::Value> {
        serde_json::from_str(body).ok()
    }

    fn text_of(node: &Node<'_>) -> serde_json::Value {
        match node {
            Node::Null => serde_json::Value::Null,
            Node::Bool(value) => (*value).into(),
            Node::Number(text) => serde_json::from_str(text).unwrap(),
            Node::Text(text) => text.as_ref().into(),
            Node::List(items) => items.iter().map(text_of).collect(),
            Node::Map(members) => {
                members.iter().map(|(name, value)| (name.to_string(), text_of(value))).collect()
            }
        }
    }

    #[test]
    fn what_is_json_reads_as_every_parser_reads_it() {
        for body in [
            "{}",
            " { \"a\" : [ 1 , -2.5e+3, true, false, null, \"x\" ] , \"b\" : { } } ",
            r#"{"a":"\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00é😀"}"#,
            "[]",
            "0",
            "-0.0E-1",
            "\"\"",
            r#"{"a":1,"a":2}"#,
        ] {
            assert_eq!(text_of(&parse(body.as_bytes()).unwrap()), reference(body).unwrap(), "{body}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused() {
        for body in [
            "{",
            "}",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{,}",
            "{a:1}",
            "{'a':1}",
            "[1,]",
            "[1 2]",
            "[",
            "]",
            "01",
            "1.",
            ".5",
            "+1",
            "1e",
            "--1",
            "1-",
            "tru",
            "nul",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u123g\"",
            "\"\\ud800\"",
            "\"\\ud800x\"",
            "\"\\ud800\\u0041\"",
            "\"\\udc00\"",
            "\"\n\"",
            "\"\u{0}\"",
            "{} x",
            "// x",
            "NaN",
            "\u{feff}{}",
        ] {
            let error = parse(body.as_bytes()).unwrap_err();
            assert_eq!(error.code, "SerializationException", "{body}");
            assert!(reference(body).is_none(), "{body}");
        }
        assert_eq!(parse(b"{\"a\":\"\xff\"}").unwrap_err().code, "SerializationException");
    }

    #[test]
    fn an_empty_body_is_an_object_without_members() {
        assert_eq!(parse(b"").unwrap(), Node::Map(vec![]));
        assert_eq!(parse(b" \n").unwrap(), Node::Map(vec![]));
    }

    #[test]
    fn depth_and_count_are_bounded() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert!(parse(nested(DEPTH_MAX + 1).as_bytes()).is_err());
        assert!(parse("[".repeat(1 << 20).as_bytes()).is_err());
        let flat = |items: usize| format!("[{}]", vec!["1"; items].join(","));
        assert!(parse(flat(NODES_MAX - 1).as_bytes()).is_ok());
        assert!(parse(flat(NODES_MAX).as_bytes()).is_err());
    }

    #[test]
    fn a_string_without_escapes_is_not_copied() {
        let Node::Text(text) = parse("\"plain é\"".as_bytes()).unwrap() else { panic!() };
        assert!(matches!(text, Cow::Borrowed("plain é")));
    }
}
