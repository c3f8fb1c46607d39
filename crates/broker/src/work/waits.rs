//! Who waits at a log, and for which records.
//!
//! Cursors for all records are told whenever the log can be read further. Those with filters are found by the route key
//! of what is appended, each filter once however many cursors have it, and told when that can be read.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use model::{Attributes, Offset};
use route::{Generations, Pattern, Routes, Rule};
use store::LogCore;

use super::{QUEUE_WORK, by_name::ByName, state::WorkState};

/// See the module. Names are those of cursors.
#[derive(Default)]
pub(super) struct Waits {
    /// Those for all records that wait.
    open: Vec<Arc<str>>,
    /// Those for all records, but for a queue's own.
    unfiltered: BTreeSet<Arc<str>>,
    filtered: Option<Box<Filtered>>,
    /// Whom to tell once the log can be read beyond an offset, ascending.
    called: VecDeque<(Offset, Arc<str>)>,
}

struct Filtered {
    /// From route keys to the filters that match.
    routes: Routes<Arc<str>>,
    groups: HashMap<Arc<str>, Group>,
    /// How many cursors have filters.
    count: usize,
}

/// The cursors with one filter.
#[derive(Default)]
struct Group {
    members: BTreeSet<Arc<str>>,
    /// Those among them that wait.
    waiting: BTreeSet<Arc<str>>,
    /// The last record that it matched, or may have.
    last: Option<Offset>,
}

impl Default for Filtered {
    fn default() -> Self {
        Filtered { routes: Routes::new(Generations::single()), groups: HashMap::new(), count: 0 }
    }
}

/// The last record that is staged and cannot be read yet.
fn last_unseen(core: Option<&LogCore>) -> Option<Offset> {
    let core = core.filter(|core| core.end() > core.stable_end())?;
    core.end().0.checked_sub(1).map(Offset)
}

impl Waits {
    pub(super) fn has_filters(&self) -> bool {
        self.filtered.is_some()
    }

    /// How many cursors have filters.
    pub(super) fn filtered_count(&self) -> usize {
        self.filtered.as_ref().map_or(0, |filtered| filtered.count)
    }

    /// The cursors for all records.
    pub(super) fn unfiltered(&self) -> impl Iterator<Item = &Arc<str>> {
        self.unfiltered.iter()
    }

    /// Calls `each` with the cursors of which a filter matches, once for each filter. Whether there are any.
    pub(super) fn filtered<'a>(&'a self, route_key: &[u8], mut each: impl FnMut(&'a Arc<str>)) -> bool {
        let Some(filtered) = &self.filtered else { return false };
        let mut any = false;
        filtered.routes.targets(route_key, &[], |text| {
            if let Some(group) = filtered.groups.get(text) {
                any |= !group.members.is_empty();
                group.members.iter().for_each(&mut each);
            }
        });
        any
    }

    /// Whether a filter matches.
    pub(super) fn matches(&self, route_key: &[u8]) -> bool {
        let Some(filtered) = &self.filtered else { return false };
        let mut any = false;
        filtered.routes.targets(route_key, &[], |_| any = true);
        any
    }

