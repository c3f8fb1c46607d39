use broker::{Append, NewBatch, PublishUnit};

use super::*;

#[tokio::test]
async fn a_queue_is_declared_again_only_as_it_is() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("d1").await;
    peer.declare("d1").await;
    peer.ask_declare("d1", Flags { auto_delete: true, ..Flags::default() }, &[]).await;
    let words = "PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue 'd1' in vhost '/': received 'true' but current is 'false'";
    peer.expect_close(406, words).await;
    peer.ask_declare("d1", Flags::default(), &[("x-message-ttl", Value::I32(1_000))]).await;
    let words = "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'd1' in vhost '/': received the value '1000' of type 'signedint' but current is none";
    peer.expect_close(406, words).await;
    peer.ask_declare("amq.foo", Flags::default(), &[]).await;
    let words = "ACCESS_REFUSED - queue name 'amq.foo' contains reserved prefix 'amq.*'";
    peer.expect_close(403, words).await;
    let unknown = [("x-unknown", Value::Bool(true)), ("x-queue-type", Value::Text(b"classic"))];
    peer.declare_with("d1", Flags::default(), &unknown).await;
}

#[tokio::test]
async fn what_is_not_built_is_refused_by_name() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.ask_declare("q", Flags::default(), &[("x-queue-type", Value::Text(b"stream"))]).await;
    let words = "NOT_IMPLEMENTED - queue type 'stream' of queue 'q' in vhost '/' is not built";
    peer.expect_close(540, words).await;
}

#[tokio::test]
async fn a_queue_without_a_name_is_given_one_which_an_empty_name_then_means() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.send(1, Method::BasicGet { ticket: 0, queue: "", no_ack: false }).await;
    peer.expect_close(404, "NOT_FOUND - no previously declared queue").await;
    let declared = peer.declare_with("", Flags { exclusive: true, ..Flags::default() }, &[]).await;
    let name = declared.split('"').nth(1).unwrap().to_owned();
    assert!(name.starts_with("amq.gen-") && name.len() == 30, "{name}");
    peer.publish(("", &name), "hello").await;
    assert_eq!(peer.get("").await.unwrap().text(), "hello");
}

#[tokio::test]
async fn an_exclusive_queue_is_its_connections_alone_and_goes_with_it() {
    let rig = Rig::new();
    let mut owner = rig.connect().await;
    owner.declare_with("mine", Flags { exclusive: true, ..Flags::default() }, &[]).await;
    let mut other = rig.connect().await;
    other.ask_declare("mine", Flags { passive: true, ..Flags::default() }, &[]).await;
    let words = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'mine' in vhost '/'. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.";
    let text: String = words.chars().take(255).collect();
    other.expect_close(405, &text).await;
    owner.send(0, Method::ConnectionClose { code: 200, text: "", class: 0, method: 0 }).await;
    owner.expect("ConnectionCloseOk").await;
    other.ask_declare("mine", Flags { passive: true, ..Flags::default() }, &[]).await;
    other.expect_close(404, "NOT_FOUND - no queue 'mine' in vhost '/'").await;
}

#[tokio::test]
async fn purge_and_delete_tell_how_many_there_were() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    for body in ["a", "b", "c"] {
        peer.publish(("", "q"), body).await;
    }
    let delete = |if_unused, if_empty| Method::QueueDelete {
        ticket: 0,
        queue: "q",
        if_unused,
        if_empty,
        nowait: false,
    };
    peer.send(1, delete(false, true)).await;
    peer.expect_close(406, "PRECONDITION_FAILED - queue 'q' in vhost '/' not empty").await;
    peer.send(1, Method::QueuePurge { ticket: 0, queue: "q", nowait: false }).await;
    assert_eq!(peer.method().await, "QueuePurgeOk { message_count: 3 }");
    peer.publish(("", "q"), "d").await;
    peer.consume("q", "t", false).await;
    peer.message().await;
    peer.send(1, delete(true, false)).await;
    peer.expect_close(406, "PRECONDITION_FAILED - queue 'q' in vhost '/' in use").await;
    assert_eq!(peer.counts("q").await, (1, 0));
    peer.send(1, delete(true, false)).await;
    assert_eq!(peer.method().await, "QueueDeleteOk { message_count: 1 }");
    peer.send(1, delete(false, false)).await;
    assert_eq!(peer.method().await, "QueueDeleteOk { message_count: 0 }", "one that is not there is fine");
}

#[tokio::test]
async fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("q", Flags { auto_delete: true, ..Flags::default() }, &[]).await;
    peer.consume("q", "one", false).await;
    peer.consume("q", "two", false).await;
    for (tag, is_there) in [("one", true), ("two", false)] {
        peer.send(1, Method::BasicCancel { consumer_tag: tag, nowait: false }).await;
        peer.expect("BasicCancelOk").await;
        assert_eq!(rig.server.broker.all_streams().len() == 1, is_there, "{tag}");
    }
}

