//! One function per API: what a request asks of the broker, and how the answer reads.

use std::{collections::HashSet, hash::Hash};

pub(crate) mod api_versions;
pub(crate) mod cluster;
pub(crate) mod configs;
pub(crate) mod create_topics;
pub(crate) mod fetch;
pub(crate) mod find_coordinator;
pub(crate) mod group_members;
pub(crate) mod groups;
pub(crate) mod join_group;
pub(crate) mod list_offsets;
pub(crate) mod metadata;
pub(crate) mod offset_commit;
pub(crate) mod offset_fetch;
pub(crate) mod produce;
pub(crate) mod producers;
pub(crate) mod replicas;
pub(crate) mod scram_users;
pub(crate) mod topics;

/// Each item once, by its key, where it came first. What is described at length is described once, however often a
/// request names it: else a short request could ask for an answer without bounds.
pub(crate) fn once_each<'i, T, K: Eq + Hash>(
    items: &'i [T],
    key: impl Fn(&'i T) -> K,
) -> impl Iterator<Item = &'i T> {
    let mut seen = HashSet::new();
    items.iter().filter(move |item| seen.insert(key(item)))
}

/// The keys that more than one item has: a request that names a thing twice to change it contradicts itself.
pub(crate) fn named_twice<'i, T, K: Eq + Hash>(items: &'i [T], key: impl Fn(&'i T) -> K) -> HashSet<K> {
    let (mut seen, mut twice) = (HashSet::new(), HashSet::new());
    for item in items {
        if !seen.insert(key(item)) {
            twice.insert(key(item));
        }
    }
    twice
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{named_twice, once_each};

    #[test]
    fn each_item_comes_once_where_it_was_first() {
        let items = ["b", "a", "b", "c", "a"];
        assert_eq!(once_each(&items, |item| *item).collect::<Vec<_>>(), [&"b", &"a", &"c"]);
    }

    #[test]
    fn what_comes_twice_or_more_is_named_twice() {
        assert_eq!(named_twice(&["b", "a", "b", "c", "b"], |item| *item), HashSet::from(["b"]));
        assert!(named_twice(&["a", "b"], |item| *item).is_empty());
    }
}
