mod damage;

use std::sync::Arc;

use model::{Error, ErrorKind, Offset};

use crate::{
    Annex, Class, Durability, Log, Read, ReadLimits, StoreOptions, Upto, annex,
    conformance::wal::Woken,
    mem::MemWalOptions,
    testing::{Notes, World},
};

fn world(file_len: u64, options: StoreOptions) -> World {
    World::new(MemWalOptions { eager: false, file_len, tail: false }, options)
}

fn segments(world: &World) -> usize {
    world.store.stats().unwrap().segments.len()
}

fn wal_files(world: &World) -> Vec<u64> {
    world.store.stats().unwrap().wal_files.iter().map(|info| info.file).collect()
}

/// Appends `commits` commits of one batch each.
fn fill(world: &World, log: &Arc<Log<Notes>>, commits: u32, body_len: usize) {
    for n in 0..commits {
        world.append(log, 2, &vec![n as u8; body_len]);
        world.settle();
    }
}

/// Makes two checkpoints, after which files that only older ones need are gone.
fn flush(world: &World) {
    assert!(world.store.checkpoint(true).unwrap());
    assert!(world.store.checkpoint(true).unwrap());
}

#[test]
fn short_runs_are_copied_together_and_their_files_given_back() {
    let world = world(2_000, StoreOptions::default());
    let (a, b) = (world.create(Durability::Fsync), world.create(Durability::Fsync));
    for _ in 0..20 {
        fill(&world, &a, 1, 100);
        fill(&world, &b, 1, 100);
    }
    let before = wal_files(&world);
    let expected = (world.live(&a), world.live(&b));
    flush(&world);
    assert_eq!(segments(&world), 1);
    assert_eq!(wal_files(&world), before[before.len() - 1..]);
    let extents = a.with(|core, _| core.live.extents().len());
    assert!(extents < 6, "{extents} extents are left of twenty");
    assert_eq!((world.live(&a), world.live(&b)), expected);
    let (a, b) = (a.id(), b.id());
    let world = world.crash();
    assert_eq!((world.live(&world.log(a)), world.live(&world.log(b))), expected);
    assert!(world.recovery.replayed_units < 3);
}

#[test]
fn long_runs_stay_where_they_were_written_and_their_file_becomes_a_segment() {
    let world = world(300_000, StoreOptions::default());
    let (big, small) = (world.create(Durability::Fsync), world.create(Durability::Fsync));
    for _ in 0..8 {
        for _ in 0..10 {
            world.append(&big, 2, &[1; 10_000]);
        }
        world.append(&small, 2, &[2; 100]);
        world.settle();
    }
    let before = wal_files(&world);
    flush(&world);
    assert_eq!(wal_files(&world), before, "no file is written twice");
    let (in_footer, _) = big.with(|core, _| {
        let all = core.live.extents().len();
        (core.live.extents().iter().filter(|e| e.index == crate::log::live::Index::Footer).count(), all)
    });
    assert!(in_footer >= 3, "{in_footer}");
    let limits = ReadLimits { bytes: 15_000, records: 100 };
    let chunk = world.store.read_blocking(&big, Offset(31), limits, Upto::Stable).unwrap();
    assert_eq!(chunk.batches[0].batch.base, Offset(30));
    assert_eq!((world.live(&big).len(), world.live(&small).len()), (160, 16));
    let (big, small) = (big.id(), small.id());
    let world = world.crash();
    assert_eq!((world.live(&world.log(big)).len(), world.live(&world.log(small)).len()), (160, 16));
}

#[test]
fn records_that_died_before_the_flush_are_never_copied() {
    let world = world(2_000, StoreOptions::default());
    let log = world.create(Durability::Fsync);
    fill(&world, &log, 40, 100);
    let end = log.bounds().end;
    world.change(&log, |l| l.drop_offsets(vec![Offset(0)..end]));
    world.settle();
    flush(&world);
    assert_eq!(segments(&world), 0);
    assert_eq!(wal_files(&world).len(), 1);
}

