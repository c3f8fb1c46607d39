use super::batch::RecordBatch;
use super::fault::{BatchFault, RecordFault, RecordRefusal};
use super::walk::{Keys, Seen};

/// Refused records that a client is told of one by one; a batch with more is as refused, and the answer stays small.
const REFUSED_MAX: usize = 1_000;

/// What the records of a producer's batch must keep to.
#[derive(Clone, Copy, Debug)]
pub struct RecordRules {
    /// Records need a key: the stream is compacted by key.
    pub needs_key: bool,
    /// Oldest create time allowed, milliseconds since 1970; records without a time pass.
    pub oldest_ms: i64,
    /// Newest create time allowed.
    pub newest_ms: i64,
}

impl Default for RecordRules {
    fn default() -> Self {
        RecordRules { needs_key: false, oldest_ms: i64::MIN, newest_ms: i64::MAX }
    }
}

impl RecordRules {
    fn refusal(&self, seen: &Seen<'_>) -> Option<RecordRefusal> {
        if self.needs_key && !seen.has_key {
            Some(RecordRefusal::NoKey)
        } else if seen.timestamp != -1 && !(self.oldest_ms..=self.newest_ms).contains(&seen.timestamp) {
            Some(RecordRefusal::Timestamp {
                at_ms: seen.timestamp,
                offset_delta: seen.offset_delta,
                oldest_ms: self.oldest_ms,
                newest_ms: self.newest_ms,
            })
        } else {
            None
        }
    }
}

/// What a walk over a batch's records found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordSummary {
    /// The newest record's time, -1 when none has one; differs from the header's where a client wrote that wrongly.
    pub max_timestamp: i64,
    /// Whether the offset deltas of the records do not count up from 0. Old clients number packed records so; like the
    /// original, whoever stores them numbers them anew ([`RecordBatch::renumbered`]).
    pub is_misnumbered: bool,
    /// Records that break a rule, in order, at most a thousand. One is enough to refuse the batch; clients are told of
    /// each (KIP-467).
    pub refused: Vec<RecordFault>,
    /// Bytes that packed records came to; 0 for records that are not packed.
    pub unpacked_len: usize,
}

impl RecordBatch<'_> {
    /// Walks the records and holds each against `rules`, unpacking at most `max_len` bytes. As in the original
    /// (`LogValidator`), records are looked at whether they are packed or not, and keys and values skipped.
    ///
    /// # Errors
    /// When the records cannot be read, are not as many as the header says, or unpack to more than `max_len`.
    pub fn check_records(&self, rules: &RecordRules, max_len: usize) -> Result<RecordSummary, BatchFault> {
        let mut summary = RecordSummary { max_timestamp: -1, ..RecordSummary::default() };
        let mut index = 0;
        let unpacked_len = self.scan(Keys::Skipped, max_len, &mut |seen| {
            summary.max_timestamp = summary.max_timestamp.max(seen.timestamp);
            summary.is_misnumbered |= u32::try_from(seen.offset_delta) != Ok(index);
            if summary.refused.len() < REFUSED_MAX
                && let Some(refusal) = rules.refusal(&seen)
            {
                summary.refused.push(RecordFault { index, refusal });
            }
            index += 1;
            Ok(())
        })?;
        summary.unpacked_len = unpacked_len;
        Ok(summary)
    }
}
