//! The one broker that the client suites share: started from the built binary on free ports.

use crate::process::{Guard, signal};
use crate::workspace;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Listeners that the suites use; every other one is off.
const USED: [&str; 5] = ["kafka", "amqp", "aws", "nats", "admin"];
const UNUSED: [&str; 5] = ["redis", "pulsar", "registry", "rabbitmq-admin", "pulsar-admin"];

/// Far above the 50 ms of a start on an empty directory, for a machine that is busy compiling.
const START_LIMIT: Duration = Duration::from_secs(20);
/// Above the binary's own deadline for an orderly shutdown.
const STOP_LIMIT: Duration = Duration::from_secs(30);

pub struct Broker {
    child: Child,
    _guard: Guard,
    folder: PathBuf,
    addresses: Value,
}

impl Broker {
    /// Starts `binary` on a fresh data directory and waits for its ready file.
    pub fn start(binary: &Path) -> Result<Self, String> {
        let folder = scratch_folder("broker")?;
        let ready = folder.join("ready.json");
        let log = std::fs::File::create(folder.join("broker.log")).map_err(|error| error.to_string())?;
        let errors = log.try_clone().map_err(|error| error.to_string())?;
        let mut command = Command::new(binary);
        command.arg("serve").arg("--data-dir").arg(folder.join("data")).arg("--ready-file").arg(&ready);
        for name in USED {
            command.arg("--listen").arg(format!("{name}=127.0.0.1:0"));
        }
        for name in UNUSED {
            command.arg("--listen").arg(format!("{name}=off"));
        }
        // The suites form hundreds of groups, and each would wait for more members.
        command.args(["--kafka-initial-rebalance-delay-ms", "0"]);
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .map_err(|error| format!("cannot start {}: {error}", binary.display()))?;
        let guard = Guard::over(&child.id().to_string());
        let mut broker = Self { child, _guard: guard, folder, addresses: Value::Null };
        broker.addresses = broker.await_ready(&ready)?;
        Ok(broker)
    }

    fn await_ready(&mut self, ready: &Path) -> Result<Value, String> {
        let started = Instant::now();
        while started.elapsed() < START_LIMIT {
            if let Ok(text) = std::fs::read_to_string(ready) {
                return serde_json::from_str(&text).map_err(|error| format!("the ready file: {error}"));
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("the broker ended with {status} before it was ready:\n{}", self.log()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Err(format!("the broker was not ready after {} s:\n{}", START_LIMIT.as_secs(), self.log()))
    }

    /// Host and port of a listener.
    pub fn address(&self, name: &str) -> Result<&str, String> {
        self.addresses.get(name).and_then(Value::as_str).ok_or_else(|| format!("no {name} in the ready file"))
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("broker.log")).unwrap_or_default()
    }

    /// Asks it to stop, and tells whether it did so in order.
    pub fn stop(mut self) -> Result<(), String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("the broker had ended with {status}:\n{}", self.log()));
        }
        signal("TERM", &self.child.id().to_string());
        let started = Instant::now();
        while started.elapsed() < STOP_LIMIT {
            match self.child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(format!("the broker stopped with {status}:\n{}", self.log())),
                Ok(None) => std::thread::sleep(Duration::from_millis(20)),
                Err(error) => return Err(format!("cannot wait for the broker: {error}")),
            }
        }
        Err(format!("the broker did not stop within {} s of SIGTERM", STOP_LIMIT.as_secs()))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            signal("KILL", &self.child.id().to_string());
            if let Err(error) = self.child.wait() {
                println!("cannot wait for the broker: {error}");
            }
        }
    }
}

/// An empty folder under `target/`, one per purpose.
pub fn scratch_folder(purpose: &str) -> Result<PathBuf, String> {
    let folder = workspace::root().join("target").join("xtask").join(purpose);
    if folder.exists() {
        std::fs::remove_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    Ok(folder)
}
