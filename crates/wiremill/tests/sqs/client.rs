//! A running binary with its SQS listener, and a plain client: AWS JSON 1.0 over one connection.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

use crate::process::{Scratch, Server};

/// A server with its folder, through any number of starts.
pub struct Node {
    pub server: Server,
    arguments: Vec<String>,
}

impl Node {
    pub fn start() -> Node {
        Node::start_with(&[])
    }

    pub fn start_with(arguments: &[&str]) -> Node {
        let server = Server::start_in(Scratch::new(), arguments);
        Node { server, arguments: arguments.iter().map(|a| (*a).to_owned()).collect() }
    }

    pub fn client(&self) -> Client {
        Client::connect(self.server.address("aws"))
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.server.signal("KILL");
        self.server.wait();
    }

    pub fn start_again(&mut self) {
        let arguments = self.arguments.clone();
        self.start_again_with(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// With other arguments than before.
    pub fn start_again_with(&mut self, arguments: &[&str]) {
        self.arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        drop(std::fs::remove_file(self.server.folder.path("ready.json")));
        let folder = std::mem::replace(&mut self.server.folder, Scratch::new());
        self.server = Server::start_in(folder, arguments);
    }
}

/// One connection.
pub struct Client {
    pub stream: BufReader<TcpStream>,
}

/// What an answer was: its status, and its body as JSON.
pub type Answer = (u16, Value);

impl Client {
    pub fn connect(address: &str) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream: BufReader::new(stream) }
    }

    /// Sends a request and does not wait for its answer. Whether it went out.
    pub fn send(&mut self, operation: &str, body: &Value) -> bool {
        let body = body.to_string();
        let request = format!(
            "POST / HTTP/1.1\r\nhost: localhost:4566\r\ncontent-type: application/x-amz-json-1.0\r\nx-amz-target: AmazonSQS.{operation}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).is_ok()
    }

    /// The next answer; `None` when the connection is gone.
    pub fn receive(&mut self) -> Option<Answer> {
        let (mut status, mut len) = (0, 0);
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end();
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest.split(' ').next()?.parse().ok()?;
            } else if line.is_empty() {
                break;
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                len = value.trim().parse().ok()?;
            }
        }
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body).ok()?;
        let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        Some((status, body))
    }

    /// Asks, and answers the result; `None` when the connection is gone.
    pub fn try_ask(&mut self, operation: &str, body: Value) -> Option<Answer> {
        if !self.send(operation, &body) {
            return None;
        }
        self.receive()
    }

    /// Asks for something that succeeds.
    #[track_caller]
    pub fn ask(&mut self, operation: &str, body: Value) -> Value {
        let (status, answer) = self.try_ask(operation, body).expect("an answer");
        assert_eq!(status, 200, "{operation}: {answer}");
        answer
    }

    pub fn create(&mut self, name: &str, attributes: Value) {
        self.ask("CreateQueue", json!({ "QueueName": name, "Attributes": attributes }));
    }

    pub fn put(&mut self, queue: &str, body: &str) -> Value {
        self.ask("SendMessage", json!({ "QueueUrl": queue, "MessageBody": body }))
    }

    /// The messages of a receive of up to ten.
    pub fn take(&mut self, queue: &str) -> Vec<Value> {
        let answer = self.ask(
            "ReceiveMessage",
            json!({ "QueueUrl": queue, "MaxNumberOfMessages": 10, "AttributeNames": ["All"] }),
        );
        answer["Messages"].as_array().cloned().unwrap_or_default()
    }

    /// Messages visible, in flight and delayed.
    pub fn counts(&mut self, queue: &str) -> [u64; 3] {
        let answer = self.ask("GetQueueAttributes", json!({ "QueueUrl": queue, "AttributeNames": ["All"] }));
        ["", "NotVisible", "Delayed"].map(|suffix| {
            let value = &answer["Attributes"][format!("ApproximateNumberOfMessages{suffix}")];
            value.as_str().unwrap().parse().unwrap()
        })
    }
}
