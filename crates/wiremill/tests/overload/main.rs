//! The built binary as RabbitMQ's clients see it where they behave badly or ask for more than there is: every byte over a
//! socket, with a client of our own.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used)] // Sockets, clocks, processes.

#[allow(dead_code, reason = "shared with the tests of the binary, which use more of it")]
#[path = "../binary/process.rs"]
mod process;

#[allow(dead_code, reason = "shared with the tests of SQS, which use more of it")]
#[path = "../sqs/client.rs"]
mod sqs;

mod client;
mod overload;
