//! Starts Wiremill where async-nats' tests start a nats-server: the same functions, and for each configuration file of
//! the tests the settings of ours that mean the same.

#![forbid(unsafe_code)]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU64, Ordering},
    thread::sleep,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

/// Far above the 50 ms of a start, for a busy machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Listeners that no test asks for.
const UNUSED: [&str; 8] =
    ["kafka", "amqp", "aws", "redis", "pulsar", "registry", "rabbitmq-admin", "pulsar-admin"];
/// Where the tests' certificates lie, seen from the folder that they run in.
const CERTIFICATES: &str = "tests/configs/certs";

/// A broker of one test; it ends with it.
pub struct Server {
    config: String,
    folder: PathBuf,
    child: Child,
    nats: String,
}

/// What a configuration file of the tests means here.
#[derive(Default)]
struct Meaning {
    flags: Vec<String>,
    /// Words after `wiremill user add`.
    user: Vec<&'static str>,
    is_tls: bool,
}

/// A broker with the settings of `config`, on a free port.
pub fn run_server(config: &str) -> Server {
    run_server_with_port(config, None)
}

/// A broker with the settings of `config` on `port`.
pub fn run_server_with_port(config: &str, port: Option<&str>) -> Server {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let folder = std::env::temp_dir().join(format!(
        "wiremill-async-nats-{}-{now}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Ordering::Relaxed)
    ));
    std::fs::create_dir_all(&folder).unwrap();
    let (child, nats) = start(config, &folder, &format!("127.0.0.1:{}", port.unwrap_or("0")));
    Server { config: config.to_owned(), folder, child, nats }
}

/// A broker with no settings at all.
pub fn run_basic_server() -> Server {
    run_server("")
}

/// Tells clients to go elsewhere, and goes: here that is how every orderly end begins.
pub fn set_lame_duck_mode(server: &Server) {
    let pid = server.child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
}

/// Several servers that are one.
pub struct Cluster {
    pub servers: Vec<Server>,
}

impl Cluster {
    pub fn client_url(&self) -> String {
        self.servers[0].client_url()
    }
}

/// There is none.
pub fn run_cluster(config: &str) -> Cluster {
    panic!("{config}: a Wiremill is one node");
}

pub fn is_port_available(port: usize) -> bool {
    std::net::TcpListener::bind(("127.0.0.1", port.try_into().unwrap())).is_ok()
}

impl Server {
    /// Kills it and starts it again on the same data and address.
    pub fn restart(&mut self) {
        self.kill();
        let address = self.nats.clone();
        (self.child, self.nats) = start(&self.config, &self.folder, &address);
    }

    pub fn client_url(&self) -> String {
        let scheme = if meaning(&self.config).is_tls { "tls" } else { "nats" };
        format!("{scheme}://localhost:{}", self.client_port())
    }

    pub fn client_port(&self) -> u16 {
        self.nats.rsplit(':').next().unwrap().parse().unwrap()
    }

    pub fn client_url_with(&self, user: &str, pass: &str) -> String {
        self.client_url().replacen("://", &format!("://{user}:{pass}@"), 1)
    }

    pub fn client_url_with_token(&self, token: &str) -> String {
        self.client_url().replacen("://", &format!("://{token}@"), 1)
    }

