//! Dead letters that a dialect takes along routes of its own, instead of to one stream.

use std::{cell::Cell, sync::Arc};

use model::{Batch, Offset, Place, Result, Seq};

use crate::{NewBatch, Partition, Stream, StreamSettings};

/// Names, among a stream's extras, the dialect that takes its dead letters: the only one that the broker reads.
pub const DEAD_LETTERS: &str = "dead-letters";

/// Names, among a stream's extras, the dialect that leaves something in place of the last record of a route key when that
/// expires: for its age, or because its own time is over. Needs the stream's index of route keys.
pub const SUCCESSORS: &str = "successors";

/// Why a record goes to the dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LetterReason {
    /// Its holder rejected it.
    Rejected,
    /// It was delivered as often as allowed.
    Exhausted,
    /// Its time to live is over.
    Expired,
    /// Its stream is above its length.
    Excess,
}

/// A record on its way to the dead letters.
pub struct Letter<'a> {
    /// The stream that it leaves.
    pub stream: &'a Stream,
    /// The batch that it is in.
    pub batch: &'a Batch,
    /// Its index there.
    pub index: u32,
    /// Its offset.
    pub offset: Offset,
    /// Why it leaves.
    pub reason: LetterReason,
    /// Where in the batch it is looked for, if its format knows places; letters of one batch share it.
    pub place: &'a Cell<Place>,
}

/// A dialect that takes dead letters where its own routes lead; see [`crate::Broker::register_dead_letters`].
pub trait DeadLetters: Send + Sync {
    /// Where a record goes, as it is stored there; nowhere: it is gone. All of it happens in the unit that takes the
    /// record away. No lock is held. An error leaves the record where it is.
    fn route(&self, letter: &Letter<'_>) -> Result<Vec<(Arc<Partition>, NewBatch)>>;

    /// Whether a queue gets no letters while it is full. Others get them beyond their length. No lock is held.
    fn refuses(&self, _target: &Stream) -> bool {
        false
    }

    /// Where a record is kept, instead of going where [`DeadLetters::route`] says, when one of these is full and refuses
    /// what is published to it. Nowhere: it goes there, as far as those do not [refuse](DeadLetters::refuses) letters.
    fn keep(&self, _letter: &Letter<'_>) -> Result<Option<(Arc<Partition>, NewBatch)>> {
        Ok(None)
    }
}

/// A dialect that leaves something in place of expired records; see [`crate::Broker::register_successors`].
pub trait Successors: Send + Sync {
    /// What is stored in place of a record, under the same `route_key`, in the unit that takes the record away; nothing:
    /// it is gone. No lock is held. An error leaves the record where it is.
    fn successor(&self, letter: &Letter<'_>, route_key: &[u8], now_ms: i64) -> Result<Option<NewBatch>>;

    /// What [`Successors::successor`] gave was staged. Not to block.
    fn stored(&self, successor: &Succeeded<'_>) {
        let _nobody_is_told = successor;
    }
}

/// What was left in place of a record.
pub struct Succeeded<'a> {
    /// The stream.
    pub stream: &'a Stream,
    /// The route key of both.
    pub route_key: &'a [u8],
    /// The record that it took the place of.
    pub before: Offset,
    /// What it is.
    pub batch: NewBatch,
    /// Its own place.
    pub at: Offset,
    /// When, milliseconds since the Unix epoch.
    pub append_time_ms: i64,
    /// Pass this to [`crate::Broker::durable`] before anybody hears of it.
    pub wait: Seq,
}

impl StreamSettings {
    /// Whether its dead letters go somewhere.
    pub(crate) fn has_dead_letters(&self) -> bool {
        self.dead_letter.is_some() || self.extras.contains_key(DEAD_LETTERS)
    }
}
