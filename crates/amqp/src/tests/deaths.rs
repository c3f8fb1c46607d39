//! What dead letters say of themselves, and where they go.

use super::*;

/// Exchange and routing key of a queue's dead letters.
fn to(exchange: &'static [u8], key: Option<&'static [u8]>) -> Vec<(&'static str, Value<'static>)> {
    let mut all = vec![("x-dead-letter-exchange", Value::Text(exchange))];
    all.extend(key.map(|key| ("x-dead-letter-routing-key", Value::Text(key))));
    all
}

/// An entry of `x-death`, as text: what, where, why, how often.
#[derive(Debug, PartialEq, Eq)]
struct Death {
    queue: String,
    reason: String,
    count: i64,
    exchange: String,
    keys: Vec<String>,
    time: u64,
}

fn text(value: Option<Value<'_>>) -> String {
    value.and_then(Value::text).unwrap_or_default().to_owned()
}

fn deaths(message: &Seen) -> Vec<Death> {
    let properties = Properties::read(&message.properties).unwrap();
    let Some(Value::Array(all)) = properties.headers.and_then(|headers| headers.get("x-death")) else {
        return Vec::new();
    };
    let read = |value| {
        let Value::Table(fields) = value else { panic!("{value:?}") };
        let Some(Value::Array(keys)) = fields.get("routing-keys") else { panic!("no keys") };
        let Some(Value::Time(time)) = fields.get("time") else { panic!("no time") };
        Death {
            queue: text(fields.get("queue")),
            reason: text(fields.get("reason")),
            count: fields.get("count").and_then(Value::integer).unwrap(),
            exchange: text(fields.get("exchange")),
            keys: keys.values().map(|key| text(Some(key))).collect(),
            time,
        }
    };
    all.values().map(read).collect()
}

/// The headers that begin with `x-first-death-` or `x-last-death-`: reason, queue, exchange.
fn place(message: &Seen, place: &str) -> [String; 3] {
    let properties = Properties::read(&message.properties).unwrap();
    let headers = properties.headers.unwrap();
    ["reason", "queue", "exchange"].map(|what| text(headers.get(&format!("x-{place}-death-{what}"))))
}

#[tokio::test]
async fn a_second_death_for_the_same_reason_bumps_the_count_and_keeps_the_rest() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.exchange("events", "topic", &[]).await;
    peer.declare_with("work", Flags::default(), &to(b"", Some(b"wait"))).await;
    let wait = [&to(b"", Some(b"work"))[..], &[("x-message-ttl", Value::I32(1_100))]].concat();
    peer.declare_with("wait", Flags::default(), &wait).await;
    peer.bind("work", "events", "order.#", &[]).await;
    peer.publish(("events", "order.created"), "x").await;
    let message = peer.first("work").await;
    peer.nack(message.tag, false).await;
    let message = peer.first("work").await;
    let before = deaths(&message);
    peer.nack(message.tag, false).await;
    let message = peer.first("wait").await;
    let (all, own) = (deaths(&message), before.iter().find(|death| death.queue == "work").unwrap());
    let [work, waited] = &all[..] else { panic!("{all:?}") };
    assert_eq!((work.count, own.count), (2, 1));
    assert_eq!((work.exchange.as_str(), &work.keys[..]), ("events", &["order.created".to_owned()][..]));
    assert_eq!(work.time, own.time, "when it happened first");
    assert_eq!((waited.queue.as_str(), waited.reason.as_str(), waited.count), ("wait", "expired", 1));
    assert_eq!(place(&message, "first"), ["rejected", "work", "events"]);
    assert_eq!(place(&message, "last"), ["rejected", "work", ""]);
}

#[tokio::test]
async fn a_rejection_breaks_a_circle_and_time_alone_does_not() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("round", Flags::default(), &to(b"", Some(b"round"))).await;
    peer.publish_on(1, ("", "round"), Properties { expiration: Some(b"60000"), ..persistent() }, b"x").await;
    peer.sync().await;
    for count in 0..3 {
        let message = peer.first("round").await;
        let all = deaths(&message);
        assert_eq!(all.iter().map(|death| death.count).sum::<i64>(), count);
        assert_eq!(Properties::read(&message.properties).unwrap().expiration.is_some(), count == 0);
        peer.nack(message.tag, false).await;
    }
    // Rejected once on its way, and from there on round by time.
    let short = |key| [&to(b"", Some(key))[..], &[("x-message-ttl", Value::I32(60_000))]].concat();
    peer.declare_with("start", Flags::default(), &to(b"", Some(b"a"))).await;
    peer.declare_with("a", Flags::default(), &short(b"b")).await;
    peer.declare_with("b", Flags::default(), &short(b"a")).await;
    peer.publish(("", "start"), "y").await;
    let message = peer.first("start").await;
    peer.nack(message.tag, false).await;
    until_ready(&mut peer, "a", 1).await;
    rig.pass(120_000);
    until_ready(&mut peer, "b", 1).await;
    rig.pass(120_000);
    until_ready(&mut peer, "b", 0).await;
    assert_eq!(peer.counts("a").await.0, 0, "it went round");
}

