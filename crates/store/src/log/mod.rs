//! One log under its lock, and the locking of several at once to change them in one unit.

mod ages;
mod core;
mod gaps;
pub(crate) mod live;

#[cfg(test)]
mod tests;

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use model::{
    Attributes, Batch, BatchFlags, Error, FormatTag, LogId, Offset, Origin, OwnerEpoch, ProducerStamp,
    Result, Seq, limits,
};
use parking_lot::{Mutex, MutexGuard};

pub(crate) use self::ages::TimePoint;
pub use self::ages::{Keep, TimeOf};
pub use self::core::{Bounds, LogCore};
pub(crate) use self::core::{CoreSnapshot, Gone, OFFSETS_LOST_MAX};
pub use self::live::EXTENT_LEN;
use crate::{
    Attached, Change, Durability, Entry, Stamp, StampFacts, Unit,
    store::Inner,
    wal::{Class, Permit, codec::stored_len},
};

/// One log: the engine's state of it and the caller's, under one lock.
pub struct Log<A> {
    id: LogId,
    state: Mutex<LogState<A>>,
}

pub(crate) struct LogState<A> {
    pub core: LogCore,
    pub attached: A,
}

impl<A: Attached> Log<A> {
    pub(crate) fn new(core: LogCore, attached: A) -> Self {
        Log { id: core.id(), state: Mutex::new(LogState { core, attached }) }
    }

    /// Which log it is.
    pub fn id(&self) -> LogId {
        self.id
    }

    /// Looks at both states, and may change the caller's as far as no entry is needed for it (waiters, caches).
    /// To be short: the log is locked meanwhile.
    pub fn with<R>(&self, look: impl FnOnce(&LogCore, &mut A) -> R) -> R {
        let mut state = self.state.lock();
        let LogState { core, attached } = &mut *state;
        look(core, attached)
    }

    /// The log's bounds now.
    pub fn bounds(&self) -> Bounds {
        self.state.lock().core.bounds()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, LogState<A>> {
        self.state.lock()
    }
}

impl<A: Attached> LogState<A> {
    /// Tells the attached state when what readers see differs from `before`.
    pub fn tell(&mut self, before: Bounds) {
        self.core.set_stable_limit(self.attached.stable_limit());
        if self.core.bounds() != before || self.core.is_deleted() {
            self.attached.moved(&self.core);
        }
    }
}

/// Records to append: a batch whose place and time the log decides.
#[derive(Clone, Debug)]
pub struct NewBatch {
    /// How many offsets it takes, 1..=[`limits::BATCH_RECORDS_MAX`].
    pub count: u32,
    /// Latest event time, when it may differ from the append time, milliseconds since the Unix epoch.
    pub max_event_time_ms: Option<i64>,
    /// Which format reads `body`.
    pub format: FormatTag,
    /// See [`BatchFlags`].
    pub flags: BatchFlags,
    /// Who numbers it.
    pub producer: Option<ProducerStamp>,
    /// Where it was appended first, if not here.
    pub origin: Option<Origin>,
    /// What the engine decides on.
    pub attributes: Attributes,
    /// The bytes as the producer sent them, at most [`limits::BATCH_LEN_MAX`].
    pub body: Bytes,
    /// Writes base offset, epoch and append time into the stored copy.
    pub stamp: Option<Stamp>,
    /// Whether these records survive a crash; `None` for the log's own setting.
    pub durability: Option<Durability>,
}

impl NewBatch {
    /// A batch of `count` records with nothing but a format and bytes.
    pub fn new(count: u32, format: FormatTag, body: Bytes) -> Self {
        NewBatch {
            count,
            max_event_time_ms: None,
            format,
            flags: BatchFlags::default(),
            producer: None,
            origin: None,
            attributes: Attributes::None,
            body,
            stamp: None,
            durability: None,
        }
    }

    fn at(self, base: Offset, append_time_ms: i64) -> Batch {
        Batch {
            base,
            count: self.count.clamp(1, limits::BATCH_RECORDS_MAX),
            append_time_ms,
            max_event_time_ms: self.max_event_time_ms.filter(|time| *time != append_time_ms),
            format: self.format,
            flags: self.flags,
            producer: self.producer,
            origin: self.origin,
            attributes: self.attributes,
            body: self.body,
        }
    }
}

/// What an append was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base: Offset,
    /// Append time, milliseconds since the Unix epoch.
    pub append_time_ms: i64,
}