#[test]
fn a_segment_of_which_less_than_half_lives_is_copied_and_removed() {
    let world = world(2_000, StoreOptions::default());
    let log = world.create(Durability::Fsync);
    fill(&world, &log, 40, 100);
    flush(&world);
    let before = world.store.stats().unwrap().segments;
    world.change(&log, |l| l.drop_offsets(vec![Offset(2)..Offset(60)]));
    let expected = world.live(&log);
    world.append(&log, 1, b"so that there is something to cover");
    world.settle();
    flush(&world);
    let after = world.store.stats().unwrap().segments;
    assert_eq!(after.len(), 1);
    assert!(after[0].0 > before[0].0 && after[0].1 < before[0].1 / 2, "{before:?} {after:?}");
    assert_eq!(world.live(&log)[..expected.len()], expected);
}

#[test]
fn small_segments_merge_once_there_are_enough_of_them() {
    let world = world(500, StoreOptions { merge_count: 4, ..StoreOptions::default() });
    let log = world.create(Durability::Fsync);
    let mut most = 0;
    for _ in 0..12 {
        fill(&world, &log, 8, 100);
        flush(&world);
        most = most.max(segments(&world));
    }
    assert!((3..=6).contains(&most), "{most}");
    assert_eq!(world.live(&log).len(), 12 * 8 * 2);
}

#[test]
fn a_read_that_was_planned_before_a_flush_follows_its_data() {
    let world = world(2_000, StoreOptions::default());
    let log = world.create(Durability::Fsync);
    fill(&world, &log, 40, 100);
    let Read::Cold(cold) = world.store.read(&log, Offset(0), ReadLimits::default(), Upto::Stable).unwrap()
    else {
        panic!("nothing is in memory");
    };
    flush(&world);
    let chunk = cold.run().unwrap();
    assert_eq!(chunk.batches.len(), 40);
    assert!(chunk.lost.is_empty());
}

#[test]
fn a_damaged_extent_is_set_aside_and_the_rest_is_served() {
    let world =
        world(500, StoreOptions { segment_len: 400, own_segment_len: 400, ..StoreOptions::default() });
    let log = world.create(Durability::Fsync);
    fill(&world, &log, 20, 100);
    flush(&world);
    let names: Vec<String> =
        world.store.stats().unwrap().segments.into_iter().map(|(name, _)| name).collect();
    world.blobs.damage(&names[1], 60);
    let id = log.id();
    drop(log);
    let world = world.crash();
    let log = world.log(id);
    let chunk = world.read(&log, 0);
    assert_eq!(chunk.lost.len(), 1);
    let lost = chunk.lost[0].clone();
    let live = world.live(&log);
    assert_eq!(live.len() as u64, 40 - lost.end.since(lost.start));
    assert!(!live.contains(&lost.start.0));
    assert_eq!(world.store.damaged(), [(log.id(), lost.clone())]);
    // Nor is its file removed by what follows, or forgotten by a restart.
    world.append(&log, 1, b"more");
    world.settle();
    flush(&world);
    assert!(world.store.stats().unwrap().segments.iter().any(|(name, _)| *name == names[1]));
    let world = world.crash();
    assert_eq!(world.recovery.damaged, [(id, lost)]);
}

#[test]
fn publishers_wait_while_the_log_is_too_far_ahead_and_drains_go_on() {
    let world = world(
        1 << 20,
        StoreOptions {
            unflushed_len_max: 10_000,
            unflushed_entries_max: 1_000_000,
            ..StoreOptions::default()
        },
    );
    let log = world.create(Durability::Fsync);
    world.settle();
    let before = world.store.stats().unwrap().checkpoints;
    for _ in 0..30 {
        world.append(&log, 1, &[0; 400]); // Drains are never refused; the flusher does not get to run.
        world.wal.commit();
        while world.store.0.applier.lock().step(&world.store.0) {}
    }
    let refused = world.store.reserve(1, Class::Publish).err().map(|e: Error| e.kind());
    assert_eq!(refused, Some(ErrorKind::Throttled));
    assert!(world.store.reserve(1, Class::Drain).is_ok());
    world.settle();
    assert!(world.store.stats().unwrap().checkpoints > before);
    assert!(world.store.reserve(1, Class::Publish).is_ok());
}