#[tokio::test]
async fn further_keys_go_with_a_dead_letter_unless_its_queue_has_a_key() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.exchange("dlx", "direct", &[]).await;
    for (queue, key) in [("by key", "plain"), ("by cc", "copied"), ("by own", "own")] {
        peer.declare(queue).await;
        peer.bind(queue, "dlx", key, &[]).await;
    }
    peer.declare_with("plain", Flags::default(), &to(b"dlx", None)).await;
    peer.declare_with("owned", Flags::default(), &to(b"dlx", Some(b"own"))).await;
    let keys = |name: &str, key: &'static [u8]| {
        let mut headers = TableWriter::default();
        headers.array(name, [Value::Text(key)].into_iter());
        headers
    };
    let mut headers = keys("CC", b"copied");
    headers.array("BCC", [Value::Text(b"hidden")].into_iter());
    let headers = headers.finish();
    peer.publish_on(1, ("", "plain"), with_table(table_of(&headers)), b"x").await;
    peer.publish_on(1, ("", "owned"), with_table(table_of(&headers)), b"y").await;
    for queue in ["plain", "owned"] {
        let message = peer.first(queue).await;
        peer.nack(message.tag, false).await;
    }
    for (queue, body) in [("by key", "x"), ("by cc", "x"), ("by own", "y")] {
        let letter = peer.first(queue).await;
        assert_eq!(letter.text(), body, "{queue}");
        assert!(letter.header("CC").is_some() && letter.header("BCC").is_none(), "{queue}");
        let own = if body == "x" { "plain" } else { "owned" };
        assert_eq!(deaths(&letter)[0].keys, [own, "copied"], "{queue}");
        assert_eq!(peer.get(queue).await, None);
    }
}

#[tokio::test]
async fn a_key_that_a_queue_gave_takes_the_place_of_all_others_for_good() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    for exchange in ["one", "two"] {
        peer.exchange(exchange, "direct", &[]).await;
    }
    peer.declare_with("work", Flags::default(), &to(b"one", Some(b"own"))).await;
    peer.declare_with("between", Flags::default(), &to(b"two", None)).await;
    peer.bind("between", "one", "own", &[]).await;
    for (queue, key) in [("right", "own"), ("wrong", "copied")] {
        peer.declare(queue).await;
        peer.bind(queue, "two", key, &[]).await;
    }
    let mut headers = TableWriter::default();
    headers.array("CC", [Value::Text(b"copied")].into_iter());
    let headers = headers.finish();
    peer.publish_on(1, ("", "work"), with_table(table_of(&headers)), b"x").await;
    for queue in ["work", "between"] {
        let message = peer.first(queue).await;
        peer.nack(message.tag, false).await;
    }
    let letter = peer.first("right").await;
    assert_eq!(
        deaths(&letter).iter().map(|death| death.keys.clone()).collect::<Vec<_>>(),
        [vec!["own".to_owned()], vec!["work".to_owned(), "copied".to_owned()]]
    );
    assert_eq!(peer.get("wrong").await, None);
}

#[tokio::test]
async fn what_a_client_says_of_deaths_does_not_count() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("dead").await;
    peer.declare_with("work", Flags::default(), &to(b"", Some(b"dead"))).await;
    let mut death = TableWriter::default();
    death
        .field("count", Value::I64(7))
        .field("queue", Value::Text(b"work"))
        .field("reason", Value::Text(b"rejected"));
    let death = death.finish();
    let mut headers = TableWriter::default();
    headers
        .array("x-death", [Value::Table(table_of(&death))].into_iter())
        .field("x-first-death-queue", Value::Text(b"elsewhere"));
    let headers = headers.finish();
    peer.publish_on(1, ("", "work"), with_table(table_of(&headers)), b"x").await;
    let message = peer.first("work").await;
    peer.nack(message.tag, false).await;
    let letter = peer.first("dead").await;
    assert_eq!(deaths(&letter).iter().map(|death| death.count).collect::<Vec<_>>(), [1]);
    assert_eq!(place(&letter, "first"), ["rejected", "work", ""]);
}

#[tokio::test]
async fn a_message_that_failed_too_often_says_so_where_it_goes() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("dead").await;
    let quorum = [("x-queue-type", Value::Text(b"quorum")), ("x-delivery-limit", Value::I32(1))];
    peer.declare_with("work", Flags::default(), &[&quorum[..], &to(b"", Some(b"dead"))].concat()).await;
    peer.publish(("", "work"), "x").await;
    peer.consume("work", "t", false).await;
    for _ in 0..2 {
        let message = peer.message().await;
        peer.send(1, Method::BasicReject { delivery_tag: message.tag, requeue: true }).await;
    }
    let letter = peer.first("dead").await;
    assert_eq!(place(&letter, "first"), ["delivery_limit", "work", ""]);
    assert_eq!((deaths(&letter)[0].reason.as_str(), deaths(&letter)[0].count), ("delivery_limit", 1));
    assert_eq!(letter.header("x-delivery-count"), None);
}

