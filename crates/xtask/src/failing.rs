//! Which tests failed and what they said, from the output of each ecosystem's own runner: a run of a thousand tests is
//! read from its end.

use crate::counts::{Runner, plain};

/// Lines that one test may say for itself, and that one suite may say at all.
const TEST_LINES_MAX: usize = 12;
const SUITE_LINES_MAX: usize = 120;

/// What is repeated at the end of the run, in the runner's own lines.
pub fn excerpt(runner: Runner, lines: &[String]) -> Vec<String> {
    let lines: Vec<String> = lines.iter().map(|line| plain(line)).collect();
    let mut out = Vec::new();
    let mut left = 0;
    for line in &lines {
        if begins(runner, line) {
            left = TEST_LINES_MAX;
        } else if left > 0 && !belongs(runner, line) {
            left = 0;
        }
        if left > 0 && !line.trim().is_empty() {
            left -= 1;
            out.push(line.clone());
        }
    }
    out.truncate(SUITE_LINES_MAX);
    out
}

/// Whether a line names a test that failed.
fn begins(runner: Runner, line: &str) -> bool {
    match runner {
        Runner::Cargo => {
            line.starts_with("---- ") && line.ends_with(" stdout ----")
                || line.starts_with("test ") && line.contains(" ... FAILED")
        }
        Runner::Go => line.trim_start().starts_with("--- FAIL:") || line.starts_with("panic:"),
        Runner::Node => line.trim_start().starts_with("✖ ") || line.trim_start().starts_with("not ok "),
        Runner::Pytest => line.starts_with("FAILED ") || line.starts_with("ERROR "),
        Runner::Maven => line.starts_with("[ERROR]"),
    }
}

/// Whether a line goes with the test that was named before it.
fn belongs(runner: Runner, line: &str) -> bool {
    match runner {
        Runner::Cargo => {
            !line.starts_with("test ")
                && !line.starts_with("failures:")
                && !line.starts_with("stack backtrace")
        }
        Runner::Go | Runner::Node => line.starts_with(' '),
        Runner::Pytest | Runner::Maven => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(runner: Runner, text: &str, expected: &[&str]) {
        let lines: Vec<String> = text.lines().map(str::to_string).collect();
        assert_eq!(excerpt(runner, &lines), expected, "{text}");
    }

    #[test]
    fn a_failed_test_is_named_with_what_it_said() {
        check(
            Runner::Cargo,
            "test a ... ok\ntest b ... FAILED\n\nfailures:\n\n---- b stdout ----\n\nthread 'b' panicked at x.rs:1:\n\
             left is not right\n\nfailures:\n    b\n\ntest result: FAILED. 1 passed; 1 failed",
            &[
                "test b ... FAILED",
                "---- b stdout ----",
                "thread 'b' panicked at x.rs:1:",
                "left is not right",
            ],
        );
        check(
            Runner::Go,
            "=== RUN TestA\n--- PASS: TestA (0.1s)\n--- FAIL: TestB (1s)\n    b_test.go:7: no\nFAIL",
            &["--- FAIL: TestB (1s)", "    b_test.go:7: no"],
        );
        check(
            Runner::Node,
            "✔ one (1ms)\n✖ two (2ms)\n  Error: no\nℹ fail 1",
            &["✖ two (2ms)", "  Error: no"],
        );
        check(
            Runner::Pytest,
            "PASSED\n\u{1b}[31mFAILED\u{1b}[0m a.py::b - no\n1 failed in 1s",
            &["FAILED a.py::b - no"],
        );
        check(Runner::Maven, "[INFO] fine\n[ERROR] ATest.b:7 no", &["[ERROR] ATest.b:7 no"]);
    }

    #[test]
    fn a_test_that_says_much_is_cut() {
        let text = format!("---- b stdout ----\n{}", "word\n".repeat(1_000));
        let lines: Vec<String> = text.lines().map(str::to_string).collect();
        assert_eq!(excerpt(Runner::Cargo, &lines).len(), TEST_LINES_MAX);
    }
}
