//! The Wiremill binary: settings, listeners, start and shutdown, and the command line over the admin API.
//!
//! Types to know: [`settings::Settings`] (what was asked for, checked), [`listeners::Dialect`] (how a slice plugs in) and
//! [`supervisor::Supervisor`] (who runs). `serve.rs` is the way up and the way down, in order.
//!
//! *Invariants.* No protocol logic: a connection is accepted, decrypted and handed over. Every task is registered with
//! the supervisor. No storage logic: the command line speaks HTTP like anybody else.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods)] // The bans keep the spine off the machine; this is the machine's side.

mod banner;
mod cli;
mod data_dir;
mod dialects;
mod doctor;
mod listeners;
mod logging;
mod offline;
mod ready;
mod serve;
mod settings;
mod supervisor;
mod test_clock;
mod workers;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
