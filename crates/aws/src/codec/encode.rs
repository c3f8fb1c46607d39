//! Typed values to JSON and XML.

use base64::{Engine, prelude::BASE64_STANDARD};

use super::decode::Blob;

/// A value that answers have.
pub(crate) trait Encode {
    /// Whether it is left out of JSON objects.
    fn is_absent(&self) -> bool {
        false
    }

    /// Appends it as a JSON value.
    fn json(&self, out: &mut Vec<u8>);

    /// Appends it as one element called `name`, as many for a list, as none when it is absent.
    fn xml(&self, name: &str, out: &mut Vec<u8>);
}

/// A structure, whose members can stand in another element than its own.
pub(crate) trait Structure: Encode {
    /// Whether XML has an element for it, be it empty.
    const IS_RESULT: bool = true;

    /// Appends the members as elements.
    fn xml_members(&self, out: &mut Vec<u8>);
}

/// A JSON object being written.
pub(crate) struct Object<'o> {
    out: &'o mut Vec<u8>,
    is_empty: bool,
}

impl<'o> Object<'o> {
    pub(crate) fn open(out: &'o mut Vec<u8>) -> Self {
        out.push(b'{');
        Object { out, is_empty: true }
    }

    /// Appends a member unless it is absent.
    pub(crate) fn member(&mut self, name: &str, value: &(impl Encode + ?Sized)) {
        if !value.is_absent() {
            self.name(name);
            value.json(self.out);
        }
    }

    fn name(&mut self, name: &str) {
        if !self.is_empty {
            self.out.push(b',');
        }
        self.is_empty = false;
        json_text(name, self.out);
        self.out.push(b':');
    }

    pub(crate) fn close(self) {
        self.out.push(b'}');
    }
}

/// Appends `<name>`, what `inside` appends, and `</name>`.
pub(crate) fn element(name: &str, out: &mut Vec<u8>, inside: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'<');
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
    inside(out);
    out.extend_from_slice(b"</");
    out.extend_from_slice(name.as_bytes());
    out.push(b'>');
}

/// Where the first byte is that JSON escapes. Goes through whole blocks without a branch for each byte, so that the
/// compiler can take many at a time: bodies are long and have few such bytes.
fn escaped_at(text: &[u8]) -> Option<usize> {
    const BLOCK_LEN: usize = 64;
    let is_escaped = |byte: &u8| (*byte < 0x20) | (*byte == b'"') | (*byte == b'\\');
    let mut from = 0;
    for block in text.chunks(BLOCK_LEN) {
        if block.iter().fold(false, |found, byte| found | is_escaped(byte)) {
            return block.iter().position(is_escaped).map(|at| from + at);
        }
        from += block.len();
    }
    None
}

/// Appends a JSON string.
pub(crate) fn json_text(text: &str, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = escaped_at(rest) {
        let (plain, from) = rest.split_at(at);
        out.extend_from_slice(plain);
        let Some((special, after)) = from.split_first() else { break };
        match special {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            other => {
                let digit = |value: u8| HEX.get(usize::from(value)).copied().unwrap_or(b'0');
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(other >> 4), digit(other & 15)]);
            }
        }
        rest = after;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

/// Appends character data: escaped, with carriage returns kept through any parser, and what XML 1.0 cannot say replaced.
pub(crate) fn xml_text(text: &str, out: &mut Vec<u8>) {
    let mut from = 0;
    for (at, c) in text.char_indices() {
        let escaped = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&quot;",
            '\r' => "&#xD;",
            '\t' | '\n' | ' '..='\u{fffd}' | '\u{10000}'.. => continue,
            _ => "\u{fffd}",
        };
        out.extend_from_slice(text.get(from..at).unwrap_or_default().as_bytes());
        out.extend_from_slice(escaped.as_bytes());
        from = at + c.len_utf8();
    }
    out.extend_from_slice(text.get(from..).unwrap_or_default().as_bytes());
}

impl Encode for str {
    fn json(&self, out: &mut Vec<u8>) {
        json_text(self, out);
    }

    fn xml(&self, name: &str, out: &mut Vec<u8>) {
        element(name, out, |out| xml_text(self, out));
    }
}

impl Encode for String {
    fn json(&self, out: &mut Vec<u8>) {
        self.as_str().json(out);
    }

    fn xml(&self, name: &str, out: &mut Vec<u8>) {
        self.as_str().xml(name, out);
    }
}

impl Encode for bool {
    fn json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }

    fn xml(&self, name: &str, out: &mut Vec<u8>) {
        element(name, out, |out| self.json(out));
    }
}

impl Encode for i64 {
    fn json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.to_string().as_bytes());
    }

    fn xml(&self, name: &str, out: &mut Vec<u8>) {
        element(name, out, |out| self.json(out));
    }
}

impl Encode for i32 {
    fn json(&self, out: &mut Vec<u8>) {
        i64::from(*self).json(out);
    }

    fn xml(&self, name: &str, out: &mut Vec<u8>) {
        i64::from(*self).xml(name, out);
    }
}

impl Encode for Blob {
    fn json(&self, out: &mut Vec<u8>) {
        BASE64_STANDARD.encode(&self.0).json(out);
    }

