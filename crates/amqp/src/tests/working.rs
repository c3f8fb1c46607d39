use super::*;

/// A queue `q` with these messages, all stored.
async fn filled(peer: &mut Peer, messages: &[&str]) {
    peer.declare("q").await;
    for body in messages {
        peer.publish(("", "q"), body).await;
    }
    assert_eq!(peer.counts("q").await.0 as usize, messages.len());
}

#[tokio::test]
async fn messages_come_in_order_and_properties_as_they_were_sent() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    peer.consume("q", "t", false).await;
    let headers = fields(&[("n", Value::I16(7))]);
    let properties = Properties {
        content_type: Some(b"text/plain"),
        message_id: Some(b"id"),
        ..with_table(table_of(&headers))
    };
    let mut raw = Vec::new();
    properties.write(&mut raw);
    for body in ["one", "two", "three"] {
        peer.publish_on(1, ("", "q"), properties, body.as_bytes()).await;
    }
    let messages = peer.messages(3).await;
    assert_eq!(bodies(&messages), ["one", "two", "three"]);
    assert_eq!(messages.iter().map(|message| message.tag).collect::<Vec<_>>(), [1, 2, 3]);
    for message in &messages {
        assert_eq!((&message.properties, message.redelivered), (&raw, false));
        assert_eq!((message.exchange.as_str(), &message.routing_key[..]), ("", &b"q"[..]));
    }
}

#[tokio::test]
async fn a_long_body_and_an_empty_one_arrive_whole() {
    let rig = Rig::with(Options { message_len_max: 1 << 20, ..Options::default() });
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    let body: Vec<u8> = (0..1u32 << 20).map(|n| n as u8).collect();
    peer.publish_on(1, ("", "q"), persistent(), &body).await;
    peer.publish(("", "q"), "").await;
    assert!(peer.get("q").await.unwrap().body == body);
    assert_eq!(peer.get("q").await.unwrap().text(), "");
    let mut out = Vec::new();
    let publish = Method::BasicPublish {
        ticket: 0,
        exchange: "",
        routing_key: crate::codec::Key(b"q"),
        mandatory: false,
        immediate: false,
    };
    put_method(&mut out, 1, publish);
    put_content(&mut out, 1, &[0, 0], (1 << 20) + 1);
    peer.send_bytes(&out).await;
    let words = "PRECONDITION_FAILED - message size 1048577 is larger than configured max size 1048576";
    peer.expect_close(406, words).await;
}

#[tokio::test]
async fn prefetch_bounds_what_is_out_until_it_is_settled() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    filled(&mut peer, &["a", "b", "c", "d"]).await;
    peer.qos(2, false).await;
    peer.consume("q", "t", false).await;
    assert_eq!(bodies(&peer.messages(2).await), ["a", "b"]);
    peer.expect_nothing().await;
    peer.ack(1).await;
    assert_eq!(peer.message().await.text(), "c");
    peer.expect_nothing().await;
    peer.send(1, Method::BasicAck { delivery_tag: 0, multiple: true }).await;
    assert_eq!(peer.message().await.text(), "d");
}

#[tokio::test]
async fn a_prefetch_of_the_channel_is_shared_by_its_consumers() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    filled(&mut peer, &["a", "b", "c", "d"]).await;
    peer.qos(3, true).await;
    peer.consume("q", "one", false).await;
    peer.messages(3).await;
    peer.consume("q", "two", false).await;
    peer.expect_nothing().await;
    peer.ack(1).await;
    peer.message().await;
    peer.expect_nothing().await;
}

#[tokio::test]
async fn what_goes_back_comes_again_at_its_place_and_says_so() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    filled(&mut peer, &["a", "b", "c"]).await;
    peer.qos(2, false).await;
    peer.consume("q", "t", false).await;
    assert_eq!(bodies(&peer.messages(2).await), ["a", "b"]);
    peer.nack(1, true).await;
    let again = peer.message().await;
    assert_eq!((again.text(), again.redelivered, again.tag), ("a", true, 3));
    peer.send(1, Method::BasicRecover { requeue: true }).await;
    peer.expect("BasicRecoverOk").await;
    let again = peer.messages(2).await;
    assert_eq!(bodies(&again), ["a", "b"]);
    assert!(again.iter().all(|message| message.redelivered));
    peer.nack(4, false).await;
    peer.ack(5).await;
    let last = peer.message().await;
    assert_eq!((last.text(), last.redelivered), ("c", false));
    peer.ack(6).await;
    peer.sync().await;
    assert_eq!(peer.counts("q").await.0, 0);
}

