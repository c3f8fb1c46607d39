//! What is refused, and in which words: those of the original, in the order in which it looks.

use broker::{Action, Credentials, Permission, UserSpec};

use super::*;
use crate::codec::Key;

/// The frame of a method, by its numbers and arguments.
fn method(channel: u8, class: u8, index: u8, arguments: &[u8]) -> Vec<u8> {
    let len = arguments.len() as u8 + 4;
    [&[1, 0, channel, 0, 0, 0, len, 0, class, 0, index][..], arguments, &[0xce]].concat()
}

fn publish(channel: u8) -> Vec<u8> {
    method(channel, 60, 40, &[0, 0, 0, 1, b'q', 0])
}

fn header(channel: u8, weight: u8, len: u8) -> Vec<u8> {
    [&[2, 0, channel, 0, 0, 0, 14, 0, 60, 0, weight, 0, 0, 0, 0, 0, 0, 0, len][..], &[0, 0, 0xce]].concat()
}

fn body(channel: u8, text: &[u8]) -> Vec<u8> {
    [&[3, 0, channel, 0, 0, 0, text.len() as u8][..], text, &[0xce]].concat()
}

#[tokio::test]
async fn frames_out_of_place_end_the_connection_in_the_originals_words() {
    let no_header =
        "UNEXPECTED_FRAME - expected content header for class 60, got non content header frame instead";
    let no_body = "UNEXPECTED_FRAME - expected content body, got non content body frame instead";
    let no_method = "UNEXPECTED_FRAME - expected method frame, got non method frame instead";
    let running = "CHANNEL_ERROR - unexpected method in connection state running";
    let rig = Rig::new();
    for (frames, code, text) in [
        (vec![publish(1), header(1, 1, 1)], 505, no_header),
        (vec![publish(1), header(1, 0, 2), publish(1)], 505, no_body),
        (vec![publish(1), header(1, 0, 2), header(1, 0, 2)], 505, no_body),
        (
            vec![publish(1), header(1, 0, 2), body(1, b"abc")],
            501,
            "FRAME_ERROR - content body frame exceeds remaining content size",
        ),
        (vec![body(9, b"x")], 505, no_method),
        (vec![body(0, b"x")], 505, "UNEXPECTED_FRAME - type 3, all octets = <<\"x\">>"),
        (vec![vec![8, 0, 1, 0, 0, 0, 0, 0xce]], 505, "UNEXPECTED_FRAME - type 8, all octets = <<>>"),
        (vec![method(0, 20, 10, &[0])], 504, running),
        (vec![method(1, 60, 71, &[0; 15])], 503, "COMMAND_INVALID - unimplemented method"),
        (vec![method(1, 20, 21, &[1])], 503, "COMMAND_INVALID - unimplemented method"),
        (vec![method(1, 50, 10, &[0, 0, 255, 120])], 501, "FRAME_ERROR - cannot decode <<0,0,255,120>>"),
        (vec![method(1, 60, 30, &[1, 0xff, 0])], 501, "FRAME_ERROR - Malformed UTF-8 in shortstr"),
        (
            vec![vec![1, 0, 1, 0, 0, 0, 2, 0, 60, 0xce]],
            501,
            "FRAME_ERROR - type 1, all octets = <<0,60>>: unknown_frame",
        ),
    ] {
        let mut peer = rig.connect().await;
        peer.declare("q").await;
        peer.send_bytes(&frames.concat()).await;
        peer.expect_close(code, text).await;
    }
    let mut peer = rig.raw();
    peer.send_bytes(b"AMQP\x00\x00\x09\x01").await;
    peer.expect("ConnectionStart ").await;
    peer.send(0, Method::ConnectionOpen { virtual_host: "/", capabilities: "", insist: false }).await;
    peer.expect_close(504, "CHANNEL_ERROR - unexpected method in connection state starting").await;
}