#[test]
fn nobody_waits_for_the_copying_until_it_is_far_behind() {
    const BOUND: u64 = 40_000;
    let options = StoreOptions {
        unflushed_len_max: BOUND,
        unflushed_entries_max: 1_000_000,
        segment_len: 2_000,
        own_segment_len: 2_000,
        merge_count: usize::MAX,
        ..StoreOptions::default()
    };
    let world = world(4_000, options);
    let log = world.create(Durability::Fsync);
    world.settle();
    // Twice as much comes as is copied.
    let step = || {
        fill_unflushed(&world, &log, 4_000);
        world.store.0.flusher.lock().step(&world.store.0);
    };
    let refused = || world.store.reserve(1, Class::Publish).is_err();
    let log_len = || world.store.stats().unwrap().wal_files.iter().map(|info| info.len).sum::<u64>();
    while !refused() {
        step();
        assert!(log_len() < 6 * BOUND, "in the end they do wait");
    }
    assert!(log_len() >= 4 * BOUND, "refused with {} bytes in the log's files", log_len());
    let end = log.bounds().end.0;
    world.settle();
    assert!(!refused());
    assert!(flushed(&world) && world.live(&log).len() as u64 == end);
    let id = log.id();
    assert_eq!(world.crash().log(id).bounds().end.0, end);
}

#[test]
fn a_checkpoint_that_is_asked_for_is_over_when_its_pass_is() {
    let options = StoreOptions {
        unflushed_len_max: 40_000,
        segment_len: 2_000,
        own_segment_len: 2_000,
        ..StoreOptions::default()
    };
    let world = world(4_000, options);
    let log = world.create(Durability::Fsync);
    world.settle();
    for _ in 0..9 {
        fill_unflushed(&world, &log, 4_000);
    }
    let before = world.store.stats().unwrap().checkpoints;
    assert!(world.store.checkpoint(true).unwrap());
    assert_eq!(world.store.stats().unwrap().checkpoints - before, 2, "one in its middle");
    assert!(world.store.0.flusher.lock().is_idle());
}

/// Appends `len` bytes in one commit; the flusher does not get to run.
fn fill_unflushed(world: &World, log: &Arc<Log<Notes>>, len: usize) {
    for _ in 0..4 {
        world.append(log, 1, &vec![0; len / 4]);
    }
    world.wal.commit();
    while world.store.0.applier.lock().step(&world.store.0) {}
}

/// Whether nothing that is sealed is still to be copied.
fn flushed(world: &World) -> bool {
    flush(world);
    wal_files(world).len() <= 1
}

#[test]
fn a_pass_copies_no_more_than_the_bound_at_a_time_and_goes_on() {
    let options = StoreOptions { unflushed_len_max: 10_000, ..StoreOptions::default() };
    let world = world(2_000, options);
    let log = world.create(Durability::Fsync);
    world.settle();
    for _ in 0..10 {
        fill_unflushed(&world, &log, 4_000);
    }
    let mut most = 0;
    while world.store.0.flusher.lock().step(&world.store.0) == env::Next::Again {
        let written = world.store.stats().unwrap().segments.iter().map(|(_, len)| *len).sum::<u64>();
        let held = world.store.stats().unwrap().wal_files.iter().map(|info| info.len).sum::<u64>();
        most = most.max(written + held);
    }
    assert!(most < 40_000 + 4 * 10_000, "{most} bytes at a time");
    assert!(segments(&world) >= 3 && wal_files(&world).len() < 8, "{:?}", wal_files(&world));
}

/// So many logs, each of which has got a short record `rounds` times, in turn.
fn fill_in_turn(world: &World, logs: &[Arc<Log<Notes>>], rounds: u32) {
    for round in 0..rounds {
        for log in logs {
            fill(world, log, 1, 20 + round as usize % 3);
        }
    }
}

fn extents(world: &World) -> u64 {
    world.store.stats().unwrap().extents
}

