//! Frames: `kind, channel, length, payload, 0xCE`, and the eight bytes that a connection begins with.

use std::ops::Range;

/// Bytes of a frame beside its payload.
pub(crate) const OVERHEAD_LEN: usize = 8;

const HEAD_LEN: usize = 7;
const END: u8 = 0xce;

/// A heartbeat, as sent.
pub(crate) const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, END];

/// Octets that a method has at least, and a content header without its flags.
const METHOD_LEN: usize = 4;
const CONTENT_HEADER_LEN: usize = 12;

/// Octets of a payload that an error text shows.
const SHOWN_LEN: usize = 16;

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Method,
    Header,
    Body,
    Heartbeat,
}

impl FrameKind {
    /// What a frame of that type carries. Where there is less in it than that has at least, or anything in a heartbeat, it is
    /// no such frame.
    fn of(octet: u8, len: usize) -> Option<Self> {
        match octet {
            1 if len >= METHOD_LEN => Some(FrameKind::Method),
            2 if len >= CONTENT_HEADER_LEN => Some(FrameKind::Header),
            3 => Some(FrameKind::Body),
            8 if len == 0 => Some(FrameKind::Heartbeat),
            _ => None,
        }
    }

    pub(crate) fn octet(self) -> u8 {
        match self {
            FrameKind::Method => 1,
            FrameKind::Header => 2,
            FrameKind::Body => 3,
            FrameKind::Heartbeat => 8,
        }
    }
}

/// A whole frame at the start of a buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub kind: FrameKind,
    pub channel: u16,
    /// Where its payload is in the buffer.
    pub payload: Range<usize>,
    /// Bytes of the whole frame.
    pub len: usize,
}

/// Why the byte stream cannot go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FrameFault {
    /// The octet that says what the frame carries.
    pub kind: u8,
    pub channel: u16,
    /// The explanation as the original words it.
    pub text: String,
}

/// The frame at the start of `buffer`; `None` until all of it is there. A payload may be `frame_max` bytes long, eight
/// more than it should: the original tolerates as much.
pub(crate) fn next_frame(buffer: &[u8], frame_max: usize) -> Result<Option<Frame>, FrameFault> {
    let Some((head, rest)) = buffer.split_first_chunk::<HEAD_LEN>() else { return Ok(None) };
    let [octet, c0, c1, l0, l1, l2, l3] = *head;
    let channel = u16::from_be_bytes([c0, c1]);
    let len = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
    let fault = |payload: &[u8], reason: &str| FrameFault {
        kind: octet,
        channel,
        text: format!("{}: {reason}", snippet(octet, payload)),
    };
    if len > frame_max {
        let max = frame_max.saturating_sub(OVERHEAD_LEN);
        return Err(fault(&[], &format!("{{frame_too_large,{len},{max}}}")));
    }
    let Some(end) = rest.get(len) else { return Ok(None) };
    let payload = rest.get(..len).unwrap_or_default();
    if *end != END {
        return Err(fault(payload, &format!("{{invalid_frame_end_marker,{end}}}")));
    }
    let Some(kind) = FrameKind::of(octet, len) else { return Err(fault(payload, "unknown_frame")) };
    Ok(Some(Frame { kind, channel, payload: HEAD_LEN..HEAD_LEN + len, len: HEAD_LEN + len + 1 }))
}

/// Bytes that the frame under way has at least; 0 while that is not known.
pub(crate) fn wanted(buffer: &[u8]) -> usize {
    match buffer.first_chunk::<HEAD_LEN>() {
        Some([_, _, _, l0, l1, l2, l3]) => u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize + OVERHEAD_LEN,
        None => 0,
    }
}

/// How the original tells which frame it means.
pub(crate) fn snippet(kind: u8, payload: &[u8]) -> String {
    match payload.get(..SHOWN_LEN) {
        Some(first) if payload.len() > SHOWN_LEN => {
            format!("type {kind}, first {SHOWN_LEN} octets = {}", shown(first))
        }
        _ => format!("type {kind}, all octets = {}", shown(payload)),
    }
}

/// Octets as the original prints them: as text where all of them are, else as numbers.
fn shown(octets: &[u8]) -> String {
    let is_text = |octet: &u8| matches!(octet, b' '..=b'~' | b'\n' | b'\r' | b'\t');
    if !octets.is_empty() && octets.iter().all(is_text) {
        return format!("<<{:?}>>", String::from_utf8_lossy(octets));
    }
    let numbers: Vec<_> = octets.iter().map(u8::to_string).collect();
    format!("<<{}>>", numbers.join(","))
}