#[tokio::test]
async fn what_is_too_long_in_bytes_leaves_at_the_head_and_a_refusal_leaves_nothing() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare("dead").await;
    let limit = ("x-max-length-bytes", Value::I32(2_500));
    let full = [&[limit], &to(b"", Some(b"dead"))[..]].concat();
    peer.declare_with("head", Flags::default(), &full).await;
    let body = "x".repeat(1_000);
    for n in 0..4 {
        peer.publish(("", "head"), &format!("{n}{body}")).await;
    }
    let letters = [peer.first("dead").await, peer.first("dead").await];
    assert!(letters[0].text().starts_with('0') && letters[1].text().starts_with('1'));
    assert_eq!(deaths(&letters[0])[0].reason, "maxlen");
    assert_eq!(peer.counts("head").await.0, 2);
    peer.confirm().await;
    let refuses = [&full[..], &[("x-overflow", Value::Text(b"reject-publish"))]].concat();
    peer.declare_with("refuses", Flags::default(), &refuses).await;
    for (number, answer) in [(1, "BasicAck"), (2, "BasicAck"), (3, "BasicNack")] {
        peer.publish(("", "refuses"), &format!("{number}{body}")).await;
        peer.expect(answer).await;
    }
    assert_eq!(peer.get("dead").await, None);
    // Without confirms nobody is told.
    let mut plain = rig.connect().await;
    plain.publish(("", "refuses"), &body).await;
    plain.sync().await;
    assert_eq!(plain.counts("refuses").await.0, 2);
}

#[tokio::test]
async fn the_dead_letters_of_priorities_keep_theirs() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    let levels = ("x-max-priority", Value::I32(9));
    peer.declare_with("dead", Flags::default(), &[levels]).await;
    let own = [&[levels], &to(b"", Some(b"dead"))[..]].concat();
    peer.declare_with("work", Flags::default(), &own).await;
    for (priority, body) in [(1, "low"), (7, "high")] {
        let properties = Properties { priority: Some(priority), ..persistent() };
        peer.publish_on(1, ("", "work"), properties, body.as_bytes()).await;
    }
    peer.sync().await;
    for body in ["high", "low"] {
        let message = peer.get("work").await.unwrap();
        assert_eq!(message.text(), body);
    }
    peer.send(1, Method::BasicNack { delivery_tag: 0, multiple: true, requeue: false }).await;
    peer.sync().await;
    for (priority, body) in [(7, "high"), (1, "low")] {
        let letter = peer.first("dead").await;
        let own = Properties::read(&letter.properties).unwrap().priority;
        assert_eq!((letter.text(), own), (body, Some(priority)));
    }
}

#[tokio::test]
async fn a_dead_letter_for_which_nobody_is_there_is_gone_and_an_alternate_exchange_takes_it() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.declare_with("work", Flags::default(), &to(b"dlx", None)).await;
    peer.publish(("", "work"), "lost").await;
    let message = peer.first("work").await;
    peer.nack(message.tag, false).await;
    peer.sync().await;
    assert_eq!(peer.counts("work").await.0, 0);
    peer.exchange("rest", "fanout", &[]).await;
    peer.exchange("dlx", "direct", &[("alternate-exchange", Value::Text(b"rest"))]).await;
    peer.declare("kept").await;
    peer.bind("kept", "rest", "", &[]).await;
    peer.publish(("", "work"), "kept").await;
    let message = peer.first("work").await;
    peer.nack(message.tag, false).await;
    let letter = peer.first("kept").await;
    assert_eq!((letter.text(), letter.exchange.as_str()), ("kept", "dlx"));
}

#[tokio::test]
async fn letters_that_have_to_arrive_go_where_a_queue_is_bound_and_no_others_wait() {
    let rig = Rig::new();
    let mut peer = rig.connect().await;
    peer.exchange("dlx", "direct", &[]).await;
    peer.declare("dead").await;
    peer.bind("dead", "dlx", "work", &[]).await;
    let own = [
        ("x-queue-type", Value::Text(b"quorum")),
        ("x-overflow", Value::Text(b"reject-publish")),
        ("x-dead-letter-strategy", Value::Text(b"at-least-once")),
    ];
    peer.declare_with("work", Flags::default(), &[&own[..], &to(b"dlx", None)].concat()).await;
    peer.publish(("", "work"), "x").await;
    let message = peer.first("work").await;
    peer.nack(message.tag, false).await;
    let letter = peer.first("dead").await;
    assert_eq!((letter.text(), &deaths(&letter)[0].reason[..]), ("x", "rejected"));
    // A quorum queue takes the policy that only classic ones have, and obeys it.
    let both = [own[0], ("x-overflow", Value::Text(b"reject-publish-dlx"))];
    peer.declare_with("lenient", Flags::default(), &both).await;
}
