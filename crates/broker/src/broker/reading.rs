//! Reading: from memory at once, from the disk through a blocking job.

use std::sync::Arc;

use cursor::RecordState;
use model::{Batch, Error, Kind, Offset, Record, Result, Seq};
use store::{Class, Read, SEARCH_LEN, Seek};

use super::Broker;
use crate::{
    faults::Fault,
    future::blocking,
    log_state::LogState,
    producer::ProducerView,
    read::{Chunk, Oversize, ReadLimits},
    retention::time_of,
    settings::TimeSource,
    stream::{Partition, Stream, closed},
};

impl Broker {
    /// Reads whole batches from `from` on. An empty chunk when there is nothing yet. [`model::ErrorKind::NotFound`] when
    /// `from` is below the start or above the end, [`model::ErrorKind::Closed`] once the stream is deleted.
    pub async fn read(&self, partition: &Partition, from: Offset, limits: ReadLimits) -> Result<Chunk> {
        let (log, asked) = (partition.log(), limits.to_store());
        let chunk = match self.store().read_with(log, from, asked, limits.upto, limits.ahead)? {
            Read::Ready(chunk) => {
                self.inner.counters.warm_reads.add(1);
                chunk
            }
            Read::Cold(cold) => {
                self.inner.counters.cold_reads.add(1);
                blocking(self.env(), move || cold.run()).await?
            }
        };
        let chunk = judge(chunk, from, limits)?;
        self.account(partition, &chunk);
        Ok(chunk)
    }

    /// [`Broker::read`] for whoever looks at a stream without consuming it: of a queue, what its work cursor has settled
    /// are gaps, although a history keeps it or the log has it that the queue was made over.
    pub async fn look(
        &self,
        stream: &Stream,
        partition: &Partition,
        from: Offset,
        limits: ReadLimits,
    ) -> Result<Chunk> {
        let mut chunk = self.read(partition, from, limits).await?;
        if stream.key().kind == Kind::Queue {
            hide_settled(stream, partition, &mut chunk);
        }
        Ok(chunk)
    }

    fn account(&self, partition: &Partition, chunk: &Chunk) {
        if chunk.batches.is_empty() {
            return;
        }
        let len: usize = chunk.batches.iter().map(|part| part.batch.body.len()).sum();
        partition.tenant().read_bytes.add(len as u64);
    }

    /// [`Broker::read`] from memory alone; `None` when it would need the disk.
    pub fn try_read(&self, partition: &Partition, from: Offset, limits: ReadLimits) -> Result<Option<Chunk>> {
        match self.store().read(partition.log(), from, limits.to_store(), limits.upto)? {
            Read::Ready(chunk) => {
                let chunk = judge(chunk, from, limits)?;
                self.account(partition, &chunk);
                Ok(Some(chunk))
            }
            Read::Cold(_) => Ok(None),
        }
    }

    /// Has what readers of several partitions will ask for next read ahead, as far as there is room for it: of each, from
    /// where on, and how many bytes. For whoever reads with [`crate::Ahead::Asked`]; costs nothing for what is in memory.
    pub fn look_ahead(&self, wanted: &[(Arc<Partition>, Offset, usize)]) {
        self.store().look_ahead(wanted.iter().map(|(partition, from, len)| (partition.log(), *from, *len)));
    }

    /// The records of a chunk that are there, through the format registry, with their offsets.
    pub fn records(&self, chunk: &Chunk) -> Result<Vec<(Offset, Record)>> {
        let mut records = Vec::new();
        for part in &chunk.batches {
            let batch = &part.batch;
            let is_skipped = || {
                let is_unknown = self.formats().of(batch.format).is_err();
                is_unknown && self.options().faults.has(Fault::UnknownFormatSkipped)
            };
            if batch.flags.control || is_skipped() {
                continue;
            }
            self.formats().read(batch, &mut |index, mut record| {
                if !part.dropped.as_ref().is_some_and(|gone| gone.contains(index)) {
                    record.append_time_ms = batch.append_time_ms;
                    records.push((batch.base.plus(u64::from(index)), record));
                }
                Ok(())
            })?;
        }
        Ok(records)
    }

