//! Transcripts: what goes in, and to the byte what comes out, over streams in memory.
#![allow(clippy::disallowed_methods)]

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use broker::{Action, Broker, BrokerOptions, Credentials, Permission, UserSpec};
use env::testing::{Ahead, Wrong, faulty};
use model::Formats;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream},
    sync::watch,
    time::timeout,
};

use crate::{ConnectionInfo, Options, Server};

mod access;
mod golden;
mod monitoring;
mod routes;
mod users;

/// Longer than anything takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Rig {
    server: Arc<Server>,
    dir: PathBuf,
    stop: watch::Sender<bool>,
    clock: Arc<Ahead>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Rig::with(Options::default())
    }

    pub(crate) fn with(options: Options) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let dir = std::env::temp_dir().join(format!("wm-nats-{}-{number}", std::process::id()));
        let clock = Ahead::new();
        let broker = open(env::Env { clock: clock.clone(), ..env::real() }, &dir);
        Rig { server: Server::new(broker, options), dir, stop: watch::channel(false).0, clock }
    }

    /// Puts the broker's clock forward, and has what is due looked at.
    pub(crate) fn pass(&self, ms: u64) {
        self.clock.pass(ms);
        self.broker().clock_was_set();
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.server.broker
    }

    /// The stream of that name.
    pub(crate) fn stream(&self, name: &str) -> Arc<broker::Stream> {
        let key = model::StreamKey::log(&model::Namespace::new("public", "default"), name);
        self.server.broker.stream(&key).unwrap()
    }

    /// What `/varz` says once it is as wanted.
    async fn settled(&self, is_wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let waiting = async {
            loop {
                let varz = self.server.monitor("/varz", &Default::default()).unwrap();
                if is_wanted(&varz) {
                    return varz;
                }
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap()
    }

    /// A connection whose INFO was read.
    async fn connect(&self) -> Peer {
        self.greeted().await.0
    }

    /// A connection, and what its INFO said.
    async fn greeted(&self) -> (Peer, serde_json::Value) {
        let (near, far) = tokio::io::duplex(1 << 20);
        let address = "127.0.0.1:4222".parse().unwrap();
        let info =
            ConnectionInfo { peer: address, local: address, advertised: None, is_tls: false, greeted: None };
        tokio::spawn(self.server.clone().serve_connection(far, info, self.stop.subscribe()));
        let mut peer = Peer { stream: near, seen: Vec::new() };
        let line = peer.line().await;
        let info = serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
        (peer, info)
    }

    /// A connection that said `{}` with verbose off, headers on.
    pub(crate) async fn client(&self) -> Peer {
        let mut peer = self.connect().await;
        peer.send(r#"CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}"#).await;
        peer.send("\r\n").await;
        peer.sync().await;
        peer
    }
}

impl Rig {
    /// The same directory, opened again, where every sync takes `sync_delay_ms`.
    pub(crate) fn reopen(&mut self, sync_delay_ms: u64) {
        let options = env::RealOptions { sync_delay_ms, ..env::RealOptions::default() };
        self.reopen_in(env::real_with(options));
    }

    /// The same directory, opened again, on a disk that fails once that is said.
    pub(crate) fn reopen_on_failing_disk(&mut self) -> Arc<Wrong> {
        let (env, wrong) = faulty();
        self.reopen_in(env);
        wrong
    }

    fn reopen_in(&mut self, env: env::Env) {
        self.server.broker.close().unwrap();
        let env = env::Env { clock: self.clock.clone(), ..env };
        self.server = Server::new(open(env, &self.dir), Options::default());
    }
}

fn open(env: env::Env, dir: &std::path::Path) -> Broker {
    let mut formats = Formats::default();
    formats.register(crate::format()).unwrap();
    Broker::open(env, dir, BrokerOptions::default(), formats).unwrap().0
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir_all(&self.dir);
    }
}

pub(crate) struct Peer {
    stream: DuplexStream,
    seen: Vec<u8>,
}

impl Peer {
    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.write_all(text.as_bytes()).await.unwrap();
    }

    /// Everything up to and including the next line's end.
    pub(crate) async fn line(&mut self) -> String {
        loop {
            if let Some(end) = self.seen.iter().position(|byte| *byte == b'\n') {
                return String::from_utf8(self.seen.drain(..=end).collect()).unwrap();
            }
            assert!(self.more().await, "closed within a line");
        }
    }

    async fn more(&mut self) -> bool {
        timeout(PATIENCE, self.stream.read_buf(&mut self.seen)).await.unwrap().unwrap() > 0
    }

    #[track_caller]
    fn check(got: &str, expected: &str) {
        assert_eq!(got, expected);
    }

    /// Waits for exactly these bytes.
    pub(crate) async fn expect(&mut self, expected: &str) {
        while self.seen.len() < expected.len() {
            assert!(self.more().await, "closed after {:?}", String::from_utf8_lossy(&self.seen));
        }
        let got: Vec<u8> = self.seen.drain(..expected.len()).collect();
        Peer::check(&String::from_utf8_lossy(&got), expected);
    }

    /// Everything before this was handled.
    pub(crate) async fn sync(&mut self) {
        self.send("PING\r\n").await;
        self.expect("PONG\r\n").await;
    }

    /// What is still to come until the connection is closed.
    pub(crate) async fn rest(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(std::mem::take(&mut self.seen)).unwrap()
    }

    /// Sends, and expects these bytes and then the end.
    async fn dies_of(&mut self, sent: &str, expected: &str) {
        self.send(sent).await;
        assert_eq!(self.rest().await, expected, "{sent:?}");
    }
}

