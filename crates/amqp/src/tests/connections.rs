use broker::{Action, Credentials, Permission, UserSpec};

use super::*;

#[tokio::test]
async fn the_first_frame_says_what_clients_look_for() {
    let rig = Rig::new();
    let mut peer = rig.raw();
    peer.send_bytes(b"AMQP\x00\x00\x09\x01").await;
    let (_, channel, payload) = peer.frame().await.unwrap();
    assert_eq!(channel, 0);
    let Method::ConnectionStart { version_major, version_minor, server_properties, mechanisms, locales } =
        Method::read(&payload).unwrap()
    else {
        panic!("no start")
    };
    assert_eq!((version_major, version_minor, locales), (0, 9, &b"en_US"[..]));
    assert_eq!(mechanisms, b"AMQPLAIN PLAIN");
    assert_eq!(server_properties.get("product"), Some(Value::Text(b"RabbitMQ")));
    let Some(Value::Text(version)) = server_properties.get("version") else { panic!("no version") };
    assert!(version.starts_with(b"4."));
    let Some(Value::Table(capabilities)) = server_properties.get("capabilities") else { panic!("none") };
    for name in ["publisher_confirms", "basic.nack", "consumer_cancel_notify", "per_consumer_qos"] {
        assert_eq!(capabilities.get(name), Some(Value::Bool(true)), "{name}");
    }
}

#[tokio::test]
async fn another_protocol_is_answered_with_a_header_and_closed() {
    let rig = Rig::new();
    for first in [&b"GET / HTTP/1.1\r\n"[..], b"AMQP\x00\x00\x09\x00", b"AMQP\x03\x01\x00\x00"] {
        let mut peer = rig.raw();
        peer.send_bytes(first).await;
        let mut all = Vec::new();
        timeout(PATIENCE, peer.stream.read_to_end(&mut all)).await.unwrap().unwrap();
        assert_eq!(all, b"AMQP\x00\x00\x09\x01", "{first:?}");
    }
}

#[tokio::test]
async fn while_no_user_exists_anybody_may_come_in_and_then_only_users() {
    let rig = Rig::new();
    rig.connect().await;
    let password = Credentials::Password("secret".into());
    let spec = UserSpec { credentials: vec![password], ..UserSpec::default() };
    rig.server.broker.users().put("ann", spec).await.unwrap();
    let refused = "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile.";
    for (response, is_let_in) in [(&b"\0ann\0secret"[..], true), (b"\0guest\0guest", false), (b"x", false)] {
        let mut peer = rig.raw();
        start(&mut peer, "PLAIN", response).await;
        if is_let_in {
            peer.expect("ConnectionTune ").await;
        } else {
            peer.expect_close(403, refused).await;
        }
    }
}

/// Asks to be let in, and to be told if not.
async fn start(peer: &mut Peer, mechanism: &str, response: &[u8]) {
    let capabilities = fields(&[("authentication_failure_close", Value::Bool(true))]);
    let properties = fields(&[("capabilities", Value::Table(table_of(&capabilities)))]);
    peer.start(table_of(&properties), mechanism, response).await;
}

#[tokio::test]
async fn a_virtual_host_that_is_not_there_is_refused() {
    let rig = Rig::with(Options { vhosts: vec!["known".into()], ..Options::default() });
    let mut peer = rig.raw();
    peer.shake_hands("PLAIN", b"\0guest\0guest", "nope").await;
    peer.expect_close(530, "NOT_ALLOWED - vhost nope not found").await;
    let mut peer = rig.raw();
    peer.shake_hands("PLAIN", b"\0guest\0guest", "known").await;
    peer.expect("ConnectionOpenOk").await;
    peer.open(1).await;
    peer.declare("only here").await;
    assert!(rig.connect().await.get_missing("only here").await);
}

impl Peer {
    async fn get_missing(&mut self, queue: &str) -> bool {
        self.send(1, Method::BasicGet { ticket: 0, queue, no_ack: false }).await;
        self.method().await.contains("NOT_FOUND")
    }
}

