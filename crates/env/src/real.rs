//! The machine's own files, clocks, randomness and threads.
#![allow(clippy::disallowed_methods)] // This is the place that the rest of the spine is sent to.

mod direct;

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Arc, OnceLock},
    task::Waker,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::{Condvar, Mutex};

use crate::{Clock, DirEntry, Env, File, Files, Job, LockedDir, Next, Open, Random, Signal, Spawn, Worker};

/// How the real world is bent, for tests of the whole process.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealOptions {
    /// Every sync takes this much longer, milliseconds. Shows whether an answer waits for its sync.
    pub sync_delay_ms: u64,
    /// Threads for blocking jobs; 0 picks a number from the machine's cores.
    pub blocking_threads: usize,
}

/// The machine as it is.
pub fn real() -> Env {
    real_with(RealOptions::default())
}

/// The machine, bent by `options`.
pub fn real_with(options: RealOptions) -> Env {
    let delay = Duration::from_millis(options.sync_delay_ms);
    Env {
        files: Arc::new(RealFiles { delay }),
        clock: Arc::new(RealClock),
        random: Arc::new(RealRandom),
        spawn: Arc::new(Threads::new(options.blocking_threads)),
    }
}

/// When this process first looked at its clock; both the clock and the parked workers count from here.
fn start() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn mono_ns() -> u64 {
    u64::try_from(start().elapsed().as_nanos()).unwrap_or(u64::MAX)
}

struct RealClock;

impl Clock for RealClock {
    fn wall_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => -i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX),
        }
    }

    fn mono_ns(&self) -> u64 {
        mono_ns()
    }
}

struct RealRandom;

impl Random for RealRandom {
    fn fill(&self, buf: &mut [u8]) {
        if let Err(e) = getrandom::fill(buf) {
            // Without randomness no salt or key can be trusted, and nothing sensible can go on.
            panic!("the operating system gives no random bytes: {e}");
        }
    }
}

struct RealFiles {
    delay: Duration,
}

