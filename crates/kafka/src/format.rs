//! Kafka's batches in the format registry: what other dialects read of them, and what Kafka's clients read of theirs.

use std::sync::Arc;

use broker::{
    Chunk, ChunkBatch, StampFacts,
    crossing::{self, Room, Values},
};
use bytes::{Bytes, BytesMut};
use model::{Batch, Error, Format, FormatTag, Formats, Offset, Outline, Record, RecordAttributes, Result};

use crate::codec::records::{
    BatchBuilder, BatchFault, Compression, Keys, RecordBatch, Seen, Stamp, assign, empty_batch,
    set_append_time,
};

/// The tag that stored batches carry. Fixed for ever.
pub(crate) const FORMAT: FormatTag = FormatTag(2);

/// Unpacked length of one batch; none that comes to more is stored.
pub(crate) const UNPACKED_LEN_MAX: usize = 1 << 30;

/// The format, to be registered at start.
pub fn format() -> Arc<dyn Format> {
    Arc::new(KafkaFormat)
}

struct KafkaFormat;

/// Writes the place of a batch into its bytes.
pub(crate) fn stamp_create_time(body: &mut [u8], facts: StampFacts) {
    let placed = assign(body, offset(facts.base), epoch(&facts));
    debug_assert!(placed.is_ok(), "only checked batches are staged");
}

/// Writes the place of a batch and the broker's time into its bytes.
pub(crate) fn stamp_append_time(body: &mut [u8], facts: StampFacts) {
    stamp_create_time(body, facts);
    let timed = set_append_time(body, facts.append_time_ms);
    debug_assert!(timed.is_ok(), "only checked batches are staged");
}

fn offset(offset: Offset) -> i64 {
    i64::try_from(offset.0).unwrap_or(i64::MAX)
}

fn epoch(facts: &StampFacts) -> i32 {
    i32::try_from(facts.epoch.0).unwrap_or(i32::MAX)
}

fn corrupt(fault: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("a stored record batch does not read: {fault}"))
}

