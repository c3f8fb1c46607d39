use broker::{MoveSpec, MoveState};
use model::{Namespace, StreamKey};

use super::*;

/// A queue `work` whose dead letters go through exchange `dlx` to the queue `dead`.
async fn letters(peer: &mut Peer, more: &[(&str, Value<'_>)]) {
    peer.exchange("dlx", "direct", &[]).await;
    peer.declare("dead").await;
    peer.bind("dead", "dlx", "orders.dead", &[]).await;
    let own = [
        ("x-dead-letter-exchange", Value::Text(b"dlx")),
        ("x-dead-letter-routing-key", Value::Text(b"orders.dead")),
    ];
    peer.declare_with("work", Flags::default(), &[&own[..], more].concat()).await;
}

async fn dead(peer: &mut Peer) -> Seen {
    for _ in 0..200 {
        if let Some(message) = peer.get("dead").await {
            return message;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no dead letter came")
}

#[tokio::test]
async fn a_rejected_message_goes_to_the_dead_letters_and_says_what_happened() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    letters(&mut peer, &[]).await;
    peer.publish(("", "work"), "a").await;
    let message = peer.get("work").await.unwrap();
    peer.nack(message.tag, false).await;
    let letter = dead(&mut peer).await;
    assert_eq!((letter.text(), letter.exchange.as_str()), ("a", "dlx"));
    assert_eq!((&letter.routing_key[..], letter.redelivered), (&b"orders.dead"[..], false));
    let properties = Properties::read(&letter.properties).unwrap();
    let headers = properties.headers.unwrap();
    let Some(Value::Array(deaths)) = headers.get("x-death") else { panic!("no x-death") };
    let deaths: Vec<_> = deaths.values().collect();
    let [Value::Table(death)] = deaths[..] else { panic!("{deaths:?}") };
    assert_eq!(death.get("count"), Some(Value::I64(1)));
    assert_eq!(death.get("reason"), Some(Value::Text(b"rejected")));
    assert_eq!(death.get("queue"), Some(Value::Text(b"work")));
    assert_eq!(death.get("exchange"), Some(Value::Text(b"")));
    assert!(matches!(death.get("time"), Some(Value::Time(1..))));
    let Some(Value::Array(keys)) = death.get("routing-keys") else { panic!("no keys") };
    assert_eq!(keys.values().collect::<Vec<_>>(), [Value::Text(b"work")]);
    for (name, value) in [
        ("x-first-death-queue", "work"),
        ("x-first-death-reason", "rejected"),
        ("x-first-death-exchange", ""),
        ("x-last-death-reason", "rejected"),
    ] {
        assert_eq!(headers.get(name), Some(Value::Text(value.as_bytes())), "{name}");
    }
    assert_eq!(peer.counts("work").await.0, 0);
}

#[tokio::test]
async fn expired_messages_and_those_above_the_length_die_too() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    letters(&mut peer, &[("x-max-length", Value::I32(1))]).await;
    peer.publish(("", "work"), "first").await;
    peer.publish(("", "work"), "second").await;
    let letter = dead(&mut peer).await;
    assert_eq!(letter.text(), "first");
    assert_eq!(letter.header("x-first-death-reason").unwrap(), format!("{:?}", Value::Text(b"maxlen")));
    let short = Properties { expiration: Some(b"30"), ..persistent() };
    peer.publish_on(1, ("", "work"), short, b"third").await;
    assert_eq!(dead(&mut peer).await.text(), "second");
    let letter = dead(&mut peer).await;
    assert_eq!(letter.text(), "third");
    let properties = Properties::read(&letter.properties).unwrap();
    assert_eq!(properties.expiration, None);
    let Some(Value::Array(deaths)) = properties.headers.unwrap().get("x-death") else { panic!("no deaths") };
    let Some(Value::Table(death)) = deaths.values().next() else { panic!("no death") };
    assert_eq!(death.get("reason"), Some(Value::Text(b"expired")));
    assert_eq!(death.get("original-expiration"), Some(Value::Text(b"30")));
}

#[tokio::test]
async fn a_retry_ladder_counts_its_rounds() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let back_to_work =
        [("x-dead-letter-exchange", Value::Text(b"")), ("x-dead-letter-routing-key", Value::Text(b"work"))];
    let wait = [&back_to_work[..], &[("x-message-ttl", Value::I32(30))]].concat();
    peer.declare_with("wait", Flags::default(), &wait).await;
    let to_wait =
        [("x-dead-letter-exchange", Value::Text(b"")), ("x-dead-letter-routing-key", Value::Text(b"wait"))];
    peer.declare_with("work", Flags::default(), &to_wait).await;
    peer.consume("work", "t", false).await;
    peer.publish(("", "work"), "a").await;
    for round in 1..=3 {
        let message = peer.message().await;
        let properties = Properties::read(&message.properties).unwrap();
        let deaths = properties.headers.and_then(|headers| headers.get("x-death"));
        match (round, deaths) {
            (1, None) => {}
            (_, Some(Value::Array(deaths))) => {
                let counts: Vec<_> = deaths
                    .values()
                    .map(|death| match death {
                        Value::Table(death) => death.get("count").and_then(Value::integer).unwrap(),
                        other => panic!("{other:?}"),
                    })
                    .collect();
                assert_eq!(counts, [round - 1, round - 1], "round {round}");
            }
            other => panic!("{other:?}"),
        }
        peer.nack(message.tag, false).await;
    }
}

#[tokio::test]
async fn a_message_that_would_go_round_for_ever_is_dropped() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let round = [
        ("x-dead-letter-exchange", Value::Text(b"")),
        ("x-dead-letter-routing-key", Value::Text(b"round")),
        ("x-message-ttl", Value::I32(60_000)),
    ];
    peer.declare_with("round", Flags::default(), &round).await;
    peer.publish(("", "round"), "a").await;
    until_ready(&mut peer, "round", 1).await;
    rig.pass(120_000);
    until_ready(&mut peer, "round", 0).await;
}

