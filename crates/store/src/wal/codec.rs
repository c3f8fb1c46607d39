//! Bytes of entries and runs: one codec for frames, for reads in place and for segments.
//!
//! ```text
//! run    log varint | owner epoch varint | length of what follows u32 | entries
//! entry  kind u8 | length of what follows varint | order | [crc u32] | [optional area] | payload
//! order  (units since the entry before, in this run) * 2 + (not first in its unit) varint | [index in its unit varint]
//! data   flags u8 | base varint | count varint | append time signed | format varint
//!        | [event time - append time, signed] | [producer] | [origin] | [attributes] | body
//! ```
//!
//! Integers are little-endian, varints carry seven bits a byte. Bit 7 of the kind says that an optional area (varint
//! length, bytes) follows, which readers of this version skip. Data entries carry a CRC-32C over the log's id, the kind and everything after
//! the CRC: a batch read in place proves to be this log's. `order` is outside it, since a copy may renumber it.

mod len;

use bytes::Bytes;
use model::{
    Attributes, Batch, BatchFlags, Error, FormatTag, LogId, Offset, Origin, OwnerEpoch, ProducerStamp,
    RecordAttributes, Result, limits,
};

pub use self::len::stored_len;
use super::varint::{Reader, put_signed, put_slice, put_varint};
use crate::entry::{Change, Durability, Entry, StampFacts};

const DATA: u8 = 1;
const CREATE: u8 = 2;
const DELETE: u8 = 3;
const DROP: u8 = 4;
const TRIM: u8 = 5;
const ADVANCE: u8 = 6;
const RESERVE: u8 = 7;
const NOTE: u8 = 8;
/// Set in the kind when an optional area follows.
const EXTENDED: u8 = 0x80;

const HAS_EVENT_TIME: u8 = 1;
const HAS_PRODUCER: u8 = 1 << 1;
const HAS_ORIGIN: u8 = 1 << 2;
const ATTRIBUTES_SAME: u8 = 1 << 3;
const ATTRIBUTES_ROWS: u8 = 1 << 4;
const TRANSACTIONAL: u8 = 1 << 5;
const CONTROL: u8 = 1 << 6;
const FLAGS_KNOWN: u8 = 0x7f;

/// Set in an origin's attempts when the log follows that the record was moved from last; else that is the first one.
const ORIGIN_HAS_SOURCE: u64 = 1 << 32;

/// Where an entry stands among the units of its frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// Units between its own and that of the entry before it in the run; from the frame's first unit for the first.
    pub units_since: u32,
    /// Its index in its unit.
    pub index: u32,
}

/// An entry as it was found.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The entry; a data batch's body is a slice of the bytes that were read.
    pub entry: Entry,
    /// Where it belongs among the units of its frame.
    pub order: Order,
    /// Where it begins, relative to the bytes that were read.
    pub at: usize,
    /// Its length in bytes, header included.
    pub len: usize,
}

/// Lays entries out; keeps its scratch space.
#[derive(Default)]
pub struct Encoder {
    scratch: Vec<u8>,
}

impl Encoder {
    /// Appends `entry` to `out`, runs its stamp over the copy, and answers the entry's length.
    pub fn entry(&mut self, out: &mut Vec<u8>, entry: &Entry, order: Order) -> usize {
        let start = out.len();
        self.scratch.clear();
        put_order(&mut self.scratch, order);
        let order_len = self.scratch.len();
        let kind = put_payload(&mut self.scratch, &entry.change);
        let Change::Data { batch, stamp } = &entry.change else {
            out.push(kind);
            put_slice(out, &self.scratch);
            return out.len() - start;
        };
        out.push(kind);
        put_varint(out, (self.scratch.len() + CRC_LEN + batch.body.len()) as u64);
        let (order, header) = self.scratch.split_at(order_len);
        out.extend_from_slice(order);
        let crc_at = out.len();
        out.extend_from_slice(&[0; CRC_LEN]);
        out.extend_from_slice(header);
        let body_at = out.len();
        out.extend_from_slice(&batch.body);
        if let Some(stamp) = stamp {
            let facts =
                StampFacts { base: batch.base, epoch: entry.epoch, append_time_ms: batch.append_time_ms };
            stamp(&mut out[body_at..], facts);
        }
        let crc = data_crc(entry.log, kind, &out[crc_at + CRC_LEN..]);
        out[crc_at..crc_at + CRC_LEN].copy_from_slice(&crc.to_le_bytes());
        out.len() - start
    }
}

