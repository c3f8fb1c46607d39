//! Identifiers and positions. Each is its own type, so that one is never passed for another.

use std::fmt;

/// Position of a record in one log, 0-based, never reused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub u64);

impl Offset {
    /// The first offset of every log that was not created further on.
    pub const ZERO: Offset = Offset(0);

    /// The offset `count` records later. Offsets stay below 2^63, so that every dialect can show them signed;
    /// the engine refuses appends long before that bound.
    #[must_use]
    pub const fn plus(self, count: u64) -> Offset {
        Offset(self.0.saturating_add(count))
    }

    /// How many offsets lie between `earlier` and this one; 0 when `earlier` is later.
    #[must_use]
    pub const fn since(self, earlier: Offset) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// One log (one partition of one incarnation of a stream). Never reused within a data directory.
    LogId(u64)
}
id! {
    /// Sequence number of an atomic unit in the write-ahead log: the commit order. Never reused within a data
    /// directory; the durable position is the highest sequence that a sync covers.
    Seq(u64)
}
id! {
    /// One cursor. Never reused within a data directory.
    CursorId(u64)
}
id! {
    /// One incarnation of a stream: a stream that is deleted and created again has another. Random 128 bits.
    StreamId(u128)
}
id! {
    /// Which partition of a stream, 0-based.
    PartitionIndex(u32)
}
id! {
    /// Rises whenever the ownership of a log moves, and whenever a start had to cut or skip offsets.
    OwnerEpoch(u32)
}
id! {
    /// Names the format of a batch's bytes; see [`crate::Format`]. 0 is never used.
    FormatTag(u16)
}
