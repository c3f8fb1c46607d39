//! Frames on their way out.

use std::ops::Range;

use bytes::Bytes;
use wire::Gathered;

use super::{
    Method,
    frame::{FrameKind, OVERHEAD_LEN},
};

const END: u8 = 0xce;
/// The class whose content there is.
const BASIC: u16 = 60;

/// Appends a method's frame.
pub(crate) fn put_method(out: &mut Vec<u8>, channel: u16, method: Method<'_>) {
    framed(out, FrameKind::Method, channel, |out| method.write(out));
}

/// Appends a frame with what `payload` appends.
fn framed(out: &mut Vec<u8>, kind: FrameKind, channel: u16, payload: impl FnOnce(&mut Vec<u8>)) {
    let at = out.len();
    put_head(out, kind, channel, 0);
    let from = out.len();
    payload(out);
    let len = u32::try_from(out.len() - from).unwrap_or(u32::MAX);
    if let Some(place) = out.get_mut(at + 3..at + 7) {
        place.copy_from_slice(&len.to_be_bytes());
    }
    out.push(END);
}

fn put_head(out: &mut Vec<u8>, kind: FrameKind, channel: u16, len: usize) {
    out.extend_from_slice(&head(kind, channel, len));
}

/// What a frame begins with.
fn head(kind: FrameKind, channel: u16, len: usize) -> [u8; 7] {
    let [c0, c1] = channel.to_be_bytes();
    let [l0, l1, l2, l3] = u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    [kind.octet(), c0, c1, l0, l1, l2, l3]
}

/// Appends the frame of a content header: `properties` are flags and properties as they go out.
pub(crate) fn put_content(out: &mut Vec<u8>, channel: u16, properties: &[u8], body_len: usize) {
    framed(out, FrameKind::Header, channel, |out| {
        out.extend_from_slice(&BASIC.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&(body_len as u64).to_be_bytes());
        out.extend_from_slice(properties);
    });
}

/// Adds the frames of a body, none longer than `frame_max` with everything. A long body goes by reference.
pub(crate) fn put_body(out: &mut Gathered, channel: u16, body: &Bytes, frame_max: usize) {
    put_body_of(out, channel, body, 0..body.len(), frame_max);
}

/// [`put_body`] for a body that lies at `range` in `all`.
pub(crate) fn put_body_of(
    out: &mut Gathered,
    channel: u16,
    all: &Bytes,
    range: Range<usize>,
    frame_max: usize,
) {
    let part_len = frame_max.saturating_sub(OVERHEAD_LEN).max(1);
    let mut from = range.start;
    while from < range.end {
        let to = range.end.min(from + part_len);
        out.slice(&head(FrameKind::Body, channel, to - from));
        // References are counted for long bodies alone.
        match all.get(from..to) {
            Some(part) if part.len() <= wire::COPY_MAX => out.slice(part),
            Some(_) => out.shared(&all.slice(from..to)),
            None => {}
        }
        out.slice(&[END]);
        from = to;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::next_frame;

    #[test]
    fn a_long_body_goes_out_in_frames_of_the_negotiated_length() {
        let body = Bytes::from(vec![7u8; 250]);
        let mut out = Gathered::default();
        put_body(&mut out, 3, &body, 108);
        let mut pieces = [std::io::IoSlice::new(&[]); 16];
        let count = out.pieces(0, &mut pieces);
        let all: Vec<u8> = pieces[..count].iter().flat_map(|piece| piece.to_vec()).collect();
        let (mut at, mut lens) = (0, Vec::new());
        while at < all.len() {
            let frame = next_frame(&all[at..], 108).unwrap().unwrap();
            assert_eq!((frame.kind, frame.channel), (FrameKind::Body, 3));
            lens.push(frame.payload.len());
            at += frame.len;
        }
        assert_eq!(lens, [100, 100, 50]);
    }
}
