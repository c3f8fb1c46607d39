use wire::Error;

use crate::codec::ErrorCode;

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchFault {
    /// No whole batch is there.
    #[error("a record batch is missing or cut short")]
    Missing,
    /// More than one batch, or bytes behind it.
    #[error("more than one record batch for the partition")]
    Surplus,
    /// A message set of the formats before version 2.
    #[error("message format version {0} is not supported")]
    OldFormat(i8),
    /// A format that does not exist.
    #[error("unknown message format version {0}")]
    UnknownFormat(i8),
    /// The length field contradicts the format.
    #[error("record batch length {0} is too small")]
    Length(i32),
    /// The checksum does not fit the bytes.
    #[error("record batch checksum is {stored:#010x}, its bytes have {computed:#010x}")]
    Checksum {
        /// What the batch says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// A producer's batch that does not begin at offset 0.
    #[error("base offset of a producer's batch must be 0, not {0}")]
    BaseOffset(i64),
    /// Record count and last offset delta contradict each other, or there is no record.
    #[error("{count} records up to offset delta {last_offset_delta}")]
    Count {
        /// The record count.
        count: i32,
        /// The last offset delta.
        last_offset_delta: i32,
    },
    /// A producer may not write control records.
    #[error("clients are not allowed to write control records")]
    Control,
    /// A producer id without a sequence.
    #[error("invalid sequence number {0}")]
    Sequence(i32),
    /// A compression that does not exist.
    #[error("unknown compression type {0}")]
    Compression(u8),
    /// Zstandard in a Produce version older than its introduction (KIP-110).
    #[error("Zstandard compression needs Produce version 7")]
    ZstdTooEarly,
    /// A producer's batch may not claim append times.
    #[error("a producer must not set the timestamp type to LogAppendTime")]
    TimestampType,
    /// The compressed bytes do not unpack.
    #[error("compressed records are corrupt")]
    Corrupt,
    /// The records are larger than allowed once unpacked.
    #[error("records unpack to more than {0} bytes")]
    TooLarge(usize),
    /// A record does not read.
    #[error("record {index}: {error}")]
    Record {
        /// Which, counted from 0.
        index: u32,
        /// Why.
        error: Error,
    },
    /// Bytes are left behind the last record.
    #[error("bytes behind the last record")]
    Behind,
}

impl BatchFault {
    /// What the original answers. It answers an unknown compression type with UNKNOWN_SERVER_ERROR, which clients take
    /// for fatal; the code that says what is wrong is used instead.
    pub fn code(self) -> ErrorCode {
        match self {
            BatchFault::UnknownFormat(_)
            | BatchFault::Length(_)
            | BatchFault::Checksum { .. }
            | BatchFault::Corrupt => ErrorCode::CORRUPT_MESSAGE,
            BatchFault::Missing
            | BatchFault::Surplus
            | BatchFault::OldFormat(_)
            | BatchFault::BaseOffset(_)
            | BatchFault::Count { .. }
            | BatchFault::Control
            | BatchFault::Sequence(_)
            | BatchFault::Record { .. }
            | BatchFault::Behind => ErrorCode::INVALID_RECORD,
            BatchFault::Compression(_) | BatchFault::ZstdTooEarly => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            BatchFault::TimestampType => ErrorCode::INVALID_TIMESTAMP,
            BatchFault::TooLarge(_) => ErrorCode::MESSAGE_TOO_LARGE,
        }
    }
}

/// Why one record of a readable batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordRefusal {
    /// A record without key on a stream that is compacted by key.
    #[error("Compacted topic cannot accept message without key")]
    NoKey,
    /// A create time outside the allowed range.
    #[error(
        "Timestamp {at_ms} of message with offset {offset_delta} is out of range. \
         The timestamp should be within [{oldest_ms}, {newest_ms}]"
    )]
    Timestamp {
        /// The record's time, milliseconds since 1970.
        at_ms: i64,
        /// Where the record is in its batch, by its own account.
        offset_delta: i32,
        /// The oldest time allowed.
        oldest_ms: i64,
        /// The newest time allowed.
        newest_ms: i64,
    },
}

/// A refused record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordFault {
    /// Which, counted from 0.
    pub index: u32,
    /// Why.
    pub refusal: RecordRefusal,
}

impl RecordFault {
    /// The code that stands for it.
    pub fn code(&self) -> ErrorCode {
        match self.refusal {
            RecordRefusal::NoKey => ErrorCode::INVALID_RECORD,
            RecordRefusal::Timestamp { .. } => ErrorCode::INVALID_TIMESTAMP,
        }
    }

    /// What a batch with these records is answered with, in the original's words (`LogValidator.processRecordErrors`).
    pub fn answer(refused: &[RecordFault]) -> (ErrorCode, String) {
        if refused.iter().any(|fault| fault.code() == ErrorCode::INVALID_TIMESTAMP) {
            let text = "One or more records have been rejected due to invalid timestamp";
            return (ErrorCode::INVALID_TIMESTAMP, text.to_owned());
        }
        let first: Vec<String> = refused
            .iter()
            .take(3)
            .map(|fault| format!("RecordError(batchIndex={}, message='{}')", fault.index, fault.refusal))
            .collect();
        let text = format!(
            "One or more records have been rejected due to {} record errors in total, and only showing the first three \
             errors at most: [{}]",
            refused.len(),
            first.join(", ")
        );
        (ErrorCode::INVALID_RECORD, text)
    }
}
