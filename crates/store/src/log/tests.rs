use model::Offset;

use crate::{
    Durability, StoreOptions,
    mem::MemWalOptions,
    testing::{World, batch},
};

fn eager() -> World {
    World::new(MemWalOptions::default(), StoreOptions::default())
}

fn lazy() -> World {
    World::new(MemWalOptions { eager: false, ..MemWalOptions::default() }, StoreOptions::default())
}

fn range(from: u64, to: u64) -> std::ops::Range<Offset> {
    Offset(from)..Offset(to)
}

#[test]
fn a_record_is_readable_once_its_unit_is_durable_and_not_before() {
    let world = lazy();
    let log = world.create(Durability::Fsync);
    world.settle();
    let seq = world.append(&log, 3, b"abc");
    assert_eq!((log.bounds().end, log.bounds().durable_end), (Offset(3), Offset(0)));
    assert!(world.live(&log).is_empty());
    assert!(world.store.durable() < seq);
    world.settle();
    assert_eq!(world.store.durable(), seq);
    assert_eq!(world.live(&log), [0, 1, 2]);
    assert_eq!(&world.read(&log, 1).batches[0].batch.body[..], b"abc");
}

#[test]
fn a_volatile_record_does_not_overtake_a_persistent_one_before_it() {
    let world = lazy();
    let log = world.create(Durability::Fsync);
    world.append_volatile(&log, 1, b"opens the reservation");
    world.settle();
    world.append(&log, 1, b"persistent");
    world.append_volatile(&log, 1, b"volatile");
    assert_eq!(world.live(&log), [0]);
    world.settle();
    assert_eq!(world.live(&log), [0, 1, 2]);
    world.append_volatile(&log, 1, b"alone: readable at once");
    assert_eq!(world.live(&log), [0, 1, 2, 3]);
}

#[test]
fn the_first_volatile_record_waits_for_its_reservation() {
    let world = lazy();
    let log = world.create(Durability::Fsync);
    world.settle();
    world.append_volatile(&log, 1, b"v");
    assert!(world.live(&log).is_empty());
    world.settle();
    assert_eq!(world.live(&log), [0]);
    assert!(log.with(|core, _| core.reserved_end()) >= Offset(65_536));
}

#[test]
fn a_log_goes_on_above_everything_a_crash_may_have_taken_back() {
    let world = eager();
    let log = world.create(Durability::Memory);
    let id = log.id();
    world.settle();
    for _ in 0..10 {
        world.append(&log, 10_000, b"v");
        world.settle();
    }
    assert_eq!(log.bounds().durable_end, Offset(100_000));
    let epoch = log.with(|core, _| core.epoch());
    drop(log);
    let world = world.crash();
    let log = world.log(id);
    assert!(log.bounds().end >= Offset(100_000));
    assert!(log.with(|core, _| core.epoch()) > epoch);
    assert!(world.live(&log).is_empty());
    assert_eq!(world.recovery.skipped_logs, 1);
    let end = log.bounds().end;
    world.append(&log, 1, b"later");
    world.settle();
    assert_eq!(world.live(&log), [end.0]);
    drop(log);
    let world = world.crash();
    assert!(world.log(id).bounds().end > end);
}

#[test]
fn dropped_records_are_masked_and_a_dropped_prefix_moves_the_start() {
    let world = eager();
    let log = world.create(Durability::Fsync);
    world.append(&log, 5, b"first");
    world.append(&log, 5, b"second");
    world.settle();
    world.change(&log, |l| l.drop_offsets(vec![range(1, 3), range(7, 8)]));
    assert_eq!(world.live(&log), [0, 3, 4, 5, 6, 8, 9]);
    assert_eq!(log.with(|core, _| core.records()), 7);
    world.change(&log, |l| l.drop_offsets(vec![range(0, 1)]));
    assert_eq!(log.bounds().start, Offset(3));
    world.change(&log, |l| l.drop_offsets(vec![range(3, 7), range(8, 100)]));
    assert_eq!(log.bounds().start, Offset(10));
    assert_eq!(log.with(|core, _| (core.records(), core.bytes())), (0, 0));
    assert_eq!(world.read(&log, 0).next, Offset(10));
}

#[test]
fn records_may_be_dropped_before_they_are_durable() {
    let world = lazy();
    let log = world.create(Durability::Fsync);
    world.append(&log, 4, b"x");
    world.change(&log, |l| l.drop_offsets(vec![range(0, 1), range(2, 3)]));
    world.append(&log, 2, b"y");
    world.change(&log, |l| l.drop_offsets(vec![range(4, 6)]));
    world.settle();
    assert_eq!(world.live(&log), [1, 3]);
    assert_eq!(log.with(|core, _| core.live.extents().len()), 1);
}

#[test]
fn an_advance_is_a_gap_that_readers_step_over_once_it_is_durable() {
    let world = lazy();
    let log = world.create(Durability::Fsync);
    world.append(&log, 1, b"x");
    world.change(&log, |l| l.advance(Offset(100)));
    world.append(&log, 1, b"y");
    assert_eq!(log.bounds().durable_end, Offset(0));
    world.settle();
    assert_eq!(world.live(&log), [0, 100]);
    world.change(&log, |l| {
        l.append_at(Offset(500), 7, batch(2, b"z"));
    });
    world.settle();
    assert_eq!(world.live(&log), [0, 100, 500, 501]);
    assert_eq!(world.read(&log, 200).batches[0].batch.base, Offset(500));
}

