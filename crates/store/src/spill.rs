//! Where a backlog of volatile records goes when it outgrows its share of memory: files that are never synced, and
//! removed when nothing in them is live or when the store opens. A crash takes volatile records back anyway.

use std::{
    io::IoSlice,
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use env::{File, Files, Next, Open, Worker};
use model::{Batch, Error, LogId, OwnerEpoch, Result};
use parking_lot::Mutex;

use crate::{
    Attached, Change, Entry, Log,
    flush::RETRY_NS,
    index::INDEX_STEP_LEN,
    log::live::{Kept, Volatile},
    store::Inner,
    wal::codec::{Encoder, Order},
};

/// A spill file is closed once it is this long.
const FILE_LEN: u64 = 64 << 20;

/// Batches that follow one another are written and read as one, of about so many bytes, as the index of an extent would
/// divide them.
const RUN_LEN: u32 = INDEX_STEP_LEN;

/// Bytes of memory that are given free per step, about.
const STEP_LEN: u64 = 1 << 20;

/// The folder of spill files.
pub(crate) struct Spill {
    files: Arc<dyn Files>,
    dir: PathBuf,
    current: Mutex<Current>,
    /// Bytes in all spill files that exist.
    total: Arc<AtomicU64>,
    total_max: u64,
}

#[derive(Default)]
struct Current {
    file: Option<Arc<SpillFile>>,
    len: u64,
    next: u64,
}

/// One file. It goes when the last body in it does.
struct SpillFile {
    files: Arc<dyn Files>,
    path: PathBuf,
    file: Arc<dyn File>,
    len: AtomicU64,
    total: Arc<AtomicU64>,
}

impl Drop for SpillFile {
    fn drop(&mut self) {
        self.total.fetch_sub(self.len.load(Ordering::Relaxed), Ordering::Relaxed);
        if let Err(error) = self.files.remove(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a spill file cannot be removed");
        }
    }
}

/// Batches in a spill file, as entries one after another. Holding it keeps them readable.
#[derive(Clone)]
pub(crate) struct Spilled {
    file: Arc<SpillFile>,
    at: u64,
    len: u32,
}

impl std::fmt::Debug for Spilled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {} of {}", self.len, self.at, self.file.path.display())
    }
}

impl Spilled {
    /// Reads the entries back. Blocks on the disk.
    pub fn read(&self) -> Result<Bytes> {
        let mut entries = vec![0; self.len as usize];
        let read = self.file.file.read_exact_at(&mut entries, self.at);
        read.map_err(|error| Error::unavailable(error.to_string()))?;
        Ok(entries.into())
    }

    /// What is said where it does not read.
    pub fn unreadable(&self, error: &Error) -> Error {
        Error::unavailable(format!("{} does not read: {error}", self.file.path.display()))
    }
}

impl Spill {
    /// Spills into `dir`. What an earlier process left there is removed.
    pub fn open(files: Arc<dyn Files>, dir: &Path, total_max: u64) -> Result<Self> {
        let emptied = || -> std::io::Result<()> {
            files.create_dir(dir)?;
            for entry in files.list(dir)? {
                files.remove(&dir.join(entry.name))?;
            }
            Ok(())
        };
        emptied().map_err(|e| Error::unavailable(format!("cannot clear {}: {e}", dir.display())))?;
        let (dir, total) = (dir.to_owned(), Arc::default());
        Ok(Spill { files, dir, current: Mutex::default(), total, total_max })
    }

