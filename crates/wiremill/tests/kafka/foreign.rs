//! What others wrote, as Kafka's clients read it: messages of SQS, records of the admin API, and queues, which are looked
//! at without consuming.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use kafka::codec::records::Record;

use crate::{
    client::Client,
    node::Node,
    sqs,
    usual::{batch, create, fetch, fetch_all, fetch_from, fetched_batches, offset_at, produce},
};

fn start() -> (Node, Client, sqs::Client) {
    let node = Node::start();
    let client = node.client();
    let worker = sqs::Client::connect(node.server.address("aws"));
    (node, client, worker)
}

/// Something that is made over the admin API.
fn make(node: &Node, path: &str, body: Value) {
    let (status, answer) = node.post(path, &body.to_string());
    assert_eq!(status, 201, "{answer}");
}

/// A message with an attribute of each kind that SQS has.
fn send(worker: &mut sqs::Client, queue: &str, body: &str) {
    let attributes = json!({
        "kind": { "DataType": "String", "StringValue": "blue" },
        "count": { "DataType": "Number", "StringValue": "7" },
        "raw": { "DataType": "Binary", "BinaryValue": "//8=" },
    });
    worker.ask(
        "SendMessage",
        json!({ "QueueUrl": queue, "MessageBody": body, "MessageAttributes": attributes }),
    );
}

/// Takes what is there, deletes those messages that `is_done` says, and gives the others back.
fn work(worker: &mut sqs::Client, queue: &str, is_done: impl Fn(&str) -> bool) {
    for message in worker.take(queue) {
        let mut request = json!({ "QueueUrl": queue, "ReceiptHandle": message["ReceiptHandle"] });
        if is_done(message["Body"].as_str().unwrap()) {
            worker.ask("DeleteMessage", request);
        } else {
            request["VisibilityTimeout"] = 0.into();
            worker.ask("ChangeMessageVisibility", request);
        }
    }
}

fn values(client: &mut Client, topic: &str) -> Vec<String> {
    fetch_all(client, topic, 0).into_iter().map(|(_, value)| value).collect()
}

