//! The spine's world behind one seam: files, clock, randomness and workers.
//!
//! [`Env`] bundles the four; [`real`] is the machine's, the simulator brings its own. A [`Worker`] is the one shape of
//! background work: a step function that never blocks on anything but files, driven by a thread of its own in
//! production and by a seeded scheduler in the simulator.
//!
//! *Invariants.* The other spine crates reach the operating system only through these traits (clippy's
//! `disallowed-methods`). No sockets: those belong to the binary and the slices. No async runtime.

#![forbid(unsafe_code)]

mod files;
mod real;
#[cfg(feature = "testing")]
pub mod testing;
mod worker;

use std::sync::Arc;

pub use files::{
    DIRECT_ALIGN_LEN, DirEntry, File, Files, LockedDir, Open, direct_begin, is_unreadable, unreadable,
    unreadable_past_cache,
};
pub use real::{RealOptions, real, real_with};
pub use worker::{Job, Next, Signal, Spawn, Worker, guarded};

/// Time, from two clocks.
pub trait Clock: Send + Sync + 'static {
    /// Wall clock, milliseconds since the Unix epoch. May jump.
    fn wall_ms(&self) -> i64;
    /// Monotonic clock, nanoseconds from an arbitrary start. Never goes back.
    fn mono_ns(&self) -> u64;
}

/// Randomness for ids, salts and keys. Cryptographic in production, seeded in the simulator.
pub trait Random: Send + Sync + 'static {
    /// Fills `buf`.
    fn fill(&self, buf: &mut [u8]);

    /// 64 random bits.
    fn u64(&self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_le_bytes(bytes)
    }

    /// 128 random bits.
    fn u128(&self) -> u128 {
        let mut bytes = [0; 16];
        self.fill(&mut bytes);
        u128::from_le_bytes(bytes)
    }
}

/// Everything the engine may touch outside its own memory.
#[derive(Clone)]
pub struct Env {
    /// Files and folders.
    pub files: Arc<dyn Files>,
    /// Both clocks.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub random: Arc<dyn Random>,
    /// Background work.
    pub spawn: Arc<dyn Spawn>,
}
