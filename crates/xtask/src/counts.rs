//! Reads how many tests passed and failed from the closing lines of each ecosystem's own runner.

/// Tests that a run says it executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
}

impl Counts {
    fn add(&mut self, passed: u64, failed: u64) {
        self.passed += passed;
        self.failed += failed;
    }

    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.add(other.passed, other.failed);
    }
}

/// Whose closing lines to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runner {
    Cargo,
    Go,
    Node,
    Pytest,
    Maven,
}

impl Runner {
    pub fn count(self, lines: &[String]) -> Counts {
        let mut counts = Counts::default();
        for line in lines.iter().map(|line| plain(line)) {
            match self {
                Self::Cargo => cargo(&line, &mut counts),
                Self::Go => go(&line, &mut counts),
                Self::Node => node(&line, &mut counts),
                Self::Pytest => pytest(&line, &mut counts),
                Self::Maven => maven(&line, &mut counts),
            }
        }
        counts
    }
}

/// `line` without terminal colours.
pub fn plain(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find('\u{1b}') {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        rest = tail.find('m').map_or("", |end| &tail[end + 1..]);
    }
    out.push_str(rest);
    out
}

/// The number that stands directly before `word` in `line`.
fn number_before(line: &str, word: &str) -> u64 {
    let before = line.find(word).map_or("", |at| line[..at].trim_end());
    let digits = before.rfind(|c: char| !c.is_ascii_digit()).map_or(before, |at| &before[at + 1..]);
    digits.parse().unwrap_or(0)
}

/// The number that stands directly after `word` in `line`.
fn number_after(line: &str, word: &str) -> u64 {
    let after = line.find(word).map_or("", |at| line[at + word.len()..].trim_start());
    let digits = after.find(|c: char| !c.is_ascii_digit()).map_or(after, |end| &after[..end]);
    digits.parse().unwrap_or(0)
}

fn cargo(line: &str, counts: &mut Counts) {
    if line.starts_with("test result:") {
        counts.add(number_before(line, " passed"), number_before(line, " failed"));
    }
}

fn go(line: &str, counts: &mut Counts) {
    counts.add(u64::from(line.starts_with("--- PASS:")), u64::from(line.starts_with("--- FAIL:")));
}

fn node(line: &str, counts: &mut Counts) {
    for mark in ["# ", "ℹ "] {
        if let Some(rest) = line.strip_prefix(mark) {
            let number = |word| if rest.starts_with(word) { number_after(rest, word) } else { 0 };
            // A test whose time is over is "cancelled", and no failure of its own.
            counts.add(number("pass "), number("fail ") + number("cancelled "));
        }
    }
}

fn pytest(line: &str, counts: &mut Counts) {
    let closing = line.trim_matches(['=', ' ']);
    if closing.contains(" in ")
        && (closing.contains(" passed") || closing.contains(" failed") || closing.contains(" error"))
    {
        counts.add(
            number_before(closing, " passed"),
            number_before(closing, " failed") + number_before(closing, " error"),
        );
    }
}

fn maven(line: &str, counts: &mut Counts) {
    let line =
        line.trim_start_matches(['[', ']', ' ']).trim_start_matches("INFO] ").trim_start_matches("ERROR] ");
    if line.starts_with("Tests run:") && !line.contains("Time elapsed") {
        let failed = number_after(line, "Failures:") + number_after(line, "Errors:");
        let skipped = number_after(line, "Skipped:");
        let run = number_after(line, "Tests run:");
        counts.add(run.saturating_sub(failed + skipped), failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(runner: Runner, text: &str, passed: u64, failed: u64) {
        let lines: Vec<String> = text.lines().map(str::to_string).collect();
        assert_eq!(runner.count(&lines), Counts { passed, failed }, "{text}");
    }

    #[test]
    fn cargo_counts_are_summed_over_all_binaries() {
        check(
            Runner::Cargo,
            "running 2 tests\ntest result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
             test result: FAILED. 10 passed; 3 failed; 0 ignored; 0 measured",
            12,
            3,
        );
    }

    #[test]
    fn go_counts_tests_and_not_their_parts() {
        check(
            Runner::Go,
            "--- PASS: TestA (0.1s)\n    --- FAIL: TestB/x (0s)\n--- FAIL: TestB (1s)\nFAIL",
            1,
            1,
        );
    }

    #[test]
    fn node_counts_are_read_from_both_of_its_reporters() {
        check(Runner::Node, "# tests 5\n# pass 4\n# fail 1", 4, 1);
        check(Runner::Node, "ℹ tests 5\nℹ pass 5\nℹ fail 0", 5, 0);
        check(Runner::Node, "ℹ tests 5\nℹ pass 3\nℹ fail 1\nℹ cancelled 1", 3, 2);
    }

    #[test]
    fn pytest_counts_errors_as_failures() {
        check(Runner::Pytest, "===== 1 failed, 7 passed, 2 errors in 3.21s =====", 7, 3);
        check(Runner::Pytest, "\u{1b}[32m8 passed\u{1b}[0m in 1.00s", 8, 0);
    }

    #[test]
    fn maven_counts_only_the_closing_line() {
        check(
            Runner::Maven,
            "[INFO] Tests run: 3, Failures: 0, Errors: 0, Skipped: 0, Time elapsed: 1.2 s -- in ATest\n[INFO] \n\
             [ERROR] Tests run: 9, Failures: 1, Errors: 1, Skipped: 2",
            5,
            2,
        );
    }
}