/// Calls `each` with every record of a topic's partition 0, in their order.
fn each_record(client: &mut Client, topic: &str, mut each: impl FnMut(Record<'_>)) {
    let mut next = 0;
    loop {
        let data = fetch(client, topic, 0, next);
        if next >= data.high_watermark {
            return;
        }
        let batches = fetched_batches(&data);
        assert!(!batches.is_empty(), "records up to the high watermark");
        for batch in batches {
            let payload = batch.payload(usize::MAX).unwrap();
            batch.records(&payload).for_each(|record| each(record.unwrap()));
            next = batch.header.last_offset() + 1;
        }
    }
}

fn header(record: &Record<'_>, name: &str) -> Option<Vec<u8>> {
    let mut headers = record.headers.iter();
    headers.find(|(key, _)| *key == name.as_bytes()).and_then(|(_, value)| value.map(<[u8]>::to_vec))
}

#[test]
fn messages_of_sqs_lie_between_batches_of_producers_and_read_in_their_order_also_after_a_kill() {
    let (mut node, mut client, mut worker) = start();
    worker.create("jobs", json!({}));
    create(&mut client, "orders", 1, &[]);
    make(&node, "/api/v1/routes", json!({ "from": "sqs:jobs", "to": "kafka:orders" }));
    produce(&mut client, "orders", 0, &batch(&["own 0", "own 1"]));
    send(&mut worker, "jobs", "foreign 2");
    make(&node, "/api/v1/streams/orders/records", json!({ "records": [{ "body": "admin 3" }] }));
    send(&mut worker, "jobs", "foreign 4");
    produce(&mut client, "orders", 0, &batch(&["own 5"]));
    let own = ["own 0", "own 1", "foreign 2", "admin 3", "foreign 4", "own 5"];
    for _ in 0..2 {
        let all = fetch_all(&mut client, "orders", 0);
        let expected: Vec<(i64, String)> = (0..).zip(own.map(str::to_owned)).collect();
        assert_eq!(all, expected);
        // From any offset on, as a client that goes on after a restart of its own.
        for from in 0..6 {
            let read = fetch_from(&mut client, "orders", 0, from);
            assert!(read.iter().map(|(offset, _)| *offset).eq(from..6), "from {from}");
        }
        let mut foreign = 0;
        each_record(&mut client, "orders", |record| {
            if record.value.is_some_and(|value| value.starts_with(b"foreign")) {
                foreign += 1;
                assert_eq!(header(&record, "kind").as_deref(), Some(b"blue".as_slice()));
                assert_eq!(header(&record, "count").as_deref(), Some(b"7".as_slice()));
                assert_eq!(header(&record, "raw").as_deref(), Some([0xff, 0xff].as_slice()));
                assert!(record.timestamp > 1_000_000_000_000, "the log's time: {}", record.timestamp);
            }
        });
        assert_eq!(foreign, 2);
        node.crash_and_start_again();
        client = node.client();
    }
}

#[test]
fn a_queue_is_looked_at_without_consuming_and_what_was_deleted_is_a_gap() {
    let (_node, mut client, mut worker) = start();
    worker.create("jobs", json!({}));
    for body in ["a", "b", "c", "d"] {
        worker.put("jobs", body);
    }
    produce(&mut client, "jobs", 0, &batch(&["kafka"]));
    assert_eq!(values(&mut client, "jobs"), ["a", "b", "c", "d", "kafka"]);
    assert_eq!(worker.counts("jobs"), [5, 0, 0], "looking takes nothing");
    work(&mut worker, "jobs", |body| body == "b" || body == "kafka");
    assert_eq!(worker.take("jobs").len(), 3);
    // What is in flight is still there.
    assert_eq!(values(&mut client, "jobs"), ["a", "c", "d"]);
    assert_eq!(offset_at(&mut client, "jobs", 0, -1).offset, 5);
}

#[test]
fn what_a_queue_keeps_for_replay_is_a_gap_too_and_comes_back_when_it_is_replayed() {
    let (mut node, mut client, mut worker) = start();
    make(&node, "/api/v1/queues", json!({ "name": "jobs", "settings": { "history_ms": 3_600_000 } }));
    produce(&mut client, "jobs", 0, &batch(&["own a", "own b"]));
    for body in ["c", "d"] {
        worker.put("jobs", body);
    }
    work(&mut worker, "jobs", |body| body == "own a" || body == "c");
    for _ in 0..2 {
        assert_eq!(values(&mut client, "jobs"), ["own b", "d"]);
        let from_start = fetch(&mut client, "jobs", 0, 0);
        assert_eq!((from_start.log_start_offset, from_start.high_watermark), (0, 4));
        node.crash_and_start_again();
        client = node.client();
    }
    worker = sqs::Client::connect(node.server.address("aws"));
    work(&mut worker, "jobs", |_| true);
    assert!(values(&mut client, "jobs").is_empty(), "positions reach the end all the same");
    let (status, answer) = node.post("/api/v1/queues/jobs/replay", r#"{"since_ms":0}"#);
    assert_eq!(status, 202, "{answer}");
    let began = Instant::now();
    while values(&mut client, "jobs") != ["own a", "own b", "c", "d"] {
        assert!(began.elapsed() < Duration::from_secs(30), "{:?}", values(&mut client, "jobs"));
    }
}

#[test]
fn a_queue_over_a_topic_shows_what_it_has_not_settled_and_the_topic_shows_all() {
    let (node, mut client, mut worker) = start();
    create(&mut client, "orders", 1, &[]);
    produce(&mut client, "orders", 0, &batch(&["a", "b", "c"]));
    make(&node, "/api/v1/queues", json!({ "name": "jobs", "over": "orders" }));
    assert_eq!(values(&mut client, "jobs"), ["a", "b", "c"]);
    work(&mut worker, "jobs", |body| body == "b");
    assert_eq!(values(&mut client, "jobs"), ["a", "c"]);
    assert_eq!(values(&mut client, "orders"), ["a", "b", "c"]);
}
