//! Wiremill and RabbitMQ in turn.

use std::time::{Duration, Instant};

use clap::Args as ClapArgs;

use super::{
    Target,
    backlog::{self, Messages},
    bindings, confirm, flow, idle, latency, original, tool,
};
use crate::{
    Failure,
    compare::{
        broker::{self, Running},
        medians::Medians,
    },
    process::Usage,
};

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    /// Interleaved rounds; medians are over these.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds of each run.
    #[arg(long, default_value_t = 2)]
    seconds: u64,
    /// Leave the original out.
    #[arg(long)]
    alone: bool,
    /// Parts to run: flow, confirm, topics, latency, tool, backlog, deep, wide, transient, idle; all without.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Messages of the one deep backlog, and of all queues of the wide one.
    #[arg(long, default_value_t = 10_000_000)]
    messages: usize,
    /// Bytes of each of those.
    #[arg(long, default_value_t = 100)]
    message_len: usize,
}

const PORT: u16 = 19_672;

/// What is known of how safely each of them keeps persistent messages.
const DURABILITY: &str =
    "Wiremill: confirmed after a sync; RabbitMQ, classic queue: after a write, with a sync now and then";

/// The servers that are measured, for as long as the run takes.
struct Servers {
    own: Running,
    original: Option<original::Original>,
}

impl Servers {
    fn start(args: &Args) -> Result<Servers, Failure> {
        let own = broker::wiremill_on("amqp", broker::scratch("wiremill")?, PORT)?;
        let original = if args.alone { None } else { started_or_why_not() };
        Ok(Servers { own, original })
    }

    fn all(&self) -> Vec<(&'static str, Target)> {
        let own = (self.own.name, target(&self.own));
        let original = self.original.as_ref().map(|original| (original.running.name, original.target()));
        [own].into_iter().chain(original).collect()
    }

    /// Runs `load` on each in turn, as often as there are rounds.
    fn medians(
        &self,
        title: &str,
        rounds: usize,
        columns: &'static [&'static str],
        load: impl Fn(&Target) -> Result<Vec<f64>, Failure>,
    ) -> Result<(), Failure> {
        println!("## {title}");
        let mut medians = Medians::new(columns);
        for _ in 0..rounds {
            for (name, target) in self.all() {
                medians.add(name, &load(&target).map_err(|why| format!("{name}: {why}"))?);
            }
        }
        println!("{}", medians.table());
        Ok(())
    }
}

fn started_or_why_not() -> Option<original::Original> {
    match original::start() {
        Ok(original) => Some(original),
        Err(why) => {
            println!("without RabbitMQ: {why}\n");
            None
        }
    }
}

fn target(running: &Running) -> Target {
    Target { addr: running.addr.clone(), pid: running.pid() }
}

pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let wanted = |part: &str| args.only.is_empty() || args.only.iter().any(|only| only == part);
    let began = Instant::now();
    if ["flow", "confirm", "topics", "latency", "tool"].into_iter().any(wanted) {
        let servers = Servers::start(args)?;
        if wanted("flow") {
            flows(args, &servers)?;
        }
        if wanted("confirm") {
            confirms(args, &servers)?;
        }
        if wanted("latency") {
            latencies(args, &servers)?;
        }
        if wanted("tool") {
            tools(args, &servers)?;
        }
        if wanted("topics") {
            topics(args, &servers)?;
        }
    }
    if wanted("backlog") {
        compared_backlog(args)?;
    }
    for (part, queues, is_persistent) in [("deep", 1, true), ("wide", WIDE, true), ("transient", WIDE, false)]
    {
        if wanted(part) && args.messages >= queues {
            backlog_of(args, queues, is_persistent)?;
        }
    }
    if wanted("idle") {
        idle_queues(args)?;
    }
    println!("all of it took {} s", began.elapsed().as_secs());
    Ok(())
}

