//! A simulated machine and what is played on it: disk, clock and scheduler, workloads, a naive model, and the checks
//! that compare the two.
//!
//! Three types to know: [`SimWorld`] (the machine, an `env::Env` per boot), [`SimDisk`] (what it may lose, tear and
//! rot) and [`Trace`] (what happened, byte for byte the same for one seed).
//!
//! *Invariants.* Everything that happens follows from the seed: one thread at a time, no real clock, no map with a random order.
//! Nothing here is linked into the binary.

#![forbid(unsafe_code)]

pub mod backlog;
mod clock;
pub mod dialect;
mod disk;
mod patience;
mod pause;
mod rng;
mod sched;
pub mod storage;
mod trace;
mod world;

pub use clock::SimClock;
pub use disk::{Crash, Fault, Fired, Planted, Rates, Rottable, SECTOR_LEN, SimDisk, SimFiles};
pub use patience::Unanswered;
pub use pause::Paused;
pub use rng::Rng;
pub use sched::{Scheduler, Turn};
pub use trace::Trace;
pub use world::SimWorld;
