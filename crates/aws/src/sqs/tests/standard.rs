//! Standard queues.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn what_is_sent_is_received_once_and_gone_when_deleted() {
    let rig = Rig::new();
    rig.create("jobs", &[]).await;
    let id = rig.send("jobs", "a").await;
    let messages = rig.receive("jobs", 10).await;
    assert_eq!((messages[0].message_id.as_str(), messages[0].body.as_str()), (id.as_str(), "a"));
    assert_eq!(messages[0].md5_of_body, "0cc175b9c0f1b6a831c399e269772661");
    assert_eq!(rig.counts("jobs").await, [0, 1, 0]);
    assert!(rig.receive("jobs", 10).await.is_empty());
    rig.delete("jobs", &messages[0].receipt_handle).await.unwrap();
    rig.delete("jobs", &messages[0].receipt_handle).await.unwrap();
    assert_eq!(rig.counts("jobs").await, [0, 0, 0]);
}

#[tokio::test]
async fn a_receive_gives_all_there_is_up_to_what_was_asked_for() {
    let rig = Rig::new();
    rig.create("jobs", &[]).await;
    rig.send("jobs", "0").await;
    // The first look is at one message; those that come later are found all the same.
    assert_eq!(rig.receive("jobs", 1).await.len(), 1);
    for body in ["1", "2", "3"] {
        rig.send("jobs", body).await;
    }
    rig.pass(30);
    rig.send("jobs", "4").await;
    assert_eq!(rig.bodies("jobs", 10).await, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn visibility_is_to_the_second_and_counts_its_receives() {
    let rig = Rig::new();
    rig.create("jobs", &[("VisibilityTimeout", "5")]).await;
    rig.send("jobs", "a").await;
    let first = rig.receive("jobs", 1).await.remove(0);
    rig.pass(4);
    assert!(rig.receive("jobs", 1).await.is_empty());
    rig.pass(1);
    let second = rig.receive("jobs", 1).await.remove(0);
    assert_ne!(first.receipt_handle, second.receipt_handle);
    assert_eq!(system(&second, "ApproximateReceiveCount"), Some("2"));
    assert_eq!(
        system(&second, "ApproximateFirstReceiveTimestamp"),
        system(&first, "ApproximateFirstReceiveTimestamp")
    );
    assert_eq!(system(&second, "SentTimestamp"), Some("1700000000000"));
    rig.hide("jobs", &second.receipt_handle, 60).await.unwrap();
    rig.pass(59);
    assert!(rig.receive("jobs", 1).await.is_empty());
    rig.hide("jobs", &second.receipt_handle, 0).await.unwrap();
    assert_eq!(rig.receive("jobs", 1).await.len(), 1);
}

#[tokio::test]
async fn an_old_handle_deletes_and_hides_and_a_foreign_one_is_refused() {
    let rig = Rig::new();
    rig.create("jobs", &[("VisibilityTimeout", "1")]).await;
    rig.create("other", &[]).await;
    rig.send("jobs", "a").await;
    let old = rig.receive("jobs", 1).await.remove(0).receipt_handle;
    rig.pass(1);
    rig.hide("jobs", &old, 2).await.unwrap();
    rig.receive("jobs", 1).await;
    rig.hide("jobs", &old, 100).await.unwrap();
    rig.pass(50);
    assert!(rig.receive("jobs", 1).await.is_empty());
    for (foreign, text) in [
        (old.as_str(), format!("The receipt handle \"{old}\" is not valid for this queue.")),
        ("unknown", "The input receipt handle is invalid.".to_owned()),
    ] {
        let error = rig.delete("other", foreign).await.unwrap_err();
        assert_eq!((error.code, &*error.message), ("ReceiptHandleIsInvalid", text.as_str()));
    }
    rig.delete("jobs", &old).await.unwrap();
    assert_eq!(rig.counts("jobs").await, [0, 0, 0]);
    let gone = rig.hide("jobs", &old, 1).await.unwrap_err();
    assert!(
        gone.message.ends_with("Message does not exist or is not available for visibility timeout change.")
    );
}

#[tokio::test]
async fn a_message_is_hidden_for_twelve_hours_in_all_at_most() {
    let rig = Rig::new();
    rig.create("jobs", &[]).await;
    rig.send("jobs", "a").await;
    let handle = rig.receive("jobs", 1).await.remove(0).receipt_handle;
    rig.pass(10);
    rig.hide("jobs", &handle, 43_190).await.unwrap();
    let error = rig.hide("jobs", &handle, 43_191).await.unwrap_err();
    assert_eq!(
        error.message,
        "Value 43191 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout for the message is beyond the limit [43200 seconds]"
    );
    assert_eq!(rig.hide("jobs", &handle, 43_201).await.unwrap_err().code, "InvalidParameterValue");
}

#[tokio::test]
async fn a_receive_that_waits_is_woken_by_a_message_and_by_the_end_of_its_queue() {
    let rig = Rig::new();
    rig.create("jobs", &[]).await;
    let waiting = || rig.received(ReceiveMessageInput { wait_time_seconds: Some(20), ..asked("jobs") });
    let late = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        rig.send("jobs", "a").await
    };
    let (messages, id) = tokio::join!(waiting(), late);
    assert_eq!(messages.unwrap()[0].message_id, id);
    let deletion = async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let input = crate::shapes::DeleteQueueInput { queue_url: "jobs".into() };
        rig.call(crate::shapes::Input::DeleteQueue(input)).await.unwrap();
    };
    let (ended, ()) = tokio::join!(waiting(), deletion);
    assert_eq!(ended.unwrap_err().code, "AWS.SimpleQueueService.NonExistentQueue");
}