#[tokio::test]
async fn methods_out_of_place_end_the_connection() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.send(7, Method::BasicQos { prefetch_size: 0, prefetch_count: 1, global: false }).await;
    peer.expect_close(504, "CHANNEL_ERROR - expected 'channel.open'").await;
    let mut peer = rig.connect().await;
    peer.send(1, Method::ChannelOpen { out_of_band: "" }).await;
    peer.expect_close(504, "CHANNEL_ERROR - second 'channel.open' seen").await;
    let mut peer = rig.connect().await;
    peer.send(1, Method::ChannelFlow { active: false }).await;
    peer.expect_close(540, "NOT_IMPLEMENTED - active=false").await;
    let mut peer = rig.connect().await;
    peer.send_bytes(&[1, 0, 1, 0, 0, 0, 4, 0, 99, 0, 1, 0xce]).await;
    peer.expect_close(503, "COMMAND_INVALID - unknown method {99,1}").await;
    let mut peer = rig.connect().await;
    peer.send_bytes(&[3, 0, 1, 0, 0, 0, 1, b'x', 0xce]).await;
    peer.expect_close(505, "UNEXPECTED_FRAME - expected method frame, got non method frame instead").await;
    let mut peer = rig.connect().await;
    peer.send_bytes(&[9, 0, 1, 0, 0, 0, 0, 0xce]).await;
    peer.expect_close(501, "FRAME_ERROR - type 9, all octets = <<>>: unknown_frame").await;
    let mut peer = rig.connect().await;
    peer.send_bytes(&[8, 0, 0, 0, 0, 0, 1, 7, 0xce]).await;
    peer.expect_close(501, "FRAME_ERROR - type 8, all octets = <<7>>: unknown_frame").await;
}

#[tokio::test]
async fn a_closed_channel_ignores_everything_and_can_be_opened_again() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.ask_declare("nope", Flags { passive: true, ..Flags::default() }, &[]).await;
    peer.ask_declare("also nope", Flags { passive: true, ..Flags::default() }, &[]).await;
    peer.expect_close(404, "NOT_FOUND - no queue 'nope' in vhost '/'").await;
    peer.declare("q").await;
    peer.send(1, Method::ChannelClose { code: 200, text: "", class: 0, method: 0 }).await;
    peer.expect("ChannelCloseOk").await;
    peer.send(0, Method::ConnectionClose { code: 200, text: "", class: 0, method: 0 }).await;
    peer.expect("ConnectionCloseOk").await;
    peer.expect_end().await;
}

#[tokio::test]
async fn who_closes_as_the_server_does_is_answered_too() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.send(7, Method::BasicQos { prefetch_size: 0, prefetch_count: 1, global: false }).await;
    peer.send(0, Method::ConnectionClose { code: 200, text: "", class: 0, method: 0 }).await;
    peer.expect("ConnectionClose { code: 504").await;
    peer.expect("ConnectionCloseOk").await;
    peer.send(0, Method::ConnectionCloseOk {}).await;
    peer.expect_end().await;
}

#[tokio::test]
async fn a_stop_of_the_process_is_said_to_clients() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    rig.stop.send(true).unwrap();
    let words = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'";
    peer.expect_close(320, words).await;
}

#[tokio::test]
async fn heartbeats_go_out_and_a_silent_client_is_dropped() {
    let rig = Rig::new();
    let mut peer = rig.raw();
    peer.start_plain().await;
    peer.enter(4_096, 1).await;
    let mut rest = Vec::new();
    timeout(PATIENCE, peer.stream.read_to_end(&mut rest)).await.unwrap().unwrap();
    let beats = rest.len() / crate::codec::HEARTBEAT.len();
    assert!((2..=5).contains(&beats), "{beats} heartbeats");
    assert_eq!(rest, crate::codec::HEARTBEAT.repeat(beats));
}

#[tokio::test]
async fn any_split_of_a_conversation_is_the_same_conversation() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    let mut out = Vec::new();
    let publish = Method::BasicPublish {
        ticket: 0,
        exchange: "",
        routing_key: crate::codec::Key(b"q"),
        mandatory: false,
        immediate: false,
    };
    put_method(&mut out, 1, publish);
    put_content(&mut out, 1, &[0, 0], 5);
    out.extend_from_slice(&[3, 0, 1, 0, 0, 0, 5, b'h', b'e', b'l', b'l', b'o', 0xce]);
    for byte in out {
        peer.send_bytes(&[byte]).await;
    }
    assert_eq!(peer.get("q").await.unwrap().text(), "hello");
}

#[tokio::test]
async fn a_client_with_a_certificate_logs_in_by_its_name() {
    const REFUSED: &str = "ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL. For details see the broker logfile.";
    let rig = Rig::new();
    let mut peer = rig.raw();
    start(&mut peer, "EXTERNAL", b"").await;
    peer.expect_close(403, REFUSED).await;
    let spec =
        UserSpec { permissions: Some(vec![Permission::allow(Action::Read, "*")]), ..UserSpec::default() };
    rig.server.broker.users().put("worker", spec).await.unwrap();
    let mut peer = rig.raw_as(Some("worker"));
    peer.shake_hands("EXTERNAL", b"", "/").await;
    peer.expect("ConnectionOpenOk").await;
    peer.open(1).await;
    peer.ask_declare("q", Flags::default(), &[]).await;
    let text = "ACCESS_REFUSED - configure access to queue 'q' in vhost '/' refused for user 'worker'";
    peer.expect_close(403, text).await;
    let mut peer = rig.raw_as(Some("nobody"));
    start(&mut peer, "EXTERNAL", b"").await;
    peer.expect_close(403, REFUSED).await;
}
