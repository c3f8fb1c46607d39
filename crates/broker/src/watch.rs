//! One waker over many partitions.

use std::{
    future::poll_fn,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

use parking_lot::Mutex;

/// Tells when any of the partitions that it was armed on has something to read, or was deleted. Arm it on each with
/// [`crate::Partition::watch`], then await [`Watch::changed`]; a partition that told it needs arming again. Dropping it
/// disarms it everywhere.
///
/// One task waits on a watch at a time.
pub struct Watch {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    fired: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

/// Tells a watch from all others that a partition holds something of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct WatchId(usize);

/// What a partition holds of a watch.
#[derive(Clone)]
pub(crate) struct WatchRef {
    inner: Weak<Inner>,
}

impl Default for Watch {
    fn default() -> Self {
        Watch::new()
    }
}

impl Watch {
    /// A watch that is armed nowhere.
    pub fn new() -> Self {
        Watch { inner: Arc::default() }
    }

    /// A watch that is armed nowhere and wakes `waker` when it is told.
    pub(crate) fn waking(waker: Waker) -> Self {
        let watch = Watch::new();
        *watch.inner.waker.lock() = Some(waker);
        watch
    }

    /// Resolves when a partition has told this watch since it was last taken, which may have been before the call.
    /// Cancelling it loses nothing.
    pub async fn changed(&self) {
        poll_fn(|ctx| {
            if self.take() {
                return Poll::Ready(());
            }
            *self.inner.waker.lock() = Some(ctx.waker().clone());
            // A partition may have told it between the two lines above.
            if self.take() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    /// Whether a partition has told it since the last call.
    pub fn take(&self) -> bool {
        self.inner.fired.swap(false, Ordering::SeqCst)
    }

    /// Tells the watch: for whoever wants to end the wait of the task that holds it.
    pub fn tell(&self) {
        self.inner.tell();
    }

    pub(crate) fn reference(&self) -> WatchRef {
        WatchRef { inner: Arc::downgrade(&self.inner) }
    }
}

impl Inner {
    fn tell(&self) {
        self.fired.store(true, Ordering::SeqCst);
        let waker = self.waker.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl WatchRef {
    /// Tells the watch, if it is still there.
    pub(crate) fn tell(&self) {
        if let Some(inner) = self.inner.upgrade() {
            inner.tell();
        }
    }

    /// Whether the watch is still there.
    pub(crate) fn is_live(&self) -> bool {
        self.inner.strong_count() > 0
    }

    /// Its place in memory, which is not another's as long as this is held.
    pub(crate) fn id(&self) -> WatchId {
        WatchId(self.inner.as_ptr().addr())
    }
}

/// Watches that are told together, once each.
#[derive(Default)]
pub(crate) struct Watches {
    all: Vec<WatchRef>,
    sweep_at: usize,
}

/// Watches among which those that are gone are looked for at first.
const SWEEP_MIN: usize = 64;

impl Watches {
    pub(crate) fn add(&mut self, watch: &Watch) {
        if self.all.len() >= self.sweep_at {
            self.all.retain(WatchRef::is_live);
            self.sweep_at = SWEEP_MIN.max(self.all.len() * 2);
        }
        self.all.push(watch.reference());
    }

    pub(crate) fn tell(&mut self) {
        self.all.drain(..).for_each(|one| one.tell());
    }
}
