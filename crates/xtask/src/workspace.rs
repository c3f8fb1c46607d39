//! Where things are: the root, the crates, the source files, and what cargo knows of them.

use serde_json::Value;
use std::path::{Path, PathBuf};

/// The folder that holds the root `Cargo.toml`.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// `cargo metadata` of the whole workspace, dependencies included.
pub fn metadata() -> Result<Value, String> {
    let output = crate::cargo()
        .args(["metadata", "--format-version", "1", "--locked"])
        .output()
        .map_err(|error| format!("cannot run cargo metadata: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("cargo metadata: {error}"))
}

/// A Rust source file of the workspace.
pub struct Source {
    /// Relative to the root, with forward slashes.
    pub path: String,
    pub text: String,
}

impl Source {
    /// The crate folder it lies in: `crates/NAME/…`.
    pub fn crate_name(&self) -> &str {
        self.path.split('/').nth(1).unwrap_or_default()
    }
}

/// Every `.rs` file under `crates/`, sorted by path.
pub fn sources() -> Result<Vec<Source>, String> {
    let root = root();
    let mut paths = Vec::new();
    collect(&root.join("crates"), &mut paths)?;
    paths.sort();
    paths.into_iter().map(|path| read(&root, &path)).collect()
}

fn read(root: &Path, path: &Path) -> Result<Source, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let relative = path.strip_prefix(root).unwrap_or(path);
    Ok(Source { path: relative.to_string_lossy().replace('\\', "/"), text })
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), String> {
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let path = entry.map_err(|error| format!("{}: {error}", folder.display()))?.path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "target") {
                collect(&path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(())
}
