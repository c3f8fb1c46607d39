//! How far the write-ahead log is ahead of the last checkpoint, and who waits for that to shrink.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    task::Waker,
};

use model::Seq;
use parking_lot::Mutex;

pub(crate) struct Unflushed {
    len_max: u64,
    units_max: u64,
    /// Bytes of all commits applied.
    applied_len: AtomicU64,
    /// How many of them a checkpoint covers.
    covered_len: AtomicU64,
    covered: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
}

impl Unflushed {
    /// Replay found `len` bytes after the unit `covered`.
    pub fn new(len_max: u64, units_max: u64, covered: Seq, len: u64) -> Self {
        Unflushed {
            len_max,
            units_max,
            applied_len: AtomicU64::new(len),
            covered_len: AtomicU64::new(0),
            covered: AtomicU64::new(covered.0),
            waiting: Mutex::default(),
        }
    }

    /// A commit of `len` bytes was applied.
    pub fn add(&self, len: u64) {
        self.applied_len.fetch_add(len, Ordering::Relaxed);
    }

    /// Bytes applied so far; what a checkpoint notes with its position.
    pub fn bytes(&self) -> u64 {
        self.applied_len.load(Ordering::Relaxed)
    }

    /// Bytes that no checkpoint covers.
    pub fn len(&self) -> u64 {
        self.bytes().saturating_sub(self.covered_len.load(Ordering::Relaxed))
    }

    fn units(&self, durable: Seq) -> u64 {
        durable.0.saturating_sub(self.covered.load(Ordering::Relaxed))
    }

    /// Whether it is time to flush: half of a bound is reached, so that what lives shortly dies before.
    pub fn is_due(&self, durable: Seq) -> bool {
        self.len() >= self.len_max / 2 && self.units(durable) > 0
            || self.units(durable) >= self.units_max.max(2) / 2
    }

    /// Whether publishers will soon have to wait: three quarters of a bound are reached.
    pub fn is_pressing(&self, durable: Seq) -> bool {
        self.len() >= self.len_max / 4 * 3 && self.units(durable) > 0
            || self.units(durable) >= self.units_max.max(2) / 4 * 3
    }

    /// Whether publishers have to wait: a bound is reached.
    pub fn is_over(&self, durable: Seq) -> bool {
        self.len() >= self.len_max && self.units(durable) > 0 || self.units(durable) >= self.units_max
    }

    /// Registers `waker` for the next checkpoint. `false` when nobody is refused.
    pub fn wake_on_room(&self, durable: Seq, waker: &Waker) -> bool {
        let mut waiting = self.waiting.lock();
        // Looked at under the lock that `covered` wakes under, so that no wake-up is missed.
        let over = self.is_over(durable);
        if over && !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        over
    }

    /// A checkpoint covers the first `bytes` and everything up to `position`.
    pub fn covered(&self, bytes: u64, position: Seq) {
        let mut waiting = self.waiting.lock();
        self.covered_len.fetch_max(bytes, Ordering::Relaxed);
        self.covered.fetch_max(position.0, Ordering::Relaxed);
        let waiting = std::mem::take(&mut *waiting);
        waiting.into_iter().for_each(Waker::wake);
    }
}