/// What the first eight bytes ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProtocolHeader {
    /// This protocol.
    Spoken,
    /// This protocol, in a form that has to be asked for again: the header to answer with.
    Again,
    /// Another protocol or version: the header to answer with says which is spoken at all.
    Other,
}

impl ProtocolHeader {
    /// What is written before the connection is closed.
    pub(crate) fn answer(self) -> &'static [u8] {
        match self {
            ProtocolHeader::Spoken => b"",
            ProtocolHeader::Again => b"AMQP\x00\x00\x09\x01",
            // The original offers its other protocol's negotiation here; it is not built, and what is spoken is this.
            ProtocolHeader::Other => b"AMQP\x00\x00\x09\x01",
        }
    }
}

/// Reads the first eight bytes; `None` until they are there, or cannot be right any more.
pub(crate) fn protocol_header(buffer: &[u8]) -> Option<ProtocolHeader> {
    const NAME: &[u8] = b"AMQP";
    let seen = buffer.len().min(NAME.len());
    if buffer.get(..seen) != NAME.get(..seen) {
        return Some(ProtocolHeader::Other);
    }
    Some(match buffer.get(NAME.len()..8)? {
        [0, 0, 9, 1] | [1, 1, 0, 9] | [1, 1, 9, 1] => ProtocolHeader::Spoken,
        [0, 0, 9, 0] => ProtocolHeader::Again,
        _ => ProtocolHeader::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(bytes: &[u8]) -> String {
        next_frame(bytes, 16).unwrap_err().text
    }

    #[test]
    fn a_frame_is_found_when_it_is_whole_and_not_before() {
        let bytes = [3, 0, 7, 0, 0, 0, 2, b'h', b'i', END, 99];
        for len in 0..10 {
            assert_eq!(next_frame(&bytes[..len], 16), Ok(None), "{len}");
        }
        let frame = next_frame(&bytes, 16).unwrap().unwrap();
        assert_eq!(frame, Frame { kind: FrameKind::Body, channel: 7, payload: 7..9, len: 10 });
        assert_eq!(wanted(&bytes[..7]), 10);
    }

    #[test]
    fn frames_that_break_the_stream_say_how_in_the_originals_words() {
        assert_eq!(
            fault(&[3, 0, 1, 0, 0, 0, 17]),
            "type 3, all octets = <<>>: {frame_too_large,17,8}",
            "before a byte of it arrived"
        );
        assert_eq!(fault(&[4, 0, 1, 0, 0, 0, 0, END]), "type 4, all octets = <<>>: unknown_frame");
        assert_eq!(
            fault(&[1, 0, 1, 0, 0, 0, 3, 0, 60, 0, END]),
            "type 1, all octets = <<0,60,0>>: unknown_frame"
        );
        assert_eq!(
            next_frame(&[[1, 0, 1, 0, 0, 0, 17].as_slice(), &[7; 17], &[0]].concat(), 32).unwrap_err().text,
            "type 1, first 16 octets = <<7,7,7,7,7,7,7,7,7,7,7,7,7,7,7,7>>: {invalid_frame_end_marker,0}"
        );
        assert_eq!(
            fault(&[2, 0, 1, 0, 0, 0, 2, 0, 60, 33]),
            "type 2, all octets = <<0,60>>: {invalid_frame_end_marker,33}"
        );
        assert_eq!(
            fault(&[3, 0, 1, 0, 0, 0, 2, b'h', b'i', 0]),
            "type 3, all octets = <<\"hi\">>: {invalid_frame_end_marker,0}"
        );
        assert!(next_frame(&[3, 0, 1, 0, 0, 0, 16], 16).unwrap().is_none(), "eight bytes more are tolerated");
    }

    #[test]
    fn the_first_eight_bytes_choose_the_protocol() {
        for (bytes, expected) in [
            (&b"AMQP\x00\x00\x09\x01"[..], Some(ProtocolHeader::Spoken)),
            (b"AMQP\x01\x01\x00\x09", Some(ProtocolHeader::Spoken)),
            (b"AMQP\x00\x00\x09\x00", Some(ProtocolHeader::Again)),
            (b"AMQP\x00\x01\x00\x00", Some(ProtocolHeader::Other)),
            (b"GET / HT", Some(ProtocolHeader::Other)),
            (b"G", Some(ProtocolHeader::Other)),
            (b"AMQP\x00\x00\x09", None),
            (b"AM", None),
            (b"", None),
        ] {
            assert_eq!(protocol_header(bytes), expected, "{bytes:?}");
        }
    }
}
