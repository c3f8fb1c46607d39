//! Exchanges of the type x-delayed-message, and dead letters that wait for a queue.

use model::{Namespace, StreamKey};

use super::*;

async fn delayed(peer: &mut Peer, name: &str, kind: &[u8]) {
    peer.exchange(name, "x-delayed-message", &[("x-delayed-type", Value::Text(kind))]).await;
}

/// The exchange "later", bound to the queue "q" with this key; what is published is confirmed.
async fn delayed_to_q(peer: &mut Peer, kind: &[u8], key: &str) {
    delayed(peer, "later", kind).await;
    peer.declare("q").await;
    peer.bind("q", "later", key, &[]).await;
    peer.confirm().await;
}

/// Publishes a persistent message that waits so long.
async fn publish_later(peer: &mut Peer, to: (&str, &str), delay: Value<'_>, body: &str) {
    let headers = fields(&[("x-delay", delay)]);
    peer.publish_on(1, to, with_table(table_of(&headers)), body.as_bytes()).await;
}

#[tokio::test]
async fn a_message_waits_for_its_time_and_the_others_pass() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    delayed_to_q(&mut peer, b"topic", "a.*").await;
    publish_later(&mut peer, ("later", "a.b"), Value::I32(600_000), "second").await;
    peer.expect("BasicAck").await;
    publish_later(&mut peer, ("later", "a.b"), Value::I32(0), "first").await;
    peer.expect("BasicAck").await;
    publish_later(&mut peer, ("later", "b"), Value::I32(10), "for nobody").await;
    peer.expect("BasicAck").await;
    assert_eq!(peer.get("q").await.unwrap().text(), "first");
    let schedule = StreamKey::queue(&Namespace::default(), "amq.delayed.later");
    let stream = rig.server.broker.stream(&schedule).unwrap();
    let delayed = || rig.server.broker.queue_counts(&stream).delayed;
    rig.pass(300_000);
    until("one that nobody gets has left", || delayed() == 1).await;
    assert_eq!(peer.get("q").await, None);
    rig.pass(300_000);
    let message = peer.first("q").await;
    assert_eq!((message.text(), message.exchange.as_str()), ("second", "later"));
    assert_eq!(message.header("x-delay").unwrap(), format!("{:?}", Value::I32(-600_000)));
}

#[tokio::test]
async fn a_message_waits_for_a_time_in_text_or_with_a_fraction() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    delayed_to_q(&mut peer, b"fanout", "").await;
    for delay in [Value::Text(b"600000"), Value::F64(600_000.7)] {
        publish_later(&mut peer, ("later", ""), delay, "x").await;
        peer.expect("BasicAck").await;
        rig.pass(300_000);
        assert_eq!(peer.get("q").await, None, "{delay:?}");
        rig.pass(300_000);
        let message = peer.first("q").await;
        assert_eq!(message.header("x-delay").unwrap(), format!("{:?}", Value::I32(-600_000)));
        peer.ack(message.tag).await;
    }
}

#[tokio::test]
async fn what_waits_survives_a_restart_and_is_routed_as_things_are_then() {
    let mut rig = Rig::new();
    let mut peer = rig.connect().await;
    delayed(&mut peer, "later", b"direct").await;
    for queue in ["q", "hidden"] {
        peer.declare(queue).await;
    }
    peer.confirm().await;
    let keys = [Value::Text(b"x")];
    let mut headers = TableWriter::default();
    headers.field("x-delay", Value::I64(600_000)).array("BCC", keys.into_iter());
    let headers = headers.finish();
    // A transient message waits as safely as any.
    let properties = Properties { headers: Some(table_of(&headers)), ..Properties::default() };
    peer.publish_on(1, ("later", "k"), properties, b"kept").await;
    peer.expect("BasicAck").await;
    peer.bind("q", "later", "k", &[]).await;
    peer.bind("hidden", "later", "x", &[]).await;
    drop(peer);
    rig.reopen(0);
    let schedule = StreamKey::queue(&Namespace::default(), "amq.delayed.later");
    let stream = rig.server.broker.stream(&schedule).unwrap();
    assert_eq!(rig.server.broker.queue_counts(&stream).delayed, 1);
    let mut peer = rig.connect().await;
    rig.pass(600_000);
    let message = peer.first("q").await;
    assert_eq!(message.text(), "kept");
    assert_eq!(message.header("BCC"), None);
    assert_eq!(peer.first("hidden").await.text(), "kept");
    assert_eq!(rig.server.broker.queue_counts(&stream).delayed, 0);
}

