//! The engine on disks that fail, or are full, stepped by hand.

use std::{
    ops::Range,
    sync::{Arc, atomic::Ordering},
};

use env::{
    Files,
    testing::{Wrong, faulty_files},
};
use model::{Error, ErrorKind, LogId, Offset};

use crate::{
    Class, Durability, LockedLog, Log, ReadLimits, Recovery, Store, StoreOptions, Upto,
    conformance::Hands,
    log::live::FileId,
    testing::{Commands, Notes, Scratch, batch},
};

/// How long the background work leaves a disk alone that failed it, nanoseconds.
const PAUSE_NS: u64 = crate::flush::RETRY_NS;

struct Disk {
    hands: Arc<Hands>,
    wrong: Arc<Wrong>,
    store: Store<Notes>,
    recovery: Recovery,
    options: StoreOptions,
    files: Arc<dyn Files>,
    scratch: Scratch,
}

impl Disk {
    fn new(options: StoreOptions) -> Disk {
        let (files, wrong) = faulty_files();
        Disk::over(Scratch::new("disk"), files, wrong, options)
    }

    fn over(scratch: Scratch, files: Arc<dyn Files>, wrong: Arc<Wrong>, options: StoreOptions) -> Disk {
        Disk::open(scratch, files, wrong, options, false).map_err(|(error, _)| error).unwrap()
    }

    /// With `mends` as a repair does.
    fn open(
        scratch: Scratch,
        files: Arc<dyn Files>,
        wrong: Arc<Wrong>,
        options: StoreOptions,
        mends: bool,
    ) -> Result<Disk, (Error, Scratch)> {
        let hands = Arc::new(Hands::default());
        let tune = |wal: &mut crate::WalOptions| {
            (wal.file_len, wal.first_file_len, wal.tail_len) = (64 << 10, 16 << 10, 0);
            wal.floor_len = 1 << 20;
            wal.tolerate_damage = mends;
        };
        let env = hands.env(files.clone(), 7);
        match Store::open(env, &scratch.0, options, tune, Arc::new(Commands::default())) {
            Ok((store, recovery)) => {
                hands.run();
                Ok(Disk { hands, wrong, store, recovery, options, files, scratch })
            }
            Err(error) => Err((error, scratch)),
        }
    }

    fn create(&self, durability: Durability) -> Arc<Log<Notes>> {
        let permit = self.store.reserve(0, Class::Drain).unwrap();
        let id = self.store.next_log_id();
        self.store.create_log(permit, id, Offset::ZERO, durability).unwrap().0
    }

    /// A change that nobody refuses, committed; whoever has work has done it.
    fn change(&self, log: &Arc<Log<Notes>>, change: impl FnOnce(&mut LockedLog<'_, Notes>)) {
        let permit = self.store.reserve(0, Class::Drain).unwrap();
        let mut locked = self.store.lock(&[log]);
        change(&mut locked.log(log.id()).unwrap());
        self.store.commit(permit, locked);
        self.hands.run();
    }

    fn fill(&self, log: &Arc<Log<Notes>>, count: u32, len: usize) {
        for _ in 0..count {
            self.change(log, |log| {
                log.append(batch(1, &vec![7; len]));
            });
        }
    }

    fn checkpoints(&self) -> u64 {
        self.store.stats().unwrap().checkpoints
    }
}

impl Disk {
    fn files(&self) -> (usize, usize) {
        let stats = self.store.stats().unwrap();
        (stats.wal_files.len(), stats.segments.len())
    }

    fn is_refused(&self) -> bool {
        self.hands.pass(300_000_000); // the last look at the free space is believed no more
        let refused = self.store.reserve(1, Class::Publish).err();
        assert!(refused.as_ref().is_none_or(|error| error.kind() == ErrorKind::Unavailable), "{refused:?}");
        refused.is_some()
    }

