//! What long requests may take of memory while they are read and handled, all connections together.
//!
//! Bytes are charged as they arrive: who announces a long frame and sends nothing takes nothing from others. When all is
//! held by frames of which none is whole yet, one of them goes on beyond the budget until it is; else they would wait for
//! each other.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that long requests may take.
pub(crate) struct RequestBudget {
    free: Arc<Semaphore>,
    /// Taken by the one frame that goes on beyond.
    beyond: Arc<Semaphore>,
    /// How many wait for either.
    waiting: AtomicUsize,
}

impl RequestBudget {
    pub(crate) fn new(len: usize) -> Arc<Self> {
        let free = Arc::new(Semaphore::new(len.min(Semaphore::MAX_PERMITS)));
        let beyond = Arc::new(Semaphore::new(1));
        Arc::new(RequestBudget { free, beyond, waiting: AtomicUsize::new(0) })
    }

    /// Whether somebody waits for others to give something back.
    pub(crate) fn is_short(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// A share without any bytes.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: self.clone(), len: 0, held: None, beyond: None }
    }

    /// Bytes that nobody holds.
    #[cfg(test)]
    pub(crate) fn free_len(&self) -> usize {
        self.free.available_permits()
    }
}

/// What one frame holds; given back when it goes.
pub(crate) struct Share {
    budget: Arc<RequestBudget>,
    len: usize,
    held: Option<OwnedSemaphorePermit>,
    beyond: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Whether `len` bytes are held, or need not be.
    pub(crate) fn covers(&self, len: usize) -> bool {
        len <= self.len || self.beyond.is_some()
    }

    /// Takes what is missing to `len` bytes if that many are free.
    pub(crate) fn try_grow(&mut self, len: usize) -> bool {
        let missing = self.missing(len);
        match self.budget.free.clone().try_acquire_many_owned(missing) {
            Ok(permit) => self.add(permit, missing),
            Err(_) => return false,
        }
        true
    }

    /// Takes what is missing to `len` bytes, waiting for others to give some back, or for being the one that goes beyond.
    pub(crate) async fn grow(&mut self, len: usize) {
        let missing = self.missing(len);
        let budget = self.budget.clone();
        let _waits = Waits::begin(&budget.waiting);
        tokio::select! {
            biased;
            // Neither is ever closed.
            Ok(permit) = budget.free.clone().acquire_many_owned(missing) => self.add(permit, missing),
            Ok(permit) = budget.beyond.clone().acquire_owned() => self.beyond = Some(permit),
            else => {}
        }
    }

    fn missing(&self, len: usize) -> u32 {
        u32::try_from(len.saturating_sub(self.len)).unwrap_or(u32::MAX)
    }

    fn add(&mut self, permit: OwnedSemaphorePermit, len: u32) {
        match &mut self.held {
            Some(held) => held.merge(permit),
            None => self.held = Some(permit),
        }
        self.len += len as usize;
    }
}

/// Counted as long as it is there.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Waits(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn when_all_is_held_one_share_goes_beyond_and_the_next_waits() {
        let budget = RequestBudget::new(100);
        let [mut first, mut second, mut third] = [budget.share(), budget.share(), budget.share()];
        assert!(first.try_grow(60) && second.try_grow(40) && !first.try_grow(61));
        first.grow(80).await;
        assert!(first.covers(1 << 30));
        let waited = timeout(Duration::from_millis(20), async {
            tokio::join!(second.grow(50), async { assert!(budget.is_short()) })
        });
        assert!(waited.await.is_err());
        assert!(!budget.is_short() && !second.covers(50));
        drop(first);
        second.grow(50).await;
        assert!(second.covers(50) && !second.covers(51));
        third.grow(50).await;
        assert_eq!(budget.free_len(), 0);
        drop((second, third));
        assert_eq!(budget.free_len(), 100);
    }
}