#[tokio::test]
async fn what_waits_is_cancelled_with_its_record_and_with_its_exchange() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    delayed_to_q(&mut peer, b"fanout", "").await;
    for body in ["cancelled", "kept"] {
        publish_later(&mut peer, ("later", ""), Value::I32(600_000), body).await;
        peer.expect("BasicAck").await;
    }
    let schedule = StreamKey::queue(&Namespace::default(), "amq.delayed.later");
    let stream = rig.server.broker.stream(&schedule).unwrap();
    let partition = stream.partition(model::PartitionIndex(0)).unwrap();
    let cancelled = [broker::Span::one(model::Offset(0))].into_iter().collect();
    rig.server.broker.drop_records(partition, &cancelled).unwrap();
    rig.pass(600_000);
    assert_eq!(peer.first("q").await.text(), "kept");
    tokio::time::sleep(QUIET).await;
    assert_eq!(peer.get("q").await, None);
    publish_later(&mut peer, ("later", ""), Value::I32(600_000), "gone with its exchange").await;
    peer.expect("BasicAck").await;
    let delete = Method::ExchangeDelete { ticket: 0, exchange: "later", if_unused: false, nowait: false };
    peer.send(1, delete).await;
    peer.expect("ExchangeDeleteOk").await;
    assert!(rig.server.broker.stream(&schedule).is_none());
    delayed(&mut peer, "later", b"fanout").await;
    peer.bind("q", "later", "", &[]).await;
    publish_later(&mut peer, ("later", ""), Value::I32(600_000), "of the new one").await;
    peer.expect("BasicAck").await;
    rig.pass(600_000);
    assert_eq!(peer.first("q").await.text(), "of the new one");
}

#[tokio::test]
async fn an_exchange_bound_to_a_delayed_one_lets_its_messages_wait_there() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    delayed(&mut peer, "later", b"fanout").await;
    peer.exchange("front", "fanout", &[]).await;
    for queue in ["now", "then"] {
        peer.declare(queue).await;
    }
    peer.bind("now", "front", "", &[]).await;
    peer.bind("then", "later", "", &[]).await;
    let bind = Method::ExchangeBind {
        ticket: 0,
        destination: "later",
        source: "front",
        routing_key: crate::codec::Key(b""),
        nowait: false,
        arguments: Table::default(),
    };
    peer.send(1, bind).await;
    peer.expect("ExchangeBindOk").await;
    publish_later(&mut peer, ("front", ""), Value::I32(150), "a").await;
    peer.sync().await;
    let message = peer.first("now").await;
    assert_eq!(message.header("x-delay").unwrap(), format!("{:?}", Value::I32(150)));
    let message = peer.first("then").await;
    assert_eq!((message.text(), message.exchange.as_str()), ("a", "front"));
}

#[tokio::test]
async fn a_delayed_exchange_is_declared_in_the_originals_words() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.ask_exchange("e", "x-delayed-message", &[]).await;
    let text = "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type";
    peer.expect_close(406, text).await;
    delayed(&mut peer, "e", b"direct").await;
    delayed(&mut peer, "e", b"direct").await;
    // How it chooses is looked at when it is made, and never again.
    delayed(&mut peer, "e", b"topic").await;
    delayed(&mut peer, "e", b"nonsense").await;
    peer.exchange("e", "x-delayed-message", &[]).await;
    peer.ask_exchange("e", "direct", &[]).await;
    let text = "PRECONDITION_FAILED - inequivalent arg 'type' for exchange 'e' in vhost '/': received 'direct' but current is 'x-delayed-message'";
    peer.expect_close(406, text).await;
    // Nobody works the queue in which messages wait.
    peer.ask_declare("amq.delayed.e", Flags { passive: true, ..Flags::default() }, &[]).await;
    peer.expect_close(404, "NOT_FOUND - no queue 'amq.delayed.e' in vhost '/'").await;
    peer.publish(("", "amq.delayed.e"), "x").await;
    assert!(peer.message().await.method.starts_with("BasicReturn"));
}

