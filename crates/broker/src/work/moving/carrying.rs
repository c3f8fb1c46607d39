//! One unit of dead letters.
//!
//! A unit holds about [`UNIT_LEN`] bytes of copies. What is one record's comes to more where it goes to many queues: the
//! copies are stored in several units then, of which the last takes the record away. Which queues have theirs is kept in
//! mind until it does; a crash between leaves the record where it is, and gives those queues a second copy.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use cursor::{RecordState, Span, Spans};
use model::{Error, LogId, Offset, Origin, Place, Result, Seq, limits};
use parking_lot::Mutex;
use store::{Class, Durability, LockedLog, LogCore};

use super::{
    super::{Claim, Settled, Work, settling, window::Window},
    MOVED_LEN, Singles, Why, attempts_of, stays, still, with_attempts,
};
use crate::{
    broker::{append, check},
    faults::Fault,
    log_state::LogState,
    publish::{Conditions, NewBatch, Outcome, Refusal, RefusalReason},
    redirect::{DEAD_LETTERS, DeadLetters, Letter},
    settings::{DeadLetter, Overflow, StreamSettings},
    stream::{Partition, Stream, closed},
};

/// Bytes of all copies that are stored in one unit, of several records.
const UNIT_LEN: usize = 4 << 20;

/// Records whose copies are stored in one unit.
const RECORDS_MAX: usize = 1_000;

/// Records of which some copies are stored and others are not.
const HALFWAY_MAX: usize = 64;

type Locked<'a> = store::Locked<'a, LogState>;

/// What came of a unit.
pub(in super::super) struct Carried {
    pub settled: Settled,
    pub wait: Seq,
    /// Those that did not fit.
    pub left: Spans,
}

/// The queues that have their copy of a record that is not taken away yet.
#[derive(Default)]
pub(crate) struct Halfway(Mutex<BTreeMap<(LogId, Offset), BTreeSet<LogId>>>);

impl Halfway {
    fn has(&self, record: (LogId, Offset), target: LogId) -> bool {
        self.0.lock().get(&record).is_some_and(|targets| targets.contains(&target))
    }

    fn note(&self, record: (LogId, Offset), target: LogId) {
        let mut all = self.0.lock();
        all.entry(record).or_default().insert(target);
        while all.len() > HALFWAY_MAX {
            all.pop_first();
        }
    }

    fn forget(&self, record: (LogId, Offset)) {
        self.0.lock().remove(&record);
    }
}

/// How long dead letters wait for memory: then a unit of them is stored beyond the bound, and the next ones wait anew.
/// Nanoseconds.
const PATIENCE_NS: u64 = 5_000_000_000;

/// Since when dead letters wait for memory, monotonic nanoseconds; 0 = they do not.
#[derive(Default)]
pub(crate) struct Patience(AtomicU64);

impl Patience {
    /// Whether they have waited long enough, now that there is no memory.
    fn is_over(&self, now_ns: u64) -> bool {
        let since_ns = self.0.load(Ordering::Relaxed);
        let is_new = since_ns == 0 || now_ns.saturating_sub(since_ns) >= 2 * PATIENCE_NS;
        let is_over = !is_new && now_ns.saturating_sub(since_ns) >= PATIENCE_NS;
        if is_new || is_over {
            self.0.store(now_ns.max(1), Ordering::Relaxed);
        }
        is_over
    }
}

/// A copy of a record, and where it goes.
type Placed = (Arc<Partition>, NewBatch);

/// A record ready to be appended elsewhere.
struct Ready {
    offset: Offset,
    copies: Vec<Placed>,
    /// Those of them that do without it while they are full.
    refusing: Vec<LogId>,
    /// Where it goes instead when one of these is full.
    kept: Option<Placed>,
}

impl Ready {
    fn all(&self) -> impl Iterator<Item = &Placed> {
        self.copies.iter().chain(&self.kept)
    }

    fn len(&self) -> usize {
        self.all().map(len_of).sum()
    }

    /// Bytes of memory that it takes more than it gives back.
    fn memory_len(&self, is_in_memory: bool) -> usize {
        let lens = self.copies.iter().filter(|copy| is_volatile(copy)).map(len_of);
        let is_in_memory = is_in_memory || self.copies.iter().any(|(_, batch)| is_transient(batch));
        let given_back = if is_in_memory { lens.clone().max().unwrap_or(0) } else { 0 };
        lens.sum::<usize>() - given_back
    }
}

fn len_of((_, batch): &Placed) -> usize {
    batch.body.len() + MOVED_LEN
}

