//! One function per API: what a request asks of the broker, and how the answer reads.

use std::{collections::HashSet, hash::Hash, sync::Arc};

use broker::{Action, Partition, Stream};
use model::Kind;

use crate::{codec::ErrorCode, session::Ctx};

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

/// A topic that a request names: looked up once, however many partitions of it follow.
pub(crate) struct NamedTopic(Option<Arc<Stream>>);

impl NamedTopic {
    pub(crate) fn find(ctx: &Ctx, name: &str) -> Self {
        NamedTopic(crate::topics::find(&ctx.server, &ctx.namespace(), name))
    }

    /// Whether the principal may do `action` to it. Permissions speak of the stream, not of the alias under which it may be
    /// asked for; of the name as it was `given` where nothing is behind it, since not everybody is to know that.
    pub(crate) fn may(&self, ctx: &Ctx, action: Action, given: &str) -> bool {
        ctx.allows(action, self.name(given))
    }

    fn name<'a>(&'a self, given: &'a str) -> &'a str {
        self.0.as_ref().map_or(given, |stream| &stream.key().name)
    }

    /// Whether the principal may know it: whoever may do anything to it.
    pub(crate) fn may_describe(&self, ctx: &Ctx, given: &str) -> bool {
        metadata::may_describe(ctx, self.name(given))
    }

    /// Whether it is a queue, which is published to and looked at here and nothing else.
    pub(crate) fn is_queue(&self) -> bool {
        self.0.as_ref().is_some_and(|stream| stream.key().kind == Kind::Queue)
    }

    /// Its partition `index`, if both are there.
    pub(crate) fn partition(&self, index: i32) -> Result<&Arc<Partition>, ErrorCode> {
        let index = usize::try_from(index).map_err(|_| ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        let partition = self.0.as_ref().and_then(|stream| stream.partitions().get(index));
        partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }
}

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

    use broker::StreamSettings;

    use super::{NamedTopic, named_twice, once_each};
    use crate::{codec::ErrorCode, testing::Rig};

    #[tokio::test]
    async fn a_named_topic_has_the_partitions_that_are_there() {
        let rig = Rig::new();
        let stream = rig.topic("a", StreamSettings::default()).await;
        let long = "a".repeat(255);
        rig.topic(&long, StreamSettings::default()).await;
        let named = NamedTopic::find(&rig.ctx(0), "a");
        assert_eq!(named.partition(0).map(|found| found.log_id()), Ok(stream.partitions()[0].log_id()));
        let unknown = Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        for (name, index) in [("a", 1), ("a", -1), ("b", 0), (long.as_str(), 0)] {
            let named = NamedTopic::find(&rig.ctx(0), name);
            assert_eq!(named.partition(index).map(|found| found.log_id()), unknown, "{index} of {name}");
        }
        let shown =
            crate::topics::shown_name(crate::topics::list(rig.broker(), &Default::default())[1].key());
        assert!(NamedTopic::find(&rig.ctx(0), &shown).partition(0).is_ok(), "{shown} is its alias");
    }

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
