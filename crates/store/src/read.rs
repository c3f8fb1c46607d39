//! Reading: a plan under the log's lock, bytes without it, and a last look at what is still live.

mod ahead;
mod plan;

#[cfg(test)]
mod tests;

use std::{collections::HashSet, ops::Range, sync::Arc};

use bytes::Bytes;
use model::{Batch, Error, ErrorKind, Offset, Result, limits};
use roaring::RoaringBitmap;

pub(crate) use self::ahead::AheadTask;
use self::plan::{Piece, Plan, Taken};
use crate::{
    Attached, Bounds, Log, Store,
    files::Source,
    index::{Stretch, cut},
    log::{
        Gone,
        live::{Extent, FileId},
    },
    store::Inner,
};

/// How much one read answers with. At least one batch always fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes of batches.
    pub bytes: usize,
    /// Records, counting all of a batch's.
    pub records: u32,
}

impl Default for ReadLimits {
    fn default() -> Self {
        ReadLimits { bytes: 1 << 20, records: limits::BATCH_RECORDS_MAX }
    }
}

/// How far a reader sees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Upto {
    /// To the first open transaction.
    #[default]
    Stable,
    /// To everything that is durable.
    Durable,
}

/// Who sees to it that what comes next is read ahead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ahead {
    /// The read itself.
    #[default]
    Own,
    /// Whoever reads, for several logs at once ([`Store::look_ahead`]): what they have side by side in a file is then read
    /// as one.
    Asked,
}

/// Which records of a batch are gone, as indices from its base.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask(RoaringBitmap);

impl FromIterator<u32> for Mask {
    fn from_iter<I: IntoIterator<Item = u32>>(gone: I) -> Self {
        Mask(gone.into_iter().collect())
    }
}

impl Mask {
    /// The last of them.
    pub fn last(&self) -> Option<u32> {
        self.0.max()
    }

    /// Whether the record at `index` is gone.
    pub fn contains(&self, index: u32) -> bool {
        self.0.contains(index)
    }

    /// How many are gone.
    pub fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    /// Whether none is; such a mask is never handed out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The gone ones, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter()
    }
}

/// A batch as it is stored, whole: it may begin before the offset that was asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkBatch {
    /// The batch.
    pub batch: Batch,
    /// Which of its records are gone, if any is.
    pub dropped: Option<Mask>,
}

/// What a read found.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    /// In offset order; every one has a live record, perhaps before the offset that was asked for.
    pub batches: Vec<ChunkBatch>,
    /// Where to read on: what lies between the last batch and here is a gap.
    pub next: Offset,
    /// The log's bounds when this was read.
    pub bounds: Bounds,
    /// Stored ranges that could not be read back: reported, stepped over, kept.
    pub lost: Vec<Range<Offset>>,
    /// Whether the disk was asked for any of it, now or ahead.
    pub of_disk: bool,
}

/// A read's outcome.
pub enum Read<A: Attached> {
    /// All of it was in memory.
    Ready(Chunk),
    /// The disk has to be asked.
    Cold(ColdRead<A>),
}

/// A read that blocks on the disk: to be run where that is fine, as a job of [`env::Spawn::blocking`].
pub struct ColdRead<A: Attached> {
    store: Arc<Inner<A>>,
    log: Arc<Log<A>>,
    from: Offset,
    limits: ReadLimits,
    upto: Upto,
    /// Bytes to read ahead for the reader's next call.
    ahead_len: u32,
}

/// A blocking read asks the disk for about as much at a time where nothing was read ahead, whatever its limit: what it
/// has is answered while the rest is on its way.
const PIECE_LEN_MAX: usize = 1 << 20;

/// How often a read follows data that is being moved before it gives up, without getting any further.
const MOVES_MAX: u32 = 16;

impl<A: Attached> Store<A> {
    /// Reads batches from `from` on (from the log's start, if that is later). [`model::ErrorKind::Closed`] when the
    /// log was deleted.
    pub fn read(&self, log: &Arc<Log<A>>, from: Offset, limits: ReadLimits, upto: Upto) -> Result<Read<A>> {
        self.read_with(log, from, limits, upto, Ahead::Own)
    }

    /// As [`Store::read`], where the caller may see to reading ahead.
    pub fn read_with(
        &self,
        log: &Arc<Log<A>>,
        from: Offset,
        limits: ReadLimits,
        upto: Upto,
        ahead: Ahead,
    ) -> Result<Read<A>> {
        let ahead_len = if ahead == Ahead::Own { self.0.options.read_ahead_len } else { 0 };
        let cold = ColdRead { store: self.0.clone(), log: log.clone(), from, limits, upto, ahead_len };
        Ok(match cold.attempt(Source::Memory)? {
            Some(chunk) => {
                if chunk.of_disk {
                    cold.ahead(chunk.next, Source::Memory);
                }
                Read::Ready(chunk)
            }
            None => Read::Cold(cold),
        })
    }

