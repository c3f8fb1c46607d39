//! The errors that clients match, by row of the table of the original's: what is asked, what ends, in which words. Those of
//! declarations, bindings and messages are in `words`.

use broker::{Action, Credentials, Permission, UserSpec};

use super::*;
use crate::codec::Key;

const QUORUM: (&str, Value<'static>) = ("x-queue-type", Value::Text(b"quorum"));
const SINGLE: (&str, Value<'static>) = ("x-single-active-consumer", Value::Bool(true));

/// Something is asked on channel 1 that is refused; whether that ends the connection.
async fn refused(rig: &Rig, method: Method<'_>, (code, text): (u16, &str)) {
    let mut peer = rig.connect().await;
    let name = format!("{method:?}");
    peer.send(1, method).await;
    let close = peer.method().await;
    assert!(close.contains(&format!("code: {code}, text: {text:?}")), "{name}: {close}");
    let is_connection = matches!(code, 320 | 402 | 501..=506 | 530 | 540 | 541);
    let expected = if is_connection { "ConnectionClose " } else { "ChannelClose " };
    assert!(close.starts_with(expected), "{name}: {close}");
}

fn publish<'a>(exchange: &'a str, key: &'a str, immediate: bool) -> Method<'a> {
    let routing_key = Key(key.as_bytes());
    Method::BasicPublish { ticket: 0, exchange, routing_key, mandatory: false, immediate }
}

fn consume<'a>(queue: &'a str, tag: &'a str, exclusive: bool) -> Method<'a> {
    Method::BasicConsume {
        ticket: 0,
        queue,
        consumer_tag: tag,
        no_local: false,
        no_ack: false,
        exclusive,
        nowait: false,
        arguments: Table::default(),
    }
}

#[tokio::test]
async fn what_the_channel_cannot_do_is_refused_by_row() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("sacq", Flags::default(), &[QUORUM, SINGLE]).await;
    peer.declare_with("single", Flags::default(), &[SINGLE]).await;
    peer.declare("q").await;
    peer.consume("q", "t", false).await;
    let get = |queue| Method::BasicGet { ticket: 0, queue, no_ack: false };
    let locked = "RESOURCE_LOCKED - cannot obtain access to locked queue 'sacq' in vhost '/'. basic.get operations are not supported by <<\"quorum\">> queues with single active consumer";
    let delete = |if_unused, if_empty| Method::QueueDelete {
        ticket: 0,
        queue: "q",
        if_unused,
        if_empty,
        nowait: false,
    };
    let purge = Method::QueuePurge { ticket: 0, queue: "nope", nowait: false };
    let qos = Method::BasicQos { prefetch_size: 10, prefetch_count: 0, global: false };
    let in_use = |queue: &str| format!("ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use");
    let no_queue = "NOT_FOUND - no queue 'nope' in vhost '/'";
    for (method, code, text) in [
        (get("nope"), 404, no_queue),
        (get("sacq"), 405, locked),
        (consume("nope", "x", false), 404, no_queue),
        (consume("q", "x", true), 403, &in_use("q")),
        (consume("single", "x", true), 403, &in_use("single")),
        (consume("sacq", "x", true), 403, &in_use("sacq")),
        (purge, 404, no_queue),
        (delete(true, false), 406, "PRECONDITION_FAILED - queue 'q' in vhost '/' in use"),
        (qos, 540, "NOT_IMPLEMENTED - prefetch_size!=0 (10)"),
        (Method::BasicRecover { requeue: false }, 540, "NOT_IMPLEMENTED - requeue=false"),
        (Method::BasicRecoverAsync { requeue: false }, 540, "NOT_IMPLEMENTED - requeue=false"),
        (publish("", "q", true), 540, "NOT_IMPLEMENTED - immediate=true"),
        (Method::ChannelFlow { active: false }, 540, "NOT_IMPLEMENTED - active=false"),
        (Method::ChannelOpen { out_of_band: "" }, 504, "CHANNEL_ERROR - second 'channel.open' seen"),
        (Method::TxCommit {}, 406, "PRECONDITION_FAILED - channel is not transactional"),
        (Method::TxRollback {}, 406, "PRECONDITION_FAILED - channel is not transactional"),
        (
            Method::BasicAck { delivery_tag: 0, multiple: false },
            406,
            "PRECONDITION_FAILED - unknown delivery tag 0",
        ),
        (
            Method::BasicNack { delivery_tag: 99, multiple: true, requeue: true },
            406,
            "PRECONDITION_FAILED - unknown delivery tag 99",
        ),
        (
            Method::BasicReject { delivery_tag: 1, requeue: false },
            406,
            "PRECONDITION_FAILED - unknown delivery tag 1",
        ),
    ] {
        refused(&rig, method, (code, text)).await;
    }
    // Nothing is out: all of nothing is fine.
    peer.send(1, Method::BasicAck { delivery_tag: 0, multiple: true }).await;
    peer.sync().await;
    // One by one, a classic queue gives to anybody whatever its consumers.
    assert_eq!(peer.get("single").await, None);
    // A tag that is in use is found before the queue that is not there.
    peer.send(1, consume("nope", "t", false)).await;
    peer.expect_close(530, "NOT_ALLOWED - attempt to reuse consumer tag 't'").await;
}

#[tokio::test]
async fn a_message_names_nobody_else_as_its_user() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    let by = |user: &'static [u8]| Properties { user_id: Some(user), ..persistent() };
    peer.publish_on(1, ("", "q"), by(b"guest"), b"x").await;
    assert_eq!(peer.counts("q").await.0, 1);
    peer.publish_on(1, ("", "q"), by(b"bob"), b"x").await;
    let text = "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'guest'";
    peer.expect_close(406, text).await;
    let taken = peer.get("q").await.unwrap();
    assert_eq!(Properties::read(&taken.properties).unwrap().user_id, Some(&b"guest"[..]));
}

