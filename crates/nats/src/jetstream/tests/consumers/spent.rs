//! What is delivered too often, what acknowledgements tell, what filters are.

use super::*;

#[tokio::test]
async fn what_was_delivered_as_often_as_it_may_stays_in_a_work_queue() {
    let mut rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a.*"], "retention": "workqueue"})).await;
    asker.put("a.0").await;
    let config = json!({"durable_name": "c", "ack_policy": "explicit", "max_deliver": 1,
        "ack_wait": 100_000_000, "max_ack_pending": 1});
    assert_eq!(err_code(&asker.consumer(config).await), 0);
    asker.next("c", "1").await;
    let spent = asker.got().await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    asker.next("c", r#"{"no_wait":true}"#).await;
    assert_eq!(asker.status().await, "404 No Messages");
    asker.put("a.1").await;
    asker.next("c", r#"{"expires":5000000000}"#).await;
    let next = asker.got().await;
    assert_eq!(next.subject, "a.1", "what is spent is in nobody's way");
    asker.ack(&next, "").await;
    assert_eq!(asker.state("S").await, [1, 1, 2]);
    rig.reopen(0);
    let mut asker = Asker::new(&rig).await;
    assert_eq!(asker.state("S").await, [1, 1, 2]);
    let info = asker.api("CONSUMER.INFO.S.c", Value::Null).await;
    assert_eq!((&info["num_ack_pending"], &info["num_pending"]), (&json!(0), &json!(0)), "{info}");
    asker.next("c", r#"{"no_wait":true}"#).await;
    assert_eq!(asker.status().await, "404 No Messages");
    asker.ack(&spent, "").await;
    assert_eq!(asker.state("S").await[0], 0, "it may still be acknowledged");
}

#[tokio::test]
async fn a_first_message_that_is_gone_is_not_waited_for() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.stream(3).await;
    let config = json!({"durable_name": "c", "ack_policy": "explicit", "deliver_policy": "last_per_subject",
        "filter_subject": "a.*"});
    let made = asker.consumer(config).await;
    assert_eq!(made["num_pending"], 3, "{made}");
    asker.api("STREAM.PURGE.S", json!({"filter": "a.1"})).await;
    assert_eq!(asker.api("CONSUMER.INFO.S.c", Value::Null).await["num_pending"], 2);
    asker.next("c", "2").await;
    assert_eq!((asker.got().await.subject, asker.got().await.subject), ("a.0".to_owned(), "a.2".to_owned()));
    assert_eq!(asker.api("CONSUMER.INFO.S.c", Value::Null).await["num_pending"], 0);
}

#[tokio::test]
async fn what_a_stream_publishes_again_is_taken_by_other_streams() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker
        .create(json!({"name": "A", "subjects": ["a.*"], "republish": {"src": "a.*", "dest": "b.$1"}}))
        .await;
    asker
        .create(json!({"name": "B", "subjects": ["b.*"], "republish": {"src": "b.*", "dest": "c.$1"}}))
        .await;
    asker
        .create(json!({"name": "C", "subjects": ["c.*"], "republish": {"src": "c.*", "dest": "d.$1"}}))
        .await;
    let mut listener = Asker { peer: rig.client().await };
    listener.peer.send("SUB d.* 7\r\n").await;
    listener.peer.sync().await;
    asker.put("a.x").await;
    assert_eq!(
        (asker.state("B").await, asker.state("C").await),
        ([1, 1, 1], [1, 1, 1]),
        "once it is acknowledged"
    );
    let got = listener.got().await;
    assert_eq!((got.subject.as_str(), got.body.as_str()), ("d.x", "x"));
    assert!(got.headers.contains("Nats-Stream: C\r\n"), "{}", got.headers);
}

#[tokio::test]
async fn an_acknowledgement_is_measured_where_that_is_asked_for() {
    let rig = Rig::new();
    let mut listener = Asker { peer: rig.client().await };
    listener.peer.send("SUB $JS.EVENT.METRIC.> 7\r\n").await;
    listener.peer.sync().await;
    let mut asker = Asker::new(&rig).await;
    asker.stream(2).await;
    asker.consumer(json!({"durable_name": "c", "ack_policy": "explicit", "sample_freq": "100%"})).await;
    asker.next("c", "1").await;
    let got = asker.got().await;
    tokio::time::sleep(Duration::from_millis(30)).await;
    asker.ack(&got, "+WPI").await;
    asker.ack(&got, "+ACK").await;
    asker.ack(&got, "+ACK").await;
    let metric = listener.got().await;
    assert_eq!(metric.subject, "$JS.EVENT.METRIC.CONSUMER.ACK.S.c");
    let event: Value = serde_json::from_str(&metric.body).unwrap();
    assert_eq!(event["type"], "io.nats.jetstream.metric.v1.consumer_ack");
    assert_eq!(
        (&event["stream_seq"], &event["consumer_seq"], &event["deliveries"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(event["ack_time"].as_u64().unwrap() >= 30_000_000, "{event}");
    listener.peer.sync().await;
}

#[tokio::test]
async fn a_number_sign_in_a_filter_is_a_token_like_any_other() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a.>"]})).await;
    for subject in ["a.b.c", "a.#", "a.b"] {
        asker.put(subject).await;
    }
    asker.consumer(json!({"durable_name": "c", "ack_policy": "explicit", "filter_subject": "a.#"})).await;
    asker.next("c", r#"{"batch":3,"no_wait":true}"#).await;
    assert_eq!(asker.got().await.subject, "a.#");
    assert_eq!(asker.status().await, "404 No Messages");
}
