//! Which faults a disk has, how often, and how often each one fired.

use std::{collections::BTreeMap, fmt};

/// What can go wrong with a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A crash took back a sector that was never synced.
    SectorLost,
    /// A crash kept a sector that was never synced.
    SectorKept,
    /// A crash left a mixture of old and new in one sector.
    SectorTorn,
    /// A sector reached the device before anybody asked for it.
    EarlyWriteback,
    /// A crash took back the name of a file, or a rename or removal, that no sync of its folder covered.
    NameLost,
    /// A sync failed and dropped the dirty pages; reads show them until they leave the cache.
    SyncFailed,
    /// A sync failed for want of space: the disk had promised room that it did not have.
    SyncFull,
    /// A write failed, perhaps after a part of it.
    WriteFailed,
    /// A write found the disk full, perhaps after a part of it.
    DiskFull,
    /// A read failed this once.
    ReadFailed,
    /// A sync took far longer than usual.
    SlowSync,
    /// Stored bits changed by themselves.
    BitRot,
    /// A sector cannot be read any more, until it is written.
    SectorDead,
    /// A write landed at another place of its file.
    Misdirected,
    /// The power went in the middle of a disk operation.
    PowerCut,
    /// A sync reported success and did nothing. Planted: a disk that lies defeats every engine.
    SyncSkipped,
    /// A folder's sync reported success and did nothing. Planted.
    DirSyncSkipped,
}

/// How often each fault happens. Everything off by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rates {
    /// Per sync of a file with dirty pages, in a million.
    pub sync_failed_ppm: u32,
    /// Per sync of a file with dirty pages, in a million.
    pub sync_full_ppm: u32,
    /// Per write, in a million.
    pub write_failed_ppm: u32,
    /// Per read, in a million.
    pub read_failed_ppm: u32,
    /// Per sync, in a million.
    pub slow_sync_ppm: u32,
    /// Per write over a dirty sector, in a thousand.
    pub writeback_permille: u32,
}

/// Lies of the disk that an engine cannot survive; the checker must notice them.
#[derive(Clone, Copy, Debug, Default)]
pub struct Planted {
    /// Syncs of files whose path contains this text do nothing.
    pub skip_sync: Option<&'static str>,
    /// Syncs of folders do nothing.
    pub skip_dir_sync: bool,
}

/// How often each fault fired.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fired(pub BTreeMap<Fault, u64>);

impl Fired {
    /// Counts one.
    pub fn count(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    /// How often `fault` fired.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or_default()
    }

    /// Adds the counts of another run.
    pub fn add(&mut self, other: &Fired) {
        for (fault, count) in &other.0 {
            *self.0.entry(*fault).or_default() += count;
        }
    }
}

impl fmt::Display for Fired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (fault, count) in &self.0 {
            writeln!(f, "  {:<16} {count}", format!("{fault:?}"))?;
        }
        Ok(())
    }
}
