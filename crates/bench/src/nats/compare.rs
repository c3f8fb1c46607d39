//! Wiremill and nats-server in turn.

use std::{path::PathBuf, time::Duration};

use clap::Args as ClapArgs;

use super::{Target, consume, fan, ordered, request, restart, scale, store};
use crate::{
    Failure,
    compare::{
        broker::{self, Running},
        medians::Medians,
    },
};

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    /// Interleaved rounds; medians are over these. Requests take three times as many, what is stored at scale one.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each run.
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// Seconds at most that a stream is filled for, or consumers are made.
    #[arg(long, default_value_t = 15)]
    fill_seconds: u64,
    /// Subjects, and messages of the stream most of which is deleted.
    #[arg(long, default_value_t = 1_000_000)]
    subjects: u64,
    /// Consumers of one stream.
    #[arg(long, default_value_t = 100_000)]
    consumers: u64,
    /// GiB that are stored before the restart.
    #[arg(long, default_value_t = 10)]
    stored_gib: u64,
    /// Leave the original out.
    #[arg(long)]
    alone: bool,
    /// Parts to run: fan, request, store, scale, consumers, restart; all without.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
}

/// Publishers, subscribers and the name of a shape.
const SHAPES: [(usize, usize, &str); 4] =
    [(1, 0, "publish only"), (1, 1, "1 to 1"), (1, 10, "1 to 10"), (10, 10, "10 to 10")];

/// Messages of one fetch, and acknowledgements of publishes that are waited for at a time.
const FETCH: usize = 500;
const WINDOW: usize = 500;

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let wanted = |part: &str| args.only.is_empty() || args.only.iter().any(|only| only == part);
    if wanted("fan") {
        for (publishers, subscribers, name) in SHAPES {
            for message_len in [16, 128, 1024] {
                println!("## {name}, {message_len} B");
                fan(args, publishers, subscribers, message_len)?;
            }
        }
    }
    if wanted("request") {
        requests(args)?;
    }
    if wanted("store") {
        stores(args)?;
    }
    if wanted("scale") {
        scales(args)?;
    }
    if wanted("consumers") {
        crowds(args)?;
    }
    if wanted("restart") {
        restarts(args)?;
    }
    Ok(())
}

fn fan(args: &Args, publishers: usize, subscribers: usize, message_len: usize) -> Result<(), Failure> {
    let mut medians =
        Medians::new(&["published/s", "delivered/s", "CPU s per million published", "peak MiB"]);
    for _ in 0..args.rounds {
        for start in servers(args, false) {
            let running = start()?;
            let target = target(&running);
            let load = fan::Load { target, publishers, subscribers, message_len, seconds: args.seconds };
            let report = fan::run(&load)?;
            println!("{:>22} {report}", running.name);
            medians.add(
                running.name,
                &[report.published_per_s, report.delivered_per_s, report.cpu_s_per_million, report.peak_mib],
            );
        }
    }
    println!("{}", medians.table());
    Ok(())
}

fn requests(args: &Args) -> Result<(), Failure> {
    println!("## request and reply, 16 B, one at a time");
    let mut medians = Medians::new(&["requests/s", "p50 us", "p99 us", "p99.9 us", "CPU s per million"]);
    for _ in 0..3 * args.rounds {
        for start in servers(args, false) {
            let running = start()?;
            let report = request::run(&target(&running), 16, args.seconds)?;
            let [p50, p99, p999] = report.latencies_us.map(f64::from);
            let figures = [report.requests_per_s, p50, p99, p999, report.cpu_s_per_million];
            println!("{:>22} {figures:.1?}", running.name);
            medians.add(running.name, &figures);
        }
    }
    println!("{}", medians.table());
    Ok(())
}

fn stores(args: &Args) -> Result<(), Failure> {
    for (window, name) in [(1, "one at a time"), (WINDOW, "500 in flight")] {
        println!(
            "## JetStream, 1 KiB, {name}; then fetched by 500 and acknowledged, and read by an ordered consumer"
        );
        let mut medians = Medians::new(&[
            "stored/s",
            "p50 us",
            "p99 us",
            "p99.9 us",
            "CPU s per million",
            "peak MiB",
            "consumed/s",
            "consume CPU s per million",
            "ordered/s",
            "ordered CPU s per million",
        ]);
        for _ in 0..args.rounds {
            for start in servers(args, true) {
                let running = start()?;
                let target = target(&running);
                let stored = store::run(&target, 1024, window, args.seconds)?;
                let consumed = consume::run(&target, FETCH, stored.stored, args.seconds)?;
                let ordered = ordered::run(&target, stored.stored, args.seconds)?;
                let [p50, p99, p999] = stored.latencies_us.map(f64::from);
                let figures = [
                    stored.stored_per_s,
                    p50,
                    p99,
                    p999,
                    stored.cpu_s_per_million,
                    stored.peak_mib,
                    consumed.consumed_per_s,
                    consumed.cpu_s_per_million,
                    ordered.consumed_per_s,
                    ordered.cpu_s_per_million,
                ];
                println!("{:>22} {figures:.1?}", running.name);
                medians.add(running.name, &figures);
            }
        }
        println!("{}", medians.table());
    }
    Ok(())
}