/// Calls `each` with the index and the record, as Kafka has them.
fn walk(
    batch: &Batch,
    mut each: impl FnMut(u32, &crate::codec::records::Record<'_>) -> Result<()>,
) -> Result<()> {
    let (bytes, _) = RecordBatch::first(&batch.body).map_err(corrupt)?;
    let payload = bytes.payload(UNPACKED_LEN_MAX).map_err(corrupt)?;
    for record in bytes.records(&payload) {
        let record = record.map_err(corrupt)?;
        let index = u32::try_from(record.offset_delta).map_err(corrupt)?;
        each(index, &record)?;
    }
    Ok(())
}

/// Calls `each` with the index and what a walk sees of the record. Packed records are never unpacked whole for this.
fn scan(batch: &Batch, keys: Keys, mut each: impl FnMut(u32, &Seen<'_>) -> Result<()>) -> Result<()> {
    let (bytes, _) = RecordBatch::first(&batch.body).map_err(corrupt)?;
    let mut stopped = None;
    let walked = bytes.scan(keys, UNPACKED_LEN_MAX, &mut |seen| {
        let index = u32::try_from(seen.offset_delta).map_err(corrupt);
        index.and_then(|index| each(index, &seen)).map_err(|error| {
            stopped = Some(error);
            BatchFault::Corrupt
        })
    });
    match stopped {
        Some(error) => Err(error),
        None => walked.map(drop).map_err(corrupt),
    }
}

fn outline(seen: &Seen<'_>) -> Outline {
    Outline {
        event_time_ms: (seen.timestamp >= 0).then_some(seen.timestamp),
        body_len: Some(u32::try_from(seen.value_len).unwrap_or(u32::MAX)),
    }
}

impl Format for KafkaFormat {
    fn tag(&self) -> FormatTag {
        FORMAT
    }

    fn name(&self) -> &'static str {
        "kafka record batch"
    }

    fn read(&self, batch: &Batch, each: &mut dyn FnMut(u32, Record) -> Result<()>) -> Result<()> {
        walk(batch, |index, record| each(index, canonical(batch, record)))
    }

    fn attributes(
        &self,
        batch: &Batch,
        each: &mut dyn FnMut(u32, RecordAttributes) -> Result<()>,
    ) -> Result<()> {
        scan(batch, Keys::Read, |index, seen| {
            let Outline { event_time_ms, body_len } = outline(seen);
            let record_key = seen.key.map(Bytes::copy_from_slice);
            each(
                index,
                RecordAttributes { record_key, event_time_ms, body_len, ..RecordAttributes::default() },
            )
        })
    }

    fn outlines(&self, batch: &Batch, each: &mut dyn FnMut(u32, Outline) -> Result<()>) -> Result<()> {
        scan(batch, Keys::Skipped, |index, seen| each(index, outline(seen)))
    }

    fn write(&self, records: &[Record]) -> Result<Bytes> {
        let mut builder = BatchBuilder::new(Compression::None);
        for record in records {
            push(&mut builder, None, record);
        }
        builder.finish(&Stamp::default()).map_err(|e| Error::internal(e.to_string()))
    }

    fn without(&self, batch: &Batch, keep: &dyn Fn(u32) -> bool) -> Result<Option<Bytes>> {
        let (bytes, _) = RecordBatch::first(&batch.body).map_err(corrupt)?;
        let header = bytes.header;
        let compression = header.attributes.compression().map_err(corrupt)?;
        let payload = bytes.payload(UNPACKED_LEN_MAX).map_err(corrupt)?;
        let mut builder = BatchBuilder::new(compression);
        for record in bytes.records(&payload) {
            let record = record.map_err(corrupt)?;
            let index = u32::try_from(record.offset_delta).map_err(corrupt)?;
            if keep(index) {
                let (key, value) = (record.key, record.value);
                let headers: Vec<_> = record.headers.iter().collect();
                builder.push_at(record.offset_delta, record.timestamp, key, value, headers.into_iter());
            }
        }
        if builder.count() == 0 {
            return Ok(None);
        }
        builder.extend_to(header.last_offset_delta);
        let partition_leader_epoch =
            if is_copy(batch, header.base_offset) { EPOCH_UNKNOWN } else { header.partition_leader_epoch };
        let stamp = Stamp { base_offset: offset(batch.base), partition_leader_epoch, ..Stamp::of(&header) };
        builder.finish(&stamp).map(Some).map_err(|e| Error::internal(e.to_string()))
    }
}

fn canonical(batch: &Batch, record: &crate::codec::records::Record<'_>) -> Record {
    let mut canonical = Record {
        key: record.key.map(Bytes::copy_from_slice),
        body: record.value.map(Bytes::copy_from_slice),
        event_time_ms: (record.timestamp >= 0).then_some(record.timestamp),
        append_time_ms: batch.append_time_ms,
        ..Record::default()
    };
    let headers = record.headers.iter();
    let headers = headers
        .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), value.map(Bytes::copy_from_slice)));
    crossing::restore(&mut canonical, headers.collect());
    canonical
}

/// What a record of Kafka's has room for.
const ROOM: Room<'static> = Room {
    values: Values::Bytes,
    count_max: usize::MAX,
    takes: &|_, _| true,
    takes_body: &|_| true,
    has_time: true,
};

/// Adds a record of another dialect. Its properties travel as headers under their lower-case names.
fn push(builder: &mut BatchBuilder, index: Option<i32>, record: &Record) {
    let headers = crossing::carry(record, &ROOM).headers;
    let key = record.key.as_deref().or(record.route_key.as_deref());
    let time =
        record.event_time_ms.unwrap_or(if record.append_time_ms > 0 { record.append_time_ms } else { -1 });
    let headers = headers.iter().map(|(name, value)| (name.as_bytes(), value.as_deref()));
    match index {
        Some(index) => builder.push_at(index, time, key, record.body.as_deref(), headers),
        None => builder.push(time, key, record.body.as_deref(), headers),
    }
}

