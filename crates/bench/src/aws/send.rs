//! As fast as the connections allow: each has one request on its way.

use std::{
    fmt,
    time::{Duration, Instant},
};

use clap::Args as ClapArgs;

use super::{Connection, Target, message};
use crate::{Failure, histogram::Histogram, process::Usage};

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub target: Target,
    /// Bytes of each message's body.
    #[arg(long, default_value_t = 1024)]
    pub message_len: usize,
    /// Messages of each request; with 1, SendMessage is used.
    #[arg(long, default_value_t = 1)]
    pub batch: usize,
    /// Connections.
    #[arg(long, default_value_t = 64)]
    pub connections: usize,
    /// How long, seconds.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
}

pub(crate) struct Report {
    pub messages_per_s: f64,
    cpu_s_per_million: f64,
    /// Of the generator.
    own_cpu_s_per_million: f64,
    peak_mib: f64,
    p50_us: u32,
    p99_us: u32,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>9.0} messages/s   CPU {:>8.3} s/M messages (generator {:.3})   peak {:>6.0} MiB   answered p50 {} p99 {} us",
            self.messages_per_s,
            self.cpu_s_per_million,
            self.own_cpu_s_per_million,
            self.peak_mib,
            self.p50_us,
            self.p99_us
        )
    }
}

pub(crate) fn run(args: &Args) -> Result<Report, Failure> {
    let url = args.target.create_queue()?;
    let request = encoded(args, &url);
    let mut connections: Vec<(Connection, Instant)> = (0..args.connections)
        .map(|_| Ok((Connection::open(&args.target.addr)?, Instant::now())))
        .collect::<Result<_, Failure>>()?;
    let (before, own_before) = (Usage::of(args.target.pid)?, Usage::of(Some(std::process::id()))?);
    let begin = Instant::now();
    let until = begin + Duration::from_secs(args.seconds);
    for (connection, sent) in &mut connections {
        *sent = Instant::now();
        connection.send(&request)?;
    }
    let mut latencies = Histogram::default();
    let mut is_over = false;
    // One thread goes round: while it is with one connection, the answers of the others arrive.
    while !is_over {
        is_over = Instant::now() >= until;
        for (connection, sent) in &mut connections {
            let answer = connection.answer()?;
            if args.batch > 1 && answer.contains("\"Code\"") {
                return Err(format!("an entry was refused: {answer}").into());
            }
            latencies.record(sent.elapsed().as_micros());
            if !is_over {
                *sent = Instant::now();
                connection.send(&request)?;
            }
        }
    }
    let elapsed_s = begin.elapsed().as_secs_f64();
    let (after, own_after) = (Usage::of(args.target.pid)?, Usage::of(Some(std::process::id()))?);
    let messages = latencies.count() * args.batch;
    Ok(Report {
        messages_per_s: messages as f64 / elapsed_s,
        cpu_s_per_million: (after.cpu_s - before.cpu_s) / (messages as f64 / 1e6),
        own_cpu_s_per_million: (own_after.cpu_s - own_before.cpu_s) / (messages as f64 / 1e6),
        peak_mib: after.peak_mib,
        p50_us: latencies.quantile(0.5),
        p99_us: latencies.quantile(0.99),
    })
}

fn encoded(args: &Args, url: &str) -> Vec<u8> {
    let body = message("", args.message_len);
    if args.batch == 1 {
        let json = format!("{{\"QueueUrl\": \"{url}\", \"MessageBody\": \"{body}\"}}");
        return args.target.request("SendMessage", &json);
    }
    let entries: Vec<String> = (0..args.batch)
        .map(|index| format!("{{\"Id\": \"{index}\", \"MessageBody\": \"{body}\"}}"))
        .collect();
    let json = format!("{{\"QueueUrl\": \"{url}\", \"Entries\": [{}]}}", entries.join(", "));
    args.target.request("SendMessageBatch", &json)
}
