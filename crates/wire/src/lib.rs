//! Byte tools that every dialect's codec stands on.
//!
//! Four types to know: [`Reader`] (checked moves over borrowed bytes), [`Writer`] (a growing buffer that also carries
//! shared chunks without copying them), [`FrameBuffer`] (cuts length-prefixed frames out of a byte stream) and
//! [`compact::Reader`] (numbers and texts as the crates that store something write them). An [`Outbox`] is the bounded way
//! out to one peer that many sessions write to.
//! [`time`] is the calendar that each dialect's form of a time is written from, [`uuid`] how random bits are shown.
//!
//! *Invariants.* Nothing here panics on any input, and nothing allocates what a peer's number asks for: lengths are
//! checked against the bytes that are there, list counts against those and against budgets for the whole message, and
//! a frame's limit before its bytes are kept. No I/O, no clock, no protocol word.
//!
//! Not for: layouts and checksums of what is at rest (they belong to the crate that stores it).

#![forbid(unsafe_code)]

pub mod compact;
mod error;
mod frame;
mod outbox;
mod reader;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod uuid;
mod varint;
mod writer;

pub use error::{Error, Result};
pub use frame::{FrameBuffer, FrameError};
pub use outbox::{Gathered, Outbox, Pushed};
pub use reader::{GROWTH_MAX, ITEMS_MAX, Reader};
pub use varint::{uvarint_len, varint_len};
pub use writer::{COPY_MAX, Writer};
