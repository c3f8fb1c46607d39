//! Consumers of quorum queues that take too long.

use super::*;

const QUORUM: (&str, Value<'static>) = ("x-queue-type", Value::Text(b"quorum"));

fn timeout_of(ms: i32) -> (&'static str, Value<'static>) {
    ("x-consumer-timeout", Value::I32(ms))
}

/// A connection of a client that understands no cancel from the server, with channel 1 open.
async fn connect_plain(rig: &Rig) -> Peer {
    let mut peer = rig.raw();
    peer.start_plain().await;
    peer.enter(4_096, 0).await;
    peer.open(1).await;
    peer
}

#[tokio::test]
async fn what_is_not_settled_in_time_goes_back_and_its_consumer_is_cancelled() {
    let rig = Rig::new();
    let (mut slow, mut other) = (rig.connect().await, rig.connect().await);
    slow.declare_with("q", Flags::default(), &[QUORUM, timeout_of(60_000)]).await;
    slow.declare("also").await;
    for body in ["a", "b"] {
        slow.publish(("", "q"), body).await;
    }
    slow.qos(1, false).await;
    slow.consume("also", "of another queue", false).await;
    slow.consume("q", "t", false).await;
    let first = slow.message().await;
    assert_eq!(first.text(), "a");
    rig.pass(120_000);
    slow.sync().await;
    assert_eq!(slow.method().await, "BasicCancel { consumer_tag: \"t\", nowait: true }");
    other.consume("q", "t", false).await;
    let again = other.message().await;
    assert_eq!((again.text(), again.redelivered), ("a", true));
    assert_eq!(again.header("x-acquired-count").as_deref(), Some("I64(1)"));
    assert_eq!(again.header("x-delivery-count"), None, "it has not failed");
    // Its word comes too late, and counts for nothing. The channel goes on, and the tag is free.
    slow.ack(first.tag).await;
    slow.sync().await;
    other.ack(again.tag).await;
    let second = other.message().await;
    assert_eq!((second.text(), second.redelivered), ("b", false));
    other.ack(second.tag).await;
    other.sync().await;
    assert_eq!(slow.counts("q").await, (0, 1));
    assert_eq!(slow.counts("also").await, (0, 1));
    slow.consume("q", "t", false).await;
    slow.ack(first.tag).await;
    slow.expect_close(406, "PRECONDITION_FAILED - unknown delivery tag 1").await;
}

#[tokio::test]
async fn what_is_settled_in_time_stays_with_its_consumer() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("q", Flags::default(), &[QUORUM, timeout_of(60_000)]).await;
    peer.qos(1, false).await;
    peer.consume("q", "t", false).await;
    for body in ["a", "b", "c"] {
        peer.publish(("", "q"), body).await;
        let message = peer.message().await;
        assert_eq!((message.text(), message.redelivered), (body, false));
        rig.pass(40_000);
        // It is looked at after the first.
        for _ in 0..2 {
            assert_eq!(peer.counts("q").await, (0, 1));
        }
        peer.ack(message.tag).await;
    }
    peer.expect_nothing().await;
}

#[tokio::test]
async fn a_consumers_own_time_counts_before_the_queues_and_that_before_the_servers() {
    let rig = Rig::with(Options { consumer_timeout: Duration::from_millis(300), ..Options::default() });
    let mut peer = rig.connect().await;
    peer.declare_with("short", Flags::default(), &[QUORUM]).await;
    peer.declare_with("long", Flags::default(), &[QUORUM, timeout_of(60_000)]).await;
    peer.declare("classic").await;
    for queue in ["short", "long", "classic"] {
        peer.publish(("", queue), queue).await;
    }
    for (queue, tag, arguments) in [
        ("long", "by the queue", &[][..]),
        ("classic", "of a classic queue", &[]),
        ("short", "by itself", &[timeout_of(60_000)]),
    ] {
        peer.consume_on(1, queue, tag, false, false, arguments).await;
        peer.expect("BasicConsumeOk").await;
        peer.message().await;
    }
    tokio::time::sleep(Duration::from_millis(700)).await;
    peer.expect_nothing().await;
    for (queue, tag, arguments) in
        [("plain", "by the server", &[][..]), ("none", "at once", &[timeout_of(0)])]
    {
        peer.declare_with(queue, Flags::default(), &[QUORUM]).await;
        peer.publish(("", queue), queue).await;
        peer.consume_on(1, queue, tag, false, false, arguments).await;
        peer.expect("BasicConsumeOk").await;
        assert_eq!(peer.message().await.text(), queue);
        assert!(peer.method().await.contains(tag));
    }
}

