//! Dedup keys: what was published under a key within the stream's window is not published again.
//!
//! A key is kept as a 128-bit hash. Keys age out by the append time of their record. When there are [`KEYS_MAX`] within
//! the window, a publish with another key is refused: nothing is forgotten before its time.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use model::{Offset, Result};
use sha2::{Digest, Sha256};

use super::NOTE_DEDUP;
use crate::codec::{Reader, put_i64, put_u64, put_u128};

/// Keys that one log remembers, about 70 bytes each: with a window of five minutes, 14,000 publishes a second all the time.
pub(crate) const KEYS_MAX: usize = 1 << 22;

/// A dedup key, hashed. Two keys of one hash would need 2^64 others to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DedupKey(u128);

impl DedupKey {
    pub(crate) fn of(key: &[u8]) -> Self {
        let hash = Sha256::digest(key);
        let mut half = [0; 16];
        half.copy_from_slice(&hash[..16]);
        DedupKey(u128::from_le_bytes(half))
    }
}

/// The dedup keys of one log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dedup {
    by_key: HashMap<DedupKey, (Offset, i64)>,
    /// Oldest first.
    ages: VecDeque<(i64, DedupKey)>,
}

impl Dedup {
    /// Where and when the key was published, if that was within the window.
    pub(crate) fn find(&self, key: DedupKey, now_ms: i64, window_ms: u64) -> Option<(Offset, i64)> {
        let found = self.by_key.get(&key).copied();
        found.filter(|(_, at_ms)| at_ms.saturating_add_unsigned(window_ms) > now_ms)
    }

    /// Remembers a key, and forgets those that are older than the window.
    pub(crate) fn note(&mut self, key: DedupKey, base: Offset, at_ms: i64, window_ms: u64) {
        self.by_key.insert(key, (base, at_ms));
        self.ages.push_back((at_ms, key));
        self.expire(at_ms.saturating_sub_unsigned(window_ms));
    }

    /// Whether `max` keys are within the window, so that no more are taken.
    pub(crate) fn is_full(&self, max: usize, now_ms: i64, window_ms: u64) -> bool {
        // Those that are too old go with the next one that is noted.
        let Some(last_within) = self.ages.len().checked_sub(max) else { return false };
        let oldest = self.ages.get(last_within);
        oldest.is_some_and(|(at_ms, _)| at_ms.saturating_add_unsigned(window_ms) > now_ms)
    }

    /// Forgets keys from before `since_ms`.
    pub(crate) fn expire(&mut self, since_ms: i64) {
        while let Some((at_ms, key)) = self.ages.front().copied()
            && at_ms <= since_ms
        {
            self.ages.pop_front();
            // The key may have been published again since.
            if self.by_key.get(&key).is_some_and(|(_, latest_ms)| *latest_ms == at_ms) {
                self.by_key.remove(&key);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ages.is_empty()
    }

    /// The note that tells of a key.
    pub(crate) fn note_of(key: DedupKey, base: Offset, at_ms: i64) -> Bytes {
        let mut out = vec![NOTE_DEDUP];
        put_key(&mut out, key, base, at_ms);
        out.into()
    }

    /// A note that is replayed. The window is not known then: what is too old goes with the next expiry.
    pub(crate) fn replay(&mut self, note: &[u8]) -> Result<()> {
        let mut reader = Reader::new(note);
        let (key, base, at_ms) = read_key(&mut reader)?;
        reader.finish()?;
        self.note(key, base, at_ms, u64::MAX);
        Ok(())
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.ages.len() as u64);
        for (at_ms, key) in &self.ages {
            let base = self.by_key.get(key).map_or(Offset::ZERO, |(base, _)| *base);
            put_key(out, *key, base, *at_ms);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut dedup = Dedup::default();
        for _ in 0..reader.count(18)? {
            let (key, base, at_ms) = read_key(reader)?;
            dedup.note(key, base, at_ms, u64::MAX);
        }
        Ok(dedup)
    }
}

fn put_key(out: &mut Vec<u8>, key: DedupKey, base: Offset, at_ms: i64) {
    put_u128(out, key.0);
    put_u64(out, base.0);
    put_i64(out, at_ms);
}

fn read_key(reader: &mut Reader<'_>) -> Result<(DedupKey, Offset, i64)> {
    Ok((DedupKey(reader.u128()?), Offset(reader.u64()?), reader.i64()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_known_within_its_window_and_no_longer() {
        let mut dedup = Dedup::default();
        let key = DedupKey::of(b"id-1");
        dedup.note(key, Offset(7), 1_000, 100);
        assert_eq!(dedup.find(key, 1_099, 100), Some((Offset(7), 1_000)));
        assert_eq!(dedup.find(key, 1_100, 100), None);
        assert_eq!(dedup.find(DedupKey::of(b"id-2"), 1_000, 100), None);
        dedup.note(DedupKey::of(b"id-2"), Offset(8), 1_100, 100);
        assert_eq!(dedup.ages.len(), 1, "what is too old is forgotten");
    }

    #[test]
    fn no_key_is_taken_while_as_many_as_may_be_are_within_the_window() {
        let mut dedup = Dedup::default();
        assert!(!dedup.is_full(2, 0, 100));
        for (number, at_ms) in [(0u8, 10), (1, 20), (2, 30)] {
            dedup.note(DedupKey::of(&[number]), Offset(u64::from(number)), at_ms, 100);
        }
        for (max, now_ms, expected) in [(4, 30, false), (3, 30, true), (3, 109, true), (3, 110, false)] {
            assert_eq!(dedup.is_full(max, now_ms, 100), expected, "{max} {now_ms}");
        }
        assert_eq!(
            dedup.find(DedupKey::of(&[0]), 109, 100),
            Some((Offset(0), 10)),
            "none was forgotten for others"
        );
    }

    #[test]
    fn keys_survive_notes_and_snapshots() {
        let (mut dedup, mut replayed) = (Dedup::default(), Dedup::default());
        for number in 0..5u8 {
            let (key, base, at_ms) = (DedupKey::of(&[number]), Offset(u64::from(number)), i64::from(number));
            dedup.note(key, base, at_ms, u64::MAX);
            replayed.replay(&Dedup::note_of(key, base, at_ms)[1..]).unwrap();
        }
        assert_eq!(replayed, dedup);
        let mut bytes = Vec::new();
        dedup.encode(&mut bytes);
        assert_eq!(Dedup::decode(&mut Reader::new(&bytes)).unwrap(), dedup);
        assert!(Dedup::decode(&mut Reader::new(&bytes[..bytes.len() - 1])).is_err());
    }
}