#[test]
fn append_time_never_goes_back() {
    let world = eager();
    let log = world.create(Durability::Fsync);
    world.change(&log, |l| {
        let first = l.append_at(Offset(0), i64::MAX - 1, batch(1, b"x"));
        assert_eq!(l.append(batch(1, b"y")).append_time_ms, first.append_time_ms);
    });
}

#[test]
fn a_deleted_log_is_closed_to_readers_and_its_id_is_not_given_again() {
    let world = eager();
    let log = world.create(Durability::Fsync);
    world.append(&log, 1, b"x");
    world.settle();
    let moved = log.with(|_, notes| notes.moved);
    world.change(&log, |l| l.delete());
    assert!(log.with(|_, notes| notes.moved) > moved);
    assert!(world.store.log(log.id()).is_none());
    let closed = world.store.read_blocking(&log, Offset(0), Default::default(), Default::default());
    assert_eq!(closed.unwrap_err().kind(), model::ErrorKind::Closed);
    world.append(&log, 1, b"ignored");
    let id = log.id();
    drop(log);
    let world = world.crash();
    assert!(world.store.log(id).is_none());
    assert!(world.store.next_log_id() > id);
}

#[test]
fn notes_and_commands_come_back_in_order_after_a_crash() {
    let world = eager();
    let log = world.create(Durability::Fsync);
    for i in 0..10u8 {
        world.change(&log, |l| l.note(vec![i].into()));
        let permit = world.store.reserve(1, crate::Class::Drain).unwrap();
        world.store.command(permit, vec![i].into(), |_| {});
    }
    let id = log.id();
    drop(log);
    let world = world.crash();
    let expected: Vec<bytes::Bytes> = (0..10u8).map(|i| vec![i].into()).collect();
    assert_eq!(world.log(id).with(|_, notes| notes.notes.clone()), expected);
    assert_eq!(world.catalog.0.lock().1, expected);
}

#[test]
fn readers_of_settled_records_stop_at_the_first_open_transaction() {
    let world = eager();
    let log = world.create(Durability::Fsync);
    for _ in 0..3 {
        world.append(&log, 2, b"x");
    }
    world.settle();
    world.change(&log, |l| l.attached().limit = Some(Offset(4)));
    assert_eq!(world.live(&log), [0, 1, 2, 3]);
    assert_eq!(log.bounds().durable_end, Offset(6));
}

#[test]
fn what_was_staged_is_committed_even_if_the_caller_forgets_to() {
    let world = eager();
    let log = world.create(Durability::Fsync);
    {
        let mut locked = world.store.lock(&[&log, &log]);
        locked.log(log.id()).unwrap().append(batch(1, b"x"));
    }
    world.settle();
    assert_eq!(world.live(&log), [0]);
}

#[test]
fn an_idle_log_takes_less_than_a_kibibyte() {
    let per_log = size_of::<crate::Log<()>>() + 2 * size_of::<(model::LogId, usize)>() + 16;
    println!("an idle log: {per_log} bytes");
    assert!(per_log < 600, "{per_log}");
}

#[test]
fn gaps_are_what_was_never_stored_or_is_dropped_and_runs_come_whole() {
    let world = eager();
    let log = world.create(Durability::Fsync);
    world.append(&log, 10, b"abc");
    world.change(&log, |log| log.advance(Offset(15)));
    world.append(&log, 5, b"abc");
    world.settle();
    world.change(&log, |log| log.drop_offsets(vec![range(0, 1), range(3, 5), range(8, 10)]));
    world.settle();
    let gaps = |from: u64, to: u64| {
        let (mut found, mut at) = (Vec::new(), Offset(from));
        while let Some(gap) = log.with(|core, _| core.first_gap(at..Offset(to))) {
            at = gap.end;
            found.push((gap.start.0, gap.end.0));
        }
        found
    };
    assert_eq!(gaps(0, 20), [(0, 1), (3, 5), (8, 10), (10, 15)]);
    assert_eq!(gaps(4, 9), [(4, 5), (8, 9)]);
    assert_eq!(gaps(15, 100), []);
}

#[test]
fn the_next_records_are_counted_over_gaps_and_also_where_they_are_staged() {
    let world = lazy();
    let log = world.create(Durability::Fsync);
    world.append(&log, 4, b"abc");
    world.settle();
    world.append(&log, 4, b"abc");
    world.change(&log, |log| log.advance(Offset(10)));
    world.append(&log, 2, b"abc");
    world.change(&log, |log| log.drop_offsets(vec![range(1, 3), range(5, 7)]));
    // There: 0, 3, 4, 7, 10, 11; durable: 0 to 3.
    let next = |from: u64, count: u64| log.with(|core, _| core.end_of_next(Offset(from), count).0);
    assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(|count| next(0, count)), [0, 1, 4, 5, 8, 11, 12, 12]);
    assert_eq!([1, 5, 8].map(|from| next(from, 1)), [4, 8, 11]);
    assert_eq!(next(12, 1), 12);
}
