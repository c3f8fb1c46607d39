//! The broker's surface: one file per group of calls, all on [`Broker`].

mod conditions;
mod documents;
mod expiring;
mod lagging;
mod open;
mod overflow;
mod positions;
mod publishing;
mod reading;
mod streams;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64},
};

use env::Env;
use model::{Error, ErrorKind, Formats, LogId, Offset, Result, Seq};
use parking_lot::{Mutex, RwLock};
use store::{Class, Store, StoreStats};

pub use self::open::RecoveryReport;
pub(crate) use self::overflow::excess_records;
use self::positions::CursorIndex;
pub(crate) use self::{conditions::check, publishing::append};
use crate::{
    catalog::{Catalog, CatalogState, Command},
    decoded::DecodedCache,
    future::{Durable, Room},
    log_state::{LogState, room::LogRoom},
    membership::Membership,
    metrics::{CounterView, Counters},
    options::BrokerOptions,
    redirect::{DeadLetters, Successors},
    retention::RetentionHandle,
    routing::{Addresses, RouteBook},
    tenant::{TenantView, Tenants},
    user::{PasswordCache, Users},
    watch::Watches,
    work::{
        due::DueHandle,
        moves::MoveBook,
        moving::{Halfway, Patience},
    },
};

/// Streams, publishing, reading, cursors and users on one data directory. Cheap to clone.
///
/// Locks are taken in this order: catalog, logs by id, the index of cursors.
#[derive(Clone)]
pub struct Broker {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub env: Env,
    pub formats: Formats,
    pub options: BrokerOptions,
    pub store: Store<LogState>,
    pub catalog: Arc<Catalog>,
    pub cursors: Mutex<CursorIndex>,
    pub memberships: RwLock<Vec<Arc<dyn Membership>>>,
    pub redirects: RwLock<HashMap<&'static str, Arc<dyn DeadLetters>>>,
    pub addresses: RwLock<HashMap<&'static str, Arc<dyn Addresses>>>,
    pub successors: RwLock<HashMap<&'static str, Arc<dyn Successors>>>,
    pub user_watchers: Mutex<Watches>,
    pub users_generation: AtomicU64,
    pub producer_ids: ProducerIds,
    pub passwords: PasswordCache,
    pub retention: RetentionHandle,
    pub due: DueHandle,
    pub halfway: Halfway,
    pub patience: Patience,
    pub moves: MoveBook,
    pub counters: Counters,
    pub routes: RouteBook,
    pub decoded: DecodedCache,
    pub dedup_room: Arc<LogRoom>,
    pub producer_room: Arc<LogRoom>,
    /// Whoever had the data directory last closed it in order, or nobody had it.
    pub was_closed_in_order: bool,
    pub tenants: Tenants,
}

/// Producer ids that may be given out without another command.
#[derive(Default)]
pub(crate) struct ProducerIds {
    next: AtomicI64,
    /// The block in use: one past its last id, and the command that took it.
    block: Mutex<(i64, Seq)>,
}

/// Producer ids taken from the catalog at a time.
const PRODUCER_ID_BLOCK: i64 = 1_000;

impl Broker {
    pub(crate) fn store(&self) -> &Store<LogState> {
        &self.inner.store
    }

    pub(crate) fn catalog(&self) -> &Catalog {
        &self.inner.catalog
    }

    /// Logs `command` and applies it to `state`, which is locked meanwhile so that no other comes between.
    pub(crate) fn command(&self, state: &mut CatalogState, command: Command) -> Result<Seq> {
        let bytes = command.encode();
        let permit = self.store().reserve(bytes.len(), Class::Drain)?;
        let mut applied = Ok(());
        let seq = self.store().command(permit, bytes, |seq| applied = state.apply(seq, command));
        applied.map_err(|e| Error::internal(format!("a checked catalog command did not apply: {e}")))?;
        Ok(seq)
    }

    /// The world it runs in.
    pub fn env(&self) -> &Env {
        &self.inner.env
    }

    /// The formats it knows.
    pub fn formats(&self) -> &Formats {
        &self.inner.formats
    }

    /// What it was opened with.
    pub fn options(&self) -> &BrokerOptions {
        &self.inner.options
    }

    /// A random number that the data directory keeps for its life.
    pub fn incarnation_id(&self) -> u128 {
        self.catalog().read().incarnation
    }

    /// A random number that the data directory keeps for its life and no client is told: what handles are sealed with.
    pub fn secret(&self) -> u128 {
        self.catalog().read().secret
    }

