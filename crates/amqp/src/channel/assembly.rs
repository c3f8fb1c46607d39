//! A message under way: method, header, body, in this order and nothing between them.

use crate::{
    codec::{ContentHeader, FrameKind, Properties},
    error::{Code, Exception, Result},
};

/// A message of a channel that is not whole yet. Its buffers are used again and again.
#[derive(Debug, Default)]
pub(crate) struct Assembly {
    stage: Stage,
    pub exchange: String,
    pub routing_key: Vec<u8>,
    pub mandatory: bool,
    /// Flags and properties as they were sent.
    pub properties: Vec<u8>,
    body: Vec<u8>,
    body_len: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    Header,
    Body,
}

/// Capacity that an empty buffer keeps.
const KEPT_LEN: usize = 64 << 10;

/// The class whose content there is.
const BASIC: u16 = 60;

const NO_METHOD: &str = "expected method frame, got non method frame instead";
const NO_HEADER: &str = "expected content header for class 60, got non content header frame instead";
const NO_BODY: &str = "expected content body, got non content body frame instead";

impl Assembly {
    /// Whether a message is under way.
    pub(crate) fn is_under_way(&self) -> bool {
        self.stage != Stage::Idle
    }

    /// Whether a frame of that kind comes next.
    pub(crate) fn expects(&self, kind: FrameKind) -> bool {
        matches!((self.stage, kind), (Stage::Header, FrameKind::Header) | (Stage::Body, FrameKind::Body))
    }

    /// Bytes of a body that is not whole.
    pub(crate) fn held_len(&self) -> usize {
        if self.stage == Stage::Body { self.body.len() } else { 0 }
    }

    /// A publish began.
    pub(crate) fn begin(&mut self, exchange: &str, routing_key: &[u8], mandatory: bool) {
        self.exchange.clear();
        self.exchange.push_str(exchange);
        self.routing_key.clear();
        self.routing_key.extend_from_slice(routing_key);
        self.mandatory = mandatory;
        self.stage = Stage::Header;
    }

    /// Something else came than the frames of a message: what is wrong with that.
    pub(crate) fn interrupted(&self) -> Exception {
        unexpected(match self.stage {
            Stage::Idle => NO_METHOD,
            Stage::Header => NO_HEADER,
            Stage::Body => NO_BODY,
        })
    }

    /// Its header came. Whether the message is whole: it has no body.
    pub(crate) fn header(&mut self, header: &ContentHeader<'_>, len_max: usize) -> Result<bool> {
        match self.stage {
            Stage::Header if header.weight == 0 => {}
            _ => return Err(self.interrupted()),
        }
        if header.class != BASIC {
            let text = format!(
                "expected content header for class {BASIC}, got one for class {} instead",
                header.class
            );
            return Err(Exception::new(Code::UnexpectedFrame, text));
        }
        let fits = usize::try_from(header.body_len).ok().filter(|len| *len <= len_max);
        let Some(body_len) = fits else {
            self.stage = Stage::Idle;
            return Err(Exception::precondition(format!(
                "message size {} is larger than configured max size {len_max}",
                header.body_len
            )));
        };
        self.properties.clear();
        self.properties.extend_from_slice(header.raw);
        self.body.clear();
        self.body.shrink_to(KEPT_LEN);
        self.body_len = body_len;
        self.stage = if body_len == 0 { Stage::Idle } else { Stage::Body };
        Ok(body_len == 0)
    }

    /// A piece of its body came. The whole body, when this was the last piece.
    pub(crate) fn body<'a>(&'a mut self, piece: &'a [u8]) -> Result<Option<Whole<'a>>> {
        if self.stage != Stage::Body {
            return Err(self.interrupted());
        }
        let len = self.body.len() + piece.len();
        if len > self.body_len {
            let text = "content body frame exceeds remaining content size";
            return Err(Exception::new(Code::FrameError, text));
        }
        if len < self.body_len {
            self.body.extend_from_slice(piece);
            return Ok(None);
        }
        self.stage = Stage::Idle;
        if self.body.is_empty() {
            return Ok(Some(self.whole(piece)));
        }
        self.body.extend_from_slice(piece);
        Ok(Some(self.whole(&self.body)))
    }

    /// The message with this body.
    pub(crate) fn whole<'a>(&'a self, body: &'a [u8]) -> Whole<'a> {
        Whole {
            exchange: &self.exchange,
            routing_key: &self.routing_key,
            mandatory: self.mandatory,
            raw_properties: &self.properties,
            properties: Properties::read(&self.properties).unwrap_or_default(),
            body,
        }
    }
}

fn unexpected(text: &str) -> Exception {
    Exception::new(Code::UnexpectedFrame, text)
}

/// A whole message as it was published.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole<'a> {
    pub exchange: &'a str,
    pub routing_key: &'a [u8],
    pub mandatory: bool,
    /// Flags and properties as they were sent.
    pub raw_properties: &'a [u8],
    pub properties: Properties<'a>,
    pub body: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(body_len: u64) -> ContentHeader<'static> {
        ContentHeader { class: BASIC, weight: 0, body_len, properties: Properties::default(), raw: &[0, 0] }
    }

    #[test]
    fn a_body_arrives_in_any_pieces_and_no_other_length() {
        let mut assembly = Assembly::default();
        assembly.begin("x", b"k", false);
        assert_eq!(assembly.header(&header(5), 10), Ok(false));
        assert!(assembly.body(b"he").unwrap().is_none());
        assert_eq!(assembly.body(b"llo").unwrap().unwrap().body, b"hello");
        assert!(!assembly.is_under_way());
        assembly.begin("x", b"k", false);
        assert_eq!(assembly.header(&header(0), 10), Ok(true));
        assembly.begin("x", b"k", false);
        assembly.header(&header(2), 10).unwrap();
        assert_eq!(assembly.body(b"abc").unwrap_err().code, Code::FrameError);
    }

    #[test]
    fn frames_out_of_order_and_bodies_above_the_limit_are_refused() {
        let mut assembly = Assembly::default();
        assert_eq!(assembly.header(&header(1), 10).unwrap_err().code, Code::UnexpectedFrame);
        assert_eq!(assembly.body(b"a").unwrap_err().code, Code::UnexpectedFrame);
        for (len, is_fine) in [(9, true), (10, true), (11, false)] {
            assembly.begin("x", b"k", false);
            assert_eq!(assembly.header(&header(len), 10).is_ok(), is_fine, "{len}");
        }
        assert_eq!(
            assembly.body(b"a").unwrap_err().code,
            Code::UnexpectedFrame,
            "the rest of a message that was refused"
        );
    }
}
