//! The closing report of a test run.

use crate::counts::Counts;
use std::time::Instant;

/// Gathers what every step said, and prints the one line that sums it up.
#[derive(Default)]
pub struct Report {
    counts: Counts,
    failures: Vec<String>,
    /// What the tests that failed said, suite by suite.
    excerpts: Vec<String>,
    skipped: Vec<String>,
}

impl Report {
    /// Runs one step under a heading that says how long it took.
    pub fn step<T>(&mut self, name: &str, run: impl FnOnce(&mut Self) -> T) -> T {
        println!("\n== {name}");
        let started = Instant::now();
        let value = run(self);
        println!("== {name}: {:.1} s", started.elapsed().as_secs_f64());
        value
    }

    /// A step that is one check: it passed or it did not.
    pub fn check(&mut self, name: &str, outcome: Result<(), String>) {
        match outcome {
            Ok(()) => self.counts.passed += 1,
            Err(reason) => self.fail(name, &reason),
        }
    }

    /// A step that ran a test runner. One that failed without counting a failure counts as one.
    pub fn suite(&mut self, name: &str, counts: Counts, outcome: Result<(), String>) {
        self.counts.passed += counts.passed;
        self.counts.failed += counts.failed;
        match outcome {
            Ok(()) if counts.is_empty() => self.fail(name, "ran no test"),
            Ok(()) if counts.failed > 0 => self.failures.push(format!("{name}: {} failed", counts.failed)),
            Ok(()) => {}
            Err(reason) if counts.failed > 0 => {
                self.failures.push(format!("{name}: {} failed, {reason}", counts.failed));
            }
            Err(reason) => self.fail(name, &reason),
        }
    }

    /// What a suite's failed tests said, to be repeated at the end.
    pub fn quote(&mut self, name: &str, excerpt: Vec<String>) {
        if !excerpt.is_empty() {
            self.excerpts.push(format!("-- {name}"));
            self.excerpts.extend(excerpt);
        }
    }

    /// Something that cannot be done on this machine: told at the end, and a failure where it must be there.
    pub fn skip(&mut self, name: &str, reason: &str, must_run: bool) {
        if must_run {
            self.fail(name, reason);
        } else {
            self.skipped.push(format!("{name}: {reason}"));
        }
    }

    fn fail(&mut self, name: &str, reason: &str) {
        self.counts.failed += 1;
        self.failures.push(format!("{name}: {reason}"));
    }

    /// Prints the closing lines; the last is the plain count.
    pub fn close(self) -> Result<(), String> {
        println!();
        for line in &self.excerpts {
            println!("{line}");
        }
        for line in &self.skipped {
            println!("skipped: {line}");
        }
        for line in &self.failures {
            println!("failed: {line}");
        }
        let Counts { passed, failed } = self.counts;
        let line = format!("{passed} passed, {failed} failed");
        if failed > 0 {
            return Err(line);
        }
        println!("{line}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suite_that_ran_nothing_fails() {
        let mut report = Report::default();
        report.suite("go", Counts::default(), Ok(()));
        assert_eq!(report.close(), Err("0 passed, 1 failed".to_string()));
    }

    #[test]
    fn a_suite_that_broke_after_passing_tests_fails() {
        let mut report = Report::default();
        report.suite("go", Counts { passed: 3, failed: 0 }, Err("stopped".to_string()));
        assert_eq!(report.close(), Err("3 passed, 1 failed".to_string()));
    }

    #[test]
    fn what_is_missing_fails_only_where_it_must_be_there() {
        let mut report = Report::default();
        report.check("tidy", Ok(()));
        report.skip("java", "no mvn", false);
        assert_eq!(report.close(), Ok(()));
        let mut report = Report::default();
        report.skip("java", "no mvn", true);
        assert_eq!(report.close(), Err("0 passed, 1 failed".to_string()));
    }
}
