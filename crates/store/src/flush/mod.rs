//! Background work on what is stored: flushing WAL files to segments, merging segments, checkpoints, and giving files
//! back. One state machine, stepped by a worker; every step locks one log at a time, and shortly.
//!
//! A pass: plan (which files stay, what is copied) · copy, a part of a segment per step · checkpoint · release. Nothing is removed
//! before a checkpoint that does not need it, and the one before, are in place. So whatever a crash interrupts is done
//! again from files that are still there.
//!
//! What bounds the log is what a checkpoint covers, not what was copied: when publishers come close to the bound while a
//! pass is copying, it makes a checkpoint and goes on. Nobody waits for the copying.
//!
//! What bounds the memory for extents is the copying: where many logs get little at a time, each commit leaves an extent of
//! a few bytes in each of them. Once many have come, a pass takes the short ones also out of the file that is being written,
//! and publishers wait when more come than it copies.

mod copy;
mod parts;
mod plan;
mod reclaim;
mod stretches;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use env::{Next, Signal, Worker};
use model::{Error, LogId, Result, Seq};

pub(crate) use self::reclaim::{Reclaim, dead_len};
use self::{copy::NewSegment, plan::Plan, reclaim::Died};
use crate::{
    Attached, annex,
    checkpoint::{self, Finished, Head, Needed, Writer},
    faults::Fault,
    files::{self, segment_name},
    fsio::is_full,
    log::live::FileId,
    store::Inner,
};

/// A checkpoint that is in place.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    pub id: u64,
    pub position: Seq,
    /// What it needs. `None` when that is not known: all there is.
    pub needed: Option<Needed>,
}

/// What the worker is at.
#[derive(Default)]
enum Phase {
    #[default]
    Idle,
    Copying(Box<Plan>),
    /// Logs that are still to be copied into the checkpoint, by id.
    Gathering(Box<Writer>, VecDeque<LogId>),
    /// Waiting for what the checkpoint holds to be durable.
    Waiting(Box<Finished>),
}

/// State of the background work.
pub(crate) struct Flusher {
    phase: Phase,
    /// What is still to be copied once the checkpoint in the making is in place.
    rest: Option<Box<Plan>>,
    /// The pass left files to another one, which begins once it is over.
    again: bool,
    /// Another checkpoint follows this one, so that files are given back which died before both.
    twice: bool,
    /// The pass it is in is for the sake of disk space.
    reclaiming: Option<Reclaiming>,
    /// The next such pass copies what is live although there are files without anything live: giving those back did not
    /// suffice.
    reclaims_by_copying: bool,
    /// Nanoseconds of the monotonic clock before which files are not looked for once more that could be given back.
    not_reclaiming_before_ns: u64,
    /// What the pass has to tell of its begin once it is over, if it copies at all.
    extents_noted: Option<u64>,
    /// The last two checkpoints, oldest first.
    kept: VecDeque<Kept>,
    next_checkpoint: u64,
    /// Number of the next segment or annex.
    pub next_segment: u64,
    /// WAL files that are segments now.
    pub segments: BTreeSet<u64>,
    /// What stays although no checkpoint names it: it was there when one could not be read.
    protected: Needed,
    /// Bytes and entries applied when the checkpoint in the making noted its position.
    applied_noted: (u64, u64),
    /// Nanoseconds of the monotonic clock before which it leaves the disk to the WAL.
    yield_until_ns: u64,
    /// Nanoseconds of the monotonic clock before which nothing is tried again after an error, whoever raises the signal.
    not_before_ns: u64,
    /// The error, until somebody asks or another pass begins.
    failed: Option<Error>,
    figures: Arc<Figures>,
}

/// A pass for the sake of disk space.
struct Reclaiming {
    /// What it is for.
    died: Died,
    /// Whether it copies what is live out of files that are mostly dead.
    copies: bool,
}

/// What the background work has done since the start. Read without waiting for it.
#[derive(Default)]
pub(crate) struct Figures {
    pub checkpoints: AtomicU64,
    pub segments_written: AtomicU64,
}

/// Logs that go into a checkpoint per step.
const LOGS_PER_STEP: usize = 1024;

/// Files of the log may hold this many times the bound before publishers wait for what is in them to be copied.
const BACKLOG_MAX: u64 = 4;

/// How long background writing pauses while syncs are slow, nanoseconds.
const PAUSE_NS: u64 = 5_000_000;

/// How long it waits after an error, nanoseconds.
pub(crate) const RETRY_NS: u64 = 1_000_000_000;

