//! What a read looks at, decided under the log's lock, and what it has gathered.

use std::{
    ops::{ControlFlow, Range},
    sync::Arc,
};

use bytes::Bytes;
use model::{Batch, LogId, Offset, OwnerEpoch, Result};

use super::{ReadLimits, Upto};
use crate::{
    Change, LogCore,
    index::{Stretch, cut},
    log::live::{Extent, Index, Kept},
    spill::Spilled,
    wal::codec::decode_entry,
};

/// Pieces of one plan, at most: small batches that lie apart from each other.
const PIECES_MAX: usize = 1024;

/// A body shorter than this is copied out of what was read, so that keeping it does not keep the rest.
const BODY_COPIED_LEN: usize = 4 << 10;

pub(super) struct Plan {
    pub pieces: Vec<Piece>,
    /// Where the plan begins: what was asked for, or the log's start.
    pub from: Offset,
    /// Once the pieces are read, everything below is.
    pub until: Offset,
    /// Nothing at or above is to be read.
    pub upto: Offset,
}

pub(super) enum Piece {
    Stored(Extent),
    /// In memory.
    Volatile(Arc<Batch>),
    /// Batches with these offsets, in a spill file.
    Spilled(Spilled, Range<Offset>),
    /// Set aside as damaged.
    Lost(Range<Offset>),
}

impl Plan {
    pub fn new(core: &LogCore, from: Offset, limits: ReadLimits, upto: Upto) -> Plan {
        let bounds = core.bounds();
        let upto = match upto {
            Upto::Stable => bounds.stable_end,
            Upto::Durable => bounds.durable_end,
        };
        let from = from.max(bounds.start);
        let mut plan = Plan { pieces: Vec::new(), from, until: upto.max(from), upto };
        if from < upto {
            plan.fill(core, limits);
        }
        plan
    }

    fn fill(&mut self, core: &LogCore, limits: ReadLimits) {
        let (mut len, mut records) = (0usize, 0u64);
        let mut extents = core.live.extents().range(core.live.extent_from(self.from)..).peekable();
        let mut volatile = core.live.volatile_from(self.from).peekable();
        loop {
            let stored_first = match (extents.peek(), volatile.peek()) {
                (None, None) => return,
                (Some(extent), Some(held)) => extent.base < held.base,
                (extent, _) => extent.is_some(),
            };
            let (piece, range, piece_len) = if stored_first {
                let Some(extent) = extents.next() else { return };
                let range = extent.base..extent.end();
                match extent.damaged {
                    true => (Piece::Lost(range.clone()), range, 0),
                    false => (Piece::Stored(extent.clone()), range, self.len_of(extent, limits)),
                }
            } else {
                let Some(held) = volatile.next() else { return };
                let range = held.base..held.end();
                let piece = match &held.kept {
                    Kept::Memory(batch) => Piece::Volatile(batch.clone()),
                    Kept::Spilled(spilled) => Piece::Spilled(spilled.clone(), range.clone()),
                };
                (piece, range, held.len as usize)
            };
            if range.start >= self.upto {
                return;
            }
            self.pieces.push(piece);
            len = len.saturating_add(piece_len);
            records += range.end.since(range.start.max(self.from));
            if len >= limits.bytes || records >= u64::from(limits.records) || self.pieces.len() >= PIECES_MAX
            {
                self.until = range.end.min(self.upto);
                return;
            }
        }
    }

    /// About how many bytes of `extent` are to be read.
    fn len_of(&self, extent: &Extent, limits: ReadLimits) -> usize {
        match &extent.index {
            Index::Points(points) => cut(points, extent, self.from, limits.bytes).len as usize,
            Index::None | Index::Footer => extent.len as usize,
        }
    }
}

pub(super) struct Taken {
    limits: ReadLimits,
    upto: Offset,
    bytes: usize,
    records: u32,
    pub batches: Vec<Batch>,
    /// Read up to here, exclusive.
    pub next: Offset,
    pub lost: Vec<Range<Offset>>,
    /// Whether any of it was read ahead.
    pub of_ahead: bool,
}

impl Taken {
    pub fn new(limits: ReadLimits, from: Offset, upto: Offset) -> Self {
        Taken {
            limits,
            upto,
            bytes: 0,
            records: 0,
            batches: Vec::new(),
            next: from,
            lost: Vec::new(),
            of_ahead: false,
        }
    }

    /// Bytes of batches that it has.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes a batch of `len` bytes unless the limits are reached.
    pub fn batch(&mut self, batch: Batch, len: usize) -> ControlFlow<()> {
        if batch.end() <= self.next {
            return ControlFlow::Continue(());
        }
        if batch.base >= self.upto {
            self.next = self.next.max(self.upto);
            return ControlFlow::Break(());
        }
        self.bytes = self.bytes.saturating_add(len);
        self.records = self.records.saturating_add(batch.count);
        let over = self.bytes > self.limits.bytes || self.records > self.limits.records;
        if over && !self.batches.is_empty() {
            return ControlFlow::Break(());
        }
        self.next = batch.end().min(self.upto);
        self.batches.push(batch);
        if over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    pub fn skip(&mut self, range: Range<Offset>) -> ControlFlow<()> {
        self.next = self.next.max(range.end).min(self.upto);
        self.lost.push(range);
        ControlFlow::Continue(())
    }

    /// Takes the batches of one stretch of `extent`.
    pub fn stored(
        &mut self,
        log: LogId,
        extent: &Extent,
        stretch: Stretch,
        bytes: Bytes,
    ) -> Result<ControlFlow<()>> {
        if self.entries(log, &(extent.base..extent.end()), &bytes)?.is_break() {
            return Ok(ControlFlow::Break(()));
        }
        self.next = self.next.max(stretch.end.min(self.upto));
        Ok(if stretch.last { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }

    /// Takes the batches that `bytes` hold, which are within `offsets`.
    pub fn entries(&mut self, log: LogId, offsets: &Range<Offset>, bytes: &Bytes) -> Result<ControlFlow<()>> {
        let mut at = 0;
        while at < bytes.len() {
            let decoded = decode_entry(log, OwnerEpoch::default(), &bytes.slice(at..))?;
            at += decoded.len;
            let Change::Data { mut batch, .. } = decoded.entry.change else { continue };
            // The bytes are this log's and unharmed; that they are these offsets' proves that the place is right.
            if batch.base < offsets.start || batch.end() > offsets.end {
                return Err(model::Error::corrupt(format!(
                    "offset {} of log {log} is out of place",
                    batch.base
                )));
            }
            if batch.body.len() < BODY_COPIED_LEN {
                batch.body = Bytes::copy_from_slice(&batch.body);
            }
            if self.batch(batch, decoded.len).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}
