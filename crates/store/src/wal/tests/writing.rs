use std::{
    sync::{Arc, atomic::Ordering},
    task::Waker,
};

use bytes::Bytes;
use env::{Signal, testing::faulty_files};
use model::{ErrorKind, Offset, OwnerEpoch, Seq};

use super::rig::Disk;
use crate::{
    conformance::{
        WalRig, collect,
        wal::{Woken, apply, data, debug, entry, open, submit},
    },
    entry::{Change, Unit},
    wal::{Class, Place, Wal, files::file_name, frame::FrameHeader},
};

/// A log whose files take three frames each, of which the very first is empty.
fn small_files(rig: &dyn WalRig) -> Arc<dyn Wal> {
    open(&*rig.fresh(), Seq(0))
}

fn tiny() -> Disk {
    Disk::new(|options| (options.file_len, options.first_file_len) = (16 << 10, 16 << 10))
}

fn commit_one(rig: &dyn WalRig, wal: &dyn Wal, base: u64) -> Seq {
    submit(wal, vec![data(1, base, format!("record {base}"))]);
    rig.run();
    apply(wal).unwrap()
}

#[test]
fn everything_staged_while_a_step_runs_goes_into_one_frame() {
    let rig = Disk::new(|_| {});
    let wal = open(&*rig.fresh(), Seq(0));
    rig.run();
    let frames = wal.stats().frames;
    for i in 0..100 {
        submit(&*wal, vec![data(i % 3, i, "x")]);
    }
    rig.run();
    let commit = wal.next_commit().unwrap();
    assert_eq!((commit.first, commit.last, commit.runs.len()), (Seq(1), Seq(100), 3));
    assert!(wal.next_commit().is_none());
    let stats = wal.stats();
    assert_eq!((stats.frames, stats.units), (frames + 1, 100));
}

#[test]
fn a_commit_is_capped_and_a_longer_unit_goes_alone_into_a_file_of_its_own_size() {
    let rig = Disk::new(|options| {
        (options.file_len, options.first_file_len, options.commit_len) = (64 << 10, 64 << 10, 8 << 10);
    });
    let wal = open(&*rig.fresh(), Seq(0));
    let big = Bytes::from(vec![7; 300 << 10]);
    for (base, body) in [(0, Bytes::from_static(b"a")), (1, big.clone()), (2, Bytes::from_static(b"b"))] {
        submit(&*wal, vec![data(1, base, body)]);
    }
    rig.run();
    let commits: Vec<_> = std::iter::from_fn(|| wal.next_commit()).collect();
    let spans: Vec<_> = commits.iter().map(|commit| (commit.first.0, commit.last.0)).collect();
    assert_eq!(spans, [(1, 1), (2, 2), (3, 3)]);
    assert!(commits[1].place.file > commits[0].place.file);
    let info = wal.files()[1];
    assert!(info.len > 300 << 10, "{info:?}");
    drop(wal);
    let (replayed, collected) = collect(&*rig.again(), Seq(0)).unwrap();
    assert_eq!(replayed.last, Seq(3));
    assert!(debug(&collected.units[1..2]).len() > big.len());
}

#[test]
fn a_file_is_sealed_once_its_successor_holds_a_durable_frame() {
    let rig = tiny();
    let wal = small_files(&rig);
    let sealed = |wal: &dyn Wal| wal.files().iter().map(|info| info.sealed).collect::<Vec<_>>();
    commit_one(&rig, &*wal, 0);
    commit_one(&rig, &*wal, 1);
    assert_eq!(sealed(&*wal), [None], "the file is full, but nothing came after");
    commit_one(&rig, &*wal, 2);
    assert_eq!(sealed(&*wal), [Some(Seq(2)), None]);
}

