//! What an order other than by offset needs to know about each record, and how the caller tells it.
//!
//! The index is derived: the log holds keys and priorities. After a restart, and whenever there is room, the cursor
//! [wants](AckCursor::wants) to be told those of the next records.

use std::ops::Range;

use model::{Error, Offset, Result};

use super::{
    AckCursor, Order, RecordState,
    keys::{KeyIndex, KeySharing, OrderingKey, Slot},
    levels::LevelIndex,
};
use crate::{entry::HolderId, spans::Span};

/// The index of a cursor. Each method is told of a change after it has happened to the records of a range; records
/// that are not indexed are passed over.
#[derive(Clone, Debug)]
pub(super) enum Index {
    /// By offset: none needed.
    None,
    Keys(Box<KeyIndex>),
    Levels(Box<LevelIndex>),
}

impl Index {
    pub(super) fn new(order: Order, start: u64) -> Self {
        match order {
            Order::Offset | Order::Keyed(KeySharing::Fair) => Index::None,
            Order::Keyed(sharing) => Index::Keys(Box::new(KeyIndex::new(sharing, start))),
            Order::Priority => Index::Levels(Box::new(LevelIndex::new(start))),
        }
    }

    pub(super) fn is_none(&self) -> bool {
        matches!(self, Index::None)
    }

    /// Whether nothing may be granted before everything is indexed.
    pub(super) fn needs_all(&self) -> bool {
        matches!(self, Index::Levels(_))
    }

    /// The next record for `holder`, if one is ready. The same again until it is leased, parked or gone.
    pub(super) fn next(&self, holder: HolderId) -> Option<u64> {
        match self {
            Index::None => None,
            Index::Keys(keys) => keys.next(holder),
            Index::Levels(levels) => levels.next(),
        }
    }

    pub(super) fn begin_grant(&mut self, holder: HolderId, goes_on: bool) {
        if let Index::Keys(keys) = self {
            keys.begin_grant(holder, goes_on);
        }
    }

    pub(super) fn end_grant(&mut self) {
        if let Index::Keys(keys) = self {
            keys.end_grant();
        }
    }

    pub(super) fn leased(&mut self, range: Range<u64>, holder: HolderId) {
        match self {
            Index::None => {}
            Index::Keys(keys) => keys.set(range, Slot::Leased(holder)),
            Index::Levels(levels) => levels.not_ready(range),
        }
    }

    /// Neither leased nor to be offered.
    pub(super) fn parked(&mut self, range: Range<u64>) {
        match self {
            Index::None => {}
            Index::Keys(keys) => keys.set(range, Slot::Parked),
            Index::Levels(levels) => levels.not_ready(range),
        }
    }

    pub(super) fn ready(&mut self, range: Range<u64>) {
        match self {
            Index::None => {}
            Index::Keys(keys) => keys.set(range, Slot::Ready),
            Index::Levels(levels) => levels.ready(range),
        }
    }

    pub(super) fn gone(&mut self, range: Range<u64>) {
        match self {
            Index::None => {}
            Index::Keys(keys) => keys.gone(range),
            Index::Levels(levels) => levels.gone(range),
        }
    }

    /// From where on records are not indexed, and how many more may be; `None` without an index.
    fn open_part(&self) -> Option<(u64, u64)> {
        match self {
            Index::None => None,
            Index::Keys(keys) => Some((keys.indexed_end, keys.room())),
            Index::Levels(levels) => Some((levels.indexed_end, u64::MAX)),
        }
    }

    pub(super) fn visited(&self) -> u64 {
        match self {
            Index::Keys(keys) => keys.visited,
            Index::None | Index::Levels(_) => 0,
        }
    }

    /// As [`KeyIndex::looks_ahead`].
    pub(super) fn looks_ahead(&self, rest: u64) -> bool {
        matches!(self, Index::Keys(keys) if keys.looks_ahead(rest))
    }

    pub(super) fn footprint(&self) -> usize {
        match self {
            Index::None => 0,
            Index::Keys(keys) => keys.footprint(),
            Index::Levels(levels) => levels.footprint(),
        }
    }
}

impl AckCursor {
    /// Whether records are offered by offset just now: by configuration, or because keys share fairly and none is there.
    pub fn is_by_offset(&self) -> bool {
        self.index.is_none()
    }

