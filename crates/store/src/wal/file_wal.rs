//! [`Wal`] over files: what appenders, the applier and readers share with the writer.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
};

use bytes::Bytes;
use env::{Env, Signal};
use model::{Error, Result, Seq, limits};
use parking_lot::{Mutex, RwLock};

use super::{
    ByClass, Class, Commit, Permit, Place, Room, Wal, WalFileInfo, WalStats, codec, files::FileTable,
    room::Queue, tail::Ring, writer::Writer,
};
use crate::{blobs::Blob, entry::Unit, faults::Faults};

/// How long a look at the free space is believed, nanoseconds.
const FREE_SPACE_TTL_NS: u64 = 250_000_000;

/// Settings of a file log.
#[derive(Clone, Debug)]
pub struct WalOptions {
    /// Its folder, which holds nothing else.
    pub dir: PathBuf,
    /// Length of a file, bytes. A unit that does not fit gets a longer one.
    pub file_len: u64,
    /// Length of the first file of an incarnation, which a start has to wait for.
    pub first_file_len: u64,
    /// What one commit gathers at most, bytes. A longer unit is committed alone.
    pub commit_len: usize,
    /// Room for units that publish, bytes.
    pub queue_len: usize,
    /// Room for units that settle, drop, trim or administer, bytes.
    pub drain_len: usize,
    /// The longest unit, bytes of its bodies.
    pub unit_len_max: usize,
    /// Memory for the newest frames, bytes.
    pub tail_len: usize,
    /// Publishes are refused while the disk has fewer free bytes than this; 0 never refuses.
    pub floor_len: u64,
    /// After its last commit an idle log waits this long before it writes the empty frame that proves it, nanoseconds.
    pub idle_ns: u64,
    /// Whether a replay steps over damage and reports it, instead of refusing.
    pub tolerate_damage: bool,
    /// What the simulator planted.
    pub faults: Faults,
}

impl WalOptions {
    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        WalOptions {
            dir: dir.into(),
            file_len: 64 << 20,
            first_file_len: 4 << 20,
            commit_len: 8 << 20,
            queue_len: 64 << 20,
            drain_len: 16 << 20,
            unit_len_max: limits::BATCH_LEN_MAX + (1 << 20),
            tail_len: 64 << 20,
            floor_len: 0,
            idle_ns: 10_000_000,
            tolerate_damage: false,
            faults: Faults::default(),
        }
    }
}

/// One open incarnation over files.
pub(super) struct FileWal {
    pub(super) shared: Arc<Shared>,
    pub(super) writer: Arc<Mutex<Writer>>,
}

/// What the writer shares with everyone else. Locks are taken one at a time and held briefly.
pub(super) struct Shared {
    pub(super) env: Env,
    pub(super) options: WalOptions,
    pub(super) staging: Mutex<Staging>,
    pub(super) queue: Arc<Queue>,
    /// Wakes the writer.
    pub(super) signal: Signal,
    /// Wakes the applier.
    pub(super) committed: Signal,
    pub(super) commits: Mutex<VecDeque<Commit>>,
    pub(super) ring: RwLock<Ring>,
    pub(super) table: FileTable,
    pub(super) floor: Floor,
    pub(super) counters: Counters,
    /// Last unit on disk.
    synced: AtomicU64,
    /// Last unit applied to its logs.
    applied: AtomicU64,
    waiters: Mutex<BTreeMap<Seq, Vec<Waker>>>,
    /// Room of synced units, given back when they are applied.
    spent: Mutex<VecDeque<Spent>>,
    failure: OnceLock<Error>,
}

pub(super) struct Staging {
    pub(super) units: VecDeque<Staged>,
    pub(super) next: Seq,
    pub(super) closed: bool,
}

/// A unit on its way into a frame.
pub(super) struct Staged {
    pub(super) unit: Unit,
    /// About what it takes in the frame, bytes.
    pub(super) frame_len: usize,
    pub(super) room: (usize, Class),
}

/// Room that the units up to `last` hold, per class.
pub(super) struct Spent {
    pub(super) last: Seq,
    pub(super) lens: ByClass<usize>,
}

