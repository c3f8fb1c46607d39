//! For the tests of other crates: real files that fail when they are told to, and clocks that are put forward.

use std::{
    ffi::OsStr,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::ThreadId,
};

use parking_lot::Mutex;

use crate::{Clock, DirEntry, Env, File, Files, Job, LockedDir, Open, Signal, Spawn, Worker, real};

/// The machine's clocks, put forward. Threads that wait for a time are not woken by it: whoever puts it forward raises
/// their signals.
pub struct Ahead {
    machine: Arc<dyn Clock>,
    ahead_ms: AtomicU64,
    panics_on: Mutex<Option<ThreadId>>,
}

impl Ahead {
    /// Not ahead yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Ahead { machine: real().clock, ahead_ms: AtomicU64::new(0), panics_on: Mutex::new(None) })
    }

    /// Whoever looks at the wall clock next on this thread panics.
    pub fn panic_here(&self) {
        *self.panics_on.lock() = Some(std::thread::current().id());
    }

    /// Puts both clocks forward.
    pub fn pass(&self, ms: u64) {
        self.ahead_ms.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for Ahead {
    fn wall_ms(&self) -> i64 {
        let here = std::thread::current().id();
        let panics = self.panics_on.lock().take_if(|on| *on == here).is_some();
        assert!(!panics, "planted");
        self.machine.wall_ms().saturating_add_unsigned(self.ahead_ms.load(Ordering::SeqCst))
    }

    fn mono_ns(&self) -> u64 {
        self.machine.mono_ns() + self.ahead_ms.load(Ordering::SeqCst) * 1_000_000
    }
}

/// The machine's workers, and a record of what a process would end for.
pub struct Watched {
    machine: Arc<dyn Spawn>,
    /// Reasons, in their order.
    pub faults: Mutex<Vec<String>>,
}

impl Watched {
    /// Nothing has gone yet.
    pub fn new() -> Arc<Self> {
        Arc::new(Watched { machine: real().spawn, faults: Mutex::default() })
    }
}

impl Spawn for Watched {
    fn worker(&self, name: &str, signal: Signal, worker: Box<dyn Worker>) {
        self.machine.worker(name, signal, worker);
    }
    fn task(&self, name: &str, signal: Signal, worker: Box<dyn Worker>) {
        self.machine.task(name, signal, worker);
    }
    fn blocking(&self, job: Job) {
        self.machine.blocking(job);
    }
    fn fault(&self, reason: &str) {
        self.faults.lock().push(reason.to_owned());
    }
}

/// What goes wrong from now on.
#[derive(Default)]
pub struct Wrong {
    /// Syncs of files fail.
    pub sync: AtomicBool,
    /// Writes fail.
    pub write: AtomicBool,
    /// Writes fail to files of the folder with this name.
    pub write_in: Mutex<Option<&'static str>>,
    /// The disk is full for files with this in their name.
    pub full_for: Mutex<Option<&'static str>>,
    /// Reads of the byte at this place fail for good, in files with this in their name.
    pub unreadable: Mutex<Option<(String, u64)>>,
    /// Files cannot grow.
    pub full: AtomicBool,
    /// Free bytes that are reported.
    pub free: AtomicU64,
    /// Handles that are open.
    pub open: AtomicU64,
    /// Syncs of files so far.
    pub synced: AtomicU64,
    /// Bytes written so far.
    pub wrote: AtomicU64,
    /// Folders that were synced so far, in their order.
    pub synced_dirs: Mutex<Vec<PathBuf>>,
}

struct FaultyFiles {
    real: Arc<dyn Files>,
    wrong: Arc<Wrong>,
}

struct FaultyFile {
    real: Arc<dyn File>,
    /// Its name and that of its folder.
    name: String,
    folder: String,
    wrong: Arc<Wrong>,
}

/// The real files, and what makes them fail.
pub fn faulty_files() -> (Arc<dyn Files>, Arc<Wrong>) {
    let wrong = Arc::new(Wrong { free: AtomicU64::new(u64::MAX), ..Wrong::default() });
    (Arc::new(FaultyFiles { real: real().files, wrong: wrong.clone() }), wrong)
}

/// The machine over such files.
pub fn faulty() -> (Env, Arc<Wrong>) {
    let (files, wrong) = faulty_files();
    (Env { files, ..real() }, wrong)
}

fn fail(when: &AtomicBool, kind: io::ErrorKind) -> io::Result<()> {
    if when.load(Ordering::SeqCst) { Err(io::Error::new(kind, "planted")) } else { Ok(()) }
}

impl Files for FaultyFiles {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let real = self.real.open(path, how)?;
        self.wrong.open.fetch_add(1, Ordering::SeqCst);
        let text = |part: Option<&OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let (name, folder) = (text(path.file_name()), text(path.parent().and_then(Path::file_name)));
        Ok(Arc::new(FaultyFile { real, name, folder, wrong: self.wrong.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.real.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.real.remove(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<usize> {
        self.real.create_dir(path)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.wrong.synced_dirs.lock().push(path.to_owned());
        self.real.sync_dir(path)
    }
    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        self.real.list(path)
    }
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.wrong.free.load(Ordering::SeqCst))
    }
    fn lock_dir(&self, path: &Path, holder: &str) -> io::Result<Box<dyn LockedDir>> {
        self.real.lock_dir(path, holder)
    }
}

impl Drop for FaultyFile {
    fn drop(&mut self) {
        self.wrong.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl FaultyFile {
    fn is_dead(&self, at: u64, len: usize) -> bool {
        let range = at..at.saturating_add(len as u64);
        let is_dead = |(name, at): &(String, u64)| self.name.contains(name) && range.contains(at);
        self.wrong.unreadable.lock().as_ref().is_some_and(is_dead)
    }
}

impl File for FaultyFile {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        match self.is_dead(at, buf.len()) {
            true => Err(crate::unreadable()),
            false => self.real.read_exact_at(buf, at),
        }
    }
    fn read_past_cache(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        match self.is_dead(at, buf.len()) {
            true => Err(crate::unreadable_past_cache()),
            false => self.real.read_past_cache(buf, at),
        }
    }
    fn write_all_at(&self, parts: &[IoSlice<'_>], at: u64) -> io::Result<()> {
        fail(&self.wrong.write, io::ErrorKind::Other)?;
        if self.wrong.write_in.lock().is_some_and(|folder| folder == self.folder) {
            return Err(io::Error::other("planted"));
        }
        if self.wrong.full_for.lock().is_some_and(|part| self.name.contains(part)) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, "planted"));
        }
        let len = parts.iter().map(|part| part.len() as u64).sum();
        self.wrong.wrote.fetch_add(len, Ordering::SeqCst);
        self.real.write_all_at(parts, at)
    }
    fn sync(&self) -> io::Result<()> {
        fail(&self.wrong.sync, io::ErrorKind::Other)?;
        self.wrong.synced.fetch_add(1, Ordering::SeqCst);
        self.real.sync()
    }
    fn reserve(&self, len: u64) -> io::Result<bool> {
        fail(&self.wrong.full, io::ErrorKind::StorageFull)?;
        self.real.reserve(len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.real.set_len(len)
    }
    fn len(&self) -> io::Result<u64> {
        self.real.len()
    }
    fn forget_cached(&self, at: u64, len: u64) {
        self.real.forget_cached(at, len);
    }
    fn will_need(&self, at: u64, len: u64) {
        self.real.will_need(at, len);
    }
}