#[tokio::test]
async fn a_delayed_message_waits_for_its_time_counts_as_delayed_and_holds_up_nobody() {
    let mut rig = Rig::new();
    rig.create("jobs", &[("DelaySeconds", "10")]).await;
    rig.send("jobs", "by queue").await;
    rig.sent(SendMessageInput { delay_seconds: Some(0), ..message("jobs", "now") }).await.unwrap();
    rig.sent(SendMessageInput { delay_seconds: Some(900), ..message("jobs", "late") }).await.unwrap();
    assert_eq!(rig.counts("jobs").await, [1, 0, 2]);
    rig.reopen();
    assert_eq!(rig.counts("jobs").await, [1, 0, 2]);
    assert_eq!(rig.bodies("jobs", 10).await, ["now"]);
    rig.pass(10);
    let messages = rig.receive("jobs", 10).await;
    assert_eq!(messages[0].body, "by queue");
    assert_eq!(system(&messages[0], "ApproximateReceiveCount"), Some("1"));
    assert_eq!(system(&messages[0], "ApproximateFirstReceiveTimestamp"), Some("1700000010000"));
    // Changing the queue's delay leaves messages that are there alone.
    rig.set("jobs", &[("DelaySeconds", "0")]).await.unwrap();
    assert_eq!(rig.counts("jobs").await, [0, 2, 1]);
    for bad in [-1, 901] {
        let input = SendMessageInput { delay_seconds: Some(bad), ..message("jobs", "x") };
        assert_eq!(rig.sent(input).await.unwrap_err().code, "InvalidParameterValue");
    }
}

#[tokio::test]
async fn what_nobody_got_is_as_if_it_had_not_been_received() {
    let rig = Rig::new();
    rig.create("jobs", &[]).await;
    rig.send("jobs", "a").await;
    let ctx = rig.ctx();
    let input = crate::shapes::Input::ReceiveMessage(asked("jobs"));
    rig.server.sqs.call(&ctx, input).await.unwrap();
    assert_eq!(rig.counts("jobs").await, [0, 1, 0]);
    drop(ctx);
    rig.pass(1);
    let message = rig.receive("jobs", 1).await.remove(0);
    assert_eq!(system(&message, "ApproximateReceiveCount"), Some("1"));
    assert_eq!(system(&message, "ApproximateFirstReceiveTimestamp"), Some("1700000001000"));
}

#[tokio::test]
async fn messages_leases_and_counts_survive_a_restart() {
    let mut rig = Rig::new();
    rig.create("jobs", &[("VisibilityTimeout", "5")]).await;
    let id = rig.send("jobs", "a").await;
    rig.send("jobs", "b").await;
    let handle = rig.receive("jobs", 1).await.remove(0).receipt_handle;
    rig.reopen();
    assert_eq!(rig.counts("jobs").await, [1, 1, 0]);
    assert_eq!(rig.bodies("jobs", 10).await, ["b"]);
    rig.pass(5);
    let again = rig.receive("jobs", 1).await.remove(0);
    assert_eq!((&again.message_id, system(&again, "ApproximateReceiveCount")), (&id, Some("2")));
    rig.delete("jobs", &handle).await.unwrap();
    assert_eq!(rig.counts("jobs").await, [1, 0, 0]);
}

