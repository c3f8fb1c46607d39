//! Queues with a length.

use super::*;

#[tokio::test]
async fn a_length_counts_what_waits_and_not_what_is_out() {
    for kind in [b"classic", &b"quorum"[..]] {
        let rig = Rig::new();
        let mut peer = rig.connect().await;
        let arguments = [("x-max-length", Value::I32(2)), ("x-queue-type", Value::Text(kind))];
        peer.declare_with("q", Flags::default(), &arguments).await;
        for body in ["a", "b"] {
            peer.publish(("", "q"), body).await;
        }
        peer.sync().await;
        let (one, other) = (peer.get("q").await.unwrap(), peer.get("q").await.unwrap());
        for body in ["c", "d"] {
            peer.publish(("", "q"), body).await;
        }
        peer.sync().await;
        assert_eq!(peer.counts("q").await.0, 2, "nothing was too much");
        // What comes back is too much, and the oldest go.
        peer.nack(other.tag, true).await;
        peer.sync().await;
        for _ in 0..100 {
            if peer.counts("q").await.0 == 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_eq!(peer.get("q").await.unwrap().text(), "c");
        peer.ack(one.tag).await;
    }
}

#[tokio::test]
async fn messages_above_a_length_push_out_the_oldest_or_are_refused() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.confirm().await;
    peer.declare_with("head", Flags::default(), &[("x-max-length", Value::I32(2))]).await;
    for body in ["a", "b", "c"] {
        peer.publish(("", "head"), body).await;
        peer.expect("BasicAck").await;
    }
    assert_eq!(peer.get("head").await.unwrap().text(), "b");
    let refuses = [("x-max-length", Value::I32(2)), ("x-overflow", Value::Text(b"reject-publish"))];
    peer.declare_with("full", Flags::default(), &refuses).await;
    let mut answers = Vec::new();
    for body in ["a", "b", "c"] {
        peer.publish(("", "full"), body).await;
        answers.push(peer.method().await);
    }
    assert!(answers[1].starts_with("BasicAck") && answers[2].starts_with("BasicNack { delivery_tag: 6"));
    assert_eq!(peer.counts("full").await.0, 2);
}

/// Ten messages at once.
async fn burst(peer: &mut Peer, queue: &str, properties: Properties<'_>) {
    for body in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"] {
        peer.publish_on(1, ("", queue), properties, body.as_bytes()).await;
    }
}

/// The bodies of everything that waits, taken.
async fn drained(peer: &mut Peer, queue: &str) -> String {
    let mut all = String::new();
    while let Some(message) = peer.get(queue).await {
        all.push_str(message.text());
        peer.ack(message.tag).await;
    }
    all
}

const KINDS: [&[u8]; 2] = [b"classic", b"quorum"];

