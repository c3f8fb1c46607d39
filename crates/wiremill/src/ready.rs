//! The ready file: one flat JSON object, listener name to address. It appears whole or not at all.

use std::{
    fs, io,
    path::{Path, PathBuf},
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

/// Takes away what a run left behind that did not end in order: it says where that one listened.
pub fn remove_stale(path: &Path) -> Result<(), String> {
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
