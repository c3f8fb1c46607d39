//! From the time at which a message was due to be sent until a long poll has it, at a fixed rate.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use clap::Args as ClapArgs;

use super::{Connection, Target, message, texts};
use crate::{Failure, histogram::Histogram};

#[derive(ClapArgs, Clone, Debug)]
pub(crate) struct Args {
    #[command(flatten)]
    pub target: Target,
    /// Bytes of each message's body.
    #[arg(long, default_value_t = 1024)]
    pub message_len: usize,
    /// Messages per second.
    #[arg(long, default_value_t = 5_000)]
    pub rate: u64,
    /// Connections that send.
    #[arg(long, default_value_t = 64)]
    pub senders: usize,
    /// Connections that receive.
    #[arg(long, default_value_t = 16)]
    pub receivers: usize,
    /// How long, seconds.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
}

pub(crate) fn run(args: &Args) -> Result<String, Failure> {
    let url = args.target.create_queue()?;
    let begin = Instant::now() + Duration::from_millis(200);
    let is_over = Arc::new(AtomicBool::new(false));
    let receivers: Vec<_> = (0..args.receivers)
        .map(|_| {
            let (args, url, is_over) = (args.clone(), url.clone(), is_over.clone());
            thread::spawn(move || receive(&args, &url, begin, &is_over))
        })
        .collect();
    let senders: Vec<_> = (0..args.senders)
        .map(|index| {
            let (args, url) = (args.clone(), url.clone());
            thread::spawn(move || send(&args, &url, begin, index))
        })
        .collect();
    for sender in senders {
        sender.join().map_err(|_| "a sender panicked")??;
    }
    thread::sleep(Duration::from_secs(1));
    is_over.store(true, Ordering::SeqCst);
    let mut latencies = Histogram::default();
    for receiver in receivers {
        latencies.absorb(receiver.join().map_err(|_| "a receiver panicked")??);
    }
    Ok(format!(
        "{} of {} messages   p50 {} p99 {} p99.9 {} us",
        latencies.count(),
        args.rate * args.seconds,
        latencies.quantile(0.5),
        latencies.quantile(0.99),
        latencies.quantile(0.999)
    ))
}

/// How long after its last message was due a sender that has fallen behind goes on, before what is left counts as lost.
const LATE: Duration = Duration::from_secs(2);

/// Digits of the time at the head of each body.
const DUE_DIGITS: usize = 12;

fn send(args: &Args, url: &str, begin: Instant, index: usize) -> Result<(), Failure> {
    let mut connection = Connection::open(&args.target.addr)?;
    let body = message(&"0".repeat(DUE_DIGITS), args.message_len.max(DUE_DIGITS));
    let json = format!("{{\"QueueUrl\": \"{url}\", \"MessageBody\": \"{body}\"}}");
    let mut request = args.target.request("SendMessage", &json);
    let due_at = request.len() - body.len() - 2;
    let end = begin + Duration::from_secs(args.seconds) + LATE;
    for n in (index as u64..args.rate * args.seconds).step_by(args.senders.max(1)) {
        let due = Duration::from_nanos(n * 1_000_000_000 / args.rate.max(1));
        let digits = format!("{:0DUE_DIGITS$}", due.as_micros());
        request[due_at..due_at + DUE_DIGITS].copy_from_slice(digits.as_bytes());
        let now = Instant::now();
        if now > end {
            break;
        }
        if let Some(early) = (begin + due).checked_duration_since(now) {
            thread::sleep(early);
        }
        connection.call(&request)?;
    }
    Ok(())
}

fn receive(args: &Args, url: &str, begin: Instant, is_over: &AtomicBool) -> Result<Histogram, Failure> {
    let mut connection = Connection::open(&args.target.addr)?;
    let receive = args.target.request(
        "ReceiveMessage",
        &format!("{{\"QueueUrl\": \"{url}\", \"MaxNumberOfMessages\": 10, \"WaitTimeSeconds\": 1}}"),
    );
    let mut latencies = Histogram::default();
    while !is_over.load(Ordering::SeqCst) {
        let answer = connection.call(&receive)?;
        let now = begin.elapsed();
        for body in texts(answer, "Body") {
            let due_us: u64 = body.get(..DUE_DIGITS).unwrap_or_default().parse()?;
            latencies.record(now.saturating_sub(Duration::from_micros(due_us)).as_micros());
        }
        if let Some((request, _)) = args.target.deletion(url, answer) {
            connection.call(&request)?;
        }
    }
    Ok(latencies)
}