#[tokio::test]
async fn a_consumer_is_told_when_its_queue_is_deleted() {
    let rig = Rig::new();
    let (mut peer, mut other) = (rig.connect().await, rig.connect().await);
    peer.declare("q").await;
    peer.consume("q", "t", false).await;
    let delete =
        Method::QueueDelete { ticket: 0, queue: "q", if_unused: false, if_empty: false, nowait: false };
    other.send(1, delete).await;
    other.expect("QueueDeleteOk").await;
    assert_eq!(peer.method().await, "BasicCancel { consumer_tag: \"t\", nowait: true }");
    peer.sync().await;
}

#[tokio::test]
async fn a_client_that_deletes_the_queue_it_consumes_is_answered_before_it_is_told() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    for round in 0..20 {
        peer.declare("q").await;
        peer.consume("q", "t", false).await;
        let delete =
            Method::QueueDelete { ticket: 0, queue: "q", if_unused: false, if_empty: false, nowait: false };
        peer.send(1, delete).await;
        peer.expect("QueueDeleteOk").await;
        assert_eq!(peer.method().await, "BasicCancel { consumer_tag: \"t\", nowait: true }", "round {round}");
    }
}

#[tokio::test]
async fn messages_expire_by_their_own_time_and_by_the_queues() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("own").await;
    peer.declare_with("ttl", Flags::default(), &[("x-message-ttl", Value::I32(60_000))]).await;
    let short = Properties { expiration: Some(b"60000"), ..persistent() };
    peer.publish_on(1, ("", "own"), short, b"gone").await;
    peer.publish(("", "own"), "stays").await;
    peer.publish(("", "ttl"), "gone").await;
    assert_eq!((peer.counts("own").await.0, peer.counts("ttl").await.0), (2, 1));
    rig.pass(120_000);
    until_ready(&mut peer, "own", 1).await;
    until_ready(&mut peer, "ttl", 0).await;
    assert_eq!(peer.get("own").await.unwrap().text(), "stays");
    let wrong = Properties { expiration: Some(b"abc"), ..persistent() };
    peer.publish_on(1, ("", "own"), wrong, b"x").await;
    peer.expect_close(406, "PRECONDITION_FAILED - invalid expiration 'abc': no_integer").await;
}

#[tokio::test]
async fn higher_priorities_come_first() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("q", Flags::default(), &[("x-max-priority", Value::I32(5))]).await;
    for (priority, body) in [(0, "low"), (3, "middle"), (200, "clamped"), (5, "high")] {
        let properties = Properties { priority: Some(priority), ..persistent() };
        peer.publish_on(1, ("", "q"), properties, body.as_bytes()).await;
    }
    let mut order = Vec::new();
    while let Some(message) = peer.get("q").await {
        order.push(message.text().to_owned());
    }
    assert_eq!(order, ["clamped", "high", "middle", "low"]);
}

#[tokio::test]
async fn a_message_without_a_priority_is_in_the_middle_of_a_quorum_queue_and_below_all_in_a_classic_one() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("classic", Flags::default(), &[("x-max-priority", Value::I32(9))]).await;
    peer.declare_with("quorum", Flags::default(), &[("x-queue-type", Value::Text(b"quorum"))]).await;
    for (queue, expected) in [("classic", ["5", "3", "unsaid", "0"]), ("quorum", ["5", "unsaid", "3", "0"])] {
        for (priority, body) in [(Some(3), "3"), (None, "unsaid"), (Some(5), "5"), (Some(0), "0")] {
            let properties = Properties { priority, ..persistent() };
            peer.publish_on(1, ("", queue), properties, body.as_bytes()).await;
        }
        let mut order = Vec::new();
        while let Some(message) = peer.get(queue).await {
            order.push(message.text().to_owned());
        }
        assert_eq!(order, expected, "{queue}");
    }
}

#[tokio::test]
async fn a_queue_that_nobody_uses_expires() {
    let mut rig = Rig::new();
    let mut peer = rig.connect().await;
    let expires = [("x-expires", Value::I32(60_000))];
    for name in ["unused", "used"] {
        peer.declare_with(name, Flags::default(), &expires).await;
    }
    peer.consume("used", "t", false).await;
    let names = |rig: &Rig| {
        let streams = rig.server.broker.all_streams();
        streams.iter().map(|stream| stream.key().name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&rig).len(), 2);
    rig.pass(120_000);
    until("the one that is not used goes", || names(&rig) == ["used"]).await;
    drop(peer);
    rig.reopen(0);
    assert_eq!(names(&rig), ["used"]);
    rig.pass(120_000);
    until("after a restart nobody uses the other", || names(&rig).is_empty()).await;
}

