use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use crate::{PATIENCE, name, need};

/// A broker that a test owns: it may be killed and started again on the same data and address.
pub struct Broker {
    folder: PathBuf,
    amqp: String,
    process: Option<Child>,
}

impl Broker {
    /// Starts the binary on an empty directory.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start() -> Self {
        let folder = std::env::temp_dir().join(name("wiremill-rust"));
        fs::create_dir_all(&folder).expect("a scratch folder");
        let mut broker = Self { folder, amqp: "127.0.0.1:0".to_owned(), process: None };
        broker.run();
        broker
    }

    /// Runs the binary and returns when it is ready.
    ///
    /// # Panics
    /// When it does not start.
    pub fn run(&mut self) {
        let ready = self.folder.join("ready.json");
        let _absent = fs::remove_file(&ready);
        let log = fs::File::options().create(true).append(true).open(self.folder.join("broker.log"));
        let mut command = Command::new(need("WIREMILL_BIN"));
        command.arg("serve").arg("--data-dir").arg(self.folder.join("data")).arg("--ready-file").arg(&ready);
        command.arg("--listen").arg(format!("amqp={}", self.amqp));
        for unused in
            ["kafka", "nats", "aws", "admin", "redis", "pulsar", "registry", "rabbitmq-admin", "pulsar-admin"]
        {
            command.arg("--listen").arg(format!("{unused}=off"));
        }
        let log = log.expect("the broker's log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log);
        self.process = Some(command.spawn().expect("the broker's program"));
        let deadline = Instant::now() + PATIENCE;
        let addresses = loop {
            if let Ok(text) = fs::read_to_string(&ready) {
                break serde_json::from_str::<serde_json::Value>(&text).expect("addresses");
            }
            let log = self.folder.join("broker.log");
            assert!(Instant::now() < deadline, "the broker is not ready: {:?}", fs::read_to_string(log));
            sleep(Duration::from_millis(5));
        };
        self.amqp = addresses.get("amqp").and_then(|it| it.as_str()).expect("an address").to_owned();
    }

    /// The URL of its AMQP listener, the same after every start.
    #[must_use]
    pub fn amqp(&self) -> String {
        format!("amqp://guest:guest@{}/%2f", self.amqp)
    }

    /// Ends the process at once, as a power cut ends it.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("the broker is killed");
            process.wait().expect("the broker is gone");
        }
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
        let _gone = fs::remove_dir_all(&self.folder);
    }
}