#[tokio::test]
async fn an_unknown_delivery_tag_ends_the_channel_and_gives_everything_back() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    filled(&mut peer, &["a", "b"]).await;
    peer.consume("q", "t", false).await;
    peer.messages(2).await;
    peer.ack(99).await;
    peer.expect_close(406, "PRECONDITION_FAILED - unknown delivery tag 99").await;
    assert_eq!(peer.counts("q").await, (2, 0));
    assert!(peer.get("q").await.unwrap().redelivered);
}

#[tokio::test]
async fn a_connection_that_breaks_gives_everything_back() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    filled(&mut peer, &["a", "b"]).await;
    peer.consume("q", "t", false).await;
    peer.messages(2).await;
    drop(peer);
    let mut other = rig.connect().await;
    other.consume("q", "t", false).await;
    let again = other.messages(2).await;
    assert!(bodies(&again) == ["a", "b"] && again.iter().all(|message| message.redelivered));
}

#[tokio::test]
async fn without_acknowledgement_a_message_is_gone_when_it_is_sent() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    filled(&mut peer, &["a", "b"]).await;
    peer.consume("q", "t", true).await;
    assert_eq!(bodies(&peer.messages(2).await), ["a", "b"]);
    peer.ack(1).await;
    peer.expect_close(406, "PRECONDITION_FAILED - unknown delivery tag 1").await;
    assert_eq!(peer.counts("q").await, (0, 0));
}

#[tokio::test]
async fn two_consumers_share_and_a_higher_priority_is_served_first() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    peer.qos(1, false).await;
    peer.consume("q", "low", false).await;
    peer.consume_on(1, "q", "high", false, false, &[("x-priority", Value::I32(10))]).await;
    peer.expect("BasicConsumeOk").await;
    for (body, tag) in [("a", "high"), ("b", "low")] {
        peer.publish(("", "q"), body).await;
        let message = peer.message().await;
        assert!(message.method.contains(tag), "{} for {body}", message.method);
    }
}

#[tokio::test]
async fn an_exclusive_consumer_and_a_tag_in_use_are_refused() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("d1").await;
    peer.consume_on(1, "d1", "x", false, true, &[]).await;
    peer.expect("BasicConsumeOk").await;
    let mut other = rig.connect().await;
    other.consume_on(1, "d1", "y", false, false, &[]).await;
    other.expect_close(403, "ACCESS_REFUSED - queue 'd1' in vhost '/' in exclusive use").await;
    peer.consume_on(1, "d1", "x", false, false, &[]).await;
    peer.expect_close(530, "NOT_ALLOWED - attempt to reuse consumer tag 'x'").await;
}

#[tokio::test]
async fn one_active_consumer_does_it_all_until_it_leaves() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let single = [("x-single-active-consumer", Value::Bool(true))];
    peer.declare_with("q", Flags::default(), &single).await;
    peer.consume("q", "one", true).await;
    peer.consume("q", "two", true).await;
    for body in ["a", "b", "c"] {
        peer.publish(("", "q"), body).await;
        assert!(peer.message().await.method.contains("\"one\""));
    }
    peer.send(1, Method::BasicCancel { consumer_tag: "one", nowait: false }).await;
    peer.expect("BasicCancelOk").await;
    peer.publish(("", "q"), "d").await;
    assert!(peer.message().await.method.contains("\"two\""));
}

#[tokio::test]
async fn a_cancelled_consumer_keeps_what_it_has_and_gets_nothing_more() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    filled(&mut peer, &["a"]).await;
    peer.consume("q", "t", false).await;
    assert_eq!(peer.message().await.text(), "a");
    peer.send(1, Method::BasicCancel { consumer_tag: "t", nowait: false }).await;
    peer.expect("BasicCancelOk").await;
    peer.publish(("", "q"), "b").await;
    peer.expect_nothing().await;
    peer.ack(1).await;
    peer.sync().await;
    assert_eq!(peer.counts("q").await, (1, 0));
    peer.send(1, Method::BasicCancel { consumer_tag: "unknown", nowait: false }).await;
    peer.expect("BasicCancelOk").await;
}

#[tokio::test]
async fn a_quorum_queue_counts_deliveries_and_gives_up_at_its_limit() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let limited = [("x-queue-type", Value::Text(b"quorum")), ("x-delivery-limit", Value::I32(2))];
    peer.declare_with("q", Flags::default(), &limited).await;
    peer.publish(("", "q"), "a").await;
    peer.consume("q", "t", false).await;
    for (tag, count) in [(1, None), (2, Some("I64(1)")), (3, Some("I64(2)"))] {
        let message = peer.message().await;
        assert_eq!(message.header("x-delivery-count").as_deref(), count);
        peer.send(1, Method::BasicReject { delivery_tag: tag, requeue: true }).await;
    }
    peer.expect_nothing().await;
    assert_eq!(peer.counts("q").await.0, 0);
    let exclusive = Flags { exclusive: true, ..Flags::default() };
    peer.ask_declare("q2", exclusive, &limited).await;
    let words = "PRECONDITION_FAILED - invalid property 'exclusive-owner' for queue 'q2' in vhost '/'";
    peer.expect_close(406, words).await;
}

