//! Who waits for a log to move.
//!
//! Those for any record lie by the offset at which they are to look, those for some route keys by what they are for: when
//! a record of theirs is appended, they are put to its offset. So a commit costs what it tells, however many wait.

use std::collections::{BTreeMap, HashMap};

use model::{Attributes, Offset};
use route::{Generations, Pattern, Routes, Rule};
use store::LogCore;

use super::route_keys::RouteKeys;
use crate::watch::{Watch, WatchId, WatchRef};

/// Fewest waiters at which those that gave up are looked for.
const PRUNE_AT_LEAST: usize = 16;

/// The watches that are armed on one log.
#[derive(Default)]
pub(crate) struct Watchers {
    armed: Option<Box<Armed>>,
}

struct Armed {
    /// Those that are told once the log can be read beyond an offset.
    by_offset: BTreeMap<(Offset, WatchId), WatchRef>,
    places: HashMap<WatchId, Place>,
    /// What those wait for that have no offset.
    filters: Routes<WatchId>,
    prune_at: usize,
}

enum Place {
    At(Offset),
    Under(WatchRef, Box<[Pattern]>),
}

impl Default for Armed {
    fn default() -> Self {
        Armed {
            by_offset: BTreeMap::new(),
            places: HashMap::new(),
            filters: Routes::new(Generations::single()),
            prune_at: 0,
        }
    }
}

impl Watchers {
    /// Arms `watch` at `from`, or tells it at once.
    pub(crate) fn arm(&mut self, core: &LogCore, from: Offset, watch: &Watch) {
        if is_due(core, from) {
            return watch.tell();
        }
        let reference = watch.reference();
        let armed = self.armed.get_or_insert_default();
        armed.disarm(reference.id());
        armed.put(reference, from);
        armed.prune();
    }

    /// As [`Watchers::arm`], for records of route keys that one of `patterns` matches.
    pub(crate) fn arm_under(
        &mut self,
        core: &LogCore,
        keys: &RouteKeys,
        from: Offset,
        patterns: &[Pattern],
        watch: &Watch,
    ) {
        if from < core.end()
            && let Some(next) = keys.next_under(patterns, from)
        {
            return self.arm(core, next, watch);
        }
        if core.is_deleted() {
            return watch.tell();
        }
        let reference = watch.reference();
        let id = reference.id();
        let armed = self.armed.get_or_insert_default();
        armed.disarm(id);
        for pattern in patterns {
            armed.filters.add(&Rule::Tokens(pattern.clone()), id);
        }
        armed.places.insert(id, Place::Under(reference, patterns.into()));
        armed.prune();
    }

    /// Records were staged.
    pub(crate) fn appended(&mut self, base: Offset, count: u32, attributes: &Attributes) {
        let Some(armed) = self.armed.as_deref_mut().filter(|armed| !armed.filters.is_empty()) else { return };
        let mut found: Vec<(Offset, WatchId)> = Vec::new();
        let mut before: Option<&[u8]> = None;
        for index in 0..count {
            let key = attributes.of(index).and_then(|row| row.route_key.as_deref());
            if let Some(key) = key.filter(|key| before != Some(*key)) {
                let offset = base.plus(u64::from(index));
                armed.filters.targets(key, &[], |id| found.push((offset, *id)));
                before = Some(key);
            }
        }
        for (offset, id) in found {
            // Those that two records are for wait for the first.
            if let Some(Place::Under(..)) = armed.places.get(&id)
                && let Some(reference) = armed.disarm(id)
            {
                armed.put(reference, offset);
            }
        }
    }

    /// The log moved, or is gone.
    pub(crate) fn moved(&mut self, core: &LogCore) {
        let Some(armed) = &mut self.armed else { return };
        if core.is_deleted() {
            armed.by_offset.values().for_each(WatchRef::tell);
            for place in armed.places.values() {
                if let Place::Under(reference, _) = place {
                    reference.tell();
                }
            }
            self.armed = None;
            return;
        }
        while let Some(first) = armed.by_offset.first_entry()
            && is_due(core, first.key().0)
        {
            armed.places.remove(&first.key().1);
            first.remove().tell();
        }
        if armed.places.is_empty() {
            self.armed = None;
        }
    }
}

impl Armed {
    fn put(&mut self, reference: WatchRef, from: Offset) {
        let id = reference.id();
        self.places.insert(id, Place::At(from));
        self.by_offset.insert((from, id), reference);
    }

    fn disarm(&mut self, id: WatchId) -> Option<WatchRef> {
        match self.places.remove(&id)? {
            Place::At(offset) => self.by_offset.remove(&(offset, id)),
            Place::Under(reference, patterns) => {
                for pattern in patterns {
                    self.filters.remove(&Rule::Tokens(pattern), &id);
                }
                Some(reference)
            }
        }
    }

    /// Takes those out that gave up, once in a while.
    fn prune(&mut self) {
        if self.places.len() <= self.prune_at.max(PRUNE_AT_LEAST) {
            return;
        }
        let is_gone = |(id, place): (&WatchId, &Place)| {
            let reference = match place {
                Place::At(offset) => self.by_offset.get(&(*offset, *id)),
                Place::Under(reference, _) => Some(reference),
            };
            (!reference.is_some_and(WatchRef::is_live)).then_some(*id)
        };
        let gone: Vec<WatchId> = self.places.iter().filter_map(is_gone).collect();
        for id in gone {
            self.disarm(id);
        }
        self.prune_at = self.places.len() * 2;
    }
}

/// Whether a reader that waits at `from` should look. A start above `from` is no reason by itself: where staged records
/// were removed it is ahead of what can be read, and a reader would find the bounds as they were.
fn is_due(core: &LogCore, from: Offset) -> bool {
    core.is_deleted() || core.stable_end() > from
}
