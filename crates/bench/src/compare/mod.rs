//! Wiremill and the original in turn, so that a machine whose speed drifts drifts for both.

pub(crate) mod broker;
pub(crate) mod catch_up;
pub(crate) mod footprint;
pub(crate) mod medians;
mod tools;

use std::thread;
use std::time::Duration;

use clap::Args as ClapArgs;

use self::{broker::Running, medians::Medians};
use crate::{
    Failure,
    kafka::{Target, deadlines, fetch, latency, produce},
};

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    /// Interleaved rounds; medians are over these.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each produce run.
    #[arg(long, default_value_t = 8)]
    seconds: u64,
    /// Leave the original out.
    #[arg(long)]
    alone: bool,
    /// Measure Kafka with a sync for each batch too.
    #[arg(long)]
    synced: bool,
    /// Seconds of each run with deadlines; the maximum is measured for half as long.
    #[arg(long, default_value_t = 60)]
    deadline_seconds: u64,
    /// Seconds of load that nobody measures before each run: a JVM needs to see it before it is fast.
    #[arg(long, default_value_t = 10)]
    warm_up_seconds: u64,
    /// Records that the original's tools send.
    #[arg(long, default_value_t = 1_000_000)]
    tool_records: u64,
    /// Drop what the machine has cached of either's files before they are read.
    #[arg(long)]
    cold: bool,
    /// Parts to run: throughput, along, latency, deadlines, tools; all without.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

struct Shape {
    name: &'static str,
    partitions: i32,
    record_len: usize,
    batch_records: usize,
}

const SHAPES: &[Shape] = &[
    Shape { name: "1 KiB, 16 partitions", partitions: 16, record_len: 1024, batch_records: 64 },
    Shape { name: "1 KiB, 1 partition", partitions: 1, record_len: 1024, batch_records: 256 },
    Shape { name: "100 B, 16 partitions", partitions: 16, record_len: 100, batch_records: 500 },
    Shape { name: "100 B, 1 partition", partitions: 1, record_len: 100, batch_records: 2000 },
];

/// Runs every shape on every broker and prints each round and the medians.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let wanted = |part: &str| args.only.is_empty() || args.only.iter().any(|only| only == part);
    if wanted("throughput") {
        for shape in SHAPES {
            throughput(args, shape)?;
        }
    }
    if wanted("along") {
        along(args)?;
    }
    if wanted("latency") {
        for rate in [1_000, 5_000] {
            latency(args, rate)?;
        }
    }
    if wanted("deadlines") {
        deadlines(args)?;
    }
    if wanted("tools") {
        own_tools(args)?;
    }
    Ok(())
}

fn throughput(args: &Args, shape: &Shape) -> Result<(), Failure> {
    println!("## produce with acks=all, then fetch: {}", shape.name);
    let mut medians = Medians::new(&[
        "produce MB/s",
        "records/s",
        "CPU s per million",
        "CPU s per GB",
        "peak MiB",
        "fetch MB/s",
        "fetch CPU s per million",
    ]);
    for _ in 0..args.rounds {
        for running in brokers(args)? {
            let running = running?;
            let (produced, fetched) = round(args, shape, &running)?;
            println!("{:>14} produce {produced}", running.name);
            println!("{:>14} fetch   {fetched}", running.name);
            medians.add(
                running.name,
                &[
                    produced.mb_per_s,
                    produced.records_per_s,
                    produced.cpu_s_per_million,
                    produced.cpu_s_per_gb,
                    produced.peak_mib,
                    fetched.mb_per_s,
                    fetched.cpu_s_per_million,
                ],
            );
        }
    }
    println!("{}", medians.table());
    Ok(())
}

/// As fast as it goes while one reader follows.
fn along(args: &Args) -> Result<(), Failure> {
    println!("## produce 100 B with acks=all to 16 partitions, one reader along");
    let mut medians = Medians::new(&[
        "produce records/s",
        "p99 us",
        "fetch records/s",
        "CPU s per million, both",
        "peak MiB",
    ]);
    for _ in 0..args.rounds {
        for running in brokers(args)? {
            let running = running?;
            let target = target(&running, 16);
            warm_up(args, &Target { topic: "warm".to_owned(), ..target.clone() })?;
            target.create_topic()?;
            let load = produce::Args {
                target: target.clone(),
                record_len: 100,
                batch_records: 500,
                window: 5,
                connections: 1,
                request_partitions: 8,
                seconds: args.seconds,
                compression: produce::Packing::None,
            };
            let follow = fetch::Args { target, records: u64::MAX, max_len: 8 << 20 };
            let (produced, fetched) = thread::scope(|scope| -> Result<_, Failure> {
                let reader = scope.spawn(|| fetch::run(&follow));
                let produced = produce::run(&load)?;
                Ok((produced, reader.join().map_err(|_| "the reader panicked")??))
            })?;
            println!("{:>14} produce {produced}", running.name);
            println!("{:>14} fetch   {fetched}", running.name);
            let figures = [
                produced.records_per_s,
                f64::from(produced.p99_us),
                fetched.records_per_s,
                fetched.cpu_s_per_million,
                produced.peak_mib,
            ];
            medians.add(running.name, &figures);
        }
    }
    println!("{}", medians.table());
    Ok(())
}

