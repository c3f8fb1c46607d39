//! The newest frames, kept in memory for readers at the tail, and their buffers on their way to be used again.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Place;

/// Buffers kept for reuse at most.
const SPARE_BUFFERS_MAX: usize = 4;
/// Frames that readers keep alive which one push looks at: keeps a push short however many there are.
const SWEEP_MAX: usize = 16;

/// A ring of frames under one budget. A frame is charged with its whole buffer, in the ring and also after it left it
/// for as long as a reader holds a slice of it: slow readers shrink the ring, they do not grow memory unseen.
pub(super) struct Ring {
    frames: VecDeque<Held>,
    held_len: usize,
    pinned: VecDeque<Held>,
    pinned_len: usize,
    budget_len: usize,
    spare_len_max: usize,
    spare: Vec<Vec<u8>>,
}

struct Held {
    place: Place,
    bytes: Bytes,
    charge: usize,
}

impl Ring {
    /// An empty ring that holds up to `budget_len` bytes and keeps spare buffers of up to `spare_len_max` bytes each.
    pub(super) fn new(budget_len: usize, spare_len_max: usize) -> Self {
        Ring {
            frames: VecDeque::new(),
            held_len: 0,
            pinned: VecDeque::new(),
            pinned_len: 0,
            budget_len,
            spare_len_max,
            spare: Vec::new(),
        }
    }

    /// An empty buffer for about `len` bytes, used before if one fits well.
    pub(super) fn buffer(&mut self, len: usize) -> Vec<u8> {
        let fits = |buffer: &Vec<u8>| buffer.capacity() >= len && buffer.capacity() / 4 <= len;
        match self.spare.iter().position(fits) {
            Some(at) => self.spare.swap_remove(at),
            None => Vec::with_capacity(len),
        }
    }

    /// Takes in the frame at `place`, which lies behind all others; `charge` is the length of its buffer. The oldest go
    /// when the budget is passed; the newest stays even if it passes it alone.
    pub(super) fn push(&mut self, place: Place, bytes: Bytes, charge: usize) {
        self.held_len += charge;
        self.frames.push_back(Held { place, bytes, charge });
        if self.held_len + self.pinned_len > self.budget_len {
            self.sweep();
        }
        while self.held_len + self.pinned_len > self.budget_len && self.frames.len() > 1 {
            let Some(oldest) = self.frames.pop_front() else { break };
            self.held_len -= oldest.charge;
            if oldest.bytes.is_unique() {
                self.reclaim(oldest.bytes);
            } else {
                self.pinned_len += oldest.charge;
                self.pinned.push_back(oldest);
            }
        }
    }

    /// `len` bytes at `place`, when they lie in a frame of the ring.
    pub(super) fn slice(&self, place: Place, len: u32) -> Option<Bytes> {
        let after = self.frames.partition_point(|frame| frame.place <= place);
        let frame = self.frames.get(after.checked_sub(1)?)?;
        if frame.place.file != place.file {
            return None;
        }
        let from = usize::try_from(place.at - frame.place.at).ok()?;
        let to = from.checked_add(len as usize)?;
        (to <= frame.bytes.len()).then(|| frame.bytes.slice(from..to))
    }

    /// Bytes in the ring, and bytes of frames that left it and are held by readers.
    pub(super) fn lens(&self) -> (usize, usize) {
        (self.held_len, self.pinned_len)
    }

    fn sweep(&mut self) {
        for _ in 0..self.pinned.len().min(SWEEP_MAX) {
            let Some(held) = self.pinned.pop_front() else { return };
            if held.bytes.is_unique() {
                self.pinned_len -= held.charge;
                self.reclaim(held.bytes);
            } else {
                self.pinned.push_back(held);
            }
        }
    }

    fn reclaim(&mut self, mut bytes: Bytes) {
        if self.spare.len() < SPARE_BUFFERS_MAX {
            bytes.truncate(0);
            let buffer = Vec::from(bytes);
            if buffer.capacity() <= self.spare_len_max {
                self.spare.push(buffer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(at: u64) -> Place {
        Place { file: 1, at }
    }

    fn frame(len: usize) -> Bytes {
        let mut buffer = Vec::with_capacity(len + 1);
        buffer.resize(len, 7);
        buffer.into()
    }

    #[test]
    fn a_slice_is_served_from_its_frame_and_from_nowhere_else() {
        let mut ring = Ring::new(1 << 20, 1 << 20);
        ring.push(at(4096), Bytes::from_static(b"abcd"), 4);
        ring.push(at(8192), Bytes::from_static(b"efgh"), 4);
        assert_eq!(ring.slice(at(4097), 2).unwrap(), "bc");
        assert_eq!(ring.slice(at(8192), 4).unwrap(), "efgh");
        assert_eq!(ring.slice(at(8192), 5), None);
        assert_eq!(ring.slice(at(4095), 1), None);
        assert_eq!(ring.slice(at(6000), 1), None);
        assert_eq!(ring.slice(Place { file: 2, at: 4096 }, 1), None);
    }

    #[test]
    fn the_oldest_frames_leave_and_their_buffers_are_used_again() {
        let mut ring = Ring::new(300, 1 << 20);
        for i in 0..3 {
            ring.push(at(i * 4096), frame(100), 101);
        }
        assert_eq!(ring.lens(), (202, 0));
        assert_eq!(ring.slice(at(0), 1), None);
        assert!(ring.buffer(90).capacity() >= 101);
    }

    #[test]
    fn a_held_slice_keeps_its_frame_charged_until_it_is_dropped() {
        let mut ring = Ring::new(300, 1 << 20);
        ring.push(at(0), frame(100), 101);
        let held = ring.slice(at(0), 1).unwrap();
        ring.push(at(4096), frame(100), 101);
        ring.push(at(8192), frame(100), 101);
        assert_eq!(ring.lens(), (101, 101), "the ring shrinks by what readers hold");
        drop(held);
        ring.push(at(12288), frame(100), 101);
        assert_eq!(ring.lens(), (202, 0));
    }

    #[test]
    fn a_frame_beyond_the_budget_stays_while_it_is_the_newest() {
        let mut ring = Ring::new(10, 10);
        ring.push(at(0), frame(100), 101);
        assert!(ring.slice(at(0), 100).is_some());
        ring.push(at(4096), frame(1), 2);
        assert_eq!(ring.lens(), (2, 0));
    }
}