/// Consumers of one stream before there are all of them.
const FEW_CONSUMERS: [u64; 2] = [100, 10_000];

fn crowds(args: &Args) -> Result<(), Failure> {
    println!("## {} consumers of a stream: asking for one of them, and publishing", args.consumers);
    let limit = Duration::from_secs(args.fill_seconds);
    let counts: Vec<u64> =
        FEW_CONSUMERS.into_iter().filter(|few| *few < args.consumers).chain([args.consumers]).collect();
    for start in servers(args, false) {
        let running = start()?;
        let mut medians = Medians::new(&[
            "made per s",
            "info p50 us",
            "info p99 us",
            "publish p50 us",
            "publish p99 us",
            "resident MiB",
        ]);
        for crowd in scale::consumers(&target(&running), &counts, limit)? {
            let ([info_p50, info_p99], [publish_p50, publish_p99]) =
                (crowd.info_us.map(f64::from), crowd.publish_us.map(f64::from));
            let figures = [crowd.per_s, info_p50, info_p99, publish_p50, publish_p99, crowd.rss_mib];
            medians.add(&format!("{} with {}", running.name, crowd.consumers), &figures);
        }
        println!("{}", medians.table());
    }
    Ok(())
}

/// One of the parts at scale: how much, for how long at the most.
type Scale = fn(&Target, u64, Duration) -> Result<scale::Report, Failure>;

fn scales(args: &Args) -> Result<(), Failure> {
    let limit = Duration::from_secs(args.fill_seconds);
    let parts: [(&str, &str, u64, Scale); 2] = [
        (
            "subjects with a message each, the last one of a subject asked for",
            "stored",
            args.subjects,
            scale::subjects,
        ),
        (
            "messages, nine tenths deleted, the next one of a subject asked for",
            "stored",
            args.subjects,
            scale::deleted,
        ),
    ];
    for (name, what, count, part) in parts {
        println!("## {count} {name}; {what} before and after it is all there");
        let mut medians = Medians::new(&[
            "count",
            "per s",
            "p50 us before",
            "p99 us before",
            "p50 us after",
            "p99 us after",
            "resident MiB",
        ]);
        for start in servers(args, false) {
            let running = start()?;
            let report = part(&target(&running), count, limit)?;
            let [p50_before, p99_before] = report.before_us.map(f64::from);
            let [p50_after, p99_after] = report.after_us.map(f64::from);
            let figures = [
                report.count as f64,
                report.per_s,
                p50_before,
                p99_before,
                p50_after,
                p99_after,
                report.rss_mib,
            ];
            println!("{:>22} {figures:.1?}", running.name);
            medians.add(running.name, &figures);
        }
        println!("{}", medians.table());
    }
    Ok(())
}

/// Starts a server on a directory.
type StartOn<'a> = &'a dyn Fn(PathBuf) -> Result<Running, Failure>;

fn restarts(args: &Args) -> Result<(), Failure> {
    println!("## {} GiB in messages of 256 KiB, killed and started again", args.stored_gib);
    let mut medians = Medians::new(&["GiB stored", "s until it accepts", "s until it answers"]);
    let wiremill = |dir: PathBuf| broker::wiremill_on("nats", dir, 19_422);
    let original = |dir: PathBuf| broker::nats_server(dir, 19_522, false);
    let starts: [(&str, StartOn<'_>); 2] = [("wiremill", &wiremill), ("nats-server", &original)];
    for (name, start) in starts.into_iter().take(if args.alone { 1 } else { 2 }) {
        let running = start(broker::scratch(name)?)?;
        let (name, limit) = (running.name, Duration::from_secs(2 * args.fill_seconds));
        let report = restart::run(running, start, args.stored_gib, limit)?;
        let figures = [report.stored_gib, report.accepts_s, report.answers_s];
        println!("{name:>22} {figures:.2?}");
        medians.add(name, &figures);
    }
    println!("{}", medians.table());
    Ok(())
}

type Start = Box<dyn FnOnce() -> Result<Running, Failure>>;

/// The servers to measure, each started when its turn comes; with the original that syncs every message if asked for.
fn servers(args: &Args, synced_too: bool) -> Vec<Start> {
    let mut starts: Vec<Start> =
        vec![Box::new(|| broker::wiremill_on("nats", broker::scratch("wiremill")?, 19_422))];
    if !args.alone {
        starts.push(Box::new(|| broker::nats_server(broker::scratch("nats-server")?, 19_522, false)));
    }
    if !args.alone && synced_too {
        starts.push(Box::new(|| broker::nats_server(broker::scratch("nats-synced")?, 19_622, true)));
    }
    starts
}

fn target(running: &Running) -> Target {
    Target { addr: running.addr.clone(), pid: Some(running.pid()) }
}
