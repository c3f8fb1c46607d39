//! RabbitMQ from Debian's packages: installed, or downloaded and unpacked under `target/bench`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::Target;
use crate::{
    Failure,
    compare::broker::{self, Running},
};

const PORT: u16 = 19_772;
const DISTRIBUTION_PORT: u16 = 19_773;
const MAPPER_PORT: u16 = 19_774;

/// How long it may take until it answers a login, after its port is open.
const LOGIN_PATIENCE: Duration = Duration::from_secs(30);

/// Makes the folder with the packages; `$0` is it. Nothing is installed.
const UNPACK: &str = r#"
set -e
mkdir -p "$0" && cd "$0"
names=$(apt-get install --print-uris -y --no-install-recommends rabbitmq-server \
    | sed -n "s/^'[^']*' \([^_]*\)_.*/\1/p")
apt-get download -qq $names
for package in *.deb; do dpkg-deb -x "$package" root; done
sed -i "s#ROOTDIR=/usr/lib/erlang#ROOTDIR=$0/root/usr/lib/erlang#" root/usr/lib/erlang/bin/erl
"#;

/// The original, and what maps names for it.
pub(crate) struct Original {
    pub running: Running,
    mapper: Child,
}

impl Drop for Original {
    fn drop(&mut self) {
        if let Err(e) = self.mapper.kill().and_then(|()| self.mapper.wait()) {
            println!("what maps names for RabbitMQ cannot be stopped: {e}");
        }
    }
}

/// Where `lib/rabbitmq` and `lib/erlang` are.
fn programs() -> Result<PathBuf, Failure> {
    let installed = Path::new("/usr/lib");
    if installed.join("rabbitmq/lib").exists() && installed.join("erlang/bin/erl").exists() {
        return Ok(installed.to_owned());
    }
    let folder = broker::kept("rabbitmq");
    let unpacked = folder.join("root/usr/lib");
    if !unpacked.join("rabbitmq/lib").exists() {
        let made = Command::new("sh").args(["-c", UNPACK]).arg(&folder).stdout(Stdio::null()).status()?;
        if !made.success() {
            return Err("Debian's package rabbitmq-server cannot be downloaded".into());
        }
    }
    Ok(unpacked)
}

/// The one folder in `folder` whose name begins so.
fn found(folder: &Path, prefix: &str) -> Result<PathBuf, Failure> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)) {
            return Ok(path);
        }
    }
    Err(format!("there is no {prefix}… in {}", folder.display()).into())
}

/// Starts it on a fresh directory, on loopback alone, without plugins.
pub(crate) fn start() -> Result<Original, Failure> {
    let programs = programs()?;
    let server = found(&programs.join("rabbitmq/lib"), "rabbitmq_server-")?;
    let erlang = programs.join("erlang");
    let dir = broker::scratch("rabbitmq")?;
    let plugins = dir.join("plugins");
    fs::write(&plugins, "[].\n")?;
    let mapper = Command::new(found(&erlang, "erts-")?.join("bin/epmd"))
        .args(["-address", "127.0.0.1", "-port", &MAPPER_PORT.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    let mut path = erlang.join("bin").into_os_string();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new(server.join("sbin/rabbitmq-server"));
    command
        .env("PATH", path)
        .env("HOME", &dir)
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", MAPPER_PORT.to_string())
        .env("RABBITMQ_NODENAME", "bench@localhost")
        .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_NODE_PORT", PORT.to_string())
        .env("RABBITMQ_DIST_PORT", DISTRIBUTION_PORT.to_string())
        .env("RABBITMQ_MNESIA_BASE", dir.join("mnesia"))
        .env("RABBITMQ_LOG_BASE", dir.join("log"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", &plugins)
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        // The script then becomes the server, and is not its parent: its CPU and memory are those of this process.
        .env("RABBITMQ_ALLOW_INPUT", "true")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-noinput -kernel inet_dist_use_interface {127,0,0,1}")
        .stdin(Stdio::null());
    let running = broker::start("RabbitMQ", command, dir, PORT);
    let original = match running {
        Ok(running) => Original { running, mapper },
        Err(failure) => {
            let mut mapper = mapper;
            mapper.kill()?;
            mapper.wait()?;
            return Err(failure);
        }
    };
    let began = Instant::now();
    while original.target().connect().is_err() {
        if began.elapsed() > LOGIN_PATIENCE {
            return Err("RabbitMQ lets nobody in".into());
        }
        thread::sleep(Duration::from_millis(50));
    }
    Ok(original)
}

impl Original {
    pub(crate) fn target(&self) -> Target {
        Target { addr: self.running.addr.clone(), pid: self.running.pid() }
    }
}
