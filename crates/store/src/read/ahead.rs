//! Reading ahead: what comes next in a log is fetched while what was asked for is on its way to its reader.
//!
//! A log's extents lie apart, others' between them: what the machine reads ahead by itself is other logs'. Long ranges are
//! read past its cache by jobs, into memory that all readers share ([`crate::files`]); for short ones the machine is told,
//! since its cache has their neighbours too.

use std::sync::{Arc, Weak, atomic::Ordering};

use env::{Next, Worker};
use model::Offset;

use super::ColdRead;
use crate::{
    Attached,
    files::{self, Source},
    log::live::{Extent, FileId},
    store::Inner,
};

/// Extents that one read looks ahead over, at the most.
const EXTENTS_AHEAD_MAX: usize = 64;

/// Not worth a read of its own, bytes.
const PIECE_LEN_MIN: u32 = 64 << 10;

impl<A: Attached> ColdRead<A> {
    /// Has what comes from `next` on read ahead, as [`ColdRead::look_ahead`] says.
    pub(super) fn ahead(&self, next: Offset, source: Source) {
        if self.look_ahead(next, source) {
            self.store.files.queued.raise();
        }
    }

    /// Queues what comes from `next` on to be read ahead; whether anything was queued, so that its job has to be told. With
    /// the disk as source the caller reads the first of it himself, at once; without, an index that is not in memory ends
    /// it.
    pub(super) fn look_ahead(&self, next: Offset, source: Source) -> bool {
        let files = &self.store.files;
        let mut left = if self.ahead_len == 0 { 0 } else { files.window(self.ahead_len) };
        if left == 0 {
            return false;
        }
        let mut pieces = Pieces { piece_len: (left / 2).max(PIECE_LEN_MIN), open: None, all: Vec::new() };
        'extents: for extent in self.extents_ahead(next) {
            let mut from = next.max(extent.base);
            while left > 0 {
                let len = left.min(pieces.piece_len) as usize;
                let Some(stretch) = files.stretch(self.log.id(), &extent, from, len, source) else {
                    break 'extents;
                };
                let at = extent.at + u64::from(stretch.at);
                if files.in_tail(extent.file, at, stretch.len).is_some() {
                    break 'extents;
                }
                pieces.add(extent.file, at, stretch.len);
                left = left.saturating_sub(stretch.len);
                if stretch.last {
                    break;
                }
                from = stretch.end;
            }
        }
        let (mut is_own, mut has_queued) = (source == Source::Disk, false);
        for (file, at, len) in pieces.all() {
            has_queued |= self.fetch_ahead(file, at, len, is_own);
            is_own = false;
        }
        has_queued
    }

    /// What of the log's stored records comes from `next` on, decided under its lock.
    fn extents_ahead(&self, next: Offset) -> Vec<Extent> {
        let state = self.log.lock();
        let live = &state.core.live;
        let ahead = live.extents().range(live.extent_from(next)..);
        ahead.filter(|extent| !extent.damaged).take(EXTENTS_AHEAD_MAX).cloned().collect()
    }

    /// Has one range read; by the caller, when it `is_own`. Whether it was queued.
    fn fetch_ahead(&self, file: FileId, mut at: u64, mut len: u32, is_own: bool) -> bool {
        let files = &self.store.files;
        while let Some(end) = files.covered(file, at) {
            let known = u32::try_from(end - at).unwrap_or(u32::MAX);
            if known >= len {
                return false;
            }
            (at, len) = (end, len - known);
        }
        if !files.is_long(len) && !is_own {
            files.will_need(file, at, len);
            return false;
        }
        files.queue_ahead(file, at, len)
    }
}

/// Sends a job for each range whose turn it is, and sees to it that what nobody comes for does not stay for ever. Ends with
/// its store.
pub(crate) struct AheadTask<A: Attached>(Weak<Inner<A>>);

impl<A: Attached> AheadTask<A> {
    pub fn start(store: &Arc<Inner<A>>) {
        let signal = store.files.queued.clone();
        store.env.spawn.task("wm-ahead", signal, Box::new(AheadTask(Arc::downgrade(store))));
    }
}

impl<A: Attached> Worker for AheadTask<A> {
    fn step(&mut self) -> Next {
        let Some(store) = self.0.upgrade() else { return Next::Done };
        if store.closing.load(Ordering::Acquire) {
            return Next::Done;
        }
        let (ripe, next_ns) = store.files.ripe();
        for (file, at) in ripe {
            let store_then = self.0.clone();
            store.env.spawn.blocking(Box::new(move || {
                if let Some(store) = store_then.upgrade() {
                    store.files.read_ahead(file, at);
                }
            }));
        }
        let next_ns = next_ns.or_else(|| store.files.give_up_idle());
        next_ns.map_or(Next::Park, Next::ParkUntil)
    }
}

/// Ranges to read, put together where they lie close to each other.
struct Pieces {
    piece_len: u32,
    open: Option<(FileId, u64, u32)>,
    all: Vec<(FileId, u64, u32)>,
}

impl Pieces {
    fn add(&mut self, file: FileId, at: u64, len: u32) {
        if let Some((open_file, open_at, open_len)) = &mut self.open
            && *open_file == file
            && let Some(gap) = at.checked_sub(*open_at + u64::from(*open_len))
            && gap <= files::GAP_LEN_MAX
            && let Ok(together) = u32::try_from(at + u64::from(len) - *open_at)
            && together <= self.piece_len
        {
            *open_len = together;
            return;
        }
        self.all.extend(self.open.replace((file, at, len)));
    }

    fn all(mut self) -> Vec<(FileId, u64, u32)> {
        self.all.extend(self.open.take());
        self.all
    }
}
