//! Dedup keys: what was published under a key within the stream's window is not published again.
//!
//! A key is kept as a 128-bit hash. Keys age out by the append time of their record. When there are [`KEYS_MAX`] within
//! the window, or the memory for those of all logs ([`DedupRoom`]) is used up, a publish with another key is refused:
//! nothing is forgotten before its time.

use std::{
    collections::{HashMap, VecDeque},
    mem::size_of,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use bytes::Bytes;
use model::{Offset, Result};
use sha2::{Digest, Sha256};

use super::NOTE_DEDUP;
use crate::codec::{Reader, put_i64, put_u64, put_u128};

/// Keys that one log remembers, about 100 bytes each: with a window of five minutes, 14,000 publishes a second all the
/// time. The memory budget may end before.
pub(crate) const KEYS_MAX: usize = 1 << 22;

/// What the first key of a log takes, bytes, rounded up.
const FIRST_LEN: usize = 512;

/// Memory for the dedup keys of all logs.
#[derive(Debug)]
pub(crate) struct DedupRoom {
    used: AtomicUsize,
    max: usize,
}

impl DedupRoom {
    /// Room for `max` bytes.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(DedupRoom { used: AtomicUsize::new(0), max })
    }

    /// Whether a log may take its first key.
    pub(crate) fn has_first(&self) -> bool {
        self.has(FIRST_LEN)
    }

    /// Whether `len` bytes more fit. Publishers of several logs may pass the bound together, by what they grow at once.
    fn has(&self, len: usize) -> bool {
        len == 0 || self.used.load(Ordering::Relaxed).saturating_add(len) <= self.max
    }
}

/// What one log takes of the room; given back when dropped.
#[derive(Debug, Default)]
struct Charge {
    room: Option<Arc<DedupRoom>>,
    len: usize,
}

impl Charge {
    fn set(&mut self, len: usize) {
        let Some(room) = &self.room else { return };
        if len > self.len {
            room.used.fetch_add(len - self.len, Ordering::Relaxed);
        } else {
            room.used.fetch_sub(self.len - len, Ordering::Relaxed);
        }
        self.len = len;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Equal whatever they are: what is remembered is the same.
impl PartialEq for Charge {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Charge {}

/// A dedup key, hashed. Two keys of one hash would need 2^64 others to meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct DedupKey([u64; 2]);

impl DedupKey {
    pub(crate) fn of(key: &[u8]) -> Self {
        let hash = Sha256::digest(key);
        let mut half = [0; 16];
        half.copy_from_slice(&hash[..16]);
        DedupKey::from_bits(u128::from_le_bytes(half))
    }

    fn from_bits(bits: u128) -> Self {
        let half = |shift| u64::try_from(bits >> shift & u128::from(u64::MAX)).unwrap_or_default();
        DedupKey([half(64), half(0)])
    }

    fn bits(self) -> u128 {
        let [high, low] = self.0;
        u128::from(high) << 64 | u128::from(low)
    }
}

/// The dedup keys of one log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dedup {
    by_key: HashMap<DedupKey, (Offset, i64)>,
    /// Oldest first.
    ages: VecDeque<(i64, DedupKey)>,
    charge: Charge,
}

/// Below so many keys no memory is given back.
const SHRINK_MIN: usize = 64;

impl Dedup {
    /// What it takes counts in `room` from here on.
    pub(crate) fn charge_to(&mut self, room: &Arc<DedupRoom>) {
        self.charge = Charge { room: Some(room.clone()), len: 0 };
        self.charge.set(self.held_len());
    }

    /// Whether one more key fits into the room.
    pub(crate) fn has_room(&self) -> bool {
        let Some(room) = &self.charge.room else { return true };
        // Both grow by as much again when they are full.
        let map = if self.by_key.len() == self.by_key.capacity() { self.map_len() } else { 0 };
        let ages = if self.ages.len() == self.ages.capacity() { self.ages_len() } else { 0 };
        room.has(map + ages)
    }

    /// Bytes that it takes.
    fn held_len(&self) -> usize {
        self.map_len() + self.ages_len()
    }

    fn map_len(&self) -> usize {
        // A table is at most seven eighths full, and has a byte beside each entry.
        self.by_key.capacity() / 7 * 8 * (size_of::<(DedupKey, (Offset, i64))>() + 1)
    }

    fn ages_len(&self) -> usize {
        self.ages.capacity() * size_of::<(i64, DedupKey)>()
    }

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
        self.charge.set(self.held_len());
    }

    /// Whether `max` keys are within the window, so that no more are taken.
    pub(crate) fn is_full(&self, max: usize, now_ms: i64, window_ms: u64) -> bool {
        // Those that are too old go with the next one that is noted.
        let Some(last_within) = self.ages.len().checked_sub(max) else { return false };
        let oldest = self.ages.get(last_within);
        oldest.is_some_and(|(at_ms, _)| at_ms.saturating_add_unsigned(window_ms) > now_ms)
    }

    /// Forgets keys from before `since_ms`, and gives back memory when most of it is not needed any more.
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
        let wanted = self.ages.len().max(SHRINK_MIN) * 2;
        if self.ages.capacity() > wanted * 2 {
            self.ages.shrink_to(wanted);
            self.by_key.shrink_to(wanted);
            self.charge.set(self.held_len());
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
    put_u128(out, key.bits());
    put_u64(out, base.0);
    put_i64(out, at_ms);
}

fn read_key(reader: &mut Reader<'_>) -> Result<(DedupKey, Offset, i64)> {
    Ok((DedupKey::from_bits(reader.u128()?), Offset(reader.u64()?), reader.i64()?))
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
    fn what_keys_take_is_charged_to_the_room_and_given_back() {
        let room = DedupRoom::new(64 << 10);
        let used = || room.used.load(Ordering::Relaxed);
        let mut dedup = Dedup::default();
        dedup.note(DedupKey::of(b"before"), Offset(0), 0, u64::MAX);
        dedup.charge_to(&room);
        let mut count = 0u64;
        while dedup.has_room() {
            dedup.note(DedupKey::of(&count.to_be_bytes()), Offset(count), 1, u64::MAX);
            count += 1;
        }
        assert!((400..1_500).contains(&count), "{count} keys in 64 KiB");
        assert!(used() <= 64 << 10);
        let mut other = Dedup::default();
        other.charge_to(&room);
        assert!(!room.has(used()), "one log's keys leave another less room");
        dedup.expire(1);
        assert!(dedup.is_empty() && dedup.has_room());
        assert!(used() < 16 << 10, "{} bytes are kept for no keys", used());
        drop(dedup);
        assert_eq!(used(), 0);
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
