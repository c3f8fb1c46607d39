//! FIFO queues. The orders of groups are those that AWS was seen to give.

use super::*;

async fn fifo(rig: &Rig, more: &[(&str, &str)]) {
    let attributes: Vec<_> =
        [("FifoQueue", "true"), ("ContentBasedDeduplication", "true")].iter().chain(more).copied().collect();
    rig.create("q.fifo", &attributes).await;
}

async fn send(rig: &Rig, all: &[(&str, &str)]) {
    for (group, body) in all {
        rig.sent(grouped("q.fifo", group, body)).await.unwrap();
    }
}

async fn at_once(rig: &Rig, count: i32) -> Vec<String> {
    let input = ReceiveMessageInput {
        max_number_of_messages: Some(count),
        visibility_timeout: Some(0),
        ..asked("q.fifo")
    };
    rig.received(input).await.unwrap().into_iter().map(|message| message.body).collect()
}

#[tokio::test]
async fn as_many_as_possible_of_one_group_come_first_and_groups_take_turns() {
    let rig = Rig::new();
    fifo(&rig, &[]).await;
    send(&rig, &[("1", "11"), ("2", "21"), ("2", "22"), ("3", "31"), ("1", "12")]).await;
    assert_eq!(at_once(&rig, 3).await, ["11", "12", "21"]);
    assert_eq!(at_once(&rig, 10).await, ["31", "11", "12", "21", "22"]);
}

#[tokio::test]
async fn a_group_in_flight_gives_nothing_until_its_last_message_is_deleted() {
    let rig = Rig::new();
    fifo(&rig, &[]).await;
    send(&rig, &[("1", "11"), ("2", "21"), ("1", "12"), ("2", "22"), ("1", "13"), ("3", "31")]).await;
    let first = rig.receive("q.fifo", 2).await;
    assert_eq!(first.iter().map(|one| one.body.as_str()).collect::<Vec<_>>(), ["11", "12"]);
    rig.delete("q.fifo", &first[0].receipt_handle).await.unwrap();
    send(&rig, &[("1", "14")]).await;
    assert_eq!(rig.bodies("q.fifo", 10).await, ["21", "22", "31"]);
    rig.delete("q.fifo", &first[1].receipt_handle).await.unwrap();
    assert_eq!(rig.bodies("q.fifo", 10).await, ["13", "14"]);
}

#[tokio::test]
async fn a_message_that_is_visible_again_comes_before_those_that_are_still_in_flight() {
    let rig = Rig::new();
    fifo(&rig, &[]).await;
    send(&rig, &[("1", "11"), ("1", "12"), ("2", "21")]).await;
    let first = rig.receive("q.fifo", 2).await;
    rig.hide("q.fifo", &first[0].receipt_handle, 0).await.unwrap();
    assert_eq!(rig.bodies("q.fifo", 3).await, ["21", "11"]);
}

#[tokio::test]
async fn an_extended_message_hides_those_after_it_and_not_those_before() {
    for (extended, expected) in [(0, &[][..]), (1, &["1"][..]), (2, &["1", "2"][..])] {
        let rig = Rig::new();
        fifo(&rig, &[("VisibilityTimeout", "1")]).await;
        send(&rig, &[("g", "1"), ("g", "2"), ("g", "3")]).await;
        let all = rig.receive("q.fifo", 5).await;
        rig.hide("q.fifo", &all[extended].receipt_handle, 4).await.unwrap();
        rig.pass(2);
        assert_eq!(rig.bodies("q.fifo", 5).await, expected, "{extended}");
    }
}

#[tokio::test]
async fn an_expired_handle_does_not_delete_and_an_extended_one_does() {
    let rig = Rig::new();
    fifo(&rig, &[("VisibilityTimeout", "1")]).await;
    send(&rig, &[("g", "1"), ("h", "2")]).await;
    let all = rig.receive("q.fifo", 2).await;
    rig.hide("q.fifo", &all[1].receipt_handle, 60).await.unwrap();
    rig.pass(1);
    let error = rig.delete("q.fifo", &all[0].receipt_handle).await.unwrap_err();
    assert_eq!(error.code, "InvalidParameterValue");
    assert!(
        error
            .message
            .ends_with("for parameter ReceiptHandle is invalid. Reason: The receipt handle has expired.")
    );
    rig.delete("q.fifo", &all[1].receipt_handle).await.unwrap();
    rig.delete("q.fifo", &all[1].receipt_handle).await.unwrap();
    assert_eq!(rig.counts("q.fifo").await, [1, 0, 0]);
}

