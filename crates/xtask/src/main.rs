//! The only script language of the project.
//!
//! Main pieces: [`test::run`] is the whole test run in order, [`tidy`] the rules that no compiler checks,
//! [`compatibility`] the page that real clients write.
//!
//! Invariant: nothing here is part of the product, and nothing here decides what a test means; a step is
//! a command of the ecosystem it belongs to, its exit code and its own closing counts.
//! Not for: benchmarks and simulations themselves (`bench` and `sim` own those, this only starts them).

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, reason = "a command line tool for developers speaks on its standard output")]
#![allow(clippy::disallowed_methods, reason = "runs outside the engine, where nothing is simulated")]

mod broker;
mod clients;
mod compatibility;
mod counts;
mod failing;
mod process;
mod report;
mod test;
mod tidy;
mod workspace;

use std::process::{Command, ExitCode};

const USAGE: &str = "\
cargo xtask test [--quick]   everything: format, rules, lints, unit tests, simulation, client suites
cargo xtask test --only rust,go,node,python,python-amqp,java
                             the named client suites alone; with all of them the compatibility page too
cargo xtask tidy             the rules of the house that no compiler checks
cargo xtask ci               what .ci/run does: `test`, where nothing may be missing and no page may differ, as with CI=true
cargo xtask sim [--seeds N]  the engine simulator, for as many seeds as asked
cargo xtask sim --backlog N  what leases and settlements cost before N records of N / 100 ordering keys
cargo xtask fuzz [--seeds N] the decoders' fuzz bodies, for as many seeds as asked
cargo xtask bench ARGS…      load generators and side-by-side runs (see crates/bench)";

/// Profile that tests, simulator and client suites share: optimised, with every check left in.
const PROFILE: &str = "checked";

/// Seeds that the decoders' fuzz bodies run when asked for more than an ordinary test run gives.
const FUZZ_SEEDS: u64 = 1_000_000;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let rest = args.get(1..).unwrap_or_default();
    let outcome = match args.first().map(String::as_str) {
        Some("test") => test::run(rest, std::env::var_os("CI").is_some_and(|value| value == "true")),
        Some("ci") => test::run(rest, true),
        Some("tidy") => tidy::run_alone(),
        Some("sim") => simulate(rest),
        Some("fuzz") => fuzz(rest),
        Some("bench") => forward(cargo().args(["run", "--release", "--package", "bench", "--"]).args(rest)),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            Ok(())
        }
        Some(other) => Err(format!("unknown command {other:?}\n\n{USAGE}")),
        None => Err(USAGE.to_string()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            println!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn simulate(args: &[String]) -> Result<(), String> {
    if let [flag, records] = args
        && flag == "--backlog"
    {
        return forward(&mut test::simulator(&[flag, records]));
    }
    let seeds = seeds_of(args, test::FULL_SEEDS)?;
    forward(&mut test::simulation(seeds))
}

fn fuzz(args: &[String]) -> Result<(), String> {
    let seeds = seeds_of(args, FUZZ_SEEDS)?;
    forward(
        cargo()
            .args(["test", "--workspace", "--profile", PROFILE, "--", "fuzz"])
            .env("WIREMILL_FUZZ_SEEDS", seeds.to_string()),
    )
}

/// The number after `--seeds`, or `default` when nothing was typed.
fn seeds_of(args: &[String], default: u64) -> Result<u64, String> {
    match args {
        [] => Ok(default),
        [flag, number] if flag == "--seeds" => {
            number.replace('_', "").parse().map_err(|_| format!("--seeds wants a number, not {number:?}"))
        }
        _ => Err(format!("expected [--seeds N]\n\n{USAGE}")),
    }
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace::root());
    command
}

fn forward(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("ended with {status}")) }
}