impl Flusher {
    pub fn new(
        kept: Vec<Kept>,
        next_checkpoint: u64,
        next_segment: u64,
        segments: BTreeSet<u64>,
        protected: Needed,
        figures: Arc<Figures>,
    ) -> Self {
        Flusher {
            phase: Phase::Idle,
            rest: None,
            again: false,
            twice: false,
            reclaiming: None,
            reclaims_by_copying: false,
            not_reclaiming_before_ns: 0,
            extents_noted: None,
            kept: kept.into(),
            next_checkpoint,
            next_segment,
            segments,
            protected,
            applied_noted: (0, 0),
            yield_until_ns: 0,
            not_before_ns: 0,
            failed: None,
            figures,
        }
    }

    /// Does one step. `Park` when there is nothing to do, or when what it waits for raises its signal.
    pub fn step<A: Attached>(&mut self, store: &Arc<Inner<A>>) -> Next {
        if store.wal.failure().is_some() {
            return Next::Park;
        }
        let now_ns = store.env.clock.mono_ns();
        if self.is_idle() && now_ns < self.not_before_ns {
            return Next::ParkUntil(self.not_before_ns);
        }
        let is_copying = matches!(self.phase, Phase::Copying(_));
        match self.try_step(store) {
            Ok(next) => next,
            Err(error) if is_copying && is_full(&error) => {
                tracing::warn!(%error, "the disk is full; what is left to be copied stays where it is for now");
                let reclaiming = self.reclaiming.take();
                self.reset();
                self.not_before_ns = now_ns + RETRY_NS;
                self.begin(store, false);
                (self.twice, self.reclaiming) = (true, reclaiming);
                Next::Again
            }
            Err(error) => {
                tracing::error!(%error, "flushing failed; it is tried again");
                if let Some(Reclaiming { died, copies }) = self.reclaiming.take() {
                    self.reclaims_by_copying = copies;
                    store.reclaim.failed(died);
                }
                self.reset();
                self.failed = Some(error);
                self.not_before_ns = now_ns + RETRY_NS;
                Next::ParkUntil(self.not_before_ns)
            }
        }
    }

    /// Begins a pass although there is no need yet, or not yet again: closing, tests.
    pub fn force<A: Attached>(&mut self, store: &Inner<A>, flush: bool) {
        self.not_before_ns = 0;
        if matches!(self.phase, Phase::Idle) {
            self.begin(store, flush);
        }
    }

    /// Gives up the pass it is in. What was copied stays; the rest is still where it was.
    pub fn reset(&mut self) {
        self.phase = Phase::Idle;
        self.rest = None;
        self.again = false;
        self.twice = false;
        self.reclaiming = None;
        self.extents_noted = None;
    }