#[test]
fn extents_are_bounded_while_all_that_comes_lies_in_the_file_being_written() {
    const EXTENTS_MAX: u64 = 100;
    let world = world(1 << 30, StoreOptions { extents_max: EXTENTS_MAX, ..StoreOptions::default() });
    let logs: Vec<_> = (0..10).map(|_| world.create(Durability::Fsync)).collect();
    let mut most = 0;
    for _ in 0..200 {
        fill_in_turn(&world, &logs, 1);
        most = most.max(extents(&world));
    }
    assert_eq!(wal_files(&world).len(), 1);
    // What one flush leaves is an extent of each log and segment.
    assert!(most <= EXTENTS_MAX + 10 * segments(&world) as u64, "{most} extents");
    assert!(segments(&world) < 20, "{} segments", segments(&world));
    let ids: Vec<_> = logs.iter().map(|log| log.id()).collect();
    drop(logs);
    let world = world.crash();
    for id in ids {
        assert_eq!(world.live(&world.log(id)), (0..400).collect::<Vec<u64>>());
    }
}

#[test]
fn publishers_wait_while_too_many_extents_came_and_are_told_of_the_flush() {
    let world = world(1 << 30, StoreOptions { extents_max: 20, ..StoreOptions::default() });
    let log = world.create(Durability::Fsync);
    world.settle();
    let refused = || world.store.reserve(1, Class::Publish).err().map(|e: Error| e.kind());
    for _ in 0..20 {
        assert_eq!(refused(), None);
        fill_unflushed(&world, &log, 40);
    }
    assert_eq!(refused(), Some(ErrorKind::Throttled));
    assert!(world.store.reserve(1, Class::Drain).is_ok());
    let told = Arc::new(Woken::default());
    world.store.wake_on_room(Class::Publish, &told.clone().into());
    let drains = Arc::new(Woken::default());
    world.store.wake_on_room(Class::Drain, &drains.clone().into());
    assert_eq!((told.count(), drains.count()), (0, 1), "the queue is empty, and these wait for nothing else");
    world.settle();
    assert_eq!(told.count(), 1);
    assert_eq!((refused(), extents(&world)), (None, 1));
}

#[test]
fn a_start_refuses_nobody_for_what_a_flush_had_left_or_a_flush_would_leave() {
    let options = StoreOptions { extents_max: 20, run_kept_len: 300, ..StoreOptions::default() };
    let world = world(2_000, options);
    let log = world.create(Durability::Fsync);
    fill(&world, &log, 30, 500);
    flush(&world);
    fill(&world, &log, 30, 500);
    let refused = |world: &World| world.store.reserve(1, Class::Publish).is_err();
    assert!(extents(&world) >= 60 && !refused(&world), "long runs stay");
    let id = log.id();
    drop(log);
    let world = world.crash_unstepped().unwrap();
    assert!(extents(&world) >= 60 && !refused(&world), "before anything is flushed");
    // What came since the last flush counts, and the next one ends it.
    let log = world.log(id);
    for _ in 0..20 {
        fill_unflushed(&world, &log, 40);
    }
    assert!(refused(&world));
    drop(log);
    let world = world.crash_unstepped().unwrap();
    assert!(refused(&world));
    world.hands.run();
    assert!(!refused(&world));
}

#[test]
fn dropped_records_make_room_for_extents_too() {
    let world = world(1 << 30, StoreOptions { extents_max: 20, ..StoreOptions::default() });
    let log = world.create(Durability::Fsync);
    world.settle();
    for _ in 0..20 {
        fill_unflushed(&world, &log, 40);
    }
    assert!(world.store.reserve(1, Class::Publish).is_err());
    world.change(&log, |l| l.drop_offsets(vec![Offset(0)..Offset(8)]));
    assert!(world.store.reserve(1, Class::Publish).is_ok());
}

