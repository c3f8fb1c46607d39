//! Cursors by name. Most logs that have one have just one, and a map makes room for eleven at once.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use super::state::WorkState;

/// See the module.
#[derive(Default)]
pub(super) enum ByName {
    #[default]
    None,
    One(Box<WorkState>),
    Many(BTreeMap<Arc<str>, Box<WorkState>>),
}

impl ByName {
    pub(super) fn len(&self) -> usize {
        match self {
            ByName::None => 0,
            ByName::One(_) => 1,
            ByName::Many(many) => many.len(),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&WorkState> {
        match self {
            ByName::One(work) if *work.name == *name => Some(work),
            ByName::Many(many) => many.get(name).map(|work| &**work),
            _ => None,
        }
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut WorkState> {
        match self {
            ByName::One(work) if *work.name == *name => Some(work),
            ByName::Many(many) => many.get_mut(name).map(|work| &mut **work),
            _ => None,
        }
    }

    /// In the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = &WorkState> {
        let (one, many) = match self {
            ByName::None => (None, None),
            ByName::One(work) => (Some(&**work), None),
            ByName::Many(many) => (None, Some(many)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|many| many.values().map(|work| &**work)))
    }

    /// Those behind `name`, in the order of their names; all of them without one.
    pub(super) fn behind(&self, name: Option<&Arc<str>>) -> impl Iterator<Item = &WorkState> {
        let from = name.map_or(Bound::Unbounded, Bound::Excluded);
        let (one, many) = match self {
            ByName::None => (None, None),
            ByName::One(work) => {
                (Some(&**work).filter(|work| name.is_none_or(|name| work.name > *name)), None)
            }
            ByName::Many(many) => (None, Some(many.range::<Arc<str>, _>((from, Bound::Unbounded)))),
        };
        one.into_iter().chain(many.into_iter().flatten().map(|(_, work)| &**work))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut WorkState> {
        let (one, many) = match self {
            ByName::None => (None, None),
            ByName::One(work) => (Some(&mut **work), None),
            ByName::Many(many) => (None, Some(many)),
        };
        one.into_iter().chain(many.into_iter().flat_map(|many| many.values_mut().map(|work| &mut **work)))
    }

    /// Adds one whose name is free.
    pub(super) fn insert(&mut self, work: Box<WorkState>) {
        *self = match std::mem::take(self) {
            ByName::None => ByName::One(work),
            ByName::One(first) => {
                ByName::Many(BTreeMap::from([first, work].map(|work| (work.name.clone(), work))))
            }
            ByName::Many(mut many) => {
                many.insert(work.name.clone(), work);
                ByName::Many(many)
            }
        };
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Box<WorkState>> {
        match self {
            ByName::One(work) if *work.name == *name => match std::mem::take(self) {
                ByName::One(work) => Some(work),
                _ => None,
            },
            ByName::Many(many) => many.remove(name),
            _ => None,
        }
    }
}
