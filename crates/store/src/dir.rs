//! The data directory: one process, one format.

use std::{
    io,
    path::{Path, PathBuf},
};

use env::{Env, LockedDir, Open};
use model::{Error, ErrorKind, Result};

use crate::fsio::{reading, sync_above};

/// The layout that this program writes, and the newest that it reads.
const FORMAT: u32 = 1;

const FILE: &str = "FORMAT";

/// There while nobody holds the directory that was closed in order.
const CLOSED: &str = "CLOSED";
const MAX_LEN: u64 = 4096;

/// A data directory held for this process.
pub(crate) struct Held {
    _lock: Box<dyn LockedDir>,
    /// Random, from when the directory was made or its format file mended.
    pub incarnation: u128,
    /// Its format file was missing or did not read, and was written anew.
    pub mended: bool,
    /// Whoever had it last closed it in order, or nobody had it.
    pub closed_in_order: bool,
    env: Env,
    dir: PathBuf,
}

impl Held {
    /// Everything is stored and nothing goes on: the next one to open the directory may know.
    pub(crate) fn closed(&self) -> io::Result<()> {
        let file = self.env.files.open(&self.dir.join(CLOSED), Open::Create)?;
        file.sync()?;
        self.env.files.sync_dir(&self.dir)
    }
}

/// Takes `dir` for this process and checks its format; makes it when it is not there. With `mends` a format file that is
/// damaged, or missing beside data, is written anew: a repair, by whoever knows that no newer program wrote the data.
pub(crate) fn take(env: &Env, dir: &Path, mends: bool) -> Result<Held> {
    let made = env.files.create_dir(dir).map_err(|e| failed("cannot make the data directory", dir, &e))?;
    let holder = format!("process {}", std::process::id());
    let lock = env.files.lock_dir(dir, &holder).map_err(|e| match e.kind() {
        io::ErrorKind::WouldBlock => {
            Error::unavailable(format!("data directory {} is in use by {e}", dir.display()))
        }
        _ => failed("cannot lock the data directory", dir, &e),
    })?;
    let path = dir.join(FILE);
    let mut closed_in_order = true;
    let (incarnation, mended) = match read(env, &path, dir) {
        Ok(Some(incarnation)) => {
            closed_in_order = take_closed(env, dir)?;
            // The process that made the directory may have died before its last sync; what is above, it had synced.
            env.files.sync_dir(dir).map_err(|e| failed("cannot sync", dir, &e))?;
            (incarnation, false)
        }
        Ok(None) if has_data(env, dir) && !mends => {
            return Err(Error::corrupt(format!("{} has data but no format file", dir.display())));
        }
        Err(e) if e.kind() != ErrorKind::Corrupt || !mends => return Err(e),
        read => {
            take_closed(env, dir)?;
            let is_damaged = read.is_err() || has_data(env, dir);
            (create(env, dir, &path, made)?, is_damaged)
        }
    };
    let (env, dir) = (env.clone(), dir.to_owned());
    Ok(Held { _lock: lock, incarnation, mended, closed_in_order: closed_in_order && !mended, env, dir })
}

/// Whether the directory was closed in order. It is open from now on, before anything goes on.
fn take_closed(env: &Env, dir: &Path) -> Result<bool> {
    match env.files.remove(&dir.join(CLOSED)) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(failed("cannot remove", &dir.join(CLOSED), &e)),
    }
}

/// What the format file says; `None` when there is none.
fn read(env: &Env, path: &Path, dir: &Path) -> Result<Option<u128>> {
    let file = match env.files.open(path, Open::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("cannot open", path, &e)),
    };
    let len = file.len().map_err(|e| failed("cannot read", path, &e))?.min(MAX_LEN);
    let mut text = vec![0; usize::try_from(len).unwrap_or(0)];
    reading(path, || file.read_exact_at(&mut text, 0)).map_err(|e| match e.kind() {
        ErrorKind::Corrupt => e,
        _ => Error::unavailable(format!("cannot read the format file: {e}")),
    })?;
    parse(&String::from_utf8_lossy(&text), dir).map(Some)
}

