//! Applies commits to their logs: the step between durable and readable.

use std::sync::{Arc, Weak, atomic::Ordering};

use env::{Next, Signal, Worker};

use crate::{
    Attached,
    index::INDEX_STEP_LEN,
    log::live::{Extent, FileId, Index, Point},
    store::Inner,
    wal::{Commit, Run, RunBatch},
};

/// Position of the applier. Under its own lock, so that closing can go on where the worker stopped.
#[derive(Default)]
pub(crate) struct Applier;

impl Applier {
    /// Applies the next commit, if there is one. Waiters on its units are told last.
    pub fn step<A: Attached>(&mut self, store: &Inner<A>) -> bool {
        let Some(commit) = store.wal.next_commit() else { return false };
        let placed =
            commit.runs.chunk_by(|a, b| a.log == b.log).map(|runs| apply_runs(store, &commit, runs)).sum();
        store.unflushed.extents_placed(placed);
        store.watched.durable(commit.last);
        store.wal.applied(commit.last);
        store.unflushed.add(commit.frame.len() as u64, commit.runs.len() as u64);
        if store.unflushed.is_due(commit.last) {
            store.flush.raise();
        }
        true
    }
}

/// Applies what `commit` has of one log: one run, or two where its epoch rose. Answers how many extents came of it.
fn apply_runs<A: Attached>(store: &Inner<A>, commit: &Commit, runs: &[Run]) -> usize {
    // Deleted meanwhile, or the catalog's: nothing to place.
    let log = runs.first().and_then(|run| store.logs.read().get(&run.log).cloned());
    let Some(log) = log else { return 0 };
    let mut state = log.lock();
    let (before, extents) = (state.core.bounds(), state.core.live.extents().len());
    state.core.committed(commit.last, runs.iter().flat_map(extents_of));
    state.tell(before);
    state.core.live.extents().len().saturating_sub(extents)
}

/// The extents of a run: one, unless offsets were skipped within it.
fn extents_of(run: &Run) -> Vec<Extent> {
    let mut extents = Vec::with_capacity(1);
    for batches in run.batches.chunk_by(|a, b| a.base.plus(u64::from(a.count)) == b.base) {
        extents.extend(extent_of(run, batches));
    }
    extents
}

fn extent_of(run: &Run, batches: &[RunBatch]) -> Option<Extent> {
    let (first, last) = (batches.first()?, batches.last()?);
    let count = u32::try_from(last.base.since(first.base)).ok()?.checked_add(last.count)?;
    Some(Extent {
        file: FileId::Wal(run.place.file),
        at: run.place.at + u64::from(first.at),
        base: first.base,
        len: last.at + last.len - first.at,
        count,
        stored: count,
        live: count,
        append_time_ms: batches.iter().map(|b| b.append_time_ms).max()?,
        event_time_ms: batches.iter().map(|b| b.event_time_ms).max()?,
        index: points_of(batches, first),
        damaged: false,
    })
}

/// A sparse index over batches that lie one after another.
fn points_of(batches: &[RunBatch], first: &RunBatch) -> Index {
    let mut points: Vec<Point> = Vec::new();
    for batch in batches {
        let at = batch.at - first.at;
        match points.last_mut() {
            Some(point) if at - point.at < INDEX_STEP_LEN => {
                point.append_time_ms = point.append_time_ms.max(batch.append_time_ms);
                point.event_time_ms = point.event_time_ms.max(batch.event_time_ms);
            }
            _ => points.push(Point {
                base: u32::try_from(batch.base.since(first.base)).unwrap_or(u32::MAX),
                at,
                append_time_ms: batch.append_time_ms,
                event_time_ms: batch.event_time_ms,
            }),
        }
    }
    if points.len() < 2 { Index::None } else { Index::Points(points.into()) }
}

/// The commit applier as a task. Ends with its store.
pub(crate) struct ApplierTask<A: Attached>(Weak<Inner<A>>);

impl<A: Attached> ApplierTask<A> {
    pub fn start(store: &Arc<Inner<A>>, committed: Signal) {
        store.env.spawn.task("wm-apply", committed, Box::new(ApplierTask(Arc::downgrade(store))));
    }
}

impl<A: Attached> Worker for ApplierTask<A> {
    fn step(&mut self) -> Next {
        let Some(store) = self.0.upgrade() else { return Next::Done };
        if store.closing.load(Ordering::Acquire) {
            return Next::Done;
        }
        match store.applier.lock().step(&store) {
            true => Next::Again,
            false => Next::Park,
        }
    }
}
