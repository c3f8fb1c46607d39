//! Somebody who waits for a unit, as a session does: woken when it is readable or when the engine failed, not before,
//! and never forgotten.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use model::Seq;
use store::Store;

use super::state::Heard;

/// One who waits.
pub(super) struct Wait {
    seq: Seq,
    bell: Arc<Bell>,
}

#[derive(Default)]
struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl Wait {
    /// Waits for `seq` from now on.
    pub fn on(store: &Store<Heard>, seq: Seq) -> Self {
        let bell = Arc::new(Bell::default());
        store.wake_on_durable(seq, &Waker::from(bell.clone()));
        Wait { seq, bell }
    }

    /// What is wrong with it at a moment when nothing is being stepped; `None` when all is well.
    pub fn fault(&self, store: &Store<Heard>) -> Option<String> {
        let (due, failed) = (store.durable() >= self.seq, store.failure().is_some());
        match self.bell.0.load(Ordering::SeqCst) {
            true if !due && !failed => Some(format!("who waits for unit {} was woken too early", self.seq)),
            false if due => Some(format!("who waits for unit {} was never woken", self.seq)),
            _ => None,
        }
    }

    /// The same once the failed engine has nothing left to do: then everybody must have been told.
    pub fn fault_at_rest(&self) -> Option<String> {
        (!self.is_over()).then(|| format!("who waits for unit {} was not told of the failure", self.seq))
    }

    /// Whether it was woken.
    pub fn is_over(&self) -> bool {
        self.bell.0.load(Ordering::SeqCst)
    }
}
