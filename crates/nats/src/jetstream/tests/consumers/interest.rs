//! Streams that keep what somebody is still to have.

use super::*;

fn config(retention: &str) -> Value {
    json!({"name": "S", "subjects": ["a.*"], "retention": retention})
}

async fn take(asker: &mut Asker, name: &str, subjects: &[&str]) {
    for subject in subjects {
        asker.next(name, "1").await;
        let got = asker.got().await;
        assert_eq!(got.subject, *subject);
        asker.ack(&got, "").await;
    }
}

#[tokio::test]
async fn a_stream_turns_from_limits_to_interest_and_back() {
    let mut rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(config("limits")).await;
    for n in 0..4 {
        asker.put(&format!("a.{n}")).await;
    }
    asker.consumer(json!({"durable_name": "all", "ack_policy": "explicit"})).await;
    asker.consumer(json!({"durable_name": "one", "ack_policy": "explicit", "filter_subject": "a.1"})).await;
    take(&mut asker, "all", &["a.0", "a.1", "a.2"]).await;
    assert_eq!(asker.state("S").await, [4, 1, 4]);
    let answer = asker.api("STREAM.UPDATE.S", config("workqueue")).await;
    assert_eq!(err_code(&answer), 10_052, "{answer}");
    let answer = asker.api("STREAM.UPDATE.S", config("interest")).await;
    assert_eq!(answer["config"]["retention"], "interest", "{answer}");
    assert_eq!(asker.state("S").await, [2, 2, 4], "one is still to have the second, all the last");
    take(&mut asker, "one", &["a.1"]).await;
    assert_eq!(asker.state("S").await, [1, 4, 4]);
    rig.reopen(0);
    let mut asker = Asker::new(&rig).await;
    asker.put("a.4").await;
    take(&mut asker, "all", &["a.3"]).await;
    assert_eq!(asker.state("S").await, [1, 5, 5], "it is one of interest after a restart too");
    let answer = asker.api("STREAM.UPDATE.S", config("limits")).await;
    assert_eq!(answer["config"]["retention"], "limits", "{answer}");
    take(&mut asker, "all", &["a.4"]).await;
    assert_eq!(asker.state("S").await, [1, 5, 5]);
}

#[tokio::test]
async fn what_nobody_but_a_deleted_consumer_was_to_have_is_gone_with_it() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(config("interest")).await;
    for (name, filter) in [("all", "a.*"), ("one", "a.1"), ("none", "a.9")] {
        let config = json!({"durable_name": name, "ack_policy": "explicit", "filter_subject": filter});
        assert_eq!(err_code(&asker.consumer(config).await), 0);
    }
    for subject in ["a.0", "a.1", "a.2", "a.1"] {
        asker.put(subject).await;
    }
    take(&mut asker, "all", &["a.0", "a.1", "a.2"]).await;
    assert_eq!(asker.state("S").await, [2, 2, 4], "those that they are not for are not waited for");
    asker.api("CONSUMER.DELETE.S.one", Value::Null).await;
    assert_eq!(asker.state("S").await, [1, 4, 4]);
    asker.api("CONSUMER.DELETE.S.none", Value::Null).await;
    assert_eq!(asker.state("S").await, [1, 4, 4]);
    asker.api("CONSUMER.DELETE.S.all", Value::Null).await;
    assert_eq!(asker.state("S").await, [0, 5, 4]);
}

#[tokio::test]
async fn what_was_delivered_as_often_as_it_may_stays_where_an_interest_is_left() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(config("interest")).await;
    let spent = json!({"durable_name": "c", "ack_policy": "explicit", "max_deliver": 1,
        "ack_wait": 100_000_000});
    assert_eq!(err_code(&asker.consumer(spent).await), 0);
    asker.put("a.0").await;
    asker.put("a.1").await;
    asker.next("c", "1").await;
    let first = asker.got().await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    take(&mut asker, "c", &["a.1"]).await;
    assert_eq!(asker.state("S").await, [1, 1, 2], "the one that is spent was not acknowledged");
    asker.ack(&first, "").await;
    assert_eq!(asker.state("S").await, [0, 3, 2]);
}

#[tokio::test]
async fn who_holds_no_message_of_a_stream_that_turns_to_interest_is_told_to_begin_anew() {
    let rig = Rig::new();
    let mut asker = Asker::new(&rig).await;
    asker.create(config("limits")).await;
    let ordered = json!({"name": "o", "ack_policy": "none", "mem_storage": true, "max_deliver": 1,
        "inactive_threshold": 300_000_000_000_i64});
    assert_eq!(err_code(&asker.consumer(ordered.clone()).await), 0);
    asker.next("o", r#"{"expires":30000000000}"#).await;
    let update = config("interest").to_string();
    asker.peer.send(&format!("PUB $JS.API.STREAM.UPDATE.S re {}\r\n{update}\r\n", update.len())).await;
    let told = [asker.got().await, asker.got().await];
    assert!(told.iter().any(|one| one.headers.starts_with("NATS/1.0 409 Consumer Deleted\r\n")), "{told:?}");
    assert!(told.iter().any(|one| one.body.contains("\"retention\":\"interest\"")), "{told:?}");
    assert_eq!(err_code(&asker.consumer(ordered).await), 0);
    asker.put("a.0").await;
    asker.next("o", "1").await;
    assert_eq!(asker.got().await.subject, "a.0");
    assert_eq!(asker.state("S").await[0], 0, "what is delivered is done with");
}
