//! The catalog: which streams, documents, users and routes there are. Commands change it, in log order; the tables
//! are a pure state machine ([`state`]), and what is on disk has a version ([`command`]).

pub(crate) mod command;
mod settings_codec;
pub(crate) mod state;
mod stream_map;
pub(crate) mod user;

#[cfg(test)]
mod tests;

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use model::{Result, Seq};
use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

pub(crate) use self::{
    command::{Command, StreamRecord},
    state::CatalogState,
    user::UserRecord,
};

/// The tables behind their lock. It is taken before any log's lock, never after one.
#[derive(Default)]
pub(crate) struct Catalog {
    state: RwLock<CatalogState>,
    generation: Arc<AtomicU64>,
}

impl Catalog {
    pub(crate) fn new() -> Self {
        let generation = Arc::new(AtomicU64::new(1));
        let state = CatalogState { generation: generation.clone(), ..CatalogState::default() };
        Catalog { state: RwLock::new(state), generation }
    }

    /// For a change.
    pub(crate) fn lock(&self) -> RwLockWriteGuard<'_, CatalogState> {
        self.state.write()
    }

    /// For a look.
    pub(crate) fn read(&self) -> RwLockReadGuard<'_, CatalogState> {
        self.state.read()
    }

    /// Rises with every change of a stream. Takes no lock.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}

impl store::Catalog for Catalog {
    fn replay(&self, seq: Seq, command: &Bytes) -> Result<()> {
        let command = Command::decode(command)?;
        let mut state = self.lock();
        if seq <= state.applied {
            return Ok(());
        }
        state.apply(seq, command)
    }

    fn snapshot(&self) -> (Seq, Vec<u8>) {
        let state = self.read();
        (state.applied, state.snapshot())
    }

    fn restore(&self, bytes: &[u8]) -> Result<()> {
        let generation = self.generation.clone();
        *self.lock() = CatalogState { generation, ..CatalogState::restore(bytes)? };
        Ok(())
    }
}
