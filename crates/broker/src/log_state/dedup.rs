//! Dedup keys: what was published under a key within the stream's window is not published again.
//!
//! A key is kept as a 128-bit hash. Keys age out by the append time of their record. When there are [`KEYS_MAX`] within
//! the window, or the memory for those of all logs ([`LogRoom`]) is used up, a publish with another key is refused:
//! nothing is forgotten before its time. Keys lie in buckets of [`BUCKET_KEYS`] in the order of their times; a full one is
//! closed, and written to the disk once, however many checkpoints it outlives.

use std::{
    collections::{HashMap, VecDeque},
    mem::size_of,
    sync::Arc,
};

use bytes::Bytes;
use model::{Error, ErrorKind, Offset, Result};
use sha2::{Digest, Sha256};
use store::Annex;

use super::{
    NOTE_DEDUP,
    room::{Charge, LogRoom},
};
use crate::codec::{Reader, put_bytes, put_i64, put_u64, put_u128};

/// Keys that one log remembers, about 100 bytes each: with a window of five minutes, 14,000 publishes a second all the
/// time. The memory budget may end before.
pub(crate) const KEYS_MAX: usize = 1 << 22;

/// Keys of a bucket: a MiB on the disk. What a checkpoint holds itself, and copies under the log's lock, is less.
const BUCKET_KEYS: usize = 1 << 15;

/// What the first key of a log takes, bytes, rounded up.
pub(super) const FIRST_LEN: usize = 512;

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

/// What is known of a key, in a bucket.
///
/// ```text
/// key 16 | base offset u64 | append time i64, little-endian all
/// ```
#[derive(Clone, Copy, Debug)]
struct Row {
    key: DedupKey,
    base: Offset,
    at_ms: i64,
}

const ROW_LEN: usize = 32;
const BUCKET_LEN: usize = BUCKET_KEYS * ROW_LEN;

impl Row {
    fn put(&self, out: &mut Vec<u8>) {
        put_u128(out, self.key.bits());
        out.extend_from_slice(&self.base.0.to_le_bytes());
        out.extend_from_slice(&self.at_ms.to_le_bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Result<Row> {
        let key = DedupKey::from_bits(reader.u128()?);
        Ok(Row { key, base: Offset(reader.u64_fixed()?), at_ms: reader.u64_fixed()?.cast_signed() })
    }
}

/// The dedup keys of one log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Dedup {
    by_key: HashMap<DedupKey, (Offset, i64)>,
    /// Full buckets, oldest first.
    closed: VecDeque<Arc<Annex>>,
    /// Rows behind those.
    open: Vec<u8>,
    /// Rows of the oldest bucket that are forgotten.
    gone: usize,
    charge: Charge,
}

/// Below so many keys no memory is given back.
const SHRINK_MIN: usize = 64;

impl Dedup {
    /// What it takes counts in `room` from here on.
    pub(crate) fn charge_to(&mut self, room: &Arc<LogRoom>) {
        self.charge = Charge::to(room);
        self.charge.set(self.held_len());
    }

    /// Whether one more key fits into the room.
    pub(crate) fn has_room(&self) -> bool {
        let Some(room) = self.charge.room() else { return true };
        // Both grow by as much again when they are full.
        let map = if self.by_key.len() == self.by_key.capacity() { self.map_len() } else { 0 };
        let open = if self.open.len() == self.open.capacity() { self.open.capacity() } else { 0 };
        room.has(map + open)
    }

    /// Bytes that it takes.
    fn held_len(&self) -> usize {
        self.map_len() + self.closed.len() * BUCKET_LEN + self.open.capacity()
    }

    fn map_len(&self) -> usize {
        // A table is at most seven eighths full, and has a byte beside each entry.
        self.by_key.capacity() / 7 * 8 * (size_of::<(DedupKey, (Offset, i64))>() + 1)
    }

    /// How many rows there are.
    fn rows(&self) -> usize {
        self.closed.len() * BUCKET_KEYS + self.open.len() / ROW_LEN - self.gone
    }

    /// The row at `index`, the oldest being the first.
    fn row(&self, index: usize) -> Option<Row> {
        let (bucket, row) = ((self.gone + index) / BUCKET_KEYS, (self.gone + index) % BUCKET_KEYS);
        let rows = match self.closed.get(bucket) {
            Some(closed) => closed.bytes().as_ref(),
            None => self.open.get((bucket - self.closed.len()) * BUCKET_LEN..)?,
        };
        Row::take(&mut Reader::new(rows.get(row * ROW_LEN..)?)).ok()
    }

