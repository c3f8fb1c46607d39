//! A reader that catches up from the disk while producers go on: how fast it is, and what it costs them.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use clap::Args as ClapArgs;

use super::{
    broker::{self, Running, forget_cached},
    footprint, target,
};
use crate::{
    Failure,
    kafka::{Target, fetch, latency},
};

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    /// Gigabytes to store before the reader begins.
    #[arg(long, default_value_t = 4)]
    gigabytes: u64,
    /// Requests per second of the producer beside it, one record each.
    #[arg(long, default_value_t = 2_000)]
    rate: u64,
    /// How long the producer runs, alone and beside the reader, seconds.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let running = broker::wiremill(broker::scratch("catch-up")?, 19_392)?;
    let stored = footprint::fill(&running, args.gigabytes)?;
    println!("{stored:.1} GB stored");
    println!("producer alone:       {}", produce(args, &running)?);
    let stop = Arc::new(AtomicBool::new(false));
    let reader = {
        let (stop, history, dir) = (stop.clone(), target(&running, 16), running.dir().to_owned());
        thread::spawn(move || read_again_and_again(&stop, history, &dir))
    };
    let beside = produce(args, &running);
    stop.store(true, Ordering::Relaxed);
    reader.join().map_err(|_| "the reader panicked")??;
    println!("producer beside it:   {}", beside?);
    Ok(())
}

fn produce(args: &Args, running: &Running) -> Result<latency::Report, Failure> {
    latency::run(&latency::Args {
        target: Target { topic: "live".to_owned(), ..target(running, 1) },
        record_len: 1024,
        batch_records: 1,
        rate: args.rate,
        seconds: args.seconds,
        deadline_ms: 20,
    })
}

/// Reads everything from its beginning, from the disk each time, until it is told to stop; the pass it is in is read to
/// its end.
fn read_again_and_again(stop: &AtomicBool, history: Target, dir: &Path) -> Result<(), Failure> {
    while !stop.load(Ordering::Relaxed) {
        forget_cached(dir)?;
        let args = fetch::Args { target: history.clone(), records: u64::MAX, max_len: 8 << 20 };
        println!("reader from the disk: {}", fetch::run(&args)?);
    }
    Ok(())
}
