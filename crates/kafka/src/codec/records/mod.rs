//! Record batches (format version 2): what a partition holds and what Produce and Fetch carry.
//!
//! ```text
//!  0  base offset            8  length of what follows     12  partition leader epoch   16  magic = 2
//! 17  CRC-32C of what follows  21  attributes              23  last offset delta
//! 27  base timestamp        35  max timestamp              43  producer id   51  producer epoch   53  base sequence
//! 57  record count          61  records, compressed as one piece
//! attributes: 0-2 compression, 3 timestamp type, 4 transactional, 5 control, 6 delete horizon
//! ```
//!
//! Offset, length and leader epoch lie outside the checksum, so that a broker can assign them without touching it.
//!
//! Three types to know: [`RecordBatch`] (a checked view of one batch's bytes), [`RecordIter`] (its records, once
//! [`RecordBatch::payload`] has unpacked them) and [`BatchBuilder`]. Batches of the formats before version 2 (magic 0
//! and 1) are recognised and refused.

mod batch;
mod builder;
mod check;
mod compression;
mod fault;
mod place;
mod record;
#[cfg(test)]
pub(crate) mod tests;
mod walk;

pub use batch::{Attributes, BatchHeader, HEADER_LEN, RecordBatch, TimestampType, batches};
pub use builder::{BatchBuilder, Stamp, empty_batch};
pub use check::{RecordRules, RecordSummary};
pub use compression::Compression;
#[cfg(test)]
pub(crate) use compression::UNPACKED_WHOLE;
pub use fault::{BatchFault, RecordFault, RecordRefusal};
pub use place::{assign, set_append_time, set_max_timestamp};
pub use record::{Headers, Record, RecordIter};
pub(crate) use walk::{Keys, Seen};
