use std::sync::Arc;

use model::Offset;

use crate::{
    Ahead, Durability, Log, Read, ReadLimits, StoreOptions, Upto,
    mem::MemWalOptions,
    testing::{Notes, World},
};

/// Ten batches of ten records and 100 bytes each, all in one commit.
fn ten_by_ten(tail: bool) -> (World, Arc<Log<Notes>>) {
    let wal = MemWalOptions { eager: false, tail, ..MemWalOptions::default() };
    let world = World::new(wal, StoreOptions::default());
    let log = world.create(Durability::Fsync);
    for _ in 0..10 {
        world.append(&log, 10, &[9; 100]);
    }
    world.settle();
    (world, log)
}

fn bases(world: &World, log: &Arc<Log<Notes>>, from: u64, limits: ReadLimits) -> (Vec<u64>, u64) {
    let chunk = world.store.read_blocking(log, Offset(from), limits, Upto::Stable).unwrap();
    (chunk.batches.iter().map(|read| read.batch.base.0).collect(), chunk.next.0)
}

#[test]
fn a_read_takes_whole_batches_up_to_its_limit_of_records() {
    let (world, log) = ten_by_ten(true);
    let records = |records| ReadLimits { bytes: usize::MAX, records };
    assert_eq!(bases(&world, &log, 0, records(19)), (vec![0], 10));
    assert_eq!(bases(&world, &log, 0, records(20)), (vec![0, 10], 20));
    assert_eq!(bases(&world, &log, 0, records(21)), (vec![0, 10], 20));
}

#[test]
fn a_read_takes_whole_batches_up_to_its_limit_of_bytes() {
    let (world, log) = ten_by_ten(true);
    let len = log.with(|core, _| core.live.extents()[0].len) as usize / 10;
    let bytes = |bytes| ReadLimits { bytes, records: u32::MAX };
    // The first entry of a unit and the later ones differ by a byte in length.
    assert_eq!(bases(&world, &log, 0, bytes(2 * len - 4)), (vec![0], 10));
    assert_eq!(bases(&world, &log, 0, bytes(2 * len + 4)), (vec![0, 10], 20));
    assert_eq!(bases(&world, &log, 0, bytes(3 * len - 8)), (vec![0, 10], 20));
}

#[test]
fn at_least_one_batch_is_read_whatever_the_limits() {
    let (world, log) = ten_by_ten(true);
    assert_eq!(bases(&world, &log, 57, ReadLimits { bytes: 0, records: 0 }), (vec![50], 60));
}

#[test]
fn a_read_at_the_end_or_beyond_it_is_empty_and_stays_there() {
    let (world, log) = ten_by_ten(true);
    assert_eq!(bases(&world, &log, 99, ReadLimits::default()), (vec![90], 100));
    assert_eq!(bases(&world, &log, 100, ReadLimits::default()), (vec![], 100));
    assert_eq!(bases(&world, &log, 1_000, ReadLimits::default()), (vec![], 1_000));
}

#[test]
fn a_range_that_ends_in_a_gap_is_read_to_the_end_of_the_gap() {
    let (world, log) = ten_by_ten(true);
    world.change(&log, |l| l.drop_offsets(vec![Offset(30)..Offset(40), Offset(70)..Offset(100)]));
    world.change(&log, |l| l.advance(Offset(500)));
    world.settle();
    assert_eq!(bases(&world, &log, 20, ReadLimits::default()), (vec![20, 40, 50, 60], 500));
    assert_eq!(bases(&world, &log, 72, ReadLimits::default()), (vec![], 500));
}

#[test]
fn what_is_not_in_memory_is_a_cold_read_and_what_it_read_ahead_is_not() {
    let (world, log) = ten_by_ten(false);
    let limits = ReadLimits { bytes: 300, records: u32::MAX };
    let Read::Cold(cold) = world.store.read(&log, Offset(0), limits, Upto::Stable).unwrap() else {
        panic!("nothing is in memory yet")
    };
    let next = cold.run().unwrap().next;
    assert!(next > Offset(0));
    assert!(matches!(world.store.read(&log, next, limits, Upto::Stable).unwrap(), Read::Ready(_)));
}