/// Whether there is what a store writes: without its format file it is somebody else's, or ours and damaged. Neither is
/// to be written over unasked.
fn has_data(env: &Env, dir: &Path) -> bool {
    let has = |name| env.files.list(&dir.join(name)).is_ok_and(|entries| !entries.is_empty());
    ["wal", "blobs"].into_iter().any(has)
}

fn parse(text: &str, dir: &Path) -> Result<u128> {
    let strange = || Error::corrupt(format!("{} does not say its format", dir.join(FILE).display()));
    let mut lines = text.lines();
    let format = lines.next().and_then(|line| line.strip_prefix("wiremill data ")).ok_or_else(strange)?;
    let format: u32 = format.trim().parse().map_err(|_| strange())?;
    if format > FORMAT {
        return Err(Error::invalid(format!(
            "data directory {} has format {format}; this program reads formats up to {FORMAT}: use the newer program",
            dir.display()
        )));
    }
    let incarnation = lines.next().and_then(|line| line.strip_prefix("incarnation ")).ok_or_else(strange)?;
    u128::from_str_radix(incarnation.trim(), 16).map_err(|_| strange())
}

/// Writes the format file of a new directory, durably before anything else is in it. Once it is there, so are the folders,
/// and the names of all that is above. `made`: how many folders this process made for it.
fn create(env: &Env, dir: &Path, path: &Path, made: usize) -> Result<u128> {
    let incarnation = env.random.u128();
    let text = format!("wiremill data {FORMAT}\nincarnation {incarnation:032x}\n");
    let unfinished = PathBuf::from(format!("{}.new", path.display()));
    let written = || -> io::Result<()> {
        match env.files.remove(&unfinished) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let file = env.files.open(&unfinished, Open::Create)?;
        file.write_all_at(&[io::IoSlice::new(text.as_bytes())], 0)?;
        file.sync()?;
        for name in ["wal", "blobs"] {
            env.files.create_dir(&dir.join(name))?;
        }
        // A directory that was there without its format file is perhaps of a process that died here: who knows what it
        // had synced?
        let above = if made > 0 { made } else { usize::MAX };
        sync_above(&*env.files, dir, above)?;
        env.files.rename(&unfinished, path)?;
        env.files.sync_dir(dir)
    };
    written().map_err(|e| failed("cannot write", path, &e))?;
    Ok(incarnation)
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    Error::unavailable(format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::Ordering};

    use env::testing::faulty_files;

    use super::*;
    use crate::{
        Store, StoreOptions,
        conformance::Hands,
        testing::{Commands, Notes, Scratch},
    };

    /// Syncs of files, and the folders that were synced, while `dir` was opened.
    fn syncs_of_opening(dir: &Path) -> (u64, Vec<PathBuf>) {
        let (files, wrong) = faulty_files();
        // What is prepared in the background is prepared by hand: not at all.
        let env = Arc::new(Hands::default()).env(files, 1);
        let catalog = Arc::new(Commands::default());
        let opened = Store::<Notes>::open(env, dir, StoreOptions::default(), |_| {}, catalog);
        drop(opened.unwrap());
        let dirs = std::mem::take(&mut *wrong.synced_dirs.lock());
        (wrong.synced.load(Ordering::SeqCst), dirs)
    }

    #[test]
    fn an_empty_directory_is_opened_with_six_syncs() {
        let scratch = Scratch::new("syncs");
        let dir = scratch.0.join("data");
        let (files, dirs) = syncs_of_opening(&dir);
        // The format file, the log's first file with its header, and the frame in it.
        assert_eq!(files, 3);
        assert_eq!(dirs, [scratch.0.clone(), dir.clone(), dir.join("wal")]);
        let (_, dirs) = syncs_of_opening(&dir);
        assert_eq!(dirs[0], dir, "its maker may have died before it synced the name of its format file");
        assert!(!dirs.contains(&scratch.0), "what is above was synced before that");
    }

    #[test]
    fn folders_above_are_synced_where_they_were_made_and_all_of_them_when_nobody_knows() {
        let scratch = Scratch::new("above");
        let dir = scratch.0.join("a/b");
        let (_, dirs) = syncs_of_opening(&dir);
        assert_eq!(dirs[..2], [scratch.0.join("a"), scratch.0.clone()]);
        let dir = scratch.0.join("made");
        env::real().files.create_dir(&dir).unwrap();
        let (_, dirs) = syncs_of_opening(&dir);
        let above: Vec<&Path> = dir.ancestors().skip(1).collect();
        assert_eq!(dirs[..above.len()], above);
    }

    #[test]
    fn a_start_knows_whether_the_directory_was_closed_in_order() {
        let scratch = Scratch::new("closed");
        let dir = scratch.0.join("data");
        let open = || {
            let env = Arc::new(Hands::default()).env(env::real().files, 1);
            let catalog = Arc::new(Commands::default());
            Store::<Notes>::open(env, &dir, StoreOptions::default(), |_| {}, catalog).unwrap()
        };
        let (store, recovery) = open();
        assert!(recovery.closed_in_order, "nobody had it");
        store.close().unwrap();
        drop(store);
        let (store, recovery) = open();
        assert!(recovery.closed_in_order);
        drop(store);
        for _ in 0..2 {
            let (store, recovery) = open();
            assert!(!recovery.closed_in_order, "it was left as a kill leaves it");
            drop(store);
        }
    }

    #[test]
    fn a_kill_after_a_repair_of_the_format_file_is_no_close_in_order() {
        let scratch = Scratch::new("mended-closed");
        let dir = scratch.0.join("data");
        let open = |mends: bool| {
            let env = Arc::new(Hands::default()).env(env::real().files, 1);
            let tune = |wal: &mut crate::WalOptions| wal.tolerate_damage = mends;
            let catalog = Arc::new(Commands::default());
            Store::<Notes>::open(env, &dir, StoreOptions::default(), tune, catalog).unwrap()
        };
        open(false).0.close().unwrap();
        env::real().files.remove(&dir.join(FILE)).unwrap();
        let (store, recovery) = open(true);
        assert!(recovery.mended_format && !recovery.closed_in_order);
        drop(store);
        assert!(!open(false).1.closed_in_order);
    }

    #[test]
    fn a_format_file_that_is_damaged_or_gone_is_written_anew_only_by_a_repair_and_a_newer_one_never() {
        let scratch = Scratch::new("mended");
        let dir = scratch.0.join("data");
        let open = |mends: bool| {
            let (files, _) = faulty_files();
            let env = Arc::new(Hands::default()).env(files, 1);
            let tune = |wal: &mut crate::WalOptions| wal.tolerate_damage = mends;
            let catalog = Arc::new(Commands::default());
            let opened = Store::<Notes>::open(env, &dir, StoreOptions::default(), tune, catalog);
            opened.map(|(_, recovery)| recovery.mended_format)
        };
        let write = |text: Option<&str>| {
            let (files, path) = (env::real().files, dir.join(FILE));
            files.remove(&path).unwrap();
            if let Some(text) = text {
                let file = files.open(&path, Open::Create).unwrap();
                file.write_all_at(&[io::IoSlice::new(text.as_bytes())], 0).unwrap();
            }
        };
        assert!(!open(true).unwrap(), "a new directory has nothing to mend");
        for damage in [Some("wiremill d\0ta 1\nincarnation 00\n"), Some("wiremill data 1\n"), Some(""), None]
        {
            write(damage);
            assert_eq!(open(false).err().map(|e| e.kind()), Some(ErrorKind::Corrupt), "{damage:?}");
            assert!(open(true).unwrap(), "{damage:?}");
            assert!(!open(false).unwrap(), "it is sound from then on");
        }
        write(Some("wiremill data 2\nincarnation 00\n"));
        assert_eq!(open(true).err().map(|e| e.kind()), Some(ErrorKind::Invalid));
    }
}
