//! What a batch takes on the disk.

use bytes::Bytes;
use model::{Attributes, Batch, Origin, ProducerStamp, RecordAttributes};
use wire::{uvarint_len, varint_len};

use super::CRC_LEN;

/// Bytes that a batch takes as an entry of a unit. What its place in the unit takes depends on the others, and is taken
/// for one byte.
pub fn stored_len(batch: &Batch) -> usize {
    let flags_and_order = 2;
    let rows = match &batch.attributes {
        Attributes::None => 0,
        Attributes::Same(row) => row_len(row),
        Attributes::Rows(rows) => rows.iter().map(row_len).sum(),
    };
    let event_time = batch.max_event_time_ms.map(|time_ms| time_ms.wrapping_sub(batch.append_time_ms));
    let len = flags_and_order
        + CRC_LEN
        + uvarint_len(batch.base.0)
        + uvarint_len(u64::from(batch.count))
        + varint_len(batch.append_time_ms)
        + uvarint_len(u64::from(batch.format.0))
        + event_time.map_or(0, varint_len)
        + batch.producer.as_ref().map_or(0, producer_len)
        + batch.origin.as_ref().map_or(0, origin_len)
        + rows
        + batch.body.len();
    1 + uvarint_len(len as u64) + len
}

fn producer_len(producer: &ProducerStamp) -> usize {
    varint_len(producer.id)
        + varint_len(i64::from(producer.epoch))
        + varint_len(i64::from(producer.first_sequence))
}

fn origin_len(origin: &Origin) -> usize {
    let is_elsewhere = origin.source != origin.log;
    let attempts = if is_elsewhere {
        u64::from(origin.attempts) | super::ORIGIN_HAS_SOURCE
    } else {
        u64::from(origin.attempts)
    };
    uvarint_len(origin.log.0)
        + uvarint_len(origin.offset.0)
        + varint_len(origin.append_time_ms)
        + uvarint_len(attempts)
        + if is_elsewhere { uvarint_len(origin.source.0) } else { 0 }
}

fn row_len(row: &RecordAttributes) -> usize {
    let slices = [&row.route_key, &row.record_key, &row.ordering_key, &row.external_id];
    let slice_len = |slice: &Bytes| uvarint_len(slice.len() as u64) + slice.len();
    let times = [row.expiry_ms, row.deliver_at_ms, row.event_time_ms];
    // Which fields follow: the last two of them are beyond the first byte.
    let present = if row.priority.is_some() || row.body_len.is_some() { 2 } else { 1 };
    present
        + slices.into_iter().flatten().map(slice_len).sum::<usize>()
        + times.into_iter().flatten().map(varint_len).sum::<usize>()
        + usize::from(row.priority.is_some())
        + row.body_len.map_or(0, |len| uvarint_len(u64::from(len)))
}