/// Small runs of one log lie apart, others' between them: what the machine reads ahead by itself is not what comes next.
#[test]
fn a_read_from_the_disk_has_what_comes_next_fetched_over_the_runs_of_its_log() {
    let wal = MemWalOptions { eager: false, tail: false, ..MemWalOptions::default() };
    let world = World::new(wal, StoreOptions { read_ahead_len: 5_000, ..StoreOptions::default() });
    let (log, other) = (world.create(Durability::Fsync), world.create(Durability::Fsync));
    for _ in 0..20 {
        world.append(&log, 1, &[1; 1_000]);
        world.append(&other, 1, &[2; 9_000]);
        world.settle();
    }
    let places: Vec<(u64, u32)> = log.with(|core, _| {
        assert_eq!(core.live.extents().len(), 20);
        core.live.extents().iter().map(|extent| (extent.at, extent.len)).collect()
    });
    // No more than one batch is read: what is in memory already needs no fetching.
    let limits = ReadLimits { bytes: 1_000, records: u32::MAX };
    assert_eq!(bases(&world, &log, 3, limits), (vec![3], 4));
    let hints = world.wal.take_hints();
    assert_eq!(hints[..4], places[4..8], "before it reads");
    assert_eq!(hints[4..8], places[4..8], "and from where it came to");
    assert!(hints.iter().map(|(_, len)| *len).sum::<u32>() <= 2 * 5_000);
    // At the end nothing comes next, and a look for one record has no next.
    bases(&world, &log, 19, limits);
    let Read::Cold(cold) = world.store.read(&log, Offset(10), limits, Upto::Stable).unwrap() else {
        panic!("nothing of it was read yet")
    };
    cold.alone().run().unwrap();
    assert_eq!(world.wal.take_hints(), []);
}

/// A log of `count` runs of `body_len` bytes, each in a frame of its own, none of them in memory.
fn cold_runs(options: StoreOptions, count: u64, body_len: usize) -> (World, Arc<Log<Notes>>) {
    let wal = MemWalOptions { eager: false, tail: false, ..MemWalOptions::default() };
    let world = World::new(wal, options);
    let log = world.create(Durability::Fsync);
    for index in 0..count {
        world.append(&log, 1, &vec![index as u8; body_len]);
        world.settle();
    }
    (world, log)
}

#[test]
fn who_reads_on_from_the_disk_finds_long_runs_in_memory() {
    let options = StoreOptions { read_ahead_len: 400_000, ..StoreOptions::default() };
    let (world, log) = cold_runs(options, 30, 100_000);
    let limits = ReadLimits { bytes: 100_100, records: u32::MAX };
    let read = |from| world.store.read(&log, Offset(from), limits, Upto::Stable).unwrap();
    let Read::Cold(cold) = read(0) else { panic!("nothing is in memory yet") };
    assert_eq!(cold.run().unwrap().next, Offset(1));
    for from in 1..30 {
        world.hands.run();
        world.hands.pass(1_000_000);
        world.hands.run();
        let Read::Ready(chunk) = read(from) else { panic!("{from} was not read ahead") };
        assert_eq!((chunk.next, chunk.batches[0].batch.body[0]), (Offset(from + 1), from as u8));
    }
}

#[test]
fn what_was_to_be_read_ahead_and_is_not_is_read_by_who_wants_it() {
    let options = StoreOptions { read_ahead_len: 400_000, ..StoreOptions::default() };
    let (world, log) = cold_runs(options, 30, 100_000);
    let limits = ReadLimits { bytes: 100_100, records: u32::MAX };
    // No job ever runs.
    for from in 0..30 {
        let chunk = world.store.read_blocking(&log, Offset(from), limits, Upto::Stable).unwrap();
        assert_eq!((chunk.next, chunk.batches[0].batch.body[0]), (Offset(from + 1), from as u8));
    }
    world.hands.pass(1_000_000);
    world.hands.run();
    assert_eq!(bases(&world, &log, 7, limits), (vec![7], 8));
}

