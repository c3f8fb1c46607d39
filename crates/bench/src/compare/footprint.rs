//! What it costs to be there: start, idle memory and CPU, many streams, a restart with much data.

use std::{thread, time::Duration, time::Instant};

use clap::Args as ClapArgs;

use super::{broker, target};
use crate::{
    Failure,
    kafka::{call, encode, produce},
    process::Usage,
};

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    /// Streams to make.
    #[arg(long, default_value_t = 100_000)]
    streams: usize,
    /// Gigabytes to store before the kill.
    #[arg(long, default_value_t = 10)]
    gigabytes: u64,
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    start_and_idle()?;
    many_streams(args.streams)?;
    restart_full(args.gigabytes)
}

fn start_and_idle() -> Result<(), Failure> {
    let running = broker::wiremill(broker::scratch("idle")?, 19_392)?;
    thread::sleep(Duration::from_secs(1));
    let before = Usage::of(Some(running.pid()))?;
    thread::sleep(Duration::from_secs(10));
    let after = Usage::of(Some(running.pid()))?;
    println!(
        "start to ready {} ms, idle memory {:.1} MiB, idle CPU {:.2} %",
        running.ready_after.as_millis(),
        after.rss_mib,
        (after.cpu_s - before.cpu_s) * 10.0
    );
    Ok(())
}

fn many_streams(count: usize) -> Result<(), Failure> {
    let running = broker::wiremill(broker::scratch("streams")?, 19_392)?;
    let idle = Usage::of(Some(running.pid()))?;
    let begin = Instant::now();
    let workers: Vec<_> = (0..8)
        .map(|worker| {
            let target = target(&running, 1);
            thread::spawn(move || -> Result<(), Failure> {
                let mut stream = target.connect()?;
                for index in (worker..count).step_by(8) {
                    call(&mut stream, &encode::create_topic(&format!("stream-{index}"), 1))?;
                }
                Ok(())
            })
        })
        .collect();
    for worker in workers {
        worker.join().map_err(|_| "a worker panicked")??;
    }
    let created_s = begin.elapsed().as_secs_f64();
    thread::sleep(Duration::from_secs(3));
    let full = Usage::of(Some(running.pid()))?;
    let dir = running.kill()?;
    let again = broker::wiremill(dir, 19_392)?;
    println!(
        "{count} streams: created in {created_s:.1} s, {:.0} B each, restart after kill -9 in {} ms",
        (full.rss_mib - idle.rss_mib) * 1024.0 * 1024.0 / count as f64,
        again.ready_after.as_millis()
    );
    Ok(())
}

fn restart_full(gigabytes: u64) -> Result<(), Failure> {
    let running = broker::wiremill(broker::scratch("full")?, 19_392)?;
    let stored = fill(&running, gigabytes)?;
    let dir = running.kill()?;
    let again = broker::wiremill(dir, 19_392)?;
    println!("{stored:.1} GB stored: restart after kill -9 in {} ms", again.ready_after.as_millis());
    Ok(())
}

/// Stores that much and a little more; how much it was, gigabytes.
pub(super) fn fill(running: &broker::Running, gigabytes: u64) -> Result<f64, Failure> {
    let mut stored = 0.0;
    while stored < gigabytes as f64 {
        let load = produce::Args {
            target: target(running, 16),
            record_len: 1024,
            batch_records: 64,
            window: 5,
            connections: 2,
            request_partitions: 8,
            seconds: 5,
            compression: produce::Packing::None,
        };
        stored += produce::run(&load)?.mb_per_s * 5.0 / 1e3;
    }
    Ok(stored)
}
