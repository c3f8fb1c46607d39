//! How far the write-ahead log is ahead of the last checkpoint, and who waits for that to shrink.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    task::Waker,
};

use model::Seq;
use parking_lot::Mutex;

pub(crate) struct Unflushed {
    len_max: u64,
    entries_max: u64,
    /// Bytes and entries of all commits applied.
    applied_len: AtomicU64,
    applied_entries: AtomicU64,
    /// How many of them a checkpoint covers.
    covered_len: AtomicU64,
    covered_entries: AtomicU64,
    covered: AtomicU64,
    waiting: Mutex<Vec<Waker>>,
}

impl Unflushed {
    /// Replay found `len` bytes after the unit `covered`, and at least an entry in each unit.
    pub fn new(len_max: u64, entries_max: u64, covered: Seq, len: u64) -> Self {
        Unflushed {
            len_max,
            entries_max,
            applied_len: AtomicU64::new(len),
            applied_entries: AtomicU64::new(0),
            covered_len: AtomicU64::new(0),
            covered_entries: AtomicU64::new(0),
            covered: AtomicU64::new(covered.0),
            waiting: Mutex::default(),
        }
    }

    /// A commit of `len` bytes was applied, with so many entries: runs of one log, each of which its log keeps in mind.
    pub fn add(&self, len: u64, entries: u64) {
        self.applied_len.fetch_add(len, Ordering::Relaxed);
        self.applied_entries.fetch_add(entries, Ordering::Relaxed);
    }

    /// Bytes and entries applied so far; what a checkpoint notes with its position.
    pub fn applied(&self) -> (u64, u64) {
        (self.applied_len.load(Ordering::Relaxed), self.applied_entries.load(Ordering::Relaxed))
    }

    /// Bytes that no checkpoint covers.
    pub fn len(&self) -> u64 {
        self.applied().0.saturating_sub(self.covered_len.load(Ordering::Relaxed))
    }

    fn units(&self, durable: Seq) -> u64 {
        durable.0.saturating_sub(self.covered.load(Ordering::Relaxed))
    }

    /// Entries that no checkpoint covers; of what replay found, the units.
    fn entries(&self, durable: Seq) -> u64 {
        let applied = self.applied().1.saturating_sub(self.covered_entries.load(Ordering::Relaxed));
        applied.max(self.units(durable))
    }

    /// Whether so much is there as `share` makes of a bound.
    fn reaches(&self, durable: Seq, share: impl Fn(u64) -> u64) -> bool {
        self.units(durable) > 0
            && (self.len() >= share(self.len_max) || self.entries(durable) >= share(self.entries_max.max(2)))
    }

    /// Whether it is time to flush: half of a bound is reached, so that what lives shortly dies before.
    pub fn is_due(&self, durable: Seq) -> bool {
        self.reaches(durable, |max| max / 2)
    }

    /// Whether publishers will soon have to wait: three quarters of a bound are reached.
    pub fn is_pressing(&self, durable: Seq) -> bool {
        self.reaches(durable, |max| max / 4 * 3)
    }

    /// Whether publishers have to wait: a bound is reached.
    pub fn is_over(&self, durable: Seq) -> bool {
        self.reaches(durable, |max| max)
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

    /// A checkpoint covers the first bytes and entries, so many, and everything up to `position`.
    pub fn covered(&self, (bytes, entries): (u64, u64), position: Seq) {
        let mut waiting = self.waiting.lock();
        self.covered_len.fetch_max(bytes, Ordering::Relaxed);
        self.covered_entries.fetch_max(entries, Ordering::Relaxed);
        self.covered.fetch_max(position.0, Ordering::Relaxed);
        let waiting = std::mem::take(&mut *waiting);
        waiting.into_iter().for_each(Waker::wake);
    }
}