    /// What the last pass ended with, if that was an error.
    pub fn failed(&mut self) -> Option<Error> {
        self.failed.take()
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    fn begin<A: Attached>(&mut self, store: &Inner<A>, flush: bool) {
        self.extents_noted = flush.then(|| store.unflushed.extents_noted());
        let plan = match flush {
            true => Plan::new(store, &self.segments, store.unflushed.extents_are_many()),
            false => Plan::default(),
        };
        self.again = plan.is_cut;
        self.failed = None;
        self.phase = Phase::Copying(Box::new(plan));
    }

    fn try_step<A: Attached>(&mut self, store: &Arc<Inner<A>>) -> Result<Next> {
        match std::mem::take(&mut self.phase) {
            Phase::Idle => {
                if store.unflushed.is_due(store.wal.durable()) {
                    self.begin(store, true);
                } else if store.reclaim.is_due(store.wal.is_starved()) {
                    return self.reclaim(store);
                } else {
                    return Ok(Next::Park);
                }
            }
            Phase::Copying(plan) => return self.copy(store, plan),
            Phase::Gathering(mut writer, mut logs) => {
                for _ in 0..LOGS_PER_STEP {
                    let Some(id) = logs.front() else { break };
                    if !gather(store, *id, &mut writer, &mut self.next_segment) {
                        break;
                    }
                    logs.pop_front();
                }
                // That logs are gone is in the checkpoint too.
                writer.needs = writer.needs.max(store.deleted_by());
                self.phase = match logs.is_empty() {
                    true => Phase::Waiting(Box::new(writer.finish(&*store.catalog))),
                    false => Phase::Gathering(writer, logs),
                };
            }
            Phase::Waiting(finished) => {
                if store.wal.durable() < finished.needs
                    && !store.options.faults.has(Fault::CheckpointUnsynced)
                {
                    let waker = store.flush_waker();
                    store.wal.wake_on_durable(finished.needs, &waker);
                    self.phase = Phase::Waiting(finished);
                    return Ok(Next::Park);
                }
                self.put(store, &finished)?;
                match self.rest.take() {
                    Some(plan) => self.phase = Phase::Copying(plan),
                    None if self.again => self.begin(store, true),
                    None => {
                        if let Some(noted) = self.extents_noted.take() {
                            store.unflushed.flushed(noted);
                        }
                        if std::mem::take(&mut self.twice) {
                            self.begin(store, false);
                        } else if let Some(Reclaiming { copies: false, .. }) = self.reclaiming.take() {
                            // What is left are files that are dead for the most part: where publishers wait, now or later.
                            self.reclaims_by_copying = store.wal.is_starved();
                            store.reclaim.again();
                        }
                    }
                }
            }
        }
        Ok(Next::Again)
    }

    /// Begins a pass for the sake of disk space: two checkpoints where files are dead. Where there are none and publishers
    /// wait, or still wait after that, the live part of others is copied before.
    fn reclaim<A: Attached>(&mut self, store: &Arc<Inner<A>>) -> Result<Next> {
        let now_ns = store.env.clock.mono_ns();
        if now_ns < self.not_reclaiming_before_ns {
            return Ok(Next::ParkUntil(self.not_reclaiming_before_ns));
        }
        self.not_reclaiming_before_ns = now_ns + RETRY_NS;
        let copies = std::mem::take(&mut self.reclaims_by_copying);
        self.reclaiming = Some(Reclaiming { died: store.reclaim.begin(), copies });
        let mut used = reclaim::used(store);
        used.extend(&self.protected.files);
        let has_dead = dead_len(&*store.wal, &*store.files.blobs, &used)? > 0;
        let is_starved = store.wal.is_starved();
        if has_dead || is_starved {
            // These checkpoints come in the place of those that would follow on copying: it must not fall behind for them.
            let is_behind = !is_starved && self.uncopied_len(store) >= store.options.unflushed_len_max / 2;
            let copies = !has_dead || is_behind || copies && is_starved;
            self.begin(store, copies);
            self.twice = true;
            self.reclaiming = self.reclaiming.take().map(|reclaiming| Reclaiming { copies, ..reclaiming });
        } else {
            self.reclaiming = None;
        }
        Ok(Next::Again)
    }

    /// Does one step of the copying: a file that stays, or a part of a segment.
    fn copy<A: Attached>(&mut self, store: &Arc<Inner<A>>, mut plan: Box<Plan>) -> Result<Next> {
        if let Some(until_ns) = self.pause(store) {
            self.phase = Phase::Copying(plan);
            return Ok(Next::ParkUntil(until_ns));
        }
        if !plan.is_done() && self.has_to_cover(store) {
            self.rest = Some(plan);
            self.phase = self.note(store);
            return Ok(Next::Again);
        }
        if let Some(file) = plan.keep.pop() {
            plan::keep(store, file)?;
            self.segments.insert(file);
        } else if let Some(mut segment) = plan.segment.take().or_else(|| self.begin_segment(&mut plan)) {
            match segment.step(store, &plan.choice, &mut plan.stretches)? {
                true => drop(self.figures.segments_written.fetch_add(1, Ordering::Relaxed)),
                false => plan.segment = Some(segment),
            }
        } else {
            self.phase = self.note(store);
            return Ok(Next::Again);
        }
        self.phase = Phase::Copying(plan);
        Ok(Next::Again)
    }

    /// The next segment; `None` when there is nothing left to copy.
    fn begin_segment(&mut self, plan: &mut Plan) -> Option<NewSegment> {
        let parts = plan.copies.pop_front()?;
        self.next_segment += 1;
        Some(NewSegment::new(self.next_segment - 1, parts))
    }

    /// Whether publishers come so close to the bound that the log has to be covered before the copying goes on. Not while
    /// so much is still to be copied that they had better wait for it.
    fn has_to_cover<A: Attached>(&self, store: &Inner<A>) -> bool {
        if !store.unflushed.is_pressing(store.wal.durable()) {
            return false;
        }
        self.uncopied_len(store) < store.options.unflushed_len_max.saturating_mul(BACKLOG_MAX)
    }

    /// Bytes of the log's files that are no segments.
    fn uncopied_len<A: Attached>(&self, store: &Inner<A>) -> u64 {
        let uncopied = store.wal.files().into_iter().filter(|info| !self.segments.contains(&info.file));
        uncopied.map(|info| info.len).sum()
    }

    /// While the WAL's syncs take more than twice their usual time, the disk is left to it for a moment. Not where the store
    /// closes: there are none any more, and nobody steps this again.
    fn pause<A: Attached>(&mut self, store: &Inner<A>) -> Option<u64> {
        if store.closing.load(Ordering::Acquire) {
            return None;
        }
        let now_ns = store.env.clock.mono_ns();
        if now_ns < self.yield_until_ns {
            return Some(self.yield_until_ns);
        }
        let stats = store.wal.stats();
        let paused_just_now = self.yield_until_ns != 0 && now_ns < self.yield_until_ns + 4 * PAUSE_NS;
        if paused_just_now || stats.sync_median_ns == 0 || stats.sync_last_ns <= 2 * stats.sync_median_ns {
            return None;
        }
        self.yield_until_ns = now_ns + PAUSE_NS;
        Some(self.yield_until_ns)
    }

    /// Notes the position of a new checkpoint: everything up to it is placed in its log.
    fn note<A: Attached>(&mut self, store: &Inner<A>) -> Phase {
        let position = store.wal.durable();
        self.applied_noted = store.unflushed.applied();
        store.reclaim.noted();
        let head = Head {
            id: self.next_checkpoint,
            position,
            next_log: store.next_log.load(Ordering::Relaxed),
            next_segment: self.next_segment,
        };
        let logs = store.logs_by_id().iter().map(|log| log.id()).collect();
        Phase::Gathering(Box::new(Writer::new(head)), logs)
    }

    fn put<A: Attached>(&mut self, store: &Arc<Inner<A>>, finished: &Finished) -> Result<()> {
        self.next_checkpoint += 1;
        finished.put(&*store.files.blobs)?;
        let head = finished.head;
        self.figures.checkpoints.fetch_add(1, Ordering::Relaxed);
        self.kept.push_back(Kept { id: head.id, position: head.position, needed: Some(finished.needed()) });
        while self.kept.len() > 2 {
            if let Some(old) = self.kept.pop_front() {
                store.files.blobs.remove(&checkpoint::name(old.id))?;
            }
        }
        store.unflushed.covered(self.applied_noted, head.position);
        if !store.closing.load(Ordering::Acquire) {
            self.release(store)?;
        }
        Ok(())
    }

    /// Gives back what neither of the two checkpoints needs.
    fn release<A: Attached>(&mut self, store: &Arc<Inner<A>>) -> Result<()> {
        let [older, newer] = self.kept.make_contiguous() else { return Ok(()) };
        let (Some(a), Some(b)) = (&older.needed, &newer.needed) else { return Ok(()) };
        let all = [a, b, &self.protected];
        let needed = |file: &FileId| all.iter().any(|needed| needed.files.contains(file));
        for info in store.wal.files() {
            let file = FileId::Wal(info.file);
            if info.sealed.is_some_and(|last| last <= older.position) && !needed(&file) {
                store.files.close(file);
                store.wal.release(info.file);
                self.segments.remove(&info.file);
            }
        }
        for number in files::segments(&*store.files.blobs)? {
            if number >= self.next_segment {
                continue;
            }
            let file = FileId::Segment(number);
            if !needed(&file) {
                store.files.close(file);
                store.files.blobs.remove(&segment_name(number))?;
            }
        }
        for number in annex::list(&*store.files.blobs)? {
            if !all.iter().any(|needed| needed.annexes.contains(&number)) {
                store.files.blobs.remove(&annex::name(number))?;
            }
        }
        Ok(())
    }
}

/// Adds a log to a checkpoint. `false` while its owner still prepares for that.
fn gather<A: Attached>(store: &Inner<A>, id: LogId, writer: &mut Writer, next: &mut u64) -> bool {
    let Some(log) = store.logs.read().get(&id).cloned() else { return true };
    let mut state = log.lock();
    if state.core.is_deleted() {
        return true;
    }
    if !state.attached.prepare() {
        return false;
    }
    writer.log(&mut state, next);
    drop(state);
    writer.log_added();
    true
}

/// The background work as a worker. Ends with its store.
pub(crate) struct FlushWorker<A: Attached>(Weak<Inner<A>>);

impl<A: Attached> FlushWorker<A> {
    pub fn start(store: &Arc<Inner<A>>, signal: Signal) {
        store.env.spawn.worker("wm-flush", signal, Box::new(FlushWorker(Arc::downgrade(store))));
    }
}

impl<A: Attached> Worker for FlushWorker<A> {
    fn step(&mut self) -> Next {
        let Some(store) = self.0.upgrade() else { return Next::Done };
        if store.closing.load(Ordering::Acquire) {
            return Next::Done;
        }
        let mut flusher = store.flusher.lock();
        flusher.step(&store)
    }
}
