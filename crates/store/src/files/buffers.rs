//! Buffers for long reads, used again and again: a first touch of memory costs more than the read into it.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use env::{DIRECT_ALIGN_LEN, direct_begin};
use model::{Error, Result};
use parking_lot::Mutex;

use crate::blobs::Blob;

/// Longer buffers are not kept: hardly anything is read in such pieces.
const KEPT_LEN_MAX: usize = 4 << 20;
/// Buffers have whole multiples of this as their length, so that one of a similar read fits.
const STEP_LEN: usize = 128 << 10;

/// Bytes that were read.
pub(super) struct Loaded {
    pub bytes: Bytes,
    /// What whoever holds them keeps in memory.
    pub held_len: usize,
}

/// What a read of `len` bytes takes in memory at the least.
pub(super) fn held_len(len: u32) -> usize {
    let wanted = (DIRECT_ALIGN_LEN - 1).saturating_add(len as usize).next_multiple_of(DIRECT_ALIGN_LEN);
    (wanted + DIRECT_ALIGN_LEN).next_multiple_of(STEP_LEN)
}

/// The buffers that nobody uses.
pub(super) struct Buffers {
    idle: Mutex<Idle>,
}

struct Idle {
    /// The one that came last, at the end.
    buffers: Vec<Vec<u8>>,
    len: usize,
    len_max: usize,
}

impl Buffers {
    /// Keeps up to `idle_len_max` bytes of buffers to be used again.
    pub fn new(idle_len_max: usize) -> Self {
        Buffers { idle: Mutex::new(Idle { buffers: Vec::new(), len: 0, len_max: idle_len_max }) }
    }

    /// Gives the memory of all that wait back.
    pub fn give_up(&self) {
        self.idle.lock().drop_oldest(0);
    }

    /// Reads `[at, at + len)` of `blob` past the machine's cache. Whoever holds the answer holds a buffer; it comes back by
    /// itself. [`model::ErrorKind::Invalid`] behind the blob's end.
    pub fn read(self: &Arc<Self>, blob: &dyn Blob, at: u64, len: u32) -> Result<Loaded> {
        let ends_before = || Error::invalid(format!("a file ends before {len} bytes at {at}"));
        if at.saturating_add(u64::from(len)) > blob.len() {
            return Err(ends_before());
        }
        let skip = usize::try_from(at % DIRECT_ALIGN_LEN as u64).unwrap_or(0);
        let wanted = skip.saturating_add(len as usize);
        let mut lent = self.lend(wanted.next_multiple_of(DIRECT_ALIGN_LEN));
        let read = blob.read_long(at - skip as u64, lent.space())?;
        if read < wanted {
            return Err(ends_before());
        }
        lent.range = lent.range.start + skip..lent.range.start + wanted;
        let held_len = lent.buffer.len();
        Ok(Loaded { bytes: Bytes::from_owner(lent), held_len })
    }

    /// A buffer with `len` bytes of space that begins at a multiple of [`DIRECT_ALIGN_LEN`].
    fn lend(self: &Arc<Self>, len: usize) -> Lent {
        let needed = len + DIRECT_ALIGN_LEN;
        let buffer = self.idle.lock().take(needed);
        let buffer = buffer.unwrap_or_else(|| vec![0; needed.next_multiple_of(STEP_LEN)]);
        let begin = direct_begin(&buffer);
        Lent { buffer, range: begin..begin + len, home: self.clone() }
    }
}

impl Idle {
    fn take(&mut self, needed: usize) -> Option<Vec<u8>> {
        let fits = |buffer: &Vec<u8>| buffer.len() >= needed && buffer.len() / 2 <= needed.max(STEP_LEN);
        let found = self.buffers.iter().rposition(fits)?;
        let buffer = self.buffers.remove(found);
        self.len -= buffer.len();
        Some(buffer)
    }

    fn put(&mut self, buffer: Vec<u8>) {
        if buffer.len() <= KEPT_LEN_MAX {
            self.len += buffer.len();
            self.buffers.push(buffer);
            self.drop_oldest(self.len_max);
        }
    }

    /// Until they come to `len_max` bytes.
    fn drop_oldest(&mut self, len_max: usize) {
        while self.len > len_max && !self.buffers.is_empty() {
            self.len -= self.buffers.remove(0).len();
        }
    }
}

