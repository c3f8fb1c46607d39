//! The AMQP 0-9-1 dialect: RabbitMQ's clients on queues.
//!
//! | their word | our word |
//! |---|---|
//! | exchange and routing key | address |
//! | binding | route |
//! | queue | stream of the kind queue, with its work cursor |
//! | virtual host | namespace |
//! | delivery, unacknowledged | lease |
//! | ack, reject, nack with requeue | accept, reject, release |
//! | prefetch | credit |
//! | single active consumer | consumers that share as one |
//! | user | principal |
//!
//! Three types to know: [`Server`] (one for the process), `session::Session` (frames in, effects out) and `vhost::Vhost`
//! (exchanges, bindings and queues of one namespace).
//!
//! *Invariants.* Only [`broker`], [`wire`] and [`model`] are used, never the engine. The codec knows no socket and no
//! clock. No message is confirmed before the sync that covers it, nor a declaration answered. What waits for a client is
//! bounded by what it reads.
//!
//! Not for: the original's HTTP API and its policies, AMQP 1.0, streams.

#![forbid(unsafe_code)]

mod channel;
mod client;
mod codec;
mod connection;
mod dead_letters;
mod error;
mod expiry;
mod held;
mod intake;
mod message;
mod routes;
mod schedule;
mod server;
mod session;
#[cfg(test)]
mod tests;
mod vhost;

pub use dead_letters::DIALECT;
pub use message::format;
pub use server::{ConnectionInfo, Options, Server};
