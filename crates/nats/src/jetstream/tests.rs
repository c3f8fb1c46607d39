//! Streams as a client sees them, over connections in memory.

use serde_json::{Value, json};

use crate::tests::{Peer, Rig};

mod consumers;
mod limits;
mod overload;
mod promises;

/// A client that asks and reads answers.
struct Asker {
    peer: Peer,
}

impl Asker {
    async fn new(rig: &Rig) -> Self {
        let mut peer = rig.client().await;
        peer.send("SUB re 1\r\n").await;
        peer.sync().await;
        Asker { peer }
    }

    /// The next line that is no PING.
    async fn line(&mut self) -> String {
        loop {
            let line = self.peer.line().await;
            if line != "PING\r\n" {
                return line;
            }
        }
    }

    /// Headers and body of the next message.
    async fn answer(&mut self) -> (String, String) {
        let line = self.line().await;
        let tokens: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| tokens[at].parse::<usize>().unwrap();
        let (headers_len, len) = match tokens[0] {
            "MSG" => (0, number(3)),
            "HMSG" => (number(3), number(4)),
            other => panic!("{other}"),
        };
        let mut text = String::new();
        while text.len() < len + 2 {
            text += &self.peer.line().await;
        }
        assert!(text.ends_with("\r\n"), "{text:?}");
        text.truncate(len);
        let body = text.split_off(headers_len);
        (text, body)
    }

    async fn ask(&mut self, subject: &str, body: &str) -> (String, String) {
        self.peer.send(&format!("PUB {subject} re {}\r\n{body}\r\n", body.len())).await;
        self.answer().await
    }

    async fn api(&mut self, subject: &str, body: Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (_, answer) = self.ask(&format!("$JS.API.{subject}"), &body).await;
        serde_json::from_str(&answer).unwrap()
    }

    /// Publishes with headers; the acknowledgement.
    async fn publish(&mut self, subject: &str, headers: &[(&str, &str)], body: &str) -> Value {
        let mut block = String::from("NATS/1.0\r\n");
        headers.iter().for_each(|(name, value)| block += &format!("{name}: {value}\r\n"));
        block += "\r\n";
        let len = block.len() + body.len();
        self.peer.send(&format!("HPUB {subject} re {} {len}\r\n{block}{body}\r\n", block.len())).await;
        serde_json::from_str(&self.answer().await.1).unwrap()
    }

    async fn put(&mut self, subject: &str) -> Value {
        let (_, answer) = self.ask(subject, "x").await;
        serde_json::from_str(&answer).unwrap()
    }

    async fn create(&mut self, config: Value) {
        let name = config["name"].as_str().unwrap().to_owned();
        let answer = self.api(&format!("STREAM.CREATE.{name}"), config).await;
        assert_eq!(answer["did_create"], true, "{answer}");
    }

    /// Messages, first and last sequence.
    async fn state(&mut self, name: &str) -> [u64; 3] {
        let info = self.api(&format!("STREAM.INFO.{name}"), Value::Null).await;
        ["messages", "first_seq", "last_seq"].map(|field| info["state"][field].as_u64().unwrap())
    }
}

fn err_code(answer: &Value) -> u64 {
    answer["error"]["err_code"].as_u64().unwrap_or(0)
}

