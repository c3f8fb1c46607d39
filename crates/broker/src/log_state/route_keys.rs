//! The records of each route key, for streams that are told to know them: what conditional appends on a key, limits per
//! key and reading by key ask.
//!
//! ```text
//! key  → slot (key, its offsets)         offset → slot, in runs of 1,024 offsets
//! ```
//!
//! A record takes about ten bytes, a key about a hundred beside its text. What leaves the log leaves the index.

use std::{borrow::Cow, collections::BTreeMap};

use bytes::Bytes;
use cursor::Span;
use model::{Attributes, Error, Offset, Result};
use roaring::RoaringTreemap;
use route::{Pattern, Token};

use crate::codec::{Reader, put_bytes, put_u64};

/// Offsets of one key that are kept as a list; more become a bitmap.
const FEW: usize = 16;

/// Offsets of one run, as a power of two: what leaves the middle of a run moves at most so many entries.
const RUN_BITS: u32 = 10;

/// The offsets of each route key of one log.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RouteKeys {
    by_key: BTreeMap<Bytes, u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// By the upper bits of the offset: its lower bits and the slot, ascending.
    places: BTreeMap<u64, Vec<(u16, u32)>>,
    /// Of records in memory only: a restart takes them back.
    volatile: RoaringTreemap,
    /// Records that have a key.
    record_count: u64,
}

/// One key with its offsets, never empty while it is in use.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Slot {
    pub key: Bytes,
    pub offsets: Offsets,
}

/// Ascending offsets.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Offsets {
    Few(Vec<u64>),
    Many(RoaringTreemap),
}

impl Default for Offsets {
    fn default() -> Self {
        Offsets::Few(Vec::new())
    }
}

impl Offsets {
    fn add(&mut self, offset: u64) {
        match self {
            Offsets::Few(few) if few.len() < FEW => few.push(offset),
            Offsets::Few(few) => {
                let mut many: RoaringTreemap = few.drain(..).collect();
                many.insert(offset);
                *self = Offsets::Many(many);
            }
            Offsets::Many(many) => {
                many.insert(offset);
            }
        }
    }

