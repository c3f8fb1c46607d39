//! The protocol's bytes, to values and back: pure, bounded, borrowed.
//!
//! Three things to know: [`message`](message::message), the one form in which every request and response is declared
//! (both directions, all versions; one file per API in [`api`]); [`Api`], the table of what is served, from which
//! ApiVersions is answered; and [`RequestHeader::read`] with [`encode_response`], which frame a body.
//!
//! *Invariants.* No I/O, no clock, no broker type. What is decoded borrows from the frame; decoding never panics and
//! never allocates more than [`wire::GROWTH_MAX`] times the frame's length, nor more than [`wire::ITEMS_MAX`] list items. Bytes behind a request's last field
//! are ignored, as the original does.
//!
//! Not for: deciding anything. Which version is served, what an error means and who may ask is the sessions' part.

pub mod api;
mod error_code;
mod field;
#[cfg(test)]
pub(crate) mod fuzz;
mod header;
mod message;
pub mod records;
#[cfg(test)]
mod sample;
mod table;
#[cfg(test)]
mod tests;

pub use error_code::ErrorCode;
pub(crate) use field::write_list_len;
pub use field::{Field, Nullable, Records, Str, Uuid, Version};
pub use header::{HeaderError, Request, RequestHeader, decode_response, encode_request, encode_response};
pub(crate) use header::{begin_response, end_frame};
pub use table::{Api, ApiKey, TABLE};