#[tokio::test]
async fn a_stream_is_made_found_changed_and_deleted() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    let config = json!({"name": "S", "subjects": ["a.*"]});
    let made = asker.api("STREAM.CREATE.S", config.clone()).await;
    assert_eq!(made["type"], "io.nats.jetstream.api.v1.stream_create_response");
    assert_eq!(made["state"]["first_ts"], "0001-01-01T00:00:00Z");
    let metadata = json!({"_nats.ver": crate::VERSION, "_nats.level": "1", "_nats.req.level": "0"});
    assert_eq!(made["config"]["metadata"], metadata);
    let again = asker.api("STREAM.CREATE.S", config).await;
    assert_eq!(again["config"], made["config"]);
    let others = [
        ("STREAM.CREATE.S", json!({"name": "S", "subjects": ["b.*"]}), 10_058),
        ("STREAM.CREATE.T", json!({"name": "T", "subjects": ["a.>"]}), 10_065),
        ("STREAM.CREATE.T", json!({"name": "X"}), 10_056),
        ("STREAM.CREATE.T", Value::Null, 10_056),
        ("STREAM.UPDATE.Z", json!({"name": "Z"}), 10_059),
        ("STREAM.UPDATE.S", json!({"name": "S", "storage": "memory"}), 10_052),
        ("STREAM.INFO.Z", Value::Null, 10_059),
        ("STREAM.PURGE.Z", Value::Null, 10_059),
        ("STREAM.DELETE.S", json!(1), 10_038),
    ];
    for (subject, body, expected) in others {
        let answer = asker.api(subject, body).await;
        assert_eq!(err_code(&answer), expected, "{subject}: {answer}");
    }
    let changed =
        asker.api("STREAM.UPDATE.S", json!({"name": "S", "subjects": ["b.*"], "max_msgs": 5})).await;
    assert_eq!(changed["config"]["max_msgs"], 5, "{changed}");
    assert_eq!(asker.put("b.x").await, json!({"stream": "S", "seq": 1}));
    assert_eq!(asker.api("STREAM.NAMES", json!({"subject": "b.x"})).await["streams"], json!(["S"]));
    assert_eq!(asker.api("STREAM.NAMES", json!({"subject": "a.x"})).await["total"], 0);
    assert_eq!(asker.api("STREAM.LIST", Value::Null).await["streams"][0]["config"], changed["config"]);
    assert_eq!(asker.api("INFO", Value::Null).await["streams"], 1);
    assert_eq!(asker.api("STREAM.DELETE.S", Value::Null).await["success"], true);
    assert_eq!(err_code(&asker.api("STREAM.INFO.S", Value::Null).await), 10_059);
}

#[tokio::test]
async fn what_is_not_there_finds_nobody_and_what_is_not_done_is_refused() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    for subject in ["$JS.API.CONSUMER.MSG.NEXT.S.c", "$JS.API.DIRECT.GET.S", "$JS.ACK.S.c.1.1.1.1.1"] {
        let (headers, _) = asker.ask(subject, "{}").await;
        assert!(headers.starts_with("NATS/1.0 503"), "{subject}: {headers:?}");
    }
    for (subject, kind, expected) in [
        ("FOO", "system", 10_003),
        ("STREAM.INFO", "system", 10_003),
        ("STREAM.LEADER.STEPDOWN.S", "stream_leader_stepdown", 10_010),
        ("STREAM.PEER.REMOVE.S", "stream_remove_peer", 10_010),
        ("CONSUMER.LEADER.STEPDOWN.S.c", "consumer_leader_stepdown", 10_010),
        ("STREAM.SNAPSHOT.S", "stream_snapshot", 10_064),
        ("STREAM.RESTORE.S", "stream_restore", 10_062),
    ] {
        let answer = asker.api(subject, json!({})).await;
        assert_eq!(err_code(&answer), expected, "{subject}: {answer}");
        assert_eq!(answer["type"], format!("io.nats.jetstream.api.v1.{kind}_response"));
    }
}

#[tokio::test]
async fn what_one_read_brings_is_acknowledged_in_order_and_core_subscribers_hear_it_too() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a.*"]})).await;
    let mut listener = rig.client().await;
    listener.send("SUB a.> 7\r\n").await;
    listener.sync().await;
    let many: String = (0..100).map(|n| format!("PUB a.{n} re 1\r\nx\r\n")).collect();
    asker.peer.send(&many).await;
    for n in 0..100 {
        assert_eq!(asker.answer().await.1, format!("{{\"stream\":\"S\",\"seq\":{}}}", n + 1));
        listener.expect(&format!("MSG a.{n} 7 re 1\r\nx\r\n")).await;
    }
    assert_eq!(asker.state("S").await, [100, 1, 100]);
}

#[tokio::test]
async fn a_message_id_is_stored_once_within_the_window() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S"})).await;
    assert_eq!(asker.publish("S", &[("Nats-Msg-Id", "1")], "x").await, json!({"stream": "S", "seq": 1}));
    asker.put("S").await;
    let again = asker.publish("S", &[("Nats-Msg-Id", "1")], "y").await;
    assert_eq!(again, json!({"stream": "S", "seq": 1, "duplicate": true}));
    assert_eq!(asker.state("S").await, [2, 1, 2]);
}

