//! What ends by itself, what is for ever, what is closed.

use std::time::Duration;

use super::*;

/// Waits until a stream's messages, first and last sequence are as wanted.
pub(super) async fn settles(asker: &mut Asker, name: &str, wanted: [u64; 3]) {
    let began = tokio::time::Instant::now();
    loop {
        let state = asker.state(name).await;
        if state == wanted {
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "{state:?} instead of {wanted:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn message(asker: &mut Asker, name: &str, seq: u64) -> (String, String) {
    let got = asker.ask(&format!("$JS.API.DIRECT.GET.{name}"), &format!("{{\"seq\":{seq}}}")).await;
    assert!(!got.0.contains("404"), "{seq}: {got:?}");
    got
}

#[tokio::test]
async fn a_marker_is_left_where_the_last_message_of_a_subject_ended_and_goes_in_its_turn() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    let config = json!({"name": "S", "subjects": ["a.*"], "allow_direct": true, "max_msgs_per_subject": 1,
        "subject_delete_marker_ttl": 1_000_000_000_i64});
    let made = asker.api("STREAM.CREATE.S", config).await;
    let config = &made["config"];
    assert_eq!(
        (&config["allow_msg_ttl"], &config["allow_rollup_hdrs"]),
        (&json!(true), &json!(true)),
        "{made}"
    );
    asker.publish("a.x", &[("Nats-TTL", "1")], "x").await;
    asker.publish("a.y", &[], "stays").await;
    asker.publish("a.z", &[("Nats-TTL", "1"), ("KV-Operation", "PURGE")], "").await;
    settles(&mut asker, "S", [2, 2, 4]).await;
    let (headers, body) = message(&mut asker, "S", 4).await;
    assert!(
        headers.starts_with("NATS/1.0\r\nNats-Marker-Reason: MaxAge\r\nNats-TTL: 1s\r\nNats-Rollup: sub\r\n"),
        "{headers:?}"
    );
    assert!(headers.contains("Nats-Subject: a.x\r\n") && body.is_empty(), "{headers:?}");
    settles(&mut asker, "S", [1, 2, 4]).await;
}

#[tokio::test]
async fn a_marker_is_published_again_as_every_message_of_its_stream() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    let config = json!({"name": "S", "subjects": ["a.*"], "republish": {"src": "a.*", "dest": "r.$1"},
        "max_msgs_per_subject": 1, "subject_delete_marker_ttl": 60_000_000_000_i64});
    asker.create(config).await;
    let mut listener = Asker { peer: rig.client().await };
    listener.peer.send("SUB r.* 7\r\n").await;
    listener.peer.sync().await;
    asker.publish("a.x", &[("Nats-TTL", "1")], "x").await;
    let (_, body) = listener.answer().await;
    assert_eq!(body, "x");
    settles(&mut asker, "S", [1, 2, 2]).await;
    let (headers, body) = listener.answer().await;
    assert!(headers.contains("Nats-Marker-Reason: MaxAge\r\n") && body.is_empty(), "{headers:?}");
    for line in ["Nats-Stream: S", "Nats-Subject: a.x", "Nats-Sequence: 2", "Nats-Last-Sequence: 1"] {
        assert!(headers.contains(&format!("{line}\r\n")), "{line}: {headers:?}");
    }
}

#[tokio::test]
async fn no_marker_is_left_where_messages_of_the_subject_are() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker
        .create(json!({"name": "S", "subjects": ["a.*"], "subject_delete_marker_ttl": 1_000_000_000_i64}))
        .await;
    asker.publish("a.x", &[], "first").await;
    asker.publish("a.x", &[("Nats-TTL", "1")], "second").await;
    settles(&mut asker, "S", [1, 1, 2]).await;
}

