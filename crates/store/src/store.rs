//! The whole engine on one directory.

use std::{
    collections::HashMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Wake, Waker},
};

use bytes::Bytes;
use env::{Env, Signal};
use model::{Error, ErrorKind, LogId, Offset, OwnerEpoch, Result, Seq};
use parking_lot::{Mutex, RwLock};

use crate::{
    Attached, CATALOG, Catalog, Change, Durability, Entry, Locked, Log, LogCore, StoreOptions, Unit,
    apply::Applier,
    blobs::{Blobs, FileBlobs},
    dir::{self, Held},
    files::DataFiles,
    flush::{Figures, Flusher, Reclaim},
    meta::Watched,
    recover::{self, Recovery},
    spill::Spill,
    unflushed::Unflushed,
    volatile::VolatileBudget,
    wal::{Class, FileWalProvider, Permit, Room, Wal, WalOptions, WalProvider},
};

/// The engine on one data directory. Cheap to clone.
pub struct Store<A: Attached>(pub(crate) Arc<Inner<A>>);

impl<A: Attached> Clone for Store<A> {
    fn clone(&self) -> Self {
        Store(self.0.clone())
    }
}

pub(crate) struct Inner<A: Attached> {
    pub env: Env,
    pub options: StoreOptions,
    pub wal: Arc<dyn Wal>,
    pub files: DataFiles,
    pub catalog: Arc<dyn Catalog>,
    pub volatile: VolatileBudget,
    /// Where volatile records go beyond their memory; a store without a directory has none.
    pub spill: Option<Spill>,
    pub unflushed: Unflushed,
    pub reclaim: Reclaim,
    pub logs: RwLock<HashMap<LogId, Arc<Log<A>>>>,
    pub next_log: AtomicU64,
    /// What logs begin in.
    epoch_floor: OwnerEpoch,
    /// The last unit that deleted a log. A checkpoint made without that log needs it.
    deleted_by: AtomicU64,
    /// Held while a catalog command is submitted and applied, so that both orders are one.
    commands: Mutex<()>,
    pub watched: Watched,
    pub applier: Mutex<Applier>,
    pub flusher: Mutex<Flusher>,
    pub figures: Arc<Figures>,
    /// Wakes the flusher.
    pub flush: Signal,
    /// Wakes the applier.
    pub committed: Signal,
    pub closing: AtomicBool,
    /// Where the storage lies when the store was opened on a directory; held until it is closed.
    pub dir: Mutex<Option<Held>>,
}

/// What a store is put together from.
pub(crate) struct Parts {
    /// The world.
    pub env: Env,
    /// Opens the write-ahead log.
    pub wal: Arc<dyn WalProvider>,
    /// Where segments and checkpoints lie.
    pub blobs: Arc<dyn Blobs>,
    /// Settings.
    pub options: StoreOptions,
    /// The state machine of the catalog's commands.
    pub catalog: Arc<dyn Catalog>,
}

/// What recovery has put together.
pub(crate) struct Opened<A: Attached> {
    pub wal: Arc<dyn Wal>,
    pub unflushed: Unflushed,
    pub reclaim: Reclaim,
    pub flusher: Flusher,
    pub figures: Arc<Figures>,
    pub committed: Signal,
    pub logs: HashMap<LogId, Arc<Log<A>>>,
    pub next_log: u64,
    pub epoch_floor: OwnerEpoch,
    pub dir: Option<Held>,
    pub spill: Option<Spill>,
}

impl<A: Attached> Store<A> {
    /// Opens the store over `parts`: the last good checkpoint, then what the WAL has after it.
    #[cfg(test)]
    pub(crate) fn open_with(parts: Parts) -> Result<(Store<A>, Recovery)> {
        recover::open(parts, None, None)
    }

