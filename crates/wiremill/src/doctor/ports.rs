//! Which process listens on a port, from Linux's `/proc`. Elsewhere nobody is found.

use std::fs;

/// State of a listening socket in `/proc/net/tcp`.
const LISTENING: &str = "0A";

/// "process 4711 (java)", if a process that this user may look into listens on `port`.
pub fn holder(port: u16) -> Option<String> {
    let sockets: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .flat_map(|table| table.lines().filter_map(|line| listening_inode(line, port)).collect::<Vec<_>>())
        .map(|inode| format!("socket:[{inode}]"))
        .collect();
    if sockets.is_empty() {
        return None;
    }
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let id = processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .find(|id| has(*id, &sockets))?;
    let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    Some(format!("process {id} ({})", name.trim_end()))
}

/// The inode of a table line, when the line is a socket that listens on `port`.
fn listening_inode(line: &str, port: u16) -> Option<String> {
    let mut fields = line.split_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let inode = fields.nth(5)?;
    let (_, hex) = local.rsplit_once(':')?;
    (state == LISTENING && u16::from_str_radix(hex, 16).ok()? == port).then(|| inode.to_owned())
}

fn has(process: u32, sockets: &[String]) -> bool {
    let Ok(handles) = fs::read_dir(format!("/proc/{process}/fd")) else { return false };
    handles.flatten().any(|handle| {
        fs::read_link(handle.path()).is_ok_and(|target| {
            target.to_str().is_some_and(|target| sockets.iter().any(|socket| socket == target))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_named() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let found = holder(port).unwrap();
        assert!(found.starts_with(&format!("process {} (", std::process::id())), "{found}");
        drop(socket);
        assert_eq!(holder(port), None);
    }
}
