use std::{
    io::{ErrorKind, IoSlice},
    path::Path,
    sync::Arc,
};

use env::{Clock, File, Files, Open};

use super::*;

fn disk(seed: u64) -> SimDisk {
    SimDisk::new(Rng::new(seed), SimClock::new(), Trace::new(true), 1 << 20)
}

fn write(file: &Arc<dyn File>, bytes: &[u8], at: u64) {
    file.write_all_at(&[IoSlice::new(bytes)], at).unwrap();
}

fn read(file: &Arc<dyn File>, at: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0; len];
    file.read_exact_at(&mut buf, at).unwrap();
    buf
}

/// A file `/a` of `sectors` sectors of ones, durable with its name.
fn durable(disk: &SimDisk, sectors: usize) -> Arc<dyn File> {
    let files = disk.files();
    let file = files.open(Path::new("/a"), Open::Create).unwrap();
    write(&file, &vec![1; sectors * SECTOR_LEN], 0);
    file.sync().unwrap();
    files.sync_dir(Path::new("/")).unwrap();
    file
}

fn reopened(disk: &SimDisk) -> Arc<dyn File> {
    disk.files().open(Path::new("/a"), Open::Write).unwrap()
}

#[test]
fn what_was_synced_survives_every_crash() {
    for seed in 0..50 {
        let disk = disk(seed);
        durable(&disk, 4);
        disk.crash(Crash::Power);
        assert_eq!(read(&reopened(&disk), 0, 4 * SECTOR_LEN), vec![1; 4 * SECTOR_LEN]);
    }
}

#[test]
fn unsynced_sectors_survive_a_power_cut_independently_of_each_other() {
    let mut patterns = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let disk = disk(seed);
        let file = durable(&disk, 3);
        write(&file, &[2; 3 * SECTOR_LEN], 0);
        disk.crash(Crash::Power);
        let file = reopened(&disk);
        patterns.insert([0, 1, 2].map(|n| read(&file, n * SECTOR_LEN as u64, 1)[0]));
    }
    assert_eq!(patterns.len(), 8, "{patterns:?}");
}

#[test]
fn a_sector_may_tear_within_itself() {
    let torn = (0..400).any(|seed| {
        let disk = disk(seed);
        let file = durable(&disk, 1);
        write(&file, &[2; SECTOR_LEN], 0);
        disk.crash(Crash::Power);
        let bytes = read(&reopened(&disk), 0, SECTOR_LEN);
        bytes.contains(&1) && bytes.contains(&2)
    });
    assert!(torn);
}

#[test]
fn a_process_that_dies_leaves_the_page_cache_behind() {
    let disk = disk(1);
    write(&durable(&disk, 1), &[2; SECTOR_LEN], 0);
    disk.crash(Crash::Process);
    let file = reopened(&disk);
    assert_eq!(read(&file, 0, SECTOR_LEN), vec![2; SECTOR_LEN]);
    file.sync().unwrap();
    disk.crash(Crash::Power);
    assert_eq!(read(&reopened(&disk), 0, SECTOR_LEN), vec![2; SECTOR_LEN]);
}

#[test]
fn a_failed_sync_drops_pages_that_reads_still_show() {
    let mut dropped = 0;
    for seed in 0..50 {
        let disk = disk(seed);
        let file = durable(&disk, 1);
        write(&file, &[2; SECTOR_LEN], 0);
        disk.set_rates(Rates { sync_failed_ppm: 1_000_000, ..Rates::default() });
        assert!(file.sync().is_err());
        assert_eq!(read(&file, 0, 1), [2]);
        assert!(file.sync().is_ok(), "nothing is dirty any more, so the next sync has nothing to fail at");
        disk.crash(Crash::Power);
        dropped += u32::from(read(&reopened(&disk), 0, 1) == [1]);
    }
    assert!(dropped > 10);
}

#[test]
fn forgetting_the_cache_shows_what_the_device_holds() {
    let disk = (0..50)
        .map(|seed| {
            let disk = disk(seed);
            let file = durable(&disk, 1);
            write(&file, &[2; SECTOR_LEN], 0);
            disk.set_rates(Rates { sync_failed_ppm: 1_000_000, ..Rates::default() });
            assert!(file.sync().is_err());
            file.forget_cached(0, SECTOR_LEN as u64);
            file
        })
        .find(|file| read(file, 0, 1) == [1]);
    assert!(disk.is_some());
}