#[test]
fn layers_of_short_extents_are_merged_so_that_their_number_grows_slower_than_what_is_stored() {
    let options = StoreOptions {
        extents_max: 160,
        merge_count: usize::MAX,
        merge_len_max: 0,
        ..StoreOptions::default()
    };
    let world = world(1 << 30, options);
    let logs: Vec<_> = (0..10).map(|_| world.create(Durability::Fsync)).collect();
    let mut flushed = 0;
    for _ in 0..100 {
        fill_in_turn(&world, &logs, 10);
        flush(&world);
        flushed = extents(&world);
    }
    let written = world.store.stats().unwrap().segments_written;
    assert!(flushed < 10 * 20, "{flushed} extents of a hundred flushes of ten logs");
    assert!(written < 160, "{written} segments written");
    for log in &logs {
        assert_eq!(world.live(log).len(), 2_000);
    }
}

#[test]
fn a_segment_is_copied_in_parts_and_is_there_once_it_is_whole() {
    let options = StoreOptions { copied_part_len: 500, ..StoreOptions::default() };
    let world = world(2_000, options);
    let log = world.create(Durability::Fsync);
    fill(&world, &log, 40, 100);
    let step = || world.store.0.flusher.lock().step(&world.store.0);
    let given_up = || {
        world.store.0.flusher.lock().force(&world.store.0, true);
        (0..4).for_each(|_| assert_eq!(step(), env::Next::Again));
        assert_eq!((segments(&world), world.live(&log).len()), (0, 80), "it is still where it was");
        world.store.0.flusher.lock().reset();
    };
    given_up();
    world.store.0.flusher.lock().force(&world.store.0, true);
    (0..4).for_each(|_| assert_eq!(step(), env::Next::Again));
    world.change(&log, |l| l.drop_offsets(vec![Offset(0)..Offset(3), Offset(50)..Offset(60)]));
    fill(&world, &log, 1, 100);
    let expected = world.live(&log);
    assert_eq!(expected.len(), 82 - 13);
    while !world.store.0.flusher.lock().is_idle() {
        step();
    }
    assert_eq!(segments(&world), 1);
    assert_eq!(world.live(&log), expected, "what was dropped meanwhile stays dropped");
    let id = log.id();
    let world = world.crash();
    assert_eq!(world.live(&world.log(id)), expected);
}

#[test]
fn what_is_copied_in_short_pieces_is_asked_of_the_machine_in_long_stretches_once_each() {
    let world = world(4_000_000, StoreOptions::default());
    let logs: Vec<_> = (0..8).map(|_| world.create(Durability::Fsync)).collect();
    while wal_files(&world).len() < 2 {
        for log in &logs {
            world.append(log, 1, &[7; 5_000]);
        }
        world.settle();
    }
    drop(world.wal.take_hints());
    flush(&world);
    assert!(segments(&world) > 0);
    let hints = world.wal.take_hints();
    // 800 pieces, log by log: 4 MB.
    let mut places: Vec<u64> = hints.iter().map(|(at, _)| *at).collect();
    assert_eq!(
        places,
        (0..8).map(|n| n << 19).collect::<Vec<u64>>(),
        "in the order in which they are needed"
    );
    places.dedup();
    assert_eq!(places.len(), hints.len());
    assert!(hints.iter().all(|(_, len)| *len == 512 << 10));
}

#[test]
fn a_checkpoint_is_not_put_in_place_before_what_it_holds_is_durable() {
    let world = world(1 << 20, StoreOptions::default());
    let log = world.create(Durability::Fsync);
    world.settle();
    world.append(&log, 1, b"staged");
    assert!(!world.store.checkpoint(true).unwrap());
    assert!(crate::checkpoint::list(&world.blobs).unwrap().is_empty());
    world.settle();
    assert_eq!(crate::checkpoint::list(&world.blobs).unwrap().len(), 1);
}

#[test]
fn a_checkpoint_without_a_log_is_not_put_in_place_before_the_log_is_gone_for_good() {
    let world = world(1 << 20, StoreOptions::default());
    let id = world.create(Durability::Fsync).id();
    world.settle();
    assert!(world.store.checkpoint(true).unwrap());
    world.change(&world.log(id), |locked| locked.delete());
    assert!(!world.store.checkpoint(true).unwrap());
    assert_eq!(crate::checkpoint::list(&world.blobs).unwrap().len(), 1);
    let world = world.crash();
    assert!(world.store.log(id).is_some(), "nobody has heard that it is deleted");
}