    /// Where and when the key was published, if that was within the window.
    pub(crate) fn find(&self, key: DedupKey, now_ms: i64, window_ms: u64) -> Option<(Offset, i64)> {
        let found = self.by_key.get(&key).copied();
        found.filter(|(_, at_ms)| at_ms.saturating_add_unsigned(window_ms) > now_ms)
    }

    /// Remembers a key, and forgets those that are older than the window.
    pub(crate) fn note(&mut self, key: DedupKey, base: Offset, at_ms: i64, window_ms: u64) {
        self.by_key.insert(key, (base, at_ms));
        Row { key, base, at_ms }.put(&mut self.open);
        if self.open.len() == BUCKET_LEN {
            self.closed.push_back(Annex::new(std::mem::take(&mut self.open)));
        }
        self.expire(at_ms.saturating_sub_unsigned(window_ms));
        self.charge.set(self.held_len());
    }

    /// Whether `max` keys are within the window, so that no more are taken.
    pub(crate) fn is_full(&self, max: usize, now_ms: i64, window_ms: u64) -> bool {
        // Those that are too old go with the next one that is noted.
        let Some(last_within) = self.rows().checked_sub(max) else { return false };
        let oldest = self.row(last_within);
        oldest.is_some_and(|row| row.at_ms.saturating_add_unsigned(window_ms) > now_ms)
    }

