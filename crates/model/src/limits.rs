//! Built-in limits, each with its reason. Settings may lower them, never raise them.

/// Records in one batch: larger ones are split by their dialect. Keeps a mask over a batch below 128 KiB.
pub const BATCH_RECORDS_MAX: u32 = 1 << 20;

/// Bytes of one batch's body: what the largest single message of any dialect needs (128 MiB), and a little more.
pub const BATCH_LEN_MAX: usize = 130 << 20;

/// Bytes in a tenant, space or stream name: what every dialect's length prefix can carry.
pub const NAME_LEN_MAX: usize = 255;

/// Partitions of one stream: bounded so that one create cannot fill the catalog.
pub const PARTITIONS_MAX: u32 = 10_000;

/// Offsets stay below this, so that every dialect can show them as signed 64-bit numbers.
pub const OFFSET_MAX: u64 = i64::MAX as u64;

/// Records that a log which a crash may take back reserves at a time.
pub const RESERVE_BLOCK: u64 = 65_536;