fn flows(args: &Args, servers: &Servers) -> Result<(), Failure> {
    let seconds = args.seconds;
    let one =
        flow::Load { pairs: 1, fan_out: 0, is_consumed: true, prefetch: None, message_len: 16, seconds };
    for (title, load) in [
        ("1 to 1, 16 B, no acknowledgements", one),
        ("1 to 1, 16 B, prefetch 1000, acknowledged by 500", flow::Load { prefetch: Some(1_000), ..one }),
        ("4 to 4, 16 B, no acknowledgements", flow::Load { pairs: 4, ..one }),
        ("1 to 1, 1 KiB, no acknowledgements", flow::Load { message_len: 1_024, ..one }),
        ("publish only, 16 B, to nobody", flow::Load { is_consumed: false, ..one }),
        ("1 to a fan-out of 10 queues, 16 B", flow::Load { fan_out: 10, ..one }),
    ] {
        let columns = &["published/s", "delivered/s", "CPU s per million published", "MiB"];
        servers.medians(&format!("transient, in memory: {title}"), args.rounds, columns, |target| {
            let report = flow::run(target, load)?;
            let flow::Report { published_per_s, delivered_per_s, cpu_s_per_million, rss_mib } = report;
            Ok(vec![published_per_s, delivered_per_s, cpu_s_per_million, rss_mib])
        })?;
    }
    Ok(())
}

fn confirms(args: &Args, servers: &Servers) -> Result<(), Failure> {
    println!("{DURABILITY}\n");
    for (title, message_len, window, is_consumed) in [
        ("persistent, confirmed one at a time, 12 B", 12, 1, false),
        ("persistent, 192 confirms waited for, 12 B", 12, 192, false),
        ("persistent, 3000 confirms waited for, 1 KiB, consumed meanwhile", 1_024, 3_000, true),
    ] {
        let columns =
            &["confirmed/s", "consumed/s", "p50 us", "p99 us", "p99.9 us", "CPU s per million", "MiB"];
        servers.medians(title, args.rounds, columns, |target| {
            let report = confirm::run(target, message_len, window, is_consumed, args.seconds)?;
            let [p50, p99, p999] = report.latencies_us.map(f64::from);
            let (confirmed, consumed) = (report.confirmed_per_s, report.consumed_per_s);
            Ok(vec![confirmed, consumed, p50, p99, p999, report.cpu_s_per_million, report.rss_mib])
        })?;
    }
    Ok(())
}

fn latencies(args: &Args, servers: &Servers) -> Result<(), Failure> {
    println!("{DURABILITY}\n");
    for rate in [1_000, 10_000] {
        let columns =
            &["confirm p50 us", "p99", "p99.9", "delivery p50 us", "p99", "p99.9", "CPU s per million"];
        let title = format!("persistent, 100 B, {rate} messages per second, from when each was due");
        servers.medians(&title, args.rounds, columns, |target| {
            let report = latency::run(target, 100, rate, args.seconds)?;
            let times = report.confirm_us.into_iter().chain(report.delivery_us).map(f64::from);
            Ok(times.chain([report.cpu_s_per_million]).collect())
        })?;
    }
    Ok(())
}

fn tools(args: &Args, servers: &Servers) -> Result<(), Failure> {
    println!("{DURABILITY}\n");
    let transient: &[&str] = &["-x", "1", "-y", "1", "-s", "16", "-a"];
    let persistent: &[&str] = &[
        "-s",
        "12",
        "-c",
        "192",
        "-f",
        "persistent",
        "-q",
        "1000",
        "-A",
        "500",
        "-ad",
        "false",
        "-u",
        "perf-test",
    ];
    for (title, arguments) in [
        ("PerfTest: transient, 1 to 1, 16 B, no acknowledgements", transient),
        ("PerfTest: persistent, 192 confirms waited for, 12 B, consumed by prefetch 1000", persistent),
    ] {
        let columns = &["sent/s", "received/s", "confirm p50 us", "p99 us", "CPU s per million", "MiB"];
        servers.medians(title, args.rounds, columns, |target| {
            // The tool itself gets faster for some seconds.
            let report = tool::run(target, arguments, args.seconds.max(5))?;
            let [p50, p99] = report.confirm_us;
            let rates = [report.sent_per_s, report.received_per_s];
            Ok(rates.into_iter().chain([p50, p99, report.cpu_s_per_million, report.rss_mib]).collect())
        })?;
    }
    Ok(())
}