#[tokio::test]
async fn handles_of_unused_queues_are_made_again_when_they_are_used() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let namespace = model::Namespace::new("public", "default");
    let vhost = rig.server.vhosts.of(&rig.server.broker, "/", namespace);
    peer.declare("consumed").await;
    peer.consume("consumed", "t", false).await;
    peer.declare_with("mine", Flags { exclusive: true, ..Flags::default() }, &[]).await;
    let arguments = [("x-max-priority", Value::I32(5))];
    vhost.handles_max.store(4, Ordering::Relaxed);
    for number in 0..20 {
        peer.declare_with(&format!("q{number}"), Flags::default(), &arguments).await;
        vhost.handles_max.store(4, Ordering::Relaxed);
    }
    assert!(vhost.handle_count() < 10, "{}", vhost.handle_count());
    assert_eq!(peer.counts("consumed").await, (0, 1));
    let mut other = rig.connect().await;
    other.ask_declare("mine", Flags { passive: true, ..Flags::default() }, &[]).await;
    assert!(other.method().await.contains("RESOURCE_LOCKED"));
    peer.publish(("", "q0"), "there").await;
    assert_eq!(peer.get("q0").await.unwrap().text(), "there");
    peer.declare_with("q0", Flags::default(), &arguments).await;
}

#[tokio::test]
async fn a_queue_that_was_made_anew_does_not_go_with_a_consumer_of_the_old_one() {
    let rig = Rig::new();
    let (mut peer, mut other) = (rig.connect().await, rig.connect().await);
    let fleeting = Flags { auto_delete: true, ..Flags::default() };
    peer.declare_with("q", fleeting, &[]).await;
    peer.consume("q", "t", false).await;
    let delete =
        Method::QueueDelete { ticket: 0, queue: "q", if_unused: false, if_empty: false, nowait: false };
    other.send(1, delete).await;
    other.expect("QueueDeleteOk").await;
    peer.expect("BasicCancel").await;
    other.declare_with("q", fleeting, &[]).await;
    other.publish(("", "q"), "new").await;
    other.consume("q", "u", false).await;
    assert_eq!(other.message().await.text(), "new");
    peer.send(1, Method::ChannelClose { code: 200, text: "", class: 0, method: 0 }).await;
    peer.expect("ChannelCloseOk").await;
    assert_eq!(other.counts("q").await, (0, 1));
}

#[tokio::test]
async fn a_queue_of_which_other_dialects_receive_does_not_expire() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("q", Flags::default(), &[("x-expires", Value::I32(1_000))]).await;
    let key = model::StreamKey::queue(&model::Namespace::default(), "q");
    let stream = rig.server.broker.stream(&key).unwrap();
    let (work, _) = rig.server.broker.stream_work(&stream, model::PartitionIndex(0)).unwrap();
    let ask = broker::LeaseAsk {
        holder: broker::HolderId(1),
        allowance: broker::Allowance::records(1),
        kind: broker::LeaseKind::Recorded,
        time: broker::LeaseTime::Ms(1_000),
    };
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(40)).await;
        assert_eq!(work.lease(ask).await.unwrap().records, 0);
    }
    for _ in 0..400 {
        if rig.server.broker.stream(&key).is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("a queue that nobody uses any more stays");
}

#[tokio::test]
async fn consumers_are_counted_on_where_the_settings_of_their_queue_change() {
    let rig = Rig::new();
    let (mut peer, mut other) = (rig.connect().await, rig.connect().await);
    peer.declare("q").await;
    peer.consume("q", "t", false).await;
    let key = model::StreamKey::queue(&model::Namespace::default(), "q");
    let broker = &rig.server.broker;
    let change = |settings: &mut broker::StreamSettings| {
        settings.lease_ms = Some(7_000);
        Ok(())
    };
    broker.alter_stream(&key, change).await.unwrap();
    assert_eq!(other.counts("q").await, (0, 1));
    peer.send(1, Method::BasicCancel { consumer_tag: "t", nowait: false }).await;
    peer.expect("BasicCancelOk").await;
    assert_eq!(other.counts("q").await, (0, 0));
}

#[tokio::test]
async fn a_consumer_that_the_server_ended_does_not_keep_its_queue_taken() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    let key = model::StreamKey::queue(&model::Namespace::default(), "q");
    let stream = rig.server.broker.stream(&key).unwrap();
    let unread = NewBatch {
        count: 1,
        format: crate::message::FORMAT,
        body: bytes::Bytes::from_static(b"\xff\xff\xff"),
        ..NewBatch::default()
    };
    let partition = stream.partition(model::PartitionIndex(0)).unwrap();
    rig.server.broker.publish(PublishUnit::of(vec![Append::new(partition, unread)])).unwrap();
    peer.consume_on(1, "q", "first", false, true, &[]).await;
    peer.expect("BasicConsumeOk").await;
    peer.expect("BasicCancel { consumer_tag: \"first\"").await;
    for number in 0..200 {
        // Its task may have a moment to go.
        tokio::time::sleep(Duration::from_millis(5)).await;
        peer.consume_on(1, "q", &format!("again {number}"), false, true, &[]).await;
        let answer = peer.method().await;
        if answer.starts_with("BasicConsumeOk") {
            return;
        }
        assert!(answer.contains("in exclusive use"), "{answer}");
        peer.send(1, Method::ChannelCloseOk {}).await;
        peer.open(1).await;
    }
    panic!("the queue stays taken");
}