/// What a run's bytes begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunHeader {
    /// Whose entries they are.
    pub log: LogId,
    /// Owner epoch they were made under.
    pub epoch: OwnerEpoch,
    /// Length of the header itself.
    pub len: usize,
    /// Length of the entries behind it.
    pub entries_len: usize,
}

const CRC_LEN: usize = 4;

/// Begins a run; [`end_run`] is given the answer once its entries are there.
pub fn begin_run(out: &mut Vec<u8>, log: LogId, epoch: OwnerEpoch) -> usize {
    put_varint(out, log.0);
    put_varint(out, u64::from(epoch.0));
    out.extend_from_slice(&[0; 4]);
    out.len()
}

/// Writes the length of the run whose entries begin at `entries_at`. [`model::ErrorKind::Limit`] beyond 4 GiB.
pub fn end_run(out: &mut [u8], entries_at: usize) -> Result<()> {
    let len =
        u32::try_from(out.len() - entries_at).map_err(|_| Error::limit("a run is longer than 4 GiB"))?;
    out[entries_at - 4..entries_at].copy_from_slice(&len.to_le_bytes());
    Ok(())
}

/// Reads the header of the run that `bytes` begin with.
pub fn decode_run_header(bytes: &[u8]) -> Result<RunHeader> {
    let mut reader = Reader::new(bytes);
    let log = LogId(reader.varint()?);
    let epoch = OwnerEpoch(reader.narrow()?);
    let entries_len = reader.u32()? as usize;
    if entries_len > reader.left() {
        return Err(Error::corrupt("a run is longer than its frame"));
    }
    Ok(RunHeader { log, epoch, len: reader.at(), entries_len })
}

/// Reads the run that `bytes` begin with: its header, then each entry in order, positions relative to `bytes`.
/// [`model::ErrorKind::Corrupt`] when anything does not read.
pub fn decode_run(bytes: &Bytes) -> Result<(RunHeader, Vec<Decoded>)> {
    let header = decode_run_header(bytes)?;
    let end = header.len + header.entries_len;
    let mut entries = Vec::new();
    let mut at = header.len;
    while at < end {
        let mut decoded = decode_entry(header.log, header.epoch, &bytes.slice(at..end))?;
        decoded.at = at;
        at += decoded.len;
        entries.push(decoded);
    }
    Ok((header, entries))
}

/// Reads the entry that `bytes` begin with; more may follow it. Data entries prove that they are `log`'s and unharmed;
/// the others rely on the frame around them. [`model::ErrorKind::Corrupt`] when it does not read.
pub fn decode_entry(log: LogId, epoch: OwnerEpoch, bytes: &Bytes) -> Result<Decoded> {
    let mut reader = Reader::new(bytes);
    let kind = reader.u8()?;
    let content = reader.slice()?;
    let len = reader.at();
    let mut reader = Reader::new(content);
    let order = take_order(&mut reader)?;
    if kind & !EXTENDED == DATA {
        let crc = reader.u32()?;
        if data_crc(log, kind, &content[reader.at()..]) != crc {
            return Err(Error::corrupt(format!("a batch of log {log} fails its checksum")));
        }
    }
    if kind & EXTENDED != 0 {
        reader.slice()?;
    }
    let content_at = len - content.len();
    let change = match kind & !EXTENDED {
        DATA => {
            let mut batch = take_batch(&mut reader)?;
            batch.body = bytes.slice(content_at + reader.at()..len);
            Change::Data { batch, stamp: None }
        }
        other => take_change(other, &mut reader, |at| bytes.slice(content_at + at..len))?,
    };
    Ok(Decoded { entry: Entry { log, epoch, change }, order, at: 0, len })
}

