//! What goes in and what comes out, frame by frame, over queues on a scratch directory.
#![allow(clippy::disallowed_methods)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use broker::{Broker, BrokerOptions};
use env::testing::{Ahead, Wrong, faulty};
use model::Formats;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::watch,
    time::timeout,
};

use crate::{
    ConnectionInfo, Options, Server,
    codec::{
        ContentHeader, FrameKind, Method, Properties, Table, TableWriter, Value, next_frame, put_body,
        put_content, put_method, table_of,
    },
};

mod alarms;
mod alternates;
mod backlog;
mod channels;
mod connections;
mod dead_letters;
mod deaths;
mod durability;
mod exchanges;
mod expiring;
mod failing;
mod large;
mod lengths;
mod memory;
mod queues;
mod rights;
mod rows;
mod timeouts;
mod turns;
mod waiting;
mod words;
mod working;

/// Longer than anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Short enough to wait for nothing.
const QUIET: Duration = Duration::from_millis(150);

struct Rig {
    server: Arc<Server>,
    dir: PathBuf,
    stop: watch::Sender<bool>,
    options: Options,
    clock: Arc<Ahead>,
}

impl Rig {
    fn new() -> Self {
        Rig::with(Options::default())
    }

    fn with(options: Options) -> Self {
        Rig::over(options, BrokerOptions::default())
    }

    fn over(options: Options, broker_options: BrokerOptions) -> Self {
        Rig::on(env::real(), options, broker_options)
    }

    fn on(env: env::Env, options: Options, broker_options: BrokerOptions) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("wm-amqp-{}-{number}", std::process::id()));
        let clock = Ahead::new();
        let broker = open(env::Env { clock: clock.clone(), ..env }, &dir, broker_options);
        let server = Server::new(broker, options.clone());
        Rig { server, dir, stop: watch::channel(false).0, options, clock }
    }

    /// Puts the clock forward, and has what is due looked at. Whether a client has a message for too long is looked at after
    /// its next frame.
    fn pass(&self, ms: u64) {
        self.clock.pass(ms);
        self.server.broker.clock_was_set();
        self.server.vhosts.expiry.look();
    }

    /// A rig on a disk that fails as it is told.
    fn on_faulty_disk(options: Options, broker_options: BrokerOptions) -> (Self, Arc<Wrong>) {
        let (env, wrong) = faulty();
        (Rig::on(env, options, broker_options), wrong)
    }

    /// The same directory, opened again, where every sync takes `sync_delay_ms`.
    fn reopen(&mut self, sync_delay_ms: u64) {
        self.server.broker.close().unwrap();
        let options = env::RealOptions { sync_delay_ms, ..env::RealOptions::default() };
        let env = env::Env { clock: self.clock.clone(), ..env::real_with(options) };
        self.server = Server::new(open(env, &self.dir, BrokerOptions::default()), self.options.clone());
    }

    fn raw(&self) -> Peer {
        self.raw_as(None)
    }

    /// A connection whose client has a certificate with that name.
    fn raw_as(&self, certified: Option<&str>) -> Peer {
        let (near, far) = tokio::io::duplex(1 << 20);
        let peer = "127.0.0.1:5672".parse().unwrap();
        let info = ConnectionInfo { peer, certified: certified.map(str::to_owned) };
        tokio::spawn(self.server.clone().serve_connection(far, info, self.stop.subscribe()));
        Peer { stream: near, seen: Vec::new() }
    }

    /// An open connection with channel 1 open.
    async fn connect(&self) -> Peer {
        let mut peer = self.raw();
        peer.shake_hands("PLAIN", b"\0guest\0guest", "/").await;
        peer.expect("ConnectionOpenOk").await;
        peer.open(1).await;
        peer
    }
}

fn open(env: env::Env, dir: &std::path::Path, options: BrokerOptions) -> Broker {
    let mut formats = Formats::default();
    formats.register(crate::format()).unwrap();
    formats.register(Arc::new(backlog::Lines)).unwrap();
    Broker::open(env, dir, options, formats).unwrap().0
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

/// A message as a client sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    /// The method before it, as text.
    method: String,
    tag: u64,
    redelivered: bool,
    exchange: String,
    routing_key: Vec<u8>,
    properties: Vec<u8>,
    body: Vec<u8>,
}

impl Seen {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<String> {
        let properties = Properties::read(&self.properties).unwrap();
        properties.headers?.get(name).map(|value| format!("{value:?}"))
    }
}

