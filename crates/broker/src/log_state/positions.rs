//! The positions that cursors hold on one log, and how they moved lately.
//!
//! A note is the cursor's name and one change; the name travels along, so that no table has to map numbers to names
//! and a cursor is gone when its last position is.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use cursor::{CursorEntry, PositionCursor};
use model::{Offset, Result};

use super::NOTE_POSITION;
use crate::{
    catalog::command::{put_namespace, read_namespace},
    codec::{Reader, put_bytes, put_u64},
    position::CursorKey,
};

/// Commits that are remembered to judge a cursor's movement.
pub(crate) const MOVES_KEPT: usize = 10;

/// One remembered commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    pub at_ms: i64,
    pub offset: Offset,
    /// Offsets behind after it; 0 where none of them has a record.
    pub lag: u64,
}

/// How a cursor moved. In memory only: a restart begins to look anew.
#[derive(Clone, Default)]
pub(crate) struct Movement {
    /// The last [`MOVES_KEPT`] commits, oldest first.
    pub steps: VecDeque<Move>,
    /// The furthest commit of all.
    pub furthest: Offset,
}

/// One cursor on this log.
#[derive(Default)]
pub(crate) struct Held {
    pub cursor: PositionCursor,
    /// How it moved.
    pub movement: Movement,
    /// Times of the first unread record when they were last asked for: they cost a read, perhaps from the disk.
    pub unread: Option<Unread>,
}

/// Times of the first record at or after an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unread {
    pub from: Offset,
    /// When it was appended, milliseconds since the Unix epoch.
    pub append_time_ms: i64,
    /// The time that retention goes by, milliseconds since the Unix epoch.
    pub time_ms: i64,
}

/// Every cursor with a position on this log.
#[derive(Default)]
pub(crate) struct Positions {
    pub by_cursor: BTreeMap<Arc<CursorKey>, Held>,
}

impl Positions {
    /// The note that tells of `change`.
    pub(crate) fn note(key: &CursorKey, change: &CursorEntry) -> Bytes {
        let mut out = vec![NOTE_POSITION];
        put_cursor_key(&mut out, key);
        out.extend_from_slice(&change.encode());
        out.into()
    }

    pub(crate) fn replay(&mut self, note: &[u8]) -> Result<()> {
        let mut reader = Reader::new(note);
        let key = Arc::new(read_cursor_key(&mut reader)?);
        let change = CursorEntry::decode(reader.rest())?;
        let held = self.by_cursor.entry(key.clone()).or_default();
        held.cursor.apply(&change)?;
        if is_idle(&held.cursor) {
            self.by_cursor.remove(&key);
        }
        Ok(())
    }

    /// The lowest offset that protected cursors hold, with how many bytes each may hold back.
    pub(crate) fn protected(&self) -> impl Iterator<Item = (Offset, u64)> + '_ {
        self.by_cursor
            .values()
            .filter_map(|held| Some((held.cursor.holds_back()?, held.cursor.protect_len()?)))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.by_cursor.len() as u64);
        for (key, held) in &self.by_cursor {
            put_cursor_key(out, key);
            put_bytes(out, &held.cursor.snapshot());
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut positions = Positions::default();
        for _ in 0..reader.count(2)? {
            let key = Arc::new(read_cursor_key(reader)?);
            let cursor = PositionCursor::restore(reader.slice()?)?;
            positions.by_cursor.insert(key, Held { cursor, ..Held::default() });
        }
        Ok(positions)
    }
}

/// Whether nothing is worth keeping of it.
pub(crate) fn is_idle(cursor: &PositionCursor) -> bool {
    cursor.commit().is_none() && cursor.protect_len().is_none()
}

impl Movement {
    pub(crate) fn add(&mut self, step: Move) {
        if self.steps.len() == MOVES_KEPT {
            self.steps.pop_front();
        }
        self.furthest = self.furthest.max(step.offset);
        self.steps.push_back(step);
    }
}

fn put_cursor_key(out: &mut Vec<u8>, key: &CursorKey) {
    put_namespace(out, &key.namespace);
    put_bytes(out, key.name.as_bytes());
}

fn read_cursor_key(reader: &mut Reader<'_>) -> Result<CursorKey> {
    let namespace = read_namespace(reader)?;
    Ok(CursorKey::new(&namespace, reader.text()?))
}