/// Reads the data entry that `bytes` begin with, which must be `log`'s and unharmed: what a read in place does.
/// [`model::ErrorKind::Corrupt`] otherwise; the caller compares the batch's base with the offset it looked for.
pub fn decode_batch(log: LogId, bytes: &Bytes) -> Result<(Batch, usize)> {
    let decoded = decode_entry(log, OwnerEpoch::default(), bytes)?;
    match decoded.entry.change {
        Change::Data { batch, .. } => Ok((batch, decoded.len)),
        _ => Err(Error::corrupt(format!("an entry of log {log} is not a batch"))),
    }
}

/// About how many bytes `entry` takes in a frame, never less than it does except for attributes of extreme size.
pub(crate) fn entry_len_estimate(entry: &Entry) -> usize {
    64 + match &entry.change {
        Change::Data { batch, .. } => batch.body.len() + attributes_len(&batch.attributes),
        Change::Drop(ranges) => ranges.len() * 8,
        Change::Note(note) => note.len(),
        _ => 0,
    }
}

fn attributes_len(attributes: &Attributes) -> usize {
    let row_len = |row: &RecordAttributes| {
        let keys = [&row.route_key, &row.record_key, &row.ordering_key, &row.external_id];
        48 + keys.into_iter().flatten().map(Bytes::len).sum::<usize>()
    };
    attributes.rows().iter().map(row_len).sum()
}

fn data_crc(log: LogId, kind: u8, bytes: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    let mut seed = [kind; 9];
    seed[..8].copy_from_slice(&log.0.to_le_bytes());
    digest.update(&seed);
    digest.update(bytes);
    digest.finalize() as u32
}

fn put_order(out: &mut Vec<u8>, order: Order) {
    put_varint(out, u64::from(order.units_since) << 1 | u64::from(order.index != 0));
    if order.index != 0 {
        put_varint(out, u64::from(order.index));
    }
}

fn take_order(reader: &mut Reader<'_>) -> Result<Order> {
    let raw = reader.narrow::<u64>()?;
    let units_since = u32::try_from(raw >> 1).map_err(|_| Error::corrupt("an entry is in no unit"))?;
    Ok(Order { units_since, index: if raw & 1 != 0 { reader.narrow()? } else { 0 } })
}

/// Appends everything of `change` but a batch's body; answers its kind.
fn put_payload(out: &mut Vec<u8>, change: &Change) -> u8 {
    match change {
        Change::Data { batch, .. } => {
            put_batch(out, batch);
            DATA
        }
        Change::Create { start, durability } => {
            put_varint(out, start.0);
            out.push(match durability {
                Durability::Fsync => 0,
                Durability::Memory => 1,
            });
            CREATE
        }
        Change::Delete => DELETE,
        Change::Drop(ranges) => {
            put_varint(out, ranges.len() as u64);
            let mut at = Offset::ZERO;
            for range in ranges {
                put_varint(out, range.start.since(at));
                put_varint(out, range.end.since(range.start));
                at = range.end;
            }
            DROP
        }
        Change::Trim(to) => put_offset(out, *to, TRIM),
        Change::Advance(to) => put_offset(out, *to, ADVANCE),
        Change::Reserve(to) => put_offset(out, *to, RESERVE),
        Change::Note(note) => {
            out.extend_from_slice(note);
            NOTE
        }
    }
}

fn put_offset(out: &mut Vec<u8>, offset: Offset, kind: u8) -> u8 {
    put_varint(out, offset.0);
    kind
}

fn take_change(kind: u8, reader: &mut Reader<'_>, rest: impl Fn(usize) -> Bytes) -> Result<Change> {
    let change = match kind {
        CREATE => {
            let start = Offset(reader.varint()?);
            let durability = match reader.u8()? {
                0 => Durability::Fsync,
                1 => Durability::Memory,
                other => return Err(Error::corrupt(format!("durability {other} is unknown"))),
            };
            Change::Create { start, durability }
        }
        DELETE => Change::Delete,
        DROP => Change::Drop(take_ranges(reader)?),
        TRIM => Change::Trim(Offset(reader.varint()?)),
        ADVANCE => Change::Advance(Offset(reader.varint()?)),
        RESERVE => Change::Reserve(Offset(reader.varint()?)),
        NOTE => return Ok(Change::Note(rest(reader.at()))),
        other => return Err(Error::corrupt(format!("entry kind {other} is unknown to this version"))),
    };
    // A data entry whose kind has rotted is not taken for another one, which readers of data would pass over.
    match reader.left() {
        0 => Ok(change),
        left => Err(Error::corrupt(format!("an entry of kind {kind} has {left} bytes too many"))),
    }
}

