//! What a cursor writes to the log: one entry per decision, small, versioned, replayable.
//!
//! ```text
//! version 1 | kind | kind 0: position change
//!                  | kind 1: count, then that many ack changes (tag, fields; offsets as runs)
//! ```
//! Numbers are varints. Decoding accepts what encoding writes and nothing else.

use bytes::Bytes;
use model::{Error, Offset, Result};

use crate::{
    codec::{Reader, put_bytes, put_i64, put_optional, put_u64},
    position::Commit,
    spans::Spans,
};

/// The layout that this release writes, and the only one it reads.
const VERSION: u8 = 1;
const KIND_POSITION: u8 = 0;
const KIND_ACK: u8 = 1;

/// Who holds a lease: a consumer's session, a named consumer, a member. The broker hands them out; recorded leases
/// keep theirs across a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HolderId(pub u64);

/// How a delivery counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Count {
    /// As if it had not happened.
    Keep,
    /// It counts; what an expired lease does.
    #[default]
    Add,
    /// This many deliveries have happened.
    Set(u32),
}

/// One durable movement of a cursor. Whatever the log replays goes through `apply`, and gives the same state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CursorEntry {
    /// Of a [`crate::PositionCursor`].
    Position(PositionChange),
    /// Of an [`crate::AckCursor`]: everything that one read changed, in order.
    Ack(Vec<AckChange>),
}

/// A change of a position cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PositionChange {
    /// The position moved.
    Commit(Commit),
    /// The position was deleted or expired.
    Clear,
    /// Retention is held back for this cursor up to so many bytes; `None` = not at all.
    Protect(Option<u64>),
}

/// A change of an ack cursor. Each names its records, so that replay needs nothing but the state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AckChange {
    /// Granted; each record's attempt is one more than before.
    Lease {
        /// Which records.
        spans: Spans,
        /// To whom.
        holder: HolderId,
        /// Until when; `None` = until settled.
        deadline_ms: Option<i64>,
        /// When.
        at_ms: i64,
    },
    /// Done with, for whatever reason.
    Settle(Spans),
    /// Given back.
    Release {
        /// Which records.
        spans: Spans,
        /// Not delivered again before; `None` = at once.
        due_ms: Option<i64>,
        /// How the delivery counts.
        count: Count,
    },
    /// Held for longer, or shorter.
    Extend {
        /// Which records.
        spans: Spans,
        /// The new deadline.
        deadline_ms: Option<i64>,
    },
    /// Handed from one holder to another.
    Transfer {
        /// Which records.
        spans: Spans,
        /// The new holder.
        holder: HolderId,
        /// The new deadline.
        deadline_ms: Option<i64>,
        /// When.
        at_ms: i64,
        /// Keep: the attempt stays; add: one more; set: this one.
        count: Count,
    },
    /// Everything below was delivered at least once (leases that are not recorded themselves).
    Delivered(Offset),
    /// The cursor was set to this offset: all below is settled, all from there on was never delivered.
    Seek(Offset),
}

impl CursorEntry {
    /// The bytes of the entry.
    pub fn encode(&self) -> Bytes {
        let mut out = vec![VERSION];
        match self {
            CursorEntry::Position(change) => {
                out.push(KIND_POSITION);
                change.encode(&mut out);
            }
            CursorEntry::Ack(changes) => {
                out.push(KIND_ACK);
                put_u64(&mut out, changes.len() as u64);
                for change in changes {
                    change.encode(&mut out);
                }
            }
        }
        out.into()
    }

    /// The entry of `bytes`; [`model::ErrorKind::Corrupt`] when they are not one, or of a newer release.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return Err(Error::corrupt("a cursor entry of an unknown version"));
        }
        let entry = match reader.u8()? {
            KIND_POSITION => CursorEntry::Position(PositionChange::decode(&mut reader)?),
            KIND_ACK => {
                let count = reader.count(2)?;
                let mut changes = Vec::new();
                for _ in 0..count {
                    changes.push(AckChange::decode(&mut reader)?);
                }
                CursorEntry::Ack(changes)
            }
            _ => return Err(Error::corrupt("a cursor entry of an unknown kind")),
        };
        reader.finish()?;
        Ok(entry)
    }
}

