//! When files are given back although no flush is due: much of what is stored has died, or publishers are refused for want
//! of disk space and anything has.
//!
//! A file goes once two checkpoints can do without it. Where the log is written on, they come by themselves; after a stream
//! was deleted, or at the floor, where nothing is published, they would not come at all.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use model::Result;

use crate::{
    Attached, StoreOptions,
    blobs::Blobs,
    files::segment_lens,
    log::live::FileId,
    store::Inner,
    wal::{Wal, WalFileInfo},
};

/// What deleted logs had is much this many times sooner: who deletes one looks for its room, and that it had been there
/// for a moment only is not likely.
const DELETED_PART: u64 = 8;

/// What has died of late.
pub(crate) struct Reclaim {
    /// Bytes of records that died since a checkpoint was last begun, and those of them whose logs were deleted.
    died_len: AtomicU64,
    deleted_len: AtomicU64,
    /// Whether any did since files were last given back for their sake, or that is to be tried once more.
    has_died: AtomicBool,
    /// From here on it is much: what the log may be ahead of a checkpoint, so that where what comes soon goes the
    /// checkpoints that are made anyway do.
    len_min: u64,
}

/// What had died when a pass began to give files back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Died {
    len: u64,
    deleted_len: u64,
}

impl Reclaim {
    /// Nothing was given back yet, and `dead_len` bytes are in files without live records.
    pub fn new(options: &StoreOptions, dead_len: u64) -> Self {
        Reclaim {
            died_len: AtomicU64::new(dead_len),
            deleted_len: AtomicU64::new(0),
            has_died: AtomicBool::new(true),
            len_min: options.unflushed_len_max.max(1),
        }
    }

    /// Whether it is worth looking for files to give back.
    pub fn is_due(&self, is_starved: bool) -> bool {
        self.is_much() || is_starved && self.has_died.load(Ordering::Relaxed)
    }

    fn is_much(&self) -> bool {
        self.died_len.load(Ordering::Relaxed) >= self.len_min
            || self.deleted_len.load(Ordering::Relaxed) >= self.len_min / DELETED_PART
    }

    /// Files are looked for. What is to be told to [`Reclaim::failed`] if that fails.
    pub fn begin(&self) -> Died {
        self.has_died.store(false, Ordering::Relaxed);
        let take = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        Died { len: take(&self.died_len), deleted_len: take(&self.deleted_len) }
    }

    /// Files were looked for because of this, and could not be given back.
    pub fn failed(&self, died: Died) {
        self.died_len.fetch_add(died.len, Ordering::Relaxed);
        self.deleted_len.fetch_add(died.deleted_len, Ordering::Relaxed);
        self.again();
    }

    /// Where publishers still wait, files are to be looked for once more although nothing has died since.
    pub fn again(&self) {
        self.has_died.store(true, Ordering::Relaxed);
    }

    /// A checkpoint is begun: what died before it goes with the one after it. That comes soon enough, unless it is much.
    pub fn noted(&self) {
        if !self.is_much() {
            self.forget();
        }
    }

    fn forget(&self) {
        self.died_len.store(0, Ordering::Relaxed);
        self.deleted_len.store(0, Ordering::Relaxed);
    }
}

impl<A: Attached> Inner<A> {
    /// A log had so many bytes of live records before a change, and has so many after it; whether that deleted it.
    pub fn died(&self, before: u64, after: u64, is_deleted: bool) {
        let Some(len) = before.checked_sub(after).filter(|len| *len > 0) else { return };
        let Reclaim { died_len, deleted_len, has_died, len_min } = &self.reclaim;
        let passes = |count: &AtomicU64, min: u64| {
            let before = count.fetch_add(len, Ordering::Relaxed);
            before < min && before.saturating_add(len) >= min
        };
        let is_first = !has_died.swap(true, Ordering::Relaxed) && self.wal.is_starved();
        let is_much =
            passes(died_len, *len_min) | (is_deleted && passes(deleted_len, len_min / DELETED_PART));
        // Told once: until it has looked, it knows.
        if is_first || is_much {
            self.flush.raise();
        }
    }
}

/// Bytes of the files that may go as soon as two checkpoints do without them: none of them is in `used`.
pub(crate) fn dead_len(wal: &dyn Wal, blobs: &dyn Blobs, used: &BTreeSet<FileId>) -> Result<u64> {
    let is_dead = |info: &WalFileInfo| {
        info.sealed.is_some_and(|last| last <= wal.durable()) && !used.contains(&FileId::Wal(info.file))
    };
    let in_log: u64 = wal.files().iter().filter(|info| is_dead(info)).map(|info| info.len).sum();
    let segments = segment_lens(blobs)?.into_iter();
    let dead = segments.filter(|(number, _)| !used.contains(&FileId::Segment(*number)));
    Ok(in_log + dead.map(|(_, len)| len).sum::<u64>())
}

/// Files with live records.
pub(super) fn used<A: Attached>(store: &Inner<A>) -> BTreeSet<FileId> {
    let mut used = BTreeSet::new();
    super::plan::each_extent(store, |_, extent| {
        used.insert(extent.file);
    });
    used
}
