//! The work cursors of one log, and the indexes that keep a commit, a lease and a settlement from costing anything for
//! those that have nothing to do: when each wants to be looked at, who waits for which records, and what left the log
//! since each looked last.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use cursor::{Changes, HolderId, Span};
use model::{Attributes, Offset, Result};
use route::Pattern;
use store::LogCore;

use super::{
    QUEUE_WORK,
    by_name::ByName,
    prepared::{PART, Prepared},
    state::{Drops, WorkState},
    waits::Waits,
};
use crate::watch::Watch;

/// Spans that left the log and are kept for cursors that have not heard of them; a cursor that missed some looks for the
/// gaps of the log from its floor on.
const GONE_MAX: usize = 1_024;

/// The work cursors of one log.
#[derive(Default)]
pub(crate) struct Works {
    by_name: ByName,
    /// Once there were several, or one for some records only: a single one needs no finding.
    index: Option<Box<Index>>,
    /// While a checkpoint is made of many of them.
    prepared: Option<Box<Prepared>>,
    /// Records below could be read when waiters were told last.
    told_end: Offset,
    /// Cursors that were looked at: what it costs.
    visited: u64,
}

/// What finds those of several cursors that have something to do.
#[derive(Default)]
struct Index {
    /// When each wants to be looked at, but for those that were touched since.
    due: BTreeSet<(i64, Arc<str>)>,
    /// Those that may want to be looked at at another time than `due` says, each once.
    touched: Vec<Arc<str>>,
    waits: Waits,
    gone: Gone,
}

/// What left the log lately.
#[derive(Default)]
pub(super) struct Gone {
    spans: VecDeque<Span>,
    /// The number of the first of them; each gets the next one.
    first: u64,
}

impl Gone {
    fn add(&mut self, span: Span) {
        if self.spans.len() == GONE_MAX {
            self.spans.pop_front();
            self.first += 1;
        }
        self.spans.push_back(span);
    }

    /// The number of the next one.
    pub(super) fn next(&self) -> u64 {
        self.first + self.spans.len() as u64
    }

    /// Those from number `from` on; `None` when some of them are not kept any more.
    pub(super) fn since(&self, from: u64) -> Option<impl Iterator<Item = Span> + '_> {
        let known = usize::try_from(from.checked_sub(self.first)?).ok()?;
        Some(self.spans.iter().skip(known).copied())
    }
}

impl Index {
    fn touch(&mut self, work: &mut WorkState) {
        if !work.is_touched {
            work.is_touched = true;
            self.touched.push(work.name.clone());
        }
    }

    /// A cursor comes.
    fn enter(&mut self, work: &mut WorkState, core: Option<&LogCore>) {
        self.waits.enter(&work.name, work.filters(), core);
        work.gone_seen = self.gone.next();
        self.touch(work);
        self.waits.list(work, core);
    }

    /// A cursor goes.
    fn leave(&mut self, work: &WorkState) {
        self.waits.leave(&work.name, work.filters());
        if let Some(due_ms) = work.due_ms {
            self.due.remove(&(due_ms, work.name.clone()));
        }
        if work.is_touched {
            self.touched.retain(|touched| *touched != work.name);
        }
    }
}

/// Notes, where somebody wants to know, that a cursor changes: it may want to be looked at at another time.
fn touch<'w>(
    index: &mut Option<Box<Index>>,
    prepared: &mut Option<Box<Prepared>>,
    work: &'w mut WorkState,
) -> &'w mut WorkState {
    if let Some(index) = index {
        index.touch(work);
    }
    if let Some(prepared) = prepared {
        prepared.changed(&work.name);
    }
    work
}

/// Has a cursor take in how far the log goes and what left it.
fn follow<'w>(work: &'w mut WorkState, index: &Option<Box<Index>>, core: &LogCore) -> &'w mut WorkState {
    match index {
        Some(index) => work.follow(core, &index.gone),
        None => work.follow(core, &Gone::default()),
    }
    work
}

impl Works {
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cursors that were looked at since the start.
    pub(crate) fn visited(&self) -> u64 {
        self.visited
    }

    pub(crate) fn get(&self, name: &str) -> Option<&WorkState> {
        self.by_name.get(name)
    }

    /// One of them, to change.
    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut WorkState> {
        let work = self.by_name.get_mut(name)?;
        self.visited += 1;
        Some(touch(&mut self.index, &mut self.prepared, work))
    }

    /// One of them, after it took in how far the log goes and what left it.
    pub(crate) fn followed(&mut self, name: &str, core: &LogCore) -> Option<&mut WorkState> {
        let work = self.by_name.get_mut(name)?;
        self.visited += 1;
        Some(follow(touch(&mut self.index, &mut self.prepared, work), &self.index, core))
    }