    /// Opens the store in `dir`, which is created when it is not there. [`model::ErrorKind::Unavailable`] when another
    /// process has it, naming that one; [`model::ErrorKind::Invalid`] when a newer version wrote it.
    pub fn open(
        env: Env,
        dir: &Path,
        options: StoreOptions,
        wal: impl FnOnce(&mut WalOptions),
        catalog: Arc<dyn Catalog>,
    ) -> Result<(Store<A>, Recovery)> {
        let mut wal_options = WalOptions::new(dir.join("wal"));
        wal_options.faults = options.faults;
        wal(&mut wal_options);
        let held = dir::take(&env, dir, wal_options.tolerate_damage)?;
        let parts = Parts {
            wal: Arc::new(FileWalProvider::new(env.clone(), wal_options)),
            blobs: Arc::new(FileBlobs::open(env.clone(), dir.join("blobs"))?),
            env,
            options,
            catalog,
        };
        let spill = Spill::open(parts.env.files.clone(), &dir.join("spill"), options.spill_len_max)?;
        recover::open(parts, Some(held), Some(spill))
    }

    pub(crate) fn assemble(parts: Parts, opened: Opened<A>) -> Store<A> {
        let Parts { env, blobs, options, catalog, .. } = parts;
        let Opened { wal, unflushed, reclaim, flusher, figures, committed, logs, .. } = opened;
        let Opened { next_log, epoch_floor, dir, spill, .. } = opened;
        Store(Arc::new(Inner {
            files: DataFiles::new(wal.clone(), blobs, env.clock.clone(), &options),
            volatile: VolatileBudget::new(options.volatile_len_max),
            spill,
            unflushed,
            reclaim,
            env,
            options,
            wal,
            catalog,
            logs: RwLock::new(logs),
            next_log: AtomicU64::new(next_log),
            epoch_floor,
            deleted_by: AtomicU64::new(0),
            commands: Mutex::new(()),
            watched: Watched::default(),
            applier: Mutex::default(),
            flusher: Mutex::new(flusher),
            figures,
            flush: Signal::new(),
            committed,
            closing: AtomicBool::new(false),
            dir: Mutex::new(dir),
        }))
    }

    /// The log `id`, unless it was never created or was deleted.
    pub fn log(&self, id: LogId) -> Option<Arc<Log<A>>> {
        self.0.logs.read().get(&id).cloned()
    }

    /// Every log, in the order of their ids.
    pub fn logs(&self) -> Vec<Arc<Log<A>>> {
        self.0.logs_by_id()
    }

    /// A log id that nobody was given before, also not before a restart if the log was created or the id told to
    /// [`Store::used_log_id`].
    pub fn next_log_id(&self) -> LogId {
        LogId(self.0.next_log.fetch_add(1, Ordering::Relaxed))
    }

    /// Says that `id` is in use although its log may not have been created: the catalog names it.
    pub fn used_log_id(&self, id: LogId) {
        self.0.next_log.fetch_max(id.0.saturating_add(1), Ordering::Relaxed);
    }

    /// Takes room for a unit of about `len` bytes, before any lock. Errors: see [`Wal::reserve`].
    pub fn reserve(&self, len: usize, class: Class) -> Result<Permit> {
        if self.0.closing.load(Ordering::Acquire) {
            return Err(Error::unavailable("the store is closing"));
        }
        if class == Class::Publish && self.0.unflushed.is_over(self.0.wal.durable()) {
            self.0.flush.raise();
            return Err(Error::new(ErrorKind::Throttled, "the write-ahead log waits for its checkpoint"));
        }
        let reserved = self.0.wal.reserve(len, class);
        if self.0.wal.is_starved() && reserved.is_err() && self.0.reclaim.is_due(true) {
            self.0.flush.raise();
        }
        reserved
    }

    /// Whether `len` bytes of volatile records may be appended now; [`model::ErrorKind::Throttled`] when memory for
    /// them is used up. To be asked before any lock.
    pub fn reserve_volatile(&self, len: usize) -> Result<()> {
        self.0.volatile.check(len)
    }