impl Files for RealFiles {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn File>> {
        let mut options = std::fs::OpenOptions::new();
        options.read(true);
        match how {
            Open::Read => &mut options,
            Open::Write => options.write(true),
            Open::Create => options.write(true).create_new(true),
        };
        let file = options.open(path).map_err(|e| named(e, path))?;
        Ok(Arc::new(RealFile { file, how, direct: OnceLock::new(), delay: self.delay }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to).map_err(|e| named(e, from))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path).map_err(|e| named(e, path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<usize> {
        match std::fs::create_dir(path) {
            Ok(()) => Ok(1),
            Err(_) if path.is_dir() => Ok(0),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let Some(parent) = path.parent() else { return Err(named(e, path)) };
                let above = self.create_dir(parent)?;
                std::fs::create_dir(path).map_err(|e| named(e, path))?;
                Ok(above + 1)
            }
            Err(e) => Err(named(e, path)),
        }
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        std::thread::sleep(self.delay);
        std::fs::File::open(path).and_then(|dir| dir.sync_all()).map_err(|e| named(e, path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|e| named(e, path))? {
            let entry = entry?;
            let meta = match entry.metadata() {
                Ok(meta) => meta,
                // Renamed or removed since the folder was read: it is not there.
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(named(e, &entry.path())),
            };
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_dir = meta.is_dir();
            entries.push(DirEntry { name, len: if is_dir { 0 } else { meta.len() }, is_dir });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(path).map_err(|e| named(e.into(), path))?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock_dir(&self, path: &Path, holder: &str) -> io::Result<Box<dyn LockedDir>> {
        let path = path.join("LOCK");
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|e| named(e, &path))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {
                file.set_len(0)?;
                file.write_all(holder.as_bytes())?;
                Ok(Box::new(Held(file)))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut other = String::new();
                file.take(1024).read_to_string(&mut other)?;
                Err(io::Error::new(io::ErrorKind::WouldBlock, other))
            }
            Err(e) => Err(named(e.into(), &path)),
        }
    }
}

struct Held(#[expect(dead_code, reason = "the lock lives as long as the handle")] std::fs::File);

impl LockedDir for Held {}

fn named(e: io::Error, path: &Path) -> io::Error {
    io::Error::new(e.kind(), format!("{}: {e}", path.display()))
}

struct RealFile {
    file: std::fs::File,
    how: Open,
    /// The same file past the cache; opened for the first such read or write.
    direct: OnceLock<Option<direct::Direct>>,
    delay: Duration,
}

impl File for RealFile {
    fn read_exact_at(&self, buf: &mut [u8], at: u64) -> io::Result<()> {
        self.file.read_exact_at(buf, at)
    }

    fn write_all_at(&self, parts: &[IoSlice<'_>], mut at: u64) -> io::Result<()> {
        let mut parts: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let mut rest = parts.as_mut_slice();
        IoSlice::advance_slices(&mut rest, 0); // drops leading empty parts
        while !rest.is_empty() {
            let batch = rest.len().min(512); // below the kernel's IOV_MAX
            match rustix::io::pwritev(&self.file, &rest[..batch], at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    at += written as u64;
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn write_past_cache(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let written = self.direct().map_or(Ok(0), |direct| direct.write(bytes, at))?;
        match bytes.get(written..) {
            Some(rest) if !rest.is_empty() => self.write_all_at(&[IoSlice::new(rest)], at + written as u64),
            _ => Ok(()),
        }
    }

    fn read_past_cache(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let mut done = self.direct().map_or(Ok(0), |direct| direct.read(buf, at))?;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, at + done as u64) {
                Ok(0) => break,
                Ok(len) => done += len,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn sync(&self) -> io::Result<()> {
        if !self.delay.is_zero() {
            std::thread::sleep(self.delay);
        }
        self.file.sync_data()
    }

    fn reserve(&self, len: u64) -> io::Result<bool> {
        let have = self.file.metadata()?.len();
        if have >= len {
            return Ok(true);
        }
        match rustix::fs::fallocate(&self.file, rustix::fs::FallocateFlags::empty(), have, len - have) {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::OPNOTSUPP) => self.file.set_len(len).map(|()| false),
            Err(e) => Err(e.into()),
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn forget_cached(&self, at: u64, len: u64) {
        self.advise(at, len, rustix::fs::Advice::DontNeed);
    }

    fn will_need(&self, at: u64, len: u64) {
        self.advise(at, len, rustix::fs::Advice::WillNeed);
    }
}

impl RealFile {
    fn direct(&self) -> Option<&direct::Direct> {
        self.direct.get_or_init(|| direct::Direct::of(&self.file, self.how != Open::Read)).as_ref()
    }

    fn advise(&self, at: u64, len: u64, advice: rustix::fs::Advice) {
        // A length of 0 would mean the whole rest of the file.
        let Some(len) = std::num::NonZeroU64::new(len) else { return };
        if let Err(e) = rustix::fs::fadvise(&self.file, at, Some(len), advice) {
            // A file system without it loses nothing but the hint.
            let _unsupported = e;
        }
    }
}

/// One thread per worker, a few shared ones for blocking jobs.
struct Threads {
    pool: Arc<Pool>,
    size: usize,
}

#[derive(Default)]
struct Pool {
    state: Mutex<PoolState>,
    arrived: Condvar,
}

#[derive(Default)]
struct PoolState {
    jobs: VecDeque<Job>,
    idle: usize,
    threads: usize,
}

impl Threads {
    fn new(size: usize) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Threads { pool: Arc::default(), size: if size == 0 { cores.clamp(2, 8) } else { size } }
    }
}

impl Spawn for Threads {
    fn worker(&self, name: &str, signal: Signal, mut worker: Box<dyn Worker>) {
        start_thread(name, move || {
            signal.listen_with(Waker::from(Arc::new(Unpark(std::thread::current()))));
            loop {
                match worker.step() {
                    Next::Again => {}
                    Next::Done => return,
                    Next::Park => {
                        while !signal.take() {
                            std::thread::park();
                        }
                    }
                    Next::ParkUntil(at_ns) => {
                        while !signal.take() {
                            let now_ns = mono_ns();
                            if now_ns >= at_ns {
                                break;
                            }
                            std::thread::park_timeout(Duration::from_nanos(at_ns - now_ns));
                        }
                    }
                }
            }
        });
    }

    fn task(&self, name: &str, signal: Signal, worker: Box<dyn Worker>) {
        self.worker(name, signal, worker);
    }

    fn blocking(&self, job: Job) {
        let mut state = self.pool.state.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() {
            self.pool.arrived.notify_one();
        } else if state.threads < self.size {
            state.threads += 1;
            let pool = self.pool.clone();
            start_thread("wm-disk", move || pool.run());
        }
    }
}

impl Pool {
    fn run(&self) {
        let mut state = self.state.lock();
        loop {
            match state.jobs.pop_front() {
                Some(job) => {
                    drop(state);
                    job();
                    state = self.state.lock();
                }
                None => {
                    state.idle += 1;
                    self.arrived.wait(&mut state);
                    state.idle -= 1;
                }
            }
        }
    }
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Starts a thread whose panic ends the process: nothing is known of the engine's state after it.
fn start_thread(name: &str, body: impl FnOnce() + Send + 'static) {
    let guarded = move || {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).is_err() {
            std::process::abort();
        }
    };
    if let Err(e) = std::thread::Builder::new().name(name.to_owned()).spawn(guarded) {
        panic!("the operating system gives no thread for {name}: {e}");
    }
}

#[cfg(test)]
mod tests;
