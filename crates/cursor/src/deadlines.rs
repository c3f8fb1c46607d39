//! Who is due next: one time per key.

use std::{
    collections::{BTreeSet, HashMap},
    hash::Hash,
};

/// Keys (cursors, sessions) by the time at which each wants to be looked at. One time per key; setting it again
/// moves it. Every operation takes time logarithmic in the number of keys.
#[derive(Clone, Debug)]
pub struct Deadlines<K> {
    by_time: BTreeSet<(i64, K)>,
    by_key: HashMap<K, i64>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Deadlines { by_time: BTreeSet::new(), by_key: HashMap::new() }
    }
}

impl<K: Copy + Ord + Hash> Deadlines<K> {
    /// Nobody is due.
    pub fn new() -> Self {
        Deadlines::default()
    }

    /// Makes `key` due at `due_ms`; `None` = never.
    pub fn set(&mut self, key: K, due_ms: Option<i64>) {
        let before = match due_ms {
            Some(due) => self.by_key.insert(key, due),
            None => self.by_key.remove(&key),
        };
        if before == due_ms {
            return;
        }
        if let Some(before) = before {
            self.by_time.remove(&(before, key));
        }
        if let Some(due) = due_ms {
            self.by_time.insert((due, key));
        }
    }

    /// When the first key is due.
    pub fn next_ms(&self) -> Option<i64> {
        self.by_time.first().map(|(due, _)| *due)
    }

    /// Takes the earliest key out, if its time has come.
    pub fn pop_due(&mut self, now_ms: i64) -> Option<K> {
        let (due, key) = *self.by_time.first()?;
        if due > now_ms {
            return None;
        }
        self.set(key, None);
        Some(key)
    }

    /// How many keys are due some time.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether no key is ever due.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_come_out_in_the_order_of_their_times() {
        let mut deadlines = Deadlines::new();
        for (key, due) in [(1, 30), (2, 10), (3, 20), (1, 5)] {
            deadlines.set(key, Some(due));
        }
        deadlines.set(3, None);
        assert_eq!(deadlines.next_ms(), Some(5));
        assert_eq!(deadlines.pop_due(4), None);
        assert_eq!(deadlines.pop_due(10), Some(1));
        assert_eq!(deadlines.pop_due(10), Some(2));
        assert!(deadlines.is_empty());
    }

    proptest! {
        #[test]
        fn each_key_is_due_once_at_the_time_set_last(
            steps in proptest::collection::vec((0u8..10, proptest::option::of(0i64..20)), 0..60),
            now in 0i64..25,
        ) {
            let mut deadlines = Deadlines::new();
            let mut model = HashMap::new();
            for (key, due) in steps {
                deadlines.set(key, due);
                match due {
                    Some(due) => model.insert(key, due),
                    None => model.remove(&key),
                };
                prop_assert_eq!(deadlines.next_ms(), model.values().min().copied());
            }
            let mut popped: Vec<u8> = std::iter::from_fn(|| deadlines.pop_due(now)).collect();
            prop_assert!(popped.is_sorted_by_key(|key| model[key]));
            popped.sort_unstable();
            let mut expected: Vec<u8> = model.iter().filter(|(_, due)| **due <= now).map(|(key, _)| *key).collect();
            expected.sort_unstable();
            prop_assert_eq!(popped, expected);
        }
    }
}