#[tokio::test]
async fn a_duplicate_is_answered_as_its_original_for_five_minutes_also_after_delete_and_restart() {
    let mut rig = Rig::new();
    fifo(&rig, &[]).await;
    let original = rig.sent(grouped("q.fifo", "g", "a")).await.unwrap();
    assert_eq!(original.sequence_number.as_ref().unwrap().len(), 20);
    let message = rig.receive("q.fifo", 1).await.remove(0);
    assert_eq!(system(&message, "SequenceNumber"), original.sequence_number.as_deref());
    assert_eq!(
        system(&message, "MessageDeduplicationId"),
        Some("ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb")
    );
    rig.delete("q.fifo", &message.receipt_handle).await.unwrap();
    rig.reopen();
    rig.pass(299);
    assert_eq!(rig.sent(grouped("q.fifo", "h", "a")).await.unwrap(), original);
    assert!(rig.receive("q.fifo", 1).await.is_empty());
    let other =
        SendMessageInput { message_deduplication_id: Some("id".into()), ..grouped("q.fifo", "g", "a") };
    assert_ne!(rig.sent(other).await.unwrap().message_id, original.message_id, "its own id wins");
    rig.pass(1);
    assert_ne!(rig.sent(grouped("q.fifo", "g", "a")).await.unwrap().message_id, original.message_id);
}

#[tokio::test]
async fn ids_are_compared_within_groups_where_the_queue_was_made_so() {
    let rig = Rig::new();
    fifo(&rig, &[("DeduplicationScope", "messageGroup")]).await;
    send(&rig, &[("g", "a"), ("h", "a"), ("g", "a")]).await;
    rig.set("q.fifo", &[("DeduplicationScope", "queue")]).await.unwrap();
    send(&rig, &[("i", "a")]).await;
    assert_eq!(rig.counts("q.fifo").await, [3, 0, 0]);
    assert_eq!(rig.attribute("q.fifo", "DeduplicationScope").await, "queue");
}

#[tokio::test]
async fn a_purge_forgets_ids() {
    let rig = Rig::new();
    fifo(&rig, &[]).await;
    send(&rig, &[("g", "a")]).await;
    let input = crate::shapes::PurgeQueueInput { queue_url: "q.fifo".into() };
    rig.call(crate::shapes::Input::PurgeQueue(input)).await.unwrap();
    send(&rig, &[("g", "a")]).await;
    assert_eq!(rig.bodies("q.fifo", 1).await, ["a"]);
}

#[tokio::test]
async fn the_delay_of_the_queue_holds_for_what_is_there_already_and_blocks_no_group() {
    let rig = Rig::new();
    fifo(&rig, &[("DelaySeconds", "10")]).await;
    send(&rig, &[("g", "1")]).await;
    rig.pass(5);
    send(&rig, &[("g", "2"), ("h", "3")]).await;
    assert_eq!(rig.counts("q.fifo").await, [0, 0, 3]);
    assert!(rig.receive("q.fifo", 10).await.is_empty());
    rig.pass(5);
    assert_eq!(rig.counts("q.fifo").await, [1, 0, 2]);
    assert_eq!(rig.bodies("q.fifo", 10).await, ["1"]);
    rig.set("q.fifo", &[("DelaySeconds", "0")]).await.unwrap();
    assert_eq!(rig.counts("q.fifo").await, [2, 1, 0]);
    assert_eq!(rig.bodies("q.fifo", 10).await, ["3"]);
    let one = SendMessageInput { delay_seconds: Some(2), ..grouped("q.fifo", "g", "x") };
    assert_eq!(
        rig.sent(one).await.unwrap_err().message,
        "Value 2 for parameter DelaySeconds is invalid. Reason: The request include parameter that is not valid for this queue type."
    );
}

#[tokio::test]
async fn what_a_message_of_a_fifo_queue_must_have_is_asked_for() {
    let rig = Rig::new();
    rig.create("q.fifo", &[("FifoQueue", "true")]).await;
    let error = rig.sent(message("q.fifo", "x")).await.unwrap_err();
    assert_eq!(
        (error.code, &*error.message),
        ("MissingParameter", "The request must contain the parameter MessageGroupId.")
    );
    let error = rig.sent(grouped("q.fifo", "g", "x")).await.unwrap_err();
    assert_eq!(
        (error.code, &*error.message),
        (
            "InvalidParameterValue",
            "The queue should either have ContentBasedDeduplication enabled or MessageDeduplicationId provided explicitly"
        )
    );
}

