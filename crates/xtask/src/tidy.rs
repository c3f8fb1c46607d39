//! Rules of the house that no compiler checks. Each rule is a function that returns what breaks it.

mod code;
mod dependencies;
mod licences;
mod source;
mod words;

use crate::report::Report;
use crate::workspace;

/// What breaks a rule: where, and what to do about it.
type Complaints = Vec<String>;

/// `cargo xtask tidy`.
pub fn run_alone() -> Result<(), String> {
    let mut report = Report::default();
    run(&mut report);
    report.close()
}

/// Checks every rule; each counts as one check.
pub fn run(report: &mut Report) {
    match (workspace::sources(), workspace::metadata()) {
        (Ok(sources), Ok(metadata)) => {
            let rules = [
                ("crates depend in one direction", dependencies::direction(&metadata)),
                (
                    "planted faults are enabled by the simulator alone",
                    dependencies::planted_faults(&metadata),
                ),
                ("dependencies have permissive licences", licences::permissive(&metadata)),
                ("the spine speaks neutral words", words::neutral(&sources)),
                ("files are short", source::short(&sources)),
                ("crate roots forbid unsafe code", source::forbids_unsafe(&sources)),
                ("no test is ignored and nothing is left to do", source::finished(&sources)),
            ];
            for (name, complaints) in rules {
                let outcome = if complaints.is_empty() { Ok(()) } else { Err(complaints.join("\n        ")) };
                report.check(name, outcome);
            }
        }
        (Err(reason), _) | (_, Err(reason)) => report.check("rules of the house", Err(reason)),
    }
}
