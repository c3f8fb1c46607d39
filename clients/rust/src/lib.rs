//! What the tests share: where the broker is, names that collide with nobody's, and the result line that each test
//! leaves for the compatibility page.

#![forbid(unsafe_code)]

mod broker;
mod relay;

pub use broker::Broker;
pub use relay::Relay;

use std::{
    fs::OpenOptions,
    io::Write,
    path::PathBuf,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Bounds every wait of every test: far above what a loaded machine needs, far below the limit of the suite.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The address of the shared broker's Kafka listener.
///
/// # Panics
/// Without a broker.
pub fn kafka() -> String {
    need("WIREMILL_KAFKA")
}

/// The URL of the shared broker's listener for the services of AWS.
///
/// # Panics
/// Without a broker.
pub fn aws() -> String {
    format!("http://{}", need("WIREMILL_AWS"))
}

/// The address of the shared broker's NATS listener.
///
/// # Panics
/// Without a broker.
pub fn nats() -> String {
    need("WIREMILL_NATS")
}

/// host:port of the shared broker's AMQP listener.
///
/// # Panics
/// Without a broker.
pub fn amqp_address() -> String {
    need("WIREMILL_AMQP")
}

/// The URL of the shared broker's AMQP listener.
///
/// # Panics
/// Without a broker.
pub fn amqp() -> String {
    format!("amqp://guest:guest@{}/%2f", amqp_address())
}

fn need(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run this suite through `cargo xtask test --only rust`")
    })
}

/// A name that no other test and no earlier run uses.
///
/// # Panics
/// When the clock stands before 1970.
pub fn name(prefix: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_nanos();
    format!("{prefix}-{now}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A promise that this test shows `capability` with a client library; how it ended is written when it is dropped.
#[must_use = "the result is written when this is dropped, at the end of the test"]
pub struct Shows {
    protocol: &'static str,
    client: &'static str,
    capability: &'static str,
}

/// Promises that this test shows `capability` of `protocol` with the library `client`, a package of `Cargo.lock`.
pub fn shows(protocol: &'static str, client: &'static str, capability: &'static str) -> Shows {
    Shows { protocol, client, capability }
}

impl Drop for Shows {
    fn drop(&mut self) {
        let Ok(folder) = std::env::var("WIREMILL_RESULTS") else { return };
        let line = serde_json::json!({
            "protocol": self.protocol,
            "capability": self.capability,
            "client": self.client,
            "version": locked_version(self.client),
            "result": if std::thread::panicking() { "failed" } else { "passed" },
        });
        // One file per process, appended to in one write each.
        let path = PathBuf::from(folder).join(format!("rust-{}.jsonl", std::process::id()));
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        assert!(written.is_ok() || std::thread::panicking(), "{}: {written:?}", path.display());
    }
}

/// The version of `package` in this suite's lock file.
fn locked_version(package: &str) -> String {
    let lock = include_str!("../Cargo.lock");
    let entry = format!("[[package]]\nname = \"{package}\"\nversion = \"");
    let version =
        lock.split_once(&entry).and_then(|(_, rest)| rest.split_once('"')).map(|(version, _)| version);
    version.unwrap_or("unknown").to_owned()
}
