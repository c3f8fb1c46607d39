//! Many seeds on two threads, their sum, and the floors that say whether the runs were worth anything.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use super::{Report, Settings, run};
use crate::Fault;

/// Runs `count` seeds from `first` on, each of at least `ops` operations, on `threads` threads.
pub fn run_seeds(first: u64, count: u64, threads: usize, settings: &Settings) -> Report {
    sum_of(first, count, threads, |seed| run(&Settings { seed, ..settings.clone() }))
}

/// Plays `count` seeds from `first` on, on `threads` threads.
pub(crate) fn sum_of(
    first: u64,
    count: u64,
    threads: usize,
    play: impl Fn(u64) -> Report + Sync + std::panic::RefUnwindSafe,
) -> Report {
    let next = AtomicU64::new(0);
    let sum = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        return;
                    }
                    let report = guarded(first + index, &play);
                    if let Ok(mut sum) = sum.lock() {
                        sum.add(&report);
                    }
                }
            });
        }
    });
    sum.into_inner().unwrap_or_default()
}

/// One seed; a panic of the engine is a broken promise like any other.
fn guarded(seed: u64, play: &(impl Fn(u64) -> Report + std::panic::RefUnwindSafe)) -> Report {
    let outcome = std::panic::catch_unwind(|| play(seed));
    outcome.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()))
            .unwrap_or_default();
        let mut report = Report::default();
        report.broken.push(format!("seed {seed}: panic: {text}"));
        report
    })
}

/// How often each fault must have fired in a thousand seeds of a thousand operations: about a quarter of what it does.
const FAULTS: [(Fault, u64); 15] = [
    (Fault::SectorLost, 700),
    (Fault::SectorKept, 700),
    (Fault::SectorTorn, 50),
    (Fault::EarlyWriteback, 4_000),
    (Fault::NameLost, 2_000),
    (Fault::SyncFailed, 150),
    (Fault::SyncFull, 80),
    (Fault::WriteFailed, 70),
    (Fault::DiskFull, 4_000),
    (Fault::ReadFailed, 300),
    (Fault::SlowSync, 700),
    (Fault::BitRot, 180),
    (Fault::Misdirected, 50),
    (Fault::SectorDead, 70),
    (Fault::PowerCut, 1_200),
];

/// The same for what was done and which branches were taken.
const DONE: [(&str, u64); 25] = [
    ("acknowledged records checked", 1_200_000),
    ("records checked by reads", 4_000_000),
    ("records compared", 3_000_000),
    ("waits checked", 10_000),
    ("searches checked", 3_000),
    ("checkpoint made", 800),
    ("crash", 3_500),
    ("crash: power cut", 1_400),
    ("crash: power cut in an operation", 1_200),
    ("crash: process killed", 800),
    ("start: from a checkpoint", 2_800),
    ("start: from an older checkpoint", 7),
    ("start: cut a torn tail", 40),
    ("start: ranges set aside", 50),
    ("start: skipped reserved offsets", 2_500),
    ("start refused: corrupt", 30),
    ("repaired on a copy", 20),
    ("repair: exactly one frame lost", 5),
    ("repair: units lost", 8),
    ("repair: records compared", 10_000),
    ("repair: offsets checked", 100),
    ("start refused: disk", 60),
    ("refused: disk at its floor", 1_000),
    ("refused: queue full", 500),
    ("read: stands in the middle", 2_500),
];

/// Which floors the sum of `seeds` runs misses; none are asked of fewer than a hundred.
pub fn floors(report: &Report, seeds: u64) -> Vec<String> {
    if seeds < 100 {
        return Vec::new();
    }
    let mut missed = Vec::new();
    let mut ask = |what: String, found: u64, per_thousand: u64| {
        let floor = per_thousand * seeds / 1000;
        if found < floor {
            missed.push(format!("{what}: {found} instead of at least {floor}"));
        }
    };
    FAULTS.iter().for_each(|(fault, floor)| ask(format!("{fault:?}"), report.fired.of(*fault), *floor));
    DONE.iter().for_each(|(what, floor)| ask((*what).to_owned(), report.of(what), *floor));
    if report.of("operations") < seeds * 1000 {
        missed.push("operations: less than a thousand per seed".to_owned());
    }
    missed
}