impl PositionChange {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            PositionChange::Commit(commit) => {
                out.push(0);
                commit.encode(out);
            }
            PositionChange::Clear => out.push(1),
            PositionChange::Protect(limit) => {
                out.push(2);
                out.push(u8::from(limit.is_some()));
                put_u64(out, limit.unwrap_or(0));
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(match reader.u8()? {
            0 => PositionChange::Commit(Commit::decode(reader)?),
            1 => PositionChange::Clear,
            2 => {
                let limited = reader.u8()? != 0;
                let limit = reader.u64()?;
                PositionChange::Protect(limited.then_some(limit))
            }
            _ => return Err(Error::corrupt("an unknown change of a position")),
        })
    }
}

impl Count {
    fn encode(self, out: &mut Vec<u8>) {
        match self {
            Count::Keep => out.push(0),
            Count::Add => out.push(1),
            Count::Set(count) => {
                out.push(2);
                put_u64(out, u64::from(count));
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(match reader.u8()? {
            0 => Count::Keep,
            1 => Count::Add,
            2 => Count::Set(reader.u32()?),
            _ => return Err(Error::corrupt("an unknown way to count a delivery")),
        })
    }
}

impl AckChange {
    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            AckChange::Lease { spans, holder, deadline_ms, at_ms } => {
                out.push(0);
                spans.encode(out);
                put_u64(out, holder.0);
                put_optional(out, *deadline_ms);
                put_i64(out, *at_ms);
            }
            AckChange::Settle(spans) => {
                out.push(1);
                spans.encode(out);
            }
            AckChange::Release { spans, due_ms, count } => {
                out.push(2);
                spans.encode(out);
                put_optional(out, *due_ms);
                count.encode(out);
            }
            AckChange::Extend { spans, deadline_ms } => {
                out.push(3);
                spans.encode(out);
                put_optional(out, *deadline_ms);
            }
            AckChange::Transfer { spans, holder, deadline_ms, at_ms, count } => {
                out.push(4);
                spans.encode(out);
                put_u64(out, holder.0);
                put_optional(out, *deadline_ms);
                put_i64(out, *at_ms);
                count.encode(out);
            }
            AckChange::Delivered(end) => {
                out.push(5);
                put_u64(out, end.0);
            }
            AckChange::Seek(to) => {
                out.push(6);
                put_u64(out, to.0);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(match reader.u8()? {
            0 => AckChange::Lease {
                spans: Spans::decode(reader)?,
                holder: HolderId(reader.u64()?),
                deadline_ms: reader.optional()?,
                at_ms: reader.i64()?,
            },
            1 => AckChange::Settle(Spans::decode(reader)?),
            2 => AckChange::Release {
                spans: Spans::decode(reader)?,
                due_ms: reader.optional()?,
                count: Count::decode(reader)?,
            },
            3 => AckChange::Extend { spans: Spans::decode(reader)?, deadline_ms: reader.optional()? },
            4 => AckChange::Transfer {
                spans: Spans::decode(reader)?,
                holder: HolderId(reader.u64()?),
                deadline_ms: reader.optional()?,
                at_ms: reader.i64()?,
                count: Count::decode(reader)?,
            },
            5 => AckChange::Delivered(reader.offset()?),
            6 => AckChange::Seek(reader.offset()?),
            _ => return Err(Error::corrupt("an unknown change of an ack cursor")),
        })
    }
}

impl Commit {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.offset.0);
        put_bytes(out, &self.metadata);
        put_optional(out, self.note);
        put_i64(out, self.committed_at_ms);
        put_optional(out, self.expires_at_ms);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        Ok(Commit {
            offset: reader.offset()?,
            metadata: reader.bytes()?,
            note: reader.optional()?,
            committed_at_ms: reader.i64()?,
            expires_at_ms: reader.optional()?,
        })
    }
}

#[cfg(test)]
mod tests;
