//! Streams by key. The key is the one inside the stream, so that a hundred thousand idle ones do not carry it twice.

use std::{borrow::Borrow, cmp::Ordering, collections::BTreeSet, ops::Bound, sync::Arc};

use model::StreamKey;

use crate::stream::Stream;

/// A stream, ordered by its key.
struct ByKey(Arc<Stream>);

impl Borrow<StreamKey> for ByKey {
    fn borrow(&self) -> &StreamKey {
        self.0.key()
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key() == other.0.key()
    }
}

impl Eq for ByKey {}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key().cmp(other.0.key())
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct StreamMap {
    streams: BTreeSet<ByKey>,
}

impl StreamMap {
    pub(crate) fn get(&self, key: &StreamKey) -> Option<&Arc<Stream>> {
        self.streams.get(key).map(|found| &found.0)
    }

    pub(crate) fn contains_key(&self, key: &StreamKey) -> bool {
        self.streams.contains(key)
    }

    /// Puts a stream in the place of the one with its key.
    pub(crate) fn insert(&mut self, stream: Arc<Stream>) {
        self.streams.replace(ByKey(stream));
    }

    pub(crate) fn remove(&mut self, key: &StreamKey) {
        self.streams.remove(key);
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<Stream>> {
        self.streams.iter().map(|found| &found.0)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &StreamKey> {
        self.values().map(|stream| stream.key())
    }

    /// Streams from `from` on, by key.
    pub(crate) fn from(&self, from: Bound<&StreamKey>) -> impl Iterator<Item = &Arc<Stream>> {
        self.streams.range::<StreamKey, _>((from, Bound::Unbounded)).map(|found| &found.0)
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }
}
