//! The catalog's commands behind one narrow trait: one order for all, told to watchers once durable. Here the order is
//! that of the write-ahead log; in cluster mode a coordination service keeps it.

use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
};

use bytes::Bytes;
use model::{Result, Seq};
use parking_lot::Mutex;

use crate::{Attached, Catalog, Class, Store};

/// A sequence of commands that everyone sees in the same order.
pub trait Meta: Send + Sync + 'static {
    /// Puts `command` behind all others and applies it to the state machine. Answers its position, which is durable
    /// once [`Meta::durable`] has reached it. Errors: those of [`crate::wal::Wal::reserve`].
    fn apply(&self, command: Bytes) -> Result<Seq>;

    /// The position up to which commands are durable.
    fn durable(&self) -> Seq;

    /// Tells `watcher` of every command that is given to [`Meta::apply`] from now on: in order, once, when it is
    /// durable. Ends when the watcher is dropped.
    fn watch(&self, watcher: &Arc<dyn Watcher>);
}

/// Is told of durable commands. To be short: commits wait meanwhile.
pub trait Watcher: Send + Sync + 'static {
    /// `command` at `seq` is durable.
    fn command(&self, seq: Seq, command: &Bytes);
}

/// [`Meta`] over a store's own log of commands.
pub struct WalMeta<A: Attached> {
    store: Store<A>,
    catalog: Arc<dyn Catalog>,
}

impl<A: Attached> WalMeta<A> {
    /// Over `store`, whose catalog's state machine is `catalog`.
    pub fn new(store: Store<A>, catalog: Arc<dyn Catalog>) -> Self {
        WalMeta { store, catalog }
    }
}

impl<A: Attached> Meta for WalMeta<A> {
    fn apply(&self, command: Bytes) -> Result<Seq> {
        let permit = self.store.reserve(command.len(), Class::Drain)?;
        let mut applied = Ok(());
        let seq = self.store.command(permit, command.clone(), |seq| {
            applied = self.catalog.replay(seq, &command);
        });
        applied.map(|()| seq)
    }

    fn durable(&self) -> Seq {
        self.store.durable()
    }

    fn watch(&self, watcher: &Arc<dyn Watcher>) {
        self.store.0.watched.watch(watcher);
    }
}

/// Commands on their way to watchers.
#[derive(Default)]
pub(crate) struct Watched(Mutex<Watching>);

#[derive(Default)]
struct Watching {
    watchers: Vec<Weak<dyn Watcher>>,
    /// Submitted, not yet durable. Bounded by what the write-ahead log takes before it is synced.
    submitted: VecDeque<(Seq, Bytes)>,
}

impl Watched {
    fn watch(&self, watcher: &Arc<dyn Watcher>) {
        self.0.lock().watchers.push(Arc::downgrade(watcher));
    }

    /// Submits a command through `submit`, in one order for the log and the watchers.
    pub fn submit(&self, command: &Bytes, submit: impl FnOnce() -> Seq) -> Seq {
        let mut watching = self.0.lock();
        let seq = submit();
        watching.watchers.retain(|watcher| watcher.strong_count() > 0);
        if !watching.watchers.is_empty() {
            watching.submitted.push_back((seq, command.clone()));
        }
        seq
    }

    /// Everything up to `last` is durable.
    pub fn durable(&self, last: Seq) {
        loop {
            let mut watching = self.0.lock();
            let Some((seq, command)) = watching.submitted.pop_front_if(|(seq, _)| *seq <= last) else {
                return;
            };
            let watchers: Vec<Arc<dyn Watcher>> =
                watching.watchers.iter().filter_map(Weak::upgrade).collect();
            drop(watching);
            watchers.iter().for_each(|watcher| watcher.command(seq, &command));
        }
    }
}

#[cfg(test)]
mod tests;
