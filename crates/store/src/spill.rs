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
use model::{Error, Offset, Result};
use parking_lot::Mutex;

use crate::{Attached, Log, store::Inner};

/// A spill file is closed once it is this long.
const FILE_LEN: u64 = 64 << 20;

/// Batches moved out per step and log.
const BATCHES_PER_STEP: usize = 256;

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

/// A body in a spill file. Holding it keeps it readable.
#[derive(Clone)]
pub(crate) struct Spilled {
    file: Arc<SpillFile>,
    at: u64,
    len: u32,
    crc: u32,
}

impl std::fmt::Debug for Spilled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes at {} of {}", self.len, self.at, self.file.path.display())
    }
}

impl Spilled {
    /// Length of the body.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Reads the body back. Blocks on the disk.
    pub fn read(&self) -> Result<Bytes> {
        let mut body = vec![0; self.len as usize];
        let read = self.file.file.read_exact_at(&mut body, self.at);
        read.map_err(|e| Error::unavailable(format!("{} does not read: {e}", self.file.path.display())))?;
        if crc(&body) != self.crc {
            return Err(Error::unavailable(format!("{} is damaged", self.file.path.display())));
        }
        Ok(body.into())
    }
}

fn crc(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
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

    /// Writes `bodies` one after another. `None` when the folder holds as much as it may.
    fn put(&self, bodies: &[Bytes]) -> std::io::Result<Option<Vec<Spilled>>> {
        let len: u64 = bodies.iter().map(|body| body.len() as u64).sum();
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
        let parts: Vec<IoSlice<'_>> = bodies.iter().map(|body| IoSlice::new(body)).collect();
        file.file.write_all_at(&parts, current.len)?;
        let mut spilled = Vec::with_capacity(bodies.len());
        for body in bodies {
            let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
            spilled.push(Spilled { file: file.clone(), at: current.len, len, crc: crc(body) });
            current.len += body.len() as u64;
        }
        file.len.fetch_add(len, Ordering::Relaxed);
        self.total.fetch_add(len, Ordering::Relaxed);
        Ok(Some(spilled))
    }
}

/// Moves volatile bodies out of memory while they take more than half of their share.
pub(crate) struct SpillWorker<A: Attached>(Weak<Inner<A>>);

impl<A: Attached> SpillWorker<A> {
    pub fn start(store: &Arc<Inner<A>>) {
        let signal = store.volatile.pressure.clone();
        store.env.spawn.worker("wm-spill", signal, Box::new(SpillWorker(Arc::downgrade(store))));
    }
}

impl<A: Attached> Worker for SpillWorker<A> {
    fn step(&mut self) -> Next {
        let Some(store) = self.0.upgrade() else { return Next::Done };
        if store.closing.load(Ordering::Acquire) {
            return Next::Done;
        }
        let Some(spill) = &store.spill else { return Next::Done };
        match spill_some(&store, spill) {
            Ok(true) => Next::Again,
            Ok(false) => Next::Park,
            Err(error) => {
                tracing::warn!(%error, "volatile records cannot be spilled; publishers of such are slowed down");
                Next::ParkUntil(store.env.clock.mono_ns() + 1_000_000_000)
            }
        }
    }
}

/// Spills a part of the log that holds most in memory. `false` when there is no need, or nothing to gain.
fn spill_some<A: Attached>(store: &Inner<A>, spill: &Spill) -> std::io::Result<bool> {
    if !store.volatile.is_pressed() {
        return Ok(false);
    }
    let by_len = |log: &Arc<Log<A>>| log.lock().core.volatile_len();
    let Some(log) = store.logs_by_id().into_iter().max_by_key(by_len) else { return Ok(false) };
    // From the end: what is read next stays in memory.
    let held: Vec<(Offset, Bytes)> = {
        let state = log.lock();
        let held = state.core.live.volatile().rev().filter(|held| !held.batch.body.is_empty());
        held.take(BATCHES_PER_STEP).map(|held| (held.batch.base, held.batch.body.clone())).collect()
    };
    let bodies: Vec<Bytes> = held.iter().map(|(_, body)| body.clone()).collect();
    if bodies.is_empty() {
        return Ok(false);
    }
    let Some(spilled) = spill.put(&bodies)? else { return Ok(false) };
    let mut state = log.lock();
    let before = state.core.volatile_len();
    for ((base, _), spilled) in held.into_iter().zip(spilled) {
        state.core.live.spill(base, spilled);
    }
    store.volatile.moved(before, state.core.volatile_len());
    Ok(true)
}