    fn xml(&self, name: &str, out: &mut Vec<u8>) {
        BASE64_STANDARD.encode(&self.0).xml(name, out);
    }
}

impl<T: Encode> Encode for Option<T> {
    fn is_absent(&self) -> bool {
        self.is_none()
    }

    fn json(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.json(out),
            None => out.extend_from_slice(b"null"),
        }
    }

    fn xml(&self, name: &str, out: &mut Vec<u8>) {
        if let Some(value) = self {
            value.xml(name, out);
        }
    }
}

/// A list that is left out of JSON when it is empty.
impl<T: Encode> Encode for Vec<T> {
    fn is_absent(&self) -> bool {
        self.is_empty()
    }

    fn json(&self, out: &mut Vec<u8>) {
        out.push(b'[');
        for (index, item) in self.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            item.json(out);
        }
        out.push(b']');
    }

    fn xml(&self, name: &str, out: &mut Vec<u8>) {
        self.iter().for_each(|item| item.xml(name, out));
    }
}

/// A list that JSON has even when it is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listed<T>(pub Vec<T>);

impl<T: Encode> Encode for Listed<T> {
    fn json(&self, out: &mut Vec<u8>) {
        self.0.json(out);
    }

    fn xml(&self, name: &str, out: &mut Vec<u8>) {
        self.0.xml(name, out);
    }
}

/// A map, left out when it is empty. In XML each entry has a `Name` and a `Value`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NamedValues<K, V>(pub Vec<(K, V)>);

impl<K: AsRef<str>, V: Encode> Encode for NamedValues<K, V> {
    fn is_absent(&self) -> bool {
        self.0.is_empty()
    }

    fn json(&self, out: &mut Vec<u8>) {
        let mut object = Object::open(out);
        for (name, value) in &self.0 {
            object.member(name.as_ref(), value);
        }
        object.close();
    }

    fn xml(&self, name: &str, out: &mut Vec<u8>) {
        entries(&self.0, name, "Name", out);
    }
}

/// A map, left out when it is empty. In XML each entry has a `Key` and a `Value`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeyedValues<K, V>(pub NamedValues<K, V>);

impl<K: AsRef<str>, V: Encode> Encode for KeyedValues<K, V> {
    fn is_absent(&self) -> bool {
        self.0.is_absent()
    }

    fn json(&self, out: &mut Vec<u8>) {
        self.0.json(out);
    }

    fn xml(&self, name: &str, out: &mut Vec<u8>) {
        entries(&self.0.0, name, "Key", out);
    }
}

fn entries<K: AsRef<str>, V: Encode>(all: &[(K, V)], name: &str, key: &str, out: &mut Vec<u8>) {
    for (entry, value) in all {
        element(name, out, |out| {
            entry.as_ref().xml(key, out);
            value.xml("Value", out);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &(impl Encode + ?Sized)) -> String {
        let mut out = Vec::new();
        value.json(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn xml(value: &(impl Encode + ?Sized)) -> String {
        let mut out = Vec::new();
        value.xml("X", &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn whatever_text_is_written_as_json_reads_back() {
        for text in ["", "plain", "a\"b\\c", "\u{0}\u{1f}\n\r\t\u{7f}", "é😀\u{2028}", "\\\\\"\""] {
            assert_eq!(serde_json::from_str::<String>(&json(text)).unwrap(), text);
        }
    }

    #[test]
    fn text_in_xml_is_escaped_and_what_xml_has_not_is_replaced() {
        for (text, expected) in [
            ("plain", "<X>plain</X>"),
            ("a<b>&\"c\"'d'", "<X>a&lt;b&gt;&amp;&quot;c&quot;'d'</X>"),
            ("\r\n\t", "<X>&#xD;\n\t</X>"),
            ("a\u{0}b\u{b}\u{ffff}", "<X>a\u{fffd}b\u{fffd}\u{fffd}</X>"),
            ("é😀", "<X>é😀</X>"),
        ] {
            assert_eq!(xml(text), expected);
        }
    }

    #[test]
    fn lists_and_maps_are_flat_in_xml() {
        assert_eq!(xml(&vec!["a".to_owned(), "b".to_owned()]), "<X>a</X><X>b</X>");
        let named = NamedValues(vec![("a", 1), ("b", 2)]);
        assert_eq!(xml(&named), "<X><Name>a</Name><Value>1</Value></X><X><Name>b</Name><Value>2</Value></X>");
        assert_eq!(json(&named), "{\"a\":1,\"b\":2}");
        assert_eq!(
            xml(&KeyedValues(named)),
            "<X><Key>a</Key><Value>1</Value></X><X><Key>b</Key><Value>2</Value></X>"
        );
    }

    #[test]
    fn what_is_absent_is_left_out() {
        let mut out = Vec::new();
        let mut object = Object::open(&mut out);
        object.member("a", &None::<i64>);
        object.member("b", &Vec::<i64>::new());
        object.member("c", &Listed::<i64>::default());
        object.member("d", &Some(true));
        object.close();
        assert_eq!(out, b"{\"c\":[],\"d\":true}");
        assert_eq!(xml(&None::<i64>), "");
        assert_eq!(xml(&Blob(vec![0, 1, 2])), "<X>AAEC</X>");
    }
}
