//! Durable messages at a fixed rate: how long each takes, from when it was to be sent, to its confirm and to its consumer.

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Target, confirm::Outstanding, delivery_len, frames::ack_upto, publish};
use crate::{Failure, histogram::Histogram, process::Usage};

const QUEUE: &str = "bench.latency";
const PREFETCH: u16 = 1_000;
/// How often the publisher looks at what is due.
const TICK: Duration = Duration::from_micros(100);

pub(crate) struct Report {
    /// p50, p99, p99.9 to the confirm, microseconds.
    pub confirm_us: [u32; 3],
    /// The same to the delivery.
    pub delivery_us: [u32; 3],
    pub cpu_s_per_million: f64,
}

pub(crate) fn run(target: &Target, message_len: usize, rate: u64, seconds: u64) -> Result<Report, Failure> {
    let mut client = target.connect()?;
    client.fresh_queue(QUEUE, true)?;
    client.confirm()?;
    let is_over = Arc::new(AtomicBool::new(false));
    let began = Instant::now() + Duration::from_millis(200);
    let consumer = {
        let (target, is_over) = (target.clone(), is_over.clone());
        thread::spawn(move || consume(&target, message_len, rate, began, &is_over))
    };
    let message = publish("", QUEUE, &vec![b'x'; message_len], true);
    let (mut out, mut confirms, total) = (Outstanding::default(), Histogram::default(), rate * seconds);
    (0..total).for_each(|number| out.sent(1, due(began, number, rate)));
    let mut stream = client.stream.try_clone()?;
    let sender = thread::spawn(move || send(&mut stream, &message, began, rate, total));
    let before = Usage::of(Some(target.pid))?;
    while out.open() > 0 {
        client.frames.fill(&mut client.stream)?;
        while let Some(frame) = client.frames.next()? {
            if frame.is_method((60, 80)) {
                out.confirmed(frame.tag(), frame.is_multiple(), |due| {
                    confirms.record(due.elapsed().as_micros());
                });
            }
        }
    }
    sender.join().map_err(|_| "the publisher panicked")??;
    thread::sleep(Duration::from_millis(200));
    is_over.store(true, Ordering::Release);
    let mut deliveries = consumer.join().map_err(|_| "the consumer panicked")??;
    let after = Usage::of(Some(target.pid))?;
    client.delete_queue(QUEUE)?;
    if deliveries.count() as u64 != total {
        return Err(format!("{} of {total} messages were delivered", deliveries.count()).into());
    }
    Ok(Report {
        confirm_us: [0.5, 0.99, 0.999].map(|share| confirms.quantile(share)),
        delivery_us: [0.5, 0.99, 0.999].map(|share| deliveries.quantile(share)),
        cpu_s_per_million: (after.cpu_s - before.cpu_s) / (total as f64 / 1e6),
    })
}

/// When a message is to be sent.
fn due(began: Instant, number: u64, rate: u64) -> Instant {
    began + Duration::from_secs_f64(number as f64 / rate as f64)
}

/// Sends each message when it is due, or as soon after that as this thread runs.
fn send(
    stream: &mut TcpStream,
    message: &[u8],
    began: Instant,
    rate: u64,
    total: u64,
) -> Result<(), Failure> {
    let (mut sent, mut bytes) = (0, Vec::new());
    while sent < total {
        let elapsed_s = Instant::now().saturating_duration_since(began).as_secs_f64();
        let due = ((elapsed_s * rate as f64) as u64).min(total);
        bytes.clear();
        (sent..due).for_each(|_| bytes.extend_from_slice(message));
        sent = sent.max(due);
        stream.write_all(&bytes)?;
        thread::sleep(TICK);
    }
    Ok(())
}

fn consume(
    target: &Target,
    message_len: usize,
    rate: u64,
    began: Instant,
    is_over: &AtomicBool,
) -> Result<Histogram, Failure> {
    let mut client = target.connect()?;
    let len = delivery_len("", QUEUE, &vec![b'x'; message_len], true);
    client.consume(QUEUE, Some(PREFETCH))?;
    client.stream.set_read_timeout(Some(Duration::from_millis(20)))?;
    let (mut bytes, mut part) = (client.frames.take().len(), vec![0; 256 << 10]);
    let (mut seen, mut latencies) = (0_u64, Histogram::default());
    loop {
        match client.stream.read(&mut part) {
            Ok(0) => return Err("the server cut the consumer off".into()),
            Ok(read) => bytes += read,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                if is_over.load(Ordering::Acquire) {
                    return Ok(latencies);
                }
            }
            Err(e) => return Err(e.into()),
        }
        let received = (bytes / len) as u64;
        if received > seen {
            let now = Instant::now();
            for number in seen..received {
                let due = due(began, number, rate);
                latencies.record(now.saturating_duration_since(due).as_micros());
            }
            seen = received;
            client.stream.write_all(&ack_upto(received))?;
        }
    }
}