fn latency(args: &Args, rate: u64) -> Result<(), Failure> {
    println!("## latency at {rate} single records of 1 KiB per second, 16 partitions, acks=all");
    let mut medians = Medians::new(&["p50 us", "p99 us", "p99.9 us", "CPU s per million"]);
    for _ in 0..args.rounds {
        for running in brokers(args)? {
            let running = running?;
            let target = target(&running, 16);
            let load = latency::Args {
                target,
                record_len: 1024,
                batch_records: 1,
                rate,
                seconds: args.seconds,
                deadline_ms: 20,
            };
            warm_up(args, &load.target)?;
            let report = latency::run(&load)?;
            println!("{:>14} {report}", running.name);
            let [p50, p99, p999, ..] = report.latencies_us.map(f64::from);
            medians.add(running.name, &[p50, p99, p999, report.cpu_s_per_million()]);
        }
    }
    println!("{}", medians.table());
    Ok(())
}

fn deadlines(args: &Args) -> Result<(), Failure> {
    println!("## a deadline of 20 ms on each single record of 1 KiB, acks=all");
    for running in brokers(args)? {
        let running = running?;
        println!("{}", running.name);
        let load = deadlines::Args {
            target: target(&running, 16),
            record_len: 1024,
            rate: 2_000,
            seconds: args.deadline_seconds,
            // By default long enough that what is written has begun to be moved to segments.
            maximum_seconds: args.deadline_seconds.div_ceil(2),
            deadline_ms: 20,
        };
        warm_up(args, &load.target)?;
        deadlines::run(&load)?;
    }
    Ok(())
}

fn warm_up(args: &Args, target: &Target) -> Result<(), Failure> {
    let rate = 1_000;
    let target = target.clone();
    let load = latency::Args {
        target,
        record_len: 1024,
        batch_records: 1,
        rate,
        seconds: args.warm_up_seconds,
        deadline_ms: 20,
    };
    latency::run(&load).map(drop)
}

fn own_tools(args: &Args) -> Result<(), Failure> {
    println!("## the original's own tools: 1 KiB, 16 partitions, acks=all");
    let mut medians = Medians::new(&[
        "produce records/s",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "CPU s per million",
        "consume records/s",
        "consume CPU s per million",
    ]);
    for _ in 0..args.rounds {
        for running in brokers(args)? {
            let running = running?;
            warm_up(args, &target(&running, 16))?;
            let (produced, consumed) = tools::produce_and_consume(&running, args.tool_records, args.cold)?;
            let [p50, p99, p999] = produced.latencies_ms.unwrap_or_default().map(|ms| ms as f64);
            let figures = [
                produced.records_per_s,
                p50,
                p99,
                p999,
                produced.cpu_s_per_million,
                consumed.records_per_s,
                consumed.cpu_s_per_million,
            ];
            println!("{:>14} {figures:.1?}", running.name);
            medians.add(running.name, &figures);
        }
    }
    println!("{}", medians.table());
    Ok(())
}

type Start = Box<dyn FnOnce() -> Result<Running, Failure>>;

/// The brokers to measure, each started when its turn comes.
fn brokers(args: &Args) -> Result<impl Iterator<Item = Result<Running, Failure>> + use<>, Failure> {
    let mut starts: Vec<Start> = Vec::new();
    starts.push(Box::new(|| broker::wiremill(broker::scratch("wiremill")?, 19_392)));
    if !args.alone {
        starts.push(Box::new(|| broker::original(broker::scratch("kafka")?, 19_492, false)));
    }
    if args.synced {
        starts.push(Box::new(|| broker::original(broker::scratch("kafka-synced")?, 19_592, true)));
    }
    Ok(starts.into_iter().map(|start| start()))
}

fn target(running: &Running, partitions: i32) -> Target {
    Target { addr: running.addr.clone(), topic: "bench".to_owned(), partitions, pid: Some(running.pid()) }
}

fn round(args: &Args, shape: &Shape, running: &Running) -> Result<(produce::Report, fetch::Report), Failure> {
    let target = target(running, shape.partitions);
    let load = produce::Args {
        target: target.clone(),
        record_len: shape.record_len,
        batch_records: shape.batch_records,
        window: 5,
        connections: 2,
        request_partitions: 8,
        seconds: args.seconds,
        compression: produce::Packing::None,
    };
    produce::run(&produce::Args { seconds: args.warm_up_seconds.div_ceil(2), ..load.clone() })?;
    let produced = produce::run(&load)?;
    thread::sleep(Duration::from_millis(500));
    if args.cold {
        broker::forget_cached(running.dir())?;
    }
    let fetched = fetch::run(&fetch::Args { target, records: 3_000_000, max_len: 8 << 20 })?;
    Ok((produced, fetched))
}