    /// Forgets keys from before `since_ms`, and gives back memory when most of it is not needed any more.
    pub(crate) fn expire(&mut self, since_ms: i64) {
        while let Some(row) = self.row(0).filter(|row| row.at_ms <= since_ms) {
            self.gone += 1;
            if self.gone == BUCKET_KEYS && self.closed.pop_front().is_some() {
                self.gone = 0;
            }
            // The key may have been published again since.
            if self.by_key.get(&row.key).is_some_and(|(_, latest_ms)| *latest_ms == row.at_ms) {
                self.by_key.remove(&row.key);
            }
        }
        if self.closed.is_empty() && self.gone * ROW_LEN * 2 >= self.open.len() {
            self.open.drain(..self.gone * ROW_LEN);
            self.gone = 0;
        }
        let wanted = self.rows().max(SHRINK_MIN) * 2;
        if self.by_key.capacity() > wanted * 2 {
            self.by_key.shrink_to(wanted);
            self.open.shrink_to(wanted * ROW_LEN);
            self.charge.set(self.held_len());
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rows() == 0
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

    /// ```text
    /// closed buckets: count, then the number of each | rows that are not closed, length first
    /// ```
    pub(crate) fn encode(&self, out: &mut Vec<u8>, annex: &mut dyn FnMut(&Arc<Annex>) -> u64) {
        put_u64(out, self.closed.len() as u64);
        self.closed.iter().for_each(|closed| put_u64(out, annex(closed)));
        put_bytes(out, &self.open);
    }

    /// A bucket that is damaged or gone is reported and left out: its keys are forgotten, and nothing else is harmed.
    pub(crate) fn decode(reader: &mut Reader<'_>, annex: &dyn Fn(u64) -> Result<Arc<Annex>>) -> Result<Self> {
        let mut dedup = Dedup::default();
        for _ in 0..reader.count(1)? {
            match annex(reader.u64()?).and_then(whole) {
                Ok(bucket) => {
                    dedup.take_rows(bucket.bytes())?;
                    dedup.closed.push_back(bucket);
                }
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    tracing::error!(%error, "dedup keys do not read; what was published under them may be again");
                }
                Err(error) => return Err(error),
            }
        }
        let open = reader.slice()?;
        if open.len() >= BUCKET_LEN {
            return Err(Error::corrupt("a bucket of dedup keys is too long"));
        }
        dedup.take_rows(open)?;
        dedup.open = open.to_vec();
        Ok(dedup)
    }

    fn take_rows(&mut self, rows: &[u8]) -> Result<()> {
        let mut reader = Reader::new(rows);
        while !reader.is_empty() {
            let row = Row::take(&mut reader)?;
            self.by_key.insert(row.key, (row.base, row.at_ms));
        }
        Ok(())
    }
}

/// A bucket, if it is as long as a full one.
fn whole(bucket: Arc<Annex>) -> Result<Arc<Annex>> {
    match bucket.bytes().len() {
        BUCKET_LEN => Ok(bucket),
        len => Err(Error::corrupt(format!("a bucket of dedup keys has {len} bytes"))),
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
        assert_eq!(dedup.rows(), 1, "what is too old is forgotten");
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
        let room = LogRoom::new(64 << 10);
        let used = || room.used_len();
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

    /// Through a checkpoint, with what it named.
    fn restored(dedup: &Dedup, is_there: impl Fn(u64) -> bool) -> Result<Dedup> {
        let (mut bytes, mut named) = (Vec::new(), Vec::new());
        dedup.encode(&mut bytes, &mut |annex| {
            named.push(annex.clone());
            named.len() as u64
        });
        let mut reader = Reader::new(&bytes);
        let read = Dedup::decode(&mut reader, &|number| match named.get(number as usize - 1) {
            Some(annex) if is_there(number) => Ok(annex.clone()),
            _ => Err(Error::not_found("gone")),
        });
        reader.finish()?;
        read
    }

    fn key(number: u64) -> DedupKey {
        DedupKey::of(&number.to_be_bytes())
    }

    /// Key `n` published at `n` milliseconds, at offset `n`.
    fn filled(count: u64, window_ms: u64) -> Dedup {
        let mut dedup = Dedup::default();
        (0..count).for_each(|n| dedup.note(key(n), Offset(n), n.cast_signed(), window_ms));
        dedup
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
        assert_eq!(restored(&dedup, |_| true).unwrap(), dedup);
        let mut bytes = Vec::new();
        dedup.encode(&mut bytes, &mut |_| 1);
        let cut = Dedup::decode(&mut Reader::new(&bytes[..bytes.len() - 1]), &|_| Err(Error::not_found("")));
        assert_eq!(cut.unwrap_err().kind(), ErrorKind::Corrupt);
    }

    #[test]
    fn full_buckets_are_named_by_checkpoints_and_go_when_all_their_keys_are_too_old() {
        let bucket = BUCKET_KEYS as u64;
        let mut dedup = filled(bucket * 2 + 10, u64::MAX);
        assert_eq!((dedup.closed.len(), dedup.open.len()), (2, 10 * ROW_LEN));
        assert_eq!(restored(&dedup, |_| true).unwrap(), dedup);
        dedup.expire(bucket.cast_signed() - 2);
        assert_eq!((dedup.closed.len(), dedup.rows()), (2, BUCKET_KEYS + 11));
        dedup.expire(bucket.cast_signed() + 1);
        assert_eq!((dedup.closed.len(), dedup.rows()), (1, BUCKET_KEYS + 8));
        for (number, is_known) in [(bucket + 1, false), (bucket + 2, true), (bucket * 2 + 9, true)] {
            assert_eq!(dedup.find(key(number), 0, u64::MAX).is_some(), is_known, "{number}");
        }
        assert!(dedup.is_full(BUCKET_KEYS + 8, 0, u64::MAX) && !dedup.is_full(BUCKET_KEYS + 9, 0, u64::MAX));
        let mut restored = restored(&dedup, |_| true).unwrap();
        restored.expire(bucket.cast_signed() + 1);
        assert_eq!(restored, dedup, "what a bucket still held of older keys goes again");
    }

    #[test]
    fn of_a_bucket_that_is_gone_only_its_own_keys_are_forgotten() {
        let bucket = BUCKET_KEYS as u64;
        let dedup = filled(bucket * 3 + 1, u64::MAX);
        let mut restored = restored(&dedup, |number| number != 2).unwrap();
        for (number, is_known) in [(0, true), (bucket, false), (bucket * 2, true), (bucket * 3, true)] {
            assert_eq!(restored.find(key(number), 0, u64::MAX).is_some(), is_known, "{number}");
        }
        restored.expire(bucket.cast_signed() * 2);
        assert_eq!(restored.rows(), BUCKET_KEYS, "{}", restored.gone);
    }

    #[test]
    fn few_keys_take_little_memory_however_many_there_were() {
        let mut dedup = filled(100_000, 300);
        assert_eq!(dedup.rows(), 300);
        // How far a table grows before it shrinks depends on where its keys fall; all of them would take 6 MiB.
        assert!(dedup.held_len() < 128 << 10, "{} bytes", dedup.held_len());
        dedup.expire(i64::MAX);
        assert!(dedup.is_empty() && dedup.open.is_empty() && dedup.by_key.is_empty());
    }
}