    /// A cursor comes.
    pub(super) fn enter<'a>(
        &mut self,
        name: &Arc<str>,
        filters: impl ExactSizeIterator<Item = (&'a str, &'a Pattern)>,
        core: Option<&LogCore>,
    ) {
        if filters.len() == 0 {
            if **name != *QUEUE_WORK {
                self.unfiltered.insert(name.clone());
            }
            return;
        }
        let filtered = self.filtered.get_or_insert_default();
        filtered.count += 1;
        for (text, pattern) in filters {
            if let Some(group) = filtered.groups.get_mut(text) {
                group.members.insert(name.clone());
                continue;
            }
            let text: Arc<str> = text.into();
            let members = BTreeSet::from([name.clone()]);
            let group = Group { members, waiting: BTreeSet::new(), last: last_unseen(core) };
            filtered.groups.insert(text.clone(), group);
            filtered.routes.add(&Rule::Tokens(pattern.clone()), text);
        }
    }

    /// A cursor goes.
    pub(super) fn leave<'a>(
        &mut self,
        name: &Arc<str>,
        filters: impl ExactSizeIterator<Item = (&'a str, &'a Pattern)>,
    ) {
        if filters.len() == 0 {
            self.unfiltered.remove(name);
            self.open.retain(|open| open != name);
            return;
        }
        let Some(filtered) = &mut self.filtered else { return };
        filtered.count = filtered.count.saturating_sub(1);
        for (text, pattern) in filters {
            let Some(group) = filtered.groups.get_mut(text) else { continue };
            group.members.remove(name);
            group.waiting.remove(name);
            if group.members.is_empty()
                && let Some((text, _)) = filtered.groups.remove_entry(text)
            {
                filtered.routes.remove(&Rule::Tokens(pattern.clone()), &text);
            }
        }
        if filtered.count == 0 {
            self.filtered = None;
        }
    }

    /// Puts a cursor on the list if somebody waits at it.
    pub(super) fn list(&mut self, work: &mut WorkState, core: Option<&LogCore>) {
        if !work.is_waited_at() || work.is_called {
            return;
        }
        let name = work.name.clone();
        if work.filter.is_empty() {
            if !work.is_listed {
                work.is_listed = true;
                self.open.push(name);
            }
            return;
        }
        let Some(filtered) = &mut self.filtered else { return };
        let readable = core.map_or(Offset::ZERO, |core| core.stable_end());
        let mut is_matched = false;
        for (text, _) in work.filters() {
            let Some(group) = filtered.groups.get_mut(text) else { continue };
            // Something that it matches is on its way.
            is_matched |= core.is_some() && group.last.is_some_and(|last| last >= readable);
            group.waiting.insert(name.clone());
        }
        if is_matched {
            work.is_called = true;
            // Everything else that is called for lies further on.
            self.called.push_front((readable, name));
        }
    }

    /// Records were staged: those that wait for some of them are called for. How many cursors were looked at.
    pub(super) fn appended(
        &mut self,
        base: Offset,
        count: u32,
        attributes: &Attributes,
        works: &mut ByName,
    ) -> u64 {
        let Some(filtered) = &mut self.filtered else { return 0 };
        let Filtered { routes, groups, .. } = &mut **filtered;
        let called = &mut self.called;
        let mut visited = 0;
        let mut call = |group: &mut Group, first: Offset, last: Offset| {
            group.last = Some(last);
            for name in std::mem::take(&mut group.waiting) {
                visited += 1;
                if let Some(work) = works.get_mut(&name)
                    && work.is_waited_at()
                    && !work.is_called
                {
                    work.is_called = true;
                    called.push_back((first, name));
                }
            }
        };
        if matches!(attributes, Attributes::None) {
            // The keys are in the records: nobody reads them for this.
            let last = base.plus(u64::from(count.saturating_sub(1)));
            groups.values_mut().for_each(|group| call(group, base, last));
            return visited;
        }
        let key_of = |index| attributes.of(index).and_then(|row| row.route_key.as_deref());
        let mut first = 0;
        while first < count {
            let key = key_of(first);
            let end = (first + 1..count).find(|index| key_of(*index) != key).unwrap_or(count);
            let (from, last) = (base.plus(u64::from(first)), base.plus(u64::from(end - 1)));
            first = end;
            let Some(key) = key else { continue };
            routes.targets(key, &[], |text| {
                if let Some(group) = groups.get_mut(text) {
                    call(group, from, last);
                }
            });
        }
        visited
    }

    /// Takes those out who are to be told now that the log can be read up to `end`.
    pub(super) fn take(&mut self, end: Offset) -> Vec<Arc<str>> {
        let mut told: Vec<Arc<str>> = self.open.drain(..).collect();
        while self.called.front().is_some_and(|(offset, _)| *offset < end) {
            told.extend(self.called.pop_front().map(|(_, name)| name));
        }
        told
    }
}
