//! What waits for all clients together.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// Bytes that wait for all clients, against a budget.
#[derive(Debug)]
pub(crate) struct Pending {
    len: AtomicUsize,
    client_count: AtomicUsize,
    len_max: usize,
}

impl Pending {
    /// Up to `len_max` bytes may wait in all.
    pub(crate) fn new(len_max: usize) -> Self {
        Pending { len: AtomicUsize::new(0), client_count: AtomicUsize::new(0), len_max }
    }

    pub(crate) fn enter(&self) {
        self.client_count.fetch_add(1, Relaxed);
    }

    /// A client is gone, for which `len` bytes still waited.
    pub(crate) fn leave(&self, len: usize) {
        self.client_count.fetch_sub(1, Relaxed);
        self.sub(len);
    }

    pub(crate) fn add(&self, len: usize) {
        self.len.fetch_add(len, Relaxed);
    }

    pub(crate) fn sub(&self, len: usize) {
        self.len.fetch_sub(len, Relaxed);
    }

    /// Whether the budget is spent and a client for which `waiting` bytes wait has no less than its share of it. There is
    /// always one such client, so that cutting those off gets below the budget again.
    pub(crate) fn is_too_much(&self, waiting: usize) -> bool {
        let len = self.len.load(Relaxed);
        len > self.len_max && waiting >= len / self.client_count.load(Relaxed).max(1)
    }

    /// Bytes that wait.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_the_budget_who_has_its_share_or_more_is_too_much() {
        let pending = Pending::new(100);
        (0..4).for_each(|_| pending.enter());
        pending.add(100);
        assert!(!pending.is_too_much(100));
        pending.add(4);
        assert!(pending.is_too_much(26) && !pending.is_too_much(25));
        pending.leave(104);
        assert_eq!(pending.len(), 0);
    }
}
