//! What the owner of a store asks of it beside publishing and reading: checkpoints, figures, time search, closing.

use std::{ops::Range, sync::atomic::Ordering};

use env::Next;
use model::{LogId, Offset, Result};

use crate::{
    Attached, Store,
    files::SEGMENT_PREFIX,
    spill::Spill,
    wal::{WalFileInfo, WalStats},
};

/// Figures of a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    /// Logs that exist.
    pub logs: usize,
    /// Bytes of volatile records in memory.
    pub volatile_len: u64,
    /// Bytes of volatile records in spill files.
    pub spilled_len: u64,
    /// Bytes of the write-ahead log that no checkpoint covers.
    pub unflushed_len: u64,
    /// Extents that logs keep in memory, each of [`crate::EXTENT_LEN`] bytes.
    pub extents: u64,
    /// Checkpoints since the start.
    pub checkpoints: u64,
    /// Segments written since the start.
    pub segments_written: u64,
    /// Bytes of memory that pages of segments' indexes take.
    pub index_len: usize,
    /// Pages of segments' indexes that were found damaged: what they describe is read without them.
    pub damaged_index_pages: usize,
    /// The write-ahead log's own figures.
    pub wal: WalStats,
    /// Its files.
    pub wal_files: Vec<WalFileInfo>,
    /// Names and lengths of the segments.
    pub segments: Vec<(String, u64)>,
}

impl StoreStats {
    /// Bytes on disk, checkpoints apart.
    pub fn disk_len(&self) -> u64 {
        self.wal_files.iter().map(|file| file.len).chain(self.segments.iter().map(|(_, len)| *len)).sum()
    }
}

impl<A: Attached> Store<A> {
    /// Figures as of now. Lists files: not for a hot path.
    pub fn stats(&self) -> Result<StoreStats> {
        let store = &self.0;
        let (index_len, damaged_index_pages) = store.files.index_figures();
        Ok(StoreStats {
            logs: store.logs.read().len(),
            volatile_len: store.volatile.used(),
            spilled_len: store.spill.as_ref().map_or(0, Spill::len),
            unflushed_len: store.unflushed.len(),
            extents: store.unflushed.extents().0,
            checkpoints: store.figures.checkpoints.load(Ordering::Relaxed),
            segments_written: store.figures.segments_written.load(Ordering::Relaxed),
            index_len,
            damaged_index_pages,
            wal: store.wal.stats(),
            wal_files: store.wal.files(),
            segments: store.files.blobs.list(SEGMENT_PREFIX)?,
        })
    }

    /// Random number of the data directory, from when it was made; `None` for a store that has none.
    pub fn incarnation_id(&self) -> Option<u128> {
        self.0.dir.lock().as_ref().map(|dir| dir.incarnation)
    }

    /// Stored ranges that are set aside because they cannot be read back.
    pub fn damaged(&self) -> Vec<(LogId, Range<Offset>)> {
        let mut damaged = Vec::new();
        for log in self.0.logs_by_id() {
            let state = log.lock();
            let aside = state.core.live.extents().iter().filter(|extent| extent.damaged);
            damaged.extend(aside.map(|extent| (log.id(), extent.base..extent.end())));
        }
        damaged
    }

    /// Makes a checkpoint now, flushing sealed WAL files before it if `flush` says so. Blocks on the disk. `false`
    /// when it has to wait for a commit: the background work then finishes it. An error is that of the disk; the
    /// background work tries again.
    pub fn checkpoint(&self, flush: bool) -> Result<bool> {
        let store = &self.0;
        let mut flusher = store.flusher.lock();
        let done = || store.figures.checkpoints.load(Ordering::Relaxed);
        let target = done() + 1;
        flusher.force(store, flush);
        // A pass may make one in its middle.
        while done() < target || !flusher.is_idle() {
            if flusher.step(store) != Next::Again {
                store.flush.raise();
                return flusher.failed().map_or(Ok(false), Err);
            }
        }
        Ok(true)
    }

    /// Stops taking units, writes what is staged, makes a checkpoint, and gives the directory up. Blocks. Nothing is to
    /// be changed any more through other clones of the store.
    pub fn close(&self) -> Result<()> {
        let store = &self.0;
        if store.closing.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let closed = store.wal.close();
        while store.applier.lock().step(store) {}
        if closed.is_ok() && store.wal.failure().is_none() {
            // Volatile records end with the process: no offset above the ends was given to any.
            for log in store.logs_by_id() {
                log.lock().core.give_up_reservation();
            }
            let mut flusher = store.flusher.lock();
            flusher.reset();
            flusher.force(store, false);
            while !flusher.is_idle() && flusher.step(store) == Next::Again {}
            let is_done = flusher.is_idle() && store.wal.failure().is_none();
            if let Some(dir) = store.dir.lock().as_ref().filter(|_| is_done)
                && let Err(error) = dir.closed()
            {
                tracing::warn!(%error, "that the data directory was closed in order could not be written");
            }
        }
        store.flush.raise();
        store.committed.raise();
        store.volatile.pressure.raise();
        store.files.queued.raise();
        *store.dir.lock() = None;
        closed
    }
}

impl<A: Attached> Drop for crate::store::Inner<A> {
    fn drop(&mut self) {
        // Workers that wait see that their store is gone, and end.
        self.flush.raise();
        self.committed.raise();
        self.volatile.pressure.raise();
        self.files.queued.raise();
    }
}