#[tokio::test]
async fn what_a_full_queue_refuses_goes_to_its_dead_letters_before_it_is_refused() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.exchange("dlx", "fanout", &[]).await;
    peer.declare("dead").await;
    peer.bind("dead", "dlx", "", &[]).await;
    let arguments = [
        ("x-max-length", Value::I32(1)),
        ("x-overflow", Value::Text(b"reject-publish-dlx")),
        ("x-dead-letter-exchange", Value::Text(b"dlx")),
    ];
    peer.declare_with("work", Flags::default(), &arguments).await;
    peer.confirm().await;
    peer.publish(("", "work"), "fits").await;
    peer.expect("BasicAck").await;
    peer.publish(("", "work"), "too much").await;
    peer.expect("BasicNack").await;
    let letter = peer.get("dead").await.unwrap();
    assert_eq!(letter.text(), "too much");
    assert_eq!(letter.header("x-first-death-reason").unwrap(), format!("{:?}", Value::Text(b"maxlen")));
    assert_eq!(letter.header("x-first-death-queue").unwrap(), format!("{:?}", Value::Text(b"work")));
    assert_eq!(peer.counts("work").await.0, 1);
}

#[tokio::test]
async fn dead_letters_that_have_to_arrive_wait_for_a_queue() {
    let mut rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.exchange("dlx", "fanout", &[]).await;
    let arguments = [
        ("x-queue-type", Value::Text(b"quorum")),
        ("x-overflow", Value::Text(b"reject-publish")),
        ("x-dead-letter-exchange", Value::Text(b"dlx")),
        ("x-dead-letter-strategy", Value::Text(b"at-least-once")),
    ];
    peer.declare_with("work", Flags::default(), &arguments).await;
    peer.publish(("", "work"), "has to arrive").await;
    peer.sync().await;
    let message = peer.get("work").await.unwrap();
    peer.nack(message.tag, false).await;
    peer.sync().await;
    assert_eq!(peer.counts("work").await.0, 0);
    drop(peer);
    rig.reopen(0);
    let mut peer = rig.connect().await;
    peer.declare("dead").await;
    peer.bind("dead", "dlx", "", &[]).await;
    let letter = peer.first("dead").await;
    assert_eq!(letter.text(), "has to arrive");
    assert_eq!(letter.header("x-last-death-reason").unwrap(), format!("{:?}", Value::Text(b"rejected")));
    let name = "q".repeat(240);
    peer.ask_declare(&name, Flags::default(), &arguments).await;
    let close = peer.method().await;
    assert!(close.starts_with("ChannelClose { code: 406"), "{close}");
    let key = StreamKey::queue(&Namespace::default(), &name);
    assert!(rig.server.broker.stream(&key).is_none(), "it was refused");
    peer.send(1, Method::ChannelCloseOk {}).await;
    peer.open(1).await;
    let classic = [("x-dead-letter-strategy", Value::Text(b"at-least-once"))];
    peer.ask_declare("classic", Flags::default(), &classic).await;
    let text = "PRECONDITION_FAILED - invalid arg 'x-dead-letter-strategy' for queue 'classic' in vhost '/' of queue type rabbit_classic_queue";
    peer.expect_close(406, text).await;
}