#[tokio::test]
async fn the_first_line_says_who_is_here() {
    let rig = Rig::new();
    let (near, far) = tokio::io::duplex(1 << 16);
    let address = "127.0.0.1:4222".parse().unwrap();
    let info = ConnectionInfo {
        peer: address,
        local: address,
        advertised: Some(("nats.example".to_owned(), 4333)),
        is_tls: false,
        greeted: None,
    };
    tokio::spawn(rig.server.clone().serve_connection(far, info, rig.stop.subscribe()));
    let line = Peer { stream: near, seen: Vec::new() }.line().await;
    let info: serde_json::Value = serde_json::from_str(line.strip_prefix("INFO ").unwrap()).unwrap();
    assert_eq!(info["max_payload"], 1_048_576);
    assert_eq!((&info["proto"], &info["headers"]), (&1.into(), &true.into()));
    assert_eq!(info["connect_urls"], serde_json::json!(["nats.example:4333"]));
    assert_eq!(info["server_id"].as_str().unwrap().len(), 56);
    assert!(info.get("auth_required").is_none() && info["jetstream"] == true);
}

#[tokio::test]
async fn a_message_goes_to_who_subscribes_and_is_gone_where_nobody_does() {
    let rig = Rig::new();
    let (mut one, mut two) = (rig.client().await, rig.client().await);
    two.send("PUB a.b 4\r\nlost\r\nPING\r\n").await;
    two.expect("PONG\r\n").await;
    one.send("SUB a.* 9\r\n").await;
    one.sync().await;
    two.send("PUB a.b reply 2\r\nhi\r\nPUB a 1\r\nx\r\nHPUB a.c 12 13\r\nNATS/1.0\r\n\r\n!\r\n").await;
    one.expect("MSG a.b 9 reply 2\r\nhi\r\nHMSG a.c 9 12 13\r\nNATS/1.0\r\n\r\n!\r\n").await;
}

#[tokio::test]
async fn a_verbose_client_is_answered_each_time_but_for_ping() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.send("CONNECT {}\r\nSUB a 1\r\nPUB b 1\r\nx\r\nUNSUB 1\r\nPING\r\n").await;
    peer.expect("+OK\r\n+OK\r\n+OK\r\n+OK\r\nPONG\r\n").await;
}

