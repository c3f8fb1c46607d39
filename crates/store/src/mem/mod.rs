//! The engine's two storage traits in memory: the reference that the conformance suites hold the others against, and
//! what tests of the engine run on. A crash is simulated by dropping the store and opening another on the same provider.

mod blobs;
mod wal;

#[cfg(test)]
mod tests;

pub use blobs::MemBlobs;
pub use wal::{MemWalOptions, MemWalProvider};