    /// As a kill leaves it.
    fn again(self) -> Disk {
        let Disk { hands, wrong, store, options, files, scratch, .. } = self;
        hands.drop_everything();
        drop(store);
        Disk::over(scratch, files, wrong, options)
    }
}

/// Nothing is flushed for a long time.
fn lazy() -> Disk {
    lazy_past_cache(StoreOptions::default().long_read_len_min)
}

/// The same where reads go past the machine's cache from this length on, bytes.
fn lazy_past_cache(long_read_len_min: u32) -> Disk {
    Disk::new(StoreOptions { unflushed_len_max: 1 << 30, long_read_len_min, ..StoreOptions::default() })
}

/// Through the cache, and past it.
const READS: [u32; 2] = [u32::MAX, 1];

#[test]
fn a_disk_at_its_floor_has_what_is_dead_given_back_once_publishers_are_refused() {
    for is_dead_before in [true, false] {
        let disk = lazy();
        let log = disk.create(Durability::Fsync);
        disk.fill(&log, 100, 3_000);
        assert!(disk.files().0 >= 4, "{:?}", disk.files());
        disk.wrong.free.store(0, Ordering::SeqCst);
        let end = log.bounds().end;
        if is_dead_before {
            disk.change(&log, |log| log.trim(end));
            assert!(disk.is_refused());
        } else {
            assert!(disk.is_refused());
            disk.hands.run();
            disk.change(&log, |log| log.trim(end));
        }
        disk.hands.pass(PAUSE_NS);
        disk.hands.run();
        assert!(disk.files().0 <= 2, "{:?}", disk.files());
        let on_disk = env::real().files.list(&disk.scratch.0.join("wal")).unwrap();
        assert!(on_disk.len() <= 3, "none is kept for reuse: {on_disk:?}");
        // Once more with what is left, which is no help.
        disk.hands.pass(PAUSE_NS);
        disk.hands.run();
        let before = disk.checkpoints();
        for _ in 0..10 {
            assert!(disk.is_refused());
            disk.hands.run();
        }
        assert_eq!(disk.checkpoints(), before, "nothing has died since");
    }
}

#[test]
fn at_the_floor_files_that_are_mostly_dead_go_too_where_those_wholly_dead_do_not_suffice() {
    let disk = lazy();
    let [alone, dying, staying] = [(); 3].map(|()| disk.create(Durability::Fsync));
    disk.fill(&alone, 40, 3_000);
    for _ in 0..30 {
        disk.fill(&dying, 3, 3_000);
        disk.fill(&staying, 1, 3_000);
    }
    let disk_len = || disk.store.stats().unwrap().disk_len();
    let before = disk_len();
    disk.wrong.free.store(0, Ordering::SeqCst);
    disk.change(&alone, |log| log.delete());
    disk.change(&dying, |log| log.delete());
    for _ in 0..3 {
        assert!(disk.is_refused());
        disk.hands.pass(PAUSE_NS);
        disk.hands.run();
    }
    assert!(disk.files().1 > 0, "{:?}", disk.files());
    // A quarter of them lives, and up to two files of 64 KiB are not sealed.
    assert!(disk_len() < 30 * 4_096 + (128 << 10), "{} of {before}", disk_len());
    assert_eq!(disk.read(staying.id()), ((0..30).collect(), vec![]));
}

#[test]
fn giving_files_back_that_failed_is_tried_again_although_nothing_dies_any_more() {
    for is_starved in [true, false] {
        let disk = Disk::new(StoreOptions { unflushed_len_max: 700_000, ..StoreOptions::default() });
        let log = disk.create(Durability::Fsync);
        disk.fill(&log, 80, 3_000);
        *disk.wrong.full_for.lock() = Some("checkpoint-");
        if is_starved {
            disk.wrong.free.store(0, Ordering::SeqCst);
            assert!(disk.is_refused());
        }
        disk.change(&log, |log| log.delete());
        assert!(disk.files().0 >= 4 && disk.checkpoints() == 0, "{:?}", disk.files());
        *disk.wrong.full_for.lock() = None;
        for _ in 0..2 {
            disk.hands.pass(PAUSE_NS);
            disk.hands.run();
        }
        assert!(disk.files().0 <= 2, "{:?}, starved: {is_starved}", disk.files());
    }
}

#[test]
fn a_start_at_the_floor_gives_back_what_had_died_before() {
    let disk = lazy();
    let log = disk.create(Durability::Fsync);
    disk.fill(&log, 100, 3_000);
    let end = log.bounds().end;
    disk.change(&log, |log| log.trim(end));
    drop(log);
    let disk = disk.again();
    assert!(disk.files().0 >= 4, "{:?}", disk.files());
    disk.wrong.free.store(0, Ordering::SeqCst);
    assert!(disk.is_refused());
    disk.hands.run();
    assert!(disk.files().0 <= 3, "{:?}", disk.files());
}

#[test]
fn what_a_deleted_log_took_is_given_back_soon_and_not_more_often_than_once_a_second() {
    let disk = Disk::new(StoreOptions { unflushed_len_max: 100_000, ..StoreOptions::default() });
    for round in 0..3 {
        let log = disk.create(Durability::Fsync);
        disk.fill(&log, 100, 3_000);
        let disk_len = || disk.store.stats().unwrap().disk_len();
        assert!(disk_len() > 350_000, "{}", disk_len());
        let before = disk.checkpoints();
        disk.change(&log, |log| log.delete());
        if round > 0 {
            assert_eq!(disk.checkpoints(), before);
            disk.hands.pass(PAUSE_NS);
            disk.hands.run();
        }
        assert_eq!(disk.checkpoints(), before + 2);
        assert!(disk_len() < 130_000, "{}", disk_len());
    }
}

#[test]
fn what_is_drained_without_end_does_not_keep_others_from_being_flushed() {
    let options = StoreOptions { unflushed_len_max: 100_000, run_kept_len: 1_000, ..StoreOptions::default() };
    let disk = Disk::new(options);
    let (backlog, slow) = (disk.create(Durability::Fsync), disk.create(Durability::Fsync));
    disk.fill(&backlog, 600, 9_000);
    for round in 0..45 {
        disk.hands.pass(PAUSE_NS);
        disk.change(&backlog, |log| log.trim(Offset(round * 12)));
        disk.fill(&slow, 1, 100);
    }
    let extents = slow.with(|core, _| core.live.extents().len());
    assert!(extents < 20, "{extents}: they are copied together");
}

#[test]
fn where_copying_finds_the_disk_full_the_log_is_covered_all_the_same() {
    let disk = Disk::new(StoreOptions { unflushed_len_max: 100_000, ..StoreOptions::default() });
    let (log, other) = (disk.create(Durability::Fsync), disk.create(Durability::Fsync));
    *disk.wrong.full_for.lock() = Some("segment-");
    for _ in 0..40 {
        disk.fill(&log, 1, 3_000);
        disk.fill(&other, 1, 100);
    }
    assert_eq!((disk.checkpoints(), disk.files().1), (2, 0));
    let stats = disk.store.stats().unwrap();
    assert!(stats.unflushed_len < stats.disk_len() - 30_000, "{stats:?}");
    let end = log.bounds().end;
    *disk.wrong.full_for.lock() = None;
    disk.hands.pass(PAUSE_NS);
    disk.fill(&log, 30, 3_000);
    assert!(disk.files().1 > 0);
    assert!(log.bounds().end > end && other.with(|core, _| core.records()) == 40);
}

#[test]
fn flushing_that_failed_is_left_for_a_while_whatever_is_published_meanwhile() {
    let disk = Disk::new(StoreOptions { unflushed_len_max: 200_000, ..StoreOptions::default() });
    let log = disk.create(Durability::Fsync);
    *disk.wrong.write_in.lock() = Some("blobs");
    disk.fill(&log, 40, 3_000);
    *disk.wrong.write_in.lock() = None;
    disk.fill(&log, 3, 3_000);
    assert_eq!(disk.checkpoints(), 0, "each of them raises its signal");
    disk.hands.pass(PAUSE_NS);
    disk.hands.run();
    assert!(disk.checkpoints() > 0);
    *disk.wrong.write_in.lock() = Some("blobs");
    assert!(disk.store.checkpoint(true).is_err(), "who asks for one is told");
    *disk.wrong.write_in.lock() = None;
    assert!(disk.store.checkpoint(true).unwrap());
}

#[test]
fn spilling_that_failed_is_left_for_a_while_whatever_is_published_meanwhile() {
    let disk = Disk::new(StoreOptions { volatile_len_max: 100_000, ..StoreOptions::default() });
    let log = disk.create(Durability::Memory);
    *disk.wrong.write_in.lock() = Some("spill");
    disk.fill(&log, 60, 1_000);
    *disk.wrong.write_in.lock() = None;
    disk.fill(&log, 3, 1_000);
    assert_eq!(disk.store.stats().unwrap().spilled_len, 0, "each of them raises its signal");
    disk.hands.pass(PAUSE_NS);
    disk.hands.run();
    assert!(disk.store.stats().unwrap().spilled_len > 0);
}

impl Disk {
    /// The byte at this place cannot be read from now on.
    fn kill(&self, name: String, at: u64) {
        *self.wrong.unreadable.lock() = Some((name, at));
    }

