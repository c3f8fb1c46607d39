//! The ready file: one flat JSON object, listener name to address. It appears whole or not at all.

use std::{
    collections::BTreeMap,
    fs, io,
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    time::Duration,
};

use crate::listeners::Bound;

/// A ready file in place; removed when dropped.
pub struct Ready {
    path: PathBuf,
}

/// Writes the file beside its place and renames it there.
pub fn write(path: &Path, bound: &[Bound]) -> io::Result<Ready> {
    let addresses: serde_json::Map<_, _> =
        bound.iter().map(|one| (one.name.text().to_owned(), one.address.to_string().into())).collect();
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}", std::process::id()));
    fs::write(&beside, serde_json::Value::Object(addresses).to_string())?;
    fs::rename(&beside, path)?;
    Ok(Ready { path: path.to_owned() })
}

/// How long it may take to be let in by a run that is there.
const ASK_LIMIT: Duration = Duration::from_millis(200);

/// Takes away what a run left behind that did not end in order: it says where that one listened. A run that is there still
/// keeps its file.
pub fn remove_stale(path: &Path) -> Result<(), String> {
    let known = fs::read_to_string(path).ok();
    let addresses: BTreeMap<String, SocketAddr> =
        known.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    if addresses.values().any(|address| TcpStream::connect_timeout(address, ASK_LIMIT).is_ok()) {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            Err(format!("the ready file {} of an earlier run cannot be removed: {e}", path.display()))
        }
        _ => Ok(()),
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.path)
            && e.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.path.display(), error = %e, "the ready file stays behind");
        }
    }
}
