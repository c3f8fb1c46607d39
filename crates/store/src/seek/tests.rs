use std::sync::Arc;

use model::Offset;

use crate::{
    Durability, Log, NewBatch, Seek, StoreOptions, TimeOf, Upto,
    mem::MemWalOptions,
    testing::{Notes, World, batch},
};

/// A log of 400 batches of ten records and 4,000 bytes; batch n has append time 10 n, and event time 10,000 - 10 n. Two
/// of its files are segments, one by copying.
fn flushed() -> (World, Arc<Log<Notes>>) {
    let wal = MemWalOptions { eager: false, file_len: 300_000, tail: false };
    let world = World::new(wal, StoreOptions { run_kept_len: 100_000, ..StoreOptions::default() });
    let log = world.create(Durability::Fsync);
    for n in 0..400i64 {
        let new = NewBatch { max_event_time_ms: Some(10_000 - 10 * n), ..batch(10, &[n as u8; 4000]) };
        world.change(&log, |l| {
            l.append_at(l.core().end(), 10 * n, new.clone());
        });
        // Long runs and short ones.
        if n % 50 == 49 || n < 20 {
            world.settle();
        }
    }
    assert!(world.store.checkpoint(true).unwrap());
    assert!(world.store.checkpoint(true).unwrap());
    let kinds = log.with(|core, _| {
        let flushed = |e: &&crate::log::live::Extent| e.index == crate::log::live::Index::Footer;
        core.live.extents().iter().filter(flushed).count()
    });
    assert!(kinds >= 2, "{kinds} extents have their index in a footer");
    (world, log)
}

fn found(world: &World, log: &Arc<Log<Notes>>, at_ms: i64, of: TimeOf) -> Option<u64> {
    let found = world.store.search_time_blocking(log, at_ms, of, Upto::Durable).unwrap();
    found.map(|found| found.batch.base.0)
}

#[test]
fn every_time_is_found_in_what_is_flushed_and_in_what_is_not() {
    let (world, log) = flushed();
    for n in 0..400 {
        assert_eq!(found(&world, &log, 10 * n, TimeOf::Append), Some(10 * n as u64));
        assert_eq!(found(&world, &log, 10 * n - 9, TimeOf::Append), Some(10 * n as u64));
    }
    assert_eq!(found(&world, &log, 3991, TimeOf::Append), None);
    assert_eq!(found(&world, &log, 10_000, TimeOf::Event), Some(0));
    assert_eq!(found(&world, &log, 10_001, TimeOf::Event), None);
}

#[test]
fn what_was_dropped_is_not_found_and_what_comes_behind_it_is() {
    let (world, log) = flushed();
    world.change(&log, |l| l.drop_offsets(vec![Offset(1000)..Offset(2500), Offset(2510)..Offset(2520)]));
    world.settle();
    assert_eq!(found(&world, &log, 1005, TimeOf::Append), Some(2500));
    assert_eq!(found(&world, &log, 2501, TimeOf::Append), Some(2520));
}

#[test]
fn a_search_reads_the_stretch_that_the_index_names_and_not_the_extent() {
    let (world, log) = flushed();
    for n in [3i64, 70, 133, 260, 377] {
        let at = match world.store.seek_time(&log, Offset(0), 10 * n, TimeOf::Append) {
            Seek::At(offset) => offset,
            Seek::Cold(cold) => cold.run(),
        };
        let wanted = 10 * n as u64;
        assert!(at.0 <= wanted && wanted - at.0 <= 40, "sought {wanted}, begins at {at}");
    }
}

#[test]
fn a_search_goes_on_without_an_index_that_is_damaged_and_says_so() {
    let (world, log) = flushed();
    for (name, len) in world.store.stats().unwrap().segments {
        world.blobs.damage(&name, usize::try_from(len).unwrap() - 30);
    }
    let id = log.id();
    let world = world.crash();
    let log = world.log(id);
    for n in 0..400 {
        assert_eq!(found(&world, &log, 10 * n, TimeOf::Append), Some(10 * n as u64));
    }
    assert_eq!(world.live(&log).len(), 4000, "nothing is lost with an index");
    let stats = world.store.stats().unwrap();
    assert_eq!(stats.damaged_index_pages, stats.segments.len());
    assert_eq!(world.store.damaged(), vec![]);
}
