//! The HTTP admin API: health, metrics and what the command line asks for.
//!
//! Three types to know: [`Server`] (one per process; serves connections that the binary accepted), [`Options`] and
//! [`Peer`]. Every answer is JSON except `/metrics`. The API is described in `docs/admin-api.md`.
//!
//! *Invariants.* No socket is opened here and no state is kept: everything is asked of the broker for each request.
//! Nothing is answered to a Host that is neither loopback, the address connected to, nor configured.
//!
//! *Not for:* any protocol's own management API.

#![forbid(unsafe_code)]

mod api;
mod body;
mod caller;
mod error;
mod guard;
mod health;
mod metrics;
mod monitoring;
mod server;

pub use api::testing::TestClock;
pub use server::{AddressSpace, Composer, ConnectionCounts, Monitoring, Options, Peer, Server};