    /// Has what readers of several logs will ask for next read ahead: of each log, from where on, and how many bytes. As
    /// far as there is room, and never more than a read of its own looks ahead.
    pub fn look_ahead<'l>(&self, wanted: impl IntoIterator<Item = (&'l Arc<Log<A>>, Offset, usize)>) {
        let mut has_queued = false;
        for (log, from, len) in wanted {
            let ahead_len = u32::try_from(len).unwrap_or(u32::MAX).min(self.0.options.read_ahead_len);
            let (store, log, limits) = (self.0.clone(), log.clone(), ReadLimits::default());
            let cold = ColdRead { store, log, from, limits, upto: Upto::Stable, ahead_len };
            has_queued |= cold.look_ahead(from, Source::Memory);
        }
        if has_queued {
            self.0.files.queued.raise();
        }
    }

    /// Like [`Store::read`], blocking on the disk if need be.
    pub fn read_blocking(
        &self,
        log: &Arc<Log<A>>,
        from: Offset,
        limits: ReadLimits,
        upto: Upto,
    ) -> Result<Chunk> {
        match self.read(log, from, limits, upto)? {
            Read::Ready(chunk) => Ok(chunk),
            Read::Cold(cold) => cold.run(),
        }
    }
}

impl<A: Attached> ColdRead<A> {
    /// Reads no more than was asked for: nobody goes on where this ends.
    pub(crate) fn alone(mut self) -> Self {
        self.ahead_len = 0;
        self
    }

    /// Reads. Blocks on the disk.
    pub fn run(self) -> Result<Chunk> {
        self.ahead(self.from, Source::Disk);
        match self.attempt(Source::Disk)? {
            Some(chunk) => {
                self.ahead(chunk.next, Source::Memory);
                Ok(Chunk { of_disk: true, ..chunk })
            }
            None => Err(Error::internal("a blocking read did not read")),
        }
    }

    /// `None` when the disk is needed and `source` does not allow it.
    fn attempt(&self, source: Source) -> Result<Option<Chunk>> {
        let mut from = self.from;
        let mut lost = Vec::new();
        let mut of_ahead = false;
        // What failed its checks where it lay; failing there twice is damage, not a move.
        let mut suspects: HashSet<(FileId, u64)> = HashSet::new();
        let mut moves = 0;
        while moves < MOVES_MAX {
            moves += 1;
            let plan = self.plan(from)?;
            let mut taken = Taken::new(self.limits, plan.from, plan.upto);
            match self.gather(&plan, source, &suspects, &mut taken) {
                Ok(Gathered::All) => {}
                Ok(Gathered::NeedsDisk) if taken.batches.is_empty() => return Ok(None),
                Ok(Gathered::NeedsDisk) => {}
                Err(failed) => {
                    let Failed { extent: Some(extent), error } = *failed else { return Err(failed.error) };
                    match error.kind() {
                        ErrorKind::NotFound if suspects.insert((extent.file, extent.at)) => continue,
                        ErrorKind::Corrupt if source == Source::Memory => {
                            self.store.files.forget_ahead(extent.file, extent.at, extent.len);
                            return Ok(None);
                        }
                        ErrorKind::Corrupt if suspects.insert((extent.file, extent.at)) => continue,
                        ErrorKind::NotFound | ErrorKind::Corrupt => self.quarantine(&extent, &error),
                        _ => return Err(error),
                    }
                    continue;
                }
            }
            of_ahead |= taken.of_ahead;
            let mut chunk = self.finish(taken, &plan)?;
            lost.append(&mut chunk.lost);
            if chunk.next > from {
                (from, moves) = (chunk.next, 0);
            }
            if !chunk.batches.is_empty() || from >= plan.upto {
                lost.dedup();
                return Ok(Some(Chunk { lost, of_disk: of_ahead, ..chunk }));
            }
        }
        Err(Error::unavailable(format!("log {} is being moved too fast to be read", self.log.id())))
    }

    /// Decides under the lock what to read.
    fn plan(&self, from: Offset) -> Result<Plan> {
        let state = self.log.lock();
        if state.core.is_deleted() {
            return Err(Error::closed(format!("log {} was deleted", self.log.id())));
        }
        Ok(Plan::new(&state.core, from, self.limits, self.upto))
    }

