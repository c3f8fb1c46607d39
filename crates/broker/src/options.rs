//! What a broker is opened with.

/// Settings of the whole broker.
#[derive(Clone, Debug)]
pub struct BrokerOptions {
    /// Bytes for everything that grows with load: queue to the disk, tail cache, cursors, decoded batches.
    pub memory_budget_len: usize,
    /// Partitions of a stream whose creator does not say, 1..=[`model::limits::PARTITIONS_MAX`].
    pub default_partitions: u32,
    /// Streams that may exist, over all tenants.
    pub streams_max: usize,
    /// Streams that one tenant may have; `None` = as many as may exist.
    pub streams_per_tenant_max: Option<usize>,
    /// How long a producer's sequences are remembered after its last batch, milliseconds.
    pub producer_expiry_ms: u64,
    /// How often retention looks at every stream, milliseconds.
    pub retention_interval_ms: u64,
    /// Everything is kept in memory only: for test suites.
    pub ephemeral: bool,
    /// Length of one write-ahead file, bytes.
    pub wal_file_len: u64,
    /// Bytes that may lie in the write-ahead log before a checkpoint covers them: bounds the time of a restart.
    pub uncheckpointed_len_max: u64,
    /// Entries that may lie in the write-ahead log before a checkpoint covers them.
    pub uncheckpointed_entries_max: u64,
    /// Publishes are refused while the disk has fewer free bytes than this; 0 never refuses.
    pub free_space_min_len: u64,
    /// Steps over damage of what was acknowledged and reports it, instead of refusing to open: for repairs.
    pub tolerate_damage: bool,
    /// A mistake to make, for the simulator; nothing in every other build.
    pub faults: crate::faults::Faults,
}

/// Shares of the memory budget, in percent. The rest is for what cursors keep, and for bytes on their way to and from
/// clients.
const QUEUE_SHARE: usize = 15;
const TAIL_SHARE: usize = 21;
const VOLATILE_SHARE: usize = 18;
/// Where nothing goes to the disk, queue and tail are little used, and everything stored is in memory.
const EPHEMERAL_VOLATILE_SHARE: usize = 60;
/// Twice what one reader of many partitions is answered at a time, and some: an answer on its way, and what it is asked
/// for next.
const READ_AHEAD_SHARE: usize = 8;
const DECODED_SHARE: usize = 5;
const INDEX_SHARE: usize = 2;
const DEDUP_SHARE: usize = 13;
const EXTENTS_SHARE: usize = 8;
const PRODUCERS_SHARE: usize = 4;

const _: () = assert!(
    QUEUE_SHARE
        + TAIL_SHARE
        + VOLATILE_SHARE
        + READ_AHEAD_SHARE
        + DECODED_SHARE
        + INDEX_SHARE
        + DEDUP_SHARE
        + EXTENTS_SHARE
        + PRODUCERS_SHARE
        <= 94
);

impl BrokerOptions {
    fn share(&self, percent: usize) -> usize {
        self.memory_budget_len / 100 * percent
    }

    /// Bytes that may wait for the disk.
    pub(crate) fn queue_len_max(&self) -> usize {
        self.share(QUEUE_SHARE)
    }

    /// Bytes of the newest commits that are kept for readers, at the most: an eighth while there are none.
    pub(crate) fn tail_len_max(&self) -> usize {
        self.share(TAIL_SHARE)
    }

    /// Bytes of records that are in memory only.
    pub(crate) fn volatile_len_max(&self) -> usize {
        self.share(if self.ephemeral { EPHEMERAL_VOLATILE_SHARE } else { VOLATILE_SHARE })
    }

    /// Bytes read ahead for readers of older records.
    pub(crate) fn read_ahead_len_max(&self) -> usize {
        self.share(READ_AHEAD_SHARE)
    }

    /// Bytes of pages of segments' indexes that are kept.
    pub(crate) fn index_len_max(&self) -> usize {
        self.share(INDEX_SHARE)
    }

    /// Bytes of dedup keys, over all streams.
    pub(crate) fn dedup_len_max(&self) -> usize {
        self.share(DEDUP_SHARE)
    }

    /// Bytes of what logs keep in mind of where records lie, as far as it came since the last flush.
    pub(crate) fn extents_len_max(&self) -> usize {
        self.share(EXTENTS_SHARE)
    }

    /// Bytes of what is known of producers that number their batches, over all streams.
    pub(crate) fn producers_len_max(&self) -> usize {
        self.share(PRODUCERS_SHARE)
    }

    /// Bytes of decoded batches that are kept.
    pub(crate) fn decoded_len_max(&self) -> usize {
        self.share(DECODED_SHARE)
    }
}

impl Default for BrokerOptions {
    fn default() -> Self {
        BrokerOptions {
            memory_budget_len: 512 << 20,
            default_partitions: 1,
            streams_max: 1_000_000,
            streams_per_tenant_max: None,
            producer_expiry_ms: 24 * 60 * 60 * 1_000,
            retention_interval_ms: 10_000,
            ephemeral: false,
            wal_file_len: 64 << 20,
            uncheckpointed_len_max: 512 << 20,
            uncheckpointed_entries_max: 2_000_000,
            free_space_min_len: 0,
            tolerate_damage: false,
            faults: Default::default(),
        }
    }
}