    pub fn client_pid(&self) -> usize {
        self.child.id() as usize
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

fn start(config: &str, folder: &Path, address: &str) -> (Child, String) {
    let meaning = meaning(config);
    let ready = folder.join("ready.json");
    if ready.exists() {
        std::fs::remove_file(&ready).unwrap();
    }
    let log = std::fs::File::create(folder.join("broker.log")).unwrap();
    let mut command = Command::new(binary());
    command.arg("serve").arg("--data-dir").arg(folder.join("data")).arg("--ready-file").arg(&ready);
    command.args(["--listen", &format!("nats={address}"), "--listen", "admin=127.0.0.1:0"]);
    for name in UNUSED {
        command.args(["--listen", &format!("{name}=off")]);
    }
    // The original takes away what is too old when its time comes, ours at the next look.
    command.args(["--retention-interval-ms", "200"]);
    command.args(&meaning.flags);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let mut child = command.spawn().unwrap();
    let addresses = addresses(&mut child, folder, &ready);
    let of = |name: &str| addresses[name].as_str().unwrap().to_owned();
    if !meaning.user.is_empty() {
        let admin = format!("http://{}", of("admin"));
        let mut add = Command::new(binary());
        add.args(["user", "add"]).args(meaning.user).args(["--admin", &admin]).stdout(Stdio::null());
        // After a restart it is there already, and may not be changed without its password.
        assert!(add.stderr(Stdio::null()).status().unwrap().success() || folder.join("added").exists());
        std::fs::write(folder.join("added"), "").unwrap();
    }
    (child, of("nats"))
}

fn addresses(child: &mut Child, folder: &Path, ready: &Path) -> Value {
    let started = Instant::now();
    loop {
        if let Ok(text) = std::fs::read_to_string(ready) {
            return serde_json::from_str(&text).unwrap();
        }
        let is_over = child.try_wait().unwrap().is_some() || started.elapsed() > START_LIMIT;
        assert!(!is_over, "{}", std::fs::read_to_string(folder.join("broker.log")).unwrap());
        sleep(Duration::from_millis(5));
    }
}

fn binary() -> String {
    std::env::var("WIREMILL_BIN")
        .expect("WIREMILL_BIN: run this suite through `cargo xtask test --only rust`")
}

/// The tests' limits of JetStream's storage are far above what they store: they mean nothing here.
fn meaning(config: &str) -> Meaning {
    let name = Path::new(config).file_name().map(|name| name.to_string_lossy().into_owned());
    let flags = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    match name.as_deref().unwrap_or_default() {
        "" | "jetstream.conf" => Meaning::default(),
        "max_payload.conf" | "jetstream_max_payload.conf" => {
            Meaning { flags: flags(&["--nats-max-payload", "128KiB"]), ..Meaning::default() }
        }
        "jetstream_max_request_batch.conf" => {
            Meaning { flags: flags(&["--nats-max-request-batch", "100"]), ..Meaning::default() }
        }
        "user_pass.conf" => {
            Meaning { user: vec!["derek", "--password", "s3cr3t-s3cr3t"], ..Meaning::default() }
        }
        "token.conf" => Meaning { user: vec!["anybody", "--token", "s3cr3t-s3cr3t"], ..Meaning::default() },
        "nkey.conf" => Meaning {
            user: vec!["owner", "--nkey", "UAFHG6FUD2UU4SDFVAFUL5LDFO2XM4WYM76UNXTPJYJK7EEMYRBHT2VE"],
            ..Meaning::default()
        },
        "tls.conf" => tls("server", Some("rootCA"), &[]),
        "ip-tls.conf" => tls("ip", None, &[]),
        "tls_first.conf" => tls("server", Some("rootCA"), &["--nats-tls-first", "always"]),
        "tls_first_auto.conf" => tls("server", Some("rootCA"), &["--nats-tls-first", "auto"]),
        other => panic!("{other}: there is nothing of ours that means the same"),
    }
}

/// TLS with the tests' certificates, and their user.
fn tls(certificate: &str, client_ca: Option<&str>, more: &[&str]) -> Meaning {
    let file = |name: &str| format!("nats={CERTIFICATES}/{name}.pem");
    let mut flags = vec!["--tls-cert".to_owned(), file(&format!("{certificate}-cert"))];
    flags.extend(["--tls-key".to_owned(), file(&format!("{certificate}-key"))]);
    flags.extend(client_ca.into_iter().flat_map(|ca| ["--tls-client-ca".to_owned(), file(ca)]));
    flags.extend(more.iter().map(|word| (*word).to_owned()));
    Meaning { flags, user: vec!["derek", "--password", "porkchop"], is_tls: true }
}