fn is_transient(batch: &NewBatch) -> bool {
    batch.durability == Some(Durability::Memory)
}

fn is_volatile((partition, batch): &Placed) -> bool {
    is_transient(batch) || (batch.durability.is_none() && partition.is_volatile())
}

/// Who takes the dead letters of a stream.
enum Takes {
    /// One partition.
    One(Arc<Partition>, DeadLetter),
    /// A dialect, along its routes.
    Dialect(Arc<Stream>, Arc<dyn DeadLetters>),
}

impl Work {
    /// [`Work::carry_some`], where what is left comes again by itself.
    pub(in super::super) fn carry(&self, spans: &Spans, window: &Window, why: Why) -> Result<(Settled, Seq)> {
        self.carry_some(spans, window, why).map(|carried| (carried.settled, carried.wait))
    }

    /// Moves those of `spans` that are still as `why` says, as far as one unit holds them. Without a target they are gone.
    pub(in super::super) fn carry_some(&self, spans: &Spans, window: &Window, why: Why) -> Result<Carried> {
        let settings = self.settings();
        let takes = settings.as_deref().map(|of| self.takes(of)).transpose()?.flatten();
        let (mut ready, spans, left) = match &takes {
            Some(takes) => self.prepare(spans, window, takes, why)?,
            None => (Vec::new(), spans.clone(), Spans::new()),
        };
        if let [one] = &mut ready[..] {
            self.store_most(one, why)?;
        }
        let targets = targets_of(&ready, takes.as_ref());
        let store = self.broker.store();
        let len = ready.iter().map(Ready::len).sum::<usize>();
        let class = if len > 0 { Class::Move } else { Class::Drain };
        let permit = store.reserve(len + 64 * spans.run_count(), class)?;
        self.reserve_memory(&ready)?;
        let logs: Vec<_> =
            [&self.partition].into_iter().chain(&targets).map(|partition| partition.log()).collect();
        let mut locked = store.lock(&logs);
        let now_ms = locked.now_ms();
        let has_place = match &takes {
            Some(Takes::One(partition, _)) => !locked.log(partition.log_id())?.core().is_deleted(),
            Some(Takes::Dialect(..)) => true,
            None => false,
        };
        let mut source = locked.log(self.partition.log_id())?;
        if source.core().is_deleted() {
            return Err(closed());
        }
        if !has_place && why == Why::Exhausted && settings.is_some_and(|settings| stays(&settings)) {
            return Ok(Carried { settled: Settled::default(), wait: Seq(0), left });
        }
        let spans = still(&mut source, &self.name, &spans, why);
        let mut attempts = Vec::with_capacity(ready.len());
        for one in &ready {
            attempts.push(attempts_of(&mut source, &self.name, one.offset));
        }
        let settled = self.take_away(&mut locked, spans, why, now_ms)?;
        for (one, attempts) in ready.into_iter().zip(attempts) {
            self.broker.inner.halfway.forget((self.partition.log_id(), one.offset));
            if settled.done.contains(one.offset) {
                store_copies(&mut locked, one, attempts)?;
            }
        }
        let wait = store.commit(permit, locked);
        self.broker.inner.counters.dead_lettered.add(settled.done.count());
        self.broker.schedule(&self.partition);
        targets.iter().for_each(|partition| self.broker.schedule(partition));
        Ok(Carried { settled, wait, left })
    }

    fn take_away(&self, locked: &mut Locked<'_>, spans: Spans, why: Why, now_ms: i64) -> Result<Settled> {
        if self.broker.options().faults.has(Fault::RejectedStays) {
            return Ok(Settled { done: spans, ..Settled::default() });
        }
        let claim = match why {
            Why::Rejected(claim) => claim,
            Why::Exhausted | Why::Expired | Why::Excess => Claim::Anyone,
        };
        let (verdict, fate) = (cursor::Verdict::Settle, settling::Fate::Gone);
        let mut source = locked.log(self.partition.log_id())?;
        settling::settle_as(&mut source, &self.name, &spans, claim, verdict, fate, now_ms)
    }