#[tokio::test]
async fn a_publisher_that_expects_what_is_not_so_is_told_what_is() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a.*"]})).await;
    asker.put("a.x").await;
    asker.put("a.y").await;
    for (name, value, err_code, text) in [
        ("Nats-Expected-Stream", "T", 10_060, "expected stream does not match"),
        ("Nats-Expected-Last-Sequence", "1", 10_071, "wrong last sequence: 2"),
        ("Nats-Expected-Last-Subject-Sequence", "0", 10_071, "wrong last sequence: 1"),
        ("Nats-Expected-Last-Subject-Sequence", "2", 10_071, "wrong last sequence: 1"),
        ("Nats-Expected-Last-Sequence", "abc", 10_071, "wrong last sequence: 2"),
        ("Nats-Expected-Last-Msg-Id", "7", 10_070, "wrong last msg ID: "),
        (
            "Nats-Expected-Last-Subject-Sequence-Subject",
            "a.y",
            10_193,
            "missing sequence for expected last sequence per subject",
        ),
        ("Nats-TTL", "1s", 10_166, "per-message TTL is disabled"),
        ("Nats-Rollup", "sub", 10_111, "rollup not permitted"),
    ] {
        let answer = asker.publish("a.x", &[(name, value)], "z").await;
        assert_eq!(answer["error"]["err_code"], err_code, "{name}: {answer}");
        assert_eq!((&answer["error"]["description"], &answer["seq"]), (&json!(text), &json!(0)));
    }
    for (name, value, seq) in [
        ("Nats-Expected-Stream", "S", 3),
        ("Nats-Expected-Last-Sequence", "3", 4),
        ("Nats-Expected-Last-Subject-Sequence", "4", 5),
    ] {
        assert_eq!(asker.publish("a.x", &[(name, value)], "z").await["seq"], seq, "{name}");
    }
    let other = [
        ("Nats-Expected-Last-Subject-Sequence", "2"),
        ("Nats-Expected-Last-Subject-Sequence-Subject", "*.y"),
    ];
    assert_eq!(asker.publish("a.x", &other, "z").await["seq"], 6);
    assert_eq!(asker.publish("a.x", &[("Nats-Msg-Id", "i")], "z").await["seq"], 7);
    let answer = asker.publish("a.x", &[("Nats-Expected-Last-Msg-Id", "j")], "z").await;
    assert_eq!(answer["error"]["description"], "wrong last msg ID: i");
    assert_eq!(asker.publish("a.x", &[("Nats-Expected-Last-Msg-Id", "i")], "z").await["seq"], 8);
    let stale = [("Nats-Msg-Id", "i"), ("Nats-Expected-Last-Sequence", "6")];
    assert_eq!(asker.publish("a.x", &stale, "z").await["error"]["err_code"], 10_071);
}

#[tokio::test]
async fn limits_let_the_oldest_go_or_refuse() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "OLD", "subjects": ["o.*"], "max_msgs": 3, "max_msgs_per_subject": 2})).await;
    for subject in ["o.a", "o.a", "o.a", "o.b", "o.c"] {
        assert_eq!(err_code(&asker.put(subject).await), 0);
    }
    assert_eq!(asker.state("OLD").await, [3, 3, 5]);
    let new = json!({
        "name": "NEW", "subjects": ["n.*"], "discard": "new", "max_msgs": 3, "max_msgs_per_subject": 2,
        "discard_new_per_subject": true, "max_msg_size": 4,
    });
    asker.create(new).await;
    let refused = |answer: Value| answer["error"]["description"].as_str().unwrap_or_default().to_owned();
    assert_eq!(refused(asker.put("n.a").await), "");
    assert_eq!(refused(asker.put("n.a").await), "");
    assert_eq!(refused(asker.put("n.a").await), "maximum messages per subject exceeded");
    let (_, answer) = asker.ask("n.b", "12345").await;
    assert_eq!(refused(serde_json::from_str(&answer).unwrap()), "message size exceeds maximum allowed");
    assert_eq!(refused(asker.put("n.b").await), "");
    assert_eq!(refused(asker.put("n.c").await), "maximum messages exceeded");
    assert_eq!(asker.state("NEW").await, [3, 1, 3]);
}

