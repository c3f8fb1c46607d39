//! Messages whose time is over, and queues.

use super::*;

const QUORUM: (&str, Value<'static>) = ("x-queue-type", Value::Text(b"quorum"));

fn short_lived(ms: &str) -> Properties<'_> {
    Properties { expiration: Some(ms.as_bytes()), ..persistent() }
}

fn dead_letters_to(queue: &'static [u8]) -> [(&'static str, Value<'static>); 2] {
    [("x-dead-letter-exchange", Value::Text(b"")), ("x-dead-letter-routing-key", Value::Text(queue))]
}

#[tokio::test]
async fn the_shorter_of_two_times_to_live_counts() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    for (queue, of_queue, of_message) in [("own", 600_000, "60000"), ("queues", 60_000, "600000")] {
        peer.declare_with(queue, Flags::default(), &[("x-message-ttl", Value::I32(of_queue))]).await;
        peer.publish_on(1, ("", queue), short_lived(of_message), b"x").await;
        assert_eq!(peer.counts(queue).await.0, 1);
        rig.pass(120_000);
        until_ready(&mut peer, queue, 0).await;
    }
}

#[tokio::test]
async fn a_message_with_no_time_at_all_is_delivered_at_once_or_dies() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("dead").await;
    let at_once = [("x-message-ttl", Value::I32(0))];
    for (kind, arguments) in [("classic", &[][..]), ("quorum", &[QUORUM])] {
        for (queue, ttl, properties) in
            [("by the queue", &at_once[..], persistent()), ("by itself", &[], short_lived("0"))]
        {
            let queue = format!("{kind} {queue}");
            let all = [arguments, ttl, &dead_letters_to(b"dead")].concat();
            peer.declare_with(&queue, Flags::default(), &all).await;
            peer.publish_on(1, ("", &queue), properties, b"nobody's").await;
            assert_eq!(peer.get(&queue).await, None);
            until_ready(&mut peer, "dead", 1).await;
            let letter = peer.get("dead").await.unwrap();
            peer.ack(letter.tag).await;
            let reason = letter.header("x-first-death-reason").unwrap();
            assert_eq!((letter.text(), reason), ("nobody's", format!("{:?}", Value::Text(b"expired"))));
            peer.consume(&queue, "t", true).await;
            for body in ["one", "two"] {
                peer.publish_on(1, ("", &queue), properties, body.as_bytes()).await;
                assert_eq!(peer.message().await.text(), body, "{queue}");
            }
            peer.send(1, Method::BasicCancel { consumer_tag: "t", nowait: false }).await;
            peer.expect("BasicCancelOk").await;
            assert_eq!(peer.counts("dead").await.0, 0);
        }
    }
}

#[tokio::test]
async fn what_nobody_takes_at_once_waits_no_longer_than_a_moment() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    peer.qos(1, false).await;
    peer.consume("q", "t", false).await;
    for body in ["taken", "too much"] {
        peer.publish_on(1, ("", "q"), short_lived("0"), body.as_bytes()).await;
    }
    let taken = peer.message().await;
    assert_eq!(taken.text(), "taken");
    until_ready(&mut peer, "q", 0).await;
    peer.ack(taken.tag).await;
    peer.expect_nothing().await;
}

#[tokio::test]
async fn a_message_expires_when_it_is_its_turn_and_counts_until_then() {
    for kind in [b"classic", &b"quorum"[..]] {
        let rig = Rig::new();
        let mut peer = rig.connect().await;
        peer.declare("dead").await;
        let all = [&[("x-queue-type", Value::Text(kind))], &dead_letters_to(b"dead")[..]].concat();
        peer.declare_with("q", Flags::default(), &all).await;
        peer.publish(("", "q"), "stays").await;
        for body in ["one", "two"] {
            peer.publish_on(1, ("", "q"), short_lived("50"), body.as_bytes()).await;
        }
        peer.publish(("", "q"), "stays too").await;
        peer.publish_on(1, ("", "q"), short_lived("50"), b"three").await;
        peer.sync().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!((peer.counts("q").await.0, peer.counts("dead").await.0), (5, 0));
        let first = peer.get("q").await.unwrap();
        assert!(first.text() == "stays" && first.method.contains("message_count: "), "{}", first.method);
        until_ready(&mut peer, "q", 2).await;
        until_ready(&mut peer, "dead", 2).await;
        // All at once: what is past its time is not delivered between the others.
        peer.nack(first.tag, true).await;
        peer.consume("q", "t", false).await;
        let rest = peer.messages(2).await;
        assert_eq!(bodies(&rest), ["stays", "stays too"]);
        until_ready(&mut peer, "dead", 3).await;
        peer.expect_nothing().await;
        let mut letters = Vec::new();
        while let Some(letter) = peer.get("dead").await {
            letters.push(letter.text().to_owned());
        }
        assert_eq!(letters, ["one", "two", "three"]);
    }
}

