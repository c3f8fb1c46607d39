//! `cargo xtask sim`: runs seeds of both simulations, of the storage engine and of the broker, and says what they met.
#![allow(clippy::print_stdout)] // A command of its own.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use sim::{
    backlog, dialect,
    storage::{MISTAKES, Mistake, Report, Settings, floors, run, run_seeds},
};

const USAGE: &str = "usage: sim [--seeds N] [--broker-seeds N] [--from SEED] [--ops N] [--threads N] [--trace] \
    [--broker-trace] [--plant MISTAKE] [--backlog RECORDS]";

/// A broker seed for so many seeds of the engine, unless it is said.
const SEEDS_PER_BROKER_SEED: u64 = 10;

struct Args {
    seeds: u64,
    broker_seeds: Option<u64>,
    broker_trace: bool,
    from: u64,
    ops: u64,
    threads: usize,
    trace: bool,
    plant: Option<Mistake>,
    backlog: Option<u64>,
}

fn main() -> ExitCode {
    let args = match parse(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(text) => {
            println!("{text}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    if let Some(records) = args.backlog {
        return deep(records, args.from);
    }
    let settings = Settings { ops: args.ops, keep_trace: args.trace, ..Settings::of(args.from) };
    let settings = args.plant.map_or(settings.clone(), |mistake| mistake.plant(&settings));
    let of_broker = dialect::Settings {
        ops: args.ops,
        keep_trace: args.broker_trace,
        ..dialect::Settings::of(args.from)
    };
    if args.trace || args.broker_trace {
        return traced(&if args.trace { run(&settings) } else { dialect::run(&of_broker) });
    }
    let report = run_seeds(args.from, args.seeds, args.threads, &settings);
    let engine = told("", &report, args.seeds, &args, floors(&report, args.seeds));
    let broker_seeds = args.broker_seeds.unwrap_or(args.seeds / SEEDS_PER_BROKER_SEED);
    let report = dialect::run_seeds(args.from, broker_seeds, args.threads, &of_broker);
    let broker = told("broker ", &report, broker_seeds, &args, dialect::floors(&report, broker_seeds));
    if engine && broker { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Works on a backlog of so many records and says what that cost.
fn deep(records: u64, seed: u64) -> ExitCode {
    match backlog::run(backlog::Settings { records, seed }) {
        Ok(report) => {
            print!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("BROKEN {error}");
            ExitCode::FAILURE
        }
    }
}

fn traced(report: &Report) -> ExitCode {
    let text = report.trace_text.as_deref().unwrap_or_default();
    println!("{text}\n{report}trace {:016x}", report.trace_hash);
    if report.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says what a simulation came to; whether it is well.
fn told(what: &str, report: &Report, seeds: u64, args: &Args, missed: Vec<String>) -> bool {
    println!("{report}{seeds} {what}seeds from {} of {} operations", args.from, args.ops);
    for line in &missed {
        println!("FLOOR {line}");
    }
    report.broken.is_empty() && missed.is_empty()
}

fn parse(mut given: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut args = Args {
        seeds: 2000,
        broker_seeds: None,
        broker_trace: false,
        from: 1,
        ops: 1000,
        threads: 2,
        trace: false,
        plant: None,
        backlog: None,
    };
    while let Some(name) = given.next() {
        let mut number = || {
            let value = given.next().ok_or(format!("{name} needs a number"))?;
            value.parse::<u64>().map_err(|_| format!("{value} is not a number"))
        };
        match name.as_str() {
            "--seeds" => args.seeds = number()?,
            "--broker-seeds" => args.broker_seeds = Some(number()?),
            "--broker-trace" => args.broker_trace = true,
            "--from" => args.from = number()?,
            "--ops" => args.ops = number()?,
            "--threads" => args.threads = usize::try_from(number()?).unwrap_or(2),
            "--plant" => {
                let name = given.next().unwrap_or_default();
                let known = || MISTAKES.map(|mistake| mistake.name).join(", ");
                args.plant = Some(Mistake::named(&name).ok_or_else(|| format!("mistakes are {}", known()))?);
            }
            "--backlog" => args.backlog = Some(number()?),
            "--trace" => args.trace = true,
            _ => return Err(format!("{name} is not known")),
        }
    }
    Ok(args)
}
