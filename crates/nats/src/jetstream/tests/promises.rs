//! Answers that promise storage: after the sync, or not at all.
#![allow(clippy::disallowed_methods)]

use std::sync::atomic::Ordering;

use super::*;

/// A sync of these tests, milliseconds.
const SYNC_MS: u64 = 200;

/// Asks for everything that has a durable answer, in an order in which each is possible; `check` sees each.
async fn ask_for_all(rig: &mut Rig, mut check: impl FnMut(&str, &str, std::time::Duration)) {
    let mut asker = Asker::new(rig).await;
    let pull = r#"{"stream_name":"S","config":{"durable_name":"c","ack_policy":"explicit"}}"#;
    let changed =
        r#"{"stream_name":"S","config":{"durable_name":"c","ack_policy":"explicit","description":"d"}}"#;
    let ephemeral = r#"{"stream_name":"S","config":{"name":"e","ack_policy":"explicit"}}"#;
    let reply = "$JS.ACK.S.c.1.2.1.1.0";
    let requests = [
        ("$JS.API.STREAM.CREATE.S", r#"{"name":"S","subjects":["a"]}"#),
        ("a", "x"),
        ("$JS.API.STREAM.UPDATE.S", r#"{"name":"S","subjects":["a"],"max_msgs":5}"#),
        ("a", "y"),
        ("$JS.API.STREAM.MSG.DELETE.S", r#"{"seq":1}"#),
        ("$JS.API.CONSUMER.CREATE.S.c", pull),
        ("$JS.API.CONSUMER.CREATE.S.c", changed),
        ("$JS.API.CONSUMER.CREATE.S.e", ephemeral),
        ("$JS.API.CONSUMER.PAUSE.S.c", r#"{"pause_until":"2999-01-01T00:00:00Z"}"#),
        ("$JS.API.CONSUMER.PAUSE.S.c", ""),
        ("$JS.API.CONSUMER.MSG.NEXT.S.c", ""),
        (reply, "+ACK"),
        ("$JS.API.CONSUMER.DELETE.S.c", ""),
        ("$JS.API.STREAM.PURGE.S", ""),
        ("$JS.API.STREAM.DELETE.S", ""),
    ];
    for (subject, body) in requests {
        if subject.contains("MSG.NEXT") {
            asker.peer.send(&format!("PUB {subject} re 0\r\n\r\n")).await;
            assert!(asker.line().await.starts_with("MSG a 1 $JS.ACK.S.c.1.2.1."));
            asker.line().await;
            continue;
        }
        let began = std::time::Instant::now();
        let (_, answer) = asker.ask(subject, body).await;
        check(subject, &answer, began.elapsed());
    }
}

#[tokio::test]
async fn no_answer_that_promises_storage_comes_before_the_sync() {
    let mut rig = Rig::new();
    rig.reopen(SYNC_MS);
    ask_for_all(&mut rig, |subject, answer, took| {
        assert!(!answer.contains("error"), "{subject}: {answer}");
        assert!(took.as_millis() >= u128::from(SYNC_MS), "{subject} was answered after {took:?}");
    })
    .await;
}

#[tokio::test]
async fn who_has_an_answer_finds_in_another_stream_what_was_published_again() {
    let mut rig = Rig::new();
    rig.reopen(SYNC_MS);
    let mut asker = Asker::new(&rig).await;
    asker
        .create(
            json!({"name": "S", "subjects": ["a.*"], "republish": {"src": "a.*", "dest": "r.{{wildcard(1)}}"}}),
        )
        .await;
    asker.create(json!({"name": "T", "subjects": ["r.*"]})).await;
    for name in ["x", "y"] {
        asker.put(&format!("a.{name}")).await;
        let found = asker.api("STREAM.MSG.GET.T", json!({"last_by_subj": format!("r.{name}")})).await;
        assert_eq!(found["message"]["subject"], format!("r.{name}"), "{found}");
    }
}

#[tokio::test]
async fn nothing_is_promised_once_the_disk_has_failed() {
    let mut rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(json!({"name": "S", "subjects": ["a"]})).await;
    asker.put("a").await;
    let asked = json!({"stream_name": "S", "config": {"durable_name": "c", "ack_policy": "explicit"}});
    asker.api("CONSUMER.CREATE.S.c", asked).await;
    let wrong = rig.reopen_on_failing_disk();
    let mut asker = Asker::new(&rig).await;
    asker.peer.send("PUB $JS.API.CONSUMER.MSG.NEXT.S.c re 0\r\n\r\n").await;
    let head = asker.line().await;
    assert!(head.starts_with("MSG a 1 $JS.ACK.S.c.1.1.1."), "{head}");
    assert_eq!(asker.line().await, "x\r\n");
    wrong.sync.store(true, Ordering::SeqCst);
    // The acknowledgement is first, while nobody knows that the disk is gone: it is not answered.
    asker.peer.send("SUB acked 9\r\nPUB $JS.ACK.S.c.1.1.1.1.0 acked 4\r\n+ACK\r\n").await;
    let config = r#"{"name":"T","subjects":["t"]}"#;
    let pull = r#"{"stream_name":"S","config":{"durable_name":"d","ack_policy":"explicit"}}"#;
    for (subject, body) in [
        ("a", "y"),
        ("$JS.API.STREAM.CREATE.T", config),
        ("$JS.API.STREAM.UPDATE.S", r#"{"name":"S","subjects":["a"],"max_msgs":5}"#),
        ("$JS.API.STREAM.MSG.DELETE.S", r#"{"seq":1}"#),
        ("$JS.API.CONSUMER.CREATE.S.d", pull),
        ("$JS.API.CONSUMER.PAUSE.S.c", r#"{"pause_until":"2999-01-01T00:00:00Z"}"#),
        ("$JS.API.CONSUMER.DELETE.S.c", ""),
        ("$JS.API.STREAM.PURGE.S", ""),
        ("a", "z"),
        ("$JS.API.STREAM.DELETE.S", ""),
    ] {
        let (_, answer) = asker.ask(subject, body).await;
        assert!(answer.contains("\"error\""), "{subject}: {answer}");
    }
    asker.peer.send("PUB re 3\r\nend\r\n").await;
    assert_eq!(asker.answer().await.1, "end");
}