#[tokio::test]
async fn news_follow_the_first_ping_of_a_client_that_takes_them() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.send("CONNECT {\"verbose\":false,\"protocol\":1}\r\nPING\r\nPING\r\n").await;
    peer.expect("PONG\r\n").await;
    let line = peer.line().await;
    assert!(line.contains("\"connect_info\":true") && line.contains("\"remote_account\":\"$G\""), "{line}");
    peer.expect("PONG\r\n").await;
}

#[tokio::test]
async fn pedantic_clients_are_told_of_subjects_that_nothing_matches() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.send("CONNECT {\"verbose\":false}\r\nPUB a.* 1\r\nx\r\nSUB a..b 1\r\n").await;
    peer.expect("-ERR 'Invalid Publish Subject'\r\n-ERR 'Invalid Subject'\r\n").await;
    peer.sync().await;
}

#[tokio::test]
async fn a_request_that_nobody_serves_is_answered_at_once() {
    let rig = Rig::new();
    let mut peer = rig.client().await;
    peer.send("SUB _INBOX.x.* 3\r\nPUB svc _INBOX.x.1 0\r\n\r\n").await;
    peer.expect("HMSG _INBOX.x.1 3 35 35\r\nNATS/1.0 503\r\nNats-Subject: svc\r\n\r\n\r\n").await;
    let mut server = rig.client().await;
    server.send("SUB svc 1\r\n").await;
    server.sync().await;
    peer.send("PUB svc _INBOX.x.2 2\r\nhi\r\n").await;
    server.expect("MSG svc 1 _INBOX.x.2 2\r\nhi\r\n").await;
    server.send("PUB _INBOX.x.2 3\r\nyes\r\n").await;
    peer.expect("MSG _INBOX.x.2 3 3\r\nyes\r\n").await;
}

#[tokio::test]
async fn a_subscription_ends_after_as_many_as_it_was_told() {
    let rig = Rig::new();
    let (mut one, mut two) = (rig.client().await, rig.client().await);
    one.send("SUB a 1\r\nUNSUB 1 2\r\nSUB b 2\r\nUNSUB 2\r\nUNSUB 77\r\n").await;
    one.sync().await;
    two.send("PUB a 1\r\n1\r\nPUB b 1\r\nx\r\nPUB a 1\r\n2\r\nPUB a 1\r\n3\r\n").await;
    two.sync().await;
    one.expect("MSG a 1 1\r\n1\r\nMSG a 1 1\r\n2\r\n").await;
    one.sync().await;
    // What one read brought before counts too.
    one.send(
        "SUB d 3\r\nPUB d 1\r\n1\r\nPUB d 1\r\n2\r\nUNSUB 3 3\r\nPUB d 1\r\n3\r\nPUB d 1\r\n4\r\nPING\r\n",
    )
    .await;
    one.expect("MSG d 3 1\r\n1\r\nMSG d 3 1\r\n2\r\nMSG d 3 1\r\n3\r\nPONG\r\n").await;
    // The number is free again.
    one.send("SUB c 1\r\nPUB c 1\r\ny\r\n").await;
    one.expect("MSG c 1 1\r\ny\r\n").await;
}

#[tokio::test]
async fn the_number_of_a_live_subscription_stays_with_it() {
    let rig = Rig::new();
    let mut peer = rig.client().await;
    peer.send("SUB a 1\r\nSUB b 1\r\nPUB a 1\r\nx\r\nPUB b 1\r\nx\r\n").await;
    peer.expect("MSG a 1 1\r\nx\r\n").await;
    peer.sync().await;
}

#[tokio::test]
async fn a_client_gets_its_own_messages_unless_it_said_not_to() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.send("CONNECT {\"verbose\":false,\"echo\":false,\"protocol\":0}\r\nSUB a 1\r\nPUB a 1\r\nx\r\n")
        .await;
    peer.sync().await;
}

