//! Consumers as a client sees them.

use std::time::Duration;

use super::{limits::settles, *};

mod interest;
mod spent;

/// What came: subject, where to answer, headers, body.
#[derive(Debug, PartialEq, Eq)]
struct Got {
    subject: String,
    reply: String,
    headers: String,
    body: String,
}

impl Asker {
    /// The next message with all that is said about it.
    async fn got(&mut self) -> Got {
        let line = self.line().await;
        let tokens: Vec<&str> = line.split_whitespace().collect();
        let has_headers = tokens[0] == "HMSG";
        let counts = if has_headers { 2 } else { 1 };
        let reply = if tokens.len() > 3 + counts { tokens[3].to_owned() } else { String::new() };
        let len: usize = tokens[tokens.len() - 1].parse().unwrap();
        let headers_len: usize = if has_headers { tokens[tokens.len() - 2].parse().unwrap() } else { 0 };
        let mut text = String::new();
        while text.len() < len + 2 {
            text += &self.peer.line().await;
        }
        text.truncate(len);
        let body = text.split_off(headers_len);
        Got { subject: tokens[1].to_owned(), reply, headers: text, body }
    }

    /// The status that comes next.
    async fn status(&mut self) -> String {
        let got = self.got().await;
        got.headers.lines().next().unwrap_or_default().trim_start_matches("NATS/1.0 ").to_owned()
    }

    async fn next(&mut self, consumer: &str, body: &str) {
        let text = format!("PUB $JS.API.CONSUMER.MSG.NEXT.S.{consumer} re {}\r\n{body}\r\n", body.len());
        self.peer.send(&text).await;
    }

    async fn consumer(&mut self, config: Value) -> Value {
        let name = config["durable_name"].as_str().unwrap_or_default().to_owned();
        let body = json!({ "stream_name": "S", "config": config });
        let subject = if name.is_empty() {
            "CONSUMER.CREATE.S".to_owned()
        } else {
            format!("CONSUMER.CREATE.S.{name}")
        };
        self.api(&subject, body).await
    }

    /// A stream `S` with so many messages.
    async fn stream(&mut self, count: usize) {
        self.create(json!({"name": "S", "subjects": ["a.*"]})).await;
        for n in 0..count {
            self.put(&format!("a.{n}")).await;
        }
    }

    async fn ack(&mut self, got: &Got, body: &str) {
        let (_, answer) = self.ask(&got.reply, body).await;
        assert_eq!(answer, "");
    }
}

#[tokio::test]
async fn a_pull_consumer_is_served_and_acknowledged() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.stream(3).await;
    let made = asker.consumer(json!({"durable_name": "c", "ack_policy": "explicit"})).await;
    assert_eq!(made["type"], "io.nats.jetstream.api.v1.consumer_create_response", "{made}");
    assert_eq!((&made["num_pending"], &made["config"]["max_waiting"]), (&json!(3), &json!(512)));
    asker.next("c", "2").await;
    let one = asker.got().await;
    assert_eq!((one.subject.as_str(), one.body.as_str()), ("a.0", "x"));
    assert!(one.reply.starts_with("$JS.ACK.S.c.1.1.1.") && one.reply.ends_with(".2"), "{}", one.reply);
    let two = asker.got().await;
    assert!(two.reply.starts_with("$JS.ACK.S.c.1.2.2."), "{}", two.reply);
    asker.ack(&one, "").await;
    asker.ack(&two, "-NAK").await;
    asker.next("c", "").await;
    let again = asker.got().await;
    assert!(again.reply.starts_with("$JS.ACK.S.c.2.2.3."), "{}", again.reply);
    asker.ack(&again, "+TERM no use").await;
    let info = asker.api("CONSUMER.INFO.S.c", json!({})).await;
    assert_eq!(info["ack_floor"]["stream_seq"], 2, "{info}");
    assert_eq!((&info["num_ack_pending"], &info["num_pending"]), (&json!(0), &json!(1)));
    assert_eq!(asker.api("STREAM.INFO.S", Value::Null).await["state"]["consumer_count"], 1);
    assert_eq!(asker.api("CONSUMER.NAMES.S", Value::Null).await["consumers"], json!(["c"]));
    assert_eq!(asker.api("CONSUMER.DELETE.S.c", Value::Null).await["success"], true);
    assert_eq!(err_code(&asker.api("CONSUMER.INFO.S.c", Value::Null).await), 10_014);
    let (headers, _) = asker.ask("$JS.API.CONSUMER.MSG.NEXT.S.c", "").await;
    assert!(headers.starts_with("NATS/1.0 503"), "{headers}");
}

