//! Duplicate recognition: what one log remembers of the producers that number their batches.
//!
//! A producer numbers its records 0..=i32::MAX and on from 0. Its batches must follow one another; the last
//! [`WINDOW`] of them are remembered, so that each of several in flight may be sent again after a broken connection and
//! is answered with the offset of its first publish. A producer that is not known (new, expired, or its records were
//! produced elsewhere) may begin at any sequence. A new epoch begins at 0 and fences the older ones.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use model::{Offset, ProducerStamp, Result};

use super::room::{Charge, LogRoom};
use crate::{
    codec::{Reader, put_i64, put_u64},
    producer::ProducerView,
};

/// Batches remembered per producer: what clients may have in flight at most while they ask for no duplicates.
pub(crate) const WINDOW: usize = 5;

/// Producers that one log remembers; the ones idle longest are forgotten first. Bounds it to about 20 MiB.
pub(crate) const PRODUCERS_MAX: usize = 100_000;

/// Producers that a log remembers although the memory for those of all logs is used up: about what a stream really has.
const PRODUCERS_KEPT_MIN: usize = 32;

/// What a producer takes, bytes, with all its batches and what a map leaves free, rounded up.
const PRODUCER_LEN: usize = 208;

/// One remembered batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sent {
    first: i32,
    last: i32,
    base: Offset,
    append_time_ms: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Producer {
    epoch: i16,
    newest: Sent,
    /// Those before it, oldest first. Many a producer sends one batch and never comes back.
    earlier: Vec<Sent>,
}

/// What the sequence of a batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It follows.
    Follows,
    /// It was appended before, there and then.
    Duplicate(Offset, i64),
    /// Sequence numbers are missing before it.
    Gap,
    /// It was before those remembered, or overlaps them.
    Stale,
    /// Its epoch is an old one.
    Fenced,
}

/// The producers of one log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: HashMap<i64, Producer>,
    charge: Charge,
}

/// The sequence number `count - 1` after `first`.
fn last_of(first: i32, count: u32) -> i32 {
    let last = (i64::from(first) + i64::from(count) - 1) & i64::from(i32::MAX);
    i32::try_from(last).unwrap_or(i32::MAX)
}

impl Producer {
    fn new(epoch: i16, first: Sent) -> Self {
        Producer { epoch, newest: first, earlier: Vec::new() }
    }

    /// What is remembered, oldest first.
    fn sent(&self) -> impl Iterator<Item = &Sent> {
        self.earlier.iter().chain([&self.newest])
    }

    fn push(&mut self, sent: Sent) {
        if self.earlier.len() + 1 == WINDOW {
            self.earlier.remove(0);
        }
        self.earlier.push(std::mem::replace(&mut self.newest, sent));
    }
}

impl Producers {
    /// Judges a batch of `count` records by its stamp.
    pub(crate) fn check(&self, stamp: ProducerStamp, count: u32) -> Verdict {
        let Some(producer) = self.by_id.get(&stamp.id) else { return Verdict::Follows };
        if stamp.epoch < producer.epoch {
            return Verdict::Fenced;
        }
        if stamp.epoch > producer.epoch {
            return if stamp.first_sequence == 0 { Verdict::Follows } else { Verdict::Gap };
        }
        let last = last_of(stamp.first_sequence, count);
        let same = |sent: &&Sent| sent.first == stamp.first_sequence && sent.last == last;
        if let Some(sent) = producer.sent().find(same) {
            return Verdict::Duplicate(sent.base, sent.append_time_ms);
        }
        let expected = last_of(producer.newest.last, 2);
        if stamp.first_sequence == expected {
            return Verdict::Follows;
        }
        // Ahead or behind, on a circle of 2^31 numbers: the nearer way.
        let ahead = (i64::from(stamp.first_sequence) - i64::from(expected)) & i64::from(i32::MAX);
        if ahead < 1 << 30 { Verdict::Gap } else { Verdict::Stale }
    }

    /// Remembers a batch that was appended.
    pub(crate) fn note(&mut self, stamp: ProducerStamp, count: u32, base: Offset, append_time_ms: i64) {
        let last = last_of(stamp.first_sequence, count);
        let sent = Sent { first: stamp.first_sequence, last, base, append_time_ms };
        match self.by_id.entry(stamp.id) {
            Entry::Occupied(mut known) if known.get().epoch == stamp.epoch => {
                return known.get_mut().push(sent);
            }
            Entry::Occupied(mut known) => {
                known.insert(Producer::new(stamp.epoch, sent));
            }
            Entry::Vacant(place) => {
                place.insert(Producer::new(stamp.epoch, sent));
            }
        }
        self.account();
        let is_over = self.charge.room().is_some_and(|room| !room.has(1));
        if self.by_id.len() > PRODUCERS_MAX || (is_over && self.by_id.len() > PRODUCERS_KEPT_MIN) {
            self.forget_oldest(stamp.id);
        }
    }