#[tokio::test]
async fn what_is_too_old_leaves_a_marker_and_what_is_never_to_end_stays() {
    let mut rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    let config = json!({"name": "M", "subjects": ["m.*"], "max_age": 60_000_000_000_i64,
        "subject_delete_marker_ttl": 600_000_000_000_i64, "allow_direct": true});
    asker.create(config).await;
    let config =
        json!({"name": "S", "subjects": ["a.*"], "max_age": 60_000_000_000_i64, "allow_msg_ttl": true});
    asker.create(config).await;
    for n in 0..3 {
        asker.put(&format!("m.{}", n % 2)).await;
        asker.put("a.x").await;
        asker.publish("a.x", &[("Nats-TTL", "never")], &n.to_string()).await;
    }
    rig.pass(120_000);
    // What is left in place of old messages comes with the broker's own look at them.
    let stream = rig.stream("M");
    rig.broker().retain(&stream);
    settles(&mut asker, "M", [2, 4, 5]).await;
    let (headers, _) = message(&mut asker, "M", 4).await;
    assert!(headers.contains("Nats-Subject: m.1\r\n"), "{headers}");
    settles(&mut asker, "S", [3, 2, 6]).await;
    rig.reopen(0);
    let mut asker = Asker::new(&rig).await;
    assert_eq!(asker.state("M").await, [2, 4, 5]);
    rig.pass(120_000);
    assert_eq!(asker.state("S").await, [3, 2, 6]);
    asker.api("STREAM.PURGE.S", json!({"keep": 1})).await;
    assert_eq!(asker.state("S").await, [1, 6, 6]);
}

#[tokio::test]
async fn a_sealed_stream_takes_nothing_and_gives_nothing_away() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a"], "max_age": 60_000_000_000_i64})).await;
    asker.put("a").await;
    let sealed = json!({"name": "S", "subjects": ["a"], "sealed": true});
    assert_eq!(err_code(&asker.api("STREAM.CREATE.T", json!({"name": "T", "sealed": true})).await), 10_052);
    let changed = asker.api("STREAM.UPDATE.S", sealed.clone()).await;
    let config = &changed["config"];
    assert_eq!(
        (&config["sealed"], &config["max_age"], &config["discard"]),
        (&json!(true), &json!(0), &json!("new"))
    );
    assert_eq!((&config["deny_delete"], &config["deny_purge"]), (&json!(true), &json!(true)));
    let answer = asker.put("a").await;
    assert_eq!(answer["error"]["description"], "invalid operation on sealed stream", "{answer}");
    for (subject, body, expected) in [
        ("STREAM.PURGE.S", Value::Null, 10_109),
        ("STREAM.MSG.DELETE.S", json!({"seq": 1}), 10_109),
        ("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["a"]}), 10_052),
        ("STREAM.UPDATE.S", sealed, 10_052),
    ] {
        let answer = asker.api(subject, body).await;
        assert_eq!(err_code(&answer), expected, "{subject}: {answer}");
    }
    assert_eq!(asker.state("S").await, [1, 1, 1]);
}

#[tokio::test]
async fn a_stream_begins_at_the_sequence_that_is_asked_for() {
    let mut rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a"], "first_seq": 100})).await;
    assert_eq!(asker.state("S").await, [0, 100, 99]);
    assert_eq!(asker.put("a").await["seq"], 100);
    rig.reopen(0);
    let mut asker = Asker::new(&rig).await;
    assert_eq!(asker.put("a").await["seq"], 101);
    assert_eq!(asker.state("S").await, [2, 100, 101]);
}

#[tokio::test]
async fn replicas_are_a_number_where_that_is_accepted_and_placement_means_nothing() {
    let rig = Rig::with(crate::Options { accepts_replicas: true, ..crate::Options::default() });
    let mut asker = Asker::new(&rig).await;
    let config = json!({"name": "S", "num_replicas": 3, "placement": {"cluster": "c", "tags": ["t"]}});
    let made = asker.api("STREAM.CREATE.S", config).await;
    assert_eq!(made["config"]["num_replicas"], 3, "{made}");
    assert_eq!(made["config"]["placement"]["cluster"], "c");
    let asked = json!({"stream_name": "S", "config": {"durable_name": "c", "num_replicas": 3}});
    assert_eq!(asker.api("CONSUMER.CREATE.S.c", asked).await["config"]["num_replicas"], 3);
    let asked = json!({"stream_name": "S", "config": {"durable_name": "d", "num_replicas": 5}});
    assert_eq!(err_code(&asker.api("CONSUMER.CREATE.S.d", asked).await), 10_126);
    let empty = asker.api("STREAM.CREATE.T", json!({"name": "T", "placement": {}})).await;
    assert!(empty["config"].get("placement").is_none(), "{empty}");
    let preferred = json!({"name": "U", "placement": {"preferred": "n1"}});
    assert_eq!(err_code(&asker.api("STREAM.CREATE.U", preferred).await), 10_052);
}