/// A buffer in use.
struct Lent {
    buffer: Vec<u8>,
    /// What of it was asked for.
    range: Range<usize>,
    home: Arc<Buffers>,
}

impl Lent {
    fn space(&mut self) -> &mut [u8] {
        self.buffer.get_mut(self.range.clone()).unwrap_or_default()
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(self.range.clone()).unwrap_or_default()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.home.idle.lock().put(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use model::ErrorKind;

    use super::*;

    struct Counting(Vec<u8>);

    impl Blob for Counting {
        fn read(&self, at: u64, len: u32) -> Result<Bytes> {
            Ok(Bytes::copy_from_slice(&self.0[at as usize..at as usize + len as usize]))
        }
        fn len(&self) -> u64 {
            self.0.len() as u64
        }
    }

    #[test]
    fn any_range_of_a_file_is_read_and_none_behind_its_end() {
        let blob = Counting((0..20_000u32).map(|i| (i % 251) as u8).collect());
        let buffers = Arc::new(Buffers::new(4 << 20));
        for (at, len) in
            [(0, 1), (0, 20_000), (4_095, 2), (4_096, 4_096), (12_345, 7_655), (19_999, 1), (20_000, 0)]
        {
            let read = buffers.read(&blob, at, len).unwrap();
            assert_eq!(read.bytes, blob.0[at as usize..at as usize + len as usize], "{len} bytes at {at}");
        }
        for (at, len) in [(0, 20_001), (19_999, 2), (20_001, 0), (u64::MAX, 1)] {
            assert_eq!(
                buffers.read(&blob, at, len).err().map(|e| e.kind()),
                Some(ErrorKind::Invalid),
                "{len} at {at}"
            );
        }
    }

    #[test]
    fn a_buffer_is_used_again_once_nobody_holds_a_piece_of_it() {
        let blob = Counting(vec![7; 300_000]);
        let buffers = Arc::new(Buffers::new(4 << 20));
        let first = buffers.read(&blob, 0, 100_000).unwrap().bytes;
        let place = first.as_ptr();
        let piece = first.slice(5..6);
        drop(first);
        let second = buffers.read(&blob, 0, 100_000).unwrap().bytes;
        assert_ne!(second.as_ptr(), place, "a piece of it is held");
        drop(piece);
        assert_eq!(buffers.read(&blob, 0, 90_000).unwrap().bytes.as_ptr(), place);
    }

    #[test]
    fn what_a_read_takes_in_memory_is_known_before_but_for_a_longer_buffer_that_is_used_again() {
        let blob = Counting(vec![7; 600_000]);
        for (at, len) in [(0, 1), (4_095, 4_097), (1, 122_880), (1, 122_881), (5_000, 131_072), (77, 300_000)]
        {
            let read = Arc::new(Buffers::new(4 << 20)).read(&blob, at, len).unwrap();
            let least = held_len(len);
            assert!(read.held_len <= least && least - read.held_len <= STEP_LEN, "{len} bytes at {at}");
        }
        let buffers = Arc::new(Buffers::new(4 << 20));
        let long = buffers.read(&blob, 0, 200_000).unwrap().held_len;
        assert_eq!(buffers.read(&blob, 0, 40_000).unwrap().held_len, long);
    }

    #[test]
    fn what_waits_to_be_used_again_is_bounded() {
        let blob = Counting(vec![7; 1 << 20]);
        let buffers = Arc::new(Buffers::new(4 << 20));
        let many: Vec<Bytes> = (0..40).map(|_| buffers.read(&blob, 0, 1 << 20).unwrap().bytes).collect();
        drop(many);
        let lens = || {
            let idle = buffers.idle.lock();
            (idle.len, idle.buffers.iter().map(Vec::len).sum::<usize>())
        };
        let (len, sum) = lens();
        assert!(len == sum && len <= 4 << 20 && len > 2 << 20, "{len} of {sum}");
        drop(buffers.read(&blob, 0, 1 << 20).unwrap());
        assert_eq!(lens(), (len, len), "one of them was used again");
        buffers.give_up();
        assert_eq!(lens(), (0, 0));
    }
}
