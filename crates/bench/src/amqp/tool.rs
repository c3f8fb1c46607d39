//! PerfTest, the original's own load tool, against either. On two cores it often is the limit itself.

use std::process::{Command, Stdio};

use super::Target;
use crate::{Failure, compare::broker, process::Usage};

/// The queue of loads that need one with a name.
const QUEUE: &str = "perf-test";

/// What one run came to.
pub(crate) struct Report {
    pub sent_per_s: f64,
    pub received_per_s: f64,
    /// From the publish to its confirm: p50 and p99, where confirms were asked for.
    pub confirm_us: [f64; 2],
    /// Server CPU seconds per million messages sent.
    pub cpu_s_per_million: f64,
    pub rss_mib: f64,
}

/// Runs the tool for so long with these arguments.
pub(crate) fn run(target: &Target, arguments: &[&str], seconds: u64) -> Result<Report, Failure> {
    let libs = broker::perf_test_libs()?;
    let used = Usage::of(Some(target.pid))?;
    let output = Command::new("java")
        .args(["-Xmx512m", "-cp", &format!("{}/*", libs.display()), "com.rabbitmq.perf.PerfTest"])
        .args(["-h", &format!("amqp://guest:guest@{}/%2f", target.addr), "-z", &seconds.to_string()])
        .args(arguments)
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        return Err(format!("PerfTest: {}\n{text}", output.status).into());
    }
    let usage = Usage::of(Some(target.pid))?;
    if arguments.contains(&QUEUE) {
        target.connect()?.delete_queue(QUEUE)?;
    }
    let rate = |what: &str| after(&text, what)?.split(' ').next()?.parse::<f64>().ok();
    let sent_per_s = rate("sending rate avg: ").ok_or("PerfTest printed no rate")?;
    Ok(Report {
        sent_per_s,
        received_per_s: rate("receiving rate avg: ").unwrap_or(0.0),
        confirm_us: confirms(&text).unwrap_or([0.0; 2]),
        cpu_s_per_million: (usage.cpu_s - used.cpu_s) / (sent_per_s * seconds as f64 / 1e6),
        rss_mib: usage.rss_mib,
    })
}

/// Median and p99 of five figures.
fn confirms(text: &str) -> Option<[f64; 2]> {
    let figures = after(text, "confirm latency min/median/75th/95th/99th ")?;
    let figures = figures.split(' ').next()?.split('/').map(str::parse);
    let figures: Vec<f64> = figures.collect::<Result<_, _>>().ok()?;
    Some([*figures.get(1)?, *figures.last()?])
}

/// What the last line says after `what`.
fn after<'t>(text: &'t str, what: &str) -> Option<&'t str> {
    text.lines().rev().find_map(|line| line.split_once(what)).map(|(_, rest)| rest)
}