    /// All of them, in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &WorkState> {
        self.by_name.iter()
    }

    /// All of them, to change.
    pub(crate) fn values_mut(&mut self) -> impl Iterator<Item = &mut WorkState> {
        self.visited += self.len() as u64;
        let (index, prepared) = (&mut self.index, &mut self.prepared);
        self.by_name.iter_mut().map(move |work| touch(index, prepared, work))
    }

    /// All of them, each after [`Works::followed`].
    pub(crate) fn all_followed(&mut self, core: &LogCore) -> impl Iterator<Item = &mut WorkState> {
        self.visited += self.len() as u64;
        let (index, prepared) = (&mut self.index, &mut self.prepared);
        self.by_name.iter_mut().map(move |work| follow(touch(index, prepared, work), index, core))
    }

    /// The index, from now on.
    fn indexed(&mut self, core: Option<&LogCore>) -> &mut Index {
        let by_name = &mut self.by_name;
        self.index.get_or_insert_with(|| {
            let mut index = Box::<Index>::default();
            by_name.iter_mut().for_each(|work| index.enter(work, core));
            index
        })
    }

    /// Adds a cursor. `core` where records may be staged that nobody can read yet.
    pub(crate) fn insert(&mut self, mut work: Box<WorkState>, core: Option<&LogCore>) {
        self.remove(&work.name.clone());
        if self.index.is_some() || !self.is_empty() || work.filters().len() > 0 {
            self.indexed(core).enter(&mut work, core);
        }
        touch(&mut None, &mut self.prepared, &mut work);
        self.by_name.insert(work);
    }

    pub(crate) fn remove(&mut self, name: &str) -> Option<Box<WorkState>> {
        let mut work = self.by_name.remove(name)?;
        touch(&mut None, &mut self.prepared, &mut work);
        if let Some(index) = &mut self.index {
            index.leave(&work);
        }
        Some(work)
    }

    /// Makes a cursor one for other records.
    pub(crate) fn set_filter(
        &mut self,
        name: &str,
        filter: Vec<String>,
        patterns: Box<[Pattern]>,
        core: Option<&LogCore>,
    ) -> bool {
        self.indexed(core);
        let (Some(work), Some(index)) = (self.by_name.get_mut(name), &mut self.index) else { return false };
        index.waits.leave(&work.name, work.filters());
        work.set_filter(filter, patterns);
        index.waits.enter(&work.name, work.filters(), core);
        (work.is_listed, work.is_called) = (false, false);
        index.waits.list(work, core);
        touch(&mut self.index, &mut self.prepared, work);
        true
    }

    /// Sets a cursor to `to`. Whether it is there.
    pub(crate) fn seek(&mut self, name: &str, to: Offset, core: &LogCore, changes: &mut Changes) -> bool {
        let Some(work) = self.by_name.get_mut(name) else { return false };
        self.visited += 1;
        touch(&mut self.index, &mut self.prepared, work);
        work.seek(to, changes);
        follow(work, &self.index, core);
        work.tell_next();
        true
    }

    /// Encodes some of them for a checkpoint that comes soon. Whether nothing is left to do for it: few are encoded when it
    /// comes.
    pub(crate) fn prepare(&mut self) -> Result<bool> {
        if self.prepared.is_none() && self.len() <= PART {
            return Ok(true);
        }
        let prepared = self.prepared.get_or_insert_default();
        if !prepared.is_whole() {
            let last = prepared.last().cloned();
            prepared.add(self.by_name.behind(last.as_ref()))?;
        }
        Ok(prepared.is_whole())
    }

    /// Appends all of them to `out`, as a checkpoint has them.
    pub(crate) fn put(&self, out: &mut Vec<u8>) -> Result<()> {
        match self.prepared.as_deref().filter(|prepared| prepared.is_whole()) {
            Some(prepared) => prepared.put(out, |name| self.get(name)),
            None => self.iter().try_for_each(|work| work.encode(out)),
        }
    }

    /// The checkpoint has them.
    pub(crate) fn forget_prepared(&mut self) {
        self.prepared = None;
    }

    /// When the first of them wants to be looked at, milliseconds since the Unix epoch.
    pub(crate) fn next_due_ms(&mut self) -> Option<i64> {
        let Some(index) = &mut self.index else {
            self.visited += self.by_name.len() as u64;
            return self.by_name.iter().next().and_then(WorkState::wants_look_ms);
        };
        self.visited += index.touched.len() as u64;
        for name in index.touched.drain(..) {
            let Some(work) = self.by_name.get_mut(&name) else { continue };
            work.is_touched = false;
            let due_ms = work.wants_look_ms();
            if work.due_ms != due_ms {
                if let Some(before) = work.due_ms {
                    index.due.remove(&(before, name.clone()));
                }
                if let Some(due_ms) = due_ms {
                    index.due.insert((due_ms, name));
                }
                work.due_ms = due_ms;
            }
        }
        index.due.first().map(|(due_ms, _)| *due_ms)
    }

    /// Those that want to be looked at by now, and a queue's own.
    pub(crate) fn due(&mut self, now_ms: i64) -> Vec<Arc<str>> {
        let next_ms = self.next_due_ms();
        let mut due: Vec<Arc<str>> = match &self.index {
            Some(index) => {
                let by_now = index.due.iter().take_while(|(due_ms, _)| *due_ms <= now_ms);
                by_now.map(|(_, name)| name.clone()).collect()
            }
            None => {
                let by_now = self.by_name.iter().filter(|_| next_ms.is_some_and(|due_ms| due_ms <= now_ms));
                by_now.map(|work| work.name.clone()).collect()
            }
        };
        if let Some(own) = self.by_name.get(QUEUE_WORK)
            && !due.contains(&own.name)
        {
            due.push(own.name.clone());
        }
        due
    }

    /// Arms `watch` for `holder` at a cursor, or tells it at once. Whether the cursor is there.
    pub(crate) fn wait(&mut self, name: &str, core: &LogCore, holder: HolderId, watch: &Watch) -> bool {
        let Some(work) = self.by_name.get_mut(name) else { return false };
        self.visited += 1;
        touch(&mut self.index, &mut self.prepared, work);
        follow(work, &self.index, core);
        work.wait(holder, watch);
        if let Some(index) = &mut self.index {
            index.waits.list(work, Some(core));
        }
        true
    }

    /// Records are about to be appended: those that wait for some of them are told when they can be read.
    pub(crate) fn appended(&mut self, base: Offset, count: u32, attributes: &Attributes) {
        if let Some(index) = &mut self.index
            && index.waits.has_filters()
        {
            self.visited += index.waits.appended(base, count, attributes, &mut self.by_name);
        }
    }

    /// The log moved: tells those whose records can be read now.
    pub(crate) fn moved(&mut self, core: &LogCore) {
        if core.is_deleted() {
            self.index.iter_mut().for_each(|index| index.waits = Waits::default());
            return self.values_mut().for_each(WorkState::tell_all);
        }
        if core.stable_end() <= self.told_end {
            return;
        }
        self.told_end = core.stable_end();
        let Some(index) = &mut self.index else {
            for work in self.by_name.iter_mut().filter(|work| work.is_waited_at()) {
                self.visited += 1;
                follow(touch(&mut None, &mut self.prepared, work), &None, core);
                work.tell_next();
            }
            return;
        };
        for name in index.waits.take(self.told_end) {
            let Some(work) = self.by_name.get_mut(&name) else { continue };
            self.visited += 1;
            index.touch(work);
            touch(&mut None, &mut self.prepared, work);
            (work.is_listed, work.is_called) = (false, false);
            work.follow(core, &index.gone);
            work.tell_next();
            index.waits.list(work, Some(core));
        }
    }

    /// Whether any cursor is for records of this route key.
    pub(crate) fn wants_key(&self, route_key: Option<&[u8]>) -> bool {
        let Some(index) = &self.index else { return !self.is_empty() };
        self.len() > index.waits.filtered_count() || route_key.is_some_and(|key| index.waits.matches(key))
    }

    /// Whether `holds` for every cursor that is for records of this route key.
    pub(crate) fn all_that_want(&self, route_key: &[u8], mut holds: impl FnMut(&WorkState) -> bool) -> bool {
        let Some(index) = &self.index else { return self.iter().all(holds) };
        let mut all = self.get(QUEUE_WORK).is_none_or(&mut holds);
        let mut ask = |name: &Arc<str>| all = all && self.get(name).is_none_or(&mut holds);
        index.waits.unfiltered().for_each(&mut ask);
        index.waits.filtered(route_key, ask);
        all
    }

    /// These records left the log. A queue's own cursor hears of it at once, for what it has counts for its length; so
    /// does one that is alone. Others hear of it when they are looked at.
    pub(crate) fn left(&mut self, core: &LogCore, span: Span) {
        if self.tell_own(core, span) < self.len()
            && let Some(index) = &mut self.index
        {
            index.gone.add(span);
        }
    }

    /// As [`Works::left`], for everything below `to`: others see that by where the log starts.
    pub(crate) fn trimmed(&mut self, core: &LogCore, to: Offset) {
        self.tell_own(core, Span::new(Offset::ZERO, to));
    }

    fn tell_own(&mut self, core: &LogCore, span: Span) -> usize {
        let is_one = self.len() == 1;
        let own = if is_one { self.by_name.iter_mut().next() } else { self.by_name.get_mut(QUEUE_WORK) };
        let Some(own) = own else { return 0 };
        self.visited += 1;
        touch(&mut self.index, &mut self.prepared, own);
        let readable = core.durable_end().max(own.cursor.end());
        // Behind others that cannot be read yet: it is passed over with the gaps, once it could be read.
        if span.start <= readable {
            own.cursor.note_appended(readable.max(span.end).min(core.end()));
            own.cursor.skip(span);
        }
        1
    }

    /// When what they settle leaves the log.
    pub(crate) fn set_drops(&mut self, drops: Drops) {
        self.values_mut().for_each(|work| work.drops = drops);
    }

    /// Records with a time of their own were appended.
    pub(crate) fn note_due(&mut self, base: Offset, count: u32, attributes: &Attributes) {
        self.values_mut().for_each(|work| work.note_due(base, count, attributes));
    }
}