#[test]
fn two_checkpoints_are_kept() {
    let world = world(1_000, StoreOptions::default());
    let log = world.create(Durability::Fsync);
    for _ in 0..5 {
        fill(&world, &log, 10, 100);
        assert!(world.store.checkpoint(true).unwrap());
    }
    assert_eq!(crate::checkpoint::list(&world.blobs).unwrap(), [4, 5]);
}

#[test]
fn what_an_unfinished_flush_left_is_removed_and_what_an_unreadable_checkpoint_names_is_not() {
    let world = world(1_000, StoreOptions::default());
    let log = world.create(Durability::Fsync);
    fill(&world, &log, 10, 100);
    let orphan = crate::files::segment_name(1);
    crate::blobs::Blobs::put(&world.blobs, &orphan, &mut std::iter::once(Ok("left over".into()))).unwrap();
    let id = log.id();
    let world = world.crash();
    fill(&world, &world.log(id), 10, 100);
    flush(&world);
    flush(&world);
    assert!(!world.store.stats().unwrap().segments.iter().any(|(name, _)| *name == orphan));
    let files = (world.store.stats().unwrap().segments, wal_files(&world));
    let newest = *crate::checkpoint::list(&world.blobs).unwrap().last().unwrap();
    world.blobs.damage(&crate::checkpoint::name(newest), 30);
    let world = world.crash();
    assert_eq!(world.recovery.damaged_checkpoints, [newest]);
    assert_eq!(world.live(&world.log(id)).len(), 40);
    fill(&world, &world.log(id), 10, 100);
    for _ in 0..3 {
        flush(&world);
    }
    let after = world.store.stats().unwrap().segments;
    assert!(files.0.iter().all(|(name, _)| after.iter().any(|(kept, _)| kept == name)));
    assert!(files.1.iter().all(|file| wal_files(&world).contains(file)));
}

#[test]
fn an_annex_is_written_once_and_stays_as_long_as_one_of_two_checkpoints_names_it() {
    let world = world(1_000, StoreOptions::default());
    let log = world.create(Durability::Fsync);
    let annexes = |world: &World| annex::list(&world.blobs).unwrap();
    let (first, second) = (Annex::new("first"), Annex::new("second"));
    fill(&world, &log, 1, 100);
    log.with(|_, notes| notes.sealed = vec![first.clone()]);
    flush(&world);
    let [of_first] = annexes(&world)[..] else { panic!("{:?}", annexes(&world)) };
    log.with(|_, notes| notes.sealed.push(second.clone()));
    flush(&world);
    let [_, of_second] = annexes(&world)[..] else { panic!("{:?}", annexes(&world)) };
    let id = log.id();

    let world = world.crash();
    assert_eq!(world.log(id).with(|_, notes| notes.sealed.clone()), [first, second]);
    world.log(id).with(|_, notes| drop(notes.sealed.remove(0)));
    for expected in [vec![of_first, of_second], vec![of_second], vec![of_second]] {
        fill(&world, &world.log(id), 1, 100);
        assert!(world.store.checkpoint(true).unwrap());
        assert_eq!(annexes(&world), expected);
    }
}

#[test]
fn what_an_unreadable_checkpoint_names_stays() {
    let world = world(1_000, StoreOptions::default());
    let log = world.create(Durability::Fsync);
    fill(&world, &log, 1, 100);
    flush(&world);
    log.with(|_, notes| notes.sealed = vec![Annex::new("sealed")]);
    assert!(world.store.checkpoint(true).unwrap());
    let sealed = annex::list(&world.blobs).unwrap();
    world.blobs.damage(&annex::name(sealed[0]), 15);
    let id = log.id();
    let world = world.crash();
    assert_eq!(world.recovery.damaged_checkpoints.len(), 1, "this caller cannot do without what is damaged");
    assert!(world.log(id).with(|_, notes| notes.sealed.is_empty()));
    for _ in 0..3 {
        flush(&world);
    }
    assert_eq!(annex::list(&world.blobs).unwrap(), sealed);
}
