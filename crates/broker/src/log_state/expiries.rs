//! When records of a log expire that have a time of their own.

use std::collections::BTreeSet;

use cursor::{Span, Spans};
use model::{Attributes, Offset, Result};

use crate::codec::{Reader, put_i64, put_u64};

/// The time of a record that stays for ever.
const NEVER_MS: i64 = i64::MAX;

/// Records taken out at a time.
const DUE_MAX: usize = 10_000;

/// Times of their own of the records of one log, about 50 bytes each. What left the log before its time is forgotten when
/// that comes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Expiries {
    by_time: BTreeSet<(i64, u64)>,
}

impl Expiries {
    /// Records were appended at `base`.
    pub(crate) fn note(&mut self, base: Offset, count: u32, attributes: &Attributes) {
        for index in 0..count {
            if let Some(expiry_ms) = attributes.of(index).and_then(|row| row.expiry_ms) {
                self.by_time.insert((expiry_ms, base.plus(u64::from(index)).0));
            }
        }
    }

    /// Whether one of these has a time of its own.
    pub(crate) fn are_in(attributes: &Attributes) -> bool {
        attributes.rows().iter().any(|row| row.expiry_ms.is_some())
    }

    /// When the first of them expires, milliseconds since the Unix epoch.
    pub(crate) fn next_ms(&self) -> Option<i64> {
        self.by_time.first().map(|(expiry_ms, _)| *expiry_ms).filter(|expiry_ms| *expiry_ms < NEVER_MS)
    }

    /// The first of the records that stay for ever, whatever the age limit of the log.
    pub(crate) fn first_that_stays(&self) -> Option<Offset> {
        self.by_time.range((NEVER_MS, 0)..).next().map(|(_, offset)| Offset(*offset))
    }

    /// Records of `span` that stay for ever, ascending.
    pub(crate) fn those_that_stay(&self, span: Span) -> impl Iterator<Item = Offset> + '_ {
        let range = (NEVER_MS, span.start.0)..(NEVER_MS, span.end.0.max(span.start.0));
        self.by_time.range(range).map(|(_, offset)| Offset(*offset))
    }

    /// These left the log: those among them that were to stay for ever are forgotten at once, as their time never comes.
    pub(crate) fn forget(&mut self, span: Span) {
        let gone: Vec<u64> = self.those_that_stay(span).map(|offset| offset.0).collect();
        for offset in gone {
            self.by_time.remove(&(NEVER_MS, offset));
        }
    }

    /// Takes out some of those whose time has come.
    pub(crate) fn take_due(&mut self, now_ms: i64) -> Spans {
        let mut due = Spans::new();
        for _ in 0..DUE_MAX {
            match self.by_time.first() {
                Some((expiry_ms, offset)) if *expiry_ms <= now_ms => due.add(Span::one(Offset(*offset))),
                _ => break,
            }
            self.by_time.pop_first();
        }
        due
    }

    /// These could not be dropped when their time had come.
    pub(crate) fn put_back(&mut self, spans: &Spans, at_ms: i64) {
        self.by_time.extend(spans.offsets().map(|offset| (at_ms, offset.0)));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }

    /// ```text
    /// count | (expiry_ms, offset)*
    /// ```
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.by_time.len() as u64);
        for (expiry_ms, offset) in &self.by_time {
            put_i64(out, *expiry_ms);
            put_u64(out, *offset);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let all = reader.list(|reader| Ok((reader.i64()?, reader.u64()?)))?;
        Ok(Expiries { by_time: all.into_iter().collect() })
    }
}
