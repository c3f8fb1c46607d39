//! What this crate's tests run on: a broker over a scratch directory, a clock that is set by hand, an executor of ten
//! lines.
#![allow(clippy::disallowed_methods)]

use std::{
    future::Future,
    path::PathBuf,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use env::{Clock, Env};
use model::{Formats, Namespace, Offset, Record, Result, StreamKey};

use crate::{
    Append, Broker, BrokerOptions, NewBatch, Outcome, Partition, PublishUnit, ReadLimits, Stream,
    StreamSettings, StreamSpec,
    plain::{PLAIN, Plain},
};

/// A wall clock set by hand; the monotonic one runs.
pub(crate) struct HandClock {
    wall_ms: AtomicI64,
    began: Instant,
}

impl Clock for HandClock {
    fn wall_ms(&self) -> i64 {
        self.wall_ms.load(Ordering::SeqCst)
    }
    fn mono_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap()
    }
}

/// Waits for what a thread of the broker does.
pub(crate) fn until(mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not happen");
        std::thread::yield_now();
    }
}

/// A broker on a directory of its own, which goes with it.
pub(crate) struct Rig {
    pub broker: Broker,
    pub clock: Arc<HandClock>,
    dir: PathBuf,
    options: BrokerOptions,
}

pub(crate) const START_MS: i64 = 1_700_000_000_000;

impl Rig {
    pub(crate) fn new() -> Self {
        // Retention is called by the tests themselves.
        Rig::with(BrokerOptions { retention_interval_ms: 3_600_000, ..BrokerOptions::default() })
    }

    pub(crate) fn with(options: BrokerOptions) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("wm-broker-{}-{number}", std::process::id()));
        let clock = Arc::new(HandClock { wall_ms: AtomicI64::new(START_MS), began: Instant::now() });
        let broker = open(&clock, &dir, &options).unwrap();
        Rig { broker, clock, dir, options }
    }

    pub(crate) fn advance(&self, ms: i64) {
        self.clock.wall_ms.fetch_add(ms, Ordering::SeqCst);
    }

    /// Stops the broker and opens it again.
    pub(crate) fn reopen(&mut self) {
        self.broker.close().unwrap();
        self.broker = open(&self.clock, &self.dir, &self.options).unwrap();
    }

    pub(crate) fn log(&self, name: &str, partitions: u32) -> Arc<Stream> {
        self.log_with(name, partitions, StreamSettings::default())
    }

    pub(crate) fn log_with(&self, name: &str, partitions: u32, settings: StreamSettings) -> Arc<Stream> {
        let spec = StreamSpec { settings, ..StreamSpec::with_partitions(partitions) };
        wait(self.broker.create_stream(key(name), spec)).unwrap()
    }

    pub(crate) fn stream(&self, name: &str) -> Arc<Stream> {
        self.broker.stream(&key(name)).unwrap()
    }

    pub(crate) fn partition(&self, name: &str, index: usize) -> Arc<Partition> {
        self.stream(name).partitions()[index].clone()
    }

    /// Publishes one batch, waits, and answers the outcome.
    pub(crate) fn publish(&self, append: Append) -> Outcome {
        let published = self.broker.publish(PublishUnit::of(vec![append])).unwrap();
        wait(self.broker.durable(published.wait)).unwrap();
        published.outcomes.into_iter().next().unwrap()
    }

    /// Appends a batch of these bodies and answers its offset.
    pub(crate) fn append(&self, partition: &Arc<Partition>, bodies: &[&str]) -> Offset {
        match self.publish(Append::new(partition, batch(bodies))) {
            Outcome::Appended { base, .. } => base,
            other => panic!("{other:?}"),
        }
    }

    /// Offsets and bodies from `from` on.
    pub(crate) fn read(&self, partition: &Arc<Partition>, from: u64) -> Result<Vec<(u64, String)>> {
        let mut found = Vec::new();
        let mut from = Offset(from);
        loop {
            let chunk = wait(self.broker.read(partition, from, ReadLimits::default()))?;
            for (offset, record) in self.broker.records(&chunk)? {
                let body = String::from_utf8(record.body.unwrap().to_vec()).unwrap();
                if offset >= from {
                    found.push((offset.0, body));
                }
            }
            if chunk.next == from {
                return Ok(found);
            }
            from = chunk.next;
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        drop(self.broker.close());
        drop(std::fs::remove_dir_all(&self.dir));
    }
}

fn open(clock: &Arc<HandClock>, dir: &std::path::Path, options: &BrokerOptions) -> Result<Broker> {
    let env = Env { clock: clock.clone(), ..env::real() };
    let mut formats = Formats::default();
    formats.register(Arc::new(Plain))?;
    Ok(Broker::open(env, dir, options.clone(), formats)?.0)
}

pub(crate) fn key(name: &str) -> StreamKey {
    StreamKey::log(&Namespace::default(), name)
}

pub(crate) fn record(body: &str) -> Record {
    Record { body: Some(Bytes::copy_from_slice(body.as_bytes())), ..Record::default() }
}

pub(crate) fn batch(bodies: &[&str]) -> NewBatch {
    batch_of(&bodies.iter().map(|body| record(body)).collect::<Vec<_>>())
}

pub(crate) fn batch_of(records: &[Record]) -> NewBatch {
    use model::Format;
    NewBatch {
        count: u32::try_from(records.len()).unwrap(),
        format: PLAIN,
        max_event_time_ms: records.iter().filter_map(|record| record.event_time_ms).max(),
        body: Plain.write(records).unwrap(),
        ..NewBatch::default()
    }
}

struct Unpark(std::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on this thread; a minute is too long for anything.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    let waker = Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    let began = Instant::now();
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "nothing happened for a minute");
        std::thread::park_timeout(Duration::from_secs(1));
    }
}
