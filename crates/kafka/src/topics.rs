//! Topics are streams: how names go from one to the other.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use broker::{Broker, Stream};
use model::{Kind, Namespace, StreamId, StreamKey, alias};

use crate::server::Server;

/// Longest topic name, as the original has it: file names of its segments have to fit.
pub(crate) const TOPIC_NAME_MAX: usize = 249;

/// The dialect in which topics are addresses, as routes name it.
pub const DIALECT: &str = "kafka";

fn is_legal(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Why a topic may not be called that; `None` when it may.
pub(crate) fn invalid_name(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return Some("Topic name is invalid: '.' or '..' is not allowed".to_owned());
    }
    if name.len() > TOPIC_NAME_MAX {
        return Some(format!(
            "Topic name is invalid: the length of '{name}' is longer than the max allowed length {TOPIC_NAME_MAX}"
        ));
    }
    if !name.chars().all(is_legal) {
        return Some(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    None
}

/// Characters of a name up to which each spelling of it is looked up; names with more are compared with every topic's.
const SPELLED_OUT_MAX: u32 = 8;

/// An existing topic whose name differs from `name` in nothing but dots where the other has underscores. The original
/// names its metrics after topics with one for the other, and so takes only one of the two.
pub(crate) fn colliding(broker: &Broker, namespace: &Namespace, name: &str) -> Option<String> {
    let ambiguous = |c: &char| matches!(c, '.' | '_');
    let count = u32::try_from(name.chars().filter(ambiguous).count()).unwrap_or(u32::MAX);
    if count > SPELLED_OUT_MAX {
        let plain = |name: &str| name.replace('.', "_");
        let collides = |other: &str| other != name && plain(other) == plain(name);
        return list(broker, namespace).iter().map(|s| shown_name(s.key())).find(|other| collides(other));
    }
    (0..1_u32 << count).find_map(|spelling| {
        let mut nth = 0;
        let spelled: String = name
            .chars()
            .map(|c| match ambiguous(&c) {
                false => c,
                true => {
                    nth += 1;
                    if spelling >> (nth - 1) & 1 == 0 { '.' } else { '_' }
                }
            })
            .collect();
        let key = StreamKey::log(namespace, &spelled);
        let there = spelled != name && broker.stream(&key).is_some_and(|stream| !stream.facets().hidden);
        there.then_some(spelled)
    })
}

/// The name under which a stream is shown.
pub(crate) fn shown_name(key: &StreamKey) -> String {
    alias(&key.name, TOPIC_NAME_MAX, is_legal).unwrap_or_else(|| key.name.as_ref().to_owned())
}

/// The stream behind a topic name: the log of that name, the log whose alias it is, or else the queue of that name, to
/// be looked at and published to. Hidden streams are nobody's topics, and longer names than topics have are none's: such
/// streams are shown under their alias.
pub(crate) fn find(server: &Server, namespace: &Namespace, name: &str) -> Option<Arc<Stream>> {
    if name.len() > TOPIC_NAME_MAX {
        return None;
    }
    [Kind::Log, Kind::Queue].into_iter().find_map(|kind| {
        let key = StreamKey { namespace: namespace.clone(), kind, name: name.into() };
        let called_so = server.broker.stream(&key);
        called_so.or_else(|| by_alias(server, namespace, kind, name)).filter(|s| !s.facets().hidden)
    })
}

/// The stream of a topic id, if it is one of this namespace's.
pub(crate) fn find_by_id(broker: &Broker, namespace: &Namespace, id: [u8; 16]) -> Option<Arc<Stream>> {
    let stream = broker.stream_by_id(StreamId(u128::from_be_bytes(id)))?;
    (stream.key().namespace == *namespace && !stream.facets().hidden).then_some(stream)
}

/// Every topic of a namespace, by name: its logs. Queues are found by name alone.
pub(crate) fn list(broker: &Broker, namespace: &Namespace) -> Vec<Arc<Stream>> {
    let mut all = broker.streams(namespace, Some(Kind::Log));
    all.retain(|stream| !stream.facets().hidden);
    all
}

/// What streams are shown as that are called otherwise, found anew when the catalog has changed: requests that name many
/// topics do not search all streams for each.
#[derive(Default)]
pub(crate) struct Aliases {
    generation: u64,
    by_kind: HashMap<(Namespace, Kind), HashMap<String, Arc<Stream>>>,
}

impl Aliases {
    fn find(&mut self, broker: &Broker, of: (Namespace, Kind), name: &str) -> Option<Arc<Stream>> {
        let generation = broker.catalog_generation();
        if self.generation != generation {
            *self = Aliases { generation, by_kind: HashMap::new() };
        }
        let known = match self.by_kind.entry(of) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => {
                let (namespace, kind) = unknown.key();
                let all = broker.streams(namespace, Some(*kind)).into_iter();
                let shown = |stream: &Arc<Stream>| alias(&stream.key().name, TOPIC_NAME_MAX, is_legal);
                unknown.insert(all.filter_map(|stream| Some((shown(&stream)?, stream))).collect())
            }
        };
        known.get(name).cloned()
    }
}

fn by_alias(server: &Server, namespace: &Namespace, kind: Kind, name: &str) -> Option<Arc<Stream>> {
    // Aliases end in a dash and six hex digits; other names cost no search.
    let (_, hash) = name.rsplit_once('-')?;
    if hash.len() != 6 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    server.aliases.lock().find(&server.broker, (namespace.clone(), kind), name)
}

#[cfg(test)]
mod tests {
    use broker::StreamSettings;

    use super::*;
    use crate::testing::Rig;

    #[tokio::test]
    async fn a_stream_is_found_under_its_alias_as_long_as_it_is_there() {
        let rig = Rig::new();
        let namespace = Namespace::default();
        let find = |name: &str| find(&rig.server, &namespace, name).map(|stream| stream.id());
        let shown = shown_name(&StreamKey::log(&namespace, "orders/eu"));
        assert_eq!(find(&shown), None);
        let first = rig.topic("orders/eu", StreamSettings::default()).await;
        assert_eq!((find(&shown), find("orders_eu-000000")), (Some(first.id()), None));
        rig.broker().delete_stream(first.key()).await.unwrap();
        assert_eq!(find(&shown), None);
        let second = rig.topic("orders/eu", StreamSettings::default()).await;
        assert_eq!(find(&shown), Some(second.id()));
        // A topic that is really called so goes first.
        let called_so = rig.topic(&shown, StreamSettings::default()).await;
        assert_eq!(find(&shown), Some(called_so.id()));
    }

    #[test]
    fn the_original_s_name_rules_hold() {
        assert_eq!(invalid_name("orders.v1_a-B"), None);
        assert_eq!(invalid_name(&"a".repeat(249)), None);
        for bad in ["", ".", "..", "a b", "a/b", "ä", &"a".repeat(250)] {
            assert!(invalid_name(bad).is_some(), "{bad}");
        }
    }

    #[test]
    fn a_stream_with_a_foreign_name_is_shown_under_its_alias() {
        let namespace = Namespace::default();
        assert_eq!(shown_name(&StreamKey::log(&namespace, "orders")), "orders");
        let shown = shown_name(&StreamKey::log(&namespace, "orders/eu"));
        assert!(shown.starts_with("orders_eu-"));
        assert_eq!(invalid_name(&shown), None);
    }
}
