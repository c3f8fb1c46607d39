//! Publishers and subscribers of one subject. A publisher waits when a subscriber is too far behind, so that nobody is
//! cut off as slow.

use std::{
    fmt,
    io::Write,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use super::{PATIENCE, Target, settle};
use crate::{
    Failure,
    process::Usage,
    received::{read_some, repeated},
};

/// Bytes that a subscriber may be behind.
const BEHIND_LEN_MAX: u64 = 16 << 20;
/// Bytes of one write of a publisher.
const WRITE_LEN: usize = 64 << 10;

#[derive(Clone, Debug)]
pub(crate) struct Load {
    pub target: Target,
    pub publishers: usize,
    /// None: what is published goes nowhere.
    pub subscribers: usize,
    pub message_len: usize,
    pub seconds: u64,
}

pub(crate) struct Report {
    pub published_per_s: f64,
    pub delivered_per_s: f64,
    /// Of the server, for a million messages published.
    pub cpu_s_per_million: f64,
    pub peak_mib: f64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>10.0} published/s {:>10.0} delivered/s   CPU {:.3} s/M published   peak {:.0} MiB",
            self.published_per_s, self.delivered_per_s, self.cpu_s_per_million, self.peak_mib
        )
    }
}

/// What the threads of a run know of each other.
struct Course {
    begin: Barrier,
    /// Messages whose bytes were handed to the system.
    published: AtomicU64,
    /// Messages that each subscriber has.
    received: Vec<AtomicU64>,
    is_over: AtomicBool,
}

pub(crate) fn run(load: &Load) -> Result<Report, Failure> {
    let course = Arc::new(Course {
        begin: Barrier::new(load.publishers + load.subscribers + 1),
        published: AtomicU64::new(0),
        received: (0..load.subscribers).map(|_| AtomicU64::new(0)).collect(),
        is_over: AtomicBool::new(false),
    });
    let subscribers: Vec<_> = (0..load.subscribers)
        .map(|index| {
            let (load, course) = (load.clone(), course.clone());
            thread::spawn(move || subscribe(&load, &course, index))
        })
        .collect();
    let publishers: Vec<_> = (0..load.publishers)
        .map(|_| {
            let (load, course) = (load.clone(), course.clone());
            thread::spawn(move || publish(&load, &course))
        })
        .collect();
    course.begin.wait();
    let (before, began) = (Usage::of(load.target.pid)?, Instant::now());
    for publisher in publishers {
        publisher.join().map_err(|_| "a publisher panicked")??;
    }
    course.is_over.store(true, Ordering::Release);
    for subscriber in subscribers {
        subscriber.join().map_err(|_| "a subscriber panicked")??;
    }
    let (after, took_s) = (Usage::of(load.target.pid)?, began.elapsed().as_secs_f64());
    let published = course.published.load(Ordering::Relaxed) as f64;
    Ok(Report {
        published_per_s: published / took_s,
        delivered_per_s: published * load.subscribers as f64 / took_s,
        cpu_s_per_million: (after.cpu_s - before.cpu_s) / (published / 1e6),
        peak_mib: after.peak_mib,
    })
}

fn publish(load: &Load, course: &Course) -> Result<(), Failure> {
    let mut stream = load.target.connect()?;
    let body = "x".repeat(load.message_len);
    let command = format!("PUB bench.fan {}\r\n{body}\r\n", load.message_len);
    let (bytes, times) = repeated(command.as_bytes(), WRITE_LEN);
    let behind_max = BEHIND_LEN_MAX / command.len() as u64;
    course.begin.wait();
    let until = Instant::now() + Duration::from_secs(load.seconds);
    while Instant::now() < until {
        let published = course.published.fetch_add(times as u64, Ordering::Relaxed);
        let slowest = || course.received.iter().map(|count| count.load(Ordering::Relaxed)).min();
        while slowest().is_some_and(|received| published > received + behind_max) {
            thread::yield_now();
        }
        stream.write_all(&bytes)?;
    }
    settle(&mut stream)
}

fn subscribe(load: &Load, course: &Course, index: usize) -> Result<(), Failure> {
    let mut stream = load.target.connect()?;
    stream.write_all(b"SUB bench.fan 1\r\n")?;
    settle(&mut stream)?;
    stream.set_read_timeout(Some(Duration::from_millis(100)))?;
    // All messages are alike, so that bytes are counted in their place.
    let len = format!("MSG bench.fan 1 {0}\r\n\r\n", load.message_len).len() + load.message_len;
    let (mut bytes, mut part) = (0, vec![0; 512 << 10]);
    course.begin.wait();
    let mut heard = Instant::now();
    loop {
        let read = read_some(&mut stream, &mut part)?;
        if read > 0 {
            bytes += read;
            heard = Instant::now();
        }
        let received = (bytes / len) as u64;
        course.received[index].store(received, Ordering::Relaxed);
        if course.is_over.load(Ordering::Acquire) && received >= course.published.load(Ordering::Relaxed) {
            return Ok(());
        }
        if heard.elapsed() > PATIENCE {
            return Err(format!("{received} messages came, and no more").into());
        }
    }
}
