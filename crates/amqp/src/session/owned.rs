//! Queues that a connection has alone: they go with it.

use std::{collections::HashSet, sync::Arc};

/// Names above which those are looked for whose queue is gone.
const SWEEP_MIN: usize = 64;

/// Their names. Some of them may be gone: a connection may make and delete any number.
#[derive(Default)]
pub(super) struct Owned {
    names: HashSet<Arc<str>>,
    sweep_at: usize,
}

impl Owned {
    /// Notes one; `is_there` says of others whether they are still the connection's.
    pub(super) fn add(&mut self, name: &Arc<str>, is_there: impl Fn(&str) -> bool) {
        if self.names.len() >= self.sweep_at.max(SWEEP_MIN) {
            self.names.retain(|name| is_there(name));
            self.sweep_at = 2 * self.names.len();
        }
        self.names.insert(name.clone());
    }

    /// All of them; none is known afterwards.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Arc<str>> {
        std::mem::take(&mut self.names).into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_queues_that_are_gone_do_not_pile_up() {
        let mut owned = Owned::default();
        for number in 0..10_000 {
            owned.add(&format!("q{number}").into(), |name| name == "q7");
            assert!(owned.names.len() <= SWEEP_MIN);
        }
        assert!(owned.take().any(|name| &*name == "q7"));
        assert_eq!(owned.take().count(), 0);
    }
}