#[tokio::test]
async fn declarations_that_differ_name_what_differs() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("d1", Flags::default(), &[("x-max-priority", Value::I32(5))]).await;
    peer.declare_with("mine", Flags { exclusive: true, ..Flags::default() }, &[]).await;
    let differs = |arg: &str, what: &str| {
        format!("PRECONDITION_FAILED - inequivalent arg '{arg}' for queue 'd1' in vhost '/': {what}")
    };
    let of = |flags: Flags, arguments: &[(&'static str, Value<'static>)]| (flags, arguments.to_vec());
    let five = ("x-max-priority", Value::I64(5));
    for ((flags, arguments), text) in [
        (
            of(Flags { transient: true, ..Flags::default() }, &[five]),
            differs("durable", "received 'false' but current is 'true'"),
        ),
        (
            of(Flags { auto_delete: true, ..Flags::default() }, &[five]),
            differs("auto_delete", "received 'true' but current is 'false'"),
        ),
        (
            of(Flags::default(), &[]),
            differs("x-max-priority", "received none but current is the value '5' of type 'signedint'"),
        ),
        (
            of(Flags::default(), &[five, QUORUM]),
            differs("x-queue-type", "received 'quorum' but current is 'classic'"),
        ),
    ] {
        peer.ask_declare("d1", flags, &arguments).await;
        peer.expect_close(406, &text).await;
    }
    peer.declare_with("d1", Flags::default(), &[five]).await;
    let words = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'd1' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.";
    peer.ask_declare("d1", Flags { exclusive: true, ..Flags::default() }, &[five]).await;
    peer.expect_close(405, words).await;
}

#[tokio::test]
async fn what_belongs_to_one_connection_is_locked_for_all_others_whatever_they_ask() {
    let rig = Rig::new();
    let mut owner = rig.connect().await;
    owner.declare_with("mine", Flags { exclusive: true, ..Flags::default() }, &[]).await;
    let words = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.";
    for method in [
        consume("mine", "t", false),
        Method::BasicGet { ticket: 0, queue: "mine", no_ack: true },
        Method::QueuePurge { ticket: 0, queue: "mine", nowait: false },
        Method::QueueDelete { ticket: 0, queue: "mine", if_unused: false, if_empty: false, nowait: false },
    ] {
        refused(&rig, method, (405, words)).await;
    }
    // To publish to it is free to all.
    let mut other = rig.connect().await;
    other.publish(("", "mine"), "x").await;
    other.sync().await;
    assert_eq!(owner.counts("mine").await.0, 1);
}