#[tokio::test]
async fn what_breaks_the_protocol_is_told_as_the_original_tells_it() {
    let rig = Rig::with(Options { payload_len_max: 8, control_line_len_max: 32, ..Options::default() });
    for (sent, told) in [
        ("FOO\r\n", "-ERR 'Unknown Protocol Operation'\r\n"),
        ("PUB a 9\r\n", "-ERR 'Maximum Payload Violation'\r\n"),
        ("PUB a 2\r\nabc\r\n", "-ERR 'Unknown Protocol Operation'\r\n"),
        ("PUB a\r\n", ""),
        ("SUB a.very.long.subject.that.never.ends 1\r\n", "-ERR 'maximum control line exceeded'\r\n"),
        ("CONNECT {\r\n", ""),
    ] {
        rig.connect().await.dies_of(sent, told).await;
    }
    for (options, told) in [
        (r#"{"protocol":2}"#, "invalid client protocol"),
        (r#"{"no_responders":true}"#, "no responders requires headers support"),
        (r#"{"account":"x"}"#, "Authorization Violation"),
    ] {
        let rig = Rig::new();
        let sent = format!("CONNECT {options}\r\n");
        rig.connect().await.dies_of(&sent, &format!("-ERR '{told}'\r\n")).await;
    }
}

#[tokio::test]
async fn headers_from_a_client_that_did_not_announce_them_end_the_connection() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.dies_of("CONNECT {\"verbose\":false}\r\nHPUB a 12 12\r\nNATS/1.0\r\n\r\n\r\n", "").await;
}

async fn with_users() -> Rig {
    let rig = Rig::new();
    let password = |text: &str| vec![Credentials::Password(text.to_owned())];
    let spec = UserSpec { credentials: password("secret"), ..UserSpec::default() };
    rig.server.broker.users().put("all", spec).await.unwrap();
    let permissions = [(Action::Write, "t.events.*"), (Action::Read, "_INBOX.*")]
        .map(|(action, pattern)| Permission::allow(action, pattern));
    let spec = UserSpec {
        credentials: password("secret"),
        permissions: Some(permissions.to_vec()),
        ..UserSpec::default()
    };
    rig.server.broker.users().put("tenant", spec).await.unwrap();
    let spec =
        UserSpec { credentials: password("secret"), tenant: Some("other".to_owned()), ..UserSpec::default() };
    rig.server.broker.users().put("other", spec).await.unwrap();
    rig
}

fn connect_as(user: &str, password: &str) -> String {
    format!("CONNECT {{\"verbose\":false,\"user\":\"{user}\",\"pass\":\"{password}\"}}\r\n")
}

#[tokio::test]
async fn with_users_only_they_come_in() {
    let rig = with_users().await;
    for sent in ["PING\r\n", "CONNECT {}\r\n", &connect_as("all", "wrong"), &connect_as("nobody", "secret")] {
        rig.connect().await.dies_of(sent, "-ERR 'Authorization Violation'\r\n").await;
    }
    let mut peer = rig.connect().await;
    peer.send(&connect_as("all", "secret")).await;
    peer.send("SUB a 1\r\nPUB a 1\r\nx\r\n").await;
    peer.expect("MSG a 1 1\r\nx\r\n").await;
}

#[tokio::test]
async fn a_user_may_do_what_its_permissions_say() {
    let rig = with_users().await;
    let mut peer = rig.connect().await;
    peer.send(&connect_as("tenant", "secret")).await;
    peer.send("PUB t.events.a 1\r\nx\r\nPUB secrets 1\r\nx\r\nSUB > 1\r\nSUB _INBOX.> 2\r\nSUB a q 3\r\n")
        .await;
    peer.expect("-ERR 'Permissions Violation for Publish to \"secrets\"'\r\n").await;
    peer.expect("-ERR 'Permissions Violation for Subscription to \">\"'\r\n").await;
    peer.expect("-ERR 'Permissions Violation for Subscription to \"a\" using queue \"q\"'\r\n").await;
    peer.sync().await;
}

#[tokio::test]
async fn accounts_do_not_hear_each_other() {
    let rig = with_users().await;
    let (mut one, mut two) = (rig.connect().await, rig.connect().await);
    one.send(&connect_as("all", "secret")).await;
    one.send("SUB > 1\r\n").await;
    one.sync().await;
    two.send(&connect_as("other", "secret")).await;
    two.send("SUB a 5\r\nPUB a 1\r\nx\r\n").await;
    two.expect("MSG a 5 1\r\nx\r\n").await;
    one.sync().await;
}

#[tokio::test]
async fn a_client_that_goes_takes_its_subscriptions_along() {
    let rig = Rig::new();
    let hub = rig.server.hub("public");
    let mut peer = rig.client().await;
    peer.send("SUB a 1\r\nSUB b.> q 2\r\n").await;
    peer.sync().await;
    assert_eq!(hub.len(), 2);
    peer.stream.shutdown().await.unwrap();
    assert_eq!(peer.rest().await, "");
    assert_eq!(hub.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_answer_is_told_and_closed() {
    let rig = Rig::with(Options { ping_interval_ms: 1_000, ..Options::default() });
    let mut peer = rig.client().await;
    assert_eq!(peer.rest().await, "PING\r\nPING\r\n-ERR 'Stale Connection'\r\n");
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let rig = Rig::new();
    let mut peer = rig.client().await;
    rig.stop.send_replace(true);
    assert!(peer.rest().await.contains("\"ldm\":true"));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stops_lets_its_clients_go_one_after_another() {
    let rig = Rig::with(Options { lame_duck_ms: 60_000, ..Options::default() });
    let mut all = Vec::new();
    for _ in 0..8 {
        let mut peer = rig.client().await;
        peer.send("SUB a 1\r\n").await;
        peer.sync().await;
        all.push(peer);
    }
    rig.stop.send_replace(true);
    let began = tokio::time::Instant::now();
    let mut ends = Vec::new();
    for peer in &mut all {
        assert!(peer.line().await.contains("\"ldm\":true"));
    }
    for mut peer in all {
        ends.push(tokio::spawn(async move {
            while tokio::io::AsyncReadExt::read_u8(&mut peer.stream).await.is_ok() {}
            began.elapsed()
        }));
    }
    let mut took = Vec::new();
    for end in ends {
        took.push(end.await.unwrap());
    }
    took.sort_unstable();
    assert!(took.last().unwrap() < &Duration::from_secs(61), "{took:?}");
    assert!(took[7] - took[0] > Duration::from_millis(100), "{took:?}");
}

#[tokio::test]
async fn nobody_has_answers_sent_where_acknowledgements_go() {
    let rig = Rig::new();
    let mut peer = rig.client().await;
    peer.send("PUB a $JS.ACK.S.c.1.1.1.1.0 1\r\nx\r\nPUB a _R_.x 1\r\nx\r\n").await;
    peer.expect("-ERR 'Permissions Violation for Publish with Reply of \"$JS.ACK.S.c.1.1.1.1.0\"'\r\n").await;
    peer.expect("-ERR 'Permissions Violation for Publish with Reply of \"_R_.x\"'\r\n").await;
    peer.sync().await;
}

#[tokio::test]
async fn a_subscriber_that_stops_reading_costs_its_own_connection() {
    let rig = Rig::with(Options { pending_len_max: 1 << 16, ..Options::default() });
    let (mut slow, mut quick, mut publisher) = (rig.client().await, rig.client().await, rig.client().await);
    for peer in [&mut slow, &mut quick] {
        peer.send("SUB a 1\r\n").await;
        peer.sync().await;
    }
    let body = "z".repeat(8_000);
    let sent = format!("PUB a 8000\r\n{body}\r\n");
    let received = format!("MSG a 1 8000\r\n{body}\r\n");
    for _ in 0..300 {
        publisher.send(&sent).await;
        quick.expect(&received).await;
    }
    publisher.sync().await;
    let got = slow.rest().await;
    assert!(got.len() < 300 * received.len(), "{} bytes", got.len());
}
