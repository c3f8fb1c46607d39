//! Publishers and consumers without confirms. A publisher waits when its consumers are too far behind, so that what is
//! measured flows through and does not pile up.

use std::{
    io::Write,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{PATIENCE, Target, delivery_len, frames::ack_upto, publish};
use crate::{
    Failure,
    process::Usage,
    received::{read_some, repeated},
};

/// Messages that a consumer may be behind.
const BEHIND_MAX: u64 = 20_000;
/// Bytes of one write of a publisher.
const WRITE_LEN: usize = 64 << 10;

/// What is published where, and who takes it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Pairs of a publisher and a consumer, each on a queue of its own.
    pub pairs: usize,
    /// Queues of a fan-out exchange, each with a consumer; 0 = each publisher's own queue alone.
    pub fan_out: usize,
    /// Whether there are consumers at all; without any, what is published goes nowhere.
    pub is_consumed: bool,
    /// Messages that may be out; `None` = no acknowledgements.
    pub prefetch: Option<u16>,
    pub message_len: usize,
    pub seconds: u64,
}

pub(crate) struct Report {
    pub published_per_s: f64,
    pub delivered_per_s: f64,
    /// Of the server, for a million messages published.
    pub cpu_s_per_million: f64,
    pub rss_mib: f64,
}

/// What the threads of a run know of each other.
struct Course {
    begin: Barrier,
    /// Messages of each publisher whose bytes were handed to the system.
    published: Vec<AtomicU64>,
    /// Messages that each consumer has.
    received: Vec<AtomicU64>,
    is_over: AtomicBool,
}

const FAN: &str = "bench.fan";

pub(crate) fn run(target: &Target, load: Load) -> Result<Report, Failure> {
    let consumers = if load.is_consumed { load.pairs * load.fan_out.max(1) } else { 0 };
    prepare(target, load)?;
    let zeros = |count: usize| (0..count).map(|_| AtomicU64::new(0)).collect();
    let course = Arc::new(Course {
        begin: Barrier::new(load.pairs + consumers + 1),
        published: zeros(load.pairs),
        received: zeros(consumers),
        is_over: AtomicBool::new(false),
    });
    let spawned = |index: usize, run: fn(&Target, Load, &Course, usize) -> Result<(), Failure>| {
        let (target, course) = (target.clone(), course.clone());
        thread::spawn(move || run(&target, load, &course, index))
    };
    let consumers: Vec<_> = (0..consumers).map(|index| spawned(index, consume)).collect();
    let publishers: Vec<_> = (0..load.pairs).map(|index| spawned(index, push)).collect();
    course.begin.wait();
    let (before, began) = (Usage::of(Some(target.pid))?, Instant::now());
    for publisher in publishers {
        publisher.join().map_err(|_| "a publisher panicked")??;
    }
    course.is_over.store(true, Ordering::Release);
    for consumer in consumers {
        consumer.join().map_err(|_| "a consumer panicked")??;
    }
    let (after, took_s) = (Usage::of(Some(target.pid))?, began.elapsed().as_secs_f64());
    let sum = |counts: &[AtomicU64]| counts.iter().map(|one| one.load(Ordering::Relaxed)).sum::<u64>() as f64;
    let published = sum(&course.published);
    Ok(Report {
        published_per_s: published / took_s,
        delivered_per_s: sum(&course.received) / took_s,
        cpu_s_per_million: (after.cpu_s - before.cpu_s) / (published / 1e6),
        rss_mib: after.rss_mib,
    })
}

fn queue(index: usize) -> String {
    format!("bench.flow.{index:03}")
}

/// Where the publisher of that number publishes to.
fn address(load: Load, index: usize) -> (&'static str, String) {
    match (load.is_consumed, load.fan_out) {
        (false, _) => ("amq.direct", "nobody".to_owned()),
        (true, 0) => ("", queue(index)),
        (true, _) => (FAN, "k".to_owned()),
    }
}

fn prepare(target: &Target, load: Load) -> Result<(), Failure> {
    let mut client = target.connect()?;
    if load.fan_out > 0 {
        client.fresh_exchange(FAN, "fanout")?;
    }
    for index in 0..load.pairs * load.fan_out.max(1) {
        client.fresh_queue(&queue(index), false)?;
        if load.fan_out > 0 {
            client.bind(&queue(index), FAN, "")?;
        }
    }
    Ok(())
}

fn push(target: &Target, load: Load, course: &Course, index: usize) -> Result<(), Failure> {
    let mut client = target.connect()?;
    let (exchange, key) = address(load, index);
    let message = publish(exchange, &key, &vec![b'x'; load.message_len], false);
    let (bytes, times) = repeated(&message, WRITE_LEN);
    let own = if load.fan_out > 0 { 0..course.received.len() } else { index..index + 1 };
    course.begin.wait();
    let until = Instant::now() + Duration::from_secs(load.seconds);
    while Instant::now() < until {
        let published = course.published[index].fetch_add(times as u64, Ordering::Relaxed);
        let followers = || course.received.get(own.clone()).unwrap_or_default();
        let slowest = || followers().iter().map(|count| count.load(Ordering::Relaxed)).min();
        while slowest().is_some_and(|received| published > received + BEHIND_MAX) {
            thread::yield_now();
        }
        client.stream.write_all(&bytes)?;
    }
    client.settle()
}

fn consume(target: &Target, load: Load, course: &Course, index: usize) -> Result<(), Failure> {
    let mut client = target.connect()?;
    let publisher = if load.fan_out > 0 { 0 } else { index };
    let (exchange, key) = address(load, publisher);
    let len = delivery_len(exchange, &key, &vec![b'x'; load.message_len], false);
    client.consume(&queue(index), load.prefetch)?;
    client.stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    let ack_every = load.prefetch.map(|prefetch| u64::from(prefetch / 2).max(1));
    // All deliveries are alike, so that bytes are counted in their place.
    let (mut bytes, mut part) = (client.frames.take().len(), vec![0; 512 << 10]);
    let mut acked = 0;
    course.begin.wait();
    let mut heard = Instant::now();
    loop {
        let read = read_some(&mut client.stream, &mut part)?;
        if read > 0 {
            bytes += read;
            heard = Instant::now();
        }
        let received = (bytes / len) as u64;
        course.received[index].store(received, Ordering::Relaxed);
        if ack_every.is_some_and(|every| received - acked >= every) {
            client.stream.write_all(&ack_upto(received))?;
            acked = received;
        }
        let published = course.published[publisher].load(Ordering::Relaxed);
        if course.is_over.load(Ordering::Acquire) && received >= published {
            if ack_every.is_some() && received > acked {
                client.stream.write_all(&ack_upto(received))?;
            }
            return Ok(());
        }
        if heard.elapsed() > PATIENCE {
            return Err(format!("{received} messages came, and no more").into());
        }
    }
}
