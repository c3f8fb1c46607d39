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

#[cfg(test)]
mod tests {
    use super::once_each;

    #[test]
    fn each_item_comes_once_where_it_was_first() {
        let items = ["b", "a", "b", "c", "a"];
        assert_eq!(once_each(&items, |item| *item).collect::<Vec<_>>(), [&"b", &"a", &"c"]);
    }
}