#[test]
fn a_name_is_not_durable_before_its_folder_is_synced() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let disk = disk(seed);
        durable(&disk, 1);
        disk.files().rename(Path::new("/a"), Path::new("/b")).unwrap();
        disk.crash(Crash::Power);
        let names: Vec<String> =
            disk.files().list(Path::new("/")).unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names.len(), 1, "a rename happens whole or not at all");
        seen.insert(names[0].clone());
    }
    assert_eq!(seen.len(), 2);
    let disk = disk(1);
    durable(&disk, 1);
    disk.files().rename(Path::new("/a"), Path::new("/b")).unwrap();
    disk.files().sync_dir(Path::new("/")).unwrap();
    disk.crash(Crash::Power);
    assert!(disk.files().open(Path::new("/b"), Open::Read).is_ok());
}

#[test]
fn a_folder_whose_parent_was_not_synced_may_vanish_with_its_files() {
    let vanished = (0..50).any(|seed| {
        let disk = disk(seed);
        let files = disk.files();
        files.create_dir(Path::new("/d/e")).unwrap();
        files.open(Path::new("/d/e/f"), Open::Create).unwrap().sync().unwrap();
        files.sync_dir(Path::new("/d/e")).unwrap();
        disk.crash(Crash::Power);
        disk.files().list(Path::new("/d/e")).is_err()
    });
    assert!(vanished);
}

#[test]
fn a_removed_file_is_read_on_through_its_handle_and_then_forgotten() {
    let disk = disk(1);
    let file = durable(&disk, 2);
    disk.files().remove(Path::new("/a")).unwrap();
    disk.files().sync_dir(Path::new("/")).unwrap();
    assert_eq!(read(&file, 0, 1), [1]);
    assert_eq!(disk.used(), 2 * SECTOR_LEN as u64);
    drop(file);
    assert_eq!(disk.used(), 0);
}

#[test]
fn a_full_disk_refuses_writes_and_allocations_and_counts_its_free_bytes() {
    let disk = disk(1);
    let file = durable(&disk, 1);
    disk.set_capacity(3 * SECTOR_LEN as u64);
    assert_eq!(disk.files().free_bytes(Path::new("/")).unwrap(), 2 * SECTOR_LEN as u64);
    file.reserve(3 * SECTOR_LEN as u64).unwrap();
    assert_eq!(file.reserve(4 * SECTOR_LEN as u64).unwrap_err().kind(), ErrorKind::StorageFull);
    let refused = file.write_all_at(&[IoSlice::new(&[2; SECTOR_LEN])], 3 * SECTOR_LEN as u64);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::StorageFull);
    assert!(disk.used() <= 3 * SECTOR_LEN as u64);
    assert!(disk.fired().of(Fault::DiskFull) >= 2);
}

#[test]
fn the_power_goes_in_the_middle_of_the_operation_it_was_asked_for() {
    let disk = disk(1);
    let file = durable(&disk, 1);
    disk.cut_power_in(Some(1));
    write(&file, &[2], 0);
    assert!(file.sync().is_err());
    assert!(!disk.powered());
    assert!(file.len().is_err(), "nothing works without power");
    disk.crash(Crash::Process);
    assert!(disk.powered());
    assert!(file.len().is_err(), "handles belong to their boot");
    assert!(reopened(&disk).len().is_ok());
}

#[test]
fn a_slow_sync_takes_simulated_time() {
    let clock = SimClock::new();
    let disk = SimDisk::new(Rng::new(1), clock.clone(), Trace::default(), 1 << 20);
    disk.set_rates(Rates { slow_sync_ppm: 1_000_000, ..Rates::default() });
    let before_ns = clock.mono_ns();
    durable(&disk, 1);
    assert!(clock.mono_ns() - before_ns >= 50_000_000);
}

#[test]
fn bits_rot_below_a_proven_position_and_heal_when_flipped_back() {
    let disk = disk(1);
    let file = durable(&disk, 1);
    assert_eq!(disk.rottable(Path::new("/"), |_| false), [], "no later write proves the first");
    write(&file, &[3; SECTOR_LEN], SECTOR_LEN as u64);
    file.sync().unwrap();
    let places = disk.rottable(Path::new("/"), |_| false);
    assert_eq!(places, [Rottable { path: "/a".into(), below: SECTOR_LEN as u64 }]);
    disk.rot(&places[0].path, 7, 1).unwrap();
    assert_eq!(read(&file, 7, 1), [3]);
    disk.crash(Crash::Power);
    assert_eq!(read(&reopened(&disk), 7, 1), [3]);
    disk.heal();
    assert_eq!(read(&reopened(&disk), 7, 1), [1]);
}