fn take_ranges(reader: &mut Reader<'_>) -> Result<Vec<std::ops::Range<Offset>>> {
    let count = reader.narrow::<usize>()?;
    let mut ranges = Vec::with_capacity(count.min(reader.left() / 2));
    let mut at = Offset::ZERO;
    for _ in 0..count {
        let start = at.plus(reader.varint()?);
        let end = start.plus(reader.varint()?);
        if end <= start || end.0 > limits::OFFSET_MAX {
            return Err(Error::corrupt("a range of dropped offsets is empty or out of bounds"));
        }
        ranges.push(start..end);
        at = end;
    }
    Ok(ranges)
}

fn put_batch(out: &mut Vec<u8>, batch: &Batch) {
    let flags_at = out.len();
    out.push(0);
    put_varint(out, batch.base.0);
    put_varint(out, u64::from(batch.count));
    put_signed(out, batch.append_time_ms);
    put_varint(out, u64::from(batch.format.0));
    let mut flags = 0;
    if let Some(event_time_ms) = batch.max_event_time_ms {
        flags |= HAS_EVENT_TIME;
        put_signed(out, event_time_ms.wrapping_sub(batch.append_time_ms));
    }
    if let Some(producer) = &batch.producer {
        flags |= HAS_PRODUCER;
        put_signed(out, producer.id);
        put_signed(out, i64::from(producer.epoch));
        put_signed(out, i64::from(producer.first_sequence));
    }
    if let Some(origin) = &batch.origin {
        flags |= HAS_ORIGIN;
        put_varint(out, origin.log.0);
        put_varint(out, origin.offset.0);
        put_signed(out, origin.append_time_ms);
        let is_elsewhere = origin.source != origin.log;
        let source = if is_elsewhere { ORIGIN_HAS_SOURCE } else { 0 };
        put_varint(out, u64::from(origin.attempts) | source);
        if is_elsewhere {
            put_varint(out, origin.source.0);
        }
    }
    match &batch.attributes {
        Attributes::None => {}
        Attributes::Same(row) => {
            flags |= ATTRIBUTES_SAME;
            put_row(out, row);
        }
        Attributes::Rows(rows) => {
            flags |= ATTRIBUTES_ROWS;
            rows.iter().for_each(|row| put_row(out, row));
        }
    }
    if batch.flags.transactional {
        flags |= TRANSACTIONAL;
    }
    if batch.flags.control {
        flags |= CONTROL;
    }
    out[flags_at] = flags;
}

/// Everything of a batch but its body, which is what is left.
fn take_batch(reader: &mut Reader<'_>) -> Result<Batch> {
    let flags = reader.u8()?;
    if flags & !FLAGS_KNOWN != 0 {
        return Err(Error::corrupt("a batch has flags that this version does not know"));
    }
    let base = Offset(reader.varint()?);
    let count = reader.narrow()?;
    if count == 0 || count > limits::BATCH_RECORDS_MAX || base.plus(u64::from(count)).0 > limits::OFFSET_MAX {
        return Err(Error::corrupt("a batch covers offsets out of bounds"));
    }
    let append_time_ms = reader.signed()?;
    let format = FormatTag(reader.narrow()?);
    let max_event_time_ms =
        if flags & HAS_EVENT_TIME != 0 { Some(append_time_ms.wrapping_add(reader.signed()?)) } else { None };
    let producer = if flags & HAS_PRODUCER != 0 { Some(take_producer(reader)?) } else { None };
    let origin = if flags & HAS_ORIGIN != 0 { Some(take_origin(reader)?) } else { None };
    let attributes = match flags & (ATTRIBUTES_SAME | ATTRIBUTES_ROWS) {
        0 => Attributes::None,
        ATTRIBUTES_SAME => Attributes::Same(Box::new(take_row(reader)?)),
        ATTRIBUTES_ROWS => {
            // A row takes at least a byte, which bounds what a damaged count can ask for.
            let mut rows = Vec::with_capacity(reader.left().min(count as usize));
            for _ in 0..count {
                rows.push(take_row(reader)?);
            }
            Attributes::Rows(rows.into_boxed_slice())
        }
        _ => return Err(Error::corrupt("a batch has attributes of two kinds")),
    };
    let flags = BatchFlags { transactional: flags & TRANSACTIONAL != 0, control: flags & CONTROL != 0 };
    Ok(Batch {
        base,
        count,
        append_time_ms,
        max_event_time_ms,
        format,
        flags,
        producer,
        origin,
        attributes,
        body: Bytes::new(),
    })
}