fn topics(args: &Args, servers: &Servers) -> Result<(), Failure> {
    for (count, rounds) in [(10_000, args.rounds.min(2)), (100_000, 1)] {
        let columns = &["bindings/s", "published/s", "CPU s per million published", "MiB"];
        let title = format!("topic exchange with {count} durable bindings, each key matches three of them");
        servers.medians(&title, rounds, columns, |target| {
            let report = bindings::run(target, count, args.seconds)?;
            let (bound, published) = (report.bindings_per_s, report.published_per_s);
            Ok(vec![bound, published, report.cpu_s_per_million, report.rss_mib])
        })?;
    }
    Ok(())
}

/// Messages of the backlog that both are compared with: the original takes its time.
const COMPARED: usize = 200_000;
/// Queues of the wide backlog.
const WIDE: usize = 10_000;

fn compared_backlog(args: &Args) -> Result<(), Failure> {
    let messages = Messages { len: args.message_len, is_persistent: true };
    let servers = Servers::start(args)?;
    println!("{DURABILITY}\n");
    let title = format!("backlog of {COMPARED} persistent messages of {} B in one queue", messages.len);
    let columns = &["filled/s", "MiB then", "drained/s", "CPU s per million drained"];
    servers.medians(&title, 1, columns, |target| {
        let filled = backlog::fill(target, 1, COMPARED, messages)?;
        let drained = backlog::drain(target, COMPARED, messages)?;
        Ok(vec![filled.per_s, filled.rss_mib, drained.per_s, drained.cpu_s_per_million])
    })
}

/// Wiremill alone: filled, killed and started again, drained from one of the queues.
fn backlog_of(args: &Args, queues: usize, is_persistent: bool) -> Result<(), Failure> {
    let (each, messages) = (args.messages / queues, Messages { len: args.message_len, is_persistent });
    let kind = if is_persistent { "persistent" } else { "transient" };
    println!("## Wiremill alone: {queues} queues of {each} {kind} messages of {} B", messages.len);
    let mut running = broker::wiremill_on("amqp", broker::scratch("backlog")?, PORT)?;
    let filled = backlog::fill(&target(&running), queues, each, messages)?;
    let (per_s, rss_mib, peak_mib) = (filled.per_s, filled.rss_mib, filled.peak_mib);
    println!("filled at {per_s:.0}/s, {rss_mib:.0} MiB then, {peak_mib:.0} at the most");
    if is_persistent {
        running = broker::wiremill_on("amqp", running.kill()?, PORT)?;
        let rss_mib = Usage::of(Some(running.pid()))?.rss_mib;
        println!("after kill -9 ready in {} ms, {rss_mib:.0} MiB", running.ready_after.as_millis());
    }
    let drained = backlog::drain(&target(&running), each, messages)?;
    println!(
        "one queue drained at {:.0}/s, CPU {:.2} s per million, {:.0} MiB\n",
        drained.per_s, drained.cpu_s_per_million, drained.rss_mib
    );
    Ok(())
}

/// Queues that are made, and for how long the original may make some.
const IDLE: usize = 100_000;
const IDLE_WITHIN: Duration = Duration::from_secs(60);
const IDLE_ORIGINAL_WITHIN: Duration = Duration::from_secs(10);

fn idle_queues(args: &Args) -> Result<(), Failure> {
    println!("## {IDLE} durable queues that nobody uses");
    let running = broker::wiremill_on("amqp", broker::scratch("idle-queues")?, PORT)?;
    let report = idle::run(&target(&running), IDLE, IDLE_WITHIN)?;
    println!("Wiremill: {} made at {:.0}/s, {:.0} MiB", report.made, report.made_per_s, report.rss_mib);
    let again = broker::wiremill_on("amqp", running.kill()?, PORT)?;
    let rss_mib = Usage::of(Some(again.pid()))?.rss_mib;
    println!("after kill -9 ready in {} ms, {rss_mib:.0} MiB", again.ready_after.as_millis());
    drop(again);
    let original = if args.alone { None } else { started_or_why_not() };
    if let Some(original) = original {
        let before = Usage::of(Some(original.running.pid()))?.rss_mib;
        let report = idle::run(&original.target(), IDLE, IDLE_ORIGINAL_WITHIN)?;
        println!(
            "RabbitMQ: {} made within {} s, {:.0}/s, {:.0} MiB more than before",
            report.made,
            IDLE_ORIGINAL_WITHIN.as_secs(),
            report.made_per_s,
            report.rss_mib - before
        );
    }
    println!();
    Ok(())
}
