//! Searching by time: first in what is in memory of a log, then in the index of the one flushed extent that matters.

use std::sync::Arc;

use model::{Offset, Result};

use crate::{
    Attached, ChunkBatch, Log, Read, ReadLimits, Store, TimeOf, Upto, index::INDEX_STEP_LEN, log::TimePoint,
    store::Inner,
};

/// What a search reads at a time, bytes: the stretch that a point of an index stands for, and as much again for what
/// was dropped from it.
pub const SEARCH_LEN: usize = 2 * INDEX_STEP_LEN as usize;

/// Where a search by time goes on.
pub enum Seek<A: Attached> {
    /// No durable record from where the search began up to here is late enough.
    At(Offset),
    /// The disk has to be asked.
    Cold(ColdSeek<A>),
}

/// A look at an index on the disk: to be run where blocking is fine, as a job of [`env::Spawn::blocking`].
pub struct ColdSeek<A: Attached> {
    store: Arc<Inner<A>>,
    log: Arc<Log<A>>,
    from: Offset,
    at_ms: i64,
    of: TimeOf,
}

impl<A: Attached> Store<A> {
    /// The first place at or after `from` where a record of `at_ms` or later may be, exact to about
    /// [`SEARCH_LEN`] bytes; the log's durable end when there is none.
    pub fn seek_time(&self, log: &Arc<Log<A>>, from: Offset, at_ms: i64, of: TimeOf) -> Seek<A> {
        match log.with(|core, _| core.time_point_from(from, at_ms, of)) {
            TimePoint::At(offset) => Seek::At(offset),
            TimePoint::In(_) => {
                Seek::Cold(ColdSeek { store: self.0.clone(), log: log.clone(), from, at_ms, of })
            }
        }
    }

    /// The first durable batch whose latest time is at or after `at_ms`, whole; which of its records it is, only its
    /// format knows. Blocks on the disk, and reads about [`SEARCH_LEN`] bytes beside a page per level of an index.
    pub fn search_time_blocking(
        &self,
        log: &Arc<Log<A>>,
        at_ms: i64,
        of: TimeOf,
        upto: Upto,
    ) -> Result<Option<ChunkBatch>> {
        let mut from = Offset::ZERO;
        loop {
            from = match self.seek_time(log, from, at_ms, of) {
                Seek::At(offset) => offset,
                Seek::Cold(cold) => cold.run(),
            };
            let limits = ReadLimits { bytes: SEARCH_LEN, ..ReadLimits::default() };
            let chunk = match self.read(log, from, limits, upto)? {
                Read::Ready(chunk) => chunk,
                Read::Cold(cold) => cold.alone().run()?,
            };
            let time_ms = |found: &ChunkBatch| match of {
                TimeOf::Append => found.batch.append_time_ms,
                TimeOf::Event => found.batch.max_event_time_ms.unwrap_or(found.batch.append_time_ms),
            };
            if let Some(found) = chunk.batches.into_iter().find(|found| time_ms(found) >= at_ms) {
                return Ok(Some(found));
            }
            if chunk.next <= from {
                return Ok(None);
            }
            from = chunk.next;
        }
    }
}

impl<A: Attached> ColdSeek<A> {
    /// Where the search goes on. Blocks on the disk.
    pub fn run(self) -> Offset {
        let ColdSeek { store, log, mut from, at_ms, of } = self;
        loop {
            match log.with(|core, _| core.time_point_from(from, at_ms, of)) {
                TimePoint::At(offset) => return offset,
                TimePoint::In(extent) => match store.files.late(log.id(), &extent, from, at_ms, of) {
                    Some(offset) => return offset,
                    // The late one is before `from`, or was dropped with what an earlier copy had: on behind it.
                    None => from = extent.end(),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests;
