//! From staged units to the bytes of one frame: grouped by log, stamped, checksummed.

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use env::direct_begin;
use model::{Error, LogId, OwnerEpoch, Result, Seq};

use super::{
    Place, Run, RunBatch,
    codec::{self, Encoder, Order},
    frame::{FRAME_HEADER_LEN, FrameHeader, PAGE_LEN},
};
use crate::{
    entry::{Change, Unit},
    faults::{Fault, Faults},
};

/// Builds frames; keeps its scratch space from one to the next.
pub(super) struct Layout {
    encoder: Encoder,
    slots: Vec<Slot>,
    faults: Faults,
}

/// One entry of the frame. Sorted, they are grouped by log, within it in the order of submission.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    log: LogId,
    unit: u32,
    index: u32,
}

/// A frame whose header is still blank: it depends on the file that the frame goes to.
pub(super) struct Laid {
    /// Space that nothing is in, then the frame: header space, runs, padding.
    buffer: Vec<u8>,
    /// Where the frame begins: at an address from which it can be written past the machine's cache.
    begins_at: usize,
    /// The runs, with positions relative to the frame, in file 0.
    pub(super) runs: Vec<Run>,
    units: u32,
    body_len: u32,
    body_crc: u32,
}

/// What the header of a frame says about its place in the chain.
pub(super) struct Link {
    pub(super) salt: u64,
    pub(super) number: u64,
    pub(super) first: Seq,
    pub(super) prev_crc: u32,
    pub(super) durable: u64,
}

impl Layout {
    pub(super) fn new(faults: Faults) -> Self {
        Layout { encoder: Encoder::default(), slots: Vec::new(), faults }
    }

    /// Lays `units` out in `bytes`, which is empty and has [`env::DIRECT_ALIGN_LEN`] of room beyond the frame.
    /// [`model::ErrorKind::Limit`] when they do not fit one frame.
    pub(super) fn frame<'a>(
        &mut self,
        units: impl ExactSizeIterator<Item = &'a Unit> + Clone,
        mut bytes: Vec<u8>,
    ) -> Result<Laid> {
        let too_many = |_| Error::limit("a frame holds too much");
        let unit_count = u32::try_from(units.len()).map_err(too_many)?;
        self.sort(units.clone());
        // Random access to the units without a second copy of them.
        let units: Vec<&Unit> = units.collect();
        let begins_at = direct_begin(&bytes);
        bytes.resize(begins_at + FRAME_HEADER_LEN, 0);
        let mut sealed = Sealed::default();
        let mut open: Option<OpenRun> = None;
        for slot in &self.slots {
            let entry = &units[slot.unit as usize].entries[slot.index as usize];
            let run = match open.take() {
                Some(run) if (run.log, run.epoch) == (entry.log, entry.epoch) => run,
                before => {
                    before.map(|run| run.end(&mut bytes, &mut sealed)).transpose()?;
                    OpenRun::begin(&mut bytes, entry.log, entry.epoch)
                }
            };
            let run = open.insert(run);
            let at = bytes.len();
            let order = Order { units_since: slot.unit - run.unit, index: slot.index };
            run.unit = slot.unit;
            let len = self.encoder.entry(&mut bytes, entry, order);
            if let Change::Data { batch, .. } = &entry.change {
                run.batches.push(RunBatch {
                    base: batch.base,
                    count: batch.count,
                    at: u32::try_from(at - run.begins_at).map_err(too_many)?,
                    len: u32::try_from(len).map_err(too_many)?,
                    append_time_ms: batch.append_time_ms,
                    event_time_ms: batch.max_event_time_ms.unwrap_or(batch.append_time_ms),
                });
            }
        }
        open.map(|run| run.end(&mut bytes, &mut sealed)).transpose()?;
        let Sealed { mut runs, crc } = sealed;
        runs.iter_mut().for_each(|run| run.place.at -= begins_at as u64);
        let body_len = u32::try_from(bytes.len() - begins_at - FRAME_HEADER_LEN).map_err(too_many)?;
        let body_crc = crc.finalize() as u32;
        let frame_len = (bytes.len() - begins_at).next_multiple_of(PAGE_LEN as usize);
        bytes.resize(begins_at + frame_len, 0);
        Ok(Laid { buffer: bytes, begins_at, runs, units: unit_count, body_len, body_crc })
    }

    fn sort<'a>(&mut self, units: impl Iterator<Item = &'a Unit>) {
        self.slots.clear();
        for (unit, content) in (0..).zip(units) {
            let entries = (0..).zip(&content.entries);
            let entries = entries.take(if self.faults.has(Fault::DropSecondEntry) { 1 } else { usize::MAX });
            self.slots.extend(entries.map(|(index, entry)| Slot { log: entry.log, unit, index }));
        }
        if !self.slots.is_sorted() {
            self.slots.sort_unstable();
        }
    }
}

impl Laid {
    /// Writes the header, moves the runs to where the frame will lie, and answers the header's checksum.
    pub(super) fn seal(&mut self, link: &Link, place: Place) -> u32 {
        let header = FrameHeader {
            salt: link.salt,
            number: link.number,
            first: link.first,
            units: self.units,
            runs: u32::try_from(self.runs.len()).unwrap_or(u32::MAX),
            body_len: self.body_len,
            prev_crc: link.prev_crc,
            durable: link.durable,
            body_crc: self.body_crc,
        };
        for run in &mut self.runs {
            run.place = Place { file: place.file, at: place.at + run.place.at };
        }
        match self.buffer.get_mut(self.begins_at..).and_then(<[u8]>::first_chunk_mut) {
            Some(out) => header.encode(out),
            None => 0,
        }
    }

    /// Length of the frame, bytes.
    pub(super) fn len(&self) -> u64 {
        (self.buffer.len() - self.begins_at) as u64
    }

    /// The frame, and what its buffer takes in memory.
    pub(super) fn into_frame(self) -> (Bytes, usize) {
        let capacity = self.buffer.capacity();
        (Bytes::from(self.buffer).slice(self.begins_at..), capacity)
    }
}

/// The runs that have ended, and the checksum over them: taken run by run, while a run's bytes are still in the
/// processor's cache.
struct Sealed {
    runs: Vec<Run>,
    crc: Digest,
}

impl Default for Sealed {
    fn default() -> Self {
        Sealed { runs: Vec::new(), crc: Digest::new(CrcAlgorithm::Crc32Iscsi) }
    }
}

/// A run whose end is not known yet.
struct OpenRun {
    log: LogId,
    epoch: OwnerEpoch,
    begins_at: usize,
    entries_at: usize,
    unit: u32,
    batches: Vec<RunBatch>,
}

impl OpenRun {
    fn begin(bytes: &mut Vec<u8>, log: LogId, epoch: OwnerEpoch) -> Self {
        let begins_at = bytes.len();
        let entries_at = codec::begin_run(bytes, log, epoch);
        OpenRun { log, epoch, begins_at, entries_at, unit: 0, batches: Vec::new() }
    }

    fn end(self, bytes: &mut [u8], sealed: &mut Sealed) -> Result<()> {
        codec::end_run(bytes, self.entries_at)?;
        sealed.crc.update(bytes.get(self.begins_at..).unwrap_or_default());
        let len = u32::try_from(bytes.len() - self.begins_at)
            .map_err(|_| Error::limit("a run is longer than 4 GiB"))?;
        let place = Place { file: 0, at: self.begins_at as u64 };
        sealed.runs.push(Run { log: self.log, place, len, batches: self.batches });
        Ok(())
    }
}
