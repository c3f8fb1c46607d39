//! The engine on disks that fail, or are full, stepped by hand.

use std::sync::Arc;

use env::testing::{Wrong, faulty_files};
use model::Offset;

use crate::{
    Class, Durability, LockedLog, Log, Store, StoreOptions,
    conformance::Hands,
    testing::{Commands, Notes, Scratch, batch},
};

/// How long the background work leaves a disk alone that failed it, nanoseconds.
const PAUSE_NS: u64 = crate::flush::RETRY_NS;

struct Disk {
    hands: Arc<Hands>,
    wrong: Arc<Wrong>,
    store: Store<Notes>,
    _scratch: Scratch,
}

impl Disk {
    fn new(options: StoreOptions) -> Disk {
        let (hands, scratch) = (Arc::new(Hands::default()), Scratch::new("disk"));
        let (files, wrong) = faulty_files();
        let tune = |wal: &mut crate::WalOptions| {
            (wal.file_len, wal.first_file_len, wal.tail_len) = (64 << 10, 16 << 10, 0);
            wal.floor_len = 1 << 20;
        };
        let env = hands.env(files, 7);
        let opened = Store::open(env, &scratch.0, options, tune, Arc::new(Commands::default()));
        let disk = Disk { hands, wrong, store: opened.unwrap().0, _scratch: scratch };
        disk.hands.run();
        disk
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
