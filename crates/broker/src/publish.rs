//! What is published together, under which conditions, and what came of it.

use std::sync::Arc;

use bytes::Bytes;
use model::{Attributes, Batch, BatchFlags, Error, FormatTag, Offset, Origin, ProducerStamp, Seq};
use route::Pattern;
use store::{Durability, Stamp};

use crate::{
    log_state::surplus::counted_len,
    routing::Live,
    stream::Partition,
    work::{Settled, Settlement},
};

/// Appends that become durable together or not at all.
#[derive(Default)]
pub struct PublishUnit {
    /// In the order in which they apply. Several may name one partition.
    pub appends: Vec<Append>,
    /// Where the appends go as well, by routes.
    pub followers: Vec<Follower>,
    /// Who is served on the spot, by routes.
    pub live: Vec<Live>,
    /// Settled in the same unit, unless nothing is appended under [`Extent::All`]. A [`crate::Verdict::Reject`] takes the
    /// record away; moving it is one of the appends.
    pub settlements: Vec<Settlement>,
    /// What a refused append means for the others.
    pub extent: Extent,
}

/// What a refused append means for the others of its unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// The others are appended all the same.
    #[default]
    Each,
    /// Nothing is appended unless everything is. Duplicates count as appended.
    All,
}

/// A further target of a publish: a copy that stands and falls with one of the appends. When either is refused, neither is
/// appended, and the append's outcome is that refusal; when the append is a duplicate, there is a copy already. Followers
/// have no outcomes of their own.
pub struct Follower {
    /// Which append of the unit it goes with, by index.
    pub of: usize,
    /// The copy.
    pub append: Append,
}

impl PublishUnit {
    /// Independent appends.
    pub fn of(appends: Vec<Append>) -> Self {
        PublishUnit { appends, ..PublishUnit::default() }
    }
}

/// One batch for one partition.
pub struct Append {
    /// Where it goes.
    pub partition: Arc<Partition>,
    /// What goes there.
    pub batch: NewBatch,
    /// What must hold.
    pub conditions: Conditions,
}

impl NewBatch {
    /// Bytes that its records count for where only what is ready counts, if it or its rows say so.
    pub(crate) fn counted(&self) -> Option<u64> {
        self.counted_len.or_else(|| counted_len(self.count, &self.attributes))
    }

    /// The batch as it would be stored first in a log: for [`model::Format`], which reads stored batches.
    pub(crate) fn as_stored(&self) -> Batch {
        Batch {
            base: Offset::ZERO,
            count: self.count,
            append_time_ms: 0,
            max_event_time_ms: self.max_event_time_ms,
            format: self.format,
            flags: self.flags,
            producer: self.producer,
            origin: self.origin,
            attributes: self.attributes.clone(),
            body: self.body.clone(),
        }
    }
}

impl Append {
    /// An append without conditions other than its producer's sequence.
    pub fn new(partition: &Arc<Partition>, batch: NewBatch) -> Self {
        Append { partition: partition.clone(), batch, conditions: Conditions::default() }
    }
}

/// A batch before it has an offset; see [`model::Batch`] for the fields of the same name.
#[derive(Clone, Debug, Default)]
pub struct NewBatch {
    /// How many records, 1..=[`model::limits::BATCH_RECORDS_MAX`].
    pub count: u32,
    /// Format of `body`.
    pub format: FormatTag,
    /// Transactional, control.
    pub flags: BatchFlags,
    /// Producer identity; its sequence is a condition of the append.
    pub producer: Option<ProducerStamp>,
    /// Where the record was appended first, when it is moved.
    pub origin: Option<Origin>,
    /// What the broker decides on.
    pub attributes: Attributes,
    /// Latest event time, milliseconds since the Unix epoch, where the producer gave one.
    pub max_event_time_ms: Option<i64>,
    /// The bytes as the producing protocol sent them.
    pub body: Bytes,
    /// Writes offset, epoch and append time into the bytes.
    pub stamp: Option<Stamp>,
    /// Overrides the stream's durability, for messages that ask to be transient.
    pub durability: Option<Durability>,
    /// Which records leave with its append.
    pub replaces: Replaces,
    /// Length of the longest record, bytes, as limits count it; `None` = the attributes say it, or else the format is
    /// asked where the stream limits it.
    pub longest_len: Option<u32>,
    /// Bytes that its records count for in the length of a queue of which only what is ready counts; `None` = the
    /// attributes say it.
    pub counted_len: Option<u64>,
}

/// Which earlier records leave in the unit that appends a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replaces {
    /// None.
    #[default]
    Nothing,
    /// Those under the route key of the batch's first record, where the stream indexes them.
    SameKey,
    /// All of them.
    Everything,
}

/// What must hold of the partition, as staged, for an append to happen. The default asks nothing.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// The partition's end must be here.
    pub expected_end: Option<Offset>,
    /// The last record under this route key must have this offset; `None` = there must be none.
    pub expected_key_last: Option<(Bytes, Option<Offset>)>,
    /// The last record under any route key that the pattern matches must have this offset; `None` = there must be none.
    pub expected_pattern_last: Option<(Pattern, Option<Offset>)>,
    /// The last record of the partition must have been published under this dedup key, within the stream's window.
    pub expected_last_dedup_key: Option<Bytes>,
    /// The dedup key is asked after everything that is expected: a repeated publish whose expectations no longer hold is
    /// refused, not a duplicate.
    pub is_dedup_last: bool,
    /// A publish of the same key within the stream's window is a duplicate.
    pub dedup_key: Option<Bytes>,
    /// Append at this offset, at or above the end, with this append time (mirrors, restores).
    pub placed_at: Option<(Offset, i64)>,
}

/// What came of a unit.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// One outcome per append, in their order; those of followers are in them.
    pub outcomes: Vec<Outcome>,
    /// What each settlement took effect on; empty when the unit had none, or they were not made.
    pub settled: Vec<Settled>,
    /// Pass this to [`crate::Broker::durable`] before answering, also when everything was a duplicate or refused: the
    /// answer may rest on records that are staged.
    pub wait: Seq,
}

/// What came of one append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has offsets from `base` on, and is readable once durable.
    Appended {
        /// Offset of the first record.
        base: Offset,
        /// Append time, milliseconds since the Unix epoch.
        append_time_ms: i64,
    },
    /// It was there already.
    Duplicate {
        /// Offset of the first record of the first publish.
        base: Offset,
        /// Append time of the first publish, milliseconds since the Unix epoch.
        append_time_ms: i64,
    },
    /// Nothing was appended.
    Refused(Refusal),
}

/// Why nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub reason: RefusalReason,
    /// For people, with its kind.
    pub error: Error,
}

/// Why nothing was appended, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RefusalReason {
    /// The producer skipped sequence numbers.
    SequenceGap,
    /// The batch overlaps others of its producer without being one of those remembered.
    SequenceStale,
    /// A newer incarnation of the producer has been here.
    ProducerFenced,
    /// The batch is longer or has more records than the stream or the program allows.
    TooLarge,
    /// The stream is at its limit and refuses.
    Full,
    /// The stream was deleted.
    Closed,
    /// An expectation of [`Conditions`] does not hold.
    ConditionFailed,
    /// The batch itself is not right (no records, an impossible place).
    Invalid,
    /// Another append of an [`Extent::All`] unit was refused.
    OthersRefused,
}
