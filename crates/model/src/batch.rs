//! What is stored: n records of one format behind one small neutral header.

use bytes::Bytes;

use crate::{Attributes, FormatTag, LogId, Offset};

/// Facts about a batch that hold for all of its records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct BatchFlags {
    /// The records belong to a transaction of their producer.
    pub transactional: bool,
    /// A marker of the log itself (a transaction's end). It takes one offset, and is a gap to every reader but
    /// the dialect that wrote it.
    pub control: bool,
}

/// Who produced a batch, and as which of its batches: what duplicates are recognised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerStamp {
    /// The producer.
    pub id: i64,
    /// Incarnation of the producer; a newer one fences the older.
    pub epoch: i16,
    /// Sequence number of the first record, 0..=i32::MAX, wrapping to 0.
    pub first_sequence: i32,
}

/// Where a record was appended first. A record that was moved (dead letter, redrive, schedule) carries it, so that
/// the ids that clients saw stay what they were.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The log of the first append.
    pub log: LogId,
    /// Its offset there.
    pub offset: Offset,
    /// Its append time there, milliseconds since the Unix epoch.
    pub append_time_ms: i64,
    /// How often it had been delivered before it was moved.
    pub attempts: u32,
    /// The log that it was moved from last.
    pub source: LogId,
}

/// A stored batch. `count` consecutive offsets from `base` on belong to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Offset of the first record.
    pub base: Offset,
    /// How many offsets it covers, 1..=[`crate::limits::BATCH_RECORDS_MAX`].
    pub count: u32,
    /// When it was appended, milliseconds since the Unix epoch. Never goes back within a log.
    pub append_time_ms: i64,
    /// The latest event time among its records, when it differs from the append time.
    pub max_event_time_ms: Option<i64>,
    /// Which [`crate::Format`] reads `body`.
    pub format: FormatTag,
    /// See [`BatchFlags`].
    pub flags: BatchFlags,
    /// Present when the producer numbers its batches.
    pub producer: Option<ProducerStamp>,
    /// Present when the record was moved here (such a batch holds one record).
    pub origin: Option<Origin>,
    /// What the engine decides on, where the dialect handed it over.
    pub attributes: Attributes,
    /// The bytes as the producing protocol sent them.
    pub body: Bytes,
}

impl Batch {
    /// A batch that says nothing of its records but their format and bytes.
    pub fn bare(format: FormatTag, base: Offset, count: u32, append_time_ms: i64, body: Bytes) -> Self {
        Batch {
            base,
            count,
            append_time_ms,
            max_event_time_ms: None,
            format,
            flags: BatchFlags::default(),
            producer: None,
            origin: None,
            attributes: Attributes::None,
            body,
        }
    }

    /// The offset after its last record.
    pub fn end(&self) -> Offset {
        self.base.plus(u64::from(self.count))
    }
}
