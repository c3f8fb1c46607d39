//! The built binary as Kafka's clients see it: every byte over a socket, with a client of our own that may also do what
//! no client does, and with one that others wrote (`quick`).

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)] // Sockets, clocks, processes.

#[allow(dead_code, reason = "shared with the tests of the binary, which use more of it")]
#[path = "../binary/process.rs"]
mod process;

#[allow(dead_code, reason = "shared with the tests of SQS, which use more of it")]
#[path = "../sqs/client.rs"]
mod sqs;

mod bad_input;
mod client;
mod configs;
mod crash;
mod durability;
mod fetch;
mod foreign;
mod golden;
mod groups;
mod idempotence;
mod members;
mod negotiation;
mod node;
mod offsets;
mod originals;
mod overload;
mod produce;
mod quick;
mod routes;
mod sasl;
mod sessions;
mod settings;
mod topics;
mod usual;
