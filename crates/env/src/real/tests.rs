use std::{
    io::IoSlice,
    path::PathBuf,
    sync::{Arc, mpsc},
};

use crate::{DIRECT_ALIGN_LEN, Next, Open, Signal, Worker, real};

fn scratch(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("wiremill-env-{name}-{}", real().random.u64()));
    real().files.create_dir(&dir).unwrap();
    dir
}

#[test]
fn a_vectored_write_of_more_parts_than_the_kernel_takes_arrives_whole() {
    let dir = scratch("vectored");
    let file = real().files.open(&dir.join("f"), Open::Create).unwrap();
    let bytes: Vec<u8> = (0..3000u32).map(|i| (i % 251) as u8).collect();
    let parts: Vec<IoSlice<'_>> = bytes.chunks(1).map(IoSlice::new).collect();
    file.write_all_at(&parts, 7).unwrap();
    let mut back = vec![0; bytes.len()];
    file.read_exact_at(&mut back, 7).unwrap();
    assert_eq!(back, bytes);
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_is_written_past_the_cache_reads_back_aligned_or_not() {
    let dir = scratch("direct");
    let file = real().files.open(&dir.join("f"), Open::Create).unwrap();
    // Cached pages of what was there before must not be what is read.
    file.write_all_at(&[IoSlice::new(&[7; 5 * DIRECT_ALIGN_LEN])], 0).unwrap();
    let buffer: Vec<u8> = (0..6 * DIRECT_ALIGN_LEN).map(|i| (i % 251) as u8).collect();
    let begin = buffer.as_ptr().align_offset(DIRECT_ALIGN_LEN);
    let page = DIRECT_ALIGN_LEN;
    for (from, len, at) in [
        (begin, page, 0),
        (begin, 3 * page, page),
        (begin, page - 1, 0),
        (begin + 1, page, 2 * page),
        (begin, page, 3 * page + 1),
        (begin, 2 * page + 5, 4 * page),
        (begin, 0, 0),
    ] {
        file.write_past_cache(&buffer[from..from + len], at as u64).unwrap();
        file.sync().unwrap();
        let mut back = vec![0; len];
        file.read_exact_at(&mut back, at as u64).unwrap();
        assert_eq!(back, &buffer[from..from + len], "{len} bytes from {from} at {at}");
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn what_is_read_past_the_cache_is_what_was_written_aligned_or_not_and_ends_where_the_file_does() {
    let dir = scratch("direct-reads");
    let page = DIRECT_ALIGN_LEN;
    let bytes: Vec<u8> = (0..5 * page + 100).map(|i| (i % 251) as u8).collect();
    let written = real().files.open(&dir.join("f"), Open::Create).unwrap();
    // Not synced: what only the cache has yet is read too.
    written.write_all_at(&[IoSlice::new(&bytes)], 0).unwrap();
    let opened = real().files.open(&dir.join("f"), Open::Read).unwrap();
    for file in [written, opened] {
        let mut buffer = vec![0; 9 * page];
        let begin = buffer.as_ptr().align_offset(page);
        for (from, len, at) in [
            (begin, page, 0),
            (begin, 3 * page, page),
            (begin, page - 1, 0),
            (begin + 1, 2 * page, 0),
            (begin, page, 3),
            (begin, 2 * page, 4 * page),
            (begin, 8 * page, 0),
            (begin, page, 5 * page),
            (begin, page, 6 * page),
            (begin, 0, 0),
        ] {
            buffer.fill(0xAA);
            let read = file.read_past_cache(&mut buffer[from..from + len], at as u64).unwrap();
            let there = &bytes[at.min(bytes.len())..(at + len).min(bytes.len())];
            assert_eq!(read, there.len(), "{len} bytes at {at}");
            assert_eq!(&buffer[from..from + read], there, "{len} bytes from {from} at {at}");
            assert!(buffer[from + len..].iter().all(|byte| *byte == 0xAA), "no more than was asked for");
        }
    }
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn a_second_lock_of_one_folder_is_told_who_holds_it() {
    let dir = scratch("lock");
    let held = real().files.lock_dir(&dir, "process 7").unwrap();
    let refused = real().files.lock_dir(&dir, "process 8").err().unwrap();
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
    assert_eq!(refused.to_string(), "process 7");
    drop(held);
    drop(real().files.lock_dir(&dir, "process 8").unwrap());
    std::fs::remove_dir_all(dir).unwrap();
}

#[test]
fn making_a_folder_says_how_many_it_took() {
    let dir = scratch("folders");
    let files = real().files;
    assert_eq!(files.create_dir(&dir).unwrap(), 0);
    assert_eq!(files.create_dir(&dir.join("a/b/c")).unwrap(), 3);
    assert_eq!(files.create_dir(&dir.join("a/b/d")).unwrap(), 1);
    drop(files.open(&dir.join("f"), Open::Create).unwrap());
    assert!(files.create_dir(&dir.join("f")).is_err(), "a file is no folder");
    assert!(files.create_dir(&dir.join("f/g")).is_err());
    std::fs::remove_dir_all(dir).unwrap();
}

struct Count {
    steps: u32,
    stepped: mpsc::Sender<u32>,
}

impl Worker for Count {
    fn step(&mut self) -> Next {
        self.steps += 1;
        self.stepped.send(self.steps).unwrap();
        if self.steps == 3 { Next::Done } else { Next::Park }
    }
}

#[test]
fn a_worker_is_stepped_once_per_raised_signal_until_it_is_done() {
    let (stepped, seen) = mpsc::channel();
    let signal = Signal::new();
    real().spawn.worker("count", signal.clone(), Box::new(Count { steps: 0, stepped }));
    for expected in 1..=3 {
        assert_eq!(seen.recv().unwrap(), expected);
        signal.raise();
    }
    assert!(seen.recv().is_err());
}

#[test]
fn blocking_jobs_all_run() {
    let (done, seen) = mpsc::channel();
    let env = real();
    for i in 0..100 {
        let done = done.clone();
        env.spawn.blocking(Box::new(move || done.send(i).unwrap()));
    }
    drop(done);
    let mut all: Vec<i32> = seen.iter().take(100).collect();
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    drop(Arc::new(env));
}

#[test]
fn a_folder_is_listed_while_its_files_come_and_go() {
    let dir = scratch("list");
    let (path, files) = (dir.join("f"), real().files);
    let (done, seen) = mpsc::channel();
    real().spawn.blocking(Box::new(move || {
        for _ in 0..2_000 {
            drop(files.open(&path, Open::Create).unwrap());
            files.remove(&path).unwrap();
        }
        done.send(()).unwrap();
    }));
    while seen.try_recv().is_err() {
        assert!(real().files.list(&dir).unwrap().len() <= 1);
    }
    std::fs::remove_dir_all(dir).unwrap();
}
