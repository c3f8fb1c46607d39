//! What one seed plays with: its length, what is planted, and the knobs that follow from the seed.

use std::{path::Path, sync::Arc};

use env::Env;
use model::Result;
use store::{Catalog, Recovery, Store, StoreOptions, WalOptions};

use super::state::Heard;
use crate::{Planted, Rates, Rng};

/// One run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everything that happens follows from it.
    pub seed: u64,
    /// Operations.
    pub ops: u64,
    /// Whether the trace's text is kept.
    pub keep_trace: bool,
    /// Lies of the disk, to see whether they are noticed.
    pub disk_planted: Planted,
    /// A mistake of the engine, to see whether it is noticed.
    pub planted: store::faults::Faults,
}

impl Settings {
    /// A thousand operations of `seed`, nothing planted.
    pub fn of(seed: u64) -> Self {
        Settings {
            seed,
            ops: 1000,
            keep_trace: false,
            disk_planted: Planted::default(),
            planted: store::faults::Faults::default(),
        }
    }
}

/// What the seed chose. Each run has some faults and not others, so that rare ones are not drowned by common ones.
pub(super) struct Knobs {
    pub capacity: u64,
    pub crash_permille: u32,
    /// How often a power cut that could be armed is, in a thousand.
    pub cut_permille: u32,
    /// Batches whose durability is not their log's, in a thousand.
    pub mixed_permille: u32,
    pub body_len_max: usize,
    pub full_disk: bool,
    pub rot: bool,
    pub rates: Rates,
    options: StoreOptions,
    wal: WalKnobs,
}

impl WalKnobs {
    fn apply(self, wal: &mut WalOptions) {
        wal.file_len = self.file_len;
        wal.first_file_len = self.first_file_len;
        wal.commit_len = self.commit_len;
        wal.queue_len = self.queue_len;
        wal.drain_len = 100_000;
        wal.unit_len_max = 1 << 20;
        wal.tail_len = self.tail_len;
        wal.floor_len = self.floor_len;
        wal.idle_ns = self.idle_ns;
    }
}

/// Sizes of the write-ahead log.
#[derive(Clone, Copy)]
struct WalKnobs {
    file_len: u64,
    first_file_len: u64,
    commit_len: usize,
    queue_len: usize,
    tail_len: usize,
    floor_len: u64,
    idle_ns: u64,
}

impl Knobs {
    pub fn random(rng: &mut Rng, settings: &Settings) -> Self {
        let mut sometimes = |permille: u32, ppm: u32| if rng.permille(permille) { ppm } else { 0 };
        let rates = Rates {
            sync_failed_ppm: sometimes(250, 3_000),
            sync_full_ppm: sometimes(150, 2_000),
            write_failed_ppm: sometimes(150, 2_000),
            read_failed_ppm: sometimes(150, 10_000),
            slow_sync_ppm: sometimes(300, 10_000),
            writeback_permille: sometimes(500, 250),
        };
        let wal = WalKnobs {
            file_len: rng.pick(&[64 << 10, 128 << 10, 256 << 10]),
            first_file_len: rng.pick(&[16 << 10, 64 << 10]),
            commit_len: rng.pick(&[8_000, 50_000, 8 << 20]),
            queue_len: rng.pick(&[300_000, 2_000_000]),
            tail_len: rng.pick(&[0, 30_000, 1 << 20]),
            floor_len: rng.pick(&[0, 500_000]),
            idle_ns: rng.pick(&[0, 100_000, 10_000_000]),
        };
        let options = StoreOptions {
            unflushed_len_max: rng.pick(&[200_000, 600_000, 2_000_000]),
            unflushed_entries_max: rng.pick(&[60, 300, 2_000]),
            extents_max: rng.pick(&[20, 200, 100_000]),
            volatile_len_max: rng.pick(&[30_000, 4 << 20]),
            read_ahead_len: rng.pick(&[1_000, 20_000, 1 << 20]),
            read_ahead_total_len: rng.pick(&[0, 100_000, 1 << 20]),
            long_read_len_min: rng.pick(&[0, 5_000, 64 << 10]),
            run_kept_len: rng.pick(&[2_000, 10_000, 64 << 10]),
            copied_part_len: rng.pick(&[1, 20_000, 1 << 20]),
            segment_len: rng.pick(&[50_000, 300_000]),
            own_segment_len: rng.pick(&[30_000, 100_000]),
            merge_len_max: rng.pick(&[20_000, 100_000]),
            merge_count: rng.pick(&[2, 3, 8]),
            ..StoreOptions::default()
        };
        let _ = settings;
        Knobs {
            capacity: 64 << 20,
            crash_permille: rng.pick(&[1, 2, 4, 8, 20]),
            cut_permille: rng.pick(&[30, 100, 300, 1000]),
            mixed_permille: rng.pick(&[0, 100, 400]),
            body_len_max: rng.pick(&[4_000, 40_000, 200_000]),
            full_disk: rng.permille(250),
            rot: rng.permille(500),
            rates,
            options,
            wal,
        }
    }

    pub fn open(
        &self,
        env: Env,
        dir: &Path,
        catalog: Arc<dyn Catalog>,
        planted: store::faults::Faults,
        is_repair: bool,
    ) -> Result<(Store<Heard>, Recovery)> {
        let options = StoreOptions { faults: planted, ..self.options };
        let tune = |wal: &mut WalOptions| {
            self.wal.apply(wal);
            wal.tolerate_damage = is_repair;
        };
        Store::open(env, dir, options, tune, catalog)
    }
}
