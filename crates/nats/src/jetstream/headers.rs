//! Header blocks: `NATS/1.0`, lines of `Name: value`, an empty line.

use model::{Header, HeaderValue};

/// The first line of a block.
pub(crate) const VERSION_LINE: &[u8] = b"NATS/1.0\r\n";

/// The headers of a block, in order. What is not a header is passed over.
pub(crate) fn all(block: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    block.split(|byte| *byte == b'\n').skip(1).filter_map(|line| {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at_checked(colon)?;
        Some((name, value.get(1..)?.trim_ascii()))
    })
}

/// The value of the first header of that name, as it is written.
pub(crate) fn value<'a>(block: &'a [u8], name: &str) -> Option<&'a [u8]> {
    all(block).find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
}

/// The headers as other dialects see them.
pub(crate) fn canonical(block: &[u8]) -> Vec<Header> {
    let header = |(name, value): (&[u8], &[u8])| Header {
        name: String::from_utf8_lossy(name).into_owned(),
        value: HeaderValue::Text(String::from_utf8_lossy(value).into_owned()),
    };
    all(block).map(header).collect()
}

/// A block of these headers; none where there are none.
pub(crate) fn block<'a>(headers: impl Iterator<Item = (&'a [u8], &'a [u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in headers {
        if out.is_empty() {
            out.extend_from_slice(VERSION_LINE);
        }
        out.extend_from_slice(name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    if !out.is_empty() {
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_reads_back_and_what_is_no_header_is_passed_over() {
        let headers: [(&[u8], &[u8]); 3] = [(b"A", b"1"), (b"B", b""), (b"A", b"2: 3")];
        let written = block(headers.into_iter());
        assert_eq!(written, b"NATS/1.0\r\nA: 1\r\nB: \r\nA: 2: 3\r\n\r\n");
        assert_eq!(all(&written).collect::<Vec<_>>(), headers);
        assert_eq!((value(&written, "A"), value(&written, "a")), (Some(&b"1"[..]), None));
        assert_eq!(block(std::iter::empty()), b"");
        assert_eq!(all(b"NATS/1.0\r\nnothing\r\n:x\r\n\r\n").collect::<Vec<_>>(), [(&b""[..], &b"x"[..])]);
    }
}