    /// What it takes counts in `room` from here on.
    pub(crate) fn charge_to(&mut self, room: &Arc<LogRoom>) {
        self.charge = Charge::to(room);
        self.account();
    }

    fn account(&mut self) {
        self.charge.set(self.by_id.len() * PRODUCER_LEN);
    }

    /// Makes room by a tenth, so that the search for the oldest is paid for by many; `newest` stays.
    fn forget_oldest(&mut self, newest: i64) {
        let mut left = (self.by_id.len() / 10).max(1);
        let mut times: Vec<i64> =
            self.by_id.values().map(|producer| producer.newest.append_time_ms).collect();
        let (_, median, _) = times.select_nth_unstable(left);
        let before = *median;
        self.by_id.retain(|id, producer| {
            let old = left > 0 && *id != newest && producer.newest.append_time_ms <= before;
            left -= usize::from(old);
            !old
        });
        self.account();
    }

    /// Forgets producers without a batch since `before_ms`.
    pub(crate) fn expire(&mut self, before_ms: i64) {
        self.by_id.retain(|_, producer| producer.newest.append_time_ms >= before_ms);
        if self.by_id.len() < self.by_id.capacity() / 4 {
            self.by_id.shrink_to_fit();
        }
        self.account();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Every producer, by id.
    pub(crate) fn views(&self) -> Vec<ProducerView> {
        let mut views: Vec<_> = self
            .by_id
            .iter()
            .map(|(id, Producer { epoch, newest, .. })| {
                let (last_sequence, last_time_ms) = (newest.last, newest.append_time_ms);
                ProducerView { id: *id, epoch: *epoch, last_sequence, last_time_ms }
            })
            .collect();
        views.sort_unstable_by_key(|view| view.id);
        views
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let mut ids: Vec<_> = self.by_id.keys().copied().collect();
        ids.sort_unstable();
        put_u64(out, ids.len() as u64);
        for id in ids {
            let Some(producer) = self.by_id.get(&id) else { continue };
            put_i64(out, id);
            put_i64(out, i64::from(producer.epoch));
            put_u64(out, producer.sent().count() as u64);
            for sent in producer.sent() {
                put_i64(out, i64::from(sent.first));
                put_i64(out, i64::from(sent.last));
                put_u64(out, sent.base.0);
                put_i64(out, sent.append_time_ms);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut producers = Producers::default();
        for _ in 0..reader.count(3)? {
            let id = reader.i64()?;
            let epoch = i16::try_from(reader.i64()?)
                .map_err(|_| model::Error::corrupt("an epoch is out of range"))?;
            let mut producer: Option<Producer> = None;
            for _ in 0..reader.count(4)? {
                let sent = Sent {
                    first: reader.i32()?,
                    last: reader.i32()?,
                    base: Offset(reader.u64()?),
                    append_time_ms: reader.i64()?,
                };
                match &mut producer {
                    Some(producer) => producer.push(sent),
                    None => producer = Some(Producer::new(epoch, sent)),
                }
            }
            producers.by_id.extend(producer.map(|producer| (id, producer)));
        }
        Ok(producers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(epoch: i16, first_sequence: i32) -> ProducerStamp {
        ProducerStamp { id: 7, epoch, first_sequence }
    }

    /// A log that appended `batches` = (first sequence, count) of producer 7, epoch 0, one after another.
    fn after(batches: &[(i32, u32)]) -> Producers {
        let mut producers = Producers::default();
        let mut base = Offset::ZERO;
        for (first, count) in batches {
            assert_eq!(producers.check(stamp(0, *first), *count), Verdict::Follows, "{first}");
            producers.note(stamp(0, *first), *count, base, 1_000);
            base = base.plus(u64::from(*count));
        }
        producers
    }

    #[test]
    fn an_unknown_producer_may_begin_anywhere() {
        assert_eq!(Producers::default().check(stamp(3, 77), 1), Verdict::Follows);
    }

    #[test]
    fn each_of_the_last_five_batches_is_answered_with_its_first_offset() {
        let producers = after(&[(0, 10), (10, 10), (20, 10), (30, 10), (40, 10), (50, 10)]);
        for first in [10, 20, 30, 40, 50] {
            let offset = Offset(u64::try_from(first).unwrap());
            assert_eq!(producers.check(stamp(0, first), 10), Verdict::Duplicate(offset, 1_000));
        }
        assert_eq!(producers.check(stamp(0, 0), 10), Verdict::Stale);
        assert_eq!(producers.check(stamp(0, 50), 9), Verdict::Stale);
    }

    #[test]
    fn a_hole_in_the_sequence_is_a_gap() {
        assert_eq!(after(&[(0, 10)]).check(stamp(0, 11), 1), Verdict::Gap);
    }

    #[test]
    fn the_sequence_wraps_from_its_greatest_number_to_zero() {
        let producers = after(&[(i32::MAX - 2, 3), (0, 1)]);
        assert_eq!(producers.check(stamp(0, 1), 1), Verdict::Follows);
        let across = after(&[(i32::MAX - 1, 5)]);
        assert_eq!(across.check(stamp(0, 3), 1), Verdict::Follows);
        assert_eq!(across.check(stamp(0, i32::MAX - 1), 5), Verdict::Duplicate(Offset(0), 1_000));
        assert_eq!(across.check(stamp(0, 4), 1), Verdict::Gap);
    }

    #[test]
    fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
        let mut producers = after(&[(0, 10)]);
        assert_eq!(producers.check(stamp(1, 10), 1), Verdict::Gap);
        assert_eq!(producers.check(stamp(1, 0), 1), Verdict::Follows);
        producers.note(stamp(1, 0), 1, Offset(10), 1_000);
        assert_eq!(producers.check(stamp(0, 10), 1), Verdict::Fenced);
        assert_eq!(producers.check(stamp(1, 1), 1), Verdict::Follows);
    }

    #[test]
    fn what_is_remembered_survives_a_snapshot_and_expires() {
        let mut producers = after(&[(0, 10), (10, 1)]);
        producers.note(ProducerStamp { id: -1, epoch: 2, first_sequence: 0 }, 1, Offset(11), 5_000);
        let mut bytes = Vec::new();
        producers.encode(&mut bytes);
        assert_eq!(Producers::decode(&mut Reader::new(&bytes)).unwrap(), producers);
        for len in 0..bytes.len() {
            assert!(Producers::decode(&mut Reader::new(&bytes[..len])).is_err());
        }
        producers.expire(1_001);
        assert_eq!(producers.views().iter().map(|view| view.id).collect::<Vec<_>>(), [-1]);
    }

    #[test]
    fn above_the_bound_the_ones_idle_longest_are_forgotten() {
        let mut producers = Producers::default();
        for id in 0..=i64::try_from(PRODUCERS_MAX).unwrap() {
            producers.note(ProducerStamp { id, epoch: 0, first_sequence: 0 }, 1, Offset(0), id);
        }
        assert_eq!(producers.by_id.len(), PRODUCERS_MAX + 1 - PRODUCERS_MAX / 10);
        assert!(!producers.by_id.contains_key(&0));
        assert!(producers.by_id.contains_key(&i64::try_from(PRODUCERS_MAX).unwrap()));
    }

    #[test]
    fn the_producers_of_all_logs_share_one_room_and_each_log_keeps_some_of_its_newest() {
        let room = LogRoom::new(1_000 * PRODUCER_LEN);
        let log = |count: i64| {
            let mut producers = Producers::default();
            producers.charge_to(&room);
            for id in 0..count {
                producers.note(ProducerStamp { id, epoch: 0, first_sequence: 0 }, 1, Offset(0), id);
            }
            producers
        };
        let first = log(900);
        let others: Vec<Producers> = (0..20).map(|_| log(500)).collect();
        assert_eq!(first.by_id.len(), 900, "what others do is no reason to forget before the next batch");
        for producers in &others[1..] {
            let len = producers.by_id.len();
            assert!((PRODUCERS_KEPT_MIN - 4..PRODUCERS_KEPT_MIN + 16).contains(&len), "{len}");
            assert!(producers.by_id.contains_key(&499) && !producers.by_id.contains_key(&0));
        }
        assert!(room.used_len() <= (1_000 + 21 * PRODUCERS_KEPT_MIN) * PRODUCER_LEN, "{}", room.used_len());
        drop((first, others));
        assert_eq!(room.used_len(), 0);
    }
}
