//! Requests one after another, each answered by another connection.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Target, settle};
use crate::{Failure, histogram::Histogram, process::Usage};

pub(crate) struct Report {
    /// p50, p99, p99.9, microseconds.
    pub latencies_us: [u32; 3],
    pub requests_per_s: f64,
    /// Of the server, for a million requests.
    pub cpu_s_per_million: f64,
}

/// Requests before the first one that counts.
const WARM_UP: usize = 2_000;

/// Requests and answers of `message_len` bytes, for that long.
pub(crate) fn run(target: &Target, message_len: usize, seconds: u64) -> Result<Report, Failure> {
    let is_over = Arc::new(AtomicBool::new(false));
    let responder = {
        let (mut stream, is_over) = (target.connect()?, is_over.clone());
        stream.write_all(b"SUB bench.ask 1\r\n")?;
        settle(&mut stream)?;
        thread::spawn(move || respond(&mut stream, message_len, &is_over))
    };
    let mut stream = target.connect()?;
    stream.write_all(b"SUB _INBOX.bench 1\r\n")?;
    settle(&mut stream)?;
    let body = "x".repeat(message_len);
    let request = format!("PUB bench.ask _INBOX.bench {message_len}\r\n{body}\r\n");
    let answer_len = format!("MSG _INBOX.bench 1 {message_len}\r\n\r\n").len() + message_len;
    let mut answer = vec![0; answer_len];
    let mut ask = || -> Result<Duration, Failure> {
        let begin = Instant::now();
        stream.write_all(request.as_bytes())?;
        stream.read_exact(&mut answer)?;
        Ok(begin.elapsed())
    };
    for _ in 0..WARM_UP {
        ask()?;
    }
    let (before, began) = (Usage::of(target.pid)?, Instant::now());
    let mut latencies = Histogram::default();
    while began.elapsed() < Duration::from_secs(seconds) {
        latencies.record(ask()?.as_micros());
    }
    let (after, took_s) = (Usage::of(target.pid)?, began.elapsed().as_secs_f64());
    is_over.store(true, Ordering::Relaxed);
    responder.join().map_err(|_| "the responder panicked")??;
    let count = latencies.count() as f64;
    Ok(Report {
        latencies_us: [0.5, 0.99, 0.999].map(|share| latencies.quantile(share)),
        requests_per_s: count / took_s,
        cpu_s_per_million: (after.cpu_s - before.cpu_s) / (count / 1e6),
    })
}

fn respond(
    stream: &mut std::net::TcpStream,
    message_len: usize,
    is_over: &AtomicBool,
) -> Result<(), Failure> {
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let body = "x".repeat(message_len);
    let answer = format!("PUB _INBOX.bench {message_len}\r\n{body}\r\n");
    let request_len = format!("MSG bench.ask 1 _INBOX.bench {message_len}\r\n\r\n").len() + message_len;
    let (mut part, mut have) = (vec![0; 64 << 10], 0);
    while !is_over.load(Ordering::Relaxed) {
        match stream.read(&mut part) {
            Ok(0) => return Err("the server cut the responder off".into()),
            Ok(len) => have += len,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(e) => return Err(e.into()),
        }
        while have >= request_len {
            have -= request_len;
            stream.write_all(answer.as_bytes())?;
        }
    }
    Ok(())
}