#[test]
fn a_long_read_is_answered_with_what_is_there_while_the_rest_is_on_its_way() {
    let (world, log) = cold_runs(StoreOptions::default(), 40, 100_000);
    let all = ReadLimits { bytes: usize::MAX, records: u32::MAX };
    let mut from = Offset(0);
    let mut reads = 0;
    while from < Offset(40) {
        let chunk = world.store.read_blocking(&log, from, all, Upto::Stable).unwrap();
        assert!(chunk.next > from, "at {from}");
        (from, reads) = (chunk.next, reads + 1);
        world.hands.pass(1_000_000);
        world.hands.run();
    }
    assert!((2..=8).contains(&reads), "{reads} reads of 4 MB");
}

#[test]
fn without_memory_for_it_nothing_is_read_ahead_and_everything_is_read() {
    let options = StoreOptions { read_ahead_total_len: 0, ..StoreOptions::default() };
    let (world, log) = cold_runs(options, 10, 100_000);
    let limits = ReadLimits { bytes: 100_100, records: u32::MAX };
    for from in 0..10 {
        assert!(matches!(world.store.read(&log, Offset(from), limits, Upto::Stable).unwrap(), Read::Cold(_)));
        assert_eq!(bases(&world, &log, from, limits), (vec![from], from + 1));
        world.hands.run();
    }
}

#[test]
fn records_that_were_all_dropped_are_passed_however_many_there_are() {
    let options = StoreOptions { read_ahead_total_len: 0, ..StoreOptions::default() };
    let wal = MemWalOptions { eager: false, tail: false, ..MemWalOptions::default() };
    let world = World::new(wal, options);
    let log = world.create(Durability::Fsync);
    for _ in 0..200 {
        world.append(&log, 1, &[1; 20_000]);
    }
    world.settle();
    world.change(&log, |l| l.drop_offsets(vec![Offset(1)..Offset(199)]));
    world.settle();
    assert_eq!(bases(&world, &log, 1, ReadLimits { bytes: 1, records: 1 }), (vec![199], 200));
}

#[test]
fn a_small_read_of_a_long_run_starts_near_its_offset() {
    let wal = MemWalOptions { eager: false, tail: true, ..MemWalOptions::default() };
    let world = World::new(wal, StoreOptions::default());
    let log = world.create(Durability::Fsync);
    for _ in 0..200 {
        world.append(&log, 3, &[1; 5_000]);
    }
    world.settle();
    let (extents, points) = log.with(|core, _| {
        let extents = core.live.extents();
        let crate::log::live::Index::Points(points) = &extents[0].index else {
            panic!("a long run has an index")
        };
        (extents.len(), points.len())
    });
    assert_eq!(extents, 1);
    assert!((40..=100).contains(&points), "{points}");
    for from in [0, 1, 299, 300, 301, 599] {
        let (found, next) = bases(&world, &log, from, ReadLimits { bytes: 1, records: u32::MAX });
        assert_eq!((found, next), (vec![from / 3 * 3], from / 3 * 3 + 3));
    }
}

#[test]
fn what_several_logs_have_side_by_side_is_read_ahead_as_one() {
    let wal = MemWalOptions { eager: false, tail: false, ..MemWalOptions::default() };
    let world = World::new(wal, StoreOptions::default());
    let logs: Vec<_> = (0..8).map(|_| world.create(Durability::Fsync)).collect();
    for _ in 0..4 {
        for log in &logs {
            world.append(log, 1, &[7; 100_000]);
        }
        world.settle();
    }
    world.store.look_ahead(logs.iter().map(|log| (log, Offset(0), 400_000)));
    // Four frames of eight runs each: none is read alone.
    let queued: Vec<_> = world.store.0.files.ripe().0;
    assert!((1..=4).contains(&queued.len()), "{queued:?}");
    for (file, at) in queued {
        world.store.0.files.read_ahead(file, at);
    }
    for log in &logs {
        let limits = ReadLimits { bytes: 400_000, records: u32::MAX };
        let Read::Ready(chunk) =
            world.store.read_with(log, Offset(0), limits, Upto::Stable, Ahead::Asked).unwrap()
        else {
            panic!("it is in memory")
        };
        assert!(chunk.of_disk && chunk.batches.len() >= 3, "{}", chunk.batches.len());
    }
    assert_eq!(world.store.0.files.ripe().0, [], "nothing is read ahead that nobody asked for");
}
