//! What this crate's tests run on: a server over a broker in a scratch directory, asked without a socket.
#![allow(clippy::disallowed_methods)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use broker::{
    Append, Broker, BrokerOptions, NewBatch, Permission, Principal, PublishUnit, Stream, StreamSettings,
    StreamSpec,
};
use model::{Formats, Namespace, StreamKey};

use crate::{
    ConnectionInfo, Options, Server,
    codec::records::{BatchBuilder, Compression, Stamp},
    format::{FORMAT, stamp_create_time},
    group::ClientView,
    session::Ctx,
};

/// A server on a directory of its own, which goes with it.
pub(crate) struct Rig {
    pub server: Arc<Server>,
    clock: Arc<TestClock>,
    dir: PathBuf,
}

/// The machine's clocks, put forward.
struct TestClock {
    machine: Arc<dyn env::Clock>,
    ahead_ms: AtomicI64,
}

impl env::Clock for TestClock {
    fn wall_ms(&self) -> i64 {
        self.machine.wall_ms() + self.ahead_ms.load(Ordering::SeqCst)
    }

    fn mono_ns(&self) -> u64 {
        self.machine.mono_ns() + self.ahead_ms.load(Ordering::SeqCst).unsigned_abs() * 1_000_000
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        Rig::with(Options { initial_rebalance_delay_ms: 0, ..Options::default() })
    }

    pub(crate) fn with(options: Options) -> Self {
        Rig::on(env::real(), options)
    }

    /// On a disk of which every sync takes this long.
    pub(crate) fn slow(sync_delay_ms: u64) -> Self {
        let slow = env::RealOptions { sync_delay_ms, ..env::RealOptions::default() };
        Rig::on(env::real_with(slow), Options { initial_rebalance_delay_ms: 0, ..Options::default() })
    }

    fn on(machine: env::Env, options: Options) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("wm-kafka-{}-{number}", std::process::id()));
        let mut formats = Formats::default();
        formats.register(crate::format()).unwrap();
        let clock = Arc::new(TestClock { machine: machine.clock.clone(), ahead_ms: AtomicI64::new(0) });
        let world = env::Env { clock: clock.clone(), ..machine };
        let broker = Broker::open(world, &dir, BrokerOptions::default(), formats).unwrap().0;
        Rig { server: Server::new(broker, options), clock, dir }
    }

    /// Puts the clock forward.
    pub(crate) fn advance(&self, by_ms: i64) {
        self.clock.ahead_ms.fetch_add(by_ms, Ordering::SeqCst);
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.server.broker
    }

    pub(crate) fn ctx(&self, version: i16) -> Ctx {
        let address = "127.0.0.1:9092".parse().unwrap();
        Ctx {
            server: self.server.clone(),
            info: Arc::new(ConnectionInfo { peer: address, local: address, advertised: None }),
            principal: Principal::anonymous(),
            client: ClientView::default(),
            version,
        }
    }

    /// [`Rig::ctx`] of a user of tenant `tenant`.
    pub(crate) fn ctx_of(&self, version: i16, tenant: &str, permissions: &[Permission]) -> Ctx {
        let principal =
            Principal { name: Some("u".into()), tenant: tenant.into(), permissions: permissions.into() };
        Ctx { principal, ..self.ctx(version) }
    }

    pub(crate) async fn topic(&self, name: &str, settings: StreamSettings) -> Arc<Stream> {
        let key = StreamKey::log(&Namespace::default(), name);
        let spec = StreamSpec { settings, ..StreamSpec::with_partitions(1) };
        self.broker().create_stream(key, spec).await.unwrap()
    }

    /// Appends a batch of one record to partition 0.
    pub(crate) async fn append(&self, stream: &Stream, value: &[u8]) {
        let unit = PublishUnit::of(vec![Append::new(&stream.partitions()[0], Rig::batch(value))]);
        let published = self.broker().publish(unit).unwrap();
        self.broker().durable(published.wait).await.unwrap();
    }

    /// A batch of one record.
    pub(crate) fn batch(value: &[u8]) -> NewBatch {
        let mut builder = BatchBuilder::new(Compression::None);
        builder.push(1_000, None, Some(value), std::iter::empty());
        NewBatch {
            count: 1,
            format: FORMAT,
            body: builder.finish(&Stamp::default()).unwrap(),
            stamp: Some(stamp_create_time),
            ..NewBatch::default()
        }
    }
}

/// What comes of it, and how often it had to wait for something.
pub(crate) async fn counting_waits<T>(asked: impl Future<Output = T>) -> (T, usize) {
    let (mut asked, mut waits) = (Box::pin(asked), 0);
    let answer = std::future::poll_fn(|ctx| {
        let polled = asked.as_mut().poll(ctx);
        waits += usize::from(polled.is_pending());
        polled
    })
    .await;
    (answer, waits)
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.server.broker.close().unwrap();
        drop(std::fs::remove_dir_all(&self.dir));
    }
}
