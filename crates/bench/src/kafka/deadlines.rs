//! Single records with a deadline on each: at a fixed rate, and again at 80 % of what the broker takes at most.

use clap::Args as ClapArgs;

use super::{Target, latency, produce};
use crate::Failure;

/// Requests that wait for their answer while the maximum is measured: enough that the disk and not the window limits.
const WINDOW: usize = 512;

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub target: Target,
    /// Bytes of each record's value.
    #[arg(long, default_value_t = 1024)]
    pub record_len: usize,
    /// Records per second of the first run.
    #[arg(long, default_value_t = 2_000)]
    pub rate: u64,
    /// How long each run takes, seconds.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// How long the maximum is measured, seconds.
    #[arg(long, default_value_t = 10)]
    pub maximum_seconds: u64,
    /// When a record has to be acknowledged, milliseconds from when it was due.
    #[arg(long, default_value_t = 20)]
    pub deadline_ms: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let at_rate = |rate| {
        latency::run(&latency::Args {
            target: args.target.clone(),
            record_len: args.record_len,
            batch_records: 1,
            rate,
            seconds: args.seconds,
            deadline_ms: args.deadline_ms,
        })
    };
    println!("{}", at_rate(args.rate)?);
    let maximum = produce::run(&produce::Args {
        target: args.target.clone(),
        record_len: args.record_len,
        batch_records: 1,
        window: WINDOW,
        connections: 1,
        request_partitions: 1,
        seconds: args.maximum_seconds,
        compression: produce::Packing::None,
    })?;
    println!("at most {maximum}");
    println!("{}", at_rate((maximum.records_per_s * 0.8) as u64)?);
    Ok(())
}
