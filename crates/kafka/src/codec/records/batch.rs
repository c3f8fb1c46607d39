use std::borrow::Cow;

use crc_fast::CrcAlgorithm::Crc32Iscsi;
use wire::{Reader, Result};

use super::compression::Compression;
use super::fault::BatchFault;
use super::record::RecordIter;

/// Bytes before the first record.
pub const HEADER_LEN: usize = 61;
/// Bytes before what the length field counts.
pub(super) const LENGTH_END: usize = 12;
/// Where the checksum is.
pub(super) const CRC_AT: usize = 17;
/// Where the bytes that the checksum covers begin.
pub(super) const CHECKED_FROM: usize = 21;
const MAGIC_AT: usize = 16;
/// The only format that is served.
pub(super) const MAGIC: i8 = 2;

/// Who set a batch's timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer.
    CreateTime,
    /// The broker: the max timestamp is that of every record.
    LogAppendTime,
}

/// The attribute bits of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes(pub i16);

impl Attributes {
    pub(super) const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;

    /// Bits for records of `compression`.
    pub fn of(compression: Compression) -> Self {
        Attributes(i16::from(compression.id()))
    }

    /// The same with the transactional bit.
    pub fn transactional(self) -> Self {
        Attributes(self.0 | Attributes::TRANSACTIONAL)
    }

    /// The same with the control bit.
    pub fn control(self) -> Self {
        Attributes(self.0 | Attributes::CONTROL)
    }

    /// How the records are packed.
    pub fn compression(self) -> std::result::Result<Compression, BatchFault> {
        let [_, low] = self.0.to_be_bytes();
        Compression::by_id(low & 0x07)
    }

    /// Who set the timestamps.
    pub fn timestamp_type(self) -> TimestampType {
        match self.0 & Attributes::LOG_APPEND_TIME {
            0 => TimestampType::CreateTime,
            _ => TimestampType::LogAppendTime,
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(self) -> bool {
        self.0 & Attributes::TRANSACTIONAL != 0
    }

    /// Whether the batch holds a transaction marker instead of records.
    pub fn is_control(self) -> bool {
        self.0 & Attributes::CONTROL != 0
    }
}

/// The fields before the records. Times in milliseconds since 1970; -1 stands for none throughout.
#[allow(missing_docs, reason = "the fields are named as in the format's documents; the layout is above")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: i64,
    pub partition_leader_epoch: i32,
    pub crc: u32,
    pub attributes: Attributes,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}

impl BatchHeader {
    /// Offset of the last record, or where it was.
    pub fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }

    /// Whether an idempotent producer wrote this.
    pub fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// Sequence of the last record; sequences wrap to 0 behind the highest 31-bit number.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        match self.base_sequence.checked_add(self.last_offset_delta) {
            Some(last) => last,
            None => self.last_offset_delta - (i32::MAX - self.base_sequence) - 1,
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self> {
        let base_offset = reader.i64()?;
        reader.i32()?;
        let partition_leader_epoch = reader.i32()?;
        reader.i8()?;
        Ok(BatchHeader {
            base_offset,
            partition_leader_epoch,
            crc: reader.u32()?,
            attributes: Attributes(reader.i16()?),
            last_offset_delta: reader.i32()?,
            base_timestamp: reader.i64()?,
            max_timestamp: reader.i64()?,
            producer_id: reader.i64()?,
            producer_epoch: reader.i16()?,
            base_sequence: reader.i32()?,
            record_count: reader.i32()?,
        })
    }
}

/// One batch: its header and the bytes it was read from.
#[derive(Clone, Copy, Debug)]
pub struct RecordBatch<'a> {
    /// The header.
    pub header: BatchHeader,
    bytes: &'a [u8],
    payload: &'a [u8],
}