/// A chunk as Kafka's clients read it: their own batches byte for byte, also the one that the log begins in (clients pass
/// over what lies below their offset), those with records dropped elsewhere and those of other dialects encoded anew, and an empty batch at the end when a gap follows, so that positions move past it. Control
/// batches of other dialects are gaps.
pub(crate) fn wire_batches(formats: &Formats, chunk: &Chunk, from: Offset) -> Result<Vec<Bytes>> {
    let mut pieces = Vec::with_capacity(chunk.batches.len() + 1);
    let mut reached = from;
    for each in &chunk.batches {
        if let Some(bytes) = wire_batch(formats, each, chunk.bounds.start)? {
            pieces.push(bytes);
            reached = reached.max(each.batch.end());
        }
    }
    if chunk.next > reached {
        let gap = chunk.next.since(reached).min(i32::MAX as u64);
        let stamp = Stamp { base_offset: offset(reached), ..Stamp::default() };
        pieces.push(empty_batch(&stamp, i32::try_from(gap).unwrap_or(i32::MAX) - 1));
    }
    Ok(pieces)
}

/// The epoch of a batch whose bytes have that of another log, which consumers would take for one of this log.
const EPOCH_UNKNOWN: i32 = -1;

/// Whether the broker made the batch as a copy of one that lies elsewhere: its bytes have the place of that one.
fn is_copy(batch: &Batch, base_offset: i64) -> bool {
    batch.origin.is_some() || base_offset != offset(batch.base)
}

/// The bytes of a batch, which say where it is. A producer's were told when it was appended; a copy that the broker made
/// (of a dead letter, of a replayed record) is told here. Its checksum does not cover that.
fn placed(batch: &Batch) -> Bytes {
    let Some(base) = batch.body.first_chunk().map(|base| i64::from_be_bytes(*base)) else {
        return batch.body.clone();
    };
    if !is_copy(batch, base) {
        return batch.body.clone();
    }
    let mut body = BytesMut::from(&batch.body[..]);
    match assign(&mut body, offset(batch.base), EPOCH_UNKNOWN) {
        Ok(()) => body.freeze(),
        Err(_) => batch.body.clone(),
    }
}

/// Whether what is gone of a batch lies below the start of its log, all of it.
fn is_cut(each: &ChunkBatch, start: Offset) -> bool {
    let last = each.dropped.as_ref().and_then(|mask| mask.last());
    last.is_none_or(|last| each.batch.base.plus(u64::from(last)) < start)
}

/// Whether a chunk has packed batches of Kafka's that are encoded anew, which may take its time.
pub(crate) fn is_repacked(chunk: &Chunk) -> bool {
    let is_packed = |batch: &Batch| {
        let header = RecordBatch::first(&batch.body).map(|(bytes, _)| bytes.header);
        header.is_ok_and(|header| header.attributes.compression() != Ok(Compression::None))
    };
    let is_anew = |each: &ChunkBatch| !is_cut(each, chunk.bounds.start) || has_given_key(&each.batch);
    chunk.batches.iter().any(|each| each.batch.format == FORMAT && is_anew(each) && is_packed(&each.batch))
}

/// A key beside the bytes was given by a route: the record has it.
fn has_given_key(batch: &Batch) -> bool {
    batch.attributes.rows().iter().any(|row| row.record_key.is_some())
}

fn wire_batch(formats: &Formats, each: &ChunkBatch, start: Offset) -> Result<Option<Bytes>> {
    let batch = &each.batch;
    let is_there = |index: u32| each.dropped.as_ref().is_none_or(|mask| !mask.contains(index));
    if batch.format == FORMAT && !has_given_key(batch) {
        return match is_cut(each, start) {
            true => Ok(Some(placed(batch))),
            false => KafkaFormat.without(batch, &is_there),
        };
    }
    if batch.flags.control {
        return Ok(None);
    }
    let mut builder = BatchBuilder::new(Compression::None);
    formats.read(batch, &mut |index, mut record| {
        if is_there(index) {
            // A record without a time of its producer's shows the log's.
            record.append_time_ms = batch.append_time_ms;
            push(&mut builder, i32::try_from(index).ok(), &record);
        }
        Ok(())
    })?;
    if builder.count() == 0 {
        return Ok(None);
    }
    builder.extend_to(i32::try_from(batch.count - 1).unwrap_or(i32::MAX));
    let stamp = Stamp { base_offset: offset(batch.base), ..Stamp::default() };
    builder.finish(&stamp).map(Some).map_err(|e| Error::internal(e.to_string()))
}

#[cfg(test)]
mod tests;
