//! Neutral attributes: what the spine decides on, handed over by a dialect at publish.

use bytes::Bytes;

/// Attributes of one record. Absent means: not given by the dialect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct RecordAttributes {
    /// Where it was published to within the address space of its dialect, dot-separated tokens.
    pub route_key: Option<Bytes>,
    /// The record key: same key, same partition; the key of compaction.
    pub record_key: Option<Bytes>,
    /// Records of one ordering key are worked one after another.
    pub ordering_key: Option<Bytes>,
    /// 0 (lowest) ..= 255.
    pub priority: Option<u8>,
    /// When it stops being deliverable, milliseconds since the Unix epoch.
    pub expiry_ms: Option<i64>,
    /// Not deliverable before, milliseconds since the Unix epoch.
    pub deliver_at_ms: Option<i64>,
    /// The producer's own time, milliseconds since the Unix epoch.
    pub event_time_ms: Option<i64>,
    /// An id the dialect must be able to find again.
    pub external_id: Option<Bytes>,
    /// Length of the record's body, bytes; what length limits count.
    pub body_len: Option<u32>,
}

/// Attributes of a batch: stored once where equal, else one row per record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Attributes {
    /// None given; derive them through the format when needed.
    #[default]
    None,
    /// The same for every record.
    Same(Box<RecordAttributes>),
    /// One row per record, in offset order; exactly as many rows as the batch has records.
    Rows(Box<[RecordAttributes]>),
}

impl Attributes {
    /// The rows that were given: one that all records share, or one per record.
    pub fn rows(&self) -> &[RecordAttributes] {
        match self {
            Attributes::None => &[],
            Attributes::Same(row) => std::slice::from_ref(row),
            Attributes::Rows(rows) => rows,
        }
    }

    /// [`Attributes::rows`], to be changed.
    pub fn rows_mut(&mut self) -> &mut [RecordAttributes] {
        match self {
            Attributes::None => &mut [],
            Attributes::Same(row) => std::slice::from_mut(row),
            Attributes::Rows(rows) => rows,
        }
    }

    /// The row of the record at `index` within its batch, if attributes were given.
    pub fn of(&self, index: u32) -> Option<&RecordAttributes> {
        match self {
            Attributes::None => None,
            Attributes::Same(row) => Some(row),
            Attributes::Rows(rows) => rows.get(index as usize),
        }
    }
}