    /// Locks `logs` in the order of their ids; one that is named twice is locked once.
    pub fn lock<'a>(&self, logs: &[&'a Arc<Log<A>>]) -> Locked<'a, A> {
        Locked::new(self.0.clone(), logs)
    }

    /// Submits what was staged as one unit and unlocks. Answers the position to wait for: [`Seq`] 0, which has always
    /// passed, when nothing needs a commit. `locked` is of this store.
    pub fn commit(&self, permit: Permit, locked: Locked<'_, A>) -> Seq {
        locked.finish(permit)
    }

    /// Submits a catalog command and applies it through `apply`, in one order for both.
    pub fn command(&self, permit: Permit, command: Bytes, apply: impl FnOnce(Seq)) -> Seq {
        let _ordered = self.0.commands.lock();
        let seq = self.0.watched.submit(&command, || {
            let change = Change::Note(command.clone());
            let entry = Entry { log: CATALOG, epoch: Default::default(), change };
            self.0.wal.submit(permit, Unit { entries: vec![entry] })
        });
        apply(seq);
        seq
    }

    /// Creates the log `id`, whose first offset is `start`. [`model::ErrorKind::Exists`] when it is there,
    /// [`model::ErrorKind::Invalid`] for the catalog's id.
    pub fn create_log(
        &self,
        permit: Permit,
        id: LogId,
        start: Offset,
        durability: Durability,
    ) -> Result<(Arc<Log<A>>, Seq)> {
        if id == CATALOG {
            return Err(Error::invalid("log 0 is the catalog's"));
        }
        self.used_log_id(id);
        let mut core = LogCore::new(id, start, durability);
        core.set_epoch(self.0.epoch_floor);
        let log = Arc::new(Log::new(core, A::default()));
        let mut state = log.lock();
        match self.0.logs.write().entry(id) {
            std::collections::hash_map::Entry::Occupied(_) => {
                return Err(Error::exists(format!("log {id} exists")));
            }
            std::collections::hash_map::Entry::Vacant(free) => free.insert(log.clone()),
        };
        let entry = |change| Entry { log: id, epoch: state.core.epoch(), change };
        let mut entries = vec![entry(Change::Create { start, durability })];
        if durability == Durability::Memory
            && let Some(ahead) = state.core.reservation_for(start)
        {
            entries.push(entry(Change::Reserve(ahead)));
            state.core.stage_change(&Change::Reserve(ahead));
        }
        let seq = self.0.wal.submit(permit, Unit { entries });
        state.core.submitted(seq);
        drop(state);
        Ok((log, seq))
    }

    /// Every unit up to here is on disk and readable.
    pub fn durable(&self) -> Seq {
        self.0.wal.durable()
    }

    /// Registers `waker` for when `seq` is durable and readable, or the store has failed.
    pub fn wake_on_durable(&self, seq: Seq, waker: &Waker) {
        self.0.wal.wake_on_durable(seq, waker);
    }

    /// Registers `waker` for when a refused reservation of `class` may succeed.
    pub fn wake_on_room(&self, class: Class, waker: &Waker) {
        // Only publishers wait for a checkpoint; the others for the queue, which may be empty long before.
        let waits_for_checkpoint =
            class == Class::Publish && self.0.unflushed.wake_on_room(self.0.wal.durable(), waker);
        if !waits_for_checkpoint {
            self.0.wal.wake_on_room(waker);
        }
    }

    /// The latched failure, if a write or sync ever failed.
    pub fn failure(&self) -> Option<Error> {
        self.0.wal.failure()
    }
}

impl<A: Attached> Inner<A> {
    pub fn logs_by_id(&self) -> Vec<Arc<Log<A>>> {
        let mut logs: Vec<_> = self.logs.read().values().cloned().collect();
        logs.sort_unstable_by_key(|log| log.id());
        logs
    }

    /// Unit `seq` deletes a log.
    pub fn forget(&self, id: LogId, seq: Seq) {
        self.deleted_by.fetch_max(seq.0, Ordering::SeqCst);
        self.logs.write().remove(&id);
    }

    /// The last unit that deleted a log.
    pub fn deleted_by(&self) -> Seq {
        Seq(self.deleted_by.load(Ordering::SeqCst))
    }

    /// Wakes the flusher.
    pub fn flush_waker(&self) -> Waker {
        struct Raise(Signal);
        impl Wake for Raise {
            fn wake(self: Arc<Self>) {
                self.0.raise();
            }
        }
        Waker::from(Arc::new(Raise(self.flush.clone())))
    }

    /// A permit for no bytes at all.
    pub fn no_room(&self, class: Class) -> Permit {
        struct Nowhere;
        impl Room for Nowhere {
            fn give_back(&self, _: usize, _: Class) {}
        }
        Permit::new(0, class, Arc::new(Nowhere))
    }
}
