//! The NATS dialect: NATS clients on live subjects.
//!
//! | their word | our word |
//! |---|---|
//! | subject | address |
//! | subscription, queue group | route to live subscribers |
//! | account | tenant |
//! | user | principal |
//!
//! Three types to know: [`Server`] (one for the process), [`Options`] (the original's names and defaults) and
//! `session::Session` (operations in, effects out).
//!
//! *Invariants.* Only [`broker`], [`wire`] and [`model`] are used, never the engine. The codec knows no socket and no
//! clock. What waits for a client is bounded; a client that does not read costs its own connection.
//!
//! `core` has live subjects, `jetstream` streams and their consumers.

#![forbid(unsafe_code)]

mod codec;
mod connection;
mod core;
mod jetstream;
mod monitor;
mod nkey;
mod rights;
mod routes;
mod server;
mod session;
#[cfg(test)]
mod tests;
mod user_info;
mod welcome;

pub use jetstream::format;
pub use routes::DIALECT;
pub use server::{ConnectionInfo, Options, Server};

/// The version of the original whose behaviour is shown: what is advertised is there.
pub(crate) const VERSION: &str = "2.11.0";
