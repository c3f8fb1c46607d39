//! How far the write-ahead log is ahead of the last checkpoint, how many extents came since the last flush, and who waits
//! for either to shrink.

use std::{
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
    task::Waker,
};

use model::Seq;
use parking_lot::Mutex;

use crate::StoreOptions;

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
    extents: Extents,
    waiting: Mutex<Vec<Waker>>,
}

/// Extents that logs keep in memory. A flush makes few of many; what it leaves grows with what is stored, and slowly.
struct Extents {
    /// So many may come until the next flush.
    max: u64,
    /// Below zero for a moment where some went before the commit that brought them was counted.
    now: AtomicI64,
    /// How many came in commits, ever.
    placed: AtomicU64,
    /// What the last flush left.
    left: AtomicU64,
}

impl Unflushed {
    /// Replay found `len` bytes after the unit `covered`, and at least an entry in each unit; the logs have so many
    /// extents, and a flush would make nothing less of `left` of them.
    pub fn new(options: &StoreOptions, covered: Seq, len: u64, extents: u64, left: u64) -> Self {
        Unflushed {
            len_max: options.unflushed_len_max,
            entries_max: options.unflushed_entries_max,
            applied_len: AtomicU64::new(len),
            applied_entries: AtomicU64::new(0),
            covered_len: AtomicU64::new(0),
            covered_entries: AtomicU64::new(0),
            covered: AtomicU64::new(covered.0),
            extents: Extents {
                max: options.extents_max,
                now: AtomicI64::new(signed(extents)),
                placed: AtomicU64::new(0),
                left: AtomicU64::new(left),
            },
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

    /// Extents that all logs have, and how many of them came since the last flush; about, where some are gone.
    pub fn extents(&self) -> (u64, u64) {
        let now = self.extents.now.load(Ordering::Relaxed).max(0).cast_unsigned();
        (now, now.saturating_sub(self.extents.left.load(Ordering::Relaxed)))
    }

    /// Whether half as many extents came as may: also those in the file that is being written are to be flushed.
    pub fn extents_are_many(&self) -> bool {
        self.extents().1 >= self.extents.max.max(2) / 2
    }

    fn extents_are_too_many(&self) -> bool {
        self.extents().1 >= self.extents.max.max(2)
    }

    /// A log had so many extents before a change and has so many after it.
    pub fn extents_moved(&self, before: usize, after: usize) {
        if before == after {
            return;
        }
        let were_too_many = self.extents_are_too_many();
        self.extents.now.fetch_add(signed(after as u64) - signed(before as u64), Ordering::Relaxed);
        if were_too_many && !self.extents_are_too_many() {
            self.wake();
        }
    }

    /// A commit brought so many extents.
    pub fn extents_placed(&self, count: usize) {
        self.extents.placed.fetch_add(count as u64, Ordering::Relaxed);
        self.extents_moved(0, count);
    }

    /// What a flush that begins now has to note for [`Unflushed::flushed`].
    pub fn extents_noted(&self) -> u64 {
        self.extents.placed.load(Ordering::Relaxed)
    }

    /// A flush is over that began with `noted`: but for what came since, nothing can be made less.
    pub fn flushed(&self, noted: u64) {
        let since = self.extents_noted().saturating_sub(noted);
        self.extents.left.store(self.extents().0.saturating_sub(since), Ordering::Relaxed);
        self.wake();
    }

    /// Whether it is time to flush: half of a bound is reached, so that what lives shortly dies before.
    pub fn is_due(&self, durable: Seq) -> bool {
        self.reaches(durable, |max| max / 2) || self.extents_are_many()
    }

    /// Whether publishers will soon have to wait: three quarters of a bound are reached.
    pub fn is_pressing(&self, durable: Seq) -> bool {
        self.reaches(durable, |max| max / 4 * 3)
    }

    /// Whether publishers have to wait: a bound is reached.
    pub fn is_over(&self, durable: Seq) -> bool {
        self.reaches(durable, |max| max) || self.extents_are_too_many()
    }

    /// Registers `waker` for the next checkpoint or flush. `false` when nobody is refused.
    pub fn wake_on_room(&self, durable: Seq, waker: &Waker) -> bool {
        let mut waiting = self.waiting.lock();
        // Looked at under the lock that `wake` takes after every change, so that no wake-up is missed.
        let over = self.is_over(durable);
        if over && !waiting.iter().any(|known| known.will_wake(waker)) {
            waiting.push(waker.clone());
        }
        over
    }

    /// A checkpoint covers the first bytes and entries, so many, and everything up to `position`.
    pub fn covered(&self, (bytes, entries): (u64, u64), position: Seq) {
        self.covered_len.fetch_max(bytes, Ordering::Relaxed);
        self.covered_entries.fetch_max(entries, Ordering::Relaxed);
        self.covered.fetch_max(position.0, Ordering::Relaxed);
        self.wake();
    }

    fn wake(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_iter().for_each(Waker::wake);
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
