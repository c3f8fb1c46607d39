use bytes::{Buf, Bytes, BytesMut};

/// Bytes of the length prefix.
const PREFIX_LEN: usize = 4;

/// Room offered to one read when nothing better is known.
const READ_LEN: usize = 16 * 1024;

/// Room added at most in one step, however long the frame says it is: memory follows bytes that arrived.
const GROW_MAX: usize = 1 << 20;

/// Why the byte stream cannot go on. The connection must be closed: its frames cannot be found any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The prefix, read as a signed number, is negative.
    #[error("frame of negative length")]
    Negative,
    /// The prefix is above the limit.
    #[error("frame of {len} bytes, {max} allowed")]
    TooLong {
        /// What the prefix says.
        len: usize,
        /// What is allowed.
        max: usize,
    },
}

/// Cuts frames, each behind a four-byte big-endian length, out of a byte stream.
///
/// Resumable: feed it any pieces through [`FrameBuffer::room`], ask [`FrameBuffer::next_frame`] until there is none.
/// Frames share the buffer's memory; nothing is copied.
#[derive(Debug)]
pub struct FrameBuffer {
    bytes: BytesMut,
    max_len: usize,
    /// About the length of the frames that arrived lately: what the next one may be given room for at once.
    usual_len: usize,
}

impl FrameBuffer {
    /// Accepts frames of at most `max_len` bytes, prefix not counted.
    pub fn new(max_len: usize) -> Self {
        FrameBuffer { bytes: BytesMut::new(), max_len, usual_len: 0 }
    }

    /// Changes the limit for the frames not yet begun.
    pub fn set_max_len(&mut self, max_len: usize) {
        self.max_len = max_len;
    }

    /// Bytes that arrived and are not yet part of a returned frame.
    pub fn buffered_len(&self) -> usize {
        self.bytes.len()
    }

    /// Length of the frame under way, without prefix, as soon as its prefix is there: what a caller reserves of its
    /// memory budget before it reads on.
    pub fn pending_len(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.bytes.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
        let len = usize::try_from(i32::from_be_bytes(*prefix)).map_err(|_| FrameError::Negative)?;
        if len > self.max_len {
            return Err(FrameError::TooLong { len, max: self.max_len });
        }
        Ok(Some(len))
    }

    /// The buffer to read the next bytes into, with room in it. The room doubles with what has arrived, so that a long
    /// frame costs linear work, and stops at the frame's end or one step, whichever is nearer. A peer whose frames have
    /// been long is given as much at once, so that what has arrived is not moved again and again.
    pub fn room(&mut self) -> &mut BytesMut {
        let missing = match self.pending_len() {
            Ok(Some(len)) => (PREFIX_LEN + len).saturating_sub(self.bytes.len()),
            _ => 0,
        };
        let step = self.bytes.len().max(self.usual_len).clamp(READ_LEN, GROW_MAX);
        self.bytes.reserve(missing.clamp(READ_LEN, step));
        &mut self.bytes
    }

    /// The next whole frame, without its prefix; `None` until all its bytes are there.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, FrameError> {
        let Some(len) = self.pending_len()? else { return Ok(None) };
        if self.bytes.len() - PREFIX_LEN < len {
            return Ok(None);
        }
        self.usual_len = len.max(self.usual_len - self.usual_len / 8);
        self.bytes.advance(PREFIX_LEN);
        Ok(Some(self.bytes.split_to(len).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let len = u32::try_from(body.len()).unwrap();
        [&len.to_be_bytes()[..], body].concat()
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let stream = [frame(b"one"), frame(b""), frame(b"three")].concat();
        for piece_len in 1..=stream.len() {
            let mut buffer = FrameBuffer::new(100);
            let mut frames = Vec::new();
            for piece in stream.chunks(piece_len) {
                buffer.room().extend_from_slice(piece);
                while let Some(frame) = buffer.next_frame().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"one"[..], b"", b"three"], "pieces of {piece_len}");
            assert_eq!(buffer.buffered_len(), 0);
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_prefix_alone() {
        let mut buffer = FrameBuffer::new(10);
        buffer.room().extend_from_slice(&11u32.to_be_bytes());
        assert_eq!(buffer.next_frame(), Err(FrameError::TooLong { len: 11, max: 10 }));
        let mut buffer = FrameBuffer::new(10);
        buffer.room().extend_from_slice(&(-1i32).to_be_bytes());
        assert_eq!(buffer.next_frame(), Err(FrameError::Negative));
    }

    #[test]
    fn memory_follows_the_bytes_that_arrived_not_the_length_that_was_claimed() {
        let mut buffer = FrameBuffer::new(usize::MAX);
        buffer.room().extend_from_slice(&i32::MAX.to_be_bytes());
        assert_eq!(buffer.pending_len(), Ok(Some(2_147_483_647)));
        assert!(buffer.room().capacity() <= 4 * READ_LEN);
        assert_eq!(buffer.next_frame(), Ok(None));
    }

    #[test]
    fn a_peer_that_sent_long_frames_is_given_room_for_the_next_at_once() {
        let stream = frame(&vec![5u8; 400_000]);
        let mut buffer = FrameBuffer::new(1 << 20);
        buffer.room().extend_from_slice(&stream);
        assert!(buffer.next_frame().unwrap().is_some());
        buffer.room().extend_from_slice(&stream[..100]);
        let room = buffer.room();
        assert!(room.capacity() - room.len() >= 400_000 - 100);
        room.extend_from_slice(&stream[100..]);
        assert!(buffer.next_frame().unwrap().is_some());
        assert!(buffer.room().capacity() <= 1 << 20, "nothing is kept for a frame that has not begun");
    }

    #[test]
    fn a_long_frame_is_assembled_in_few_steps() {
        let body = vec![5u8; 3 << 20];
        let stream = frame(&body);
        let mut buffer = FrameBuffer::new(4 << 20);
        let mut fed = 0;
        let mut steps = 0;
        while fed < stream.len() {
            let room = buffer.room();
            let len = (room.capacity() - room.len()).min(stream.len() - fed);
            room.extend_from_slice(&stream[fed..fed + len]);
            fed += len;
            steps += 1;
        }
        assert_eq!(buffer.next_frame().unwrap().unwrap(), body);
        assert!(steps < 20, "{steps} steps");
    }
}