    /// Deletes everything below `to`. [`model::ErrorKind::Invalid`] above the end. Answers the new start after the commit.
    pub async fn trim(&self, partition: &Partition, to: Offset) -> Result<Offset> {
        let (start, seq) = self.stage_trim(partition, to)?;
        self.durable(seq).await?;
        Ok(start)
    }

    /// [`Broker::trim`] without the wait: the new start, and what [`Broker::durable`] is asked for.
    pub fn stage_trim(&self, partition: &Partition, to: Offset) -> Result<(Offset, Seq)> {
        let permit = self.store().reserve(16, Class::Drain)?;
        let log = partition.log();
        let mut locked = self.store().lock(&[log]);
        let mut own = locked.log(log.id())?;
        if own.core().is_deleted() {
            return Err(closed());
        }
        if to > own.core().durable_end() {
            return Err(Error::invalid(format!("the partition ends at {}", own.core().durable_end())));
        }
        own.trim(to);
        let (core, state) = own.parts();
        state.skip_below(core, to);
        let (start, applied) = (own.core().start(), own.core().applied());
        Ok((start, self.store().commit(permit, locked).max(applied)))
    }

    /// The producers that a partition remembers, by id.
    pub fn producers(&self, partition: &Partition) -> Vec<ProducerView> {
        partition
            .log()
            .with(|_, state| state.producers().map_or_else(Vec::new, |producers| producers.views()))
    }

    /// Which time of its records a partition goes by.
    pub(crate) fn time_source(&self, partition: &Partition) -> TimeSource {
        let settings = |state: &LogState| state.settings.as_ref().map(|settings| settings.time);
        partition.log().with(|_, state| settings(state)).unwrap_or_default()
    }
}

impl ReadLimits {
    fn to_store(self) -> store::ReadLimits {
        store::ReadLimits { bytes: self.bytes, records: u32::try_from(self.records).unwrap_or(u32::MAX) }
    }
}

/// Takes the records out of `chunk` that the work cursor of `queue` has settled.
fn hide_settled(queue: &Stream, partition: &Partition, chunk: &mut Chunk) {
    let name = queue.work_name();
    partition.log().with(|core, state| {
        let Some(work) = state.followed(&name, core) else { return };
        for part in &mut chunk.batches {
            let (base, gone) = (part.batch.base, part.dropped.as_ref());
            let is_gone = |index: &u32| {
                gone.is_some_and(|gone| gone.contains(*index))
                    || work.cursor.state(base.plus(u64::from(*index))) == RecordState::Settled
            };
            let hidden: Vec<u32> = (0..part.batch.count).filter(is_gone).collect();
            if !hidden.is_empty() {
                part.dropped = Some(hidden.into_iter().collect());
            }
        }
    });
}

/// Refuses an offset that is outside of the log, and takes back a first batch that is too long for a reader that does
/// not want one.
fn judge(mut chunk: Chunk, from: Offset, limits: ReadLimits) -> Result<Chunk> {
    if from < chunk.bounds.start || from > chunk.bounds.end {
        let (start, end) = (chunk.bounds.start, chunk.bounds.end);
        return Err(Error::not_found(format!("offset {from} is outside of {start}..{end}")));
    }
    let first_len = chunk.batches.first().map_or(0, |first| first.batch.body.len());
    if limits.oversize == Oversize::Never && first_len > limits.bytes {
        chunk.batches.clear();
        chunk.next = from;
    }
    Ok(chunk)
}

