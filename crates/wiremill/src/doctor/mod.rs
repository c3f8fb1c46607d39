//! What the machine says about itself: `wiremill doctor`, and errors that name a culprit.

mod disk;
pub mod ports;
mod queues;

use std::{net::ToSocketAddrs, path::Path};

use serde_json::{Value, json};

use crate::{
    listeners::{ListenerName, tls::Tls},
    settings::{Listen, Settings},
};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// It works, and may surprise.
    Beware,
    /// It will not work.
    Bad,
}

/// One thing that was looked at.
#[derive(Clone, Debug)]
pub struct Finding {
    verdict: Verdict,
    what: String,
    finding: String,
}

fn finding(verdict: Verdict, what: impl Into<String>, finding: impl Into<String>) -> Finding {
    Finding { verdict, what: what.into(), finding: finding.into() }
}

/// Looks at everything that a server with these settings would rest on.
pub fn examine(settings: &Settings) -> Vec<Finding> {
    let mut all = Vec::new();
    let data_dir = settings.data_dir.clone().unwrap_or_else(std::env::temp_dir);
    all.extend(disk::examine(&data_dir, settings.free_space_min_len));
    all.extend(ports_of(settings));
    all.extend(advertised(settings));
    all.extend(tls(settings));
    all.extend(limits(settings));
    all
}

/// Looks at queues as well: those that are declared, and those that a running server lists.
pub fn examine_queues(settings: &Settings, running: Option<&Value>) -> Option<Finding> {
    queues::examine(settings, running)
}

/// Whether something will not work.
pub fn is_bad(findings: &[Finding]) -> bool {
    findings.iter().any(|one| one.verdict == Verdict::Bad)
}

/// Findings as rows.
pub fn rows(findings: &[Finding]) -> Vec<Value> {
    let word = |verdict| match verdict {
        Verdict::Good => "ok",
        Verdict::Beware => "beware",
        Verdict::Bad => "BAD",
    };
    findings
        .iter()
        .map(|one| json!({ "verdict": word(one.verdict), "what": one.what, "finding": one.finding }))
        .collect()
}

fn ports_of(settings: &Settings) -> Vec<Finding> {
    let mut all = Vec::new();
    for (name, listen) in settings.listen.iter().filter(|(name, _)| name.is_built()) {
        let what = format!("port of {}", name.text());
        let Listen::On { host, port } = listen else {
            all.push(finding(Verdict::Good, what, "off"));
            continue;
        };
        all.push(match std::net::TcpListener::bind((host.as_str(), *port)) {
            Ok(_) => finding(Verdict::Good, what, format!("{host}:{port} is free")),
            Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => taken(what, host, *port),
            Err(e) => finding(Verdict::Bad, what, format!("{host}:{port}: {e}")),
        });
    }
    all
}

/// A port that somebody listens on: fine when it is a server of ours, which then runs already.
fn taken(what: String, host: &str, port: u16) -> Finding {
    match ports::holder(port) {
        Some(holder) if holder.ends_with("(wiremill)") => finding(
            Verdict::Beware,
            what,
            format!("{host}:{port} is held by {holder}: a server that runs already"),
        ),
        Some(holder) => finding(Verdict::Bad, what, format!("{host}:{port} is taken by {holder}")),
        None => finding(
            Verdict::Bad,
            what,
            format!("{host}:{port} is taken by somebody whom this user may not see"),
        ),
    }
}

fn advertised(settings: &Settings) -> Vec<Finding> {
    let mut all = Vec::new();
    for (name, listen) in settings.listen.iter().filter(|(name, _)| name.is_built()) {
        let what = format!("advertised address of {}", name.text());
        match (settings.advertise.get(name), listen) {
            (Some(told), _) => all.push(match (told.host.as_str(), told.port).to_socket_addrs() {
                Ok(_) => finding(Verdict::Good, what, format!("{}:{}", told.host, told.port)),
                Err(e) => finding(Verdict::Beware, what, format!("{} does not resolve here: {e}", told.host)),
            }),
            (None, Listen::On { host, .. }) if *name == ListenerName::Kafka && beyond(host) => all.push(finding(
                Verdict::Good,
                what,
                "none: each client is told the address that it connected to; set one behind a proxy or NAT",
            )),
            _ => {}
        }
    }
    all
}

fn beyond(host: &str) -> bool {
    host.parse::<std::net::IpAddr>().is_ok_and(|ip| !ip.is_loopback())
}

fn tls(settings: &Settings) -> Vec<Finding> {
    let each = |(name, files): (&ListenerName, _)| {
        let what = format!("TLS of {}", name.text());
        match Tls::load(*name, files) {
            Ok(_) => finding(Verdict::Good, what, "certificate and key read and belong together"),
            Err(why) => finding(Verdict::Bad, what, why),
        }
    };
    settings.tls.iter().map(each).collect()
}

fn limits(settings: &Settings) -> Vec<Finding> {
    let mut all = Vec::new();
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    let wanted = settings.connections_max as u64;
    all.push(match files {
        Some(files) if files < wanted => finding(
            Verdict::Beware,
            "limit of open files",
            format!("{files}, fewer than connections_max = {wanted} of a single listener"),
        ),
        Some(files) => finding(Verdict::Good, "limit of open files", files.to_string()),
        None => finding(Verdict::Good, "limit of open files", "none"),
    });
    if let Some(available) = available_memory_len() {
        let budget = settings.memory_budget_len;
        let text = format!("{} MiB available, memory_budget_len is {} MiB", available >> 20, budget >> 20);
        let verdict = if available < budget { Verdict::Beware } else { Verdict::Good };
        all.push(finding(verdict, "memory", text));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    all.push(finding(Verdict::Good, "cores", cores.to_string()));
    all
}

/// Bytes that Linux could give to a process now.
fn available_memory_len() -> Option<u64> {
    let table = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().trim_end_matches("kB").trim_end().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The nearest folder on the way up that is there.
fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."))
}
