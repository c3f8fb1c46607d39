//! The original's own load tools against either broker. On two cores they often are the limit themselves.

use std::process::{Command, Stdio};

use super::broker::{self, Running};
use crate::{
    Failure,
    kafka::{call, encode},
    process::Usage,
};

/// What one run of a tool came to.
pub(crate) struct ToolRun {
    pub records_per_s: f64,
    /// Broker CPU seconds per million records.
    pub cpu_s_per_million: f64,
    /// Acknowledgement latencies as the tool tells them, ms: p50, p99, p99.9. None from the consumer.
    pub latencies_ms: Option<[u64; 3]>,
}

/// `kafka-producer-perf-test`, acks=all, then `kafka-consumer-perf-test` over what it wrote, from the disk if `cold`.
pub(crate) fn produce_and_consume(
    running: &Running,
    records: u64,
    cold: bool,
) -> Result<(ToolRun, ToolRun), Failure> {
    let topic = "tools";
    let mut stream = super::target(running, 1).connect()?;
    call(&mut stream, &encode::create_topic(topic, 16))?;
    let count = records.to_string();
    let server = format!("bootstrap.servers={}", running.addr);
    let (text, produced_cpu_s) = measured(
        running,
        &[
            "org.apache.kafka.tools.ProducerPerformance",
            "--topic",
            topic,
            "--num-records",
            &count,
            "--record-size",
            "1024",
            "--throughput",
            "-1",
            "--producer-props",
            &server,
            "acks=all",
            "linger.ms=5",
            "batch.size=131072",
        ],
    )?;
    let last =
        text.lines().rfind(|line| line.contains("99.9th")).ok_or("the producer tool printed no summary")?;
    let produced = ToolRun {
        records_per_s: before(last, " records/sec").ok_or("no rate")?,
        cpu_s_per_million: produced_cpu_s / (records as f64 / 1e6),
        latencies_ms: Some(
            [" ms 50th", " ms 99th", " ms 99.9th"].map(|unit| before(last, unit).unwrap_or(0.0) as u64),
        ),
    };
    if cold {
        broker::forget_cached(running.dir())?;
    }
    let (text, consumed_cpu_s) = measured(
        running,
        &[
            "org.apache.kafka.tools.ConsumerPerformance",
            "--topic",
            topic,
            "--num-records",
            &count,
            "--bootstrap-server",
            &running.addr,
        ],
    )?;
    let fields: Vec<&str> = text.lines().last().unwrap_or_default().split(',').map(str::trim).collect();
    // start, end, MB, MB/s, records, records/s, rebalance ms, fetch ms, fetch MB/s, fetch records/s
    let rate =
        fields.last().and_then(|rate| rate.parse().ok()).ok_or("the consumer tool printed no summary")?;
    let consumed = ToolRun {
        records_per_s: rate,
        cpu_s_per_million: consumed_cpu_s / (records as f64 / 1e6),
        latencies_ms: None,
    };
    Ok((produced, consumed))
}

/// What a tool prints, and the CPU seconds that the broker spent meanwhile.
fn measured(running: &Running, arguments: &[&str]) -> Result<(String, f64), Failure> {
    let libs = broker::original_libs()?;
    let used = Usage::of(Some(running.pid()))?;
    let output = Command::new("java")
        .args(["-Xmx512m", "-cp", &format!("{}/*", libs.display())])
        .args(arguments)
        .stderr(Stdio::null())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(format!("{}: {}\n{text}", arguments.first().unwrap_or(&""), output.status).into());
    }
    Ok((text, Usage::of(Some(running.pid()))?.cpu_s - used.cpu_s))
}

/// The number right before `unit`.
fn before(line: &str, unit: &str) -> Option<f64> {
    let at = line.find(unit)?;
    line.get(..at)?.rsplit([' ', '(', ',']).next()?.parse().ok()
}
