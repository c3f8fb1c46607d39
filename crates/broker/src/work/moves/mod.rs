//! Move tasks: the broker takes what waits in a queue to another stream, or each record back to the stream that it came
//! from, in units: a record is appended there and gone here, or neither.
//!
//! A task is in the catalog. After a restart one that was running goes on: what was moved is gone from its source, so
//! that nothing is moved twice; its counter goes on from where it was noted last, a few thousand records behind at most.
//! The last ten of a source are remembered.
//!
//! - [`stored`] is what lies in the catalog; [`task`] the worker that advances tasks;
//! - [`transfer`] is one unit of it.

mod filter;
mod stored;
mod task;
mod transfer;

#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::AtomicBool},
};

use env::Signal;
use model::{Error, Kind, Offset, Result, Seq, StreamId, StreamKey};
use parking_lot::Mutex;

pub use filter::MoveFilter;
pub(crate) use task::start;

use crate::{
    broker::Broker,
    catalog::{CatalogState, Command, command::Section},
    codec::Reader,
    stream::Stream,
};

/// The highest rate that can be asked for, records per second.
pub const MOVE_RATE_MAX: u32 = 500;

/// Tasks of one source that are remembered.
pub const MOVES_PER_SOURCE: usize = 10;

/// Names a move task. Never used again within a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MoveId(pub u64);

/// What is to be moved where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveSpec {
    /// The queue that is emptied of what it has when the task starts.
    pub source: StreamKey,
    /// Where to; `None` = each record back to the stream of its first append ([`model::Origin`]).
    pub destination: Option<StreamKey>,
    /// Records per second, 1..=[`MOVE_RATE_MAX`]; `None` = as fast as they are taken.
    pub rate: Option<u32>,
    /// Which records.
    pub filter: MoveFilter,
}

impl MoveSpec {
    /// All of `source` to `destination`, as fast as it goes.
    pub fn all(source: StreamKey, destination: Option<StreamKey>) -> Self {
        MoveSpec { source, destination, rate: None, filter: MoveFilter::default() }
    }
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveState {
    /// It moves records, or waits for room or for its rate.
    Running,
    /// Everything that it could move is moved. What somebody held at that moment stayed.
    Completed,
    /// It was told to stop, and will.
    Cancelling,
    /// It stopped as told. What was moved stays moved.
    Cancelled,
    /// It stopped for a reason, in words. What was moved stays moved.
    Failed(String),
}

impl MoveState {
    /// Whether it may still move records.
    pub fn is_running(&self) -> bool {
        matches!(self, MoveState::Running | MoveState::Cancelling)
    }
}

/// A move task as listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveView {
    /// Its name.
    pub id: MoveId,
    /// What it was started with.
    pub spec: MoveSpec,
    /// It replays what was appended at this time or later and is settled; `None` = it moves what waits.
    pub replays_since_ms: Option<i64>,
    /// How far it is.
    pub state: MoveState,
    /// When it started, milliseconds since the Unix epoch.
    pub started_at_ms: i64,
    /// When it ended, milliseconds since the Unix epoch.
    pub ended_at_ms: Option<i64>,
    /// Records moved so far; after a restart about.
    pub moved: u64,
    /// Records that waited (or were kept) when it started; those that it chooses from.
    pub to_move: u64,
}

impl Broker {
    /// Makes settled records of a queue available again that it keeps ([`crate::StreamSettings::history_ms`]) and that
    /// were appended at `since_ms` (milliseconds since the Unix epoch) or later: in the queue itself, or in
    /// `destination`. A task like those of [`Broker::start_move`], with the same errors, and
    /// [`model::ErrorKind::Invalid`] for a queue without a history.
    ///
    /// A record is appended anew, with its origin, and leaves the history in the same unit. So a replay is exact: run
    /// again, or going on after a restart, it takes no record twice. The alternative, to mark records in place as not
    /// settled, would have needed a cursor that goes back in holes, and would have put old records before newer ones that
    /// were worked already.
    pub async fn start_replay(
        &self,
        source: StreamKey,
        since_ms: i64,
        destination: Option<StreamKey>,
        rate: Option<u32>,
    ) -> Result<MoveView> {
        let destination = Some(destination.unwrap_or_else(|| source.clone()));
        let spec = MoveSpec { destination, rate, ..MoveSpec::all(source, None) };
        let (view, seq) = self.stage_move(spec, Some(since_ms))?;
        self.durable(seq).await?;
        self.inner.moves.signal.raise();
        Ok(view)
    }
}