#[tokio::test]
async fn messages_past_the_retention_are_not_received() {
    let rig = Rig::new();
    rig.create("jobs", &[]).await;
    rig.send("jobs", "old").await;
    rig.pass(50);
    rig.send("jobs", "new").await;
    rig.pass(20);
    assert_eq!(rig.counts("jobs").await, [2, 0, 0]);
    rig.set("jobs", &[("MessageRetentionPeriod", "60")]).await.unwrap();
    assert_eq!(rig.bodies("jobs", 10).await, ["new"]);
}

#[tokio::test]
async fn a_purge_takes_everything() {
    let rig = Rig::new();
    rig.create("jobs", &[]).await;
    rig.send("jobs", "in flight").await;
    rig.receive("jobs", 1).await;
    rig.send("jobs", "visible").await;
    rig.sent(SendMessageInput { delay_seconds: Some(9), ..message("jobs", "delayed") }).await.unwrap();
    assert_eq!(rig.counts("jobs").await, [1, 1, 1]);
    let purge = || {
        rig.call(crate::shapes::Input::PurgeQueue(crate::shapes::PurgeQueueInput {
            queue_url: "jobs".into(),
        }))
    };
    purge().await.unwrap();
    purge().await.unwrap();
    assert_eq!(rig.counts("jobs").await, [0, 0, 0]);
    rig.send("jobs", "after").await;
    assert_eq!(rig.bodies("jobs", 10).await, ["after"]);
}

#[tokio::test]
async fn a_message_longer_than_its_queue_takes_is_refused() {
    let rig = Rig::new();
    rig.create("jobs", &[("MaximumMessageSize", "1024")]).await;
    for len in [1_023, 1_024] {
        rig.send("jobs", &"x".repeat(len)).await;
    }
    let error = rig.sent(message("jobs", &"x".repeat(1_025))).await.unwrap_err();
    assert_eq!(
        (error.code, &*error.message),
        (
            "InvalidParameterValue",
            "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes."
        )
    );
    assert_eq!(
        &*rig.sent(message("jobs", "")).await.unwrap_err().message,
        "The request must contain the parameter MessageBody."
    );
    assert_eq!(rig.sent(message("jobs", "\u{1}")).await.unwrap_err().code, "InvalidMessageContents");
}

#[tokio::test]
async fn groups_of_a_standard_queue_are_shown_and_block_nobody() {
    let rig = Rig::new();
    rig.create("jobs", &[]).await;
    for body in ["a", "b"] {
        rig.sent(grouped("jobs", "g", body)).await.unwrap();
    }
    let first = rig.receive("jobs", 1).await.remove(0);
    assert_eq!(system(&first, "MessageGroupId"), Some("g"));
    assert_eq!(rig.bodies("jobs", 1).await, ["b"]);
    let error = rig.sent(grouped("jobs", "a b", "x")).await.unwrap_err();
    assert!(error.message.starts_with("Value a b for parameter MessageGroupId is invalid."));
}

#[tokio::test]
async fn a_quiet_group_does_not_wait_behind_a_noisy_one_that_has_much_in_flight() {
    let rig = Rig::new();
    rig.create("jobs", &[]).await;
    for at in 0..40 {
        rig.sent(grouped("jobs", "noisy", &format!("noisy {at}"))).await.unwrap();
    }
    let out: Vec<_> = rig.receive("jobs", 10).await;
    assert_eq!(out.len(), 10);
    for body in ["quiet 1", "quiet 2"] {
        rig.sent(grouped("jobs", "quiet", body)).await.unwrap();
    }
    rig.sent(message("jobs", "of no group")).await.unwrap();
    let next = rig.bodies("jobs", 3).await;
    assert_eq!(next, ["quiet 1", "of no group", "quiet 2"], "what is quieter comes first");
    let rest = rig.bodies("jobs", 10).await;
    assert_eq!(rest, (10..20).map(|at| format!("noisy {at}")).collect::<Vec<_>>(), "nothing else is there");
    for one in out {
        rig.delete("jobs", &one.receipt_handle).await.unwrap();
    }
    let mut seen = 20;
    while seen < 40 {
        let more = rig.bodies("jobs", 10).await;
        assert!(!more.is_empty(), "{seen}");
        seen += more.len();
    }
}
