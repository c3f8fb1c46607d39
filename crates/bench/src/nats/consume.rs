//! Fetches from a durable consumer in batches, and acknowledges every message.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use super::{Target, ask, lines::Lines, settle, store::STREAM};
use crate::{Failure, process::Usage};

pub(crate) struct Report {
    pub consumed_per_s: f64,
    /// Of the server, for a million messages.
    pub cpu_s_per_million: f64,
}

/// Consumes what is in the stream, `batch` messages to a request, for so long at the most.
pub(crate) fn run(target: &Target, batch: usize, stored: u64, seconds: u64) -> Result<Report, Failure> {
    let mut stream = target.connect()?;
    let config = format!(
        r#"{{"stream_name":"{STREAM}","config":{{"durable_name":"worker","ack_policy":"explicit","max_ack_pending":{}}}}}"#,
        2 * batch
    );
    ask(&mut stream, &format!("$JS.API.CONSUMER.CREATE.{STREAM}.worker"), &config)?;
    stream.write_all(b"SUB _INBOX.fetched 3\r\n")?;
    settle(&mut stream)?;
    let body = format!(r#"{{"batch":{batch},"expires":5000000000}}"#);
    let next =
        format!("PUB $JS.API.CONSUMER.MSG.NEXT.{STREAM}.worker _INBOX.fetched {}\r\n{body}\r\n", body.len());
    let (before, began) = (Usage::of(target.pid)?, Instant::now());
    let (mut lines, mut consumed, mut wanted) = (Lines::default(), 0, 0);
    let mut out = Vec::new();
    while consumed < stored && began.elapsed() < Duration::from_secs(seconds) {
        if wanted == 0 {
            out.extend_from_slice(next.as_bytes());
            wanted = batch;
        }
        stream.write_all(&out)?;
        out.clear();
        lines.fill(&mut stream)?;
        while let Some(message) = lines.next()? {
            if message.is_status {
                wanted = 0;
                continue;
            }
            write!(out, "PUB {} 4\r\n+ACK\r\n", message.reply)?;
            consumed += 1;
            wanted = wanted.saturating_sub(1);
        }
    }
    stream.write_all(&out)?;
    let (after, took_s) = (Usage::of(target.pid)?, began.elapsed().as_secs_f64());
    Ok(Report {
        consumed_per_s: consumed as f64 / took_s,
        cpu_s_per_million: (after.cpu_s - before.cpu_s) / (consumed as f64 / 1e6),
    })
}
