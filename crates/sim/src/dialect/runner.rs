//! Many seeds, their sum, and the floors that say whether the runs were worth anything.

use super::{Settings, run};
use crate::storage::{Report, sum_of};

/// Runs `count` seeds from `first` on, on `threads` threads.
pub fn run_seeds(first: u64, count: u64, threads: usize, settings: &Settings) -> Report {
    sum_of(first, count, threads, |seed| run(&Settings { seed, ..settings.clone() }))
}

/// How often each thing must have been done in a hundred seeds of a thousand operations: about a quarter of what is.
const DONE: [(&str, u64); 45] = [
    ("grants checked", 15_000),
    ("grants again", 6_000),
    ("grants at their time", 1_500),
    ("grants before their end", 150),
    ("attempts counted exactly", 12_000),
    ("orders checked", 4_000),
    ("leases by bytes", 900),
    ("leases under a shared credit", 500),
    ("leases narrowed by a shared credit", 200),
    ("consumers told in turn", 40),
    ("everything ready was taken", 120),
    ("records that had to be there", 2_400),
    ("states checked", 300),
    ("counts compared", 1_800),
    ("transferred", 300),
    ("cursors set", 170),
    ("purged", 75),
    ("oldest dropped from a log", 1_200),
    ("oldest dropped from a queue", 750),
    ("appends refused", 2_500),
    ("records deflected", 800),
    ("records along routes", 600),
    ("publishes stopped by a further target", 45),
    ("expired records compared", 6_000),
    ("origins checked", 6_000),
    ("overrun records compared", 4_500),
    ("permissions given", 150),
    ("permissions denied", 150),
    ("users and routes changed", 350),
    ("unknown formats reported", 180),
    ("dropped from the middle", 280),
    ("conditional appends raced", 700),
    ("duplicates", 240),
    ("sequences said twice", 170),
    ("positions committed", 500),
    ("changes brought back", 250_000),
    ("recorded leases brought back", 6_000),
    ("settlements in a unit", 1_300),
    ("units refused whole", 650),
    ("dead letters compared", 400),
    ("records browsed", 4_800),
    ("records compared", 70_000),
    ("compared", 200),
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