#[tokio::test]
async fn messages_are_got_by_sequence_and_by_subject_and_deleted() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a.*"], "allow_direct": true})).await;
    for subject in ["a.x", "a.y", "a.x", "a.z"] {
        asker.put(subject).await;
    }
    asker.publish("a.x", &[("K", "v")], "body").await;
    for (body, expected) in [
        (json!({"seq": 2}), ("a.y", 2)),
        (json!({"last_by_subj": "a.x"}), ("a.x", 5)),
        (json!({"last_by_subj": "a.*"}), ("a.x", 5)),
        (json!({"next_by_subj": "a.x", "seq": 2}), ("a.x", 3)),
        (json!({"next_by_subj": "a.*"}), ("a.x", 1)),
    ] {
        let got = asker.api("STREAM.MSG.GET.S", body.clone()).await;
        assert_eq!(
            (&got["message"]["subject"], &got["message"]["seq"]),
            (&json!(expected.0), &json!(expected.1)),
            "{body}"
        );
    }
    let got = asker.api("STREAM.MSG.GET.S", json!({"seq": 5})).await;
    assert_eq!(
        (&got["message"]["data"], &got["message"]["hdrs"]),
        (&json!("Ym9keQ=="), &json!("TkFUUy8xLjANCks6IHYNCg0K"))
    );
    for (subject, body, expected) in [
        ("MSG.GET", json!({"seq": 6}), 10_037),
        ("MSG.GET", json!({"last_by_subj": "b"}), 10_037),
        ("MSG.GET", json!({}), 10_003),
        ("MSG.GET", json!({"last_by_subj": "a", "next_by_subj": "b"}), 10_003),
        ("MSG.GET", json!({"sek": 1}), 10_025),
        ("MSG.DELETE", json!({"seq": 3}), 0),
        ("MSG.DELETE", json!({"seq": 3}), 10_043),
        ("MSG.DELETE", json!({"seq": 40}), 10_057),
        ("MSG.GET", json!({"seq": 3}), 10_037),
    ] {
        let answer = asker.api(&format!("STREAM.{subject}.S"), body).await;
        assert_eq!(err_code(&answer), expected, "{answer}");
    }
    let info = asker.api("STREAM.INFO.S", json!({"deleted_details": true, "subjects_filter": "a.*"})).await;
    assert_eq!(info["state"]["deleted"], json!([3]));
    assert_eq!(info["state"]["subjects"], json!({"a.x": 2, "a.y": 1, "a.z": 1}));
    let (headers, body) = asker.ask("$JS.API.DIRECT.GET.S.a.x", "").await;
    assert!(
        headers.contains("K: v\r\n") && headers.contains("Nats-Subject: a.x\r\nNats-Sequence: 5\r\n"),
        "{headers:?}"
    );
    assert_eq!(body, "body");
    assert_eq!(asker.ask("$JS.API.DIRECT.GET.S.b", "").await.0, "NATS/1.0 404 Message Not Found\r\n\r\n");
}

#[tokio::test]
async fn a_purge_takes_what_it_names() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a.*"]})).await;
    for subject in ["a.x", "a.y", "a.x", "a.y", "a.x", "a.y"] {
        asker.put(subject).await;
    }
    assert_eq!(err_code(&asker.api("STREAM.PURGE.S", json!({"keep": 1, "seq": 2})).await), 10_003);
    for (body, purged, state) in [
        (json!({"filter": "a.x", "keep": 1}), 2, [4, 2, 6]),
        (json!({"seq": 4}), 1, [3, 4, 6]),
        (json!({"keep": 1}), 2, [1, 6, 6]),
        (Value::Null, 1, [0, 7, 6]),
    ] {
        let answer = asker.api("STREAM.PURGE.S", body.clone()).await;
        assert_eq!((&answer["purged"], &answer["success"]), (&json!(purged), &json!(true)), "{body}");
        assert_eq!(asker.state("S").await, state, "{body}");
    }
    asker.create(json!({"name": "KEEP", "deny_purge": true, "deny_delete": true})).await;
    asker.put("KEEP").await;
    assert_eq!(err_code(&asker.api("STREAM.PURGE.KEEP", Value::Null).await), 10_110);
    assert_eq!(err_code(&asker.api("STREAM.MSG.DELETE.KEEP", json!({"seq": 1})).await), 10_057);
}

