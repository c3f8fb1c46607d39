//! The offset kind of cursor: one position, moved by commits.

use bytes::Bytes;
use model::{Error, Offset, Result};

use crate::{
    codec::{Reader, put_u64},
    entry::{CursorEntry, PositionChange},
};

/// Bytes of metadata that a commit may carry: what every dialect's length prefix can say, and far above what
/// clients send. Dialects enforce lower ones of their own.
pub const METADATA_LEN_MAX: usize = 32_767;

const VERSION: u8 = 1;

/// A committed position: the next offset to read, and what the committer wanted kept beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The next offset to read. May lie outside of the log: that is the reader's affair.
    pub offset: Offset,
    /// Opaque, at most [`METADATA_LEN_MAX`] bytes.
    pub metadata: Bytes,
    /// An opaque number beside the offset, e.g. the epoch of the owner that the reader last heard from.
    pub note: Option<i64>,
    /// When it was committed, milliseconds since the Unix epoch.
    pub committed_at_ms: i64,
    /// When it lapses by itself, milliseconds since the Unix epoch; `None` = as the cursor's owner decides.
    pub expires_at_ms: Option<i64>,
}

/// A cursor that is one position.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PositionCursor {
    commit: Option<Commit>,
    protect_len: Option<u64>,
}

impl PositionCursor {
    /// A cursor without a position.
    pub fn new() -> Self {
        PositionCursor::default()
    }

    /// The last commit, unless it was cleared.
    pub fn commit(&self) -> Option<&Commit> {
        self.commit.as_ref()
    }

    /// Moves the position, forwards or back. [`model::ErrorKind::Limit`] for metadata that is too long.
    pub fn set(&mut self, commit: Commit) -> Result<CursorEntry> {
        if commit.metadata.len() > METADATA_LEN_MAX {
            return Err(Error::limit(format!("commit metadata is longer than {METADATA_LEN_MAX} bytes")));
        }
        Ok(self.changed(PositionChange::Commit(commit)))
    }

    /// Deletes the position. `None` when there is none.
    pub fn clear(&mut self) -> Option<CursorEntry> {
        self.commit.is_some().then(|| self.changed(PositionChange::Clear))
    }

    /// Deletes the position if its time has come.
    pub fn expire(&mut self, now_ms: i64) -> Option<CursorEntry> {
        self.expires_at_ms().is_some_and(|due| due <= now_ms).then(|| self.changed(PositionChange::Clear))
    }

    /// When the position lapses.
    pub fn expires_at_ms(&self) -> Option<i64> {
        self.commit.as_ref()?.expires_at_ms
    }

    /// Lets this cursor hold retention back by up to `len` bytes of unread records; `None` = not at all.
    pub fn protect(&mut self, len: Option<u64>) -> Option<CursorEntry> {
        (self.protect_len != len).then(|| self.changed(PositionChange::Protect(len)))
    }

    /// Bytes of unread records by which the cursor holds retention back; `None` = it is not protected.
    pub fn protect_len(&self) -> Option<u64> {
        self.protect_len
    }

    /// The offset that retention must not pass, if the cursor is protected and has a position.
    pub fn holds_back(&self) -> Option<Offset> {
        self.protect_len.and(self.commit.as_ref()).map(|commit| commit.offset)
    }

    /// Records between the position and `end`, of a log that starts at `start`.
    pub fn lag(&self, start: Offset, end: Offset) -> Option<u64> {
        self.commit.as_ref().map(|commit| end.since(commit.offset.max(start)))
    }

    /// Takes a replayed entry in. [`model::ErrorKind::Corrupt`] for one of the other kind of cursor.
    pub fn apply(&mut self, entry: &CursorEntry) -> Result<()> {
        match entry {
            CursorEntry::Position(change) => {
                self.take(change.clone());
                Ok(())
            }
            CursorEntry::Ack(_) => Err(Error::corrupt("an ack change was logged for a position cursor")),
        }
    }

