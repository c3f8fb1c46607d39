//! How the engine is put together on a data directory.

use std::{path::Path, sync::Arc};

use env::Env;
use model::Result;
use store::{Catalog, Recovery, Store, StoreOptions, wal::WalOptions};

use crate::{log_state::LogState, options::BrokerOptions};

/// Opens the store on `dir`.
pub(crate) fn open(
    env: &Env,
    dir: &Path,
    options: &BrokerOptions,
    catalog: Arc<dyn Catalog>,
) -> Result<(Store<LogState>, Recovery)> {
    let engine = StoreOptions {
        unflushed_len_max: options.uncheckpointed_len_max,
        unflushed_entries_max: options.uncheckpointed_entries_max,
        extents_max: (options.extents_len_max() / store::EXTENT_LEN) as u64,
        volatile_len_max: options.volatile_len_max() as u64,
        read_ahead_total_len: options.read_ahead_len_max(),
        index_len_max: options.index_len_max(),
        ..StoreOptions::default()
    };
    let tune = |wal: &mut WalOptions| {
        wal.file_len = options.wal_file_len;
        wal.queue_len = options.queue_len_max();
        wal.tail_len = options.tail_len_max();
        wal.floor_len = options.free_space_min_len;
        wal.tolerate_damage = options.tolerate_damage;
    };
    Store::open(env.clone(), dir, engine, tune, catalog)
}
