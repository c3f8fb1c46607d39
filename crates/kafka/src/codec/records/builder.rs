use std::io;

use bytes::Bytes;
use wire::{Writer, varint_len};

use super::batch::{Attributes, BatchHeader, CRC_AT, LENGTH_END, MAGIC, RecordBatch, computed_crc};
use super::compression::Compression;
use super::fault::BatchFault;

/// What a batch says beside its records. Times in milliseconds since 1970; -1 stands for none throughout.
#[allow(missing_docs, reason = "the fields are named as in the format's documents")]
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub base_offset: i64,
    pub partition_leader_epoch: i32,
    /// All bits but those of the compression.
    pub attributes: Attributes,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
}

impl Default for Stamp {
    fn default() -> Self {
        Stamp {
            base_offset: 0,
            partition_leader_epoch: -1,
            attributes: Attributes::default(),
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
        }
    }
}

impl Stamp {
    /// What the batch of `header` says.
    pub fn of(header: &BatchHeader) -> Self {
        Stamp {
            base_offset: header.base_offset,
            partition_leader_epoch: header.partition_leader_epoch,
            attributes: header.attributes,
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_sequence: header.base_sequence,
        }
    }
}

impl RecordBatch<'_> {
    /// The batch with its records numbered from 0 on in their order, packed as they were.
    ///
    /// # Errors
    /// When they do not read, or unpack to more than `max_len` bytes.
    pub fn renumbered(&self, max_len: usize) -> Result<Bytes, BatchFault> {
        let payload = self.payload(max_len)?;
        let mut builder = BatchBuilder::new(self.header.attributes.compression()?);
        for record in self.records(&payload) {
            let record = record?;
            let headers: Vec<_> = record.headers.iter().collect();
            builder.push(record.timestamp, record.key, record.value, headers.into_iter());
        }
        builder.finish(&Stamp::of(&self.header)).map_err(|_| BatchFault::Corrupt)
    }
}

/// Collects records into one batch.
pub struct BatchBuilder {
    compression: Compression,
    records: Writer,
    count: i32,
    last_offset_delta: i32,
    base_timestamp: Option<i64>,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch whose records will be packed by `compression`.
    pub fn new(compression: Compression) -> Self {
        BatchBuilder {
            compression,
            records: Writer::new(),
            count: 0,
            last_offset_delta: -1,
            base_timestamp: None,
            max_timestamp: -1,
        }
    }

    /// Bytes of the records so far, not packed.
    #[cfg(test)]
    pub(super) fn records_len(&self) -> usize {
        self.records.len()
    }

    /// How many records there are.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Adds a record behind the last one.
    pub fn push<'h>(
        &mut self,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
    ) {
        self.push_at(self.last_offset_delta + 1, timestamp, key, value, headers);
    }

    /// Adds a record at an offset delta above the last one's, leaving a gap before it.
    pub fn push_at<'h>(
        &mut self,
        offset_delta: i32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h [u8], Option<&'h [u8]>)> + Clone,
    ) {
        let base = *self.base_timestamp.get_or_insert(timestamp);
        let timestamp_delta = timestamp.wrapping_sub(base);
        let header_count = headers.clone().count();
        let headers_len: usize =
            headers.clone().map(|(key, value)| piece_len(Some(key)) + piece_len(value)).sum();
        let len = 1
            + varint_len(timestamp_delta)
            + varint_len(i64::from(offset_delta))
            + piece_len(key)
            + piece_len(value)
            + varint_len(header_count as i64)
            + headers_len;
        let out = &mut self.records;
        out.varint(len as i64);
        out.i8(0);
        out.varint(timestamp_delta);
        out.varint(i64::from(offset_delta));
        put_piece(out, key);
        put_piece(out, value);
        out.varint(header_count as i64);
        for (key, value) in headers {
            put_piece(out, Some(key));
            put_piece(out, value);
        }
        self.count += 1;
        self.last_offset_delta = offset_delta;
        self.max_timestamp = self.max_timestamp.max(timestamp);
    }

    /// Leaves a gap up to `last_offset_delta` behind the last record.
    pub fn extend_to(&mut self, last_offset_delta: i32) {
        self.last_offset_delta = self.last_offset_delta.max(last_offset_delta);
    }

    /// The batch's bytes.
    ///
    /// # Errors
    /// Those of [`Compression::pack`].
    pub fn finish(self, stamp: &Stamp) -> io::Result<Bytes> {
        let plain = self.records.into_bytes();
        let records = self.compression.pack(&plain)?;
        let fields = Fields {
            attributes: stamp.attributes.0 | Attributes::of(self.compression).0,
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp.unwrap_or(-1),
            max_timestamp: self.max_timestamp,
            count: self.count,
        };
        Ok(batch_bytes(stamp, &fields, &records))
    }
}

/// A batch without records that takes the offsets `stamp.base_offset ..= base_offset + last_offset_delta`: what stands
/// for a gap, so that readers move on.
pub fn empty_batch(stamp: &Stamp, last_offset_delta: i32) -> Bytes {
    let fields = Fields {
        attributes: stamp.attributes.0,
        last_offset_delta,
        base_timestamp: -1,
        max_timestamp: -1,
        count: 0,
    };
    batch_bytes(stamp, &fields, &[])
}

/// What follows from the records.
struct Fields {
    attributes: i16,
    last_offset_delta: i32,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
}

fn batch_bytes(stamp: &Stamp, fields: &Fields, records: &[u8]) -> Bytes {
    let mut out = Writer::with_capacity(super::HEADER_LEN + records.len());
    out.i64(stamp.base_offset);
    out.u32(0);
    out.i32(stamp.partition_leader_epoch);
    out.i8(MAGIC);
    out.u32(0);
    out.i16(fields.attributes);
    out.i32(fields.last_offset_delta);
    out.i64(fields.base_timestamp);
    out.i64(fields.max_timestamp);
    out.i64(stamp.producer_id);
    out.i16(stamp.producer_epoch);
    out.i32(stamp.base_sequence);
    out.i32(fields.count);
    out.slice(records);
    out.patch_u32(LENGTH_END - 4, u32::try_from(out.len() - LENGTH_END).unwrap_or(u32::MAX));
    let crc = computed_crc(out.own());
    out.patch_u32(CRC_AT, crc);
    out.into_bytes()
}

fn piece_len(piece: Option<&[u8]>) -> usize {
    piece.map_or(1, |bytes| varint_len(bytes.len() as i64) + bytes.len())
}

fn put_piece(out: &mut Writer, piece: Option<&[u8]>) {
    match piece {
        None => out.varint(-1),
        Some(bytes) => {
            out.varint(bytes.len() as i64);
            out.slice(bytes);
        }
    }
}
