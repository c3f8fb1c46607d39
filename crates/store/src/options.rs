//! The engine's settings.

use crate::faults::Faults;

/// How a store behaves. The broker's settings are checked there; here they are taken as they are.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// WAL bytes that no checkpoint covers, at most; flushing begins at half of it.
    pub unflushed_len_max: u64,
    /// Entries in the WAL that no checkpoint covers, at most, each of one log: what logs keep in mind of them is memory; flushing begins at half of it.
    pub unflushed_entries_max: u64,
    /// Extents that may come until a flush has made few of them, over all logs: each is [`crate::EXTENT_LEN`] bytes of
    /// memory. Flushing begins at half of it.
    pub extents_max: u64,
    /// Bytes of volatile records in memory, over all logs.
    pub volatile_len_max: u64,
    /// Bytes of volatile records in spill files, where they go once they take half of their memory.
    pub spill_len_max: u64,
    /// Bytes that are read ahead for one catch-up reader, in two pieces.
    pub read_ahead_len: u32,
    /// Bytes of read-ahead that are kept for their readers, over all logs.
    pub read_ahead_total_len: usize,
    /// Reads from this length on go past the machine's cache; shorter ones have neighbours in it.
    pub long_read_len_min: u32,
    /// Bytes of memory for pages of segments' indexes, over all segments.
    pub index_len_max: usize,
    /// A run this long stays where the WAL wrote it. Shorter, more of a load is written twice; longer, there are more
    /// extents to keep in mind, and reading them is cheap as long as their neighbours are read too.
    pub run_kept_len: u32,
    /// Bytes that are copied to a segment at a time: between two such parts the disk is left to the log while that is slow.
    pub copied_part_len: usize,
    /// A shared segment is about this long at most.
    pub segment_len: u64,
    /// A log with more than this to copy gets segments of its own.
    pub own_segment_len: u64,
    /// Shared segments shorter than this are merged once there are [`StoreOptions::merge_count`] of them.
    pub merge_len_max: u64,
    /// How many segments a merge takes together.
    pub merge_count: usize,
    /// What the simulator planted.
    pub faults: Faults,
}

impl Default for StoreOptions {
    fn default() -> Self {
        StoreOptions {
            unflushed_len_max: 512 << 20,
            unflushed_entries_max: 2_000_000,
            extents_max: 400_000,
            volatile_len_max: 256 << 20,
            spill_len_max: 4 << 30,
            read_ahead_len: 2 << 20,
            read_ahead_total_len: 32 << 20,
            long_read_len_min: 32 << 10,
            index_len_max: 8 << 20,
            run_kept_len: 32 << 10,
            copied_part_len: 1 << 20,
            segment_len: 64 << 20,
            own_segment_len: 16 << 20,
            merge_len_max: 16 << 20,
            merge_count: 8,
            faults: Faults::default(),
        }
    }
}
