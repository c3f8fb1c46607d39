//! Receives and their connections.

use std::{
    net::Shutdown,
    time::{Duration, Instant},
};

use serde_json::json;

use crate::client::Node;

#[test]
fn a_message_for_a_connection_that_is_gone_goes_to_the_next_as_if_never_received() {
    let node = Node::start();
    let mut client = node.client();
    client.create("jobs", json!({}));
    let mut gone = node.client();
    assert!(gone.send("ReceiveMessage", &json!({ "QueueUrl": "jobs", "WaitTimeSeconds": 20 })));
    // The receive waits before its client goes.
    std::thread::sleep(Duration::from_millis(100));
    gone.stream.get_mut().shutdown(Shutdown::Both).unwrap();
    drop(gone);
    client.put("jobs", "a");
    let began = Instant::now();
    loop {
        let messages = client.take("jobs");
        if let [message] = &messages[..] {
            assert_eq!(message["Attributes"]["ApproximateReceiveCount"], "1");
            return;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it is in flight to nobody");
    }
}

/// CPU time of the server, clock ticks of 10 ms.
fn cpu_ticks(node: &Node) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", node.server.child.id())).unwrap();
    let fields = stat.rsplit_once(')').unwrap().1.split_whitespace();
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn receives_that_wait_cost_no_cpu_and_are_all_woken() {
    let node = Node::start();
    let mut client = node.client();
    let mut waiting = Vec::new();
    for queue in 0..8 {
        client.create(&format!("q{queue}"), json!({}));
        for _ in 0..8 {
            let mut receive = node.client();
            let body = json!({ "QueueUrl": format!("q{queue}"), "WaitTimeSeconds": 20 });
            assert!(receive.send("ReceiveMessage", &body));
            waiting.push(receive);
        }
    }
    // What a start leaves to be done later may take a second or two of these.
    let is_idle = |_| {
        let before = cpu_ticks(&node);
        std::thread::sleep(Duration::from_secs(1));
        cpu_ticks(&node) - before <= 2
    };
    assert!((0..10).any(is_idle), "64 waiting receives keep the processor busy");
    for queue in 0..8 {
        client.ask("DeleteQueue", json!({ "QueueUrl": format!("q{queue}") }));
    }
    for receive in &mut waiting {
        let (status, answer) = receive.receive().unwrap();
        assert_eq!(status, 400, "it waited in vain: {answer}");
    }
}

#[test]
fn messages_are_looked_at_without_being_received() {
    use std::io::{Read, Write};
    let node = Node::start();
    let mut client = node.client();
    client.create("jobs", json!({}));
    client.put("jobs", "in flight");
    client.take("jobs");
    client.put("jobs", "visible");
    client.ask("SendMessage", json!({ "QueueUrl": "jobs", "MessageBody": "late", "DelaySeconds": 900 }));
    let look = |path: &str| {
        let mut stream = std::net::TcpStream::connect(node.server.address("aws")).unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\naccept: application/json\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
        let bodies = body["Messages"].as_array().unwrap().iter();
        bodies.map(|message| message["Body"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for _ in 0..2 {
        assert_eq!(look("/_aws/sqs/messages?QueueUrl=http://x/000000000000/jobs"), ["visible"]);
        assert_eq!(
            look("/_aws/sqs/messages/us-east-1/000000000000/jobs?ShowInvisible=true&ShowDelayed=true"),
            ["in flight", "visible", "late"]
        );
    }
    assert_eq!(client.counts("jobs"), [1, 1, 1]);
}
