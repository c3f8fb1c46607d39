//! Settled records that a queue keeps for a while, by when they were settled.

use std::{collections::VecDeque, ops::Range};

use cursor::{Span, Spans};
use model::{Error, Offset, Result};
use roaring::RoaringTreemap;

use crate::codec::{Reader, put_bytes, put_i64, put_u64};

/// Parts that a history's time is divided into: records go at most this fraction of it later than they have to.
const PARTS: u64 = 64;

/// The shortest part, milliseconds.
const PART_MS_MIN: u64 = 1_000;

/// Settled when nobody knows: the notes that were replayed do not say. It counts as now at the first look.
const UNKNOWN_MS: i64 = i64::MAX;

/// Which settled records are kept.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct History {
    /// The time by which all of the part were settled, milliseconds since the Unix epoch, and the part. Those of unknown
    /// time are last.
    parts: VecDeque<(i64, RoaringTreemap)>,
    count: u64,
}

impl History {
    /// How many records are kept.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// How many of them are in `range`.
    pub(crate) fn count_in(&self, range: Range<Offset>) -> u64 {
        self.parts.iter().map(|(_, part)| part.range_cardinality(range.start.0..range.end.0)).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// These were settled at `now_ms`, and are to be kept for `history_ms`.
    pub(crate) fn add(&mut self, spans: &Spans, now_ms: i64, history_ms: u64) {
        let part_ms = (history_ms / PARTS).max(PART_MS_MIN);
        if self.parts.back().is_none_or(|(by_ms, _)| *by_ms < now_ms || *by_ms == UNKNOWN_MS) {
            self.parts.push_back((now_ms.saturating_add_unsigned(part_ms), RoaringTreemap::new()));
        }
        self.add_to_last(spans);
    }

    /// These were settled before a restart.
    pub(crate) fn add_replayed(&mut self, spans: &Spans) {
        if self.parts.back().is_none_or(|(by_ms, _)| *by_ms != UNKNOWN_MS) {
            self.parts.push_back((UNKNOWN_MS, RoaringTreemap::new()));
        }
        self.add_to_last(spans);
    }

    fn add_to_last(&mut self, spans: &Spans) {
        let Some((_, part)) = self.parts.back_mut() else { return };
        self.count += spans.iter().map(|span| part.insert_range(span.start.0..span.end.0)).sum::<u64>();
    }

    /// These left the log.
    pub(crate) fn forget(&mut self, span: Span) {
        for (_, part) in &mut self.parts {
            self.count -= part.remove_range(span.start.0..span.end.0);
        }
        self.parts.retain(|(_, part)| !part.is_empty());
    }

    /// Those whose time is over, oldest first; all of them without a time. They stay until they are forgotten.
    pub(crate) fn due(&mut self, now_ms: i64, history_ms: Option<u64>) -> Spans {
        for (by_ms, _) in &mut self.parts {
            if *by_ms == UNKNOWN_MS {
                *by_ms = now_ms;
            }
        }
        let is_due = |by_ms: i64| {
            history_ms.is_none_or(|history_ms| by_ms.saturating_add_unsigned(history_ms) <= now_ms)
        };
        let due = self.parts.iter().filter(|(by_ms, _)| is_due(*by_ms));
        let mut all = RoaringTreemap::new();
        due.for_each(|(_, part)| all |= part);
        let mut spans = Spans::new();
        all.iter().for_each(|offset| spans.add_one(Offset(offset)));
        spans
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.parts.len() as u64);
        for (by_ms, part) in &self.parts {
            put_i64(out, *by_ms);
            let mut bytes = Vec::new();
            if let Err(error) = part.serialize_into(&mut bytes) {
                // Bitmaps serialise into memory without fail; were it otherwise, a start would refuse what is cut short.
                tracing::error!(%error, "a history did not serialise");
            }
            put_bytes(out, &bytes);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let parts: Vec<(i64, RoaringTreemap)> = reader.list(|reader| {
            let by_ms = reader.i64()?;
            let part = RoaringTreemap::deserialize_from(reader.slice()?);
            Ok((by_ms, part.map_err(|_| Error::corrupt("a bitmap does not read"))?))
        })?;
        let count = parts.iter().map(|(_, part)| part.len()).sum();
        Ok(History { parts: parts.into(), count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(offsets: &[u64]) -> Spans {
        offsets.iter().map(|offset| Span::one(Offset(*offset))).collect()
    }

    const HOUR_MS: u64 = 3_600_000;
    const PART_MS: i64 = 3_600_000 / 64;

    #[test]
    fn records_are_kept_for_the_time_after_they_were_settled_and_not_much_longer() {
        let mut history = History::default();
        history.add(&spans(&[5]), 0, HOUR_MS);
        history.add(&spans(&[1, 2]), PART_MS, HOUR_MS);
        history.add(&spans(&[9]), 10 * PART_MS, HOUR_MS);
        assert_eq!(history.count(), 4);
        assert_eq!(history.due(3_600_000, Some(HOUR_MS)), spans(&[]));
        assert_eq!(history.due(3_600_000 + PART_MS, Some(HOUR_MS)), spans(&[1, 2, 5]));
        assert_eq!(history.due(3_600_000 + 12 * PART_MS, Some(HOUR_MS)), spans(&[1, 2, 5, 9]));
        assert_eq!(history.due(0, None), spans(&[1, 2, 5, 9]));
    }

    #[test]
    fn what_left_the_log_is_forgotten() {
        let mut history = History::default();
        history.add(&spans(&[1, 2, 3]), 0, HOUR_MS);
        history.forget(Span::new(Offset(2), Offset(9)));
        assert_eq!((history.count(), history.due(0, None)), (1, spans(&[1])));
        history.forget(Span::new(Offset(0), Offset(9)));
        assert!(history.is_empty());
        assert_eq!(history, History::default());
    }

    #[test]
    fn what_was_settled_before_a_restart_counts_from_the_first_look_after_it() {
        let mut history = History::default();
        history.add_replayed(&spans(&[1]));
        history.add(&spans(&[2]), 5, HOUR_MS);
        assert_eq!(history.due(1_000, Some(HOUR_MS)), spans(&[]));
        assert_eq!(history.due(1_000 + 3_600_000, Some(HOUR_MS)), spans(&[1]));
    }

    #[test]
    fn a_history_reads_back_and_a_cut_one_is_refused() {
        let mut history = History::default();
        history.add(&spans(&[1, 2, 3, 70_000]), 0, HOUR_MS);
        history.add_replayed(&spans(&[4]));
        let mut bytes = Vec::new();
        history.encode(&mut bytes);
        assert_eq!(History::decode(&mut Reader::new(&bytes)).unwrap(), history);
        for len in 0..bytes.len() {
            assert!(History::decode(&mut Reader::new(&bytes[..len])).is_err(), "cut to {len}");
        }
    }
}
