//! What the caller keeps behind the engine's logs: state per log, and the catalog.

use std::sync::Arc;

use bytes::Bytes;
use model::{Offset, Result, Seq};

use crate::{Annex, Entry, LogCore};

/// The caller's state on one log (producers, dedup keys, cursors, waiters), under the log's lock.
pub trait Attached: Default + Send + 'static {
    /// A replayed entry, in order, after `core` has applied it. Data entries come as the stored batch.
    fn replay(&mut self, core: &LogCore, entry: &Entry) -> Result<()>;

    /// Does some of what [`Attached::snapshot`] will have to do, so that the log is not locked for long then. Whether
    /// nothing is left; the lock is given up in between.
    fn prepare(&mut self) -> bool {
        true
    }

    /// Appends the whole state to `out`, for a checkpoint. What is long and does not change any more is not for `out`:
    /// `annex` gives the number by which the checkpoint names it.
    fn snapshot(&mut self, out: &mut Vec<u8>, annex: &mut dyn FnMut(&Arc<Annex>) -> u64);

    /// Takes over a state that [`Attached::snapshot`] wrote. `annex` reads what has a number of its own:
    /// [`model::ErrorKind::NotFound`] or [`model::ErrorKind::Corrupt`] when that is gone or damaged. It is better done
    /// without then: an error condemns the whole checkpoint, and the one before may name the same annex.
    fn restore(&mut self, bytes: &[u8], annex: &dyn Fn(u64) -> Result<Arc<Annex>>) -> Result<()>;

    /// Readable bounds moved, or the log was deleted: wake whoever waits. To be short.
    fn moved(&mut self, core: &LogCore);

    /// First offset of the oldest open transaction, which readers of settled records do not pass.
    fn stable_limit(&self) -> Option<Offset> {
        None
    }
}

/// A log without any state of the caller's.
impl Attached for () {
    fn replay(&mut self, _: &LogCore, _: &Entry) -> Result<()> {
        Ok(())
    }
    fn snapshot(&mut self, _: &mut Vec<u8>, _: &mut dyn FnMut(&Arc<Annex>) -> u64) {}
    fn restore(&mut self, _: &[u8], _: &dyn Fn(u64) -> Result<Arc<Annex>>) -> Result<()> {
        Ok(())
    }
    fn moved(&mut self, _: &LogCore) {}
}

/// The state machine behind the catalog log. Its own locking is its own affair; calls of [`Catalog::replay`] come in the
/// order of the log: while the store opens, and from [`crate::meta::WalMeta`].
pub trait Catalog: Send + Sync + 'static {
    /// Applies a replayed command.
    fn replay(&self, seq: Seq, command: &Bytes) -> Result<()>;

    /// The position of the last command applied, and the whole state after it.
    fn snapshot(&self) -> (Seq, Vec<u8>);

    /// Takes over a state that [`Catalog::snapshot`] wrote.
    fn restore(&self, bytes: &[u8]) -> Result<()>;
}
