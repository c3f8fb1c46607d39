//! Many seeds, their sum, and the floors that say whether the runs were worth anything.

use super::{Settings, run};
use crate::storage::{Report, sum_of};

/// Runs `count` seeds from `first` on, on `threads` threads.
pub fn run_seeds(first: u64, count: u64, threads: usize, settings: &Settings) -> Report {
    sum_of(first, count, threads, |seed| run(&Settings { seed, ..settings.clone() }))
}

/// How often each thing must have been done in a hundred seeds of a thousand operations: about a quarter of what is.
const DONE: [(&str, u64); 12] = [
    ("grants checked", 15_000),
    ("grants again", 8_000),
    ("changes brought back", 250_000),
    ("recorded leases brought back", 6_000),
    ("settlements in a unit", 2_000),
    ("units refused whole", 800),
    ("dead letters compared", 800),
    ("records browsed", 10_000),
    ("records compared", 90_000),
    ("compared", 250),
    ("crash: power", 200),
    ("start", 350),
];

/// Which floors the sum of `seeds` runs misses; none are asked of fewer than ten.
pub fn floors(report: &Report, seeds: u64) -> Vec<String> {
    if seeds < 10 {
        return Vec::new();
    }
    let missed = DONE.iter().filter_map(|(what, per_hundred)| {
        let (found, floor) = (report.of(what), per_hundred * seeds / 100);
        (found < floor).then(|| format!("{what}: {found} instead of at least {floor}"))
    });
    missed.collect()
}
