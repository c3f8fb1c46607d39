//! A running binary whose Kafka listener is talked to, and which can be killed and started again on its data.

use crate::{
    client::Client,
    process::{Scratch, Server, request_with_body},
};

/// Groups do not wait for more members: a test knows who comes.
const ALWAYS: [&str; 2] = ["--kafka-initial-rebalance-delay-ms", "0"];

/// A server with its folder, through any number of starts.
pub struct Node {
    pub server: Server,
    arguments: Vec<String>,
}

impl Node {
    /// Starts on an empty folder.
    pub fn start() -> Node {
        Node::start_with(&[])
    }

    /// Starts on an empty folder with more arguments.
    pub fn start_with(arguments: &[&str]) -> Node {
        let arguments: Vec<String> = ALWAYS.iter().chain(arguments).map(|a| (*a).to_owned()).collect();
        Node { server: start_in(Scratch::new(), &arguments), arguments }
    }

    /// Where clients connect to.
    pub fn address(&self) -> &str {
        self.server.address("kafka")
    }

    /// A new connection.
    pub fn client(&self) -> Client {
        Client::connect(self.address())
    }

    /// POST on the admin listener: status and body.
    pub fn post(&self, path: &str, body: &str) -> (u16, String) {
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            body.len()
        );
        request_with_body(self.server.address("admin"), &head, body)
    }

    /// Puts the clock of an ephemeral run forward.
    pub fn advance(&self, by_ms: i64) {
        let (status, answer) = self.post("/clock/advance", &format!(r#"{{"by_ms":{by_ms}}}"#));
        assert_eq!(status, 200, "{answer}");
    }

    /// `kill -9`. Without a goodbye, nothing more reaches the disk.
    pub fn kill(&mut self) {
        self.server.signal("KILL");
        self.server.wait();
    }

    /// Starts again on the same folder, on new ports.
    pub fn start_again(&mut self) {
        // Gone already after an orderly stop.
        drop(std::fs::remove_file(self.server.folder.path("ready.json")));
        let folder = std::mem::replace(&mut self.server.folder, Scratch::new());
        self.server = start_in(folder, &self.arguments);
    }

    /// `kill -9`, and a start on what is left.
    pub fn crash_and_start_again(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Resident memory now, bytes.
    pub fn memory_len(&self) -> usize {
        self.status("VmRSS:")
    }

    /// The most resident memory there ever was, bytes.
    pub fn memory_peak_len(&self) -> usize {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> usize {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    /// Shows that the process lives and serves.
    pub fn assert_alive(&mut self) {
        let ended = self.server.child.try_wait().unwrap();
        assert!(ended.is_none(), "the process ended with {ended:?}:\n{}", self.server.log());
        let answer = self.client().api_versions();
        assert!(answer.error_code.is_none());
    }
}

fn start_in(folder: Scratch, arguments: &[String]) -> Server {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Server::start_in(folder, &arguments)
}
