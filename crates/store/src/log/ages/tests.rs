use std::sync::Arc;

use model::Offset;

use super::{Keep, TimeOf};
use crate::{
    Durability, Log, NewBatch, StoreOptions, Upto,
    mem::MemWalOptions,
    testing::{Notes, World, batch},
};

/// Ten commits of ten records; commit n has append time 1000 n and event time 500 n.
fn ten_by_ten() -> (World, Arc<Log<Notes>>) {
    let world =
        World::new(MemWalOptions { eager: false, ..MemWalOptions::default() }, StoreOptions::default());
    let log = world.create(Durability::Fsync);
    for n in 0..10i64 {
        let new = NewBatch { max_event_time_ms: Some(500 * n), ..batch(10, &[0; 100]) };
        world.change(&log, |l| {
            l.append_at(l.core().end(), 1000 * n, new.clone());
        });
        world.settle();
    }
    (world, log)
}

fn nothing() -> Keep {
    Keep { since_ms: None, time: TimeOf::Append, bytes: None, records: None }
}

fn check(log: &Arc<Log<Notes>>, keep: Keep, expected: u64) {
    assert_eq!(log.with(|core, _| core.retention_point(keep)), Offset(expected), "{keep:?}");
}

#[test]
fn retention_by_time_spares_what_is_as_old_as_the_bound() {
    let (_world, log) = ten_by_ten();
    check(&log, Keep { since_ms: Some(3000), ..nothing() }, 30);
    check(&log, Keep { since_ms: Some(3001), ..nothing() }, 40);
    check(&log, Keep { since_ms: Some(i64::MAX), ..nothing() }, 100);
    check(&log, Keep { since_ms: Some(3000), time: TimeOf::Event, ..nothing() }, 60);
    check(&log, nothing(), 0);
}

#[test]
fn retention_by_bytes_never_leaves_less_than_the_bound() {
    let (_world, log) = ten_by_ten();
    let total = log.with(|core, _| core.bytes());
    check(&log, Keep { bytes: Some(total), ..nothing() }, 0);
    check(&log, Keep { bytes: Some(total - 1), ..nothing() }, 0);
    check(&log, Keep { bytes: Some(total / 10 * 3), ..nothing() }, 70);
    check(&log, Keep { bytes: Some(0), ..nothing() }, 100);
}

#[test]
fn retention_by_count_is_exact_also_with_holes() {
    let (world, log) = ten_by_ten();
    check(&log, Keep { records: Some(100), ..nothing() }, 0);
    check(&log, Keep { records: Some(99), ..nothing() }, 1);
    check(&log, Keep { records: Some(25), ..nothing() }, 75);
    world.change(&log, |l| l.drop_offsets(vec![Offset(70)..Offset(74), Offset(80)..Offset(90)]));
    check(&log, Keep { records: Some(15), ..nothing() }, 75);
    check(&log, Keep { records: Some(0), ..nothing() }, 100);
}

#[test]
fn a_time_is_found_in_the_batch_that_first_reaches_it() {
    let (world, log) = ten_by_ten();
    let find = |at_ms, of| {
        let found = world.store.search_time_blocking(&log, at_ms, of, Upto::Durable).unwrap();
        found.map(|found| found.batch.base.0)
    };
    assert_eq!(find(i64::MIN, TimeOf::Append), Some(0));
    assert_eq!(find(2999, TimeOf::Append), Some(30));
    assert_eq!(find(3000, TimeOf::Append), Some(30));
    assert_eq!(find(3001, TimeOf::Append), Some(40));
    assert_eq!(find(9001, TimeOf::Append), None);
    assert_eq!(find(4500, TimeOf::Event), Some(90));
    assert_eq!(find(4501, TimeOf::Event), None);
    world.store.checkpoint(true).unwrap();
    assert_eq!(find(3001, TimeOf::Append), Some(40));
}

#[test]
fn bytes_from_an_offset_count_a_cut_stretch_in_proportion() {
    let (_world, log) = ten_by_ten();
    let (all, half, none) =
        log.with(|core, _| (core.bytes(), core.bytes_from(Offset(50)), core.bytes_from(Offset(100))));
    assert!(half.abs_diff(all / 2) < 10 && none == 0, "{half} of {all}");
    let (from, ten) = log.with(|core, _| (core.bytes_from(Offset(45)), core.bytes_from(Offset(90))));
    assert!(from.abs_diff(half + ten / 2) < 5);
    assert_eq!(log.with(|core, _| core.latest_time_ms(TimeOf::Event)), Some(4500));
    assert_eq!(log.with(|core, _| core.latest_time_ms(TimeOf::Append)), Some(9000));
}

#[test]
fn bytes_from_an_offset_count_the_live_records_of_a_stretch() {
    let (world, log) = ten_by_ten();
    world.change(&log, |l| l.trim(Offset(8)));
    world.change(&log, |l| l.drop_offsets(vec![Offset(11)..Offset(17)]));
    world.settle();
    let (all, from) =
        log.with(|core, _| (core.bytes(), [0, 8, 9, 10, 17].map(|at| core.bytes_from(Offset(at)))));
    let [start, trimmed, one, rest, three] = from;
    assert_eq!((start, trimmed), (all, all));
    assert_eq!(trimmed - one, one - rest, "two are left of the first ten");
    let (four, tens) = (rest - three, log.with(|core, _| core.bytes_from(Offset(20))));
    assert!((three - tens).abs_diff(four * 3) <= 2, "{four} {three} {tens}");
}

#[test]
fn records_are_counted_and_offsets_without_one_are_not() {
    let (world, log) = ten_by_ten();
    let count = |range: std::ops::Range<u64>| {
        log.with(|core, _| core.records_in(Offset(range.start)..Offset(range.end)))
    };
    assert_eq!((count(0..100), count(5..95), count(95..1_000), count(100..200)), (100, 90, 5, 0));
    world.change(&log, |l| l.drop_offsets(vec![Offset(70)..Offset(74), Offset(80)..Offset(90)]));
    world.settle();
    assert_eq!((count(0..100), count(65..100), count(72..76), count(80..90)), (86, 21, 2, 0));
    world.change(&log, |l| l.trim(Offset(71)));
    world.settle();
    assert_eq!((count(0..100), count(0..75)), (16, 1));
    let first = |from| log.with(|core, _| core.first_from(Offset(from)));
    assert_eq!(
        (first(0), first(82), first(95), first(100)),
        (Some(Offset(74)), Some(Offset(90)), Some(Offset(95)), None)
    );
}
