//! Position and ack cursors as pure state machines: how far a log was read, and what became of each record.
//!
//! Three types to know. [`PositionCursor`] is one committed offset with what was kept beside it. [`AckCursor`] knows
//! for every record of a log whether it is ready, leased, delayed, exhausted or settled. [`CursorEntry`] is what
//! either writes to the log: whatever replays the entries has the same state.
//!
//! # Driving an ack cursor
//!
//! - Tell it what the log has: [`AckCursor::note_appended`] (readable end), [`AckCursor::skip`] (gaps, trims, what a
//!   filter does not match), [`AckCursor::hold_from`] (a uniform delay, as a position), and for the orders that
//!   choose, keys or priorities of the span that [`AckCursor::wants`] names.
//! - Grant: [`AckCursor::lease`] with an [`Ask`] (holder, [`Allowance`], deadline, [`LeaseKind`]) and a closure that
//!   says of each candidate whether it is here, a gap, or still to be read. The [`Grant`] has runs with attempts; its
//!   [`Grant::mask`] over a batch is what a delivery carries; [`Stop`] says why there is no more.
//! - Settle: [`AckCursor::settle`] with [`Spans`], a [`Claim`] and a [`Verdict`]. Accept and reject are both
//!   [`Verdict::Settle`]: the difference is whether the caller moves the record elsewhere in the same unit.
//!   `Settled::done` are the drops of a queue.
//! - Log: both add to a [`Changes`], one per read and cursor; [`Changes::into_entry`] is the entry for the same unit.
//! - Time: [`AckCursor::next_due_ms`] goes into a [`Deadlines`]; [`AckCursor::expire`] when it has come.
//! - Dead letters: [`AckCursor::exhausted`] names what was delivered as often as allowed. Move and settle it in one
//!   unit, or leave it: it is not offered again.
//! - Checkpoint: [`AckCursor::snapshot`]. Restart: [`AckCursor::restore`], [`AckCursor::apply`] for each entry since,
//!   then the log's end and gaps again.
//!
//! Who is next among several consumers is [`Subscriptions`]; what they may have out together is [`Credit`].
//!
//! # Invariants
//!
//! - No I/O, no clock, no locks, no async: `now_ms` is an argument (milliseconds since the Unix epoch).
//! - A record has at most one lease. A settled record is never granted again, unless the cursor is set back.
//! - Every durable change is in the entry, and replay needs nothing else. Expiry is not logged: deadlines are state.
//! - What waits costs nothing; what is out, returned or settled early costs runs and compressed bitmaps.
//!
//! Not for: reading records, deciding what a record is worth, moving dead letters, waking anybody.

#![forbid(unsafe_code)]

mod ack;
mod codec;
mod credit;
mod deadlines;
mod entry;
mod position;
mod range_map;
mod spans;
mod subscriptions;

pub use ack::{
    AckConfig, AckCursor, Ask, Changes, Claim, Counts, Exhaust, Expired, Grant, GrantRun, KEY_WINDOW,
    KeySharing, Lease, LeaseKind, Look, Order, OrderingKey, Outstanding, RecordState, Settled, Stop, Verdict,
};
pub use credit::{Allowance, Credit, Oversize};
pub use deadlines::Deadlines;
pub use entry::{AckChange, Count, CursorEntry, HolderId, PositionChange};
pub use position::{Commit, METADATA_LEN_MAX, PositionCursor};
pub use spans::{Mask, Span, Spans};
pub use subscriptions::{GroupId, Sharing, Subscription, Subscriptions};
