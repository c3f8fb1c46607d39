//! Starts and stops the two brokers, each on a fresh directory.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::Failure;

/// A broker that runs; killed when dropped.
pub(crate) struct Running {
    pub name: &'static str,
    pub addr: String,
    /// How long it took until it accepted connections.
    pub ready_after: Duration,
    process: Child,
    dir: PathBuf,
    keep_dir: bool,
}

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Its data directory.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// As `kill -9` does it; the directory stays for the next start.
    pub(crate) fn kill(mut self) -> Result<PathBuf, Failure> {
        self.keep_dir = true;
        self.process.kill()?;
        self.process.wait()?;
        Ok(self.dir.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let stopped = self.process.kill().and_then(|()| self.process.wait().map(|_| ()));
        if let Err(e) = stopped {
            println!("{} cannot be stopped: {e}", self.name);
        }
        if !self.keep_dir && fs::remove_dir_all(&self.dir).is_err() {
            println!("{} is left behind", self.dir.display());
        }
    }
}

/// A folder of this run under `target/bench`.
pub(crate) fn scratch(name: &str) -> Result<PathBuf, Failure> {
    let dir = root().join("target/bench").join(format!("{name}-{}", std::process::id()));
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// A folder under `target/bench` that stays from run to run.
pub(crate) fn kept(name: &str) -> PathBuf {
    root().join("target/bench").join(name)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap_or(Path::new(".")).to_owned()
}

/// Wiremill, as released, on `dir`, with its Kafka listener alone.
pub(crate) fn wiremill(dir: PathBuf, port: u16) -> Result<Running, Failure> {
    wiremill_on("kafka", dir, port)
}

const LISTENERS: [&str; 10] = [
    "kafka",
    "amqp",
    "nats",
    "aws",
    "redis",
    "pulsar",
    "registry",
    "rabbitmq-admin",
    "pulsar-admin",
    "admin",
];

/// Wiremill, as released or as `WIREMILL_BIN` says, on `dir`, with one listener.
pub(crate) fn wiremill_on(listener: &str, dir: PathBuf, port: u16) -> Result<Running, Failure> {
    let binary = std::env::var_os("WIREMILL_BIN").map(PathBuf::from);
    let mut command = Command::new(binary.unwrap_or_else(|| root().join("target/release/wiremill")));
    command.arg("--data-dir").arg(&dir).arg("--listen").arg(format!("{listener}=127.0.0.1:{port}"));
    for other in LISTENERS.into_iter().filter(|other| *other != listener) {
        command.arg("--listen").arg(format!("{other}=off"));
    }
    start("Wiremill", command, dir, port)
}

/// ElasticMQ from Maven Central: it keeps messages in memory.
pub(crate) fn elasticmq(dir: PathBuf, port: u16) -> Result<Running, Failure> {
    let classpath = format!("{}/*", fetched("elasticmq")?.display());
    let settings = dir.join("elasticmq.conf");
    fs::write(
        &settings,
        format!(
            "include classpath(\"application.conf\")\n\
             rest-sqs {{ enabled = true, bind-hostname = \"127.0.0.1\", bind-port = {port}, sqs-limits = strict }}\n\
             rest-stats {{ enabled = false }}\n"
        ),
    )?;
    let mut command = Command::new("java");
    command.args(["-Xmx1g", "-Xms1g"]).arg(format!("-Dconfig.file={}", settings.display()));
    command.args(["-cp", &classpath, "org.elasticmq.server.Main"]);
    start("ElasticMQ", command, dir, port)
}

/// What nats-server is built from.
const NATS_SERVER: &str = "github.com/nats-io/nats-server/v2@v2.14.5";

/// nats-server through the Go module proxy, with JetStream. It syncs every two minutes unless `synced`.
pub(crate) fn nats_server(dir: PathBuf, port: u16, synced: bool) -> Result<Running, Failure> {
    let programs = root().join("target/bench/nats");
    if !programs.join("nats-server").exists() {
        let installed = Command::new("go").args(["install", NATS_SERVER]).env("GOBIN", &programs).status()?;
        if !installed.success() {
            return Err("nats-server cannot be built".into());
        }
    }
    let settings = dir.join("nats.conf");
    let sync = if synced { "sync_interval: always" } else { "" };
    fs::write(&settings, format!("jetstream {{ store_dir: \"{}\"\n{sync} }}\n", dir.display()))?;
    let mut command = Command::new(programs.join("nats-server"));
    command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-c"]).arg(&settings);
    start(if synced { "nats-server, synced" } else { "nats-server" }, command, dir, port)
}

/// moto's server from PyPI, in an environment of its own: it keeps messages in memory.
pub(crate) fn moto(dir: PathBuf, port: u16) -> Result<Running, Failure> {
    let environment = root().join("target/bench/moto");
    if !environment.join("bin/moto_server").exists() {
        let made = Command::new("python3").args(["-m", "venv"]).arg(&environment).status()?;
        let mut install = Command::new(environment.join("bin/pip"));
        let is_there = made.success() && install.args(["install", "-q", "moto[server]"]).status()?.success();
        if !is_there {
            return Err("moto cannot be installed".into());
        }
    }
    let mut command = Command::new(environment.join("bin/moto_server"));
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
    start("moto", command, dir, port)
}

/// Apache Kafka and its tools from Maven Central, fetched once.
pub(crate) fn original_libs() -> Result<PathBuf, Failure> {
    fetched("original")
}

/// RabbitMQ's load tool from Maven Central, fetched once.
pub(crate) fn perf_test_libs() -> Result<PathBuf, Failure> {
    fetched("perftest")
}

/// What `crates/bench/NAME/pom.xml` depends on, fetched once.
fn fetched(name: &str) -> Result<PathBuf, Failure> {
    let libs = root().join(format!("target/bench/{name}-libs"));
    if !libs.exists() {
        let fetched = Command::new("mvn")
            .args(["-q", "-B", "dependency:copy-dependencies"])
            .arg(format!("-DoutputDirectory={}", libs.display()))
            .arg("-f")
            .arg(root().join(format!("crates/bench/{name}/pom.xml")))
            .status()?;
        if !fetched.success() {
            return Err(format!("{name} cannot be fetched from Maven Central").into());
        }
    }
    Ok(libs)
}

/// Apache Kafka from Maven Central, combined broker and controller, on a fresh directory.
pub(crate) fn original(dir: PathBuf, port: u16, synced: bool) -> Result<Running, Failure> {
    let libs = original_libs()?;
    let classpath = format!("{}/*", libs.display());
    let settings = dir.join("server.properties");
    fs::write(&settings, properties(&dir, port, synced))?;
    let id = "4L6g3nShT-eMCtK--X86sw";
    let formatted = Command::new("java")
        .args(["-cp", &classpath, "kafka.tools.StorageTool", "format", "--standalone", "-t", id, "-c"])
        .arg(&settings)
        .stdout(Stdio::null())
        .status()?;
    if !formatted.success() {
        return Err("Apache Kafka cannot format its directory".into());
    }
    let mut command = Command::new("java");
    command.args(["-Xmx1g", "-Xms1g", "-cp", &classpath, "kafka.Kafka"]).arg(&settings);
    start(if synced { "Kafka, synced" } else { "Kafka" }, command, dir, port)
}

fn properties(dir: &Path, port: u16, synced: bool) -> String {
    let controller = port + 1;
    let flush = if synced { "log.flush.interval.messages=1\n" } else { "" };
    format!(
        "process.roles=broker,controller\nnode.id=1\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         advertised.listeners=PLAINTEXT://127.0.0.1:{port}\n\
         controller.listener.names=CONTROLLER\ncontroller.quorum.bootstrap.servers=127.0.0.1:{controller}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT\n\
         log.dirs={}/data\noffsets.topic.replication.factor=1\n\
         transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n\
         share.coordinator.state.topic.replication.factor=1\nshare.coordinator.state.topic.min.isr=1\n\
         group.initial.rebalance.delay.ms=0\n{flush}",
        dir.display()
    )
}

pub(crate) fn start(
    name: &'static str,
    mut command: Command,
    dir: PathBuf,
    port: u16,
) -> Result<Running, Failure> {
    let log = fs::File::create(dir.join("output.log"))?;
    let begin = Instant::now();
    let process = command.stdout(log.try_clone()?).stderr(log).spawn()?;
    let addr = format!("127.0.0.1:{port}");
    let mut running = Running { name, addr, ready_after: Duration::ZERO, process, dir, keep_dir: false };
    while TcpStream::connect(&running.addr).is_err() {
        if let Some(status) = running.process.try_wait()? {
            let log = fs::read_to_string(running.dir.join("output.log"))?;
            return Err(format!("{name} ended with {status}:\n{log}").into());
        }
        if begin.elapsed() > Duration::from_secs(60) {
            return Err(format!("{name} is not ready after a minute").into());
        }
        thread::sleep(Duration::from_millis(1));
    }
    running.ready_after = begin.elapsed();
    Ok(running)
}

/// Drops what the machine has cached of the files in `dir` and the folders below, once it is written.
pub(crate) fn forget_cached(dir: &Path) -> Result<(), Failure> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            forget_cached(&path)?;
        } else if let Ok(file) = fs::File::open(&path) {
            // A file that went meanwhile has nothing to forget.
            file.sync_data()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}