impl Broker {
    /// The first record whose time (by the stream's setting) is `at_ms` or later, and that time. Exact: within a batch
    /// the format tells the records' times.
    pub async fn search_time(&self, partition: &Arc<Partition>, at_ms: i64) -> Result<Option<(Offset, i64)>> {
        let source = self.time_source(partition);
        let mut from = Offset::ZERO;
        loop {
            from = match self.store().seek_time(partition.log(), from, at_ms, time_of(source)) {
                Seek::At(offset) => offset,
                Seek::Cold(cold) => blocking(self.env(), move || Ok(cold.run())).await?,
            };
            let chunk = match self.read(partition, from, ReadLimits::bytes(SEARCH_LEN)).await {
                Ok(chunk) => chunk,
                // Retention went by meanwhile: what is gone is not found.
                Err(e) if e.kind() == model::ErrorKind::NotFound && from < partition.bounds().start => {
                    from = partition.bounds().start;
                    continue;
                }
                Err(e) => return Err(e),
            };
            let next = chunk.next;
            let found = if needs_a_look(&chunk, at_ms, source) {
                // A format may have to unpack much to tell times.
                let broker = self.clone();
                blocking(self.env(), move || broker.first_at(&chunk, from, at_ms, source)).await?
            } else {
                self.first_at(&chunk, from, at_ms, source)?
            };
            if found.is_some() || next <= from {
                return Ok(found);
            }
            from = next;
        }
    }

    /// The record with the latest time (by the stream's setting), and that time; the first of several.
    pub async fn latest_time(&self, partition: &Arc<Partition>) -> Result<Option<(Offset, i64)>> {
        let source = self.time_source(partition);
        let latest = partition.log().with(|core, _| core.latest_time_ms(time_of(source)));
        match latest {
            Some(latest) => self.search_time(partition, latest).await,
            None => Ok(None),
        }
    }

    /// The first record of `chunk` at or after `from` whose time is `at_ms` or later.
    fn first_at(
        &self,
        chunk: &Chunk,
        from: Offset,
        at_ms: i64,
        source: TimeSource,
    ) -> Result<Option<(Offset, i64)>> {
        for part in &chunk.batches {
            let batch = &part.batch;
            if !may_have(batch, at_ms, source) {
                continue;
            }
            let mut found = None;
            self.times(part, source, &mut |offset, time_ms| {
                if found.is_none() && offset >= from && time_ms >= at_ms {
                    found = Some((offset, time_ms));
                }
            })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Every live record of a batch with its time.
    pub(crate) fn times(
        &self,
        part: &crate::read::ChunkBatch,
        source: TimeSource,
        each: &mut dyn FnMut(Offset, i64),
    ) -> Result<()> {
        let batch = &part.batch;
        let is_live = |index| !part.dropped.as_ref().is_some_and(|gone| gone.contains(index));
        let mut tell = |index: u32, time_ms| {
            if is_live(index) {
                each(batch.base.plus(u64::from(index)), time_ms);
            }
        };
        if !has_own_times(batch, source) {
            (0..batch.count).for_each(|index| tell(index, batch.append_time_ms));
            return Ok(());
        }
        self.formats().of(batch.format)?.outlines(batch, &mut |index, row| {
            tell(index, row.event_time_ms.unwrap_or(batch.append_time_ms));
            Ok(())
        })
    }
}

/// Whether the format alone tells the times of a batch's records.
fn has_own_times(batch: &Batch, source: TimeSource) -> bool {
    source == TimeSource::Producer && (batch.max_event_time_ms.is_some() || batch.count > 1)
}

/// Whether a batch may have records whose time is `at_ms` or later.
fn may_have(batch: &Batch, at_ms: i64, source: TimeSource) -> bool {
    let latest = match source {
        TimeSource::Append => batch.append_time_ms,
        TimeSource::Producer => batch.max_event_time_ms.unwrap_or(batch.append_time_ms),
    };
    latest >= at_ms && !batch.flags.control
}

/// Whether a format is asked for the times of a chunk's records.
fn needs_a_look(chunk: &Chunk, at_ms: i64, source: TimeSource) -> bool {
    let is_asked = |batch: &Batch| may_have(batch, at_ms, source) && has_own_times(batch, source);
    chunk.batches.iter().any(|part| is_asked(&part.batch))
}

impl Default for ReadLimits {
    fn default() -> Self {
        ReadLimits::bytes(1 << 20)
    }
}