#[tokio::test]
async fn a_full_queue_that_refuses_gets_no_more_dead_letters() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let full = [("x-max-length", Value::I32(2)), ("x-overflow", Value::Text(b"reject-publish"))];
    peer.declare_with("dead", Flags::default(), &full).await;
    let to_dead =
        [("x-dead-letter-exchange", Value::Text(b"")), ("x-dead-letter-routing-key", Value::Text(b"dead"))];
    peer.declare_with("work", Flags::default(), &to_dead).await;
    for body in ["a", "b", "c", "d", "e"] {
        peer.publish(("", "work"), body).await;
    }
    peer.sync().await;
    for _ in 0..5 {
        let message = peer.get("work").await.unwrap();
        peer.nack(message.tag, false).await;
    }
    let work = rig.server.broker.stream(&StreamKey::queue(&Namespace::default(), "work")).unwrap();
    until("all are settled", || rig.server.broker.queue_counts(&work).unsettled() == 0).await;
    until_ready(&mut peer, "dead", 2).await;
    let bodies = [peer.get("dead").await.unwrap(), peer.get("dead").await.unwrap()];
    assert_eq!((bodies[0].text(), bodies[1].text(), peer.get("dead").await), ("a", "b", None));
}

#[tokio::test]
async fn full_queues_of_other_kinds_get_dead_letters_beyond_their_length() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let full = ("x-max-length", Value::I32(1));
    let of_its_own = ("x-dead-letter-exchange", Value::Text(b"amq.fanout"));
    let dlx = ("x-overflow", Value::Text(b"reject-publish-dlx"));
    let quorum = ("x-queue-type", Value::Text(b"quorum"));
    let kinds: [(&str, &[_], u32); 3] = [
        ("quorum", &[full, ("x-overflow", Value::Text(b"reject-publish")), quorum], 3),
        ("with letters", &[full, dlx, of_its_own], 3),
        ("without", &[full, dlx], 1),
    ];
    for (dead, arguments, count) in kinds {
        peer.declare_with(dead, Flags::default(), arguments).await;
        let to_dead = [
            ("x-dead-letter-exchange", Value::Text(b"")),
            ("x-dead-letter-routing-key", Value::Text(dead.as_bytes())),
        ];
        let work = format!("work-{dead}");
        peer.declare_with(&work, Flags::default(), &to_dead).await;
        for body in ["a", "b", "c"] {
            peer.publish(("", &work), body).await;
        }
        peer.sync().await;
        for _ in 0..3 {
            let message = peer.get(&work).await.unwrap();
            peer.nack(message.tag, false).await;
        }
        let source = rig.server.broker.stream(&StreamKey::queue(&Namespace::default(), &work)).unwrap();
        until("all are settled", || rig.server.broker.queue_counts(&source).unsettled() == 0).await;
        until_ready(&mut peer, dead, count).await;
    }
}

#[tokio::test]
async fn dead_letters_that_have_to_arrive_wait_while_their_queue_is_full() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let full = [("x-max-length", Value::I32(1)), ("x-overflow", Value::Text(b"reject-publish"))];
    peer.declare_with("dead", Flags::default(), &full).await;
    let arguments = [
        ("x-queue-type", Value::Text(b"quorum")),
        ("x-overflow", Value::Text(b"reject-publish")),
        ("x-dead-letter-exchange", Value::Text(b"")),
        ("x-dead-letter-routing-key", Value::Text(b"dead")),
        ("x-dead-letter-strategy", Value::Text(b"at-least-once")),
    ];
    peer.declare_with("work", Flags::default(), &arguments).await;
    for body in ["a", "b"] {
        peer.publish(("", "work"), body).await;
    }
    peer.sync().await;
    for _ in 0..2 {
        let message = peer.get("work").await.unwrap();
        peer.nack(message.tag, false).await;
    }
    until_ready(&mut peer, "dead", 1).await;
    let key = StreamKey::queue(&Namespace::default(), "amq.dead-letters.work");
    let kept = rig.server.broker.stream(&key).unwrap();
    let waiting = || rig.server.broker.queue_counts(&kept).unsettled();
    until("it waits again", || waiting() == 1).await;
    // It is tried meanwhile, and refused.
    tokio::time::sleep(crate::schedule::RETRY + Duration::from_secs(1)).await;
    assert_eq!(waiting(), 1);
    let first = peer.get("dead").await.unwrap();
    assert_eq!(first.text(), "a");
    peer.ack(first.tag).await;
    assert_eq!(peer.first("dead").await.text(), "b");
    until("it is stored", || waiting() == 0).await;
}
