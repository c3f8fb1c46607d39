//! The built binary from outside: how it starts, what it says, how it ends.

#![allow(clippy::disallowed_methods, clippy::unwrap_used)] // Files, clocks and processes are what is tested.

mod api;
mod cli;
mod data;
mod life;
mod process;
mod queues;
mod settings;
mod tls;
mod users;