#[tokio::test]
async fn confirms_cover_every_message_in_order() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    peer.confirm().await;
    peer.confirm().await;
    for number in 0..500 {
        peer.publish_on(1, ("", "q"), persistent(), number.to_string().as_bytes()).await;
    }
    let mut last = 0;
    while last < 500 {
        let (_, _, payload) = peer.frame().await.unwrap();
        let Method::BasicAck { delivery_tag, multiple } = Method::read(&payload).unwrap() else {
            panic!("no ack")
        };
        assert!(delivery_tag > last && (multiple || delivery_tag == last + 1));
        last = delivery_tag;
    }
    assert_eq!(peer.counts("q").await.0, 500);
}

#[tokio::test]
async fn a_message_given_back_without_counting_is_redelivered_all_the_same() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let quorum = [("x-queue-type", Value::Text(b"quorum")), ("x-delivery-limit", Value::I32(2))];
    peer.declare_with("q", Flags::default(), &quorum).await;
    peer.publish(("", "q"), "a").await;
    peer.sync().await;
    for round in 0..6 {
        let message = peer.get("q").await.unwrap();
        assert_eq!(message.redelivered, round > 0, "round {round}");
        assert_eq!(message.header("x-delivery-count"), None);
        peer.nack(message.tag, true).await;
    }
}

#[tokio::test]
async fn a_quorum_queue_gives_up_after_twenty_failures_unless_it_says_otherwise() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("q", Flags::default(), &[("x-queue-type", Value::Text(b"quorum"))]).await;
    peer.publish(("", "q"), "a").await;
    peer.sync().await;
    for round in 0..21 {
        let message = peer.get("q").await.unwrap_or_else(|| panic!("gone after {round} deliveries"));
        // What is only taken back does not count.
        peer.send(1, Method::BasicRecover { requeue: true }).await;
        peer.expect("BasicRecoverOk").await;
        let again = peer.get("q").await.unwrap();
        assert!(again.redelivered && again.tag > message.tag);
        peer.send(1, Method::BasicReject { delivery_tag: again.tag, requeue: true }).await;
    }
    assert_eq!(peer.get("q").await, None);
}

#[tokio::test]
async fn what_is_given_back_to_a_queue_with_delayed_retry_waits() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let arguments = [
        ("x-queue-type", Value::Text(b"quorum")),
        ("x-delayed-retry-type", Value::Text(b"all")),
        ("x-delayed-retry-min", Value::I32(300)),
        ("x-delayed-retry-max", Value::I32(500)),
    ];
    peer.declare_with("q", Flags::default(), &arguments).await;
    peer.publish(("", "q"), "a").await;
    peer.sync().await;
    let message = peer.get("q").await.unwrap();
    peer.consume("q", "t", false).await;
    for (tag, least_ms) in [(message.tag, 300), (message.tag + 1, 500)] {
        let began = std::time::Instant::now();
        peer.send(1, Method::BasicReject { delivery_tag: tag, requeue: true }).await;
        assert!(peer.message().await.redelivered);
        // Times are whole milliseconds.
        assert!(began.elapsed() >= Duration::from_millis(least_ms - 2), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn of_a_quorum_queue_a_higher_priority_takes_over_once_what_is_out_is_settled() {
    let single = ("x-single-active-consumer", Value::Bool(true));
    for (kind, takes_over) in [(&b"quorum"[..], true), (b"classic", false)] {
        let rig = Rig::new();
        let mut peer = rig.connect().await;
        peer.declare_with("q", Flags::default(), &[single, ("x-queue-type", Value::Text(kind))]).await;
        peer.consume("q", "low", false).await;
        peer.publish(("", "q"), "a").await;
        let first = peer.message().await;
        peer.consume_on(1, "q", "high", false, false, &[("x-priority", Value::I32(5))]).await;
        peer.expect("BasicConsumeOk").await;
        if takes_over {
            peer.publish(("", "q"), "b").await;
            peer.expect_nothing().await;
            peer.ack(first.tag).await;
        } else {
            peer.ack(first.tag).await;
            peer.publish(("", "q"), "b").await;
        }
        let second = peer.message().await;
        let expected = if takes_over { "\"high\"" } else { "\"low\"" };
        assert!(second.text() == "b" && second.method.contains(expected), "{}", second.method);
        peer.send(1, Method::BasicCancel { consumer_tag: "high", nowait: false }).await;
        peer.expect("BasicCancelOk").await;
        peer.ack(second.tag).await;
        peer.publish(("", "q"), "c").await;
        assert!(peer.message().await.method.contains("\"low\""));
    }
}
