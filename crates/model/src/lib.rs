//! Vocabulary of the engine: what every other crate means by an offset, a record, a batch, a stream.
//!
//! Three types to know: [`Batch`] (what is stored), [`Record`] (the canonical view that one dialect's bytes are
//! turned into before another dialect writes them) and [`Error`] (what went wrong, and what the caller must do).
//!
//! *Invariants.* No I/O, no clock, no async, no protocol word. Nothing here derives a serialisation: each layout
//! lives beside the code that owns it.

#![forbid(unsafe_code)]

mod attributes;
mod batch;
pub mod bitmap;
mod error;
mod format;
mod ids;
pub mod limits;
mod name;
mod record;

pub use attributes::{Attributes, RecordAttributes};
pub use batch::{Batch, BatchFlags, Origin, ProducerStamp};
pub use error::{Error, ErrorKind, Result};
pub use format::{Format, Formats, Outline, Place};
pub use ids::{CursorId, FormatTag, LogId, Offset, OwnerEpoch, PartitionIndex, Seq, StreamId};
pub use name::{Kind, Namespace, StreamKey, alias, alias_of_part};
pub use record::{Header, HeaderValue, Record};
