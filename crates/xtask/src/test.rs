//! `cargo xtask test`: everything that must hold before a change lands, cheapest first.

use crate::counts::{Counts, Runner};
use crate::report::Report;
use crate::{PROFILE, cargo, clients, compatibility, failing, process, tidy, workspace};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

/// Simulated runs of the engine in a full test run, and in a quick one.
pub const FULL_SEEDS: u64 = 2_000;
const QUICK_SEEDS: u64 = 100;

/// How long tests of overload load the broker in a full run, seconds: they run beside the others, so that a minute costs
/// no minute. The tests say how long it is otherwise.
const FULL_LOAD: [(&str, &str); 1] = [("WIREMILL_TEST_OVERLOAD_S", "60")];

/// What tests of random input begin with, so that a run is what the one before was; `cargo xtask fuzz` looks further.
const RANDOM_TESTS_SEED: &str = "1";

/// A cold build of the workspace with its lints, on two cores.
const BUILD_LIMIT: Duration = Duration::from_secs(25 * 60);
const UNIT_LIMIT: Duration = Duration::from_secs(30 * 60);
const SIMULATION_LIMIT: Duration = Duration::from_secs(15 * 60);

/// What was asked for on the command line.
#[derive(Debug, PartialEq, Eq)]
enum Scope {
    Full,
    Quick,
    Suites(Vec<String>),
}

/// Runs what `args` ask for. With `strict` (CI) nothing may be missing and nothing generated may differ.
pub fn run(args: &[String], strict: bool) -> Result<(), String> {
    let scope = parse(args)?;
    let mut report = Report::default();
    match &scope {
        Scope::Suites(names) => {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            client_suites(&mut report, &names, strict);
        }
        Scope::Quick => house(&mut report, QUICK_SEEDS, &[]),
        Scope::Full => {
            house(&mut report, FULL_SEEDS, &FULL_LOAD);
            client_suites(&mut report, &clients::names(), strict);
        }
    }
    report.close()
}

fn parse(args: &[String]) -> Result<Scope, String> {
    match args {
        [] => Ok(Scope::Full),
        [flag] if flag == "--quick" => Ok(Scope::Quick),
        [flag, names] if flag == "--only" => {
            let names: Vec<String> = names.split(',').map(str::to_string).collect();
            match names.iter().find(|name| !clients::names().contains(&name.as_str())) {
                Some(name) => {
                    Err(format!("no client suite {name:?}; there are {}", clients::names().join(", ")))
                }
                None => Ok(Scope::Suites(names)),
            }
        }
        _ => Err("expected: cargo xtask test [--quick | --only rust,go,node,python,java]".to_string()),
    }
}

/// Format, rules, lints, unit tests (with `variables`) and simulation.
fn house(report: &mut Report, seeds: u64, variables: &[(&str, &str)]) {
    report.step("format", |report| {
        let mut command = cargo();
        command.args(["fmt", "--all", "--check"]);
        check(report, "format", command, BUILD_LIMIT);
    });
    report.step("rules of the house", tidy::run);
    report.step("lints", |report| {
        let mut command = cargo();
        command.args(["clippy", "--workspace", "--all-targets", "--locked", "--profile", PROFILE]);
        command.args(["--", "--deny", "warnings"]);
        check(report, "lints", command, BUILD_LIMIT);
    });
    report.step("unit tests", |report| {
        let mut command = cargo();
        command.args(["test", "--workspace", "--locked", "--no-fail-fast", "--profile", PROFILE]);
        command.envs(variables.iter().copied()).env("PROPTEST_RNG_SEED", RANDOM_TESTS_SEED);
        suite(report, "unit tests", command, UNIT_LIMIT);
    });
    report.step("simulation", |report| check(report, "simulation", simulation(seeds), SIMULATION_LIMIT));
}

/// The simulator: the engine on `seeds` seeds, the broker on a tenth of them.
pub fn simulation(seeds: u64) -> Command {
    simulator(&["--seeds", &seeds.to_string()])
}

/// The simulator with these arguments.
pub fn simulator(args: &[&str]) -> Command {
    let mut command = cargo();
    command.args(["run", "--locked", "--package", "sim", "--profile", PROFILE, "--"]);
    command.args(args);
    command
}

/// The client suites `names`, and when those are all of them the page that they write together.
fn client_suites(report: &mut Report, names: &[&str], strict: bool) {
    let complete = clients::names().iter().all(|name| names.contains(name));
    let Some(binary) = report.step("the broker's binary", build_binary) else { return };
    match clients::run(report, &binary, names, strict) {
        Ok(results) if complete => {
            report.check("the compatibility page", compatibility::update(&results.0, strict));
        }
        Ok(_) => {}
        Err(reason) => report.check("client suites", Err(reason)),
    }
}

/// Builds the broker by itself, so that no feature of a test crate reaches it.
fn build_binary(report: &mut Report) -> Option<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--locked", "--package", "wiremill", "--profile", PROFILE]);
    if !check(report, "the broker's binary", command, BUILD_LIMIT) {
        return None;
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace::root().join("target"), |folder| workspace::root().join(folder));
    Some(target.join(PROFILE).join("wiremill"))
}

fn check(report: &mut Report, name: &str, command: Command, limit: Duration) -> bool {
    let outcome = process::run(command, limit)
        .and_then(|finished| if finished.succeeded() { Ok(()) } else { Err(finished.complaint()) });
    let succeeded = outcome.is_ok();
    report.check(name, outcome);
    succeeded
}

fn suite(report: &mut Report, name: &str, command: Command, limit: Duration) {
    match process::run(command, limit) {
        Ok(finished) => {
            let outcome = if finished.succeeded() { Ok(()) } else { Err(finished.complaint()) };
            report.suite(name, Runner::Cargo.count(&finished.lines), outcome);
            report.quote(name, failing::excerpt(Runner::Cargo, &finished.lines));
        }
        Err(reason) => report.suite(name, Counts::default(), Err(reason)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Scope, String> {
        parse(&args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>())
    }

    #[test]
    fn what_is_typed_decides_how_much_runs() {
        assert_eq!(parsed(&[]), Ok(Scope::Full));
        assert_eq!(parsed(&["--quick"]), Ok(Scope::Quick));
        assert_eq!(
            parsed(&["--only", "go,java"]),
            Ok(Scope::Suites(vec!["go".to_string(), "java".to_string()]))
        );
    }

    #[test]
    fn an_unknown_suite_is_named() {
        assert!(parsed(&["--only", "cobol"]).is_err_and(|message| message.contains("cobol")));
        assert!(parsed(&["--slow"]).is_err());
    }
}