#[tokio::test]
async fn a_channel_ends_where_a_cancel_cannot_be_told() {
    let rig = Rig::new();
    let mut peer = connect_plain(&rig).await;
    peer.declare_with("q", Flags::default(), &[QUORUM, timeout_of(300)]).await;
    peer.publish(("", "q"), "a").await;
    peer.consume("q", "t", false).await;
    peer.message().await;
    let words = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 300 ms. This timeout value can be configured, see consumers doc guide to learn more";
    peer.expect_close(406, words).await;
    assert_eq!(peer.counts("q").await, (1, 0));
    // Whoever takes messages one by one has no consumer to cancel.
    let mut other = rig.connect().await;
    assert!(other.get("q").await.unwrap().redelivered);
    other.expect_close(406, words).await;
    assert_eq!(other.counts("q").await, (1, 0));
}

#[tokio::test]
async fn times_are_checked_as_the_original_does() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("q", Flags::default(), &[QUORUM]).await;
    peer.declare("classic").await;
    let wrong = |why: &str| {
        format!("PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' for queue 'q' in vhost '/': {why}")
    };
    for (value, why) in
        [(Value::I32(-1), "{value_negative,-1}"), (Value::Text(b"1"), "\"expected integer, got longstr\"")]
    {
        peer.consume_on(1, "q", "t", false, false, &[("x-consumer-timeout", value)]).await;
        peer.expect_close(406, &wrong(why)).await;
    }
    let text = "PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' for queue 'classic' in vhost '/' of queue type rabbit_classic_queue";
    peer.consume_on(1, "classic", "t", false, false, &[timeout_of(1_000)]).await;
    peer.expect_close(406, text).await;
    let other = "PRECONDITION_FAILED - inequivalent arg 'x-consumer-timeout' for queue 'q' in vhost '/': received the value '5' of type 'signedint' but current is none";
    peer.ask_declare("q", Flags::default(), &[QUORUM, timeout_of(5)]).await;
    peer.expect_close(406, other).await;
}

#[tokio::test]
async fn a_quorum_queue_tells_how_often_a_message_was_delivered_and_how_often_that_failed() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("q", Flags::default(), &[QUORUM]).await;
    peer.publish(("", "q"), "a").await;
    peer.consume("q", "t", false).await;
    let counts = |message: &Seen| {
        ["x-acquired-count", "x-delivery-count"].map(|name| message.header(name).unwrap_or_default())
    };
    let first = peer.message().await;
    assert_eq!(counts(&first), ["", ""]);
    peer.nack(first.tag, true).await;
    let second = peer.message().await;
    assert_eq!(counts(&second), ["I64(1)", ""]);
    peer.send(1, Method::BasicReject { delivery_tag: second.tag, requeue: true }).await;
    let third = peer.message().await;
    assert_eq!(counts(&third), ["I64(2)", "I64(1)"]);
    peer.send(1, Method::BasicRecover { requeue: true }).await;
    peer.expect("BasicRecoverOk").await;
    let fourth = peer.message().await;
    assert_eq!(counts(&fourth), ["I64(3)", "I64(1)"]);
    peer.ack(fourth.tag).await;
    peer.publish(("", "q"), "b").await;
    assert_eq!(counts(&peer.message().await), ["", ""]);
}
