//! The log engine: write-ahead log, segments, checkpoints and recovery.
//!
//! Every durable change is an [`Entry`]; entries that belong together are a [`Unit`]. Appenders lock the logs concerned
//! ([`Locked`]), stage entries, which changes the staged state at once, and submit them as one unit. One thread writes
//! everything staged as one frame with one sync; the commit applier then places the frame's batches in their logs, moves
//! what readers see, tells the state that the caller attached, and only then are those woken who wait for the position.
//! Three types to know: [`Store`] (the whole engine on one directory), [`Log`] (one log under its lock, with state
//! attached by the caller, see [`Attached`]) and [`Unit`].
//!
//! Reading order: `entry` (what is written) · `log` (the live set and its bounds) · `store`, `apply` (how a commit goes)
//! · `read`, `seek` · `wal` (frames and files) · `flush`, `segment` (where data goes later) · `checkpoint`, `annex`,
//! `recover` (how it comes back) · `spill` (volatile records beyond their memory) · `meta` (the catalog's commands).
//!
//! *Invariants.* Nothing above sees a path or a file position. Liveness of a record follows from its log's entries
//! alone; no cursor is ever asked. Nothing is deleted because its metadata cannot be read, and no file before two
//! checkpoints can do without it. Locks: several logs only in the order of their ids; background work holds one at a
//! time. All waiting is by wakers or by workers: no async runtime here. It is not for deciding what goes: retention,
//! limits and settlements are staged by the caller.

#![forbid(unsafe_code)]

mod admin;
mod annex;
mod apply;
mod attached;
pub mod blobs;
mod checkpoint;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod dir;
#[cfg(test)]
mod disk_tests;
pub mod entry;
mod epochs;
pub mod faults;
mod files;
mod flush;
mod fsio;
mod index;
mod log;
pub mod mem;
pub mod meta;
mod options;
mod read;
#[cfg(test)]
mod real_tests;
mod recover;
mod seek;
mod segment;
mod spill;
mod store;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod unflushed;
mod volatile;
pub mod wal;

pub use admin::StoreStats;
pub use annex::Annex;
pub use attached::{Attached, Catalog};
pub use entry::{CATALOG, Change, Durability, Entry, Stamp, StampFacts, Unit};
pub use log::{Appended, Bounds, EXTENT_LEN, Keep, Locked, LockedLog, Log, LogCore, NewBatch, TimeOf};
pub use options::StoreOptions;
pub use read::{Ahead, Chunk, ChunkBatch, ColdRead, Mask, Read, ReadLimits, Upto};
pub use recover::{Recovery, Unapplied};
pub use seek::{ColdSeek, SEARCH_LEN, Seek};
pub use store::Store;
pub use wal::{Class, Permit, WalOptions, codec::stored_len};