/// A client, frame by frame.
struct Peer {
    stream: DuplexStream,
    seen: Vec<u8>,
}

impl Peer {
    async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    async fn send(&mut self, channel: u16, method: Method<'_>) {
        let mut out = Vec::new();
        put_method(&mut out, channel, method);
        self.send_bytes(&out).await;
    }

    /// The next frame that is no heartbeat: its kind, channel and payload; `None` at the end of the stream.
    async fn frame(&mut self) -> Option<(FrameKind, u16, Vec<u8>)> {
        loop {
            if let Some(frame) = next_frame(&self.seen, 131_072).unwrap() {
                let payload = self.seen[frame.payload.clone()].to_vec();
                self.seen.drain(..frame.len);
                if frame.kind != FrameKind::Heartbeat {
                    return Some((frame.kind, frame.channel, payload));
                }
                continue;
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.seen)).await;
            if read.expect("nothing came").unwrap() == 0 {
                return None;
            }
        }
    }

    /// The next method, as text.
    async fn method(&mut self) -> String {
        let (kind, _, payload) = self.frame().await.expect("the connection ended");
        assert_eq!(kind, FrameKind::Method);
        format!("{:?}", Method::read(&payload).unwrap())
    }

    /// The next method, which begins with `name`.
    async fn expect(&mut self, name: &str) -> String {
        let method = self.method().await;
        assert!(method.starts_with(name), "{name} expected, not {method}");
        method
    }

    /// The channel, or the connection, is closed with that code and text.
    async fn expect_close(&mut self, code: u16, text: &str) {
        let (_, channel, payload) = self.frame().await.expect("the connection ended");
        match Method::read(&payload).unwrap() {
            Method::ChannelClose { code: found, text: words, .. } => {
                assert_eq!((found, words), (code, text));
                self.send(channel, Method::ChannelCloseOk {}).await;
                self.open(channel).await;
            }
            Method::ConnectionClose { code: found, text: words, .. } => {
                assert_eq!((found, words), (code, text));
                self.send(0, Method::ConnectionCloseOk {}).await;
                assert!(self.frame().await.is_none(), "the connection goes on");
            }
            other => panic!("a close expected, not {other:?}"),
        }
    }

    async fn expect_end(&mut self) {
        assert!(self.frame().await.is_none(), "the connection goes on");
    }

    /// Nothing comes for a while.
    async fn expect_nothing(&mut self) {
        assert!(self.seen.is_empty(), "{:?}", next_frame(&self.seen, 131_072));
        assert!(timeout(QUIET, self.stream.read_buf(&mut self.seen)).await.is_err(), "{:?}", self.seen);
    }

    /// Greets the server and asks to be let in.
    async fn start(&mut self, client_properties: Table<'_>, mechanism: &str, response: &[u8]) {
        self.send_bytes(b"AMQP\x00\x00\x09\x01").await;
        self.expect("ConnectionStart ").await;
        let start_ok = Method::ConnectionStartOk { client_properties, mechanism, response, locale: "en_US" };
        self.send(0, start_ok).await;
    }

    /// Up to connection.tune, as a client that says nothing of what it understands.
    async fn start_plain(&mut self) {
        self.start(Table::default(), "PLAIN", b"\0guest\0guest").await;
        self.expect("ConnectionTune ").await;
    }

    /// From there to an open connection.
    async fn enter(&mut self, frame_max: u32, heartbeat: u16) {
        self.send(0, Method::ConnectionTuneOk { channel_max: 10, frame_max, heartbeat }).await;
        self.send(0, Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false }).await;
        self.expect("ConnectionOpenOk").await;
    }

    /// Up to connection.open.
    async fn shake_hands(&mut self, mechanism: &str, response: &[u8], vhost: &str) {
        let mut capabilities = TableWriter::default();
        for name in ["consumer_cancel_notify", "authentication_failure_close", "connection.blocked"] {
            capabilities.field(name, Value::Bool(true));
        }
        let capabilities = capabilities.finish();
        let mut properties = TableWriter::default();
        properties.field("capabilities", Value::Table(table_of(&capabilities)));
        let properties = properties.finish();
        self.start(table_of(&properties), mechanism, response).await;
        let tune = self.method().await;
        if !tune.starts_with("ConnectionTune ") {
            panic!("{tune}");
        }
        let tune_ok = Method::ConnectionTuneOk { channel_max: 2_047, frame_max: 131_072, heartbeat: 0 };
        self.send(0, tune_ok).await;
        self.send(0, Method::ConnectionOpen { virtual_host: vhost, capabilities: "", insist: false }).await;
    }

    async fn open(&mut self, channel: u16) {
        self.send(channel, Method::ChannelOpen { out_of_band: "" }).await;
        self.expect("ChannelOpenOk").await;
    }

    async fn confirm(&mut self) {
        self.send(1, Method::ConfirmSelect { nowait: false }).await;
        self.expect("ConfirmSelectOk").await;
    }

    async fn publish_on(
        &mut self,
        channel: u16,
        (exchange, routing_key): (&str, &str),
        properties: Properties<'_>,
        body: &[u8],
    ) {
        let routing_key = crate::codec::Key(routing_key.as_bytes());
        let mut out = Vec::new();
        let publish =
            Method::BasicPublish { ticket: 0, exchange, routing_key, mandatory: true, immediate: false };
        put_method(&mut out, channel, publish);
        let mut raw = Vec::new();
        properties.write(&mut raw);
        put_content(&mut out, channel, &raw, body.len());
        self.send_bytes(&out).await;
        let mut frames = wire::Gathered::default();
        put_body(&mut frames, channel, &body.to_vec().into(), 4_096);
        let mut pieces = vec![std::io::IoSlice::new(&[]); 4_096];
        let count = frames.pieces(0, &mut pieces);
        for piece in &pieces[..count] {
            self.stream.write_all(piece).await.unwrap();
        }
    }

    /// Publishes a persistent message on channel 1.
    async fn publish(&mut self, to: (&str, &str), body: &str) {
        self.publish_on(1, to, persistent(), body.as_bytes()).await;
    }

    /// A message with its method.
    async fn message(&mut self) -> Seen {
        let (_, _, payload) = self.frame().await.expect("the connection ended");
        let method = Method::read(&payload).unwrap();
        let name = format!("{method:?}");
        let (tag, redelivered, exchange, routing_key) = match method {
            Method::BasicDeliver { delivery_tag, redelivered, exchange, routing_key, .. }
            | Method::BasicGetOk { delivery_tag, redelivered, exchange, routing_key, .. } => {
                (delivery_tag, redelivered, exchange, routing_key)
            }
            Method::BasicReturn { exchange, routing_key, .. } => (0, false, exchange, routing_key),
            other => panic!("a message expected, not {other:?}"),
        };
        let (exchange, routing_key) = (exchange.to_owned(), routing_key.0.to_vec());
        let (kind, _, header) = self.frame().await.unwrap();
        assert_eq!(kind, FrameKind::Header);
        let header = ContentHeader::read(&header).unwrap();
        let mut body = Vec::new();
        while (body.len() as u64) < header.body_len {
            let (kind, _, piece) = self.frame().await.unwrap();
            assert_eq!(kind, FrameKind::Body);
            body.extend_from_slice(&piece);
        }
        let properties = header.raw.to_vec();
        Seen { method: name, tag, redelivered, exchange, routing_key, properties, body }
    }

    async fn messages(&mut self, count: usize) -> Vec<Seen> {
        let mut all = Vec::new();
        for _ in 0..count {
            all.push(self.message().await);
        }
        all
    }

    async fn declare(&mut self, name: &str) -> String {
        self.declare_with(name, Flags::default(), &[]).await
    }

    async fn declare_with(&mut self, name: &str, flags: Flags, arguments: &[(&str, Value<'_>)]) -> String {
        self.ask_declare(name, flags, arguments).await;
        self.expect("QueueDeclareOk").await
    }

    async fn ask_declare(&mut self, queue: &str, flags: Flags, arguments: &[(&str, Value<'_>)]) {
        let fields = fields(arguments);
        let declare = Method::QueueDeclare {
            ticket: 0,
            queue,
            passive: flags.passive,
            durable: !flags.transient,
            exclusive: flags.exclusive,
            auto_delete: flags.auto_delete,
            nowait: false,
            arguments: table_of(&fields),
        };
        self.send(1, declare).await;
    }

    /// How many messages wait in a queue, and how many consume.
    async fn counts(&mut self, queue: &str) -> (u32, u32) {
        self.ask_declare(queue, Flags { passive: true, ..Flags::default() }, &[]).await;
        let (_, _, payload) = self.frame().await.unwrap();
        match Method::read(&payload).unwrap() {
            Method::QueueDeclareOk { message_count, consumer_count, .. } => (message_count, consumer_count),
            other => panic!("{other:?}"),
        }
    }

    async fn exchange(&mut self, name: &str, kind: &str, arguments: &[(&str, Value<'_>)]) {
        self.ask_exchange(name, kind, arguments).await;
        self.expect("ExchangeDeclareOk").await;
    }

    async fn ask_exchange(&mut self, exchange: &str, kind: &str, arguments: &[(&str, Value<'_>)]) {
        let fields = fields(arguments);
        let declare = Method::ExchangeDeclare {
            ticket: 0,
            exchange,
            kind,
            passive: false,
            durable: true,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: table_of(&fields),
        };
        self.send(1, declare).await;
    }

    async fn bind(&mut self, queue: &str, exchange: &str, key: &str, arguments: &[(&str, Value<'_>)]) {
        let fields = fields(arguments);
        let bind = Method::QueueBind {
            ticket: 0,
            queue,
            exchange,
            routing_key: crate::codec::Key(key.as_bytes()),
            nowait: false,
            arguments: table_of(&fields),
        };
        self.send(1, bind).await;
        self.expect("QueueBindOk").await;
    }

    async fn consume(&mut self, queue: &str, tag: &str, no_ack: bool) {
        self.consume_on(1, queue, tag, no_ack, false, &[]).await;
        self.expect("BasicConsumeOk").await;
    }

    async fn consume_on(
        &mut self,
        channel: u16,
        queue: &str,
        consumer_tag: &str,
        no_ack: bool,
        exclusive: bool,
        arguments: &[(&str, Value<'_>)],
    ) {
        let fields = fields(arguments);
        let consume = Method::BasicConsume {
            ticket: 0,
            queue,
            consumer_tag,
            no_local: false,
            no_ack,
            exclusive,
            nowait: false,
            arguments: table_of(&fields),
        };
        self.send(channel, consume).await;
    }

    async fn qos(&mut self, prefetch_count: u16, global: bool) {
        self.send(1, Method::BasicQos { prefetch_size: 0, prefetch_count, global }).await;
        self.expect("BasicQosOk").await;
    }

    async fn get(&mut self, queue: &str) -> Option<Seen> {
        self.send(1, Method::BasicGet { ticket: 0, queue, no_ack: false }).await;
        let (_, channel, payload) = self.frame().await.unwrap();
        if let Method::BasicGetEmpty { .. } = Method::read(&payload).unwrap() {
            return None;
        }
        let mut again = vec![1];
        again.extend_from_slice(&channel.to_be_bytes());
        again.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        again.extend_from_slice(&payload);
        again.push(0xce);
        self.seen.splice(..0, again);
        Some(self.message().await)
    }

    /// The first message of a queue, once there is one.
    async fn first(&mut self, queue: &str) -> Seen {
        let began = tokio::time::Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(message) = self.get(queue).await {
                return message;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("nothing came to {queue}")
    }

    async fn ack(&mut self, delivery_tag: u64) {
        self.send(1, Method::BasicAck { delivery_tag, multiple: false }).await;
    }

    async fn nack(&mut self, delivery_tag: u64, requeue: bool) {
        self.send(1, Method::BasicNack { delivery_tag, multiple: false, requeue }).await;
    }

    /// Everything sent before has taken effect.
    async fn sync(&mut self) {
        self.qos(0, true).await;
    }
}

/// How a queue is declared; durable unless said otherwise.
#[derive(Clone, Copy, Default)]
struct Flags {
    passive: bool,
    transient: bool,
    exclusive: bool,
    auto_delete: bool,
}

fn fields(all: &[(&str, Value<'_>)]) -> Vec<u8> {
    let mut writer = TableWriter::default();
    for (name, value) in all {
        writer.field(name, *value);
    }
    writer.finish()
}

fn persistent() -> Properties<'static> {
    Properties { delivery_mode: Some(2), ..Properties::default() }
}

fn with_table(table: Table<'_>) -> Properties<'_> {
    Properties { headers: Some(table), ..persistent() }
}

fn bodies(messages: &[Seen]) -> Vec<&str> {
    messages.iter().map(Seen::text).collect()
}

/// Waits until something holds that no client is told of.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = tokio::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not so for a minute: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits until a queue has that many messages ready.
async fn until_ready(peer: &mut Peer, queue: &str, count: u32) {
    let began = tokio::time::Instant::now();
    while began.elapsed() < PATIENCE {
        if peer.counts(queue).await.0 == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{queue} has {:?}, not {count}", peer.counts(queue).await);
}