    /// Tells a cursor whose keys share fairly that records have keys, `last` the last of them that is known: until that
    /// one is settled the cursor [wants](AckCursor::wants) keys. Nothing happens to a cursor of another order.
    pub fn note_keyed(&mut self, last: Offset) {
        if self.config.order != Order::Keyed(KeySharing::Fair) || last.0 < self.floor {
            return;
        }
        self.keyed_end = self.keyed_end.max(last.0.saturating_add(1));
        if self.index.is_none() {
            self.index = Index::Keys(Box::new(KeyIndex::new(KeySharing::Fair, self.floor)));
        }
    }

    /// Forgets what the order was told: it [wants](AckCursor::wants) to be told again.
    pub fn reindex(&mut self) {
        self.index = Index::new(self.config.order, self.floor);
    }

    /// Lets go of an index that shares fairly between keys of which no record is left.
    pub(super) fn forget_keys(&mut self) {
        if self.config.order == Order::Keyed(KeySharing::Fair) && self.floor >= self.keyed_end {
            self.index = Index::None;
        }
    }

    /// Whether records further on should be told of before the next one is granted, which is of a key that has its share.
    pub(super) fn looks_ahead(&self) -> bool {
        let indexed_end = self.index.open_part().map_or(self.end, |(end, _)| end);
        let rest = self.ready_end().saturating_sub(indexed_end);
        self.index.looks_ahead(rest) && self.wants().is_some()
    }

    /// The records whose keys ([`AckCursor::note_keys`]) or priorities ([`AckCursor::note_levels`]) the cursor's
    /// order needs next; `None` when it knows enough. Records within may be told of in parts, in order.
    pub fn wants(&self) -> Option<Span> {
        let (indexed_end, room) = self.index.open_part()?;
        let from = indexed_end.max(self.floor);
        let gap = self.next_unsettled(from..self.ready_end())?;
        let end = self.ready_end().min(gap.start.saturating_add(room));
        (gap.start < end).then(|| Span::of(gap.start..end))
    }

    /// Tells the ordering keys of the records from `base` on; a record without one waits for nobody. What the window
    /// has no room for is not taken in, and is asked for again later. [`model::ErrorKind::Conflict`] when records
    /// before `base` have to be told first; [`model::ErrorKind::Invalid`] for a cursor of another order.
    pub fn note_keys(&mut self, base: Offset, keys: &[Option<OrderingKey>]) -> Result<()> {
        let Index::Keys(_) = &self.index else {
            return Err(Error::invalid("the cursor does not order by key"));
        };
        for (offset, key) in self.told(base, keys)? {
            let slot = self.slot(offset);
            if key.is_some() {
                self.keyed_end = self.keyed_end.max(offset.saturating_add(1));
            }
            let Index::Keys(index) = &mut self.index else { break };
            if index.room() == 0 {
                break;
            }
            index.add(offset, key.unwrap_or_else(|| OrderingKey::alone(offset)), slot);
        }
        Ok(())
    }

    /// Tells the priorities of the records from `base` on. Errors as [`AckCursor::note_keys`].
    pub fn note_levels(&mut self, base: Offset, levels: &[u8]) -> Result<()> {
        let Index::Levels(_) = &self.index else {
            return Err(Error::invalid("the cursor does not order by priority"));
        };
        for (offset, level) in self.told(base, levels)? {
            let slot = self.slot(offset);
            let Index::Levels(index) = &mut self.index else { break };
            index.add(offset, level, slot == Slot::Ready);
        }
        Ok(())
    }

    /// Those of `values`, for the records from `base` on, that the index lacks.
    fn told<V: Copy>(&self, base: Offset, values: &[V]) -> Result<Vec<(u64, V)>> {
        let Some(wanted) = self.wants() else { return Ok(Vec::new()) };
        if base > wanted.start {
            return Err(Error::conflict(format!("records from {} on have to be told first", wanted.start)));
        }
        let told = (base.0..self.ready_end()).zip(values.iter().copied());
        Ok(told
            .skip_while(|(offset, _)| *offset < wanted.start.0)
            .filter(|(offset, _)| !self.settled.contains(*offset))
            .collect())
    }

    fn slot(&self, offset: u64) -> Slot {
        match self.state(Offset(offset)) {
            RecordState::Leased(lease) => Slot::Leased(lease.holder),
            RecordState::Ready { .. } => Slot::Ready,
            _ => Slot::Parked,
        }
    }
}