/// Moves everything from one queue to another, as people do.
async fn move_all(rig: &Rig, from: &str, to: &str) {
    let key = |name: &str| StreamKey::queue(&Namespace::default(), name);
    let broker = &rig.server.broker;
    let id = broker.start_move(MoveSpec::all(key(from), Some(key(to)))).await.unwrap().id;
    for _ in 0..2_000 {
        if broker.move_task(id).unwrap().state == MoveState::Completed {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?}", broker.move_task(id));
}

#[tokio::test]
async fn messages_that_are_moved_keep_their_exchange_and_all_properties() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.exchange("e", "direct", &[]).await;
    for queue in ["q", "other"] {
        peer.declare(queue).await;
    }
    peer.bind("q", "e", "k", &[]).await;
    let headers = fields(&[("short", Value::I32(7)), ("bytes", Value::Bytes(b"x"))]);
    let properties = Properties {
        content_type: Some(b"text/plain"),
        content_encoding: Some(b"gzip"),
        headers: Some(table_of(&headers)),
        priority: Some(3),
        correlation_id: Some(b"c"),
        expiration: Some(b"3600000"),
        timestamp: Some(12_345),
        app_id: Some(b"app"),
        cluster_id: Some(b"cluster"),
        ..persistent()
    };
    let mut raw = Vec::new();
    properties.write(&mut raw);
    peer.send(1, Method::TxSelect {}).await;
    peer.expect("TxSelectOk").await;
    for body in ["a", "b", "c"] {
        peer.publish_on(1, ("e", "k"), properties, body.as_bytes()).await;
    }
    peer.send(1, Method::TxCommit {}).await;
    peer.expect("TxCommitOk").await;
    move_all(&rig, "q", "other").await;
    for body in ["a", "b", "c"] {
        let message = peer.get("other").await.unwrap();
        assert_eq!((message.text(), message.exchange.as_str()), (body, "e"));
        assert_eq!((&message.routing_key[..], message.properties), (&b"k"[..], raw.clone()));
    }
}

#[tokio::test]
async fn dead_letters_that_are_moved_back_come_in_the_order_of_their_levels() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("dead").await;
    let arguments = [
        ("x-max-priority", Value::I32(5)),
        ("x-dead-letter-exchange", Value::Text(b"")),
        ("x-dead-letter-routing-key", Value::Text(b"dead")),
    ];
    peer.declare_with("work", Flags::default(), &arguments).await;
    for (body, level) in [("low", 1), ("high", 4)] {
        let properties = Properties { priority: Some(level), ..persistent() };
        peer.publish_on(1, ("", "work"), properties, body.as_bytes()).await;
        let message = peer.first("work").await;
        peer.nack(message.tag, false).await;
    }
    until_ready(&mut peer, "dead", 2).await;
    move_all(&rig, "dead", "work").await;
    assert_eq!(peer.first("work").await.text(), "high");
}