#[tokio::test]
async fn each_priority_has_a_head_of_its_own() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("q", Flags::default(), &[("x-max-priority", Value::I32(5))]).await;
    let of = |priority: u8, expiration: Option<&'static [u8]>| Properties {
        priority: Some(priority),
        expiration,
        ..persistent()
    };
    for (priority, expiration, body) in [
        (1, None, "low"),
        (5, Some(&b"60000"[..]), "high"),
        (1, Some(b"60000"), "behind low"),
        (5, None, "last"),
    ] {
        peer.publish_on(1, ("", "q"), of(priority, expiration), body.as_bytes()).await;
    }
    peer.sync().await;
    assert_eq!(peer.counts("q").await.0, 4);
    rig.pass(120_000);
    // The head of the high ones is gone.
    until_ready(&mut peer, "q", 3).await;
    assert_eq!(peer.get("q").await.unwrap().text(), "last");
    assert_eq!(peer.get("q").await.unwrap().text(), "low");
    assert_eq!(peer.get("q").await, None);
}

#[tokio::test]
async fn what_comes_back_after_its_time_expires_then() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("dead").await;
    peer.declare_with("q", Flags::default(), &dead_letters_to(b"dead")).await;
    peer.declare("like it").await;
    for queue in ["q", "like it"] {
        peer.publish_on(1, ("", queue), short_lived("60000"), b"x").await;
    }
    let message = peer.get("q").await.unwrap();
    rig.pass(120_000);
    until_ready(&mut peer, "like it", 0).await;
    assert_eq!(peer.counts("dead").await.0, 0, "somebody has it");
    peer.nack(message.tag, true).await;
    until_ready(&mut peer, "dead", 1).await;
    assert_eq!(peer.counts("q").await.0, 0);
}

#[tokio::test]
async fn expirations_are_refused_in_the_originals_words() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("q").await;
    for (text, why) in [
        ("abc", "no_integer"),
        ("-1", "{value_negative,-1}"),
        ("1s", "{leftover_string,\"s\"}"),
        ("", "no_integer"),
    ] {
        peer.publish_on(1, ("", "q"), short_lived(text), b"x").await;
        peer.expect_close(406, &format!("PRECONDITION_FAILED - invalid expiration '{text}': {why}")).await;
    }
}

#[tokio::test]
async fn a_queue_does_not_expire_while_it_is_asked_for() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let expires = ("x-expires", Value::I32(60_000));
    let id = |name: &str| {
        let all = rig.server.broker.all_streams();
        all.iter().find(|stream| &*stream.key().name == name).map(|stream| stream.id())
    };
    for name in ["declared", "asked", "got", "left alone"] {
        peer.declare_with(name, Flags::default(), &[expires]).await;
    }
    peer.declare_with("quorum", Flags::default(), &[expires, QUORUM]).await;
    peer.declare_with("consumed", Flags::default(), &[expires]).await;
    peer.consume("consumed", "t", false).await;
    let used = ["declared", "asked", "got", "consumed"];
    let (before, quorum) = (used.map(id), id("quorum"));
    for _ in 0..7 {
        rig.pass(20_000);
        peer.declare_with("declared", Flags::default(), &[expires]).await;
        peer.counts("asked").await;
        assert_eq!(peer.get("got").await, None);
        peer.ask_declare("quorum", Flags::default(), &[expires, QUORUM]).await;
        peer.method().await;
    }
    until("what is left alone goes", || id("left alone").is_none()).await;
    until("declaring it again gives a quorum queue no more time", || id("quorum") != quorum).await;
    assert_eq!(used.map(id), before);
    peer.send(1, Method::BasicCancel { consumer_tag: "t", nowait: false }).await;
    peer.expect("BasicCancelOk").await;
    rig.pass(120_000);
    until("queues that nobody uses go", || used.map(id) == [None; 4]).await;
}