#[tokio::test]
async fn who_may_not_is_told_what_and_where() {
    let rig = Rig::new();
    let mut maker = rig.connect().await;
    for name in ["q", "e"] {
        maker.declare(name).await;
        maker.exchange(name, "direct", &[]).await;
    }
    let spec = UserSpec {
        permissions: Some(vec![Permission::allow(Action::Read, "none")]),
        credentials: vec![Credentials::Password("secret".into())],
        ..UserSpec::default()
    };
    rig.server.broker.users().put("ann", spec).await.unwrap();
    let refused = |verb: &str, what: &str, name: &str| {
        format!("ACCESS_REFUSED - {verb} access to {what} '{name}' in vhost '/' refused for user 'ann'")
    };
    let get = Method::BasicGet { ticket: 0, queue: "q", no_ack: true };
    let purge = Method::QueuePurge { ticket: 0, queue: "q", nowait: false };
    let delete =
        Method::QueueDelete { ticket: 0, queue: "q", if_unused: false, if_empty: false, nowait: false };
    let gone = Method::ExchangeDelete { ticket: 0, exchange: "e", if_unused: false, nowait: false };
    let bind = Method::QueueBind {
        ticket: 0,
        queue: "q",
        exchange: "e",
        routing_key: Key(b""),
        nowait: false,
        arguments: Table::default(),
    };
    for (method, text) in [
        (get, refused("read", "queue", "q")),
        (consume("q", "t", false), refused("read", "queue", "q")),
        (purge, refused("read", "queue", "q")),
        (delete, refused("configure", "queue", "q")),
        (gone, refused("configure", "exchange", "e")),
        (bind, refused("write", "queue", "q")),
    ] {
        let mut peer = rig.raw();
        peer.shake_hands("PLAIN", b"\0ann\0secret", "/").await;
        peer.expect("ConnectionOpenOk").await;
        peer.open(1).await;
        peer.send(1, method).await;
        peer.expect_close(403, &text).await;
    }
    for (exchange, name) in [("e", "e"), ("", "amq.default")] {
        let mut peer = rig.raw();
        peer.shake_hands("PLAIN", b"\0ann\0secret", "/").await;
        peer.expect("ConnectionOpenOk").await;
        peer.open(1).await;
        peer.publish((exchange, "q"), "x").await;
        peer.expect_close(403, &refused("write", "exchange", name)).await;
    }
}

#[tokio::test]
async fn what_is_negotiated_is_refused_beyond_the_servers_limits() {
    let rig = Rig::new();
    for (channel_max, frame_max, text) in [
        (2_048, 131_072, "negotiated channel_max = 2048 is higher than the maximum allowed value (2047)"),
        (0, 131_072, "negotiated channel_max = 0 (no limit) is higher than the maximum allowed value (2047)"),
        (2_047, 131_073, "negotiated frame_max = 131073 is higher than the maximum allowed value (131072)"),
        (2_047, 4_095, "negotiated frame_max = 4095 is lower than the minimum allowed value (4096)"),
    ] {
        let mut peer = rig.raw();
        peer.start_plain().await;
        peer.send(0, Method::ConnectionTuneOk { channel_max, frame_max, heartbeat: 0 }).await;
        peer.expect_close(530, &format!("NOT_ALLOWED - {text}")).await;
    }
}

#[tokio::test]
async fn a_message_that_goes_nowhere_in_a_transaction_comes_back_with_the_commit_or_not_at_all() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.send(1, Method::TxSelect {}).await;
    peer.expect("TxSelectOk").await;
    peer.publish(("", "nobody"), "forgotten").await;
    peer.send(1, Method::TxRollback {}).await;
    peer.expect("TxRollbackOk").await;
    peer.publish(("", "nobody"), "returned").await;
    peer.sync().await;
    peer.send(1, Method::TxCommit {}).await;
    let returned = peer.message().await;
    assert!(returned.method.starts_with("BasicReturn") && returned.text() == "returned", "{returned:?}");
    peer.expect("TxCommitOk").await;
    peer.send(1, Method::TxCommit {}).await;
    peer.expect("TxCommitOk").await;
}
