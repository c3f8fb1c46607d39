//! An ordered consumer: pushed as fast as it confirms, nothing is acknowledged.

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

/// Reads what is in the stream, as clients' ordered consumers do, for so long at the most.
pub(crate) fn run(target: &Target, stored: u64, seconds: u64) -> Result<Report, Failure> {
    let mut stream = target.connect()?;
    stream.write_all(b"SUB _INBOX.ordered 4\r\n")?;
    settle(&mut stream)?;
    // Answers and messages come on one connection: the answer is asked for on another.
    let config = format!(
        r#"{{"stream_name":"{STREAM}","config":{{"deliver_subject":"_INBOX.ordered","ack_policy":"none","flow_control":true,"idle_heartbeat":5000000000,"max_deliver":1,"mem_storage":true,"num_replicas":1}}}}"#
    );
    let (before, began) = (Usage::of(target.pid)?, Instant::now());
    ask(&mut target.connect()?, &format!("$JS.API.CONSUMER.CREATE.{STREAM}"), &config)?;
    let (mut lines, mut consumed) = (Lines::default(), 0);
    while consumed < stored && began.elapsed() < Duration::from_secs(seconds) {
        lines.fill(&mut stream)?;
        let mut out = Vec::new();
        while let Some(message) = lines.next()? {
            if message.is_status {
                if !message.reply.is_empty() {
                    write!(out, "PUB {} 0\r\n\r\n", message.reply)?;
                }
                continue;
            }
            consumed += 1;
        }
        stream.write_all(&out)?;
    }
    let (after, took_s) = (Usage::of(target.pid)?, began.elapsed().as_secs_f64());
    Ok(Report {
        consumed_per_s: consumed as f64 / took_s,
        cpu_s_per_million: (after.cpu_s - before.cpu_s) / (consumed as f64 / 1e6),
    })
}