/// A task as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Task {
    spec: MoveSpec,
    /// It takes settled records that were appended at this time or later, instead of those that wait.
    replays_since_ms: Option<i64>,
    /// Which incarnation of the source.
    source_id: StreamId,
    state: MoveState,
    started_at_ms: i64,
    ended_at_ms: Option<i64>,
    moved: u64,
    to_move: u64,
    /// By partition of the source: nothing from here on is moved.
    until: Vec<Offset>,
    /// By partition of the source: everything below was looked at. Not stored.
    at: Vec<Offset>,
    /// When it may move records again, on the monotonic clock. Not stored.
    next_ns: u64,
    /// Records moved when it was stored last. Not stored.
    stored_moved: u64,
}

impl Task {
    fn view(&self, id: u64) -> MoveView {
        MoveView {
            id: MoveId(id),
            spec: self.spec.clone(),
            replays_since_ms: self.replays_since_ms,
            state: self.state.clone(),
            started_at_ms: self.started_at_ms,
            ended_at_ms: self.ended_at_ms,
            moved: self.moved,
            to_move: self.to_move,
        }
    }
}

/// The move tasks of this process. Its lock is taken after the catalog's, and no other while it is held.
#[derive(Default)]
pub(crate) struct MoveBook {
    tasks: Mutex<BTreeMap<u64, Task>>,
    signal: Signal,
    stop: Arc<AtomicBool>,
}

impl MoveBook {
    pub(crate) fn stop(&self) {
        self.stop.store(true, std::sync::atomic::Ordering::Release);
        self.signal.raise();
    }
}

impl Broker {
    /// Starts moving records. Answers after the commit of the task, which then runs by itself.
    ///
    /// [`model::ErrorKind::NotFound`] without source or destination, [`model::ErrorKind::Invalid`] when the source is no
    /// queue, the destination is the source, or the rate is out of range, [`model::ErrorKind::Conflict`] while another
    /// task moves records from that source.
    pub async fn start_move(&self, spec: MoveSpec) -> Result<MoveView> {
        let (view, seq) = self.stage_move(spec, None)?;
        self.durable(seq).await?;
        self.inner.moves.signal.raise();
        Ok(view)
    }

    fn stage_move(&self, spec: MoveSpec, replays_since_ms: Option<i64>) -> Result<(MoveView, Seq)> {
        let source = self.check_move(&spec, replays_since_ms.is_some())?;
        let (mut to_move, mut until) = (0, Vec::new());
        for partition in source.partitions() {
            let (work, _) = self.stream_work(&source, partition.index())?;
            to_move += match replays_since_ms {
                None => work.counts()?.ready,
                Some(_) => partition.log().with(|_, state| state.kept()),
            };
            until.push(partition.bounds().stable_end);
        }
        let task = Task {
            at: vec![Offset::ZERO; until.len()],
            source_id: source.id(),
            state: MoveState::Running,
            started_at_ms: self.env().clock.wall_ms(),
            ended_at_ms: None,
            moved: 0,
            to_move,
            until,
            next_ns: 0,
            stored_moved: 0,
            spec,
            replays_since_ms,
        };
        let mut state = self.catalog().lock();
        self.make_place(&mut state, task.source_id)?;
        // A command's position is never used again, and neither is a number made from it.
        let id = state.applied.0 + 1;
        let seq = self.store_move(&mut state, id, Some(&task))?;
        let view = task.view(id);
        self.inner.moves.tasks.lock().insert(id, task);
        Ok((view, seq))
    }

