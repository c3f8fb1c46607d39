//! What a person sees at the start: where everything is, and a line to paste for each.

use std::{
    fmt::Write as _,
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use crate::{
    listeners::Bound,
    settings::{LogFormat, Settings},
};

/// Says on standard output what accepts where. With `--log-format json` the log says it instead.
pub fn show(settings: &Settings, data_dir: &Path, bound: &[Bound]) {
    if settings.log_format == LogFormat::Json {
        let Settings { ephemeral, insecure, .. } = settings;
        tracing::info!(data_dir = %data_dir.display(), ephemeral, insecure, "starting");
        for one in bound {
            tracing::info!(listener = one.name.text(), address = %one.address, "accepting");
        }
        return;
    }
    if let Err(e) = io::stdout().write_all(text(settings, data_dir, bound).as_bytes()) {
        tracing::debug!(error = %e, "nobody reads the banner");
    }
}

fn text(settings: &Settings, data_dir: &Path, bound: &[Bound]) -> String {
    let mut out = format!("wiremill {}   data in {}\n", env!("CARGO_PKG_VERSION"), data_dir.display());
    if settings.ephemeral {
        out.push_str("EPHEMERAL: records are kept in memory only and are gone when this process ends.\n");
    }
    if settings.insecure {
        out.push_str("INSECURE: whoever reaches a port may do everything while no user exists.\n");
    }
    out.push('\n');
    let addresses: Vec<String> = bound.iter().map(|one| one.address.to_string()).collect();
    let width = addresses.iter().map(String::len).max().unwrap_or(0);
    for (one, address) in bound.iter().zip(&addresses) {
        let tls = settings.tls.contains_key(&one.name);
        let line = one.name.line_to_paste(&reached_at(one.address).to_string(), tls);
        let _infallible = writeln!(out, "  {:<15} {address:<width$}   {line}", one.name.text());
    }
    out.push('\n');
    out
}

/// Where a command on this machine finds it: nobody connects to the address that stands for all.
fn reached_at(bound: SocketAddr) -> SocketAddr {
    let ip = match bound.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, bound.port())
}
