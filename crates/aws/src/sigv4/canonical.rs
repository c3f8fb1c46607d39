//! The canonical form of a request, which both sides sign. Every rule here is Signature Version 4's.

use std::fmt::Write as _;

use hyper::HeaderMap;
use sha2::{Digest, Sha256};

use crate::{AwsError, codec::query};

/// What of a request is signed.
pub(super) struct Signed<'a> {
    pub method: &'a str,
    /// As it came.
    pub path: &'a str,
    /// As it came, without the question mark.
    pub query: &'a str,
    pub headers: &'a HeaderMap,
    /// Lower-case names in their order.
    pub signed_headers: &'a [&'a str],
    /// Digest of the body, in hexadecimal.
    pub payload: &'a str,
}

impl Signed<'_> {
    /// The canonical request.
    pub(super) fn canonical(&self) -> Result<String, AwsError> {
        let mut out = String::with_capacity(512);
        let _infallible = writeln!(out, "{}", self.method);
        path(self.path, &mut out);
        out.push('\n');
        parameters(self.query, &mut out)?;
        out.push('\n');
        for name in self.signed_headers {
            out.push_str(name);
            out.push(':');
            for (index, value) in self.headers.get_all(*name).iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                header_value(&String::from_utf8_lossy(value.as_bytes()), &mut out);
            }
            out.push('\n');
        }
        out.push('\n');
        for (index, name) in self.signed_headers.iter().enumerate() {
            if index > 0 {
                out.push(';');
            }
            out.push_str(name);
        }
        out.push('\n');
        out.push_str(self.payload);
        Ok(out)
    }
}

/// A digest in hexadecimal.
pub(super) fn hex_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _infallible = write!(text, "{byte:02x}");
        text
    })
}

/// Without dots and doubled slashes, and escaped once more than it came.
fn path(path: &str, out: &mut String) {
    let mut segments: Vec<&str> = Vec::new();
    for segment in path.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other),
        }
    }
    for segment in &segments {
        out.push('/');
        escaped(segment, out);
    }
    let is_folder = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    if segments.is_empty() || is_folder {
        out.push('/');
    }
}

/// Sorted as they are escaped, without the signature itself.
fn parameters(text: &str, out: &mut String) -> Result<(), AwsError> {
    let mut plain = Vec::new();
    query::parse(text.as_bytes(), &mut plain)?;
    let mut pairs: Vec<(String, String)> = plain
        .iter()
        .filter(|(name, _)| name != "X-Amz-Signature")
        .map(|(name, value)| {
            let (mut escaped_name, mut escaped_value) = (String::new(), String::new());
            escaped(name, &mut escaped_name);
            escaped(value, &mut escaped_value);
            (escaped_name, escaped_value)
        })
        .collect();
    pairs.sort();
    for (index, (name, value)) in pairs.iter().enumerate() {
        let and = if index > 0 { "&" } else { "" };
        let _infallible = write!(out, "{and}{name}={value}");
    }
    Ok(())
}

fn escaped(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => {
                let _infallible = write!(out, "%{other:02X}");
            }
        }
    }
}

/// Trimmed, with runs of spaces as one.
fn header_value(value: &str, out: &mut String) {
    for (index, word) in value.split([' ', '\t']).filter(|word| !word.is_empty()).enumerate() {
        if index > 0 {
            out.push(' ');
        }
        out.push_str(word);
    }
}
