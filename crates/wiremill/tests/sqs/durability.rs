//! An answer means on disk: with every sync slowed down, no durable answer comes before a sync could end, and what needs no
//! sync stays quick.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{Client, Node};

/// How much longer each sync takes.
const DELAY: Duration = Duration::from_millis(200);

/// Whatever is being synced from before is done after this: the next wait is the request's own.
fn settle() {
    std::thread::sleep(DELAY + Duration::from_millis(30));
}

/// Asks for something durable: the answer must take one sync at least.
#[track_caller]
fn waits(client: &mut Client, operation: &str, body: Value) -> Value {
    settle();
    let began = Instant::now();
    let answer = client.ask(operation, body);
    let took = began.elapsed();
    assert!(took >= DELAY, "{operation} was answered after {took:?}, before its sync could end");
    answer
}

/// Asks for something that is in memory. A busy machine may hold up any one answer, so three may be asked for: what waits
/// for the disk is late each time.
#[track_caller]
fn is_quick(client: &mut Client, operation: &str, body: &Value) {
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        settle();
        let began = Instant::now();
        client.ask(operation, body.clone());
        fastest = fastest.min(began.elapsed());
        if fastest < DELAY - Duration::from_millis(50) {
            return;
        }
    }
    panic!("{operation} took {fastest:?} at best: it waited for the disk");
}

#[test]
fn no_durable_answer_comes_before_its_sync() {
    let node = Node::start_with(&["--test-sync-delay-ms", "200"]);
    let client = &mut node.client();
    waits(client, "CreateQueue", json!({ "QueueName": "jobs" }));
    waits(client, "SendMessage", json!({ "QueueUrl": "jobs", "MessageBody": "a" }));
    let entries: Vec<Value> = (0..3).map(|id| json!({ "Id": id.to_string(), "MessageBody": "b" })).collect();
    waits(client, "SendMessageBatch", json!({ "QueueUrl": "jobs", "Entries": entries }));
    let taken = waits(client, "ReceiveMessage", json!({ "QueueUrl": "jobs", "MaxNumberOfMessages": 10 }));
    let handle = |at: usize| taken["Messages"][at]["ReceiptHandle"].clone();
    let change = |seconds: u32| json!({ "QueueUrl": "jobs", "ReceiptHandle": handle(0), "VisibilityTimeout": seconds });
    waits(client, "ChangeMessageVisibility", change(60));
    waits(client, "ChangeMessageVisibility", change(0));
    let entry = json!({ "Id": "a", "ReceiptHandle": handle(1), "VisibilityTimeout": 9 });
    waits(client, "ChangeMessageVisibilityBatch", json!({ "QueueUrl": "jobs", "Entries": [entry] }));
    waits(client, "DeleteMessage", json!({ "QueueUrl": "jobs", "ReceiptHandle": handle(1) }));
    let entry = json!({ "Id": "a", "ReceiptHandle": handle(2) });
    waits(client, "DeleteMessageBatch", json!({ "QueueUrl": "jobs", "Entries": [entry] }));
    waits(
        client,
        "SetQueueAttributes",
        json!({ "QueueUrl": "jobs", "Attributes": { "VisibilityTimeout": "9" } }),
    );
    waits(client, "TagQueue", json!({ "QueueUrl": "jobs", "Tags": { "a": "b" } }));
    waits(client, "UntagQueue", json!({ "QueueUrl": "jobs", "TagKeys": ["a"] }));
    let permission =
        json!({ "QueueUrl": "jobs", "Label": "a", "AWSAccountIds": ["111111111111"], "Actions": ["*"] });
    waits(client, "AddPermission", permission);
    waits(client, "RemovePermission", json!({ "QueueUrl": "jobs", "Label": "a" }));
    waits(client, "PurgeQueue", json!({ "QueueUrl": "jobs" }));
    waits(client, "DeleteQueue", json!({ "QueueUrl": "jobs" }));
}

#[test]
fn a_duplicate_and_a_queue_that_is_being_made_wait_for_their_originals() {
    let node = Node::start_with(&["--test-sync-delay-ms", "200"]);
    let client = &mut node.client();
    let fifo = json!({ "QueueName": "q.fifo", "Attributes": { "FifoQueue": "true", "ContentBasedDeduplication": "true" } });
    let message = json!({ "QueueUrl": "q.fifo", "MessageBody": "a", "MessageGroupId": "g" });
    for (operation, body) in [("CreateQueue", fifo), ("SendMessage", message)] {
        settle();
        let began = Instant::now();
        assert!(client.send(operation, &body));
        std::thread::sleep(DELAY / 4);
        let again = node.client().ask(operation, body);
        assert!(began.elapsed() >= DELAY, "{operation}: {:?}", began.elapsed());
        assert_eq!(client.receive().unwrap().1, again);
    }
}

#[test]
fn looks_do_not_wait_for_the_disk() {
    let node = Node::start_with(&["--test-sync-delay-ms", "200"]);
    let client = &mut node.client();
    client.create("jobs", json!({}));
    client.put("jobs", "a");
    assert_eq!(client.take("jobs").len(), 1);
    for (operation, body) in [
        ("GetQueueUrl", json!({ "QueueName": "jobs" })),
        ("GetQueueAttributes", json!({ "QueueUrl": "jobs", "AttributeNames": ["All"] })),
        ("ListQueues", json!({})),
        ("ListQueueTags", json!({ "QueueUrl": "jobs" })),
        ("ReceiveMessage", json!({ "QueueUrl": "jobs" })),
    ] {
        is_quick(client, operation, &body);
    }
}
