//! A running binary with a folder of its own, on free ports.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output},
    sync::atomic::{AtomicU32, Ordering},
    thread::sleep,
    time::{Duration, Instant},
};

/// Far above what anything here takes, for a machine that is busy.
const LIMIT: Duration = Duration::from_secs(30);

/// The same for what has other work before it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder that goes with its owner.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("wiremill-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::SeqCst));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// The binary, with an environment that has no settings.
pub fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wiremill"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("WIREMILL_")) {
        command.env_remove(name);
    }
    command
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Output {
    binary().args(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Waits until something holds.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not so for a minute: {what}");
        sleep(Duration::from_millis(2));
    }
}

/// A server that is ready.
pub struct Server {
    pub child: Child,
    pub addresses: serde_json::Value,
    pub folder: Scratch,
    pub start_took: Duration,
}

impl Server {
    /// Waits until its log has `words`.
    pub fn until_it_says(&self, words: &str) {
        let began = Instant::now();
        while !self.log().contains(words) {
            assert!(began.elapsed() < LIMIT, "it does not say {words:?}:\n{}", self.log());
            sleep(Duration::from_millis(5));
        }
    }

    /// Starts on free ports with a fresh folder.
    pub fn start(arguments: &[&str]) -> Server {
        Server::start_in(Scratch::new(), arguments)
    }

    /// Starts on free ports in `folder`.
    pub fn start_in(folder: Scratch, arguments: &[&str]) -> Server {
        let ready = folder.path("ready.json");
        let began = Instant::now();
        let mut child = serve(&folder.path("data"), &ready)
            .args(arguments)
            .stdout(std::fs::File::create(folder.path("out")).unwrap())
            .stderr(std::fs::File::create(folder.path("err")).unwrap())
            .spawn()
            .unwrap();
        while !ready.exists() {
            let ended = child.try_wait().unwrap();
            let log = || std::fs::read_to_string(folder.path("err")).unwrap_or_default();
            assert!(ended.is_none(), "ended with {ended:?} before it was ready:\n{}", log());
            assert!(began.elapsed() < LIMIT, "not ready:\n{}", log());
            sleep(Duration::from_millis(1));
        }
        let start_took = began.elapsed();
        let addresses = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
        Server { child, addresses, folder, start_took }
    }

    pub fn address(&self, listener: &str) -> &str {
        self.addresses[listener].as_str().unwrap_or_else(|| panic!("no {listener} in {}", self.addresses))
    }

    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.path("out")).unwrap()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path("err")).unwrap()
    }

    pub fn signal(&self, name: &str) {
        let sent =
            Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for the end and says with which code.
    pub fn wait(&mut self) -> i32 {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code().unwrap_or(-1);
            }
            assert!(began.elapsed() < LIMIT, "it does not end:\n{}", self.log());
            sleep(Duration::from_millis(2));
        }
    }

    /// SIGTERM, and the code that followed.
    pub fn stop(&mut self) -> i32 {
        self.signal("TERM");
        self.wait()
    }

    /// Status and body of a GET on the admin listener.
    pub fn get(&self, path: &str) -> (u16, String) {
        request(self.address("admin"), &format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `wiremill serve` on a folder, with every listener that is built on a free port.
pub fn serve(data: &Path, ready: &Path) -> Command {
    let mut command = binary();
    command.arg("serve").arg("--data-dir").arg(data).arg("--ready-file").arg(ready);
    // Every dialect that is built, so that servers side by side do not meet on a default port.
    for name in ["kafka", "amqp", "aws", "nats", "admin"] {
        command.args(["--listen", &format!("{name}=127.0.0.1:0")]);
    }
    command
}

/// Sends a request head (without its last blank line) and reads the answer: status and body.
pub fn request(address: &str, head: &str) -> (u16, String) {
    request_with_body(address, head, "")
}

/// [`request`] with a body, whose length the head says.
pub fn request_with_body(address: &str, head: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    parse(&answer)
}

pub fn parse(answer: &str) -> (u16, String) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status in {answer:?}")), body.to_owned())
}