#[test]
fn a_released_file_is_used_again_and_nothing_of_its_old_life_comes_back() {
    let rig = tiny();
    let wal = small_files(&rig);
    for base in 0..30 {
        commit_one(&rig, &*wal, base);
        for info in wal.files() {
            if info.sealed.is_some_and(|last| last.0 + 4 < base) {
                wal.release(info.file);
            }
        }
    }
    let names = env::real().files.list(&rig.dir()).unwrap();
    assert!(names.len() <= 7, "{names:?}");
    let from = wal.files()[0].sealed.unwrap();
    drop(wal);
    let (replayed, collected) = collect(&*rig.again(), from).unwrap();
    assert_eq!((replayed.last, replayed.torn), (Seq(30), None));
    assert_eq!(collected.units.len() as u64, 30 - from.0);
}

#[test]
fn what_readers_let_go_of_late_does_not_stay_where_enough_is_kept_for_reuse() {
    let rig = tiny();
    let wal = small_files(&rig);
    for base in 0..20 {
        commit_one(&rig, &*wal, base);
    }
    let released: Vec<u64> = wal.files().iter().take(8).map(|info| info.file).collect();
    let pins: Vec<_> = released.iter().map(|file| wal.open_file(*file).unwrap()).collect();
    released.iter().for_each(|file| wal.release(*file));
    drop(pins);
    for base in 20..26 {
        commit_one(&rig, &*wal, base);
    }
    let names = env::real().files.list(&rig.dir()).unwrap();
    let left = names.iter().filter(|entry| released.iter().any(|file| entry.name == file_name(*file)));
    assert!(left.count() <= 4, "{names:?}");
}

#[test]
fn a_pinned_file_stays_what_it_is_until_the_reader_lets_go() {
    let rig = tiny();
    let wal = small_files(&rig);
    for base in 0..3 {
        commit_one(&rig, &*wal, base);
    }
    let first = wal.files()[0];
    let pinned = wal.open_file(first.file).unwrap();
    let len = u32::try_from(first.len).unwrap();
    let before = pinned.read(0, len).unwrap();
    wal.release(first.file);
    assert_eq!(wal.open_file(first.file).err().map(|e| e.kind()), Some(ErrorKind::NotFound));
    for base in 3..20 {
        commit_one(&rig, &*wal, base);
    }
    assert_eq!(pinned.read(0, len).unwrap(), before);
}

#[test]
fn a_kept_file_serves_its_records_and_its_footer_also_after_a_restart() {
    let rig = tiny();
    let wal = small_files(&rig);
    for base in 0..3 {
        commit_one(&rig, &*wal, base);
    }
    let number = wal.files()[0].file;
    assert_eq!(wal.keep(number + 1, 0, &[]).unwrap_err().kind(), ErrorKind::Invalid);
    for footer_len in [4096usize, 100] {
        let wal = open(&*rig.again(), Seq(0));
        let footer = [Bytes::from(vec![9; footer_len - 1]), Bytes::from_static(b"!")];
        let (place, len) = wal.keep(number, 0, &footer).unwrap();
        assert_eq!(len as usize, footer_len);
        assert_eq!(wal.keep(number, 0, &footer).unwrap_err().kind(), ErrorKind::Exists);
        drop(wal);
        for from in [0, 2] {
            let wal = open(&*rig.again(), Seq(from));
            let blob = wal.open_file(number).unwrap();
            assert_eq!(blob.len(), place.at + u64::from(len));
            assert!(blob.read(place.at, len).unwrap().ends_with(b"\x09!"));
        }
    }
    let (replayed, collected) = collect(&*rig.again(), Seq(0)).unwrap();
    assert_eq!((replayed.last, collected.units.len()), (Seq(3), 3));
}

#[test]
fn an_idle_log_writes_one_empty_frame_and_then_nothing() {
    let rig = Disk::new(|_| {});
    let wal = open(&*rig.fresh(), Seq(0));
    rig.run();
    let opened = wal.stats().frames;
    commit_one(&rig, &*wal, 0);
    for _ in 0..5 {
        rig.hands.pass(20_000_000);
        rig.run();
    }
    assert_eq!(wal.stats().frames, opened + 2, "the record's frame and the proof");
    assert!(wal.next_commit().is_none(), "an empty frame is no commit");
}