    /// Stores copies of a record that are too much for one unit, but for those that the unit holds that takes it away.
    fn store_most(&self, one: &mut Ready, why: Why) -> Result<()> {
        let (store, halfway) = (self.broker.store(), &self.broker.inner.halfway);
        let record = (self.partition.log_id(), one.offset);
        one.copies.retain(|(partition, _)| !halfway.has(record, partition.log_id()));
        if let Some(kept) = &one.kept
            && one.copies.iter().any(|copy| is_full(copy, self.broker.env().clock.wall_ms()))
        {
            one.copies = vec![kept.clone()];
            return Ok(());
        }
        let mut left = one.len();
        while left > limits::BATCH_LEN_MAX && one.copies.len() > 1 {
            let Some(copy) = one.copies.first() else { break };
            let (len, partition) = (len_of(copy), copy.0.clone());
            let permit = store.reserve(len, Class::Move)?;
            if is_volatile(copy) {
                self.reserve_memory_len(len)?;
            }
            let mut locked = store.lock(&[self.partition.log(), partition.log()]);
            let mut source = locked.log(self.partition.log_id())?;
            if !is_meant(&mut source, &self.name, one.offset, why) {
                return Ok(());
            }
            let attempts = attempts_of(&mut source, &self.name, one.offset);
            // Those for one queue stay together.
            let of_it = |(other, _): &Placed| other.log_id() == partition.log_id();
            let (now, later) = std::mem::take(&mut one.copies).into_iter().partition(of_it);
            one.copies = later;
            let part = Ready { offset: one.offset, copies: now, refusing: one.refusing.clone(), kept: None };
            left = left.saturating_sub(part.len());
            store_copies(&mut locked, part, attempts)?;
            store.commit(permit, locked);
            halfway.note(record, partition.log_id());
            self.broker.schedule(&partition);
        }
        Ok(())
    }

    /// Asks for the memory that copies take which are kept there alone.
    fn reserve_memory(&self, ready: &[Ready]) -> Result<()> {
        let is_in_memory = self.partition.is_volatile();
        match ready.iter().map(|one| one.memory_len(is_in_memory)).sum() {
            0 => Ok(()),
            len => self.reserve_memory_len(len),
        }
    }

    fn reserve_memory_len(&self, len: usize) -> Result<()> {
        match self.broker.store().reserve_volatile(len) {
            // What would free memory may wait behind this.
            Err(_) if self.broker.inner.patience.is_over(self.broker.env().clock.mono_ns()) => Ok(()),
            reserved => reserved,
        }
    }

    /// Who takes the dead letters of the queue that it works.
    fn takes(&self, settings: &StreamSettings) -> Result<Option<Takes>> {
        if let Some(dialect) = settings.extras.get(DEAD_LETTERS) {
            let by = self.broker.inner.redirects.read().get(dialect.as_str()).cloned();
            let by = by.ok_or_else(|| Error::unavailable(format!("{dialect} takes no dead letters yet")))?;
            let stream = self.broker.stream_by_id(self.partition.stream_id());
            return Ok(stream.map(|stream| Takes::Dialect(stream, by)));
        }
        let target = self.broker.dead_letters_by(settings, &self.partition);
        Ok(target.map(|(partition, dead_letter)| Takes::One(partition, dead_letter)))
    }

    /// Makes copies of the records that the window has of `spans`, as much as one unit holds. Answers also which of them
    /// that are, and which are left.
    fn prepare(
        &self,
        spans: &Spans,
        window: &Window,
        takes: &Takes,
        why: Why,
    ) -> Result<(Vec<Ready>, Spans, Spans)> {
        let (mut ready, mut len, mut end) = (Vec::new(), 0, None);
        let (mut singles, place, mut base) = (Singles::default(), Cell::default(), None);
        for offset in spans.offsets() {
            let Some((batch, index, row)) = window.batch_at(offset) else { continue };
            if base.replace(batch.base) != Some(batch.base) {
                place.set(Place::default());
            }
            let one = match takes {
                Takes::One(partition, dead_letter) => {
                    let route_key = dead_letter.route_key.as_deref();
                    let copy = self.moved_copy((batch, index, row), offset, route_key, &mut singles)?;
                    Ready {
                        offset,
                        copies: vec![(partition.clone(), copy)],
                        refusing: Vec::new(),
                        kept: None,
                    }
                }
                Takes::Dialect(stream, by) => {
                    let letter = Letter { stream, batch, index, offset, reason: why.reason(), place: &place };
                    let origin = Some(self.origin_of(batch, offset));
                    self.addressed(&letter, &**by, origin)?
                }
            };
            if len > 0 && (len + one.len() > UNIT_LEN || ready.len() == RECORDS_MAX) {
                end = Some(offset);
                break;
            }
            len += one.len();
            ready.push(one);
        }
        let Some(end) = end else { return Ok((ready, spans.clone(), Spans::new())) };
        let (mut now, mut left) = (Spans::new(), Spans::new());
        for span in spans.iter() {
            let middle = end.clamp(span.start, span.end);
            now.add(Span::new(span.start, middle));
            left.add(Span::new(middle, span.end));
        }
        Ok((ready, now, left))
    }

