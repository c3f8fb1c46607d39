//! Mistakes of the broker, planted on purpose: each has to be noticed, by the check that is there for it.

use broker::faults::{Fault, Faults};

use super::{Settings, run};
use crate::storage::Report;

/// Every mistake that has to be noticed, with what the command line calls it, and how what is said of it reads.
pub const MISTAKES: [(&str, Fault, &str); 15] = [
    ("settlement-dropped", Fault::SettlementDropped, ""),
    ("rejected-stays", Fault::RejectedStays, ""),
    ("lease-not-logged", Fault::LeaseNotLogged, ""),
    ("unit-in-parts", Fault::UnitInParts, "all or nothing"),
    ("wrong-one-dropped", Fault::WrongOneDropped, "against its limits"),
    ("deflection-lost", Fault::DeflectionLost, "spill"),
    ("follower-lost", Fault::FollowerLost, "where a route leads"),
    ("expired-early", Fault::ExpiredEarly, "fleeting"),
    ("expired-stays", Fault::ExpiredStays, "past its time"),
    ("delivered-early", Fault::DeliveredEarly, "is early"),
    ("permission-skipped", Fault::PermissionSkipped, "permission for"),
    ("seek-not-logged", Fault::SeekNotLogged, "cursor 13"),
    ("attempt-forgotten", Fault::AttemptForgotten, "is delivery"),
    ("allowance-exceeded", Fault::AllowanceExceeded, "allowed"),
    ("unknown-format-skipped", Fault::UnknownFormatSkipped, "unknown format"),
];

/// The first of `seeds` in which `fault` is noticed and something is said that reads like `said`.
pub fn noticed(fault: Fault, said: &str, mut seeds: std::ops::Range<u64>, ops: u64) -> Option<(u64, Report)> {
    seeds.find_map(|seed| {
        let report = run(&Settings { ops, planted: Faults::plant(fault), ..Settings::of(seed) });
        report.broken.iter().any(|broken| broken.contains(said)).then_some((seed, report))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_planted_mistake_of_the_broker_is_noticed() {
        for (name, fault, said) in MISTAKES {
            assert!(noticed(fault, said, 1..60, 500).is_some(), "{name} went unnoticed");
        }
    }
}
