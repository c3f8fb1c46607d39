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
        assert!(began.elapsed() < Duration::from_secs(20), "it is in flight to nobody");
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
