//! Publishes to a JetStream stream, with so many acknowledgements waited for at a time.

use std::{
    collections::VecDeque,
    io::Write,
    time::{Duration, Instant},
};

use super::{Target, ask, lines::Lines, settle};
use crate::{Failure, histogram::Histogram, process::Usage};

/// Name of the stream, and what is published to.
pub(super) const STREAM: &str = "BENCH";
const SUBJECT: &str = "bench.stored";

pub(crate) struct Report {
    pub stored: u64,
    pub stored_per_s: f64,
    /// p50, p99, p99.9 from the write to the acknowledgement, microseconds.
    pub latencies_us: [u32; 3],
    /// Of the server, for a million messages.
    pub cpu_s_per_million: f64,
    pub peak_mib: f64,
}

/// Makes the stream anew and publishes to it for that long.
pub(crate) fn run(
    target: &Target,
    message_len: usize,
    window: usize,
    seconds: u64,
) -> Result<Report, Failure> {
    let mut stream = target.connect()?;
    // One that is not there cannot be deleted.
    let _not_there = ask(&mut stream, &format!("$JS.API.STREAM.DELETE.{STREAM}"), "");
    let config =
        format!(r#"{{"name":"{STREAM}","subjects":["{SUBJECT}"],"storage":"file","retention":"limits"}}"#);
    ask(&mut stream, &format!("$JS.API.STREAM.CREATE.{STREAM}"), &config)?;
    stream.write_all(b"SUB _INBOX.stored 2\r\n")?;
    settle(&mut stream)?;
    let body = "x".repeat(message_len);
    let command = format!("PUB {SUBJECT} _INBOX.stored {message_len}\r\n{body}\r\n");
    let all = command.repeat(window);
    let (mut lines, mut latencies, mut sent) = (Lines::default(), Histogram::default(), VecDeque::new());
    let (before, began) = (Usage::of(target.pid)?, Instant::now());
    let mut stored = 0;
    loop {
        let free = window - sent.len();
        let is_over = began.elapsed() >= Duration::from_secs(seconds);
        if is_over && sent.is_empty() {
            break;
        }
        if free > 0 && !is_over {
            sent.extend(std::iter::repeat_n(Instant::now(), free));
            stream.write_all(&all.as_bytes()[..free * command.len()])?;
        }
        lines.fill(&mut stream)?;
        while let Some(message) = lines.next()? {
            if !message.body.starts_with(b"{\"stream\"") {
                return Err(
                    format!("a message was refused: {}", String::from_utf8_lossy(message.body)).into()
                );
            }
            let at = sent.pop_front().ok_or("an acknowledgement too many")?;
            latencies.record(at.elapsed().as_micros());
            stored += 1;
        }
    }
    let (after, took_s) = (Usage::of(target.pid)?, began.elapsed().as_secs_f64());
    Ok(Report {
        stored,
        stored_per_s: stored as f64 / took_s,
        latencies_us: [0.5, 0.99, 0.999].map(|share| latencies.quantile(share)),
        cpu_s_per_million: (after.cpu_s - before.cpu_s) / (stored as f64 / 1e6),
        peak_mib: after.peak_mib,
    })
}