#[tokio::test]
async fn a_burst_that_nobody_takes_leaves_the_newest() {
    for sync_delay_ms in [0, 100] {
        let mut rig = Rig::new();
        rig.reopen(sync_delay_ms);
        let mut peer = rig.connect().await;
        for properties in [persistent(), Properties::default()] {
            for kind in KINDS {
                let name = format!("{}-{}", kind.escape_ascii(), properties.delivery_mode.is_some());
                let arguments = [("x-max-length", Value::I32(2)), ("x-queue-type", Value::Text(kind))];
                peer.declare_with(&name, Flags::default(), &arguments).await;
                burst(&mut peer, &name, properties).await;
                peer.sync().await;
                assert_eq!(drained(&mut peer, &name).await, "ij", "{name}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_waiting_consumer_takes_of_a_burst_does_not_count_for_the_length() {
    let mut rig = Rig::new();
    rig.reopen(100);
    let mut peer = rig.connect().await;
    peer.declare("dead").await;
    let to_dead: &[(&str, Value<'_>)] =
        &[("x-dead-letter-exchange", Value::Text(b"")), ("x-dead-letter-routing-key", Value::Text(b"dead"))];
    for kind in KINDS {
        for (properties, dead_letters) in
            [(persistent(), &[][..]), (Properties::default(), &[][..]), (persistent(), to_dead)]
        {
            let mut other = rig.connect().await;
            let own = [("x-max-length", Value::I32(2)), ("x-queue-type", Value::Text(kind))];
            other.declare_with("q", Flags::default(), &[&own[..], dead_letters].concat()).await;
            other.qos(3, false).await;
            other.consume("q", "t", false).await;
            burst(&mut peer, "q", properties).await;
            let taken: String = other.messages(3).await.iter().map(|one| one.text().to_owned()).collect();
            assert_eq!(taken, "abc");
            peer.sync().await;
            if !dead_letters.is_empty() {
                let mut dead = String::new();
                while dead.len() < 5 {
                    dead += &drained(&mut peer, "dead").await;
                }
                assert_eq!(dead, "defgh");
            }
            assert_eq!(drained(&mut peer, "q").await, "ij");
            let delete = Method::QueueDelete {
                ticket: 0,
                queue: "q",
                if_unused: false,
                if_empty: false,
                nowait: false,
            };
            peer.send(1, delete).await;
            peer.expect("QueueDeleteOk").await;
        }
    }
}

#[tokio::test]
async fn a_queue_that_refuses_takes_what_its_consumers_take() {
    let mut rig = Rig::new();
    rig.reopen(100);
    let mut peer = rig.connect().await;
    let arguments = [("x-max-length", Value::I32(2)), ("x-overflow", Value::Text(b"reject-publish"))];
    peer.declare_with("q", Flags::default(), &arguments).await;
    let mut other = rig.connect().await;
    other.qos(3, false).await;
    other.consume("q", "t", false).await;
    peer.confirm().await;
    burst(&mut peer, "q", persistent()).await;
    // In the order of the messages: whoever confirms many confirms none that is refused.
    let mut said = 0;
    while said < 10 {
        let answer = peer.method().await;
        let tag: u64 = answer.split(&[':', ','][..]).nth(1).unwrap().trim().parse().unwrap();
        assert!(tag == said + 1 || answer.contains("multiple: true"), "{answer} after {said}");
        assert_eq!(answer.starts_with("BasicNack"), tag > 5, "{answer}");
        said = tag;
    }
    assert_eq!(other.messages(3).await.len(), 3);
    assert_eq!(drained(&mut peer, "q").await, "de");
}

#[tokio::test]
async fn a_consumer_without_a_limit_takes_all_until_it_has_one() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let mut other = rig.connect().await;
    peer.declare_with("q", Flags::default(), &[("x-max-length", Value::I32(1))]).await;
    for no_ack in [true, false] {
        other.consume("q", "t", no_ack).await;
        burst(&mut peer, "q", Properties::default()).await;
        assert_eq!(other.messages(10).await.len(), 10);
        if no_ack {
            other.send(1, Method::BasicCancel { consumer_tag: "t", nowait: false }).await;
            other.expect("BasicCancelOk").await;
        }
    }
    other.qos(12, true).await;
    burst(&mut peer, "q", Properties::default()).await;
    assert_eq!(other.messages(2).await.len(), 2);
    peer.sync().await;
    assert_eq!(drained(&mut peer, "q").await, "j");
}

#[tokio::test]
async fn a_queue_of_no_length_has_what_is_taken_at_once() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("q", Flags::default(), &[("x-max-length", Value::I32(0))]).await;
    peer.confirm().await;
    for properties in [persistent(), Properties::default()] {
        peer.publish_on(1, ("", "q"), properties, b"nobody's").await;
        peer.expect("BasicAck").await;
        assert_eq!(peer.get("q").await, None);
    }
    let mut other = rig.connect().await;
    other.consume("q", "t", true).await;
    peer.publish(("", "q"), "somebody's").await;
    assert_eq!(other.message().await.text(), "somebody's");
}

#[tokio::test]
async fn a_queue_of_no_length_that_refuses_takes_nothing_whoever_waits() {
    let rig = Rig::new();
    let (mut peer, mut other) = (rig.connect().await, rig.connect().await);
    let arguments = [("x-max-length", Value::I32(0)), ("x-overflow", Value::Text(b"reject-publish"))];
    peer.declare_with("q", Flags::default(), &arguments).await;
    peer.confirm().await;
    other.consume("q", "t", true).await;
    peer.publish(("", "q"), "a").await;
    peer.expect("BasicNack").await;
}

#[tokio::test]
async fn a_length_in_bytes_counts_the_bodies_of_messages() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let headers = fields(&[("what takes room", Value::Text(&[b'x'; 200]))]);
    for delivery_mode in [1, 2] {
        let properties = Properties {
            headers: Some(table_of(&headers)),
            delivery_mode: Some(delivery_mode),
            ..persistent()
        };
        for (policy, left) in [("drop-head", "efghij"), ("reject-publish", "abcdef")] {
            let name = format!("{policy} {delivery_mode}");
            let arguments =
                [("x-max-length-bytes", Value::I32(650)), ("x-overflow", Value::Text(policy.as_bytes()))];
            peer.declare_with(&name, Flags::default(), &arguments).await;
            for letter in b'a'..=b'j' {
                peer.publish_on(1, ("", &name), properties, &[letter; 100]).await;
            }
            peer.sync().await;
            let bodies = drained(&mut peer, &name).await;
            let firsts: String = bodies.chars().step_by(100).collect();
            assert_eq!(firsts, left, "{name}");
        }
    }
}

#[tokio::test]
async fn a_consumer_that_does_not_read_takes_nothing_that_would_not_count() {
    for (no_ack, is_global) in [(true, false), (false, false), (false, true)] {
        let rig = Rig::new();
        let (mut peer, mut other) = (rig.connect().await, rig.connect().await);
        peer.declare_with("q", Flags::default(), &[("x-max-length", Value::I32(10))]).await;
        if is_global {
            other.qos(1_000, true).await;
        }
        other.consume("q", "t", no_ack).await;
        for number in 0..20 {
            peer.publish_on(1, ("", "q"), persistent(), &vec![b'a' + number; 1 << 20]).await;
        }
        peer.sync().await;
        until_ready(&mut peer, "q", 10).await;
        // It reads again, and takes the newest.
        while other.message().await.body[0] != b'a' + 19 {}
        burst(&mut peer, "q", Properties::default()).await;
        burst(&mut peer, "q", Properties::default()).await;
        assert_eq!(other.messages(20).await.len(), 20, "all count on it again");
    }
}

#[tokio::test]
async fn consumers_that_share_a_limit_are_counted_on_for_that_together() {
    let rig = Rig::new();
    let (mut peer, mut other) = (rig.connect().await, rig.connect().await);
    peer.declare_with("q", Flags::default(), &[("x-max-length", Value::I32(2))]).await;
    other.qos(4, true).await;
    for tag in ["one", "two"] {
        other.consume("q", tag, false).await;
    }
    burst(&mut peer, "q", persistent()).await;
    let taken: String = other.messages(4).await.iter().map(|one| one.text().to_owned()).collect();
    assert_eq!(taken.len(), 4);
    peer.sync().await;
    until_ready(&mut peer, "q", 2).await;
    assert_eq!(drained(&mut peer, "q").await, "ij");
}

/// Six messages whose headers take more than their bodies.
async fn with_long_headers(peer: &mut Peer, queue: &str) {
    let headers = fields(&[("what takes room", Value::Text(&[b'x'; 200]))]);
    for letter in b'a'..=b'f' {
        peer.publish_on(1, ("", queue), with_table(table_of(&headers)), &[letter; 100]).await;
        peer.expect("BasicAck").await;
    }
}

#[tokio::test]
async fn a_length_in_bytes_takes_nothing_away_at_a_restart() {
    let mut rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.confirm().await;
    let limits: [&[(&str, Value<'_>)]; 3] = [
        &[("x-max-length-bytes", Value::I32(650))],
        &[("x-max-length-bytes", Value::I32(650)), ("x-overflow", Value::Text(b"reject-publish"))],
        &[("x-max-length-bytes", Value::I32(650)), ("x-max-priority", Value::I32(3))],
    ];
    for (name, arguments) in ["0", "1", "2"].into_iter().zip(limits) {
        peer.declare_with(name, Flags::default(), arguments).await;
        with_long_headers(&mut peer, name).await;
    }
    // What has nothing beside its body was there before, and is gone.
    peer.declare_with("mixed", Flags::default(), limits[0]).await;
    for _ in 0..20 {
        peer.publish(("", "mixed"), "").await;
        peer.expect("BasicAck").await;
        let message = peer.get("mixed").await.unwrap();
        peer.ack(message.tag).await;
    }
    peer.sync().await;
    with_long_headers(&mut peer, "mixed").await;
    for _ in 0..2 {
        drop(peer);
        rig.reopen(0);
        peer = rig.connect().await;
        for name in ["0", "1", "2", "mixed"] {
            // The worker that takes away what is too much has looked by then, or takes nothing.
            tokio::time::sleep(QUIET).await;
            assert_eq!(peer.counts(name).await.0, 6, "{name}");
        }
    }
    peer.publish_on(1, ("", "0"), persistent(), &[b'g'; 100]).await;
    until_ready(&mut peer, "0", 6).await;
    assert!(drained(&mut peer, "0").await.starts_with('b'), "the limit is one still");
}

#[tokio::test]
async fn a_length_in_bytes_counts_the_bodies_of_dead_letters_too() {
    let mut rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.confirm().await;
    peer.declare_with("dead", Flags::default(), &[("x-max-length-bytes", Value::I32(650))]).await;
    let to_dead =
        [("x-dead-letter-exchange", Value::Text(b"")), ("x-dead-letter-routing-key", Value::Text(b"dead"))];
    peer.declare_with("q", Flags::default(), &to_dead).await;
    with_long_headers(&mut peer, "q").await;
    for _ in 0..6 {
        let message = peer.get("q").await.unwrap();
        peer.nack(message.tag, false).await;
    }
    until_ready(&mut peer, "dead", 6).await;
    drop(peer);
    rig.reopen(0);
    let mut peer = rig.connect().await;
    tokio::time::sleep(QUIET).await;
    assert_eq!(peer.counts("dead").await.0, 6);
}
