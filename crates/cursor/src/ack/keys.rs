//! Ordering keys: the records of one key are worked one after another.
//!
//! The index covers a bounded window of unsettled records from the floor. Within it every operation takes time
//! logarithmic in the window, however many keys there are.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    hash::{DefaultHasher, Hash, Hasher},
    ops::Range,
};

use crate::entry::HolderId;

/// Unsettled records, from the floor on, among which a keyed cursor looks for candidates. The look-ahead that the
/// best known service with ordered groups documents; it bounds the index to some 15 MB.
pub const KEY_WINDOW: u64 = 120_000;

/// An ordering key, as its hash. Two keys of one hash are worked as one: that costs parallelism, never order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderingKey(u64);

impl OrderingKey {
    /// The key with these bytes. The value is not for storing: another release may hash otherwise.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        OrderingKey(hasher.finish())
    }

    /// A key that no other record has.
    pub(super) fn alone(offset: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        (offset, "no key").hash(&mut hasher);
        OrderingKey(hasher.finish())
    }
}

/// Who may have a record of a key while another of that key is leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KeySharing {
    /// Nobody.
    #[default]
    One,
    /// The same grant, in order, and before records of other keys; afterwards nobody, but that a record which is ready
    /// again does not wait for later ones of its key. Keys take turns: the one that could be had first, or has waited
    /// longest since.
    Grant,
    /// The holder that has the other, in order; where a transfer put several of a key into several hands, whoever has the
    /// last of them.
    Holder,
    /// Anybody, any number at once: keys do not order, they share. A key of which fewer records are leased comes first,
    /// within a factor of two by offset; so one that has much out gets more only when the others have nothing to give.
    /// Records without a key stand each for themselves. Costs nothing while no record has a key.
    Fair,
}

/// How much of a key is leased, as fairness sees it: alike within a factor of two. 0 = nothing.
fn share(leased_count: u32) -> u64 {
    u64::from(u32::BITS - leased_count.leading_zeros())
}

/// The share from which on it is worth looking for records of other keys before one of this key is granted: two leased.
const LOOK_AHEAD_SHARE: u64 = 2;

/// Looking ahead begins when this part of the window is free (or all that is not indexed fits), so that each read for it
/// tells of many records.
const LOOK_AHEAD_PART: u64 = 16;

/// What the index knows of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Ready,
    /// Delayed or exhausted: it blocks its key.
    Parked,
    Leased(HolderId),
}

/// Where the first waiting record of a key is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listing {
    Nowhere,
    /// Anyone may have it: its key's turn or share, and its offset.
    Open(u64, u64),
    /// This holder may have it.
    For(HolderId, u64),
}

#[derive(Clone, Debug)]
struct KeyState {
    leased_count: u32,
    /// Who leased last, and in which grant. Not whether that lease is still there: see [`KeyIndex::holders`].
    holder: HolderId,
    grant: u64,
    listing: Listing,
}

/// The window of a keyed cursor.
#[derive(Clone, Debug)]
pub(super) struct KeyIndex {
    sharing: KeySharing,
    /// Records it may hold; [`KEY_WINDOW`], and less in tests.
    pub(super) window: u64,
    slots: BTreeMap<u64, (OrderingKey, Slot)>,
    /// (key, offset) of every record that is not leased.
    waiting: BTreeSet<(OrderingKey, u64)>,
    keys: HashMap<OrderingKey, KeyState>,
    /// Under [`KeySharing::Grant`]: the grant of every record that is leased.
    grants: BTreeMap<(OrderingKey, u64), u64>,
    /// Under [`KeySharing::Holder`]: who has every record that is leased.
    holders: BTreeMap<(OrderingKey, u64), HolderId>,
    /// (turn or share, offset). Without either, by offset alone.
    open: BTreeSet<(u64, u64)>,
    by_holder: BTreeSet<(HolderId, u64)>,
    /// Number of the grant that is being made, or was made last, and to whom.
    grant: u64,
    grant_holder: HolderId,
    is_granting: bool,
    /// Keys of that grant.
    granted_keys: Vec<OrderingKey>,
    /// Turns given out.
    turn: u64,
    /// Records below are indexed.
    pub(super) indexed_end: u64,
    /// Entries that were looked at.
    pub(super) visited: u64,
}

