//! Checkpoints: the state of every log and of the catalog in one immutable blob, written and restored as a stream.
//!
//! ```text
//! page    kind u8 | payload length u32 | CRC-32C over kind and payload u32 | payload
//! head    magic 8 | version u16 | id | position | next log id | next segment id          (first page)
//! logs    log records, each whole within its page
//! catalog last command's position | state
//! end     pages before it | logs                                                        (last page)
//!
//! log     id, epoch, durability, start, end - start, placed_end - start, reserved_end - start, last append time,
//!         applied | extents: count, then each | dropped offsets (Roaring, length first) | attached state (length first)
//! extent  file * 2 + (in a segment) | position | base - end of the one before | length | offsets | records
//!         | append time - last append time | event time - append time | flags u8 | [points: count, then each]
//! ```
//!
//! Numbers are varints where no width is given. A blob without its end page, or with a page that fails its checksum, is
//! damaged: the checkpoint before it is used.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bytes::Bytes;
use model::{Error, ErrorKind, LogId, Offset, OwnerEpoch, Result, Seq};
use roaring::RoaringTreemap;

use crate::{
    Annex, Attached, Catalog, Durability, LogCore,
    blobs::{self, Blob, Blobs},
    log::{
        CoreSnapshot, LogState,
        live::{Extent, FileId, Index, Point},
    },
    wal::varint::{Reader, put_signed, put_slice, put_varint},
};

const MAGIC: &[u8; 8] = b"wm-check";
const VERSION: u16 = 1;
/// Pages are closed once they are this long.
const PAGE_LEN: usize = 256 << 10;
const PAGE_HEADER_LEN: usize = 9;

const HEAD: u8 = 1;
const LOGS: u8 = 2;
const CATALOG: u8 = 3;
const END: u8 = 4;

const PREFIX: &str = "checkpoint-";

/// What a checkpoint is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// Rises from checkpoint to checkpoint.
    pub id: u64,
    /// Replay begins after this unit.
    pub position: Seq,
    pub next_log: u64,
    pub next_segment: u64,
}

/// Name of a checkpoint's blob.
pub(crate) fn name(id: u64) -> String {
    format!("{PREFIX}{id:016}")
}

/// The ids of all checkpoints that exist, ascending.
pub(crate) fn list(blobs: &dyn Blobs) -> Result<Vec<u64>> {
    blobs::numbers(blobs, PREFIX)
}

/// A checkpoint that is being gathered.
pub(crate) struct Writer {
    head: Head,
    pages: Vec<Bytes>,
    page: Vec<u8>,
    attached: Vec<u8>,
    logs: u64,
    /// Every unit up to here has to be durable before the checkpoint may be put in place: some are in it.
    pub needs: Seq,
    /// Files with live extents.
    files: BTreeSet<FileId>,
    annexes: BTreeMap<u64, (LogId, Arc<Annex>)>,
}

/// What a checkpoint is no use without.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needed {
    /// Files with extents that it names.
    pub files: BTreeSet<FileId>,
    /// Numbers of annexes that it names.
    pub annexes: BTreeSet<u64>,
}

impl Writer {
    pub fn new(head: Head) -> Self {
        let mut writer = Writer {
            head,
            pages: Vec::new(),
            page: Vec::new(),
            attached: Vec::new(),
            logs: 0,
            needs: head.position,
            files: BTreeSet::new(),
            annexes: BTreeMap::new(),
        };
        writer.page.extend_from_slice(MAGIC);
        writer.page.extend_from_slice(&VERSION.to_le_bytes());
        for field in [head.id, head.position.0, head.next_log, head.next_segment] {
            put_varint(&mut writer.page, field);
        }
        writer.close_page(HEAD);
        writer
    }

