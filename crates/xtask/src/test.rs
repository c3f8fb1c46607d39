//! `cargo xtask test`: everything that must hold before a change lands, cheapest first.

use crate::clients::Wanted;
use crate::counts::{Counts, Runner};
use crate::process::Output;
use crate::report::Report;
use crate::{PROFILE, cargo, clients, compatibility, failing, process, tidy, workspace};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Simulated runs of the engine in a full test run, and in a quick one.
pub const FULL_SEEDS: u64 = 2_000;
const QUICK_SEEDS: u64 = 100;

/// How long tests of overload load the broker in a full run, seconds, in every dialect: they run beside others, so that a
/// minute costs less than one. The tests say how long it is otherwise.
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
            let binary = report.step("the broker's binary", build_binary);
            client_suites(&mut report, binary, &Wanted { names: &names, ..Wanted::default() }, strict);
        }
        Scope::Quick => {
            house(&mut report, QUICK_SEEDS, &[]);
        }
        Scope::Full => {
            let fetching = std::thread::spawn(|| clients::fetch(&clients::names()));
            let is_built = house(&mut report, FULL_SEEDS, &FULL_LOAD);
            // What fetching panicked over is fetched again by its suite.
            let fetched = fetching.join().unwrap_or_default();
            let binary = match built("wiremill").filter(|_| is_built) {
                Some(binary) => Some(binary),
                None => report.step("the broker's binary", build_binary),
            };
            let wanted = Wanted { names: &clients::names(), fetched, variables: &FULL_LOAD };
            client_suites(&mut report, binary, &wanted, strict);
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
        _ => {
            Err("expected: cargo xtask test [--quick | --only rust,go,node,python,python-amqp,java]"
                .to_string())
        }
    }
}

/// Format, rules, lints, unit tests (with `variables`) and simulation. Whether the unit tests were built, and the programs
/// of the workspace with them.
///
/// Those programs have the features of test crates (`testing`, `conformance`, `planted-faults`), because cargo builds a
/// crate once for all that use it. None of them does anything by itself. The lints look at the broker once more as it
/// ships, so that nothing compiles only thanks to a test.
fn house(report: &mut Report, seeds: u64, variables: &[(&str, &str)]) -> bool {
    report.step("format", |report| {
        let mut command = cargo();
        command.args(["fmt", "--all", "--check"]);
        check(report, "format", command, BUILD_LIMIT);
    });
    report.step("rules of the house", tidy::run);
    report.step("lints", |report| {
        for what in [&["--workspace", "--all-targets"][..], &["--package", "wiremill", "--bin", "wiremill"]] {
            let mut command = cargo();
            command.arg("clippy").args(what).args(["--locked", "--profile", PROFILE]);
            command.args(["--", "--deny", "warnings"]);
            check(report, "lints", command, BUILD_LIMIT);
        }
    });
    let is_built = report.step("unit tests", |report| {
        let mut command = cargo();
        command.args(["test", "--workspace", "--locked", "--no-fail-fast", "--profile", PROFILE]);
        command.envs(variables.iter().copied()).env("PROPTEST_RNG_SEED", RANDOM_TESTS_SEED);
        suite(report, "unit tests", command, UNIT_LIMIT)
    });
    report.step("simulation", |report| {
        let command = match built("sim").filter(|_| is_built) {
            Some(program) => simulator_at(&program, seeds),
            None => simulation(seeds),
        };
        check(report, "simulation", command, SIMULATION_LIMIT);
    });
    is_built
}

/// The simulator, as `program` is it.
fn simulator_at(program: &Path, seeds: u64) -> Command {
    let mut command = Command::new(program);
    command.args(["--seeds", &seeds.to_string()]).current_dir(workspace::root());
    command
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

/// The client suites that are `wanted` against `binary`, where there is one, and the page that all of them write
/// together.
fn client_suites(report: &mut Report, binary: Option<PathBuf>, wanted: &Wanted<'_>, strict: bool) {
    const PAGE: &str = "the compatibility page";
    let Some(binary) = binary else { return };
    match clients::run(report, &binary, wanted, strict) {
        Ok(results) => match missing_of_page(wanted.names, &results.whole) {
            Some(missing) if missing.is_empty() => {
                report.check(PAGE, compatibility::update(&results.folder, strict));
            }
            Some(missing) => {
                report.skip(PAGE, &format!("left as it is without all of {}", missing.join(", ")), false);
            }
            None => {}
        },
        Err(reason) => report.check("client suites", Err(reason)),
    }
}

/// The suites that the compatibility page cannot be written without and that did not run to their end; `None` where
/// not all were asked for.
fn missing_of_page(asked: &[&str], whole: &BTreeSet<&str>) -> Option<Vec<&'static str>> {
    let all = clients::names();
    let is_asked_for = all.iter().all(|name| asked.contains(name));
    is_asked_for.then(|| all.into_iter().filter(|name| !whole.contains(name)).collect())
}

/// Builds the broker by itself, so that no feature of a test crate reaches it.
fn build_binary(report: &mut Report) -> Option<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--locked", "--package", "wiremill", "--profile", PROFILE]);
    if check(report, "the broker's binary", command, BUILD_LIMIT) { built("wiremill") } else { None }
}

/// A program of the workspace where cargo puts it, when it is there.
fn built(name: &str) -> Option<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace::root().join("target"), |folder| workspace::root().join(folder));
    Some(target.join(PROFILE).join(name)).filter(|program| program.is_file())
}

fn check(report: &mut Report, name: &str, command: Command, limit: Duration) -> bool {
    let outcome = process::run(command, limit, Output::Shown)
        .and_then(|finished| if finished.succeeded() { Ok(()) } else { Err(finished.complaint()) });
    let succeeded = outcome.is_ok();
    report.check(name, outcome);
    succeeded
}

/// Runs tests of cargo's. Whether they were built: cargo builds all of them, and their programs, before it runs the
/// first.
fn suite(report: &mut Report, name: &str, command: Command, limit: Duration) -> bool {
    match process::run(command, limit, Output::Shown) {
        Ok(finished) => {
            let outcome = if finished.succeeded() { Ok(()) } else { Err(finished.complaint()) };
            let counts = Runner::Cargo.count(&finished.lines);
            report.suite(name, counts, outcome);
            report.quote(name, failing::excerpt(Runner::Cargo, &finished.lines));
            !counts.is_empty()
        }
        Err(reason) => {
            report.suite(name, Counts::default(), Err(reason));
            false
        }
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

    #[test]
    fn the_page_wants_every_suite_whole() {
        let all = clients::names();
        let whole = |left_out: &str| all.iter().copied().filter(|name| *name != left_out).collect();
        assert_eq!(missing_of_page(&all, &whole("")), Some(Vec::new()));
        assert_eq!(missing_of_page(&all, &whole("java")), Some(vec!["java"]));
        assert_eq!(missing_of_page(&["go"], &whole("java")), None);
    }
}