impl KeyIndex {
    pub(super) fn new(sharing: KeySharing, start: u64) -> Self {
        KeyIndex {
            sharing,
            window: KEY_WINDOW,
            slots: BTreeMap::new(),
            waiting: BTreeSet::new(),
            keys: HashMap::new(),
            grants: BTreeMap::new(),
            holders: BTreeMap::new(),
            open: BTreeSet::new(),
            by_holder: BTreeSet::new(),
            grant: 0,
            grant_holder: HolderId(0),
            is_granting: false,
            granted_keys: Vec::new(),
            turn: 0,
            indexed_end: start,
            visited: 0,
        }
    }

    /// How many more records the window holds.
    pub(super) fn room(&self) -> u64 {
        self.window.saturating_sub(self.slots.len() as u64)
    }

    /// Adds the record after the last one.
    pub(super) fn add(&mut self, offset: u64, key: OrderingKey, slot: Slot) {
        self.indexed_end = self.indexed_end.max(offset + 1);
        self.slots.insert(offset, (key, slot));
        self.enter(offset, key, slot);
        self.list(key);
    }

    /// Whether the next record is of a key that has its share already, and there is room to look for others among
    /// `rest` records.
    pub(super) fn looks_ahead(&self, rest: u64) -> bool {
        self.sharing == KeySharing::Fair
            && self.open.first().is_some_and(|(share, _)| *share >= LOOK_AHEAD_SHARE)
            && self.room() >= rest.min(self.window / LOOK_AHEAD_PART).max(1)
    }

    /// The first record that `holder` may have.
    pub(super) fn next(&self, holder: HolderId) -> Option<u64> {
        let own = self.by_holder.range((holder, 0)..=(holder, u64::MAX)).next().map(|(_, offset)| *offset);
        let open = self.open.first().map(|(_, offset)| *offset);
        match (own, open) {
            (Some(own), Some(open)) if self.sharing != KeySharing::Grant => Some(own.min(open)),
            (own, open) => own.or(open),
        }
    }

    /// Begins a grant to `holder`; one that goes on is the same as the last, unless somebody else had one since.
    pub(super) fn begin_grant(&mut self, holder: HolderId, goes_on: bool) {
        self.is_granting = true;
        if goes_on && self.grant_holder == holder {
            return self.list_granted();
        }
        self.grant += 1;
        self.grant_holder = holder;
        self.granted_keys.clear();
    }

    pub(super) fn end_grant(&mut self) {
        self.is_granting = false;
        self.list_granted();
    }

    fn list_granted(&mut self) {
        let keys = std::mem::take(&mut self.granted_keys);
        keys.iter().for_each(|key| self.list(*key));
        self.granted_keys = keys;
    }

    /// Changes the slots of the indexed records of `range`.
    pub(super) fn set(&mut self, range: Range<u64>, slot: Slot) {
        let mut at = range.start;
        while let Some((offset, (key, before))) = self.slots.range_mut(at..range.end).next() {
            let (offset, key, before) = (*offset, *key, std::mem::replace(before, slot));
            at = offset + 1;
            self.leave(offset, key, before);
            self.enter(offset, key, slot);
            self.list(key);
        }
    }

    /// Forgets the records of `range`.
    pub(super) fn gone(&mut self, range: Range<u64>) {
        while let Some((offset, (key, slot))) = self.slots.range(range.clone()).next() {
            let (offset, key, slot) = (*offset, *key, *slot);
            self.slots.remove(&offset);
            self.leave(offset, key, slot);
            self.list(key);
        }
    }

    fn enter(&mut self, offset: u64, key: OrderingKey, slot: Slot) {
        let state = self.keys.entry(key).or_insert(KeyState {
            leased_count: 0,
            holder: HolderId(0),
            grant: 0,
            listing: Listing::Nowhere,
        });
        if let Slot::Leased(holder) = slot {
            state.leased_count += 1;
            state.holder = holder;
            if self.sharing == KeySharing::Holder {
                self.holders.insert((key, offset), holder);
            }
            if self.sharing == KeySharing::Grant {
                let grant = if self.is_granting { self.grant } else { 0 };
                self.grants.insert((key, offset), grant);
                if grant > 0 && state.grant != grant {
                    state.grant = grant;
                    self.granted_keys.push(key);
                }
            }
        } else if slot == Slot::Ready || self.sharing != KeySharing::Fair {
            self.waiting.insert((key, offset));
        }
    }

