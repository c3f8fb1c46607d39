//! Persistent messages with confirms, so many waited for at a time, and a consumer beside it if asked for.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{Client, PATIENCE, Target, delivery_len, frames::ack_upto, publish};
use crate::{Failure, histogram::Histogram, process::Usage};

/// Messages that the consumer may have out.
const PREFETCH: u16 = 3_000;

const QUEUE: &str = "bench.confirm";

pub(crate) struct Report {
    pub confirmed_per_s: f64,
    pub consumed_per_s: f64,
    /// p50, p99, p99.9 from the write to the confirm, microseconds.
    pub latencies_us: [u32; 3],
    /// Of the server, for a million messages.
    pub cpu_s_per_million: f64,
    pub rss_mib: f64,
}

/// Confirms that are waited for, in the order of their numbers.
#[derive(Default)]
pub(crate) struct Outstanding {
    first: u64,
    sent: VecDeque<Option<Instant>>,
    open: usize,
}

impl Outstanding {
    /// So many messages were written at `at`.
    pub(crate) fn sent(&mut self, count: usize, at: Instant) {
        self.sent.extend(std::iter::repeat_n(Some(at), count));
        self.open += count;
    }

    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// A confirm came: of that number, or of all up to it. Calls `each` with when those were written that it is of.
    pub(crate) fn confirmed(&mut self, tag: u64, is_multiple: bool, mut each: impl FnMut(Instant)) {
        let at = usize::try_from(tag.saturating_sub(self.first + 1)).unwrap_or(usize::MAX);
        let from = if is_multiple { 0 } else { at };
        let upto = self.sent.len().min(at.saturating_add(1));
        for place in self.sent.range_mut(from.min(upto)..upto) {
            if let Some(written) = place.take() {
                self.open -= 1;
                each(written);
            }
        }
        while let Some(None) = self.sent.front() {
            self.sent.pop_front();
            self.first += 1;
        }
    }
}

pub(crate) fn run(
    target: &Target,
    message_len: usize,
    window: usize,
    is_consumed: bool,
    seconds: u64,
) -> Result<Report, Failure> {
    let mut client = target.connect()?;
    client.fresh_queue(QUEUE, true)?;
    client.confirm()?;
    let body = vec![b'x'; message_len];
    let is_over = Arc::new(AtomicBool::new(false));
    let consumed = Arc::new(AtomicU64::new(0));
    let consumer = is_consumed.then(|| {
        let (target, is_over, consumed, body) =
            (target.clone(), is_over.clone(), consumed.clone(), body.clone());
        thread::spawn(move || consume(&target, &body, &is_over, &consumed))
    });
    let message = publish("", QUEUE, &body, true);
    let (before, began) = (Usage::of(Some(target.pid))?, Instant::now());
    let (confirmed, mut latencies) = pump(&mut client, &message, window, seconds)?;
    let published_s = began.elapsed().as_secs_f64();
    let mut consumed_s = published_s;
    if let Some(consumer) = consumer {
        while consumed.load(Ordering::Relaxed) < confirmed && began.elapsed() < PATIENCE {
            thread::sleep(Duration::from_millis(1));
        }
        consumed_s = began.elapsed().as_secs_f64();
        is_over.store(true, Ordering::Release);
        consumer.join().map_err(|_| "the consumer panicked")??;
    }
    let after = Usage::of(Some(target.pid))?;
    client.delete_queue(QUEUE)?;
    Ok(Report {
        confirmed_per_s: confirmed as f64 / published_s,
        consumed_per_s: consumed.load(Ordering::Relaxed) as f64 / consumed_s,
        latencies_us: [0.5, 0.99, 0.999].map(|share| latencies.quantile(share)),
        cpu_s_per_million: (after.cpu_s - before.cpu_s) / (confirmed as f64 / 1e6),
        rss_mib: after.rss_mib,
    })
}

/// Publishes for that long with at most `window` confirms out; how many were confirmed, and how long each took.
fn pump(
    client: &mut Client,
    message: &[u8],
    window: usize,
    seconds: u64,
) -> Result<(u64, Histogram), Failure> {
    let all = message.repeat(window);
    let (mut out, mut latencies) = (Outstanding::default(), Histogram::default());
    let (began, mut confirmed) = (Instant::now(), 0);
    loop {
        let is_over = began.elapsed() >= Duration::from_secs(seconds);
        if is_over && out.open() == 0 {
            return Ok((confirmed, latencies));
        }
        let free = window - out.open();
        if free > 0 && !is_over {
            out.sent(free, Instant::now());
            client.stream.write_all(&all[..free * message.len()])?;
        }
        client.frames.fill(&mut client.stream)?;
        while let Some(frame) = client.frames.next()? {
            if frame.is_method((60, 120)) {
                return Err("a message was refused".into());
            }
            if frame.is_method((60, 80)) {
                out.confirmed(frame.tag(), frame.is_multiple(), |written| {
                    latencies.record(written.elapsed().as_micros());
                    confirmed += 1;
                });
            }
        }
    }
}

fn consume(target: &Target, body: &[u8], is_over: &AtomicBool, consumed: &AtomicU64) -> Result<(), Failure> {
    let mut client = target.connect()?;
    let len = delivery_len("", QUEUE, body, true);
    client.consume(QUEUE, Some(PREFETCH))?;
    client.stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    let (mut bytes, mut part, mut acked) = (client.frames.take().len(), vec![0; 512 << 10], 0);
    while !is_over.load(Ordering::Acquire) {
        match client.stream.read(&mut part) {
            Ok(0) => return Err("the server cut the consumer off".into()),
            Ok(read) => bytes += read,
            Err(e) if matches!(e.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(e) => return Err(e.into()),
        }
        let received = (bytes / len) as u64;
        if received - acked >= u64::from(PREFETCH / 4) {
            client.stream.write_all(&ack_upto(received))?;
            acked = received;
        }
        consumed.store(received, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_come_in_any_order_alone_or_together() {
        let mut out = Outstanding::default();
        out.sent(5, Instant::now());
        let mut seen = 0;
        out.confirmed(3, false, |_| seen += 1);
        out.confirmed(2, true, |_| seen += 1);
        assert_eq!((seen, out.open(), out.first), (3, 2, 3));
        out.confirmed(5, true, |_| seen += 1);
        assert_eq!((seen, out.open(), out.first), (5, 0, 5));
    }
}
