//! JetStream: durable streams over the broker's logs.
//!
//! | their word | our word |
//! |---|---|
//! | stream | log of one partition |
//! | stream's subjects | routes to it |
//! | sequence | offset + 1 |
//! | message | record |
//! | message id | dedup key |
//! | rollup | a batch that replaces what was there |
//! | per-subject limit | limit per route key |
//!
//! A session offers each publish to its [`intake::Intake`]: requests of the API and messages for streams are gathered
//! while one read is handled, then worked off in order. Acknowledgements leave through [`acks`], after the sync.
//!
//! *Invariant:* an acknowledgement follows the sync that makes it true.
//!
//! Consumers are in [`consumer`].
//!
//! Not for: mirrors, sources, snapshots, which are not built: nobody answers on their subjects, and configurations that
//! ask for what is not built are refused.

pub(crate) mod account;
pub(crate) mod acks;
pub(crate) mod advisory;
pub(crate) mod api;
pub(crate) mod config;
pub(crate) mod consumer;
mod error;
mod foreign;
mod headers;
pub(crate) mod intake;
pub(crate) mod json;
mod mapping;
pub(crate) mod markers;
pub(crate) mod stored;
#[cfg(test)]
mod tests;
mod time;

pub use stored::format;

/// The level of the API: what clients take as a promise.
pub(crate) const API_LEVEL: u32 = 1;
