//! `kill -9` at random moments under load: no message that was acknowledged is lost, none that was deleted comes back, and
//! no receive count is lower than an answered receive said.

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::json;

use crate::client::{Client, Node};

const ROUNDS: u64 = 4;

/// What clients were told.
#[derive(Default)]
struct Told {
    sent: HashSet<String>,
    /// Deleted for sure, and asked to be deleted without an answer.
    deleted: HashSet<String>,
    maybe_deleted: HashSet<String>,
    counts: HashMap<String, u64>,
}

fn produce(mut client: Client, stop: &AtomicBool, told: &Mutex<Told>, done: &AtomicUsize) {
    while !stop.load(Ordering::Relaxed) {
        let entries: Vec<_> = (0..5).map(|id| json!({ "Id": id.to_string(), "MessageBody": "x" })).collect();
        let Some((200, answer)) =
            client.try_ask("SendMessageBatch", json!({ "QueueUrl": "jobs", "Entries": entries }))
        else {
            return;
        };
        let ids = answer["Successful"].as_array().unwrap().iter();
        told.lock().unwrap().sent.extend(ids.map(|one| one["MessageId"].as_str().unwrap().to_owned()));
        done.fetch_add(5, Ordering::Relaxed);
    }
}

/// Receives, checks what is received, and deletes every other message.
fn consume(mut client: Client, stop: &AtomicBool, told: &Mutex<Told>) {
    while !stop.load(Ordering::Relaxed) {
        let receive = json!({ "QueueUrl": "jobs", "MaxNumberOfMessages": 10, "WaitTimeSeconds": 1, "AttributeNames": ["All"], "VisibilityTimeout": 1 });
        let Some((200, answer)) = client.try_ask("ReceiveMessage", receive) else { return };
        for message in answer["Messages"].as_array().into_iter().flatten() {
            let id = message["MessageId"].as_str().unwrap().to_owned();
            let count: u64 =
                message["Attributes"]["ApproximateReceiveCount"].as_str().unwrap().parse().unwrap();
            {
                let mut told = told.lock().unwrap();
                assert!(!told.deleted.contains(&id), "a deleted message came back");
                let known = told.counts.insert(id.clone(), count).unwrap_or(0);
                assert!(count > known, "received {count} times after {known}");
            }
            if count.is_multiple_of(2) {
                told.lock().unwrap().maybe_deleted.insert(id.clone());
                let delete = json!({ "QueueUrl": "jobs", "ReceiptHandle": message["ReceiptHandle"] });
                let Some((200, _)) = client.try_ask("DeleteMessage", delete) else { return };
                told.lock().unwrap().deleted.insert(id);
            }
        }
    }
}

#[test]
fn kills_under_load_lose_nothing_and_bring_nothing_back() {
    let mut node = Node::start();
    node.client().create("jobs", json!({}));
    let told = Arc::new(Mutex::new(Told::default()));
    let done = Arc::new(AtomicUsize::new(0));
    for round in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        let before = done.load(Ordering::Relaxed);
        thread::scope(|scope| {
            for _ in 0..2 {
                let (producer, consumer) = (node.client(), node.client());
                scope.spawn(|| produce(producer, &stop, &told, &done));
                scope.spawn(|| consume(consumer, &stop, &told));
            }
            // Some moment in the middle of the load, another one in every round.
            thread::sleep(Duration::from_millis(400 + (round * 137) % 400));
            node.kill();
            stop.store(true, Ordering::Relaxed);
        });
        assert!(done.load(Ordering::Relaxed) > before + 20, "round {round} was under load");
        node.start_again();
    }
    let mut client = node.client();
    let mut told = Arc::into_inner(told).unwrap().into_inner().unwrap();
    let mut left: HashSet<String> = told.sent.difference(&told.maybe_deleted).cloned().collect();
    // What is in flight comes back within a second.
    for _ in 0..100 {
        let receive = json!({ "QueueUrl": "jobs", "MaxNumberOfMessages": 10, "WaitTimeSeconds": 2, "AttributeNames": ["All"], "VisibilityTimeout": 300 });
        loop {
            let answer = client.ask("ReceiveMessage", receive.clone());
            let Some(messages) = answer["Messages"].as_array() else { break };
            for message in messages {
                let id = message["MessageId"].as_str().unwrap().to_owned();
                let count: u64 =
                    message["Attributes"]["ApproximateReceiveCount"].as_str().unwrap().parse().unwrap();
                assert!(!told.deleted.contains(&id), "a deleted message came back");
                assert!(count > told.counts.insert(id.clone(), count).unwrap_or(0));
                left.remove(&id);
            }
        }
        if left.is_empty() {
            return;
        }
    }
    panic!("{} of {} acknowledged messages are lost", left.len(), told.sent.len());
}