#[test]
fn a_failed_sync_latches_and_is_never_retried() {
    for which in ["sync", "write"] {
        let rig = Disk::new(|_| {});
        let (files, wrong) = faulty_files();
        let provider = rig.over(files);
        let wal = open(&*provider, Seq(0));
        commit_one(&rig, &*wal, 0);
        let flag = if which == "sync" { &wrong.sync } else { &wrong.write };
        flag.store(true, Ordering::SeqCst);
        let woken = Arc::new(Woken::default());
        let seq = submit(&*wal, vec![data(1, 1, "unknown")]);
        wal.wake_on_durable(seq, &Waker::from(woken.clone()));
        rig.run();
        assert_eq!(woken.count(), 1);
        assert_eq!(wal.failure().map(|e| e.kind()), Some(ErrorKind::Indeterminate));
        flag.store(false, Ordering::SeqCst);
        let synced = wrong.synced.load(Ordering::SeqCst);
        let refused = wal.reserve(1, Class::Drain).err().map(|e| e.kind());
        assert_eq!(refused, Some(ErrorKind::Indeterminate));
        rig.hands.pass(1 << 40);
        rig.run();
        assert_eq!(wrong.synced.load(Ordering::SeqCst), synced, "nothing more is written");
        assert_eq!((wal.durable(), wal.next_commit().is_none()), (Seq(1), true));
        assert_eq!(wal.read(Place { file: 1, at: 4096 }, 4).unwrap().len(), 4, "reads go on");
        assert!(wal.close().is_err());
    }
}

#[test]
fn a_full_disk_delays_what_is_staged_and_loses_nothing() {
    let rig = tiny();
    let (files, wrong) = faulty_files();
    let wal = open(&*rig.over(files), Seq(0));
    wrong.full.store(true, Ordering::SeqCst);
    for base in 0..5 {
        submit(&*wal, vec![data(1, base, "x")]);
        rig.run();
    }
    assert_eq!(apply(&*wal), Some(Seq(2)), "the first file has room for two");
    assert_eq!(wal.failure(), None);
    wrong.full.store(false, Ordering::SeqCst);
    rig.hands.pass(1 << 30);
    rig.run();
    assert_eq!(apply(&*wal), Some(Seq(5)));
}

#[test]
fn the_free_space_floor_refuses_publishes_and_nothing_else() {
    let rig = Disk::new(|options| options.floor_len = 1000);
    let (files, wrong) = faulty_files();
    let wal = open(&*rig.over(files), Seq(0));
    wrong.free.store(1000, Ordering::SeqCst);
    drop(wal.reserve(1, Class::Publish).unwrap());
    wrong.free.store(999, Ordering::SeqCst);
    rig.hands.pass(1 << 30);
    assert_eq!(wal.reserve(1, Class::Publish).err().map(|e| e.kind()), Some(ErrorKind::Unavailable));
    let permit = wal.reserve(1, Class::Drain).unwrap();
    wal.submit(permit, Unit { entries: vec![entry(1, Change::Trim(Offset(1)))] });
    let woken = Arc::new(Woken::default());
    wal.wake_on_room(&Waker::from(woken.clone()));
    rig.run();
    assert_eq!((woken.count(), wal.next_commit().is_some()), (0, true));
    wrong.free.store(2000, Ordering::SeqCst);
    rig.hands.pass(1 << 30);
    rig.run();
    assert_eq!(woken.count(), 1);
    drop(wal.reserve(1, Class::Publish).unwrap());
}

