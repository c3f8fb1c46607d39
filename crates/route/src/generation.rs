//! Telling sessions that an answer they keep may be out of date, without telling them.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::pattern::tokens;

/// Counters that rise when routes change: one per exact address, one per first token of a pattern, and one for the
/// patterns that begin with an operator. Addresses and tokens share counters by hash, so that there is nothing to
/// look up, to grow or to clean; sharing costs a needless look at the table, never a stale answer.
///
/// Sessions read them without a lock. The table changes first, then the counter; a session reads the counter first,
/// then the table.
#[derive(Debug)]
pub struct Generations {
    exact: Box<[AtomicU64]>,
    first: Box<[AtomicU64]>,
    open: AtomicU64,
}

impl Generations {
    /// One counter for everything: for a table with few changes, such as one exchange.
    pub fn single() -> Self {
        Generations::with_counters(0, 0)
    }

    /// Counters for a space of addresses in which temporary exact ones come and go. Takes 34 KiB.
    pub fn per_token() -> Self {
        Generations::with_counters(4_096, 256)
    }

    fn with_counters(exact_count: usize, first_count: usize) -> Self {
        let counters = |count| std::iter::repeat_with(AtomicU64::default).take(count).collect();
        Generations { exact: counters(exact_count), first: counters(first_count), open: AtomicU64::new(0) }
    }

    /// What an answer for `address` rests on, as of now. Taken before the table is asked.
    pub fn stamp(&self, address: &[u8]) -> Stamp {
        let exact = slot(address, self.exact.len());
        let first = slot(tokens(address).next().unwrap_or_default(), self.first.len());
        Stamp { exact, first, sum: self.sum(exact, first) }
    }

    /// Whether nothing changed that could concern the address of the stamp.
    pub fn is_current(&self, stamp: &Stamp) -> bool {
        self.sum(stamp.exact, stamp.first) == stamp.sum
    }

    /// Counters only rise, so their sum stays only while each does.
    fn sum(&self, exact: u32, first: u32) -> u64 {
        let read = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        read(&self.open)
            .wrapping_add(self.exact.get(exact as usize).map_or(0, read))
            .wrapping_add(self.first.get(first as usize).map_or(0, read))
    }

    pub(crate) fn exact_changed(&self, address: &[u8]) {
        rise(self.exact.get(slot(address, self.exact.len()) as usize).unwrap_or(&self.open));
    }

    pub(crate) fn first_changed(&self, token: &[u8]) {
        rise(self.first.get(slot(token, self.first.len()) as usize).unwrap_or(&self.open));
    }

    pub(crate) fn open_changed(&self) {
        rise(&self.open);
    }
}

fn rise(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Release);
}

fn slot(bytes: &[u8], count: usize) -> u32 {
    if count == 0 {
        return 0;
    }
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    (hasher.finish() % count as u64) as u32
}

/// What a kept answer rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    exact: u32,
    first: u32,
    sum: u64,
}

#[derive(Clone, Debug)]
struct Kept<V> {
    address: Box<[u8]>,
    stamp: Stamp,
    value: V,
}

/// One session's answers, by address. Asking for the address that was asked for last costs a comparison, for another
/// one a hash look-up. Bounded: when it is full, it starts anew.
#[derive(Clone, Debug)]
pub struct Cache<V> {
    limit: usize,
    by_address: HashMap<Box<[u8]>, usize>,
    kept: Vec<Kept<V>>,
    last: usize,
}

impl<V> Cache<V> {
    /// Keeps up to `limit` answers, at least one.
    pub fn new(limit: usize) -> Self {
        Cache { limit: limit.max(1), by_address: HashMap::new(), kept: Vec::new(), last: 0 }
    }

    /// The answer for `address`: the kept one if it is current, else what `answer` says. What is changed in it lasts as long
    /// as it is kept.
    pub fn of(&mut self, generations: &Generations, address: &[u8], answer: impl FnOnce() -> V) -> &mut V {
        let is_last = self.kept.get(self.last).is_some_and(|kept| *kept.address == *address);
        let at = if is_last { Some(self.last) } else { self.by_address.get(address).copied() };
        let Some(at) = at else {
            return self.keep(generations, address, answer);
        };
        self.last = at;
        let kept = &mut self.kept[at];
        if !generations.is_current(&kept.stamp) {
            kept.stamp = generations.stamp(address);
            kept.value = answer();
        }
        &mut kept.value
    }

    fn keep(&mut self, generations: &Generations, address: &[u8], answer: impl FnOnce() -> V) -> &mut V {
        if self.kept.len() == self.limit {
            self.kept.clear();
            self.by_address.clear();
        }
        self.last = self.kept.len();
        self.by_address.insert(address.into(), self.last);
        let stamp = generations.stamp(address);
        self.kept.push(Kept { address: address.into(), stamp, value: answer() });
        &mut self.kept[self.last].value
    }

    /// How many answers are kept.
    pub fn len(&self) -> usize {
        self.kept.len()
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(cache: &mut Cache<u32>, generations: &Generations, address: &str, value: u32) -> u32 {
        *cache.of(generations, address.as_bytes(), || value)
    }

    #[test]
    fn a_kept_answer_is_given_until_something_changes_that_concerns_it() {
        let generations = Generations::per_token();
        let mut cache = Cache::new(8);
        assert_eq!(asked(&mut cache, &generations, "a.b", 1), 1);
        assert_eq!(asked(&mut cache, &generations, "a.b", 2), 1);
        generations.exact_changed(b"inbox.77");
        generations.first_changed(b"other");
        assert_eq!(asked(&mut cache, &generations, "a.b", 3), 1);
        let changes: [fn(&Generations); 3] =
            [|g| g.exact_changed(b"a.b"), |g| g.first_changed(b"a"), |g| g.open_changed()];
        for (change, value) in changes.into_iter().zip(10..) {
            change(&generations);
            assert_eq!(asked(&mut cache, &generations, "a.b", value), value);
        }
    }

    #[test]
    fn one_counter_serves_for_everything() {
        let generations = Generations::single();
        let mut cache = Cache::new(8);
        asked(&mut cache, &generations, "a.b", 1);
        generations.exact_changed(b"x");
        assert_eq!(asked(&mut cache, &generations, "a.b", 2), 2);
    }

    #[test]
    fn no_more_is_kept_than_allowed() {
        let generations = Generations::per_token();
        let mut cache = Cache::new(4);
        for n in 0..100 {
            assert_eq!(asked(&mut cache, &generations, "steady", 1), 1);
            assert_eq!(asked(&mut cache, &generations, &format!("once.{n}"), n), n);
            assert!(!cache.is_empty() && cache.len() <= 4);
        }
    }
}