    fn gather(
        &self,
        plan: &Plan,
        source: Source,
        suspects: &HashSet<(FileId, u64)>,
        taken: &mut Taken,
    ) -> Result<Gathered, Box<Failed>> {
        for piece in &plan.pieces {
            let flow = match piece {
                Piece::Volatile(batch) => taken.batch(Batch::clone(batch), batch.body.len()),
                Piece::Spilled(..) if source == Source::Memory => return Ok(Gathered::NeedsDisk),
                Piece::Spilled(spilled, offsets) => {
                    let bytes = spilled.read();
                    let flow = bytes.and_then(|bytes| taken.entries(self.log.id(), offsets, &bytes));
                    // There is no second place to look, and the disk says so.
                    let failed = |error: Error| Failed { extent: None, error: spilled.unreadable(&error) };
                    flow.map_err(failed)?
                }
                Piece::Lost(range) => taken.skip(range.clone()),
                Piece::Stored(extent) => {
                    let failed = |error| Box::new(Failed { extent: Some(extent.clone()), error });
                    let suspect = suspects.contains(&(extent.file, extent.at));
                    let found = match suspect {
                        true => self.suspect_bytes(extent, taken.next, source),
                        false => self.bytes(extent, source, taken),
                    };
                    match found.map_err(failed)? {
                        Some((stretch, bytes)) => {
                            taken.stored(self.log.id(), extent, stretch, bytes).map_err(failed)?
                        }
                        None => return Ok(Gathered::NeedsDisk),
                    }
                }
            };
            if flow.is_break() {
                return Ok(Gathered::All);
            }
        }
        taken.next = taken.next.max(plan.until);
        Ok(Gathered::All)
    }

    /// Bytes of `extent` from about where `taken` has come to, and which stretch of it they are. `None` when only the disk
    /// has them and `source` does not allow it, or when `taken` has enough without asking the disk once more.
    fn bytes(&self, extent: &Extent, source: Source, taken: &mut Taken) -> Result<Option<(Stretch, Bytes)>> {
        let files = &self.store.files;
        let from = taken.next;
        let stretch_of = |len| files.stretch(self.log.id(), extent, from, len, source);
        let Some(stretch) = stretch_of(self.limits.bytes) else { return Ok(None) };
        let at = extent.at + u64::from(stretch.at);
        if let Some(bytes) = files.in_tail(extent.file, at, stretch.len) {
            return Ok(Some((stretch, bytes)));
        }
        let has_enough = !taken.batches.is_empty() && taken.bytes() >= PIECE_LEN_MAX.min(self.limits.bytes);
        let ahead = match source {
            Source::Disk if !has_enough => files.arriving(extent.file, at)?,
            _ => files.here(extent.file, at),
        };
        // What was read ahead may end before what is asked for, between two batches if the index has not changed.
        let fits = |stretch: &Stretch, have: usize| stretch.len as usize <= have;
        if let Some(bytes) = ahead
            && let Some(stretch) = Some(stretch)
                .filter(|stretch| fits(stretch, bytes.len()))
                .or_else(|| stretch_of(bytes.len()).filter(|stretch| fits(stretch, bytes.len())))
        {
            taken.of_ahead = true;
            files.passed(extent.file, at, stretch.len);
            return Ok(Some((stretch, bytes.slice(..stretch.len as usize))));
        }
        if source == Source::Memory || has_enough {
            return Ok(None);
        }
        let stretch = stretch_of(self.limits.bytes.min(PIECE_LEN_MAX)).unwrap_or(stretch);
        let bytes = files.read_file(extent.file, at, stretch.len)?;
        Ok(Some((stretch, bytes)))
    }

    /// The bytes of an extent that was read in vain before: whole, whatever its index says, and from the disk, whatever is
    /// in memory.
    fn suspect_bytes(
        &self,
        extent: &Extent,
        from: Offset,
        source: Source,
    ) -> Result<Option<(Stretch, Bytes)>> {
        let stretch = cut(&[], extent, from, self.limits.bytes);
        let files = &self.store.files;
        if let Some(bytes) = files.in_tail(extent.file, extent.at, stretch.len) {
            return Ok(Some((stretch, bytes)));
        }
        if source == Source::Memory {
            return Ok(None);
        }
        Ok(Some((stretch, files.read_file(extent.file, extent.at, stretch.len)?)))
    }

    fn quarantine(&self, extent: &Extent, error: &Error) {
        if self.log.lock().core.quarantine(extent.file, extent.at, extent.base) {
            tracing::error!(
                log = self.log.id().0, first = extent.base.0, end = extent.end().0, file = ?extent.file,
                at = extent.at, %error, "stored records cannot be read back; the extent is set aside"
            );
        }
    }

    /// Masks what is gone by now, and looks at the bounds once more.
    fn finish(&self, taken: Taken, plan: &Plan) -> Result<Chunk> {
        let state = self.log.lock();
        let core = &state.core;
        if core.is_deleted() {
            return Err(Error::closed(format!("log {} was deleted", self.log.id())));
        }
        let mut batches = Vec::with_capacity(taken.batches.len());
        for batch in taken.batches {
            match core.gone_in(&batch) {
                Gone::None => batches.push(ChunkBatch { batch, dropped: None }),
                Gone::Some(gone) => batches.push(ChunkBatch { batch, dropped: Some(Mask(gone)) }),
                Gone::All => {}
            }
        }
        let next = taken.next.max(core.start().min(plan.upto));
        Ok(Chunk { batches, next, bounds: core.bounds(), lost: taken.lost, of_disk: taken.of_ahead })
    }
}

enum Gathered {
    All,
    NeedsDisk,
}

struct Failed {
    /// Where; `None` for what was spilled, which has no second place to look.
    extent: Option<Extent>,
    error: Error,
}