#[tokio::test]
async fn a_rollup_replaces_its_subject_or_everything() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a.*"], "allow_rollup_hdrs": true})).await;
    for subject in ["a.x", "a.y", "a.x"] {
        asker.put(subject).await;
    }
    assert_eq!(asker.publish("a.x", &[("Nats-Rollup", "sub")], "r").await["seq"], 4);
    assert_eq!(asker.state("S").await, [2, 2, 4]);
    assert_eq!(asker.publish("a.z", &[("Nats-Rollup", "all")], "r").await["seq"], 5);
    assert_eq!(asker.state("S").await, [1, 5, 5]);
    assert_eq!(asker.publish("a.z", &[("Nats-Rollup", "some")], "r").await["error"]["err_code"], 10_111);
}

#[tokio::test]
async fn a_stream_is_as_it_was_after_a_restart() {
    let mut rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a.*"], "max_msgs_per_subject": 1})).await;
    for subject in ["a.x", "a.y", "a.x"] {
        asker.put(subject).await;
    }
    assert_eq!(asker.publish("a.z", &[("Nats-Msg-Id", "1")], "z").await["seq"], 4);
    let before = asker.api("STREAM.INFO.S", json!({"subjects_filter": ">"})).await;
    rig.reopen(0);
    let mut asker = Asker::new(&rig).await;
    let after = asker.api("STREAM.INFO.S", json!({"subjects_filter": ">"})).await;
    for field in ["config", "created", "state"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(asker.publish("a.z", &[("Nats-Msg-Id", "1")], "z").await["duplicate"], true);
    assert_eq!(asker.put("a.y").await["seq"], 5);
    assert_eq!(asker.state("S").await, [3, 3, 5]);
}

#[tokio::test]
async fn batches_and_last_messages_are_got_directly_and_end_with_their_place() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "D", "subjects": ["d.*"], "allow_direct": true})).await;
    for subject in ["d.a", "d.b", "d.a", "d.c"] {
        asker.put(subject).await;
    }
    for (asked, seqs, end) in [
        (json!({"batch": 2, "seq": 1}), vec![1, 2], "Nats-Num-Pending: 2\r\nNats-Last-Sequence: 2\r\n"),
        (
            json!({"batch": 5, "seq": 1, "next_by_subj": "d.a"}),
            vec![1, 3],
            "Nats-Num-Pending: 0\r\nNats-Last-Sequence: 3\r\n",
        ),
        (
            json!({"batch": 1, "start_time": "2020-01-01T00:00:00Z"}),
            vec![1],
            "Nats-Num-Pending: 3\r\nNats-Last-Sequence: 1\r\n",
        ),
        (
            json!({"multi_last": ["d.*", "d.a"]}),
            vec![2, 3, 4],
            "Nats-Num-Pending: 0\r\nNats-Last-Sequence: 4\r\nNats-UpTo-Sequence: 4\r\n",
        ),
        (
            json!({"multi_last": ["d.>"], "up_to_seq": 2}),
            vec![1, 2],
            "Nats-Num-Pending: 0\r\nNats-Last-Sequence: 2\r\nNats-UpTo-Sequence: 2\r\n",
        ),
        (
            json!({"multi_last": ["d.a", "d.b"], "batch": 1}),
            vec![2],
            "Nats-Num-Pending: 1\r\nNats-Last-Sequence: 2\r\nNats-UpTo-Sequence: 4\r\n",
        ),
    ] {
        let (mut headers, _) = asker.ask("$JS.API.DIRECT.GET.D", &asked.to_string()).await;
        for seq in seqs {
            assert!(headers.contains(&format!("Nats-Sequence: {seq}\r\n")), "{asked}: {headers:?}");
            headers = asker.answer().await.0;
        }
        assert_eq!(headers, format!("NATS/1.0 204 EOB\r\n{end}\r\n"), "{asked}");
    }
    for (asked, expected) in [
        ("{\"batch\":5,\"seq\":10}", "404 Message Not Found"),
        ("{\"batch\":5}", "408 Empty Request"),
        ("{\"multi_last\":[\"x.>\"]}", "404 No Results"),
        ("{\"seqq\":1}", "408 Empty Request"),
        ("{", "408 Malformed Request"),
    ] {
        let (headers, _) = asker.ask("$JS.API.DIRECT.GET.D", asked).await;
        assert_eq!(headers, format!("NATS/1.0 {expected}\r\n\r\n"), "{asked}");
    }
}
