//! The Kafka dialect: Kafka's clients on the broker's streams.
//!
//! | their word | our word |
//! |---|---|
//! | topic | stream of kind log; a queue of that name is looked at where there is no log |
//! | partition | partition |
//! | record batch | batch of format 2, its bytes as they were sent |
//! | consumer group | cursor by name, with a group of members beside it |
//! | committed offset | position of a cursor |
//! | leader epoch | owner epoch |
//! | high watermark, last stable offset, log start offset | durable_end, stable_end, start_offset |
//! | topic id | stream id |
//! | principal | principal |
//!
//! Three types to know: [`Server`] (one for the process), [`Options`] (Kafka's names and defaults) and
//! [`codec::Request`] (how every message is declared).
//!
//! *Invariants.* Only [`broker`], [`wire`] and [`model`] are used, never the engine. The codec and the group machine
//! know no socket and no clock. Codes are chosen in one place, `errors`. Every durable answer follows its commit.
//!
//! Not for: transactions, share groups, the consumer protocol of KIP-848, ACLs and quotas, which are not served and not
//! advertised.

#![forbid(unsafe_code)]

mod answer_budget;
mod auth;
pub mod codec;
mod compose;
mod configs;
mod connection;
mod coordinator;
mod errors;
mod fetch_sessions;
mod format;
mod group;
mod handlers;
mod request_budget;
mod server;
mod session;
#[cfg(test)]
mod testing;
mod topics;

pub use compose::{compose, partition_of};
pub use configs::{InertSetting, inert_settings};
pub use format::format;
pub use server::{ConnectionInfo, Options, Server};
pub use topics::DIALECT;
