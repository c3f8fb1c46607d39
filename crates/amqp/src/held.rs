//! Memory for messages under way: what has come of bodies that are not whole, and of transactions that are not committed.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

/// What every connection has without asking, bytes: a body of one frame never waits.
const FREE_LEN: usize = 256 << 10;

/// Memory is taken in such pieces, bytes.
const STEP_LEN: usize = 256 << 10;

/// Bytes that all connections together may hold, beside what each has freely.
pub(crate) struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Budget {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Budget { used: AtomicUsize::new(0), max })
    }

    fn take(&self, len: usize) -> bool {
        let fits = |used: usize| used.checked_add(len).filter(|sum| *sum <= self.max);
        self.used.fetch_update(Relaxed, Relaxed, fits).is_ok()
    }
}

/// What one connection holds.
pub(crate) struct Held {
    budget: Arc<Budget>,
    charged: usize,
}

impl Held {
    pub(crate) fn new(budget: &Arc<Budget>) -> Self {
        Held { budget: budget.clone(), charged: 0 }
    }

    /// Whether something has to be charged, or given back, for what is held now.
    pub(crate) fn is_short(&self, len: usize) -> bool {
        wanted(len) != self.charged
    }

    /// Charges what is held now. Whether there was room.
    pub(crate) fn set(&mut self, len: usize) -> bool {
        let wanted = wanted(len);
        if wanted < self.charged {
            self.budget.used.fetch_sub(self.charged - wanted, Relaxed);
            self.charged = wanted;
        } else if wanted > self.charged {
            if !self.budget.take(wanted - self.charged) {
                return false;
            }
            self.charged = wanted;
        }
        true
    }
}

/// What is charged for so many bytes.
fn wanted(len: usize) -> usize {
    len.saturating_sub(FREE_LEN).next_multiple_of(STEP_LEN)
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.charged, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_share_what_is_above_their_own_and_give_it_back() {
        let budget = Budget::new(2 * STEP_LEN);
        let (mut one, mut other) = (Held::new(&budget), Held::new(&budget));
        assert!(one.set(FREE_LEN) && other.set(FREE_LEN), "nobody asks for that");
        assert!(one.set(FREE_LEN + 2 * STEP_LEN));
        assert!(!one.set(FREE_LEN + 2 * STEP_LEN + 1));
        assert!(!other.set(FREE_LEN + 1));
        assert!(one.set(FREE_LEN + STEP_LEN));
        assert!(other.set(FREE_LEN + 1));
        drop(other);
        assert!(one.set(FREE_LEN + STEP_LEN + 1));
        drop(one);
        assert_eq!(budget.used.load(Relaxed), 0);
    }
}