    fn remove(&mut self, offset: u64) {
        match self {
            Offsets::Few(few) => few.retain(|one| *one != offset),
            Offsets::Many(many) => {
                many.remove(offset);
            }
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Offsets::Few(few) => few.is_empty(),
            Offsets::Many(many) => many.is_empty(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> u64 {
        match self {
            Offsets::Few(few) => few.len() as u64,
            Offsets::Many(many) => many.len(),
        }
    }

    /// How many are below `end`.
    pub(crate) fn count_below(&self, end: Offset) -> u64 {
        match self {
            Offsets::Few(few) => few.partition_point(|one| *one < end.0) as u64,
            Offsets::Many(many) => end.0.checked_sub(1).map_or(0, |last| many.rank(last)),
        }
    }

    fn at(&self, rank: u64) -> Option<Offset> {
        match self {
            Offsets::Few(few) => usize::try_from(rank).ok().and_then(|rank| few.get(rank)).copied(),
            Offsets::Many(many) => many.select(rank),
        }
        .map(Offset)
    }

    /// The first one.
    pub(crate) fn first(&self) -> Option<Offset> {
        match self {
            Offsets::Few(few) => few.first().copied(),
            Offsets::Many(many) => many.min(),
        }
        .map(Offset)
    }

    /// The last one.
    pub(crate) fn last(&self) -> Option<Offset> {
        match self {
            Offsets::Few(few) => few.last().copied(),
            Offsets::Many(many) => many.max(),
        }
        .map(Offset)
    }

    /// The first one at or after `from`.
    pub(crate) fn next(&self, from: Offset) -> Option<Offset> {
        self.at(self.count_below(from))
    }

    /// The last one below `end`.
    pub(crate) fn last_below(&self, end: Offset) -> Option<Offset> {
        self.at(self.count_below(end).checked_sub(1)?)
    }

    /// Up to `count` of those in `from..to`.
    pub(crate) fn between(&self, from: Offset, to: Offset, count: usize) -> Vec<Offset> {
        let first = self.count_below(from);
        let ranks = first..first.saturating_add(count as u64);
        ranks.map_while(|rank| self.at(rank)).take_while(|offset| *offset < to).collect()
    }

    /// These without those in `others`; `None` when nothing is left.
    fn without(&self, others: &RoaringTreemap) -> Option<Cow<'_, Offsets>> {
        if others.is_empty() {
            return Some(Cow::Borrowed(self));
        }
        let mut left = Offsets::default();
        match self {
            Offsets::Few(few) => {
                few.iter().filter(|one| !others.contains(**one)).for_each(|one| left.add(*one))
            }
            Offsets::Many(many) => (many - others).iter().for_each(|one| left.add(one)),
        }
        (!left.is_empty()).then_some(Cow::Owned(left))
    }

    /// The `count` oldest.
    pub(crate) fn oldest(&self, count: u64) -> Vec<Offset> {
        (0..count).map_while(|rank| self.at(rank)).collect()
    }
}

impl RouteKeys {
    fn slot(&self, number: u32) -> Option<&Slot> {
        self.slots.get(number as usize)
    }

    /// The offsets under `key`.
    pub(crate) fn of(&self, key: &[u8]) -> Option<&Offsets> {
        self.slot(*self.by_key.get(key)?).map(|slot| &slot.offsets)
    }

    /// The last offset under `key`.
    pub(crate) fn last(&self, key: &[u8]) -> Option<Offset> {
        self.of(key)?.last()
    }

    /// The key of the record at `offset`.
    pub(crate) fn key_at(&self, offset: Offset) -> Option<&[u8]> {
        let (run, low) = place_of(offset);
        let places = self.places.get(&run)?;
        let at = places.binary_search_by_key(&low, |(low, _)| *low).ok()?;
        self.slot(places.get(at)?.1).map(|slot| &*slot.key)
    }

    /// How many records have a key.
    pub(crate) fn record_count(&self) -> u64 {
        self.record_count
    }

    /// The first record at or after `from` under a key that one of `patterns` matches.
    pub(crate) fn next_under(&self, patterns: &[Pattern], from: Offset) -> Option<Offset> {
        let slots = patterns.iter().flat_map(|pattern| self.matching(pattern));
        slots.filter_map(|slot| slot.offsets.next(from)).min()
    }

    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// The keys that a pattern matches, in the order of their bytes: one look-up where it names one key, else a walk over
    /// the keys that begin as it does.
    pub(crate) fn matching<'a>(&'a self, pattern: &'a Pattern) -> impl Iterator<Item = &'a Slot> {
        let prefix = literal_prefix(pattern);
        let range = self
            .by_key
            .range::<[u8], _>((std::ops::Bound::Included(&prefix[..]), std::ops::Bound::Unbounded));
        let is_exact = pattern.exact().is_some();
        range
            .take_while(move |(key, _)| if is_exact { **key == prefix } else { key.starts_with(&prefix) })
            .filter(|(key, _)| pattern.matches(key))
            .filter_map(|(_, number)| self.slot(*number))
    }

    /// Takes in a batch of `count` records at `base`, which a restart takes back if it `is_volatile`.
    pub(crate) fn note(&mut self, base: Offset, count: u32, attributes: &Attributes, is_volatile: bool) {
        for index in 0..count {
            if let Some(key) = attributes.of(index).and_then(|row| row.route_key.as_ref()) {
                let offset = base.plus(u64::from(index));
                self.add(key, offset);
                if is_volatile {
                    self.volatile.insert(offset.0);
                }
            }
        }
    }

    fn add(&mut self, key: &Bytes, offset: Offset) {
        let number = match self.by_key.get(key) {
            Some(number) => *number,
            None => self.new_slot(key),
        };
        if let Some(slot) = self.slots.get_mut(number as usize) {
            slot.offsets.add(offset.0);
            let (run, low) = place_of(offset);
            self.places.entry(run).or_default().push((low, number));
            self.record_count += 1;
        }
    }

    fn new_slot(&mut self, key: &Bytes) -> u32 {
        // A key of its own: the record's bytes are not held on to for it.
        let key = Bytes::copy_from_slice(key);
        let slot = Slot { key: key.clone(), offsets: Offsets::default() };
        let number = match self.free.pop() {
            Some(number) => number,
            None => {
                self.slots.push(Slot::default());
                u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(free) = self.slots.get_mut(number as usize) {
            *free = slot;
            self.by_key.insert(key, number);
        }
        number
    }

    /// These records left the log.
    pub(crate) fn forget(&mut self, span: Span) {
        if span.start >= span.end {
            return;
        }
        let last = span.end.0 - 1;
        let mut gone = Vec::new();
        for (run, places) in self.places.range_mut(span.start.0 >> RUN_BITS..=last >> RUN_BITS) {
            let first_of_run = run << RUN_BITS;
            places.retain(|(low, number)| {
                let offset = first_of_run + u64::from(*low);
                let stays = offset < span.start.0 || offset > last;
                if !stays {
                    gone.push((offset, *number));
                }
                stays
            });
        }
        let emptied: Vec<u64> = self
            .places
            .range(span.start.0 >> RUN_BITS..=last >> RUN_BITS)
            .filter(|(_, places)| places.is_empty())
            .map(|(run, _)| *run)
            .collect();
        emptied.iter().for_each(|run| drop(self.places.remove(run)));
        gone.into_iter().for_each(|(offset, number)| self.remove(offset, number));
    }

    fn remove(&mut self, offset: u64, number: u32) {
        let Some(slot) = self.slots.get_mut(number as usize) else { return };
        self.volatile.remove(offset);
        self.record_count = self.record_count.saturating_sub(1);
        slot.offsets.remove(offset);
        if slot.offsets.is_empty() {
            self.by_key.remove(&slot.key);
            *slot = Slot::default();
            self.free.push(number);
        }
    }

    /// What a restart brings back.
    ///
    /// ```text
    /// keys: count, then each its text and: count of offsets, offset*; or 0 and
    /// a bitmap
    /// ```
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let slots = self.by_key.values().filter_map(|number| self.slot(*number));
        let kept: Vec<_> =
            slots.filter_map(|slot| Some((&slot.key, slot.offsets.without(&self.volatile)?))).collect();
        put_u64(out, kept.len() as u64);
        for (key, offsets) in kept {
            put_bytes(out, key);
            match &*offsets {
                Offsets::Few(few) => {
                    put_u64(out, few.len() as u64);
                    few.iter().for_each(|offset| put_u64(out, *offset));
                }
                Offsets::Many(many) => {
                    put_u64(out, 0);
                    let mut bytes = Vec::with_capacity(many.serialized_size());
                    if let Err(error) = many.serialize_into(&mut bytes) {
                        // Into memory it does not fail; were it otherwise, a start would refuse what is cut short.
                        tracing::error!(%error, "a key's offsets did not serialise");
                    }
                    put_bytes(out, &bytes);
                }
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self> {
        let mut keys = RouteKeys::default();
        let mut placed = Vec::new();
        for _ in 0..reader.count(3)? {
            let key = reader.bytes()?;
            let number = keys.new_slot(&key);
            let mut offsets = Offsets::default();
            match reader.count(1)? {
                0 => {
                    let many = RoaringTreemap::deserialize_from(reader.slice()?)
                        .map_err(|_| Error::corrupt("a key's offsets do not read"))?;
                    placed.extend(many.iter().map(|offset| (offset, number)));
                    offsets = Offsets::Many(many);
                }
                count => {
                    for _ in 0..count {
                        let offset = reader.u64()?;
                        placed.push((offset, number));
                        offsets.add(offset);
                    }
                }
            }
            if let Some(slot) = keys.slots.get_mut(number as usize) {
                slot.offsets = offsets;
            }
        }
        placed.sort_unstable();
        for (offset, number) in placed {
            let (run, low) = place_of(Offset(offset));
            keys.places.entry(run).or_default().push((low, number));
            keys.record_count += 1;
        }
        Ok(keys)
    }
}

/// The run that an offset is in, and its place there.
fn place_of(offset: Offset) -> (u64, u16) {
    let low = offset.0 & ((1 << RUN_BITS) - 1);
    (offset.0 >> RUN_BITS, u16::try_from(low).unwrap_or(u16::MAX))
}

/// What every key that the pattern matches begins with.
fn literal_prefix(pattern: &Pattern) -> Vec<u8> {
    let mut prefix = Vec::new();
    for (at, token) in pattern.tokens().iter().enumerate() {
        let Token::Exact(literal) = token else { break };
        if at > 0 {
            prefix.push(b'.');
        }
        prefix.extend_from_slice(literal);
    }
    prefix
}

#[cfg(test)]
mod tests {
    use model::RecordAttributes;
    use route::Syntax;

    use super::*;

    fn under(key: &str) -> Attributes {
        let route_key = Some(Bytes::copy_from_slice(key.as_bytes()));
        Attributes::Same(Box::new(RecordAttributes { route_key, ..RecordAttributes::default() }))
    }

    fn filled() -> RouteKeys {
        let mut keys = RouteKeys::default();
        for offset in 0..3_000 {
            keys.note(Offset(offset), 1, &under(if offset % 100 == 7 { "a.rare" } else { "a.b" }), false);
        }
        keys.note(Offset(3_000), 1, &under("ab"), false);
        keys
    }

    fn matching(keys: &RouteKeys, pattern: &str) -> Vec<String> {
        let pattern = Pattern::parse(pattern.as_bytes(), Syntax::ONE_REST).unwrap();
        keys.matching(&pattern).map(|slot| String::from_utf8(slot.key.to_vec()).unwrap()).collect()
    }

    #[test]
    fn offsets_of_a_key_are_found_from_anywhere() {
        let keys = filled();
        let rare = keys.of(b"a.rare").unwrap();
        assert_eq!((rare.len(), rare.first(), rare.last()), (30, Some(Offset(7)), Some(Offset(2_907))));
        assert_eq!(rare.next(Offset(8)), Some(Offset(107)));
        assert_eq!(rare.next(Offset(107)), Some(Offset(107)));
        assert_eq!(rare.next(Offset(2_908)), None);
        assert_eq!(rare.last_below(Offset(107)), Some(Offset(7)));
        assert_eq!(rare.last_below(Offset(7)), None);
        assert_eq!(rare.oldest(2), [Offset(7), Offset(107)]);
        assert_eq!(keys.of(b"a.b").unwrap().len(), 2_970);
    }

    #[test]
    fn patterns_find_keys_by_their_tokens() {
        let keys = filled();
        assert_eq!(matching(&keys, "a.*"), ["a.b", "a.rare"]);
        assert_eq!(matching(&keys, "*.b"), ["a.b"]);
        assert_eq!(matching(&keys, "a.b"), ["a.b"]);
        assert_eq!(matching(&keys, ">"), ["a.b", "a.rare", "ab"]);
        assert_eq!(matching(&keys, "a"), Vec::<String>::new());
    }

    #[test]
    fn what_left_the_log_left_the_index() {
        let mut keys = filled();
        keys.forget(Span::new(Offset(0), Offset(2_000)));
        keys.forget(Span::one(Offset(2_107)));
        let rare = keys.of(b"a.rare").unwrap();
        assert_eq!((rare.len(), rare.first()), (9, Some(Offset(2_007))));
        keys.forget(Span::new(Offset(0), Offset(5_000)));
        assert_eq!((keys.len(), keys.places.len()), (0, 0));
        keys.note(Offset(9_000), 1, &under("again"), false);
        assert_eq!(keys.last(b"again"), Some(Offset(9_000)));
    }

    #[test]
    fn a_checkpoint_holds_the_records_of_a_key_that_a_restart_brings_back() {
        let mut keys = RouteKeys::default();
        keys.note(Offset(1), 1, &under("a.b"), false);
        keys.note(Offset(5), 2, &under("a.b"), true);
        keys.note(Offset(7), 1, &under("a.c"), true);
        assert_eq!(keys.last(b"a.b"), Some(Offset(6)));
        let restarted = |keys: &RouteKeys| {
            let mut out = Vec::new();
            keys.encode(&mut out);
            let back = RouteKeys::decode(&mut Reader::new(&out)).unwrap();
            (back.last(b"a.b"), back.len())
        };
        assert_eq!(restarted(&keys), (Some(Offset(1)), 1));
        keys.note(Offset(8), 1, &under("a.b"), false);
        assert_eq!(restarted(&keys), (Some(Offset(8)), 1));
        keys.forget(Span::new(Offset(0), Offset(8)));
        assert!(keys.volatile.is_empty());
    }

    #[test]
    fn an_index_survives_its_snapshot() {
        let keys = filled();
        let mut bytes = Vec::new();
        keys.encode(&mut bytes);
        let back = RouteKeys::decode(&mut Reader::new(&bytes)).unwrap();
        for key in ["a.b", "a.rare", "ab"] {
            assert_eq!(back.of(key.as_bytes()), keys.of(key.as_bytes()), "{key}");
        }
        let mut back = back;
        back.forget(Span::new(Offset(0), Offset(5_000)));
        assert_eq!(back.len(), 0);
        assert!(RouteKeys::decode(&mut Reader::new(&bytes[..bytes.len() - 1])).is_err());
    }
}