    /// Bytes in spill files.
    pub fn len(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Writes what `lens` divides `bytes` into. `None` when the folder holds as much as it may.
    fn put(&self, bytes: &[u8], lens: impl Iterator<Item = u32>) -> std::io::Result<Option<Vec<Spilled>>> {
        let len = bytes.len() as u64;
        if self.len().saturating_add(len) > self.total_max {
            return Ok(None);
        }
        let mut current = self.current.lock();
        if current.len >= FILE_LEN {
            current.file = None;
        }
        let file = match &current.file {
            Some(file) => file.clone(),
            None => {
                let path = self.dir.join(format!("spill-{:08}", current.next));
                let (file, len) = (self.files.open(&path, Open::Create)?, AtomicU64::new(0));
                let file =
                    SpillFile { files: self.files.clone(), path, file, len, total: self.total.clone() };
                let file = Arc::new(file);
                (current.next, current.len, current.file) = (current.next + 1, 0, Some(file.clone()));
                file
            }
        };
        file.file.write_all_at(&[IoSlice::new(bytes)], current.len)?;
        let mut at = current.len;
        let spilled = lens.map(|len| {
            at += u64::from(len);
            Spilled { file: file.clone(), at: at - u64::from(len), len }
        });
        let spilled = spilled.collect();
        current.len += len;
        file.len.fetch_add(len, Ordering::Relaxed);
        self.total.fetch_add(len, Ordering::Relaxed);
        Ok(Some(spilled))
    }
}

/// Moves volatile batches out of memory once they take more than half of their share.
pub(crate) struct SpillWorker<A: Attached> {
    store: Weak<Inner<A>>,
    /// It has begun, and goes on until there is some room: what comes is spilled many batches at a time.
    is_at_it: bool,
    /// Nanoseconds of the monotonic clock before which nothing is tried again after an error, whoever raises the signal.
    not_before_ns: u64,
}

impl<A: Attached> SpillWorker<A> {
    pub fn start(store: &Arc<Inner<A>>) {
        let signal = store.volatile.pressure.clone();
        let worker = SpillWorker { store: Arc::downgrade(store), is_at_it: false, not_before_ns: 0 };
        store.env.spawn.worker("wm-spill", signal, Box::new(worker));
    }
}

impl<A: Attached> Worker for SpillWorker<A> {
    fn step(&mut self) -> Next {
        let Some(store) = self.store.upgrade() else { return Next::Done };
        if store.closing.load(Ordering::Acquire) {
            return Next::Done;
        }
        let Some(spill) = &store.spill else { return Next::Done };
        self.is_at_it = store.volatile.is_pressed() || (self.is_at_it && !store.volatile.is_relaxed());
        if !self.is_at_it {
            return Next::Park;
        }
        let now_ns = store.env.clock.mono_ns();
        if now_ns < self.not_before_ns {
            return Next::ParkUntil(self.not_before_ns);
        }
        match spill_some(&store, spill) {
            Ok(true) => Next::Again,
            Ok(false) => Next::Park,
            Err(error) => {
                tracing::warn!(%error, "volatile records cannot be spilled; publishers of such are slowed down");
                self.not_before_ns = now_ns + RETRY_NS;
                Next::ParkUntil(self.not_before_ns)
            }
        }
    }
}

/// Spills of the logs that hold most in memory. `false` when there is nothing to gain.
fn spill_some<A: Attached>(store: &Inner<A>, spill: &Spill) -> std::io::Result<bool> {
    let logs: Vec<Arc<Log<A>>> = store.logs.read().values().cloned().collect();
    let mut held: Vec<(u64, LogId, Arc<Log<A>>)> = logs
        .into_iter()
        .filter_map(|log| {
            let len = log.lock().core.volatile_len();
            (len > 0).then(|| (len, log.id(), log))
        })
        .collect();
    held.sort_unstable_by_key(|(len, id, _)| (std::cmp::Reverse(*len), *id));
    let (mut written, mut runs, mut left) = (Vec::new(), Vec::new(), STEP_LEN.min(store.volatile.max() / 8));
    for (_, _, log) in held {
        lay_out(&log, &mut left, &mut written, &mut runs);
        if left == 0 {
            break;
        }
    }
    if runs.is_empty() {
        return Ok(false);
    }
    let Some(spilled) = spill.put(&written, runs.iter().map(|run| run.stored_len))? else { return Ok(false) };
    for (run, spilled) in runs.into_iter().zip(spilled) {
        let mut state = run.log.lock();
        if state.core.is_deleted() {
            continue;
        }
        let before = state.core.volatile_len();
        state.core.spill(Volatile { kept: Kept::Spilled(spilled), ..run.of });
        store.volatile.moved(before, state.core.volatile_len());
    }
    Ok(true)
}

/// Batches of a log that follow one another, on their way to a spill file.
struct Run<A> {
    log: Arc<Log<A>>,
    /// All of them together.
    of: Volatile,
    /// Their length as entries.
    stored_len: u32,
}

/// Appends the entries of the log's latest batches in memory to `out`, from the end on: what is read next stays in memory.
/// Takes off from `left` what they count for.
fn lay_out<A: Attached>(log: &Arc<Log<A>>, left: &mut u64, out: &mut Vec<u8>, runs: &mut Vec<Run<A>>) {
    let mut held: Vec<Volatile> = {
        let state = log.lock();
        // What waits for its reservation cannot be read yet, and goes later.
        let stays = |held: &&Volatile| held.batch().is_none() || held.end() > state.core.durable_end();
        let latest = state.core.live.volatile().rev().skip_while(stays);
        let taken = latest.take_while(|held| {
            let goes = *left > 0 && held.batch().is_some();
            *left = if goes { left.saturating_sub(u64::from(held.len)) } else { *left };
            goes
        });
        taken.cloned().collect()
    };
    held.reverse();
    let mut encoder = Encoder::default();
    let first = runs.len();
    for held in held {
        let Some(batch) = held.batch() else { continue };
        let change = Change::Data { batch: Batch::clone(batch), stamp: None };
        let entry = Entry { log: log.id(), epoch: OwnerEpoch::default(), change };
        let len = encoder.entry(out, &entry, Order::default());
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        let last = runs.get_mut(first..).and_then(<[_]>::last_mut);
        if !last.is_some_and(|run| run.takes(&held, len)) {
            runs.push(Run { log: log.clone(), of: held, stored_len: len });
        }
    }
}

impl<A> Run<A> {
    /// Takes `held`, which takes `stored_len` bytes, in too, if it follows and there is room.
    fn takes(&mut self, held: &Volatile, stored_len: u32) -> bool {
        let of = &mut self.of;
        let count = of.count.checked_add(held.count);
        let Some(count) = count.filter(|_| of.end() == held.base && self.stored_len + stored_len <= RUN_LEN)
        else {
            return false;
        };
        of.count = count;
        of.len = of.len.saturating_add(held.len);
        of.append_time_ms = of.append_time_ms.max(held.append_time_ms);
        of.event_time_ms = of.event_time_ms.max(held.event_time_ms);
        self.stored_len += stored_len;
        true
    }
}
