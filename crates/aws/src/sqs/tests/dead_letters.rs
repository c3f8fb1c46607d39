//! Dead letters.

use super::*;

const DEAD_ARN: &str = "arn:aws:sqs:us-east-1:000000000000:dead";

fn policy(count: u32) -> String {
    format!(r#"{{"deadLetterTargetArn":"{DEAD_ARN}","maxReceiveCount":{count}}}"#)
}

async fn with_dead_letters(rig: &Rig, count: u32) {
    rig.create("dead", &[]).await;
    rig.create("jobs", &[("VisibilityTimeout", "1"), ("RedrivePolicy", &policy(count))]).await;
}

#[tokio::test]
async fn a_message_moves_when_it_would_be_received_once_too_often() {
    let mut rig = Rig::new();
    with_dead_letters(&rig, 1).await;
    let id = rig.send("jobs", "a").await;
    assert_eq!(rig.bodies("jobs", 1).await, ["a"]);
    rig.pass(1);
    assert_eq!(
        (rig.counts("jobs").await, rig.counts("dead").await),
        ([1, 0, 0], [0, 0, 0]),
        "visible until then"
    );
    assert!(rig.receive("jobs", 1).await.is_empty());
    assert_eq!((rig.counts("jobs").await, rig.counts("dead").await), ([0, 0, 0], [1, 0, 0]));
    rig.reopen();
    let dead = rig.receive("dead", 1).await.remove(0);
    assert_eq!((&dead.message_id, dead.body.as_str()), (&id, "a"));
    assert_eq!(system(&dead, "ApproximateReceiveCount"), Some("2"));
    assert_eq!(system(&dead, "SentTimestamp"), Some("1700000000000"));
    assert_eq!(system(&dead, "DeadLetterQueueSourceArn"), Some("arn:aws:sqs:us-east-1:000000000000:jobs"));
}

#[tokio::test]
async fn a_receive_passes_over_what_it_moves() {
    let rig = Rig::new();
    with_dead_letters(&rig, 1).await;
    rig.send("jobs", "a").await;
    rig.receive("jobs", 1).await;
    rig.pass(1);
    rig.send("jobs", "b").await;
    assert_eq!(rig.bodies("jobs", 1).await, ["b"]);
    assert_eq!(rig.bodies("dead", 1).await, ["a"]);
}

#[tokio::test]
async fn a_policy_holds_for_what_was_received_before_and_a_message_without_a_place_to_go_to_stays() {
    let rig = Rig::new();
    rig.create("dead", &[]).await;
    rig.create("jobs", &[("VisibilityTimeout", "1")]).await;
    rig.send("jobs", "a").await;
    for _ in 0..3 {
        assert_eq!(rig.receive("jobs", 1).await.len(), 1);
        rig.pass(1);
    }
    rig.set("jobs", &[("RedrivePolicy", &policy(3))]).await.unwrap();
    rig.set("jobs", &[("RedrivePolicy", &policy(4))]).await.unwrap();
    assert_eq!(rig.receive("jobs", 1).await.len(), 1);
    rig.pass(1);
    let input = crate::shapes::DeleteQueueInput { queue_url: "dead".into() };
    rig.call(crate::shapes::Input::DeleteQueue(input)).await.unwrap();
    assert_eq!(rig.receive("jobs", 1).await.len(), 1);
    rig.pass(1);
    rig.create("dead", &[]).await;
    assert!(rig.receive("jobs", 1).await.is_empty());
    assert_eq!(rig.bodies("dead", 1).await, ["a"]);
}

#[tokio::test]
async fn a_group_goes_on_behind_a_message_that_moved() {
    let rig = Rig::new();
    rig.create("dead.fifo", &[("FifoQueue", "true")]).await;
    let arn = format!("{DEAD_ARN}.fifo");
    let policy = format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":"1"}}"#);
    rig.create(
        "q.fifo",
        &[
            ("FifoQueue", "true"),
            ("VisibilityTimeout", "1"),
            ("ContentBasedDeduplication", "true"),
            ("RedrivePolicy", &policy),
        ],
    )
    .await;
    for body in ["1", "2"] {
        rig.sent(grouped("q.fifo", "g", body)).await.unwrap();
    }
    assert_eq!(rig.bodies("q.fifo", 1).await, ["1"]);
    rig.pass(1);
    assert_eq!(rig.bodies("q.fifo", 10).await, ["2"]);
    let dead = rig.receive("dead.fifo", 1).await.remove(0);
    assert_eq!((dead.body.as_str(), system(&dead, "MessageGroupId")), ("1", Some("g")));
}

#[tokio::test]
async fn a_policy_that_cannot_hold_is_refused_in_aws_s_words() {
    let rig = Rig::new();
    rig.create("dead", &[]).await;
    rig.create("dead.fifo", &[("FifoQueue", "true")]).await;
    rig.create("closed", &[("RedriveAllowPolicy", r#"{"redrivePermission":"denyAll"}"#)]).await;
    let arn = |name: &str| format!("arn:aws:sqs:us-east-1:000000000000:{name}");
    for (policy, reason) in [
        ("x".to_owned(), "Redrive policy is not a valid JSON map."),
        (
            format!(r#"{{"deadLetterTargetArn":"{}"}}"#, arn("dead")),
            "Redrive policy does not contain mandatory attribute: maxReceiveCount.",
        ),
        (
            r#"{"maxReceiveCount":1}"#.to_owned(),
            "Redrive policy does not contain mandatory attribute: deadLetterTargetArn.",
        ),
        (
            format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":1001}}"#, arn("dead")),
            "Invalid value for maxReceiveCount: 1001, valid values are from 1 to 1000 both inclusive.",
        ),
        (
            format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":"0"}}"#, arn("dead")),
            "Invalid value for maxReceiveCount: 0, valid values are from 1 to 1000 both inclusive.",
        ),
        (
            format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":1}}"#, arn("nowhere")),
            "Dead letter target does not exist.",
        ),
        (
            format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":1}}"#, arn("dead.fifo")),
            "Dead-letter queue must be same type of queue as the source.",
        ),
        (
            format!(r#"{{"deadLetterTargetArn":"{}","maxReceiveCount":1}}"#, arn("closed")),
            "The dead-letter queue's redrive allow policy does not allow this queue to use it.",
        ),
    ] {
        let error = rig.try_create("jobs", &[("RedrivePolicy", &policy)]).await.unwrap_err();
        let expected = format!("Value {policy} for parameter RedrivePolicy is invalid. Reason: {reason}");
        assert_eq!((error.code, &*error.message), ("InvalidParameterValue", expected.as_str()));
    }
    for good in ["", "{}", &policy(1_000)] {
        rig.create(&format!("jobs{}", good.len()), &[("RedrivePolicy", good)]).await;
    }
    assert_eq!(rig.attribute("jobs0", "RedrivePolicy").await, "");
}

#[tokio::test]
async fn the_sources_of_a_dead_letter_queue_are_listed() {
    let rig = Rig::new();
    with_dead_letters(&rig, 1).await;
    rig.create("more", &[("RedrivePolicy", &policy(2))]).await;
    let input = crate::shapes::ListDeadLetterSourceQueuesInput {
        queue_url: "dead".into(),
        next_token: None,
        max_results: None,
    };
    let crate::shapes::Output::ListDeadLetterSourceQueues(output) =
        rig.call(crate::shapes::Input::ListDeadLetterSourceQueues(input)).await.unwrap()
    else {
        panic!();
    };
    assert_eq!(
        output.queue_urls.0,
        ["http://localhost:4566/000000000000/jobs", "http://localhost:4566/000000000000/more"]
    );
}

#[tokio::test]
async fn every_queue_has_a_dead_letter_queue_where_the_settings_say_so() {
    let rig = Rig::with(crate::Options { default_dead_letter: Some(1), ..crate::Options::default() });
    rig.create("jobs", &[("VisibilityTimeout", "1")]).await;
    rig.create("jobs", &[("VisibilityTimeout", "1")]).await;
    rig.send("jobs", "a").await;
    rig.receive("jobs", 1).await;
    rig.pass(1);
    assert!(rig.receive("jobs", 1).await.is_empty());
    let policy: serde_json::Value =
        serde_json::from_str(&rig.attribute("jobs", "RedrivePolicy").await).unwrap();
    let shown = policy["deadLetterTargetArn"].as_str().unwrap().rsplit(':').next().unwrap();
    assert!(rig.broker().stream(&key("jobs.dlq")).is_some() && shown.starts_with("jobs_dlq-"), "{shown}");
    assert_eq!(rig.bodies(shown, 1).await, ["a"]);
}

#[tokio::test]
async fn dead_letters_go_back_where_they_came_from_with_a_task() {
    let rig = Rig::new();
    with_dead_letters(&rig, 1).await;
    let start = |arn: &'static str| {
        let input = crate::shapes::StartMessageMoveTaskInput {
            source_arn: arn.into(),
            destination_arn: None,
            max_number_of_messages_per_second: None,
        };
        rig.call(crate::shapes::Input::StartMessageMoveTask(input))
    };
    let id = rig.send("jobs", "a").await;
    rig.receive("jobs", 1).await;
    rig.pass(1);
    rig.receive("jobs", 1).await;
    let error = start("arn:aws:sqs:us-east-1:000000000000:jobs").await.unwrap_err();
    assert_eq!(error.message, "Source queue must be configured as a Dead Letter Queue.");
    let error = start("arn:aws:sqs:us-east-1:000000000000:nowhere").await.unwrap_err();
    assert_eq!((error.code, error.status.as_u16()), ("ResourceNotFoundException", 404));
    start(DEAD_ARN).await.unwrap();
    let waiting = ReceiveMessageInput { wait_time_seconds: Some(20), ..asked("jobs") };
    let back = rig.received(waiting).await.unwrap().remove(0);
    assert_eq!(back.message_id, id);
    assert_eq!(system(&back, "DeadLetterQueueSourceArn"), None);
}

#[tokio::test]
async fn a_message_that_moved_twice_names_the_queue_that_it_came_from_last() {
    let mut rig = Rig::new();
    rig.create("last", &[]).await;
    let to = |name: &str| {
        let arn = format!("arn:aws:sqs:us-east-1:000000000000:{name}");
        format!(r#"{{"deadLetterTargetArn":"{arn}","maxReceiveCount":1}}"#)
    };
    rig.create("dead", &[("VisibilityTimeout", "1"), ("RedrivePolicy", &to("last"))]).await;
    rig.create("jobs", &[("VisibilityTimeout", "1"), ("RedrivePolicy", &to("dead"))]).await;
    let id = rig.send("jobs", "a").await;
    for queue in ["jobs", "dead"] {
        assert_eq!(rig.receive(queue, 1).await.len(), 1, "{queue}");
        rig.pass(1);
        assert!(rig.receive(queue, 1).await.is_empty(), "{queue}");
    }
    rig.reopen();
    let last = rig.receive("last", 1).await.remove(0);
    assert_eq!(last.message_id, id);
    assert_eq!(system(&last, "DeadLetterQueueSourceArn"), Some("arn:aws:sqs:us-east-1:000000000000:dead"));
}

#[tokio::test]
async fn a_queue_over_a_log_sends_its_dead_letters_where_its_policy_says_and_the_log_keeps_its_records() {
    let rig = Rig::new();
    rig.create("dead", &[]).await;
    let log = model::StreamKey { kind: model::Kind::Log, ..key("events") };
    let stream =
        rig.broker().create_stream(log.clone(), broker::StreamSpec::with_partitions(1)).await.unwrap();
    let settings =
        broker::StreamSettings { mode: broker::Mode::Queue, over: Some(log), ..Default::default() };
    let spec = broker::StreamSpec { settings, ..broker::StreamSpec::with_partitions(1) };
    rig.broker().create_stream(key("jobs"), spec).await.unwrap();
    for body in ["a", "b"] {
        rig.send("jobs", body).await;
    }
    rig.set("jobs", &[("VisibilityTimeout", "1"), ("RedrivePolicy", &policy(2))]).await.unwrap();
    for _ in 0..2 {
        assert_eq!(rig.bodies("jobs", 10).await, ["a", "b"]);
        rig.pass(1);
    }
    assert!(rig.receive("jobs", 10).await.is_empty());
    let dead = rig.receive("dead", 10).await;
    assert_eq!(dead.iter().map(|one| one.body.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(stream.partitions()[0].stats().records, 2, "they stay in the log");
    rig.send("jobs", "c").await;
    assert_eq!(rig.bodies("jobs", 10).await, ["c"]);
}