    fn check_move(&self, spec: &MoveSpec, is_replay: bool) -> Result<Arc<Stream>> {
        let unknown = |key: &StreamKey| Error::not_found(format!("there is no {key}"));
        let source = self.stream(&spec.source).ok_or_else(|| unknown(&spec.source))?;
        if source.key().kind != Kind::Queue {
            return Err(Error::invalid("records are moved from queues; those of a log stay where they are"));
        }
        if let Some(destination) = &spec.destination {
            self.stream(destination).ok_or_else(|| unknown(destination))?;
            if *destination == spec.source && !is_replay {
                return Err(Error::invalid("the records are there already"));
            }
        }
        if is_replay && source.settings().history_ms.is_none() {
            return Err(Error::invalid("the queue has no history to replay from"));
        }
        match spec.rate {
            None | Some(1..=MOVE_RATE_MAX) => Ok(source),
            Some(_) => Err(Error::invalid(format!("a rate is 1 to {MOVE_RATE_MAX} records per second"))),
        }
    }

    /// Refuses a second task of a source, and forgets its oldest ones.
    fn make_place(&self, state: &mut CatalogState, source: StreamId) -> Result<()> {
        let mut ended = Vec::new();
        for (id, task) in self.inner.moves.tasks.lock().iter().filter(|(_, task)| task.source_id == source) {
            if task.state.is_running() {
                return Err(Error::conflict("a task moves records from there already; cancel it, or wait"));
            }
            ended.push(*id);
        }
        let surplus = (ended.len() + 1).saturating_sub(MOVES_PER_SOURCE);
        for id in ended.into_iter().take(surplus) {
            self.store_move(state, id, None)?;
            self.inner.moves.tasks.lock().remove(&id);
        }
        Ok(())
    }

    fn store_move(&self, state: &mut CatalogState, id: u64, task: Option<&Task>) -> Result<Seq> {
        let body = task.map(stored::encode);
        self.command(state, Command::PutEntry { section: Section::Moves, key: stored::key(id), body })
    }

    /// The last tasks of a source, newest first; none once it was deleted.
    pub fn moves(&self, source: &StreamKey) -> Vec<MoveView> {
        let Some(stream) = self.stream(source) else { return Vec::new() };
        let tasks = self.inner.moves.tasks.lock();
        let of_source = tasks.iter().rev().filter(|(_, task)| task.source_id == stream.id());
        of_source.map(|(id, task)| task.view(*id)).collect()
    }

    /// A task.
    pub fn move_task(&self, id: MoveId) -> Option<MoveView> {
        self.inner.moves.tasks.lock().get(&id.0).map(|task| task.view(id.0))
    }

    /// Has a task stop after the unit that it is at. Answers after the commit, with how far it was.
    /// [`model::ErrorKind::NotFound`] without it, [`model::ErrorKind::Conflict`] when it does not run any more.
    pub async fn cancel_move(&self, id: MoveId) -> Result<MoveView> {
        let (view, seq) = self.stage_cancel_move(id)?;
        self.durable(seq).await?;
        Ok(view)
    }

    fn stage_cancel_move(&self, id: MoveId) -> Result<(MoveView, Seq)> {
        let mut state = self.catalog().lock();
        let task = self.inner.moves.tasks.lock().get(&id.0).cloned();
        let mut task = task.ok_or_else(|| Error::not_found(format!("there is no move task {}", id.0)))?;
        if task.state != MoveState::Running {
            return Err(Error::conflict("the task does not run any more"));
        }
        task.state = MoveState::Cancelling;
        let seq = self.store_move(&mut state, id.0, Some(&task))?;
        if let Some(kept) = self.inner.moves.tasks.lock().get_mut(&id.0) {
            (kept.state, kept.next_ns) = (MoveState::Cancelling, 0);
        }
        self.inner.moves.signal.raise();
        Ok((task.view(id.0), seq))
    }

    /// Reads the stored tasks, at start. Those of streams that are gone are forgotten.
    pub(crate) fn load_moves(&self) -> Result<()> {
        let mut state = self.catalog().lock();
        let mut forgotten = Vec::new();
        {
            let mut tasks = self.inner.moves.tasks.lock();
            for ((section, key), body) in &state.entries {
                if *section != Section::Moves {
                    continue;
                }
                let (id, task) = (Reader::new(key).u64()?, stored::decode(body)?);
                if state.by_id.contains_key(&task.source_id) {
                    tasks.insert(id, task);
                } else {
                    forgotten.push(id);
                }
            }
        }
        for id in forgotten {
            self.store_move(&mut state, id, None)?;
        }
        Ok(())
    }
}
