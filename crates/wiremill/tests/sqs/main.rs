//! The built binary as SQS's clients see it: every byte over a socket, with a client of our own.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)] // Sockets, clocks, processes.

#[allow(dead_code, reason = "shared with the tests of the binary, which use more of it")]
#[path = "../binary/process.rs"]
mod process;

mod client;
mod crash;
mod declared;
mod durability;
mod receiving;