#[tokio::test]
async fn what_was_under_way_on_a_connection_that_broke_is_told_by_its_methods_numbers() {
    let rig = Rig::new();
    for (frames, numbers) in [
        (vec![publish(1), header(1, 0, 2), body(1, b"abc")], (60, 40)),
        (vec![method(1, 50, 10, &[0, 0, 255])], (50, 10)),
        (vec![body(1, b"x")], (0, 0)),
        (vec![body(9, b"x")], (0, 0)),
    ] {
        let mut peer = rig.connect().await;
        peer.send_bytes(&frames.concat()).await;
        let close = peer.expect("ConnectionClose ").await;
        let numbers = format!("class: {}, method: {} }}", numbers.0, numbers.1);
        assert!(close.ends_with(&numbers), "{close}");
    }
}

#[tokio::test]
async fn exchanges_are_refused_in_the_originals_words() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let default = "ACCESS_REFUSED - operation not permitted on the default exchange";
    peer.ask_exchange("", "direct", &[]).await;
    peer.expect_close(403, default).await;
    peer.ask_exchange("", "zzz", &[]).await;
    peer.expect_close(406, "PRECONDITION_FAILED - unknown exchange type 'zzz'").await;
    peer.passive_exchange("").await;
    peer.expect_close(403, default).await;
    peer.passive_exchange("nope").await;
    peer.expect_close(404, "NOT_FOUND - no exchange 'nope' in vhost '/'").await;
    peer.ask_exchange("e", "direct", &[("alternate-exchange", Value::I32(1))]).await;
    let text = "PRECONDITION_FAILED - invalid type 'signedint' for arg 'alternate-exchange' in exchange 'e' in vhost '/'";
    peer.expect_close(406, text).await;
    peer.exchange("e", "direct", &[("alternate-exchange", Value::Text(b"a"))]).await;
    peer.ask_exchange("e", "direct", &[("alternate-exchange", Value::Text(b"b"))]).await;
    let text = "PRECONDITION_FAILED - inequivalent arg 'alternate-exchange' for exchange 'e' in vhost '/': received 'b' but current is 'a'";
    peer.expect_close(406, text).await;
    peer.send(
        1,
        Method::ExchangeDelete { ticket: 0, exchange: "amq.topic", if_unused: false, nowait: false },
    )
    .await;
    peer.expect_close(
        403,
        "ACCESS_REFUSED - deletion of system exchange 'amq.topic' in vhost '/' not allowed",
    )
    .await;
}

impl Peer {
    pub(super) async fn passive_exchange(&mut self, exchange: &str) {
        let declare = Method::ExchangeDeclare {
            ticket: 0,
            exchange,
            kind: "",
            passive: true,
            durable: false,
            auto_delete: false,
            internal: false,
            nowait: false,
            arguments: Table::default(),
        };
        self.send(1, declare).await;
    }

