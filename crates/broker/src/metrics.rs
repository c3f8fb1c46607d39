//! What the broker counts. Plain atomics; whoever shows them takes a snapshot.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only rises.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        #[derive(Default)]
        pub(crate) struct Counters {
            $(pub $name: Counter,)*
        }

        /// What the broker counted since its start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct CounterView {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Counters {
            pub(crate) fn view(&self) -> CounterView {
                CounterView { $($name: self.$name.value(),)* }
            }
        }

        impl CounterView {
            /// Every counter with its name, for a page of metrics.
            pub fn each(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name)),*].into_iter()
            }
        }
    };
}

counters! {
    /// Batches appended.
    appended_batches,
    /// Records appended.
    appended_records,
    /// Bytes of bodies appended.
    appended_bytes,
    /// Appends that were there already.
    duplicates,
    /// Appends that were refused.
    refused,
    /// Reads that were answered from memory.
    warm_reads,
    /// Reads that asked the disk.
    cold_reads,
    /// Stretches of records that were read for work cursors.
    work_reads,
    /// Records in them, in whole batches.
    work_read_records,
    /// Bytes of their bodies.
    work_read_bytes,
    /// Records leased.
    leased_records,
    /// Records settled: accepted, rejected or taken at once.
    settled_records,
    /// Records moved to dead letters, or deleted where there is no target.
    dead_lettered,
    /// Records moved by tasks.
    moved_records,
    /// Positions committed.
    committed_positions,
    /// Partitions trimmed by retention.
    retention_trims,
    /// Batches that were converted from one format to another.
    converted_batches,
    /// Headers that found no place in another dialect, or were not a client's to send; of the whole process.
    lost_headers,
    /// Records that a route was to take to an address that could not be made for them.
    unroutable_records,
}