    /// The write or sync failure after which nothing is acknowledged any more, if there was one. Reads go on for a
    /// short grace; the process should then exit.
    pub fn failure(&self) -> Option<Error> {
        self.store().failure()
    }

    /// Resolves with the latched failure, once a write or sync failed.
    pub async fn failed(&self) -> Error {
        // No position is ever this one, so that only a failure resolves it.
        match self.durable(Seq(u64::MAX)).await {
            Err(error) => self.failure().unwrap_or(error),
            Ok(()) => Error::internal("the last position of all was reached"),
        }
    }

    /// Resolves when everything up to `seq` is durable and readable.
    pub fn durable(&self, seq: Seq) -> Durable {
        Durable::new(self.clone(), seq)
    }

    /// Resolves when a publish that was throttled may be tried again.
    pub fn room(&self) -> Room {
        Room::new(self.clone(), Class::Publish)
    }

    /// Does what drains: again once there is room, where the queue to the disk was full.
    pub(crate) async fn drain<T>(&self, act: impl FnMut() -> Result<T>) -> Result<T> {
        self.when_room(Class::Drain, act).await
    }

    /// The same for what moves records, which may go to where memory alone keeps them.
    pub(crate) async fn drain_moves<T>(&self, act: impl FnMut() -> Result<T>) -> Result<T> {
        self.when_room(Class::Move, act).await
    }

    async fn when_room<T>(&self, class: Class, mut act: impl FnMut() -> Result<T>) -> Result<T> {
        loop {
            match act() {
                Err(error) if error.kind() == ErrorKind::Throttled => {
                    Room::new(self.clone(), class).await;
                }
                done => return done,
            }
        }
    }

    /// Whether `len` bytes of records that are kept in memory only would find no room now.
    pub fn is_memory_short(&self, len: usize) -> bool {
        self.store().reserve_volatile(len).is_err()
    }

    /// Whether nothing can be published because the disk has less free space than it has to have.
    pub fn is_disk_short(&self) -> bool {
        let refused = self.store().reserve(0, Class::Publish).err();
        refused.is_some_and(|error| error.kind() == ErrorKind::Unavailable) && self.failure().is_none()
    }

    /// A producer id that nobody had before, once the sequence is durable.
    pub fn new_producer_id(&self) -> Result<(i64, Seq)> {
        use std::sync::atomic::Ordering::SeqCst;
        let ids = &self.inner.producer_ids;
        let mut state = self.catalog().lock();
        let mut block = ids.block.lock();
        let id = ids.next.load(SeqCst);
        if id >= block.0 {
            let below = state.producer_ids_below + PRODUCER_ID_BLOCK;
            let first = state.producer_ids_below;
            let seq = self.command(&mut state, Command::ProducerIds { below })?;
            *block = (below, seq);
            ids.next.store(first + 1, SeqCst);
            return Ok((first, seq));
        }
        ids.next.store(id + 1, SeqCst);
        Ok((id, block.1))
    }

    /// Registers who takes the dead letters of streams that name `dialect` under [`crate::DEAD_LETTERS`]. Until somebody
    /// does, they stay where they are.
    pub fn register_dead_letters(&self, dialect: &'static str, by: Arc<dyn DeadLetters>) {
        self.inner.redirects.write().insert(dialect, by);
    }

    /// Registers who says what is left in place of expired records of streams that name `dialect` under
    /// [`crate::SUCCESSORS`]. Until somebody does, nothing is.
    pub fn register_successors(&self, dialect: &'static str, by: Arc<dyn Successors>) {
        self.inner.successors.write().insert(dialect, by);
    }

    /// Registers a dialect's book of members for [`Broker::memberships`].
    pub fn register_membership(&self, membership: Arc<dyn Membership>) {
        self.inner.memberships.write().push(membership);
    }

    /// The books of members that were registered.
    pub fn memberships(&self) -> Vec<Arc<dyn Membership>> {
        self.inner.memberships.read().clone()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> CounterView {
        CounterView { lost_headers: crate::crossing::lost(), ..self.inner.counters.view() }
    }

    /// What each tenant did since the start, by name.
    pub fn tenants(&self) -> Vec<TenantView> {
        self.inner.tenants.views()
    }

    /// How much is stored where. Lists files: not for a hot path.
    pub fn storage(&self) -> Result<StoreStats> {
        self.store().stats()
    }

    /// Stored ranges that are set aside because they cannot be read back.
    pub fn damaged(&self) -> Vec<(LogId, Range<Offset>)> {
        self.store().damaged()
    }

    /// The users.
    pub fn users(&self) -> Users<'_> {
        Users::new(self)
    }
}
