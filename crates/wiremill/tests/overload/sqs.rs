//! More than the machine takes: memory stays within its bound, others are served, and what was answered is kept.

use std::{
    collections::HashSet,
    io::Write,
    net::TcpStream,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use serde_json::{Value, json};

use crate::{
    BUDGET, QUICK, RESIDENT_MAX, SLOW,
    node::{Client, Node},
    resident_len, storm,
};

#[test]
fn bodies_that_do_not_end_and_heads_without_an_end_cost_little_and_hold_up_nobody() {
    let node = Node::start_with(&["--memory-budget-len", BUDGET]);
    let mut client = node.client();
    client.create("jobs", json!({}));
    let head = "POST / HTTP/1.1\r\nhost: h\r\ncontent-type: application/x-amz-json-1.0\r\n\
                x-amz-target: AmazonSQS.SendMessage\r\n";
    let mut held = Vec::new();
    for at in 0..200 {
        let mut stream = TcpStream::connect(node.server.address("aws")).unwrap();
        stream.set_nonblocking(true).unwrap();
        let begun = if at % 2 == 0 {
            let mut begun = format!("{head}content-length: 4000000\r\n\r\n").into_bytes();
            begun.resize(begun.len() + (96 << 10), b'x');
            begun
        } else {
            let mut begun = head.as_bytes().to_vec();
            (0..90).for_each(|line| begun.extend(format!("x-{line}: {}\r\n", "y".repeat(600)).bytes()));
            begun
        };
        // As much as goes without waiting; some of it may wait in the machine's buffers.
        drop(stream.write(&begun));
        held.push(stream);
    }
    for number in 0..50 {
        client.put("jobs", &number.to_string());
    }
    let mut seen = 0;
    while seen < 50 {
        let messages = client.take("jobs");
        assert!(!messages.is_empty(), "{seen}");
        seen += messages.len();
    }
    let resident = resident_len(&node);
    assert!(resident < RESIDENT_MAX, "{resident} bytes");
    drop(held);
    // A long message, once those that did not end are gone.
    let long = "m".repeat(500_000);
    client.put("jobs", &long);
    assert_eq!(client.take("jobs")[0]["Body"], long.as_str());
}

#[test]
fn a_client_that_reads_none_of_its_answers_costs_its_own_connection_alone() {
    let node = Node::start_with(&["--memory-budget-len", BUDGET]);
    let mut client = node.client();
    client.create("jobs", json!({}));
    client.put("jobs", &"m".repeat(1_000_000));
    let body = json!({ "QueueUrl": "jobs", "VisibilityTimeout": 0 });
    let mut deaf = node.client();
    deaf.stream.get_mut().set_nonblocking(true).unwrap();
    // Until no more requests are taken.
    while deaf.send("ReceiveMessage", &body) {}
    for number in 0..20 {
        client.create("other", json!({}));
        client.put("other", &number.to_string());
    }
    assert!(resident_len(&node) < RESIDENT_MAX);
}

#[test]
fn more_than_the_disk_takes_is_slowed_down_within_memory_and_nothing_that_was_answered_is_lost() {
    // Each sync takes long: 48 senders have many times more than goes through.
    let mut node = Node::start_with(&SLOW);
    node.client().create("jobs", json!({}));
    let (stop, answered) = (AtomicBool::new(false), Mutex::new(HashSet::new()));
    let body = "b".repeat(200_000);
    let mut most = 0;
    std::thread::scope(|scope| {
        for _ in 0..48 {
            scope.spawn(|| {
                let message = json!({ "QueueUrl": "jobs", "MessageBody": body });
                let mut client = node.client();
                while !stop.load(Ordering::SeqCst) {
                    match client.try_ask("SendMessage", message.clone()) {
                        Some((200, answer)) => {
                            let id = answer["MessageId"].as_str().unwrap().to_owned();
                            answered.lock().unwrap().insert(id);
                        }
                        Some(_) => {}
                        None => client = node.client(),
                    }
                }
            });
        }
        let began = Instant::now();
        let mut other = node.client();
        other.create("quiet", json!({}));
        while began.elapsed() < storm() {
            other.put("quiet", "x");
            most = most.max(resident_len(&node));
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(most < RESIDENT_MAX, "{most} bytes");
    node.kill();
    node.start_again_with(&QUICK);
    assert!(answered.lock().unwrap().len() > 20);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| drain(&mut node.client(), &answered));
        }
    });
    let left = answered.into_inner().unwrap().len();
    assert_eq!(left, 0, "answered messages that are lost");
}

/// Works until nothing is left, and strikes off what it got.
fn drain(client: &mut Client, answered: &Mutex<HashSet<String>>) {
    loop {
        let messages = client.take("jobs");
        if messages.is_empty() {
            return;
        }
        for message in &messages {
            answered.lock().unwrap().remove(message["MessageId"].as_str().unwrap());
        }
        let entry = |(at, message): (usize, &Value)| json!({ "Id": at.to_string(), "ReceiptHandle": message["ReceiptHandle"] });
        let entries: Vec<_> = messages.iter().enumerate().map(entry).collect();
        client.ask("DeleteMessageBatch", json!({ "QueueUrl": "jobs", "Entries": entries }));
    }
}