    fn leave(&mut self, offset: u64, key: OrderingKey, slot: Slot) {
        if let Slot::Leased(_) = slot {
            self.grants.remove(&(key, offset));
            self.holders.remove(&(key, offset));
            if let Some(state) = self.keys.get_mut(&key) {
                state.leased_count -= 1;
            }
        } else {
            self.waiting.remove(&(key, offset));
        }
    }

    /// Lists the first waiting record of `key` where those look who may have it.
    fn list(&mut self, key: OrderingKey) {
        let head = self.waiting.range((key, 0)..=(key, u64::MAX)).next().map(|(_, offset)| *offset);
        let is_ready = head.is_some_and(|head| matches!(self.slots.get(&head), Some((_, Slot::Ready))));
        self.visited += 1;
        let ready = head.filter(|head| is_ready && !self.is_blocked(key, *head));
        let last_holder =
            self.holders.range((key, 0)..=(key, u64::MAX)).next_back().map(|(_, holder)| *holder);
        let Some(state) = self.keys.get_mut(&key) else { return };
        let own = match self.sharing {
            KeySharing::One | KeySharing::Fair => None,
            KeySharing::Grant => (self.is_granting && state.grant == self.grant).then_some(state.holder),
            KeySharing::Holder => last_holder,
        };
        let listing = match (ready, state.listing) {
            (None, _) => Listing::Nowhere,
            (Some(head), listed) => match (own, self.sharing, listed) {
                (Some(holder), ..) => Listing::For(holder, head),
                (None, KeySharing::Fair, _) => Listing::Open(share(state.leased_count), head),
                (None, KeySharing::One | KeySharing::Holder, _) => Listing::Open(0, head),
                (None, KeySharing::Grant, Listing::Open(turn, _)) => Listing::Open(turn, head),
                (None, KeySharing::Grant, _) => {
                    self.turn += 1;
                    Listing::Open(self.turn, head)
                }
            },
        };
        let before = std::mem::replace(&mut state.listing, listing);
        if state.leased_count == 0 && head.is_none() {
            self.keys.remove(&key);
        }
        if before == listing {
            return;
        }
        match before {
            Listing::Nowhere => {}
            Listing::Open(turn, offset) => drop(self.open.remove(&(turn, offset))),
            Listing::For(holder, offset) => drop(self.by_holder.remove(&(holder, offset))),
        }
        match listing {
            Listing::Nowhere => {}
            Listing::Open(turn, offset) => drop(self.open.insert((turn, offset))),
            Listing::For(holder, offset) => drop(self.by_holder.insert((holder, offset))),
        }
    }

    /// Whether the first waiting record of a key has to wait for one that is leased.
    fn is_blocked(&mut self, key: OrderingKey, head: u64) -> bool {
        match self.sharing {
            KeySharing::One => self.keys.get(&key).is_some_and(|state| state.leased_count > 0),
            KeySharing::Grant => {
                let mut before = self.grants.range((key, 0)..(key, head));
                before.any(|(_, grant)| {
                    self.visited += 1;
                    !self.is_granting || *grant != self.grant
                })
            }
            KeySharing::Holder | KeySharing::Fair => false,
        }
    }

    /// Estimated heap bytes.
    pub(super) fn footprint(&self) -> usize {
        let slot = size_of::<(u64, (OrderingKey, Slot))>() * 3 / 2;
        let waiting = size_of::<(OrderingKey, u64)>() * 3 / 2;
        let key = size_of::<(OrderingKey, KeyState)>() * 2 + size_of::<(u64, u64)>() * 3 / 2;
        let grant = size_of::<((OrderingKey, u64), u64)>() * 3 / 2; // or holder, as long
        self.slots.len() * slot
            + self.waiting.len() * waiting
            + self.keys.len() * key
            + (self.grants.len() + self.holders.len()) * grant
    }
}
