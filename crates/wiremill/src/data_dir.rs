//! What lies in a data directory, as far as it has to be known before one is opened.

use std::{fs, io, path::Path};

/// Made before anything else is in a data directory, and there for as long as it is one.
const FORMAT: &str = "FORMAT";

/// Says that no run kept anything here: made by the first one, ahead of what the engine makes, and gone with the first
/// durable one.
const EPHEMERAL: &str = "EPHEMERAL";

/// Whether an engine ever had `dir`, also where the format file is gone.
pub fn is_data_dir(dir: &Path) -> bool {
    let has = |name: &str| fs::read_dir(dir.join(name)).is_ok_and(|mut entries| entries.next().is_some());
    dir.join(FORMAT).exists() || ["wal", "blobs"].into_iter().any(has)
}

/// Lets an ephemeral run have `dir`, unless something is kept there: the run would show it as its own, and lose what
/// comes to it. The error is a sentence for whoever asked.
pub fn lend(dir: &Path) -> Result<(), String> {
    let marker = dir.join(EPHEMERAL);
    if marker.exists() {
        return Ok(());
    }
    if is_data_dir(dir) {
        return Err(format!(
            "{} holds durable data, and an ephemeral run keeps nothing: leave --ephemeral away, or leave --data-dir away \
             for a temporary folder",
            dir.display()
        ));
    }
    let made =
        fs::create_dir_all(dir).and_then(|()| fs::write(&marker, "an ephemeral run had this folder\n"));
    made.map_err(|e| format!("{} cannot be written: {e}", dir.display()))
}

/// Takes `dir` for what is kept: no ephemeral run gets it from here on. Ahead of the first acknowledgement. The error is
/// a sentence for whoever asked.
pub fn keep(dir: &Path) -> Result<(), String> {
    let kept = match fs::remove_file(dir.join(EPHEMERAL)) {
        Ok(()) => fs::File::open(dir).and_then(|dir| dir.sync_all()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(e),
    };
    kept.map_err(|e| format!("the mark of an ephemeral run stays in {}: {e}", dir.display()))
}