#[test]
fn a_dead_sector_cannot_be_read_until_it_is_healed_or_written_over() {
    let disk = disk(1);
    let file = durable(&disk, 2);
    let is_dead = |at: u64, len: usize| match file.read_exact_at(&mut vec![0; len], at) {
        Ok(()) => false,
        Err(error) => env::is_unreadable(&error),
    };
    let sector_len = SECTOR_LEN as u64;
    let revived: [&dyn Fn(); 2] = [&|| disk.heal(), &|| write(&file, &[9; SECTOR_LEN], sector_len)];
    write(&file, &[3; 2 * SECTOR_LEN], 0);
    file.sync().unwrap();
    for revive in revived {
        disk.kill(Path::new("/a"), sector_len + 7).unwrap();
        assert!(is_dead(sector_len, 1) && is_dead(sector_len - 1, 2) && !is_dead(0, SECTOR_LEN));
        let past_cache = file.read_past_cache(&mut [0; 10], 2 * sector_len - 1).unwrap_err();
        assert!(env::is_unreadable(&past_cache), "{past_cache}");
        revive();
        assert!(!is_dead(0, 2 * SECTOR_LEN));
    }
}

#[test]
fn a_rotten_bit_that_was_written_over_is_not_healed() {
    let disk = disk(1);
    let file = durable(&disk, 2);
    disk.rot(Path::new("/a"), 7, 1).unwrap();
    write(&file, &[9; 8], 0);
    disk.heal();
    assert_eq!(read(&file, 7, 1), [9]);
}

#[test]
fn one_boot_holds_a_folder_once_and_a_crash_frees_it() {
    let disk = disk(1);
    let files = disk.files();
    files.create_dir(Path::new("/d")).unwrap();
    files.sync_dir(Path::new("/")).unwrap();
    let held = files.lock_dir(Path::new("/d"), "first").unwrap();
    let refused = files.lock_dir(Path::new("/d"), "second").err().unwrap();
    assert_eq!((refused.kind(), refused.to_string()), (ErrorKind::WouldBlock, "first".to_owned()));
    disk.crash(Crash::Power);
    drop(held);
    assert!(disk.files().lock_dir(Path::new("/d"), "third").is_ok());
}

#[test]
fn a_lying_disk_loses_what_it_claimed_to_have_synced() {
    let lost = (0..50).any(|seed| {
        let disk = disk(seed);
        let file = durable(&disk, 1);
        disk.plant(Planted { skip_sync: Some("a"), skip_dir_sync: false });
        write(&file, &[2; SECTOR_LEN], 0);
        file.sync().unwrap();
        disk.crash(Crash::Power);
        read(&reopened(&disk), 0, 1) == [1]
    });
    assert!(lost);
}

#[test]
fn a_write_that_went_astray_is_where_it_landed_until_it_is_healed_or_written_over() {
    let sector = SECTOR_LEN as u64;
    let disk = disk(1);
    let file = durable(&disk, 4);
    write(&file, &[2; SECTOR_LEN], 0);
    file.sync().unwrap();
    disk.misdirect(Path::new("/a"), 0, 2 * sector, SECTOR_LEN).unwrap();
    disk.crash(Crash::Power);
    let file = reopened(&disk);
    let firsts = |file: &Arc<dyn File>| [0, 1, 2, 3].map(|n| read(file, n * sector, 1)[0]);
    assert_eq!(firsts(&file), [0, 1, 2, 1]);
    write(&file, &[3; SECTOR_LEN], 2 * sector);
    file.sync().unwrap();
    disk.heal();
    assert_eq!(firsts(&file), [2, 1, 3, 1]);
    assert_eq!(disk.fired().of(Fault::Misdirected), 1);
}

#[test]
fn a_copy_of_a_disk_is_a_disk_of_its_own() {
    let disk = disk(1);
    let file = durable(&disk, 1);
    let copy = disk.copy(Rng::new(2), SimClock::new(), Trace::default());
    write(&file, &[2; SECTOR_LEN], 0);
    let copied = copy.files().open(Path::new("/a"), Open::Read).unwrap();
    assert_eq!((read(&copied, 0, 1), read(&file, 0, 1)), (vec![1], vec![2]));
}