#[test]
fn room_comes_back_when_units_are_applied_and_wakes_who_waits() {
    let rig = Disk::new(|options| (options.queue_len, options.drain_len) = (1000, 100));
    let wal = open(&*rig.fresh(), Seq(0));
    submit(&*wal, vec![data(1, 0, "x")]);
    assert_eq!(wal.reserve(1, Class::Publish).err().map(|e| e.kind()), Some(ErrorKind::Throttled));
    drop(wal.reserve(100, Class::Drain).unwrap());
    let woken = Arc::new(Woken::default());
    wal.wake_on_room(&Waker::from(woken.clone()));
    rig.run();
    let before = woken.count();
    assert_eq!(wal.stats().queued_len, 1000, "synced, but not applied yet");
    apply(&*wal);
    assert_eq!((woken.count(), wal.stats().queued_len), (before + 1, 0));
    drop(wal.reserve(1000, Class::Publish).unwrap());
}

#[test]
fn the_applier_is_told_of_every_commit_and_of_the_failure() {
    let rig = Disk::new(|_| {});
    let (files, wrong) = faulty_files();
    let provider = rig.over(files);
    let (replayed, _) = collect(&*provider, Seq(0)).unwrap();
    let committed = Signal::new();
    let wal = provider.open(&replayed, committed.clone()).unwrap();
    rig.run();
    assert!(!committed.take(), "nothing was committed yet");
    submit(&*wal, vec![data(1, 0, "x")]);
    rig.run();
    assert!(committed.take());
    wrong.sync.store(true, Ordering::SeqCst);
    submit(&*wal, vec![data(1, 1, "x")]);
    rig.run();
    assert!(committed.take());
}

#[test]
fn an_epoch_that_rises_within_a_commit_begins_another_run() {
    let rig = Disk::new(|_| {});
    let wal = open(&*rig.fresh(), Seq(0));
    let mut later = data(5, 1, "b");
    later.epoch = OwnerEpoch(2);
    let units = [vec![data(5, 0, "a")], vec![later, data(6, 0, "c")]];
    let expected: Vec<_> = units.into_iter().map(|unit| (submit(&*wal, unit.clone()), unit)).collect();
    rig.run();
    let runs: Vec<_> = wal.next_commit().unwrap().runs.iter().map(|run| run.log.0).collect();
    assert_eq!(runs, [5, 5, 6]);
    drop(wal);
    let (_, collected) = collect(&*rig.again(), Seq(0)).unwrap();
    assert_eq!(debug(&collected.units), debug(&expected));
}

/// The layout is fixed: a change of these bytes needs a new version of it and a fixture of the old one.
#[test]
fn the_bytes_of_a_frame_are_these() {
    let rig = Disk::new(|_| {});
    let wal = open(&*rig.fresh(), Seq(0));
    submit(&*wal, vec![data(1, 300, "hi"), entry(2, Change::Trim(Offset(7)))]);
    submit(&*wal, vec![data(1, 301, "yo")]);
    rig.run();
    let commit = wal.next_commit().unwrap();
    let header = commit.frame.first_chunk().and_then(FrameHeader::decode).unwrap().0;
    assert_eq!(
        (header.number, header.first, header.units, header.runs, header.durable),
        (2, Seq(1), 2, 2, 1)
    );
    assert_eq!(commit.frame.len(), 4096);
    let body = &commit.frame[64..64 + header.body_len as usize];
    let expected: &[&[u8]] = &[
        &[1, 1, 40, 0, 0, 0],                  // log, epoch, length of the run
        &[1, 18, 0],                           // data, length, order: unit 0
        &[0x01, 0x9d, 0x04, 0x41],             // checksum
        &[0, 0xac, 0x02, 1],                   // flags, base, count
        &[0xd8, 0xb4, 0x83, 0xc5, 0x98, 0x68], // append time
        &[1],                                  // format
        b"hi",
        &[1, 18, 2], // data, length, order: one unit on
        &[0x4e, 0x1d, 0x22, 0x97],
        &[0, 0xad, 0x02, 1, 0xda, 0xb4, 0x83, 0xc5, 0x98, 0x68, 1],
        b"yo",
        &[2, 1, 5, 0, 0, 0], // the run of log 2
        &[5, 3, 1, 1, 7],    // trim, length, order: unit 0, index 1; the offset
    ];
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x} ")).collect::<String>();
    assert_eq!(hex(body), hex(&expected.concat()));
}
