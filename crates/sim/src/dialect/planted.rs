//! Mistakes of the broker, planted on purpose: each has to be noticed.

use broker::faults::{Fault, Faults};

use super::{Settings, run};
use crate::storage::Report;

/// Every mistake that has to be noticed, with what the command line calls it.
pub const MISTAKES: [(&str, Fault); 4] = [
    ("settlement-dropped", Fault::SettlementDropped),
    ("rejected-stays", Fault::RejectedStays),
    ("lease-not-logged", Fault::LeaseNotLogged),
    ("unit-in-parts", Fault::UnitInParts),
];

/// The first of `seeds` in which `fault` is noticed, with what was said.
pub fn noticed(fault: Fault, mut seeds: std::ops::Range<u64>, ops: u64) -> Option<(u64, Report)> {
    seeds.find_map(|seed| {
        let report = run(&Settings { ops, planted: Faults::plant(fault), ..Settings::of(seed) });
        (!report.broken.is_empty()).then_some((seed, report))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_planted_mistake_of_the_broker_is_noticed() {
        for (name, fault) in MISTAKES {
            assert!(noticed(fault, 1..30, 500).is_some(), "{name} went unnoticed");
        }
    }
}