    /// Adds a log as it is now. Under its lock; [`Writer::log_added`] is called without it. An annex that has no number yet
    /// is given `next`.
    pub fn log<A: Attached>(&mut self, state: &mut LogState<A>, next: &mut u64) {
        let core = state.core.snapshot();
        self.logs += 1;
        self.needs = self.needs.max(core.applied);
        put_core(&mut self.page, &core);
        let extents = state.core.live.extents();
        put_varint(&mut self.page, extents.len() as u64);
        let mut end = Offset::ZERO;
        for extent in extents {
            put_extent(&mut self.page, extent, end, core.last_append_time_ms);
            self.files.insert(extent.file);
            end = extent.end();
        }
        let dropped = state.core.live.dropped();
        self.attached.clear();
        if !dropped.is_empty() && dropped.serialize_into(&mut self.attached).is_err() {
            self.attached.clear(); // Writing to memory does not fail.
        }
        put_slice(&mut self.page, &self.attached);
        self.attached.clear();
        let annexes = &mut self.annexes;
        state.attached.snapshot(&mut self.attached, &mut |annex| {
            let number = annex.number(next);
            annexes.insert(number, (core.id, annex.clone()));
            number
        });
    }

    /// Does the rest for the log that was added last.
    pub fn log_added(&mut self) {
        put_slice(&mut self.page, &self.attached);
        if self.page.len() >= PAGE_LEN {
            self.close_page(LOGS);
            // A log may have had very much to say.
            self.attached = Vec::new();
        }
    }

    /// Adds the catalog and closes the checkpoint. Answers its bytes.
    pub fn finish(mut self, catalog: &dyn Catalog) -> Finished {
        if !self.page.is_empty() {
            self.close_page(LOGS);
        }
        let (seq, state) = catalog.snapshot();
        put_varint(&mut self.page, seq.0);
        self.page.extend_from_slice(&state);
        self.close_page(CATALOG);
        put_varint(&mut self.page, self.pages.len() as u64);
        put_varint(&mut self.page, self.logs);
        self.close_page(END);
        let Writer { head, needs, files, annexes, pages, .. } = self;
        Finished { head, needs: needs.max(seq), files, annexes, pages }
    }

    fn close_page(&mut self, kind: u8) {
        let payload = std::mem::take(&mut self.page);
        let mut header = Vec::with_capacity(PAGE_HEADER_LEN);
        header.push(kind);
        header.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes());
        header.extend_from_slice(&page_crc(kind, &payload).to_le_bytes());
        self.pages.push(header.into());
        self.pages.push(payload.into());
    }
}

/// A checkpoint ready to be put in place.
pub(crate) struct Finished {
    pub head: Head,
    pub needs: Seq,
    files: BTreeSet<FileId>,
    annexes: BTreeMap<u64, (LogId, Arc<Annex>)>,
    pages: Vec<Bytes>,
}

impl Finished {
    /// Writes what it names and is not there yet, then itself.
    pub fn put(&self, blobs: &dyn Blobs) -> Result<u64> {
        self.annexes.values().try_for_each(|(log, annex)| annex.put(blobs, *log))?;
        blobs.put(&name(self.head.id), &mut self.pages.iter().map(|page| Ok(page.clone())))
    }

    pub fn needed(&self) -> Needed {
        Needed { files: self.files.clone(), annexes: self.annexes.keys().copied().collect() }
    }
}

fn page_crc(kind: u8, payload: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&[kind]);
    digest.update(payload);
    digest.finalize() as u32
}

fn put_core(out: &mut Vec<u8>, core: &CoreSnapshot) {
    put_varint(out, core.id.0);
    put_varint(out, u64::from(core.epoch.0));
    out.push(match core.durability {
        Durability::Fsync => 0,
        Durability::Memory => 1,
    });
    put_varint(out, core.start.0);
    for offset in [core.end, core.placed_end, core.reserved_end] {
        put_signed(out, offset.0.wrapping_sub(core.start.0).cast_signed());
    }
    put_signed(out, core.last_append_time_ms);
    put_varint(out, core.applied.0);
}