#[tokio::test]
async fn requests_end_with_the_originals_statuses() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.stream(2).await;
    let config = json!({"durable_name": "c", "ack_policy": "explicit", "max_waiting": 1, "max_batch": 5,
        "max_expires": 2_000_000_000_i64, "max_bytes": 1000});
    asker.consumer(config).await;
    for (body, expected) in [
        (r#"{"batch":6}"#, "409 Exceeded MaxRequestBatch of 5"),
        (r#"{"expires":3000000000}"#, "409 Exceeded MaxRequestExpires of 2s"),
        (r#"{"max_bytes":2000}"#, "409 Exceeded MaxRequestMaxBytes of 1000"),
        (
            r#"{"expires":1000000000,"idle_heartbeat":600000000}"#,
            "400 Bad Request - heartbeat value too large",
        ),
        (r#"{"priority":10}"#, "400 Bad Request - Priority must be between 0 and 9"),
        (r#"{"batch":1,"max_bytes":20}"#, "409 Message Size Exceeds MaxBytes"),
    ] {
        asker.next("c", body).await;
        assert_eq!(asker.status().await, expected, "{body}");
    }
    asker.next("c", r#"{"batch":1,"max_bytes":500}"#).await;
    assert_eq!(asker.got().await.body, "x");
    assert_eq!(asker.status().await, "409 Batch Completed");
    asker.next("c", r#"{"batch":5,"no_wait":true}"#).await;
    assert_eq!(asker.got().await.body, "x");
    assert_eq!(asker.status().await, "404 No Messages");
    asker.next("c", r#"{"expires":500000000,"idle_heartbeat":200000000}"#).await;
    asker.next("c", r#"{"expires":500000000}"#).await;
    assert_eq!(asker.status().await, "409 Exceeded MaxWaiting");
    assert_eq!(asker.status().await, "100 Idle Heartbeat");
    assert_eq!(asker.status().await, "100 Idle Heartbeat");
    assert_eq!(asker.status().await, "408 Request Timeout");
    asker.next("c", r#"{"expires":2000000000}"#).await;
    asker.peer.send("PUB $JS.API.CONSUMER.DELETE.S.c other 0\r\n\r\n").await;
    assert_eq!(asker.status().await, "409 Consumer Deleted");
}

#[tokio::test]
async fn a_wrong_configuration_is_refused_in_the_originals_words() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.stream(0).await;
    let all = [
        (json!({"durable_name": "c", "filter_subject": "a.b", "filter_subjects": ["a.c"]}), 10_136),
        (json!({"durable_name": "c", "filter_subjects": ["a.*", "a.b"]}), 10_138),
        (json!({"durable_name": "c", "filter_subjects": ["a.b", ""]}), 10_139),
        (json!({"durable_name": "c", "deliver_policy": "by_start_sequence"}), 10_094),
        (json!({"durable_name": "c", "deliver_policy": "all", "opt_start_seq": 2}), 10_094),
        (json!({"durable_name": "c", "deliver_policy": "last_per_subject"}), 10_094),
        (json!({"durable_name": "c", "max_deliver": 1, "backoff": [1, 2]}), 10_116),
        (json!({"durable_name": "c", "idle_heartbeat": 1_000_000_000}), 10_088),
        (json!({"durable_name": "c", "flow_control": true}), 10_089),
        (json!({"durable_name": "c", "rate_limit_bps": 1}), 10_086),
        (json!({"durable_name": "c", "deliver_subject": "d.*"}), 10_079),
        (json!({"durable_name": "c", "deliver_subject": "a.x"}), 10_081),
        (json!({"durable_name": "c", "deliver_subject": "d", "max_waiting": 1}), 10_080),
        (json!({"durable_name": "c", "deliver_subject": "d", "idle_heartbeat": 1}), 10_083),
        (json!({"durable_name": "c", "deliver_subject": "d", "flow_control": true}), 10_108),
        (json!({"durable_name": "c", "num_replicas": 3}), 10_074),
        (json!({"durable_name": "c", "nonsense": 3}), 10_025),
        (json!({"durable_name": "c", "sample_freq": "x"}), 10_095),
    ];
    for (config, expected) in all {
        let answer = asker.consumer(config.clone()).await;
        assert_eq!(err_code(&answer), expected, "{config}: {answer}");
    }
    let config = json!({"durable_name": "c", "ack_policy": "explicit"});
    let create =
        |action: &str, config: &Value| json!({"stream_name": "S", "config": config, "action": action});
    let subject = "CONSUMER.CREATE.S.c";
    assert_eq!(err_code(&asker.api(subject, create("update", &config)).await), 10_149);
    assert_eq!(err_code(&asker.api(subject, create("create", &config)).await), 0);
    assert_eq!(err_code(&asker.api(subject, create("create", &config)).await), 0);
    let other = json!({"durable_name": "c", "ack_policy": "explicit", "description": "d"});
    assert_eq!(err_code(&asker.api(subject, create("create", &other)).await), 10_148);
    assert_eq!(err_code(&asker.api(subject, create("update", &other)).await), 0);
    let other = json!({"durable_name": "c", "ack_policy": "all"});
    assert_eq!(err_code(&asker.api(subject, create("", &other)).await), 10_012);
    for (subject, config, expected) in [
        ("CONSUMER.CREATE.S", json!({"durable_name": "d"}), 10_020),
        ("CONSUMER.CREATE.S.d", json!({"durable_name": "e"}), 10_017),
        ("CONSUMER.DURABLE.CREATE.S.d", json!({}), 10_018),
        ("CONSUMER.CREATE.S.d.a.b", json!({"filter_subject": "a.c"}), 10_131),
        ("CONSUMER.CREATE.S.d.a.b", json!({"filter_subjects": ["a.b"]}), 10_137),
        ("CONSUMER.CREATE.T", json!({}), 10_056),
    ] {
        let answer = asker.api(subject, json!({"stream_name": "S", "config": config})).await;
        assert_eq!(err_code(&answer), expected, "{subject}: {answer}");
    }
}

#[tokio::test]
async fn a_push_consumer_delivers_once_somebody_listens_with_heartbeats_and_flow_control() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.stream(2).await;
    let config = json!({"durable_name": "c", "deliver_subject": "d", "flow_control": true,
        "idle_heartbeat": 200_000_000});
    assert_eq!(err_code(&asker.consumer(config).await), 0);
    asker.peer.send("SUB d 7\r\n").await;
    assert_eq!((asker.got().await.subject, asker.got().await.subject), ("a.0".to_owned(), "a.1".to_owned()));
    let beat = asker.got().await;
    let expected = "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 2\r\nNats-Last-Stream: 2\r\n\r\n";
    assert_eq!(beat.headers, expected);
    asker.next("c", "").await;
    assert_eq!(asker.status().await, "409 Consumer is push based");
}

#[tokio::test]
async fn what_is_not_acknowledged_in_time_comes_again_and_no_more_than_may_is_out() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.stream(3).await;
    let config = json!({"durable_name": "c", "ack_policy": "explicit", "max_ack_pending": 2,
        "backoff": [100_000_000, 60_000_000_000_i64], "max_deliver": 3});
    asker.consumer(config).await;
    asker.next("c", r#"{"batch":10,"expires":5000000000}"#).await;
    let replies = [asker.got().await.reply, asker.got().await.reply];
    assert!(replies[1].starts_with("$JS.ACK.S.c.1.2."), "{replies:?}");
    let again = [asker.got().await, asker.got().await];
    assert!(again[0].reply.starts_with("$JS.ACK.S.c.2.1."), "{again:?}");
    assert!(again[1].reply.starts_with("$JS.ACK.S.c.2.2."), "{again:?}");
    asker.peer.send(&format!("PUB {} 0\r\n\r\n", again[0].reply)).await;
    assert_eq!(asker.got().await.subject, "a.2");
}

#[tokio::test]
async fn an_ephemeral_consumer_that_is_not_used_goes() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.stream(1).await;
    let made = asker.consumer(json!({"inactive_threshold": 3_000_000_000_i64})).await;
    let name = made["name"].as_str().unwrap().to_owned();
    assert_eq!(name.len(), 8);
    let config = json!({"ack_policy": "explicit", "inactive_threshold": 3_000_000_000_i64});
    asker.consumer(config).await;
    assert_eq!(asker.api("CONSUMER.NAMES.S", Value::Null).await["total"], 2);
    let began = tokio::time::Instant::now();
    while asker.api("CONSUMER.NAMES.S", Value::Null).await["total"] != 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "they stay");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn consumers_are_there_after_a_restart_but_for_those_in_memory() {
    let mut rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.stream(3).await;
    asker.consumer(json!({"durable_name": "c", "ack_policy": "explicit"})).await;
    let ephemeral = json!({"name": "e", "ack_policy": "explicit", "inactive_threshold": 60_000_000_000_i64});
    let volatile = json!({"name": "m", "mem_storage": true, "inactive_threshold": 60_000_000_000_i64});
    let unacknowledged = json!({"name": "n", "ack_policy": "none", "inactive_threshold": 60_000_000_000_i64});
    for config in [ephemeral, volatile, unacknowledged] {
        let name = config["name"].as_str().unwrap().to_owned();
        let body = json!({"stream_name": "S", "config": config});
        asker.api(&format!("CONSUMER.CREATE.S.{name}"), body).await;
    }
    for (name, body) in [("e", "x"), ("n", "x")] {
        asker.next(name, "1").await;
        assert_eq!(asker.got().await.body, body);
    }
    asker.next("c", "2").await;
    let one = asker.got().await;
    asker.got().await;
    asker.ack(&one, "+ACK").await;
    rig.reopen(0);
    let mut asker = Asker::new(&rig).await;
    assert_eq!(asker.api("CONSUMER.NAMES.S", Value::Null).await["consumers"], json!(["c", "e", "n"]));
    let info = asker.api("CONSUMER.INFO.S.e", Value::Null).await;
    assert_eq!((&info["num_ack_pending"], &info["num_pending"]), (&json!(1), &json!(2)), "{info}");
    assert!(info["config"].get("durable_name").is_none(), "{info}");
    asker.next("n", "1").await;
    assert_eq!(asker.got().await.subject, "a.1");
    let info = asker.api("CONSUMER.INFO.S.c", Value::Null).await;
    assert_eq!(info["ack_floor"]["stream_seq"], 1, "{info}");
    assert_eq!((&info["num_ack_pending"], &info["num_pending"]), (&json!(1), &json!(1)));
    asker.next("c", "1").await;
    assert_eq!(asker.got().await.subject, "a.2");
}

#[tokio::test]
async fn an_acknowledgement_is_answered_after_its_sync() {
    let mut rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.stream(1).await;
    asker.consumer(json!({"durable_name": "c", "ack_policy": "explicit"})).await;
    rig.reopen(200);
    let mut asker = Asker::new(&rig).await;
    asker.next("c", "1").await;
    let got = asker.got().await;
    let began = tokio::time::Instant::now();
    asker.ack(&got, "+ACK").await;
    assert!(began.elapsed() >= Duration::from_millis(150), "{:?}", began.elapsed());
}

#[tokio::test]
async fn headers_only_says_how_long_the_body_was_and_all_settles_what_is_before() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.stream(3).await;
    asker.publish("a.h", &[("K", "v")], "body").await;
    let config = json!({"durable_name": "c", "ack_policy": "all", "headers_only": true});
    asker.consumer(config).await;
    asker.next("c", "4").await;
    let mut last = asker.got().await;
    assert_eq!((last.headers.as_str(), last.body.as_str()), ("NATS/1.0\r\nNats-Msg-Size: 1\r\n\r\n", ""));
    for _ in 0..3 {
        last = asker.got().await;
    }
    assert_eq!(last.headers, "NATS/1.0\r\nK: v\r\nNats-Msg-Size: 4\r\n\r\n");
    asker.ack(&last, "").await;
    let info = asker.api("CONSUMER.INFO.S.c", Value::Null).await;
    assert_eq!((&info["num_ack_pending"], &info["ack_floor"]["stream_seq"]), (&json!(0), &json!(4)));
}

#[tokio::test]
async fn a_paused_consumer_waits() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.stream(1).await;
    asker.consumer(json!({"durable_name": "c", "ack_policy": "explicit"})).await;
    let paused = asker.api("CONSUMER.PAUSE.S.c", json!({"pause_until": "2999-01-01T00:00:00Z"})).await;
    assert_eq!(paused["paused"], true, "{paused}");
    asker.next("c", r#"{"expires":300000000}"#).await;
    assert_eq!(asker.status().await, "408 Request Timeout");
    assert_eq!(asker.api("CONSUMER.PAUSE.S.c", Value::Null).await["paused"], false);
    asker.next("c", "").await;
    assert_eq!(asker.got().await.subject, "a.0");
}

#[tokio::test]
async fn a_work_queue_keeps_a_message_until_its_consumer_is_done_with_it() {
    let mut rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a.*"], "retention": "workqueue"})).await;
    for n in 0..3 {
        asker.put(&format!("a.{n}")).await;
    }
    for (config, expected) in [
        (json!({"durable_name": "c", "ack_policy": "none"}), 10_084),
        (json!({"durable_name": "c", "ack_policy": "all"}), 10_098),
        (json!({"durable_name": "c", "ack_policy": "explicit", "deliver_policy": "new"}), 10_101),
        (json!({"durable_name": "c", "ack_policy": "explicit", "filter_subject": "a.0"}), 0),
        (json!({"durable_name": "d", "ack_policy": "explicit"}), 10_099),
        (json!({"durable_name": "d", "ack_policy": "explicit", "filter_subject": "a.*"}), 10_100),
        (json!({"durable_name": "d", "ack_policy": "explicit", "filter_subjects": ["a.1", "a.2"]}), 0),
    ] {
        let answer = asker.consumer(config.clone()).await;
        assert_eq!(err_code(&answer), expected, "{config}: {answer}");
    }
    asker.next("d", "2").await;
    let (one, two) = (asker.got().await, asker.got().await);
    assert_eq!((one.subject.as_str(), two.subject.as_str()), ("a.1", "a.2"));
    asker.ack(&one, "").await;
    assert_eq!(asker.state("S").await, [2, 1, 3]);
    asker.next("c", "1").await;
    let zero = asker.got().await;
    asker.ack(&zero, "").await;
    assert_eq!(asker.state("S").await, [1, 3, 3]);
    rig.reopen(0);
    let mut asker = Asker::new(&rig).await;
    assert_eq!(asker.state("S").await, [1, 3, 3]);
    asker.ack(&two, "").await;
    assert_eq!(asker.state("S").await, [0, 4, 3]);
}

#[tokio::test]
async fn interest_keeps_a_message_until_all_who_want_it_are_done_with_it() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a.*"], "retention": "interest"})).await;
    assert_eq!(asker.put("a.0").await["seq"], 1);
    assert_eq!(asker.state("S").await[0], 0, "nobody wants it");
    for name in ["c", "d"] {
        asker.consumer(json!({"durable_name": name, "ack_policy": "explicit"})).await;
    }
    assert_eq!(asker.put("a.1").await["seq"], 2);
    for (name, left) in [("c", 1), ("d", 0)] {
        asker.next(name, "1").await;
        let got = asker.got().await;
        assert_eq!(got.subject, "a.1");
        asker.ack(&got, "").await;
        assert_eq!(asker.state("S").await[0], left, "{name}");
    }
}

#[tokio::test]
async fn what_is_stored_is_published_again_and_under_the_subject_it_is_mapped_to() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker
        .create(json!({"name": "S", "subjects": ["a.*"], "republish": {"src": "m.*", "dest": "r.$1"},
            "subject_transform": {"src": "a.*", "dest": "m.{{wildcard(1)}}"}}))
        .await;
    let mut listener = Asker { peer: rig.client().await };
    listener.peer.send("SUB r.> 7\r\n").await;
    listener.peer.sync().await;
    asker.put("a.x").await;
    asker.put("a.x").await;
    for (seq, last) in [(1, 0), (2, 1)] {
        let got = listener.got().await;
        assert_eq!((got.subject.as_str(), got.body.as_str()), ("r.x", "x"));
        for line in [
            "Nats-Stream: S".to_owned(),
            "Nats-Subject: m.x".to_owned(),
            format!("Nats-Sequence: {seq}"),
            format!("Nats-Last-Sequence: {last}"),
        ] {
            assert!(got.headers.contains(&line), "{line}: {}", got.headers);
        }
    }
    let answer = asker
        .api(
            "STREAM.CREATE.T",
            json!({"name": "T", "subjects": ["t.*"],
        "republish": {"src": "t.*", "dest": "t.$1"}}),
        )
        .await;
    assert_eq!(err_code(&answer), 10_052, "{answer}");
}

#[tokio::test]
async fn a_message_goes_when_its_own_time_is_over() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a.*"], "allow_msg_ttl": true})).await;
    for (ttl, expected) in
        [("60s", 0), ("never", 0), ("6000", 0), ("500ms", 10_165), ("x", 10_165), ("0", 10_165)]
    {
        let answer = asker.publish("a.x", &[("Nats-TTL", ttl)], "x").await;
        assert_eq!(err_code(&answer), expected, "{ttl}: {answer}");
    }
    assert_eq!(asker.state("S").await, [3, 1, 3]);
    rig.pass(120_000);
    settles(&mut asker, "S", [2, 2, 3]).await;
    asker.create(json!({"name": "T", "subjects": ["t.*"]})).await;
    assert_eq!(err_code(&asker.publish("t.x", &[("Nats-TTL", "1s")], "x").await), 10_166);
}

#[tokio::test]
async fn what_is_given_up_or_delivered_too_often_goes_to_the_dead_letters() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.stream(2).await;
    let config = json!({"durable_name": "c", "ack_policy": "explicit", "max_deliver": 1,
        "ack_wait": 60_000_000_000_i64, "metadata": {"wiremill.dead_letter": "dead.c"}});
    assert_eq!(err_code(&asker.consumer(config.clone()).await), 10_052, "nobody takes them");
    asker.create(json!({"name": "DEAD", "subjects": ["dead.>"]})).await;
    assert_eq!(err_code(&asker.consumer(config).await), 0);
    asker.next("c", "2").await;
    let (_lost, given_up) = (asker.got().await, asker.got().await);
    asker.ack(&given_up, "+TERM").await;
    assert_eq!(asker.state("DEAD").await[0], 1);
    rig.pass(120_000);
    let began = tokio::time::Instant::now();
    while asker.state("DEAD").await[0] != 2 {
        assert!(began.elapsed() < Duration::from_secs(60), "it does not go there");
        asker.next("c", r#"{"no_wait":true}"#).await;
        assert_eq!(asker.status().await, "404 No Messages");
    }
    asker
        .api("CONSUMER.CREATE.DEAD.d", json!({"stream_name": "DEAD", "config": {"durable_name": "d"}}))
        .await;
    asker.peer.send("PUB $JS.API.CONSUMER.MSG.NEXT.DEAD.d re 1\r\n2\r\n").await;
    for (subject, seq, reason) in [("a.1", 2, "terminated"), ("a.0", 1, "max_deliver")] {
        let got = asker.got().await;
        assert_eq!((got.subject.as_str(), got.body.as_str()), ("dead.c", "x"));
        for line in [
            format!("Wm-Dead-Subject: {subject}"),
            "Wm-Dead-Stream: S".to_owned(),
            format!("Wm-Dead-Sequence: {seq}"),
            format!("Wm-Dead-Reason: {reason}"),
            "Wm-Dead-Attempts: 1".to_owned(),
        ] {
            assert!(got.headers.contains(&line), "{line}: {}", got.headers);
        }
    }
    let info = asker.api("CONSUMER.INFO.S.c", Value::Null).await;
    assert_eq!(info["num_ack_pending"], 0, "{info}");
}

#[tokio::test]
async fn one_client_is_pinned_and_another_overflows() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.stream(3).await;
    let config = json!({"durable_name": "c", "ack_policy": "explicit", "priority_policy": "pinned_client",
        "priority_groups": ["A"]});
    assert_eq!(err_code(&asker.consumer(config).await), 0);
    asker.next("c", "{}").await;
    assert_eq!(asker.status().await, "400 Bad Request - Priority Group missing");
    asker.next("c", r#"{"group":"A"}"#).await;
    let got = asker.got().await;
    let pin = got.headers.lines().find_map(|line| line.strip_prefix("Nats-Pin-Id: ")).unwrap().to_owned();
    asker.next("c", r#"{"group":"A","id":"other"}"#).await;
    assert_eq!(asker.status().await, "423 Nats-Pin-Id mismatch");
    asker.next("c", r#"{"group":"A","expires":200000000}"#).await;
    assert_eq!(asker.status().await, "408 Request Timeout");
    asker.next("c", &format!("{{\"group\":\"A\",\"id\":\"{pin}\"}}")).await;
    assert_eq!(asker.got().await.subject, "a.1");
    let info = asker.api("CONSUMER.INFO.S.c", Value::Null).await;
    assert_eq!(info["priority_groups"][0]["pinned_client_id"], pin.as_str(), "{info}");
    assert_eq!(err_code(&asker.api("CONSUMER.UNPIN.S.c", json!({"group": "B"})).await), 10_160);
    assert_eq!(err_code(&asker.api("CONSUMER.UNPIN.S.c", json!({"group": "A"})).await), 0);
    asker.next("c", r#"{"group":"A"}"#).await;
    assert_eq!(asker.got().await.subject, "a.2");
    let config = json!({"durable_name": "o", "ack_policy": "explicit", "priority_policy": "overflow",
        "priority_groups": ["A"]});
    assert_eq!(err_code(&asker.consumer(config).await), 0);
    asker.next("o", r#"{"group":"A","min_pending":10,"expires":200000000}"#).await;
    assert_eq!(asker.status().await, "408 Request Timeout");
    asker.next("o", r#"{"group":"A","min_pending":2,"expires":5000000000}"#).await;
    assert_eq!(asker.got().await.subject, "a.0");
}

#[tokio::test]
async fn tools_hear_what_happens() {
    let rig = Rig::new();
    let mut listener = Asker { peer: rig.client().await };
    listener.peer.send("SUB $JS.EVENT.ADVISORY.> 7\r\n").await;
    listener.peer.sync().await;
    let mut asker = Asker::new(&rig).await;
    asker.stream(1).await;
    asker.consumer(json!({"durable_name": "c", "ack_policy": "explicit", "max_deliver": 1})).await;
    asker.next("c", "").await;
    let got = asker.got().await;
    asker.ack(&got, "-NAK").await;
    asker.next("c", r#"{"no_wait":true}"#).await;
    assert_eq!(asker.status().await, "404 No Messages");
    asker.api("CONSUMER.DELETE.S.c", Value::Null).await;
    for (subject, kind) in [
        ("STREAM.CREATED.S", "stream_action"),
        ("CONSUMER.CREATED.S.c", "consumer_action"),
        ("CONSUMER.MSG_NAKED.S.c", "nak"),
        ("CONSUMER.MAX_DELIVERIES.S.c", "max_deliver"),
        ("CONSUMER.DELETED.S.c", "consumer_action"),
    ] {
        let got = listener.got().await;
        assert_eq!(got.subject, format!("$JS.EVENT.ADVISORY.{subject}"));
        let event: Value = serde_json::from_str(&got.body).unwrap();
        assert_eq!(event["type"], format!("io.nats.jetstream.advisory.v1.{kind}"), "{event}");
    }
}