    async fn ask_bind(&mut self, queue: &str, exchange: &str, arguments: &[(&str, Value<'_>)]) {
        let fields = fields(arguments);
        let bind = Method::QueueBind {
            ticket: 0,
            queue,
            exchange,
            routing_key: Key(b"k"),
            nowait: false,
            arguments: table_of(&fields),
        };
        self.send(1, bind).await;
    }

    async fn unbind(&mut self, queue: &str, exchange: &str, arguments: &[(&str, Value<'_>)]) {
        let fields = fields(arguments);
        let unbind = Method::QueueUnbind {
            ticket: 0,
            queue,
            exchange,
            routing_key: Key(b"k"),
            arguments: table_of(&fields),
        };
        self.send(1, unbind).await;
    }
}

#[tokio::test]
async fn queues_are_refused_in_the_originals_words() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let quorum = ("x-queue-type", Value::Text(b"quorum"));
    let passive = Flags { passive: true, ..Flags::default() };
    let (exclusive, auto_delete) =
        (Flags { exclusive: true, ..Flags::default() }, Flags { auto_delete: true, ..Flags::default() });
    let transient = Flags { transient: true, ..Flags::default() };
    let property =
        |name: &str| format!("PRECONDITION_FAILED - invalid property '{name}' for queue 'q' in vhost '/'");
    let unnamed = "PRECONDITION_FAILED - Cannot declare a server-named queue for type rabbit_quorum_queue";
    let reserved = "ACCESS_REFUSED - queue name 'amq.gen-x' contains reserved prefix 'amq.*'";
    for (name, flags, arguments, code, text) in [
        ("", passive, vec![], 404, "NOT_FOUND - no queue '' in vhost '/'"),
        ("", Flags::default(), vec![quorum], 406, unnamed),
        ("amq.gen-x", Flags::default(), vec![], 403, reserved),
        ("q", exclusive, vec![quorum], 406, &property("exclusive-owner")),
        ("q", auto_delete, vec![quorum], 406, &property("auto-delete")),
        ("q", transient, vec![quorum], 406, &property("non-durable")),
        (
            "amq.rabbitmq.reply-to.x",
            passive,
            vec![],
            404,
            "NOT_FOUND - no queue 'amq.rabbitmq.reply-to.x' in vhost '/'",
        ),
    ] {
        peer.ask_declare(name, flags, &arguments).await;
        peer.expect_close(code, text).await;
    }
    let given = peer.declare_with("", exclusive, &[]).await;
    let given = given.split('"').nth(1).unwrap().to_owned();
    peer.ask_declare(&given, exclusive, &[]).await;
    peer.expect_close(
        403,
        &format!("ACCESS_REFUSED - queue name '{given}' contains reserved prefix 'amq.*'"),
    )
    .await;
    // Durable or not makes no difference for what one connection has alone.
    peer.declare_with("mine", exclusive, &[]).await;
    peer.declare_with("mine", Flags { transient: true, ..exclusive }, &[]).await;
    assert!(peer.declare_with("amq.rabbitmq.reply-to", passive, &[]).await.contains("consumer_count: 1"));
}

#[tokio::test]
async fn bindings_are_refused_in_the_originals_words_and_are_the_same_in_any_order_of_arguments() {
    let rig = Rig::new();
    let (mut peer, mut other) = (rig.connect().await, rig.connect().await);
    peer.declare("q").await;
    other.declare_with("theirs", Flags { exclusive: true, ..Flags::default() }, &[]).await;
    let locked = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'theirs' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.";
    let volatile = "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue";
    for (queue, exchange, code, text) in [
        ("nope", "nowhere", 404, "NOT_FOUND - no exchange 'nowhere' in vhost '/'"),
        ("nope", "amq.direct", 404, "NOT_FOUND - no queue 'nope' in vhost '/'"),
        ("q", "", 403, "ACCESS_REFUSED - operation not permitted on the default exchange"),
        ("theirs", "amq.direct", 405, locked),
        ("amq.rabbitmq.reply-to.x", "amq.direct", 403, volatile),
        ("", "amq.direct", 404, "NOT_FOUND - no previously declared queue"),
    ] {
        peer.ask_bind(queue, exchange, &[]).await;
        peer.expect_close(code, text).await;
    }
    peer.ask_bind("q", "amq.headers", &[("x-match", Value::I32(7))]).await;
    let text = "PRECONDITION_FAILED - Invalid x-match field type signedint (value 7); expected longstr";
    peer.expect_close(406, text).await;
    // What is not there is unbound all the same.
    for (queue, exchange) in
        [("nope", "nowhere"), ("nope", "amq.direct"), ("q", "nowhere"), ("theirs", "amq.direct")]
    {
        peer.unbind(queue, exchange, &[]).await;
        peer.expect("QueueUnbindOk").await;
    }
    other.bind("theirs", "amq.direct", "k", &[]).await;
    peer.unbind("theirs", "amq.direct", &[]).await;
    peer.expect_close(405, locked).await;
    let (a, b, any) = (("a", Value::I32(1)), ("b", Value::Bool(true)), ("x-match", Value::Text(b"any")));
    peer.bind("q", "amq.headers", "k", &[any, a, b]).await;
    peer.bind("q", "amq.headers", "k", &[b, any, a]).await;
    let headers = fields(&[a]);
    peer.publish_on(1, ("amq.headers", ""), with_table(table_of(&headers)), b"x").await;
    assert_eq!(peer.counts("q").await.0, 1);
    peer.unbind("q", "amq.headers", &[a, b, any]).await;
    peer.expect("QueueUnbindOk").await;
    peer.publish_on(1, ("amq.headers", ""), with_table(table_of(&headers)), b"x").await;
    assert!(peer.message().await.method.starts_with("BasicReturn"), "it was the only binding");
}

#[tokio::test]
async fn consumers_are_refused_in_the_originals_words() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    let of_stream = "PRECONDITION_FAILED - invalid arg 'x-stream-offset' for queue 'q' in vhost '/' of queue type rabbit_classic_queue";
    let mistyped = "PRECONDITION_FAILED - invalid arg 'x-priority' for queue 'q' in vhost '/': \"expected integer, got longstr\"";
    for (argument, text) in [
        (("x-stream-offset", Value::Text(b"first")), of_stream),
        (("x-priority", Value::Text(b"1")), mistyped),
    ] {
        peer.consume_on(1, "q", "t", false, false, &[argument]).await;
        peer.expect_close(406, text).await;
    }
    peer.consume("amq.rabbitmq.reply-to", "r", true).await;
    peer.consume_on(1, "amq.rabbitmq.reply-to", "s", true, false, &[]).await;
    peer.expect_close(406, "PRECONDITION_FAILED - reply consumer already set").await;
    peer.consume("q", "t", false).await;
    peer.consume_on(1, "amq.rabbitmq.reply-to", "t", true, false, &[]).await;
    peer.expect_close(530, "NOT_ALLOWED - attempt to reuse consumer tag 't'").await;
}

#[tokio::test]
async fn a_message_is_refused_for_the_first_thing_that_is_wrong_with_it() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    let wrong_cc = fields(&[("CC", Value::Text(b"q"))]);
    let asks = Properties { reply_to: Some(b"amq.rabbitmq.reply-to"), ..persistent() };
    let expires = Properties { expiration: Some(b"soon"), ..with_table(table_of(&wrong_cc)) };
    let copied = Properties { user_id: Some(b"bob"), ..with_table(table_of(&wrong_cc)) };
    for (exchange, properties, code, text) in [
        ("nope", asks, 404, "NOT_FOUND - no exchange 'nope' in vhost '/'"),
        (
            "amq.rabbitmq.trace",
            expires,
            403,
            "ACCESS_REFUSED - cannot publish to internal exchange 'amq.rabbitmq.trace' in vhost '/'",
        ),
        (
            "",
            Properties { reply_to: asks.reply_to, ..expires },
            406,
            "PRECONDITION_FAILED - fast reply consumer does not exist",
        ),
        ("", expires, 406, "PRECONDITION_FAILED - invalid expiration 'soon': no_integer"),
        (
            "",
            copied,
            406,
            "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}",
        ),
    ] {
        peer.publish_on(1, (exchange, "q"), properties, b"x").await;
        peer.expect_close(code, text).await;
    }
    // Keys that are no text do not count, and a message that comes back does not show its hidden ones.
    let (mut array, mut hidden) = (TableWriter::default(), TableWriter::default());
    array.array("CC", [Value::I32(7), Value::Text(b"q")].into_iter());
    hidden.array("BCC", [Value::Text(b"secret")].into_iter());
    let (array, hidden) = (array.finish(), hidden.finish());
    peer.publish_on(1, ("", "nobody"), with_table(table_of(&array)), b"copied").await;
    assert_eq!(peer.counts("q").await.0, 1);
    peer.publish_on(1, ("", "nobody"), with_table(table_of(&hidden)), b"back").await;
    let back = peer.message().await;
    assert!(back.method.starts_with("BasicReturn") && back.header("BCC").is_none(), "{back:?}");
}

#[tokio::test]
async fn a_transaction_of_which_a_queue_refuses_some_ends_its_channel() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let full = [("x-max-length", Value::I32(1)), ("x-overflow", Value::Text(b"reject-publish"))];
    peer.declare_with("full", Flags::default(), &full).await;
    peer.send(1, Method::TxSelect {}).await;
    peer.expect("TxSelectOk").await;
    for (count, is_taken) in [(1, true), (1, false)] {
        for _ in 0..count {
            peer.publish(("", "full"), "x").await;
        }
        peer.send(1, Method::TxCommit {}).await;
        if is_taken {
            peer.expect("TxCommitOk").await;
        } else {
            peer.expect_close(406, "PRECONDITION_FAILED - partial tx completion").await;
        }
    }
    assert_eq!(peer.counts("full").await.0, 1);
}

