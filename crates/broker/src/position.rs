//! Cursors of the offset kind: named positions on partitions.

use std::sync::Arc;

use bytes::Bytes;
use model::{Namespace, Offset, PartitionIndex, StreamKey};

/// Names a cursor. One cursor may hold positions on many partitions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CursorKey {
    /// Where it lives.
    pub namespace: Namespace,
    /// Its name.
    pub name: Arc<str>,
}

impl CursorKey {
    /// The cursor `name` in `namespace`.
    pub fn new(namespace: &Namespace, name: &str) -> Self {
        CursorKey { namespace: namespace.clone(), name: name.into() }
    }
}

/// A committed position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The next offset to read.
    pub offset: Offset,
    /// A number that the committer wants kept beside it, e.g. the owner epoch that it last read under.
    pub note: Option<i64>,
    /// Opaque to the broker.
    pub metadata: Bytes,
    /// When it was committed, milliseconds since the Unix epoch; 0 in a commit means now.
    pub committed_at_ms: i64,
    /// When it lapses, milliseconds since the Unix epoch; `None` = when its owner deletes it.
    pub expires_at_ms: Option<i64>,
}

impl Position {
    /// The position `offset`, committed now, without an end.
    pub fn at(offset: Offset) -> Self {
        Position { offset, note: None, metadata: Bytes::new(), committed_at_ms: 0, expires_at_ms: None }
    }
}

/// One of a cursor's positions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionView {
    /// On which stream.
    pub stream: StreamKey,
    /// On which partition of it.
    pub partition: PartitionIndex,
    /// Where.
    pub position: Position,
}