fn take_core(reader: &mut Reader<'_>) -> Result<CoreSnapshot> {
    let id = LogId(reader.varint()?);
    let epoch = OwnerEpoch(reader.narrow()?);
    let durability = match reader.u8()? {
        0 => Durability::Fsync,
        1 => Durability::Memory,
        other => return Err(Error::corrupt(format!("durability {other} is unknown"))),
    };
    let start = Offset(reader.varint()?);
    let mut offset = || Ok::<_, Error>(Offset(start.0.wrapping_add(reader.signed()?.cast_unsigned())));
    let (end, placed_end, reserved_end) = (offset()?, offset()?, offset()?);
    Ok(CoreSnapshot {
        id,
        epoch,
        durability,
        start,
        end,
        placed_end,
        reserved_end,
        last_append_time_ms: reader.signed()?,
        applied: Seq(reader.varint()?),
    })
}

const HAS_POINTS: u8 = 1;
const IN_FOOTER: u8 = 2;
const DAMAGED: u8 = 4;

fn put_extent(out: &mut Vec<u8>, extent: &Extent, end: Offset, last_append_time_ms: i64) {
    put_varint(
        out,
        match extent.file {
            FileId::Wal(number) => number << 1,
            FileId::Segment(number) => number << 1 | 1,
        },
    );
    put_varint(out, extent.at);
    put_varint(out, extent.base.since(end));
    for field in [extent.len, extent.count, extent.stored] {
        put_varint(out, u64::from(field));
    }
    put_signed(out, extent.append_time_ms.wrapping_sub(last_append_time_ms));
    put_signed(out, extent.event_time_ms.wrapping_sub(extent.append_time_ms));
    let damaged = if extent.damaged { DAMAGED } else { 0 };
    match &extent.index {
        Index::None => out.push(damaged),
        Index::Footer => out.push(damaged | IN_FOOTER),
        Index::Points(points) => {
            out.push(damaged | HAS_POINTS);
            put_varint(out, points.len() as u64);
            for point in points.iter() {
                put_varint(out, u64::from(point.base));
                put_varint(out, u64::from(point.at));
                put_signed(out, point.append_time_ms.wrapping_sub(extent.append_time_ms));
                put_signed(out, point.event_time_ms.wrapping_sub(extent.append_time_ms));
            }
        }
    }
}

fn take_extent(reader: &mut Reader<'_>, end: Offset, last_append_time_ms: i64) -> Result<Extent> {
    let file = reader.varint()?;
    let file = if file & 1 == 0 { FileId::Wal(file >> 1) } else { FileId::Segment(file >> 1) };
    let (at, base) = (reader.varint()?, end.plus(reader.varint()?));
    let (len, count, stored) = (reader.narrow()?, reader.narrow()?, reader.narrow()?);
    let append_time_ms = last_append_time_ms.wrapping_add(reader.signed()?);
    let event_time_ms = append_time_ms.wrapping_add(reader.signed()?);
    let flags = reader.u8()?;
    let mut points = Vec::new();
    if flags & HAS_POINTS != 0 {
        for _ in 0..reader.varint()? {
            points.push(Point {
                base: reader.narrow()?,
                at: reader.narrow()?,
                append_time_ms: append_time_ms.wrapping_add(reader.signed()?),
                event_time_ms: append_time_ms.wrapping_add(reader.signed()?),
            });
        }
    }
    let index = match flags & (HAS_POINTS | IN_FOOTER) {
        0 => Index::None,
        HAS_POINTS => Index::Points(points.into()),
        _ => Index::Footer,
    };
    let damaged = flags & DAMAGED != 0;
    Ok(Extent { file, at, base, len, count, stored, live: 0, append_time_ms, event_time_ms, index, damaged })
}

/// Takes in what a checkpoint holds.
pub(crate) trait Sink {
    /// A log and the caller's state of it.
    fn log(&mut self, core: LogCore, placed_end: Offset, attached: &[u8]) -> Result<()>;
    /// The catalog after the command at `seq`.
    fn catalog(&mut self, seq: Seq, state: &[u8]) -> Result<()>;
}