#[tokio::test]
async fn a_limit_of_single_consumers_takes_that_of_the_channel_away() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    peer.qos(1, true).await;
    peer.consume("q", "t", false).await;
    for body in ["a", "b", "c"] {
        peer.publish(("", "q"), body).await;
    }
    assert_eq!(peer.message().await.text(), "a");
    peer.expect_nothing().await;
    peer.send(1, Method::BasicQos { prefetch_size: 0, prefetch_count: 1, global: false }).await;
    peer.expect("BasicQosOk").await;
    assert_eq!(bodies(&peer.messages(2).await), ["b", "c"]);
}

/// A user with these rights, and a connection of theirs.
async fn user(rig: &Rig, rights: &[(Action, &str)]) -> Peer {
    allow(rig, rights).await;
    let mut peer = rig.raw();
    peer.shake_hands("PLAIN", b"\0ann\0secret", "/").await;
    peer.expect("ConnectionOpenOk").await;
    peer.open(1).await;
    peer
}

async fn allow(rig: &Rig, rights: &[(Action, &str)]) {
    let permissions = rights.iter().map(|(action, pattern)| Permission::allow(*action, pattern)).collect();
    let credentials = vec![Credentials::Password("secret".into())];
    let spec = UserSpec { permissions: Some(permissions), credentials, ..UserSpec::default() };
    rig.server.broker.users().put("ann", spec).await.unwrap();
}

