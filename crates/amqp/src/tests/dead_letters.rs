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
        ("x-message-ttl", Value::I32(20)),
    ];
    peer.declare_with("round", Flags::default(), &round).await;
    peer.publish(("", "round"), "a").await;
    peer.sync().await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(peer.counts("round").await.0, 0);
}
