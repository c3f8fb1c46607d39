//! The cursors of one log as a checkpoint will have them, encoded some at a time before it asks for all of them: with a
//! hundred thousand of them the log would be locked for too long.

use std::{collections::BTreeSet, sync::Arc};

use model::Result;

use super::state::WorkState;

/// Cursors that are encoded at a time: what takes a fraction of a millisecond.
pub(super) const PART: usize = 256;

/// See the module.
#[derive(Default)]
pub(super) struct Prepared {
    /// In the order of their names.
    parts: Vec<Part>,
    is_whole: bool,
    /// Cursors that changed, came or went since.
    changed: BTreeSet<Arc<str>>,
}

/// Some cursors, one behind the other.
#[derive(Default)]
struct Part {
    names: Vec<Arc<str>>,
    /// Where each ends.
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl Prepared {
    pub(super) fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The last one that is encoded.
    pub(super) fn last(&self) -> Option<&Arc<str>> {
        self.parts.last()?.names.last()
    }

    /// Encodes the next ones, of those behind [`Prepared::last`] in the order of their names.
    pub(super) fn add<'w>(&mut self, mut works: impl Iterator<Item = &'w WorkState>) -> Result<()> {
        let mut part = Part::default();
        for work in works.by_ref().take(PART) {
            work.encode(&mut part.bytes)?;
            part.names.push(work.name.clone());
            part.ends.push(part.bytes.len());
        }
        self.is_whole = part.names.len() < PART;
        self.parts.push(part);
        Ok(())
    }

    /// What is encoded of this cursor, if anything is, is not right any more.
    pub(super) fn changed(&mut self, name: &Arc<str>) {
        // What comes later is encoded as it is then.
        if self.is_whole || self.last().is_some_and(|last| name <= last) {
            self.changed.insert(name.clone());
        }
    }

    /// Appends all of them to `out`; `get` has those that changed.
    pub(super) fn put<'w>(
        &self,
        out: &mut Vec<u8>,
        get: impl Fn(&str) -> Option<&'w WorkState>,
    ) -> Result<()> {
        out.reserve(self.parts.iter().map(|part| part.bytes.len()).sum());
        let mut changed = self.changed.iter().peekable();
        for part in &self.parts {
            let mut from = 0;
            for (at, name) in part.names.iter().enumerate() {
                while changed.next_if(|changed| *changed < name).is_some() {}
                let Some(next) = changed.peek() else { break };
                if *next == name {
                    let begin = at.checked_sub(1).map_or(0, |before| part.ends[before]);
                    out.extend_from_slice(&part.bytes[from..begin]);
                    from = part.ends[at];
                }
            }
            out.extend_from_slice(&part.bytes[from..]);
        }
        self.changed.iter().filter_map(|name| get(name)).try_for_each(|work| work.encode(out))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::Offset;

    use super::*;
    use crate::{
        codec::Reader,
        work::{
            WorkSpec,
            state::{self, Drops, changes},
            works::Works,
        },
    };

    fn insert(works: &mut Works, number: u64) {
        let name = number.to_string().into();
        let work = WorkState::new(name, WorkSpec::default(), Drops::Never).unwrap();
        works.insert(Box::new(work), None);
    }

    fn each(works: &Works) -> BTreeMap<Arc<str>, Vec<u8>> {
        let encoded = |work: &WorkState| {
            let mut bytes = Vec::new();
            work.encode(&mut bytes).unwrap();
            (work.name.clone(), bytes)
        };
        works.iter().map(encoded).collect()
    }

    #[test]
    fn what_was_prepared_is_what_is_there_whatever_came_between() {
        for seed in 0..30 {
            let mut state: u64 = seed;
            let mut roll = |sides: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 33) % sides
            };
            let mut works = Works::default();
            let names = PART as u64 + roll(4 * PART as u64);
            (0..=names).for_each(|number| insert(&mut works, number));
            let mut calls = 0;
            while !works.prepare().unwrap() {
                calls += 1;
                for _ in 0..roll(20) {
                    let number = roll(names);
                    match roll(4) {
                        0 => drop(works.remove(&number.to_string())),
                        1 => insert(&mut works, 10_000 + number),
                        _ => {
                            let to = Offset(roll(1_000_000));
                            if let Some(work) = works.get_mut(&number.to_string()) {
                                work.cursor.seek(to, &mut changes());
                            }
                        }
                    }
                }
            }
            assert!(calls > 0);
            let mut bytes = Vec::new();
            state::encode(&works, &mut bytes).unwrap();
            let mut reader = Reader::new(&bytes);
            let restored = state::decode(&mut reader).unwrap();
            reader.finish().unwrap();
            assert_eq!(each(&restored), each(&works), "seed {seed}");
        }
    }
}