#[tokio::test]
async fn whoever_may_do_anything_with_it_may_ask_whether_it_is_there_and_leads_only_where_they_may() {
    let rig = Rig::new();
    let mut maker = rig.connect().await;
    for queue in ["r", "w", "n"] {
        maker.declare(queue).await;
    }
    let everywhere =
        [(Action::Configure, "own*"), (Action::Read, "r"), (Action::Write, "w"), (Action::Read, "own*")];
    let mut peer = user(&rig, &everywhere).await;
    for queue in ["r", "w"] {
        assert_eq!(peer.counts(queue).await, (0, 0));
    }
    peer.ask_declare("n", Flags { passive: true, ..Flags::default() }, &[]).await;
    let refused = |verb: &str, what: &str, name: &str| {
        format!("ACCESS_REFUSED - {verb} access to {what} '{name}' in vhost '/' refused for user 'ann'")
    };
    peer.expect_close(403, &refused("configure", "queue", "n")).await;
    peer.passive_exchange("nope").await;
    peer.expect_close(403, &refused("configure", "exchange", "nope")).await;
    let to = |name: &'static [u8]| [("x-dead-letter-exchange", Value::Text(name))];
    peer.ask_declare("own.q", Flags::default(), &to(b"dlx")).await;
    peer.expect_close(403, &refused("write", "exchange", "dlx")).await;
    peer.declare_with("own.q", Flags::default(), &to(b"w")).await;
    let to = |name: &'static [u8]| [("alternate-exchange", Value::Text(name))];
    peer.ask_exchange("own.e", "direct", &to(b"ae")).await;
    peer.expect_close(403, &refused("write", "exchange", "ae")).await;
    peer.exchange("own.e", "direct", &to(b"w")).await;
}

#[tokio::test]
async fn a_new_secret_has_rights_looked_up_anew_and_ends_consumers_that_have_none() {
    let rig = Rig::new();
    let mut maker = rig.connect().await;
    for queue in ["a", "b"] {
        maker.declare(queue).await;
    }
    let mut peer = user(&rig, &[(Action::Read, "a"), (Action::Read, "b")]).await;
    for (queue, tag) in [("a", "ta"), ("b", "tb")] {
        peer.consume(queue, tag, false).await;
    }
    let update = Method::ConnectionUpdateSecret { secret: b"new", reason: "expired" };
    peer.send(0, update).await;
    peer.expect("ConnectionUpdateSecretOk").await;
    allow(&rig, &[(Action::Read, "b")]).await;
    peer.send(0, update).await;
    assert_eq!(peer.method().await, "BasicCancel { consumer_tag: \"ta\", nowait: true }");
    peer.expect("ConnectionUpdateSecretOk").await;
    let mut other = rig.raw();
    other.shake_hands("PLAIN", b"\0ann\0secret", "/").await;
    other.expect("ConnectionOpenOk").await;
    rig.server.broker.users().delete("ann").await.unwrap();
    peer.expect_close(320, "CONNECTION_FORCED - user 'ann' is deleted").await;
}
