//! What a run did and what it found.

use std::{collections::BTreeMap, fmt};

use crate::Fired;

/// Outcome of one seed, or the sum of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Broken promises; empty when the engine kept them all.
    pub broken: Vec<String>,
    /// How often each fault fired.
    pub fired: Fired,
    /// How often each thing was done or each branch taken, by name.
    pub counts: BTreeMap<&'static str, u64>,
    /// Over everything that happened.
    pub trace_hash: u64,
    /// Everything that happened, where that was asked for.
    pub trace_text: Option<String>,
}

impl Report {
    /// Counts one of `what`.
    pub fn count(&mut self, what: &'static str) {
        self.add_count(what, 1);
    }

    /// Counts `n` of `what`.
    pub fn add_count(&mut self, what: &'static str, n: u64) {
        *self.counts.entry(what).or_default() += n;
    }

    /// How often `what` was counted.
    pub fn of(&self, what: &str) -> u64 {
        self.counts.get(what).copied().unwrap_or_default()
    }

    /// Adds another run's outcome.
    pub fn add(&mut self, other: &Report) {
        self.broken.extend(other.broken.iter().cloned());
        self.fired.add(&other.fired);
        for (what, n) in &other.counts {
            self.add_count(what, *n);
        }
        self.trace_hash ^= other.trace_hash;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "faults:")?;
        self.fired.fmt(f)?;
        writeln!(f, "done:")?;
        for (what, n) in &self.counts {
            writeln!(f, "  {what:<34} {n}")?;
        }
        for broken in &self.broken {
            writeln!(f, "BROKEN {broken}")?;
        }
        Ok(())
    }
}