/// Several logs locked in the order of their ids, and the unit that is being built over them. What was staged is
/// committed when this goes out of scope, whether or not [`crate::Store::commit`] was called: a log's state never runs
/// ahead of its entries.
pub struct Locked<'a, A: Attached> {
    store: Arc<Inner<A>>,
    parts: Vec<Part<'a, A>>,
    entries: Vec<Entry>,
    /// An earlier unit that has to be durable before what was staged is certain.
    wait: Seq,
    now_ms: i64,
}

struct Part<'a, A> {
    log: &'a Log<A>,
    state: MutexGuard<'a, LogState<A>>,
    /// What it had when it was locked.
    before: Before,
    /// Whether entries of it were staged.
    staged: bool,
}

/// What a log had before it was changed.
struct Before {
    bounds: Bounds,
    volatile_len: u64,
    extents: usize,
    /// Bytes of live records.
    len: u64,
}

impl Before {
    fn of(core: &LogCore) -> Self {
        Before {
            bounds: core.bounds(),
            volatile_len: core.volatile_len(),
            extents: core.live.extents().len(),
            len: core.bytes(),
        }
    }
}

impl<'a, A: Attached> Locked<'a, A> {
    pub(crate) fn new(store: Arc<Inner<A>>, logs: &[&'a Arc<Log<A>>]) -> Self {
        let mut logs = logs.to_vec();
        logs.sort_by_key(|log| log.id);
        logs.dedup_by_key(|log| log.id);
        let lock = |log: &'a Arc<Log<A>>| {
            let state = log.state.lock();
            let before = Before::of(&state.core);
            Part { log, state, before, staged: false }
        };
        let parts = logs.into_iter().map(lock).collect();
        let now_ms = store.env.clock.wall_ms();
        Locked { store, parts, entries: Vec::new(), wait: Seq(0), now_ms }
    }

    /// The log `id`, which must be among the locked ones ([`model::ErrorKind::Internal`] otherwise).
    pub fn log(&mut self, id: LogId) -> Result<LockedLog<'_, A>> {
        let at = self.parts.binary_search_by_key(&id, |part| part.log.id);
        let at = at.map_err(|_| Error::internal(format!("log {id} is not locked")))?;
        let Part { state, staged, .. } = &mut self.parts[at];
        let LogState { core, attached } = &mut **state;
        Ok(LockedLog {
            core,
            attached,
            staged,
            entries: &mut self.entries,
            wait: &mut self.wait,
            now_ms: self.now_ms,
        })
    }

    /// Wall time of the unit, milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Whether nothing was staged that needs a commit.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Makes it durable that the log goes on at its end, in a new epoch, and reserves ahead where its records are
    /// volatile. The state has it already.
    pub(crate) fn went_on(&mut self, id: LogId) {
        if let Ok(mut log) = self.log(id) {
            log.core.set_epoch(OwnerEpoch(log.core.epoch().0.saturating_add(1)));
            log.push(Change::Advance(log.core.end()));
            if log.core.durability() == Durability::Memory
                && let Some(ahead) = log.core.reservation_for(log.core.end())
            {
                log.change(Change::Reserve(ahead));
            }
        }
    }

    pub(crate) fn finish(mut self, permit: Permit) -> Seq {
        self.submit(permit)
    }

    fn submit(&mut self, permit: Permit) -> Seq {
        let entries = std::mem::take(&mut self.entries);
        let seq =
            if entries.is_empty() { self.wait } else { self.store.wal.submit(permit, Unit { entries }) };
        for part in std::mem::take(&mut self.parts) {
            let Part { log, mut state, before, staged } = part;
            match staged {
                true => state.core.submitted(seq),
                false => state.core.nothing_submitted(),
            }
            self.store.volatile.moved(before.volatile_len, state.core.volatile_len());
            self.store.unflushed.extents_moved(before.extents, state.core.live.extents().len());
            if state.core.durability() == Durability::Fsync {
                let is_deleted = staged && state.core.is_deleted();
                self.store.died(before.len, state.core.bytes(), is_deleted);
            }
            state.tell(before.bounds);
            if staged && state.core.is_deleted() {
                self.store.forget(log.id, seq);
            }
        }
        seq
    }
}

impl<A: Attached> Drop for Locked<'_, A> {
    fn drop(&mut self) {
        if !self.parts.is_empty() {
            let permit = self.store.no_room(Class::Drain);
            self.submit(permit);
        }
    }
}

