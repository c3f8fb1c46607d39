//! Binding: addresses, the loopback rule, and errors that say who holds a port.

use std::net::{IpAddr, SocketAddr};

use tokio::net::{TcpListener, lookup_host};

use super::ListenerName;
use crate::{
    doctor::ports,
    settings::{Listen, Settings},
};

/// A socket that is bound and listening; nothing is accepted from it yet.
pub struct Bound {
    /// Whose.
    pub name: ListenerName,
    /// Where; the port is the real one.
    pub address: SocketAddr,
    /// The socket.
    pub socket: TcpListener,
}

/// Binds every listener that is on and built, all or none. `users_exist` decides whether addresses beyond loopback are
/// allowed without `insecure`. The error is a sentence for whoever started the program.
pub async fn bind(settings: &Settings, users_exist: bool) -> Result<Vec<Bound>, String> {
    let mut all = Vec::new();
    for (&name, listen) in &settings.listen {
        let Listen::On { host, port } = listen else { continue };
        if !name.is_built() {
            continue;
        }
        let address = resolve(name, host, *port).await?;
        if !address.ip().to_canonical().is_loopback() && !users_exist && !settings.insecure {
            return Err(beyond_loopback(name, address.ip()));
        }
        let socket = TcpListener::bind(address).await.map_err(|e| refused(name, address, &e))?;
        let address = socket.local_addr().map_err(|e| refused(name, address, &e))?;
        all.push(Bound { name, address, socket });
    }
    Ok(all)
}

async fn resolve(name: ListenerName, host: &str, port: u16) -> Result<SocketAddr, String> {
    let name = name.text();
    let found =
        lookup_host((host, port)).await.map_err(|e| format!("{name} cannot listen on {host:?}: {e}"))?;
    let mut found: Vec<SocketAddr> = found.collect();
    found.sort_by_key(SocketAddr::is_ipv6); // a name with both: what most clients try
    found.first().copied().ok_or_else(|| format!("{name} cannot listen on {host:?}: the name has no address"))
}

fn beyond_loopback(name: ListenerName, ip: IpAddr) -> String {
    let name = name.text();
    format!(
        "{name} would listen on {ip}, beyond loopback, and no user exists: whoever reaches the port could do \
         everything. Start on loopback and add one with `wiremill user add NAME`, or pass --insecure."
    )
}

fn refused(name: ListenerName, address: SocketAddr, e: &std::io::Error) -> String {
    let text = name.text();
    if e.kind() != std::io::ErrorKind::AddrInUse {
        return format!("{text} cannot listen on {address}: {e}");
    }
    let holder = ports::holder(address.port()).map_or_else(String::new, |holder| format!(" by {holder}"));
    format!(
        "{text} cannot listen on {address}: the port is taken{holder}. Stop it, or pass --listen {text}=HOST:PORT \
         (port 0 picks a free one) or --listen {text}=off."
    )
}
