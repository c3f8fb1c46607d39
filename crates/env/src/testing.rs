//! For the tests of other crates: a disk that stops working when it is told to.

use std::{
    io::{self, IoSlice},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{DirEntry, Env, File, Files, LockedDir, Open, real};

/// Whether syncs fail from here on.
pub type Fails = Arc<AtomicBool>;

/// The machine, with a disk whose syncs fail once that is set.
pub fn failing(fails: &Fails) -> Env {
    let real = real();
    Env { files: Arc::new(FailingFiles { files: real.files.clone(), fails: fails.clone() }), ..real }
}

struct FailingFiles {
    files: Arc<dyn Files>,
    fails: Fails,
}

struct FailingFile {
    file: Arc<dyn File>,
    fails: Fails,
}

impl Files for FailingFiles {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let file = self.files.open(path, how)?;
        Ok(Arc::new(FailingFile { file, fails: self.fails.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<usize> {
        self.files.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.files.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.files.list(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.files.free_bytes(path)
    }

    fn lock_dir(&self, path: &Path, holder: &str) -> io::Result<Box<dyn LockedDir>> {
        self.files.lock_dir(path, holder)
    }
}

impl File for FailingFile {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, at)
    }

    fn write_all_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        self.file.write_all_at(parts, at)
    }

    fn write_past_cache(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        self.file.write_past_cache(bytes, at)
    }

    fn sync(&self) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk is gone"));
        }
        self.file.sync()
    }

    fn reserve(&self, len: u64) -> io::Result<bool> {
        self.file.reserve(len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn forget_cached(&self, at: u64, len: u64) {
        self.file.forget_cached(at, len);
    }

    fn will_need(&self, at: u64, len: u64) {
        self.file.will_need(at, len);
    }
}