/// One of the logs of a [`Locked`]. Changes are applied to the staged state at once and cannot fail; those of a deleted
/// log are ignored.
pub struct LockedLog<'l, A> {
    core: &'l mut LogCore,
    attached: &'l mut A,
    staged: &'l mut bool,
    entries: &'l mut Vec<Entry>,
    wait: &'l mut Seq,
    now_ms: i64,
}

impl<A: Attached> LockedLog<'_, A> {
    /// The engine's state of the log, with everything staged so far.
    pub fn core(&self) -> &LogCore {
        self.core
    }

    /// The caller's state of the log.
    pub fn attached(&mut self) -> &mut A {
        self.attached
    }

    /// Both at once.
    pub fn parts(&mut self) -> (&LogCore, &mut A) {
        (self.core, self.attached)
    }

    /// Wall time of the unit, milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Appends at the log's end, with the present as its time, or the last append's time if the clock went back.
    pub fn append(&mut self, batch: NewBatch) -> Appended {
        self.append_at(self.core.end(), self.now_ms, batch)
    }

    /// Appends at `base` (the offsets between the end and it become a gap), with `time_ms` as its append time. A base
    /// below the end and a time before the last append's are raised to those.
    pub fn append_at(&mut self, base: Offset, time_ms: i64, batch: NewBatch) -> Appended {
        let base = base.max(self.core.end());
        let append_time_ms = self.core.append_time(time_ms);
        let durability = batch.durability.unwrap_or(self.core.durability());
        let stamp = batch.stamp;
        let batch = batch.at(base, append_time_ms);
        if self.core.is_deleted() {
            return Appended { base, append_time_ms };
        }
        self.advance(base);
        match durability {
            Durability::Fsync => {
                let len = u32::try_from(stored_len(&batch)).unwrap_or(u32::MAX);
                self.core.stage_batch(&batch, len);
                self.push(Change::Data { batch, stamp });
            }
            Durability::Memory => self.append_volatile(batch, stamp),
        }
        Appended { base, append_time_ms }
    }

    fn append_volatile(&mut self, mut batch: Batch, stamp: Option<Stamp>) {
        if let Some(reserve) = self.core.reservation_for(batch.end()) {
            self.change(Change::Reserve(reserve));
        }
        if let Some(stamp) = stamp {
            let facts = StampFacts {
                base: batch.base,
                epoch: self.core.epoch(),
                append_time_ms: batch.append_time_ms,
            };
            let mut body = batch.body.to_vec();
            stamp(&mut body, facts);
            batch.body = body.into();
        }
        let len = u32::try_from(batch.body.len()).unwrap_or(u32::MAX).saturating_add(VOLATILE_OVERHEAD_LEN);
        if let Some(pending) = self.core.stage_volatile(batch, len) {
            *self.wait = pending.max(*self.wait);
        }
    }

    /// Drops these offsets: ascending, not overlapping. Gaps and what is beyond the end are left out; a drop of
    /// nothing writes nothing.
    pub fn drop_offsets(&mut self, ranges: Vec<Range<Offset>>) {
        let (start, end) = (self.core.start(), self.core.end());
        let clip = |range: Range<Offset>| range.start.max(start)..range.end.min(end);
        let ranges: Vec<_> = ranges.into_iter().map(clip).filter(|range| range.start < range.end).collect();
        if !ranges.is_empty() {
            self.change(Change::Drop(ranges));
        }
    }

    /// Moves the log's start to `to` (its end at most); everything below is gone.
    pub fn trim(&mut self, to: Offset) {
        let to = to.min(self.core.end());
        if to > self.core.start() {
            self.change(Change::Trim(to));
        }
    }

    /// Moves the log's end to `to`; the offsets between are a gap. A `to` that is not beyond the end changes nothing.
    pub fn advance(&mut self, to: Offset) {
        if to > self.core.end() {
            self.change(Change::Advance(to));
        }
    }

    /// Writes state of the caller's, which comes back through [`Attached::replay`].
    pub fn note(&mut self, note: Bytes) {
        self.change(Change::Note(note));
    }

    /// Deletes the log with everything in it. Its id is never used again.
    pub fn delete(&mut self) {
        self.change(Change::Delete);
    }

    fn change(&mut self, change: Change) {
        if !self.core.is_deleted() {
            self.core.stage_change(&change);
            self.push(change);
        }
    }

    fn push(&mut self, change: Change) {
        *self.staged = true;
        self.entries.push(Entry { log: self.core.id(), epoch: self.core.epoch(), change });
    }
}

/// What a batch in memory counts for beside its body.
const VOLATILE_OVERHEAD_LEN: u32 = 160;