    fn changed(&mut self, change: PositionChange) -> CursorEntry {
        self.take(change.clone());
        CursorEntry::Position(change)
    }

    fn take(&mut self, change: PositionChange) {
        match change {
            PositionChange::Commit(commit) => self.commit = Some(commit),
            PositionChange::Clear => self.commit = None,
            PositionChange::Protect(len) => self.protect_len = len,
        }
    }

    /// The state as bytes, for a checkpoint.
    pub fn snapshot(&self) -> Bytes {
        let mut out = vec![VERSION, u8::from(self.protect_len.is_some())];
        put_u64(&mut out, self.protect_len.unwrap_or(0));
        if let Some(commit) = &self.commit {
            commit.encode(&mut out);
        }
        out.into()
    }

    /// The state of a snapshot; [`model::ErrorKind::Corrupt`] when the bytes are not one.
    pub fn restore(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Error::corrupt("a position snapshot of an unknown version"));
        }
        let is_protected = reader.u8()? != 0;
        let len = reader.u64()?;
        let commit = if reader.is_empty() { None } else { Some(Commit::decode(&mut reader)?) };
        reader.finish()?;
        Ok(PositionCursor { commit, protect_len: is_protected.then_some(len) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(offset: u64) -> Commit {
        Commit {
            offset: Offset(offset),
            metadata: Bytes::from_static(b"where I was"),
            note: Some(3),
            committed_at_ms: 1_000,
            expires_at_ms: Some(5_000),
        }
    }

    #[test]
    fn a_replica_that_applies_the_entries_has_the_same_state() {
        let (mut cursor, mut replica) = (PositionCursor::new(), PositionCursor::new());
        let entries = [
            cursor.set(commit(10)).ok(),
            cursor.protect(Some(1 << 20)),
            cursor.set(commit(4)).ok(),
            cursor.expire(4_999),
            cursor.expire(5_000),
            cursor.clear(),
            cursor.set(commit(11)).ok(),
        ];
        for entry in entries.iter().flatten() {
            let read = CursorEntry::decode(&entry.encode()).unwrap();
            replica.apply(&read).unwrap();
        }
        assert_eq!(replica, cursor);
        assert_eq!(PositionCursor::restore(&cursor.snapshot()), Ok(cursor));
        assert!(entries[3].is_none() && entries[4].is_some() && entries[5].is_none());
    }

    #[test]
    fn an_empty_cursor_survives_a_snapshot() {
        let cursor = PositionCursor::new();
        assert_eq!(PositionCursor::restore(&cursor.snapshot()), Ok(cursor));
        assert!(PositionCursor::restore(&[]).is_err());
    }

    #[test]
    fn metadata_is_limited() {
        let mut cursor = PositionCursor::new();
        for (len, is_taken) in
            [(METADATA_LEN_MAX - 1, true), (METADATA_LEN_MAX, true), (METADATA_LEN_MAX + 1, false)]
        {
            let sent = Commit { metadata: vec![b'm'; len].into(), ..commit(1) };
            assert_eq!(cursor.set(sent).is_ok(), is_taken, "{len}");
        }
    }

    #[test]
    fn only_a_protected_cursor_holds_retention_back() {
        let mut cursor = PositionCursor::new();
        cursor.set(commit(7)).unwrap();
        assert_eq!(cursor.holds_back(), None);
        assert!(cursor.protect(Some(100)).is_some());
        assert!(cursor.protect(Some(100)).is_none());
        assert_eq!(cursor.holds_back(), Some(Offset(7)));
    }

    #[test]
    fn lag_is_counted_from_the_start_of_the_log_when_the_position_is_gone() {
        let mut cursor = PositionCursor::new();
        assert_eq!(cursor.lag(Offset(0), Offset(9)), None);
        cursor.set(commit(3)).unwrap();
        assert_eq!(cursor.lag(Offset(0), Offset(9)), Some(6));
        assert_eq!(cursor.lag(Offset(5), Offset(9)), Some(4));
        assert_eq!(cursor.lag(Offset(0), Offset(2)), Some(0));
    }
}