    /// A byte of the `nth` extent of a log cannot be read from now on. Which records that is.
    fn kill_in(&self, log: &Log<Notes>, nth: usize) -> Range<Offset> {
        let extent = log.with(|core, _| core.live.extents()[nth].clone());
        let FileId::Wal(number) = extent.file else { panic!("{extent:?}") };
        self.kill(format!("{number:020}"), extent.at + u64::from(extent.len) / 2);
        extent.base..extent.end()
    }

    /// What a reader of the log is given, and what it is told of as lost.
    fn read(&self, id: LogId) -> (Vec<u64>, Vec<Range<Offset>>) {
        let log = self.store.log(id).unwrap();
        let (mut found, mut lost, mut from) = (Vec::new(), Vec::new(), Offset(0));
        loop {
            let chunk = self.store.read_blocking(&log, from, ReadLimits::default(), Upto::Stable).unwrap();
            found.extend(chunk.batches.iter().map(|read| read.batch.base.0));
            lost.extend(chunk.lost);
            if chunk.next <= from {
                return (found, lost);
            }
            from = chunk.next;
        }
    }
}

#[test]
fn a_sector_that_cannot_be_read_costs_readers_its_own_records_and_no_others() {
    for disk in READS.map(lazy_past_cache) {
        let log = disk.create(Durability::Fsync);
        disk.fill(&log, 60, 3_000);
        let lost = disk.kill_in(&log, 20);
        let expected: Vec<u64> = (0..60).filter(|offset| !lost.contains(&Offset(*offset))).collect();
        assert_eq!(disk.read(log.id()), (expected, vec![lost.clone()]));
        assert_eq!(disk.store.damaged(), [(log.id(), lost)]);
    }
}

#[test]
fn a_sector_that_cannot_be_read_does_not_keep_the_log_from_being_flushed() {
    for disk in READS.map(lazy_past_cache) {
        let log = disk.create(Durability::Fsync);
        disk.fill(&log, 60, 3_000);
        let lost = disk.kill_in(&log, 20);
        for _ in 0..2 {
            assert!(disk.store.checkpoint(true).unwrap());
        }
        assert_eq!((disk.checkpoints(), disk.files()), (2, (2, 1)), "the file with the sector stays");
        let expected: Vec<u64> = (0..60).filter(|offset| !lost.contains(&Offset(*offset))).collect();
        assert_eq!(disk.read(log.id()), (expected, vec![lost]));
    }
}

#[test]
fn of_two_checkpoints_the_older_is_taken_where_the_newer_cannot_be_read() {
    let disk = lazy();
    let log = disk.create(Durability::Fsync);
    for _ in 0..2 {
        disk.fill(&log, 10, 3_000);
        assert!(disk.store.checkpoint(false).unwrap());
    }
    let id = log.id();
    drop(log);
    disk.kill("checkpoint-0000000000000002".to_owned(), 20);
    let disk = disk.again();
    assert_eq!(disk.recovery.damaged_checkpoints, [2]);
    assert_eq!(disk.read(id), ((0..20).collect(), vec![]));
}

#[test]
fn a_start_refuses_a_log_with_a_sector_that_cannot_be_read_and_a_repair_serves_the_rest() {
    // Also where no later frame proves that it was durable, as the last of its file or the first of the next: what is written
    // torn can be read.
    for (nth, begins_file) in [(20, false), (59, false), (0, true)] {
        let disk = lazy();
        let log = disk.create(Durability::Fsync);
        let mut count = 60;
        disk.fill(&log, count, 3_000);
        let last_at = || log.with(|core, _| core.live.extents().back().map(|extent| extent.at));
        while begins_file && last_at() >= Some(2 * 4_096) {
            disk.fill(&log, 1, 3_000);
            count += 1;
        }
        let lost = disk.kill_in(&log, if begins_file { count as usize - 1 } else { nth });
        let id = log.id();
        drop(log);
        let Disk { hands, wrong, store, options, files, scratch, .. } = disk;
        hands.drop_everything();
        drop(store);
        let Err((refused, scratch)) = Disk::open(scratch, files.clone(), wrong.clone(), options, false)
        else {
            panic!("it was started")
        };
        assert_eq!(refused.kind(), ErrorKind::Corrupt, "{refused}");
        let Ok(disk) = Disk::open(scratch, files, wrong, options, true) else {
            panic!("it was not repaired")
        };
        assert_eq!(disk.recovery.lost.len(), 1);
        let expected: Vec<u64> =
            (0..u64::from(count)).filter(|offset| !lost.contains(&Offset(*offset))).collect();
        assert_eq!(disk.read(id).0, expected);
    }
}

#[test]
fn a_file_of_the_log_that_is_full_is_held_open_by_nobody() {
    let disk = lazy();
    let log = disk.create(Durability::Fsync);
    let open = || disk.wrong.open.load(Ordering::SeqCst);
    let before = open();
    disk.fill(&log, 200, 3_000);
    assert!(disk.files().0 > 10 && open() <= before + 1, "{:?}, {} handles", disk.files(), open());
    assert_eq!(disk.read(log.id()).0.len(), 200, "who reads it opens it again");
}

#[test]
fn the_epoch_after_a_torn_tail_is_that_of_every_log_and_never_falls_again() {
    let mut disk = lazy();
    let (written, idle) = (disk.create(Durability::Fsync), disk.create(Durability::Fsync));
    let ids = [written.id(), idle.id()];
    disk.fill(&written, 3, 3_000);
    let last = written.with(|core, _| core.live.extents().back().map(|extent| (extent.file, extent.at)));
    drop((written, idle));
    let Some((FileId::Wal(number), at)) = last else { panic!("{last:?}") };
    let path = disk.scratch.0.join("wal").join(format!("{number:020}.wal"));
    disk.hands.drop_everything();
    let file = env::real().files.open(&path, env::Open::Write).unwrap();
    file.write_all_at(&[std::io::IoSlice::new(&[1; 8])], at + 1_000).unwrap();
    let mut before = 0;
    for round in 0..3 {
        disk = disk.again();
        assert_eq!(disk.recovery.torn.is_some(), round == 0);
        let epochs = ids.map(|id| disk.store.log(id).unwrap().with(|core, _| core.epoch().0));
        assert!(epochs.iter().all(|epoch| *epoch > 0 && *epoch >= before), "{epochs:?} after {before}");
        before = epochs[1];
    }
    let new = disk.create(Durability::Fsync);
    assert_eq!(new.with(|core, _| core.epoch().0), before, "it has not to rise with the next start");
}
