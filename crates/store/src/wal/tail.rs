//! The newest frames, kept in memory for readers at the tail, and their buffers on their way to be used again.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;

use super::Place;

/// Buffers kept for reuse at most.
const SPARE_BUFFERS_MAX: usize = 2;
/// The part of its budget that the ring takes whether there are readers or not.
const BASE_SHARE: usize = 8;
/// A reader who stopped coming is forgotten when this many times as much was written as it was behind.
const FORGOTTEN_AFTER: usize = 16;
/// Frames that readers keep alive which one push looks at: keeps a push short however many there are.
const SWEEP_MAX: usize = 16;

/// A ring of frames under one budget. A frame is charged with its whole buffer, in the ring and also after it left it
/// for as long as a reader holds a slice of it: slow readers shrink the ring, they do not grow memory unseen. It holds
/// twice what its readers are behind: what nobody comes for is not worth its memory.
pub(super) struct Ring {
    frames: VecDeque<Held>,
    held_len: usize,
    /// Charges of all frames that ever came.
    came_len: u64,
    /// How far behind the newest frame readers are, bytes.
    behind_len: AtomicUsize,
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
    /// [`Ring::came_len`] after it.
    came_len: u64,
}

impl Ring {
    /// An empty ring that holds up to `budget_len` bytes and keeps spare buffers of up to `spare_len_max` bytes each.
    pub(super) fn new(budget_len: usize, spare_len_max: usize) -> Self {
        Ring {
            frames: VecDeque::new(),
            held_len: 0,
            came_len: 0,
            behind_len: AtomicUsize::new(0),
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
    /// when there is more than readers want, or than the budget allows; the newest stays even if it passes it alone.
    pub(super) fn push(&mut self, place: Place, bytes: Bytes, charge: usize) {
        self.held_len += charge;
        self.came_len += charge as u64;
        self.frames.push_back(Held { place, bytes, charge, came_len: self.came_len });
        let wanted_len = self.wanted_len(charge);
        if self.held_len + self.pinned_len > wanted_len {
            self.sweep();
        }
        while self.held_len + self.pinned_len > wanted_len && self.frames.len() > 1 {
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

    /// How much to hold, now that `charge` more bytes came.
    fn wanted_len(&mut self, charge: usize) -> usize {
        let behind_len = self.behind_len.get_mut();
        *behind_len = behind_len.saturating_sub(charge / FORGOTTEN_AFTER);
        (*behind_len * 2).max(self.budget_len / BASE_SHARE).min(self.budget_len)
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
        if to > frame.bytes.len() {
            return None;
        }
        let behind_len = usize::try_from(self.came_len - frame.came_len).unwrap_or(usize::MAX) + frame.charge;
        if behind_len > self.behind_len.load(Ordering::Relaxed) {
            self.behind_len.fetch_max(behind_len, Ordering::Relaxed);
        }
        Some(frame.bytes.slice(from..to))
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

    /// A ring whose readers want all that its budget allows.
    fn wanted(budget_len: usize) -> Ring {
        let ring = Ring::new(budget_len, 1 << 20);
        ring.behind_len.store(1 << 30, Ordering::Relaxed);
        ring
    }

    #[test]
    fn a_slice_is_served_from_its_frame_and_from_nowhere_else() {
        let mut ring = wanted(1 << 20);
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
        let mut ring = wanted(300);
        for i in 0..3 {
            ring.push(at(i * 4096), frame(100), 101);
        }
        assert_eq!(ring.lens(), (202, 0));
        assert_eq!(ring.slice(at(0), 1), None);
        assert!(ring.buffer(90).capacity() >= 101);
    }

    #[test]
    fn a_held_slice_keeps_its_frame_charged_until_it_is_dropped() {
        let mut ring = wanted(300);
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

    #[test]
    fn as_much_is_kept_as_readers_are_behind_and_little_without_readers() {
        let mut ring = Ring::new(80_000, 1 << 20);
        let push = |ring: &mut Ring, i: u64| ring.push(at(i * 4096), frame(999), 1_000);
        (0..100).for_each(|i| push(&mut ring, i));
        assert_eq!(ring.lens().0, 10_000, "an eighth");
        // One that is nine frames behind all the time.
        for i in 100..200 {
            push(&mut ring, i);
            assert!(ring.slice(at((i - 9) * 4096), 1).is_some());
        }
        assert!((19_000..=20_000).contains(&ring.lens().0), "{:?}", ring.lens());
        // One that falls behind, a little more with every frame.
        for i in 200..400 {
            push(&mut ring, i);
            let behind = 9 + (i - 200) / 2;
            assert_eq!(ring.slice(at((i - behind) * 4096), 1).is_some(), behind < 80, "{behind} behind");
        }
        assert_eq!(ring.lens().0, 80_000, "the budget");
        (400..2_000).for_each(|i| push(&mut ring, i));
        assert_eq!(ring.lens().0, 10_000, "nobody comes any more");
    }
}
