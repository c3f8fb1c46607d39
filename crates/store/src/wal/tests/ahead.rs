use std::sync::{Arc, atomic::Ordering};

use env::testing::{Wrong, faulty_files};
use model::Seq;

use super::rig::Disk;
use crate::{
    conformance::{
        WalRig, collect,
        wal::{apply, data, open, submit},
    },
    wal::Wal,
};

const FILE_LEN: u64 = 64 << 10;

/// A log of short files and the bytes that it writes.
fn log(rig: &Disk) -> (Arc<dyn Wal>, Arc<Wrong>) {
    let (files, wrong) = faulty_files();
    let wal = open(&*rig.over(files), Seq(0));
    rig.run();
    (wal, wrong)
}

fn rig() -> Disk {
    Disk::new(|options| (options.file_len, options.first_file_len) = (FILE_LEN, FILE_LEN))
}

/// Commits one record after another until `files` more were begun; what that wrote, bytes, and how many records.
fn fill(rig: &Disk, wal: &dyn Wal, wrong: &Wrong, files: usize, pause_ns: u64) -> (u64, u64) {
    let (begun, before) = (wal.files().len(), wrong.wrote.load(Ordering::SeqCst));
    let mut records = 0;
    while wal.files().len() < begun + files {
        rig.hands.pass(pause_ns);
        submit(wal, vec![data(1, wal.durable().0, "x")]);
        rig.run();
        apply(wal).unwrap();
        records += 1;
    }
    (wrong.wrote.load(Ordering::SeqCst) - before, records)
}

#[test]
fn files_that_fill_up_in_haste_are_not_written_twice() {
    let rig = rig();
    let (wal, wrong) = log(&rig);
    // The file after the first was zero-filled before anybody could know.
    fill(&rig, &*wal, &wrong, 2, 0);
    let (wrote, _) = fill(&rig, &*wal, &wrong, 10, 0);
    assert!(wrote <= 10 * (FILE_LEN + (8 << 10)), "{wrote} bytes for ten files");
    drop(wal);
    assert_eq!(collect(&*rig.again(), Seq(0)).unwrap().0.torn, None);
}

#[test]
fn files_that_last_are_zero_filled_ahead() {
    let rig = rig();
    let (wal, wrong) = log(&rig);
    let (wrote, _) = fill(&rig, &*wal, &wrong, 10, 1_000_000_000);
    assert!(wrote >= 19 * FILE_LEN, "{wrote} bytes for ten files");
}

#[test]
fn a_file_of_a_haste_that_is_over_is_left_for_a_zero_filled_one() {
    let rig = rig();
    let (wal, wrong) = log(&rig);
    fill(&rig, &*wal, &wrong, 5, 0);
    let (_, records) = fill(&rig, &*wal, &wrong, 1, 1_000_000_000);
    assert!(records < 5, "left after {records} records");
    let (_, records) = fill(&rig, &*wal, &wrong, 1, 1_000_000_000);
    assert!(records >= 7, "the zero-filled one is used to its end: {records} records");
    let last = wal.durable();
    drop(wal);
    let (replayed, collected) = collect(&*rig.again(), Seq(0)).unwrap();
    assert_eq!((replayed.last, replayed.torn, collected.units.len() as u64), (last, None, last.0));
}