/// Reads the checkpoint `id` into `sink`, which is to be thrown away when this fails.
/// [`model::ErrorKind::Corrupt`] when it is damaged.
pub(crate) fn read(blobs: &dyn Blobs, id: u64, sink: &mut dyn Sink) -> Result<Head> {
    let mut pages = Pages { blob: blobs.open(&name(id))?, at: 0, read: 0 };
    let (kind, page) = pages.next()?;
    let head = take_head(kind, &page)?;
    if head.id != id {
        return Err(Error::corrupt(format!("checkpoint {id} calls itself {}", head.id)));
    }
    let mut logs = 0;
    loop {
        let before = pages.read;
        let (kind, page) = pages.next()?;
        let mut reader = Reader::new(&page);
        match kind {
            LOGS => {
                while reader.left() > 0 {
                    take_log(&mut reader, sink)?;
                    logs += 1;
                }
            }
            CATALOG => {
                let seq = Seq(reader.varint()?);
                sink.catalog(seq, reader.take(reader.left())?)?;
            }
            END => {
                // The writer counts a page's header and payload apart.
                if reader.varint()? != before * 2 || reader.varint()? != logs {
                    return Err(Error::corrupt(format!("checkpoint {id} is not whole")));
                }
                return Ok(head);
            }
            other => {
                return Err(Error::corrupt(format!("checkpoint {id} has a page of unknown kind {other}")));
            }
        }
    }
}

fn take_head(kind: u8, page: &[u8]) -> Result<Head> {
    let mut reader = Reader::new(page);
    if kind != HEAD || &reader.array::<8>()? != MAGIC {
        return Err(Error::corrupt("a checkpoint does not begin like one"));
    }
    let version = u16::from_le_bytes(reader.array()?);
    if version > VERSION {
        return Err(Error::invalid(format!("a checkpoint is of version {version}, newer than this program")));
    }
    Ok(Head {
        id: reader.varint()?,
        position: Seq(reader.varint()?),
        next_log: reader.varint()?,
        next_segment: reader.varint()?,
    })
}

fn take_log(reader: &mut Reader<'_>, sink: &mut dyn Sink) -> Result<()> {
    let snapshot = take_core(reader)?;
    let mut core = LogCore::restored(&snapshot);
    let mut extents = Vec::new();
    let mut end = Offset::ZERO;
    for _ in 0..reader.varint()? {
        let extent = take_extent(reader, end, snapshot.last_append_time_ms)?;
        end = extent.end();
        extents.push(extent);
    }
    let dropped = reader.slice()?;
    if !dropped.is_empty() {
        let dropped = RoaringTreemap::deserialize_from(dropped)
            .map_err(|e| Error::corrupt(format!("dropped offsets of log {}: {e}", snapshot.id)))?;
        core.live.restore_dropped(dropped);
    }
    extents.into_iter().for_each(|extent| core.place(extent));
    sink.log(core, snapshot.placed_end, reader.slice()?)
}

struct Pages {
    blob: Arc<dyn Blob>,
    at: u64,
    read: u64,
}

impl Pages {
    fn next(&mut self) -> Result<(u8, Bytes)> {
        // A disk that cannot read right now says nothing of the checkpoint.
        let cut = |error: Error| match error.kind() {
            ErrorKind::Invalid => Error::corrupt("a checkpoint ends early"),
            _ => error,
        };
        let header = self.blob.read(self.at, PAGE_HEADER_LEN as u32).map_err(cut)?;
        let mut reader = Reader::new(&header);
        let (kind, len, crc) = (reader.u8()?, reader.u32()?, reader.u32()?);
        self.at += PAGE_HEADER_LEN as u64;
        if self.blob.len().saturating_sub(self.at) < u64::from(len) {
            return Err(Error::corrupt("a checkpoint ends early"));
        }
        let payload = self.blob.read(self.at, len)?;
        if page_crc(kind, &payload) != crc {
            return Err(Error::corrupt("a page of a checkpoint fails its checksum"));
        }
        self.at += u64::from(len);
        self.read += 1;
        Ok((kind, payload))
    }
}