#[tokio::test]
async fn the_same_attempt_receives_the_same_messages_unless_one_changed() {
    let rig = Rig::new();
    fifo(&rig, &[]).await;
    send(&rig, &[("g", "1"), ("g", "2"), ("h", "3")]).await;
    let attempt = || ReceiveMessageInput {
        max_number_of_messages: Some(2),
        receive_request_attempt_id: Some("attempt".into()),
        ..asked("q.fifo")
    };
    let first = rig.received(attempt()).await.unwrap();
    rig.pass(20);
    let again = rig.received(attempt()).await.unwrap();
    assert_eq!(again, first);
    rig.pass(20);
    assert_eq!(rig.counts("q.fifo").await, [1, 2, 0], "hidden for as long again");
    rig.delete("q.fifo", &first[0].receipt_handle).await.unwrap();
    let other = rig.received(attempt()).await.unwrap();
    assert_eq!(other.iter().map(|one| one.body.as_str()).collect::<Vec<_>>(), ["3"]);
}

#[tokio::test]
async fn groups_are_kept_apart_after_a_restart() {
    let mut rig = Rig::new();
    fifo(&rig, &[]).await;
    send(&rig, &[("g", "1"), ("g", "2"), ("h", "3")]).await;
    assert_eq!(rig.bodies("q.fifo", 1).await, ["1"]);
    rig.reopen();
    assert_eq!(rig.bodies("q.fifo", 10).await, ["3"]);
    rig.pass(30);
    assert_eq!(rig.bodies("q.fifo", 2).await, ["1", "2"]);
}

#[tokio::test]
async fn a_changed_delay_holds_for_messages_that_are_there() {
    let rig = Rig::new();
    fifo(&rig, &[]).await;
    send(&rig, &[("a", "1"), ("b", "2")]).await;
    assert_eq!(at_once(&rig, 1).await, ["1"]);
    rig.pass(10);
    send(&rig, &[("c", "3"), ("d", "4")]).await;
    rig.set("q.fifo", &[("DelaySeconds", "15")]).await.unwrap();
    assert!(at_once(&rig, 10).await.is_empty(), "visible ones are hidden");
    rig.set("q.fifo", &[("DelaySeconds", "5")]).await.unwrap();
    assert_eq!(rig.counts("q.fifo").await, [2, 0, 2]);
    let sorted = |mut all: Vec<String>| {
        all.sort();
        all
    };
    assert_eq!(sorted(at_once(&rig, 10).await), ["1", "2"]);
    rig.set("q.fifo", &[("DelaySeconds", "0")]).await.unwrap();
    assert_eq!(sorted(at_once(&rig, 10).await), ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn more_deduplication_ids_than_memory_has_room_for_are_throttled_and_none_is_forgotten() {
    let mut rig = Rig::with_memory(256 << 10);
    fifo(&rig, &[]).await;
    let first = rig.sent(grouped("q.fifo", "g", "first")).await.unwrap();
    let mut sent = 1;
    let refused = loop {
        match rig.sent(grouped("q.fifo", "g", &sent.to_string())).await {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!((refused.code, refused.status.as_u16()), ("RequestThrottled", 403));
    assert!((100..5_000).contains(&sent), "{sent} ids in 256 KiB of memory, of which they have a part");
    // Other queues share the memory, those of other kinds do not need it.
    rig.create("other.fifo", &[("FifoQueue", "true"), ("ContentBasedDeduplication", "true")]).await;
    rig.create("standard", &[]).await;
    rig.send("standard", "x").await;
    for _ in 0..2 {
        let again = rig.sent(grouped("q.fifo", "g", "first")).await.unwrap();
        assert_eq!(again.message_id, first.message_id, "what is remembered is a duplicate still");
        assert_eq!(rig.sent(grouped("q.fifo", "g", "new")).await.unwrap_err().code, "RequestThrottled");
        rig.reopen();
    }
    rig.pass(301);
    rig.broker().retain(&rig.broker().stream(&key("q.fifo")).unwrap());
    rig.sent(grouped("q.fifo", "g", "new")).await.unwrap();
    rig.sent(grouped("other.fifo", "g", "new")).await.unwrap();
}
