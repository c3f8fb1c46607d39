//! How far a cursor is behind, and whether that is a problem.

use model::{Offset, PartitionIndex, StreamKey};

/// What a cursor's movement on one partition says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LagStatus {
    /// It keeps up.
    Ok,
    /// It moves, and falls behind.
    Lagging,
    /// It commits, and does not move although there is something to read.
    Stalled,
    /// It does not commit any more although there is something to read for long.
    Stopped,
    /// It went back, and is not where it was yet.
    Rewound,
    /// Records that it had not read were deleted.
    Truncated,
}

impl LagStatus {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            LagStatus::Ok => "ok",
            LagStatus::Lagging => "lagging",
            LagStatus::Stalled => "stalled",
            LagStatus::Stopped => "stopped",
            LagStatus::Rewound => "rewound",
            LagStatus::Truncated => "truncated",
        }
    }
}

/// One cursor on one partition.
#[derive(Clone, Debug, PartialEq)]
pub struct LagView {
    /// On which stream.
    pub stream: StreamKey,
    /// On which partition of it.
    pub partition: PartitionIndex,
    /// Where the cursor is.
    pub position: Offset,
    /// First offset that is there.
    pub start: Offset,
    /// End of what can be read.
    pub end: Offset,
    /// Records between the position and the end: what was deleted or never stored does not count.
    pub lag_records: u64,
    /// Stored bytes between the position and the end.
    pub lag_bytes: u64,
    /// Now − append time of the oldest unread record, milliseconds; 0 when there is none.
    pub lag_age_ms: u64,
    /// Time until retention deletes the next unread record, milliseconds: 0 where more bytes or records lie behind it than
    /// stay; `None` = nothing deletes it, or there is none.
    pub retention_headroom_ms: Option<u64>,
    /// Bytes of unread records by which the cursor holds retention back; `None` = it is not protected.
    pub protect_len: Option<u64>,
    /// When it last committed, milliseconds since the Unix epoch.
    pub committed_at_ms: i64,
    /// What its movement says.
    pub status: LagStatus,
}
