//! What is set aside, before, while and after it is copied.

use model::Offset;

use super::{fill, flush, segments, world};
use crate::{Durability, Log, StoreOptions, log::live::Extent, testing::Notes};

fn extent(log: &Log<Notes>, from: u64) -> Extent {
    log.with(|core, _| core.live.extents()[core.live.extent_from(Offset(from))].clone())
}

#[test]
fn what_is_set_aside_after_it_was_copied_is_served_from_its_copy() {
    let world = world(2_000, StoreOptions { copied_part_len: 500, ..StoreOptions::default() });
    let log = world.create(Durability::Fsync);
    fill(&world, &log, 40, 100);
    let quarantine = |from| {
        let extent = extent(&log, from);
        assert!(log.lock().core.quarantine(extent.file, extent.at, extent.base));
    };
    quarantine(4);
    let step = || world.store.0.flusher.lock().step(&world.store.0);
    world.store.0.flusher.lock().force(&world.store.0, true);
    (0..4).for_each(|_| assert_eq!(step(), env::Next::Again));
    assert_eq!(segments(&world), 0);
    quarantine(2); // was copied
    quarantine(50); // is among those that come next
    while !world.store.0.flusher.lock().is_idle() {
        step();
    }
    let expected: Vec<u64> = (0..80).filter(|offset| ![4, 5].contains(offset)).collect();
    assert_eq!((segments(&world), world.live(&log)), (1, expected.clone()));
    let lost = [(log.id(), Offset(4)..Offset(6))];
    assert_eq!(world.store.damaged(), lost);
    let id = log.id();
    drop(log);
    let world = world.crash();
    assert_eq!((world.live(&world.log(id)), world.store.damaged()), (expected, lost.to_vec()));
}

#[test]
fn what_is_damaged_in_memory_alone_is_copied_from_the_disk() {
    let world = world(2_000, StoreOptions::default());
    let log = world.create(Durability::Fsync);
    fill(&world, &log, 40, 100);
    let Extent { file, at, len, .. } = extent(&log, 6);
    world.store.0.files.plant_ahead(file, at, vec![0x55; len as usize].into());
    flush(&world);
    assert_eq!((segments(&world), world.store.damaged()), (1, vec![]));
    assert_eq!(world.live(&log), (0..80).collect::<Vec<u64>>());
}