impl<'a> RecordBatch<'a> {
    /// Reads the first batch of `bytes` and returns it with the bytes behind it. Checks format and length, not the
    /// checksum.
    pub fn first(bytes: &'a [u8]) -> std::result::Result<(Self, &'a [u8]), BatchFault> {
        let mut reader = Reader::new(bytes);
        reader.take(LENGTH_END - 4).map_err(|_| BatchFault::Missing)?;
        let length = reader.i32().map_err(|_| BatchFault::Missing)?;
        let magic = bytes.get(MAGIC_AT).ok_or(BatchFault::Missing)?.cast_signed();
        match magic {
            MAGIC => {}
            0 | 1 => return Err(BatchFault::OldFormat(magic)),
            _ => return Err(BatchFault::UnknownFormat(magic)),
        }
        let len = usize::try_from(length).map_err(|_| BatchFault::Length(length))?.saturating_add(LENGTH_END);
        if len < HEADER_LEN {
            return Err(BatchFault::Length(length));
        }
        let (bytes, rest) = bytes.split_at_checked(len).ok_or(BatchFault::Missing)?;
        let mut reader = Reader::new(bytes);
        let header = BatchHeader::read(&mut reader).map_err(|_| BatchFault::Missing)?;
        Ok((RecordBatch { header, bytes, payload: reader.rest() }, rest))
    }

    /// Reads what a producer sent for one partition and checks all that can be checked without unpacking: exactly one
    /// batch, its checksum, base offset 0, a count that agrees with the offsets, no control records, a sequence where
    /// there is a producer id, a known compression that Produce `version` may use, no claimed append time.
    pub fn from_producer(bytes: &'a [u8], version: i16) -> std::result::Result<Self, BatchFault> {
        let (batch, rest) = RecordBatch::first(bytes)?;
        let header = &batch.header;
        if !rest.is_empty() {
            return Err(BatchFault::Surplus);
        }
        let compression = header.attributes.compression()?;
        if compression == Compression::Zstd && version < 7 {
            return Err(BatchFault::ZstdTooEarly);
        }
        if header.base_offset != 0 {
            return Err(BatchFault::BaseOffset(header.base_offset));
        }
        batch.check_crc()?;
        let (count, last_offset_delta) = (header.record_count, header.last_offset_delta);
        if count <= 0 || last_offset_delta != count - 1 {
            return Err(BatchFault::Count { count, last_offset_delta });
        }
        if header.attributes.is_control() {
            return Err(BatchFault::Control);
        }
        if header.has_producer_id() && header.base_sequence < 0 {
            return Err(BatchFault::Sequence(header.base_sequence));
        }
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            return Err(BatchFault::TimestampType);
        }
        Ok(batch)
    }

    /// All bytes of the batch.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// Compares the checksum with the bytes.
    pub fn check_crc(&self) -> std::result::Result<(), BatchFault> {
        let (stored, computed) = (self.header.crc, computed_crc(self.bytes));
        if stored == computed { Ok(()) } else { Err(BatchFault::Checksum { stored, computed }) }
    }

    /// The records' bytes, unpacked to at most `max_len` bytes; borrowed when they are not compressed.
    pub fn payload(&self, max_len: usize) -> std::result::Result<Cow<'a, [u8]>, BatchFault> {
        self.header.attributes.compression()?.unpack(self.payload, max_len)
    }

    /// The records' bytes as they were sent.
    pub(super) fn packed(&self) -> &'a [u8] {
        self.payload
    }

    /// The records in `payload`, which [`RecordBatch::payload`] returned.
    pub fn records<'p>(&self, payload: &'p [u8]) -> RecordIter<'p> {
        RecordIter::new(&self.header, payload)
    }
}

/// The batches in `bytes`, in order; ends behind the first error. A batch that is cut off at the end is left out, as
/// fetches may end in the middle of one.
pub fn batches(mut bytes: &[u8]) -> impl Iterator<Item = std::result::Result<RecordBatch<'_>, BatchFault>> {
    std::iter::from_fn(move || match RecordBatch::first(bytes) {
        Ok((batch, rest)) => {
            bytes = rest;
            Some(Ok(batch))
        }
        Err(BatchFault::Missing) => None,
        Err(fault) => {
            bytes = &[];
            Some(Err(fault))
        }
    })
}

/// The checksum that the batch in `bytes` should have.
pub(super) fn computed_crc(bytes: &[u8]) -> u32 {
    let checked = bytes.get(CHECKED_FROM..).unwrap_or_default();
    // The algorithm's 32 bits come in the low half.
    let [_, _, _, _, crc @ ..] = crc_fast::checksum(Crc32Iscsi, checked).to_be_bytes();
    u32::from_be_bytes(crc)
}