fn take_producer(reader: &mut Reader<'_>) -> Result<ProducerStamp> {
    let out_of_range = |_| Error::corrupt("a producer's epoch or sequence is out of range");
    Ok(ProducerStamp {
        id: reader.signed()?,
        epoch: i16::try_from(reader.signed()?).map_err(out_of_range)?,
        first_sequence: i32::try_from(reader.signed()?).map_err(out_of_range)?,
    })
}

fn take_origin(reader: &mut Reader<'_>) -> Result<Origin> {
    let log = LogId(reader.varint()?);
    let (offset, append_time_ms) = (Offset(reader.varint()?), reader.signed()?);
    let attempts = reader.varint()?;
    let source = if attempts & ORIGIN_HAS_SOURCE == 0 { log } else { LogId(reader.varint()?) };
    let attempts = u32::try_from(attempts & !ORIGIN_HAS_SOURCE)
        .map_err(|_| Error::corrupt("a moved record was delivered impossibly often"))?;
    Ok(Origin { log, offset, append_time_ms, attempts, source })
}

/// One row: a varint whose bits say which fields follow, then those.
fn put_row(out: &mut Vec<u8>, row: &RecordAttributes) {
    let slices = [&row.route_key, &row.record_key, &row.ordering_key, &row.external_id];
    let times = [row.expiry_ms, row.deliver_at_ms, row.event_time_ms];
    let mut present = 0;
    for (bit, is_some) in slices
        .iter()
        .map(|s| s.is_some())
        .chain(times.iter().map(Option::is_some))
        .chain([row.priority.is_some(), row.body_len.is_some()])
        .enumerate()
    {
        present |= u64::from(is_some) << bit;
    }
    put_varint(out, present);
    slices.into_iter().flatten().for_each(|slice| put_slice(out, slice));
    times.into_iter().flatten().for_each(|time_ms| put_signed(out, time_ms));
    out.extend(row.priority);
    if let Some(body_len) = row.body_len {
        put_varint(out, u64::from(body_len));
    }
}

fn take_row(reader: &mut Reader<'_>) -> Result<RecordAttributes> {
    let present = reader.varint()?;
    if present >> 9 != 0 {
        return Err(Error::corrupt("a record has attributes that this version does not know"));
    }
    let has = |bit: u32| present >> bit & 1 != 0;
    let mut slice = |bit| -> Result<Option<Bytes>> {
        if has(bit) { Ok(Some(Bytes::copy_from_slice(reader.slice()?))) } else { Ok(None) }
    };
    let (route_key, record_key, ordering_key, external_id) = (slice(0)?, slice(1)?, slice(2)?, slice(3)?);
    let mut time = |bit| if has(bit) { reader.signed().map(Some) } else { Ok(None) };
    let (expiry_ms, deliver_at_ms, event_time_ms) = (time(4)?, time(5)?, time(6)?);
    let priority = if has(7) { Some(reader.u8()?) } else { None };
    let body_len = if has(8) { Some(reader.narrow()?) } else { None };
    Ok(RecordAttributes {
        route_key,
        record_key,
        ordering_key,
        priority,
        expiry_ms,
        deliver_at_ms,
        event_time_ms,
        external_id,
        body_len,
    })
}

#[cfg(test)]
mod tests;