/// What is known of the disk's free space.
pub(super) struct Floor {
    free: AtomicU64,
    looked_ns: AtomicU64,
    /// Somebody was refused and waits.
    pub(super) starved: AtomicBool,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) frames: AtomicU64,
    pub(super) units: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) sync_last_ns: AtomicU64,
    pub(super) sync_median_ns: AtomicU64,
}

impl Shared {
    pub(super) fn new(env: Env, options: WalOptions, table: FileTable, last: Seq, committed: Signal) -> Self {
        let queue = Queue::new(options.queue_len, options.drain_len, options.unit_len_max);
        let ring = Ring::new(options.tail_len, options.commit_len * 2);
        let staging = Staging { units: VecDeque::new(), next: Seq(last.0 + 1), closed: false };
        Shared {
            env,
            options,
            staging: Mutex::new(staging),
            queue: Arc::new(queue),
            signal: Signal::new(),
            committed,
            commits: Mutex::default(),
            ring: RwLock::new(ring),
            table,
            floor: Floor {
                free: AtomicU64::new(u64::MAX),
                looked_ns: AtomicU64::new(0),
                starved: AtomicBool::new(false),
            },
            counters: Counters::default(),
            synced: AtomicU64::new(last.0),
            applied: AtomicU64::new(last.0),
            waiters: Mutex::default(),
            spent: Mutex::default(),
            failure: OnceLock::new(),
        }
    }

    pub(super) fn failure(&self) -> Option<&Error> {
        self.failure.get()
    }

    /// Everything up to `last` is on disk.
    pub(super) fn synced_to(&self, last: Seq) {
        self.synced.store(last.0, Ordering::SeqCst);
    }

    /// Queues a commit for the applier, with the room that its units hold.
    pub(super) fn hand_out(&self, commit: Commit, spent: Spent) {
        self.spent.lock().push_back(spent);
        self.commits.lock().push_back(commit);
        self.committed.raise();
    }

    /// Latches the first failure: nothing is written from here on.
    pub(super) fn latch(&self, error: Error) {
        if self.failure.set(error).is_err() {
            return;
        }
        let lost = {
            let mut waiters = self.waiters.lock();
            let synced = Seq(self.synced.load(Ordering::SeqCst));
            waiters.split_off(&Seq(synced.0 + 1))
        };
        lost.into_values().flatten().for_each(Waker::wake);
        self.queue.wake();
        self.committed.raise();
    }

    /// Refuses a publish while the disk is nearly full.
    fn check_floor(&self) -> Result<()> {
        if self.options.floor_len == 0 || self.free_len()? >= self.options.floor_len {
            return Ok(());
        }
        self.floor.starved.store(true, Ordering::SeqCst);
        self.signal.raise();
        Err(Error::unavailable("the disk is nearly full"))
    }

    /// Free bytes as of at most [`FREE_SPACE_TTL_NS`] ago.
    fn free_len(&self) -> Result<u64> {
        let now_ns = self.env.clock.mono_ns();
        let looked_ns = self.floor.looked_ns.load(Ordering::Relaxed);
        let fresh = looked_ns != 0 && now_ns.saturating_sub(looked_ns) < FREE_SPACE_TTL_NS;
        if !fresh {
            self.floor.looked_ns.store(now_ns.max(1), Ordering::Relaxed);
            let free = self.env.files.free_bytes(&self.options.dir);
            let free = free.map_err(|e| Error::unavailable(format!("free space is unknown: {e}")))?;
            self.floor.free.store(free, Ordering::Relaxed);
        }
        Ok(self.floor.free.load(Ordering::Relaxed))
    }

    /// While somebody was refused for want of disk space: wakes them once there is some. Whether they still wait.
    pub(super) fn look_at_floor(&self) -> bool {
        if !self.floor.starved.load(Ordering::SeqCst) {
            return false;
        }
        if self.free_len().is_ok_and(|free| free < self.options.floor_len) {
            return true;
        }
        self.floor.starved.store(false, Ordering::SeqCst);
        self.queue.wake();
        false
    }
}

impl Drop for FileWal {
    fn drop(&mut self) {
        // After the step under way: whoever opens the folder next has it for itself.
        self.writer.lock().abandon();
        self.shared.table.stop();
        self.shared.signal.raise();
    }
}

