//! Frames: made and found.

use std::io::Read;

use crate::{Failure, received::Received};

const END: u8 = 0xce;

/// A method in the making.
pub(crate) struct Method {
    channel: u16,
    payload: Vec<u8>,
}

/// A text of up to 255 bytes with its length.
pub(crate) fn short(text: &str) -> Vec<u8> {
    let mut out = vec![u8::try_from(text.len()).unwrap_or(u8::MAX)];
    out.extend_from_slice(text.as_bytes());
    out
}

fn framed(kind: u8, channel: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![kind];
    out.extend_from_slice(&channel.to_be_bytes());
    out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(payload);
    out.push(END);
    out
}

impl Method {
    pub(crate) fn new(channel: u16, (class, method): (u16, u16)) -> Self {
        let mut made = Method { channel, payload: Vec::new() };
        made.raw(&class.to_be_bytes()).raw(&method.to_be_bytes());
        made
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.payload.extend_from_slice(bytes);
        self
    }

    pub(crate) fn short(&mut self, text: &str) -> &mut Self {
        self.raw(&short(text))
    }

    /// A long text, or a table by its fields.
    pub(crate) fn long(&mut self, bytes: &[u8]) -> &mut Self {
        self.raw(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()).raw(bytes)
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        framed(1, self.channel, &self.payload)
    }
}

/// An acknowledgement of everything up to a tag.
pub(crate) fn ack_upto(tag: u64) -> Vec<u8> {
    let mut ack = Method::new(1, (60, 80));
    ack.raw(&tag.to_be_bytes()).raw(&[1]);
    ack.frame()
}

/// Header and body of a message on channel 1; the body is one frame.
pub(crate) fn content(body: &[u8], is_persistent: bool) -> Vec<u8> {
    let mut header = vec![0, 60, 0, 0];
    header.extend_from_slice(&(body.len() as u64).to_be_bytes());
    header.extend_from_slice(if is_persistent { &[0x10, 0, 2] } else { &[0, 0] });
    let mut all = framed(2, 1, &header);
    all.extend(framed(3, 1, body));
    all
}

/// What came, frame by frame.
#[derive(Default)]
pub(crate) struct Frames(Received);

/// A frame that is here whole.
pub(crate) struct Frame<'a> {
    pub kind: u8,
    pub payload: &'a [u8],
}

impl Frame<'_> {
    /// Class and method.
    pub(crate) fn id(&self) -> Option<(u16, u16)> {
        let ([a, b, c, d], true) = (self.payload.first_chunk()?, self.kind == 1) else { return None };
        Some((u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])))
    }

    pub(crate) fn is_method(&self, wanted: (u16, u16)) -> bool {
        self.id() == Some(wanted)
    }

    /// The number that follows class and method: of a confirm, its tag.
    pub(crate) fn tag(&self) -> u64 {
        self.payload.get(4..12).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u64::from_be_bytes(*bytes))
    }

    /// Whether a confirm is of everything up to its tag.
    pub(crate) fn is_multiple(&self) -> bool {
        self.payload.get(12).is_some_and(|flags| flags & 1 != 0)
    }
}

impl Frames {
    /// Takes in what the server has sent; waits for some of it.
    pub(crate) fn fill(&mut self, stream: &mut impl Read) -> Result<(), Failure> {
        self.0.fill(stream)
    }

    /// Bytes that came and were not looked at, which are taken.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.0.take()
    }

    /// The next frame that is here whole. What closes channel or connection is an error.
    pub(crate) fn next(&mut self) -> Result<Option<Frame<'_>>, Failure> {
        let rest = self.0.rest();
        let Some(head) = rest.first_chunk::<7>() else { return Ok(None) };
        let len = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
        if rest.len() < len + 8 {
            return Ok(None);
        }
        let kind = head[0];
        let frame = Frame { kind, payload: &self.0.pass(len + 8)[7..len + 7] };
        if matches!(frame.id(), Some((10, 50) | (20, 40))) {
            let text = String::from_utf8_lossy(frame.payload.get(6..).unwrap_or_default()).into_owned();
            return Err(format!("the server closed: {text}").into());
        }
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_they_arrive() {
        let mut sent = ack_upto(7);
        sent.extend(content(b"body", true));
        for part in [1, 5, sent.len()] {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for mut bytes in sent.chunks(part) {
                frames.fill(&mut bytes).unwrap();
                while let Some(frame) = frames.next().unwrap() {
                    seen.push((frame.kind, frame.payload.len(), frame.is_method((60, 80)), frame.tag()));
                }
            }
            assert_eq!(seen[0], (1, 13, true, 7));
            assert_eq!([seen[1].0, seen[2].0], [2, 3]);
            assert_eq!(seen.len(), 3);
        }
    }

    #[test]
    fn what_a_server_says_when_it_closes_is_the_error() {
        let mut close = Method::new(1, (20, 40));
        close.raw(&404_u16.to_be_bytes()).short("NOT_FOUND").raw(&[0; 4]);
        let mut frames = Frames::default();
        frames.fill(&mut &close.frame()[..]).unwrap();
        assert!(frames.next().err().unwrap().to_string().contains("NOT_FOUND"));
    }
}