    /// A record as its dialect addresses it.
    fn addressed(&self, letter: &Letter<'_>, by: &dyn DeadLetters, origin: Option<Origin>) -> Result<Ready> {
        let moved = |(partition, copy): Placed| (partition, NewBatch { origin, ..copy });
        let before = letter.place.get();
        let copies: Vec<_> = by.route(letter)?.into_iter().map(moved).collect();
        let (mut refusing, mut kept) = (Vec::new(), None);
        if copies.iter().any(|(partition, _)| may_refuse(partition)) {
            // It is looked for from where it was found, and the next one behind it.
            let behind = letter.place.replace(before);
            kept = by.keep(letter)?.map(moved);
            letter.place.set(behind);
            for (partition, _) in copies.iter().filter(|(partition, _)| may_refuse(partition)) {
                let stream = self.broker.stream_by_id(partition.stream_id());
                if stream.is_some_and(|stream| by.refuses(&stream)) {
                    refusing.push(partition.log_id());
                }
            }
        }
        Ok(Ready { offset: letter.offset, copies, refusing, kept })
    }
}

/// Whether a record is there as `why` says, and held as it says.
fn is_meant(log: &mut LockedLog<'_, LogState>, name: &str, offset: Offset, why: Why) -> bool {
    let alone = [Span::one(offset)].into_iter().collect();
    if !log.core().is_live(offset) || still(log, name, &alone, why).is_empty() {
        return false;
    }
    let (core, state) = log.parts();
    let held = state.followed(name, core).map(|work| work.cursor.state(offset));
    match (why, held) {
        (Why::Rejected(Claim::Holder(holder)), Some(RecordState::Leased(lease))) => lease.holder == holder,
        (Why::Rejected(Claim::Attempt(attempt)), Some(RecordState::Leased(lease))) => {
            lease.attempt == attempt
        }
        (Why::Rejected(Claim::Holder(_) | Claim::Attempt(_)), _) => false,
        _ => true,
    }
}

/// Whether a queue refuses what is published to it while it is full.
fn may_refuse(partition: &Partition) -> bool {
    partition.log().with(|_, state| {
        state.settings.as_deref().is_some_and(|settings| settings.overflow != Overflow::DropOldest)
    })
}

/// Appends the copies of a record. A queue that is gone gets none; one that is full does not either where it refuses letters,
/// and when the record is kept for it, no other does.
fn store_copies(locked: &mut Locked<'_>, one: Ready, attempts: u32) -> Result<()> {
    let mut copies = one.copies;
    if let Some(kept) = one.kept {
        for copy in &copies {
            if is_refused(locked, copy)? {
                copies = vec![kept];
                break;
            }
        }
    }
    for copy in copies {
        if one.refusing.contains(&copy.0.log_id()) && is_refused(locked, &copy)? {
            continue;
        }
        let (partition, batch) = copy;
        let mut log = locked.log(partition.log_id())?;
        if !log.core().is_deleted() {
            append(&mut log, with_attempts(batch, attempts), Conditions::default());
        }
    }
    Ok(())
}

/// Whether a queue is too full for a copy.
fn is_refused(locked: &mut Locked<'_>, (partition, batch): &Placed) -> Result<bool> {
    let now_ms = locked.now_ms();
    let mut log = locked.log(partition.log_id())?;
    let (core, state) = log.parts();
    Ok(has_no_room(core, state, batch, now_ms))
}

/// The same as long as nothing is locked, by what the queue has now.
fn is_full((partition, batch): &Placed, now_ms: i64) -> bool {
    partition.log().with(|core, state| has_no_room(core, state, batch, now_ms))
}

fn has_no_room(core: &LogCore, state: &LogState, batch: &NewBatch, now_ms: i64) -> bool {
    let against = check(core, state, batch, &Conditions::default(), None, now_ms).err();
    matches!(against, Some(Outcome::Refused(Refusal { reason: RefusalReason::Full, .. })))
}

/// The partitions that get something, each once.
fn targets_of(ready: &[Ready], takes: Option<&Takes>) -> Vec<Arc<Partition>> {
    let mut targets: Vec<_> =
        ready.iter().flat_map(Ready::all).map(|(partition, _)| partition.clone()).collect();
    if let Some(Takes::One(partition, _)) = takes {
        targets.push(partition.clone());
    }
    targets.sort_unstable_by_key(|partition| partition.log_id());
    targets.dedup_by_key(|partition| partition.log_id());
    targets
}
