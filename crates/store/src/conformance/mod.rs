//! What every implementation of the storage traits has to show. The suites are plain functions, so that a crate which
//! brings an implementation runs them on it.
//!
//! [`Hands`] stands in for threads and clock where a test steps background work by hand.

#![allow(clippy::unwrap_used, clippy::expect_used)] // A suite fails by panicking, as tests do.

mod blobs;
mod hands;
mod meta;
pub(crate) mod wal;

pub use blobs::{BlobsRig, blobs_suite};
pub use hands::Hands;
pub use meta::{MetaRig, meta_suite};
pub use wal::{Collected, WalRig, collect, wal_suite};