impl Wal for FileWal {
    fn reserve(&self, len: usize, class: Class) -> Result<Permit> {
        if let Some(failure) = self.shared.failure() {
            return Err(failure.clone());
        }
        if class == Class::Publish {
            self.shared.check_floor()?;
        }
        self.shared.queue.take(len, class)?;
        Ok(Permit::new(len, class, self.shared.queue.clone()))
    }

    fn wake_on_room(&self, waker: &Waker) {
        self.shared.queue.wake_on_room(waker);
        if self.shared.failure().is_some() {
            self.shared.queue.wake();
        }
    }

    fn is_starved(&self) -> bool {
        self.shared.floor.starved.load(Ordering::SeqCst)
    }

    fn submit(&self, permit: Permit, unit: Unit) -> Seq {
        let frame_len = unit.entries.iter().map(codec::entry_len_estimate).sum();
        let mut staging = self.shared.staging.lock();
        let seq = staging.next;
        staging.next = Seq(seq.0 + 1);
        if staging.closed || self.shared.failure().is_some() {
            return seq;
        }
        staging.units.push_back(Staged { unit, frame_len, room: permit.spend() });
        drop(staging);
        self.shared.signal.raise();
        seq
    }

    fn durable(&self) -> Seq {
        Seq(self.shared.applied.load(Ordering::SeqCst))
    }

    fn wake_on_durable(&self, seq: Seq, waker: &Waker) {
        let hopeless =
            || self.shared.failure().is_some() && seq.0 > self.shared.synced.load(Ordering::SeqCst);
        let mut waiters = self.shared.waiters.lock();
        if self.durable() >= seq || hopeless() {
            drop(waiters);
            waker.wake_by_ref();
            return;
        }
        let wakers = waiters.entry(seq).or_default();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    fn failure(&self) -> Option<Error> {
        self.shared.failure().cloned()
    }

    fn next_commit(&self) -> Option<Commit> {
        self.shared.commits.lock().pop_front()
    }

    fn applied(&self, upto: Seq) {
        self.shared.applied.fetch_max(upto.0, Ordering::SeqCst);
        let reached = {
            let mut waiters = self.shared.waiters.lock();
            let later = waiters.split_off(&Seq(upto.0 + 1));
            std::mem::replace(&mut *waiters, later)
        };
        reached.into_values().flatten().for_each(Waker::wake);
        let mut lens = ByClass::<usize>::default();
        {
            let mut spent = self.shared.spent.lock();
            while spent.front().is_some_and(|oldest| oldest.last <= upto) {
                let Some(oldest) = spent.pop_front() else { break };
                lens.iter_mut().zip(oldest.lens).for_each(|(all, len)| *all += len);
            }
        }
        Class::ALL.into_iter().zip(lens).for_each(|(class, len)| self.shared.queue.give_back(len, class));
    }

    fn tail(&self, place: Place, len: u32) -> Option<Bytes> {
        self.shared.ring.read().slice(place, len)
    }

    fn read(&self, place: Place, len: u32) -> Result<Bytes> {
        self.open_file(place.file)?.read(place.at, len)
    }

    fn open_file(&self, file: u64) -> Result<Arc<dyn Blob>> {
        self.shared.table.open_file(file)
    }

    fn files(&self) -> Vec<WalFileInfo> {
        self.shared.table.list()
    }

    fn keep(&self, file: u64, used_len: u64, footer: &[Bytes]) -> Result<(Place, u32)> {
        self.shared.table.keep(file, used_len, footer)
    }

    fn release(&self, file: u64) {
        self.shared.table.release(file, self.is_starved());
    }

    fn stats(&self) -> WalStats {
        let counters = &self.shared.counters;
        let (tail_len, pinned_len) = self.shared.ring.read().lens();
        WalStats {
            frames: counters.frames.load(Ordering::Relaxed),
            units: counters.units.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            queued_len: self.shared.queue.used_len() as u64,
            tail_len: tail_len as u64,
            pinned_len: pinned_len as u64,
            sync_last_ns: counters.sync_last_ns.load(Ordering::Relaxed),
            sync_median_ns: counters.sync_median_ns.load(Ordering::Relaxed),
        }
    }

    fn close(&self) -> Result<()> {
        self.shared.staging.lock().closed = true;
        let closed = self.writer.lock().finish();
        self.shared.table.stop();
        self.shared.signal.raise();
        closed
    }
}
