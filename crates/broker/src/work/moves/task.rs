//! The worker that advances move tasks, a few records at a time.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Wake, Waker},
};

use env::{Next, Signal, Worker};
use model::{Error, ErrorKind, Offset, PartitionIndex, Result, Seq};

use super::{MoveState, Task, transfer::Transferred};
use crate::{
    broker::{Broker, Inner},
    future::Durable,
    stream::Stream,
    work::moving::MOVED_MAX,
};

/// How long a task waits for room, nanoseconds.
const ROOM_WAIT_NS: u64 = 50_000_000;

/// Parts that a second of a limited rate is done in: bursts stay small.
const PARTS_PER_SECOND: u32 = 10;

/// Records moved after which the counter is noted in the catalog.
const NOTE_EVERY: u64 = 5_000;

/// Starts the worker of `broker`. It ends with the broker's last handle.
pub(crate) fn start(broker: &Broker) {
    let book = &broker.inner.moves;
    let worker = Mover {
        broker: Arc::downgrade(&broker.inner),
        stop: book.stop.clone(),
        waker: Waker::from(Arc::new(Raise(book.signal.clone()))),
        ending: Vec::new(),
    };
    broker.env().spawn.worker("wm-move", book.signal.clone(), Box::new(worker));
}

struct Mover {
    broker: Weak<Inner>,
    stop: Arc<AtomicBool>,
    /// Has the worker look again.
    waker: Waker,
    ending: Vec<Ending>,
}

/// A task whose end, and all that it moved, is on its way to the disk. It is shown as ended after that.
struct Ending {
    id: u64,
    task: Task,
    durable: Durable,
}

struct Raise(Signal);

impl Wake for Raise {
    fn wake(self: Arc<Self>) {
        self.0.raise();
    }
}

impl Mover {
    /// Shows as ended whatever is durable now.
    fn show_ended(&mut self, broker: &Broker) {
        let mut ctx = Context::from_waker(&self.waker);
        self.ending.retain_mut(|ending| {
            if Pin::new(&mut ending.durable).poll(&mut ctx).is_pending() {
                return true;
            }
            if let Some(kept) = broker.inner.moves.tasks.lock().get_mut(&ending.id) {
                kept.clone_from(&ending.task);
            }
            false
        });
    }
}

impl Worker for Mover {
    fn step(&mut self) -> Next {
        if self.stop.load(Ordering::Acquire) {
            return Next::Done;
        }
        let Some(inner) = self.broker.upgrade() else { return Next::Done };
        let broker = Broker { inner };
        self.show_ended(&broker);
        let now_ns = broker.env().clock.mono_ns();
        // Whoever waits longest is next.
        let next = {
            let tasks = broker.inner.moves.tasks.lock();
            let running = tasks.iter().filter(|(id, task)| {
                task.state.is_running() && self.ending.iter().all(|ending| ending.id != **id)
            });
            running.map(|(id, task)| (task.next_ns, *id)).min()
        };
        match next {
            None => Next::Park,
            Some((at_ns, _)) if at_ns > now_ns => Next::ParkUntil(at_ns),
            Some((_, id)) => {
                self.ending.extend(broker.advance(id, now_ns));
                Next::Again
            }
        }
    }
}

/// What one step of a task came to.
struct Step {
    transferred: Transferred,
    at: Vec<Offset>,
    is_done: bool,
}

impl Broker {
    fn advance(&self, id: u64, now_ns: u64) -> Option<Ending> {
        let task = self.inner.moves.tasks.lock().get(&id).cloned();
        let task = task.filter(|task| task.state.is_running())?;
        if task.state == MoveState::Cancelling {
            return self.end(id, MoveState::Cancelled);
        }
        let (count, wait_ns) = match task.spec.rate {
            None => (MOVED_MAX, 0),
            Some(rate) => {
                let count = u64::from(rate.div_ceil(PARTS_PER_SECOND));
                (count, count * 1_000_000_000 / u64::from(rate.max(1)))
            }
        };
        match self.step(&task, count) {
            Ok(step) => {
                let refused = step.transferred.refused;
                let is_due = self.note(id, |kept| {
                    kept.moved += step.transferred.moved;
                    kept.at = step.at;
                    // What the rate did not use is not saved up.
                    kept.next_ns =
                        now_ns.saturating_add(if step.transferred.moved > 0 { wait_ns } else { 0 });
                });
                match refused {
                    Some(error) => self.end(id, MoveState::Failed(error.text().to_owned())),
                    None if step.is_done => self.end(id, MoveState::Completed),
                    None => {
                        if is_due {
                            self.store_progress(id);
                        }
                        None
                    }
                }
            }
            Err(error) if is_passing(&error) => {
                self.note(id, |kept| kept.next_ns = now_ns.saturating_add(ROOM_WAIT_NS));
                None
            }
            Err(error) => self.end(id, MoveState::Failed(error.text().to_owned())),
        }
    }

    /// Changes a task in memory; whether its counter is far ahead of the stored one.
    fn note(&self, id: u64, change: impl FnOnce(&mut Task)) -> bool {
        let mut tasks = self.inner.moves.tasks.lock();
        let Some(kept) = tasks.get_mut(&id) else { return false };
        change(kept);
        kept.moved.saturating_sub(kept.stored_moved) >= NOTE_EVERY
    }

    fn store_progress(&self, id: u64) {
        let mut state = self.catalog().lock();
        let task = self.inner.moves.tasks.lock().get(&id).cloned();
        let Some(task) = task else { return };
        if let Err(error) = self.store_move(&mut state, id, Some(&task)) {
            return tracing::warn!(task = id, %error, "how far a move is could not be noted");
        }
        if let Some(kept) = self.inner.moves.tasks.lock().get_mut(&id) {
            kept.stored_moved = task.moved;
        }
    }

    /// Ends a task. When that cannot be stored, it ends in memory, and goes on after a restart.
    fn end(&self, id: u64, end: MoveState) -> Option<Ending> {
        let mut state = self.catalog().lock();
        let task = self.inner.moves.tasks.lock().get(&id).cloned();
        let mut task = task?;
        task.ended_at_ms = Some(self.env().clock.wall_ms());
        task.state = end;
        let seq = self.store_move(&mut state, id, Some(&task)).unwrap_or_else(|error| {
            tracing::warn!(task = id, %error, "the end of a move could not be noted");
            Seq(0)
        });
        Some(Ending { id, task, durable: self.durable(seq) })
    }

    /// Moves up to `count` records of one partition.
    fn step(&self, task: &Task, count: u64) -> Result<Step> {
        let gone = || Error::closed("the queue that records were moved from was deleted");
        let source = self.stream_by_id(task.source_id).ok_or_else(gone)?;
        let destination = self.destination_of(task)?;
        let mut at = task.at.clone();
        let places = task.until.iter().zip(&mut at).zip((0..).map(PartitionIndex));
        for ((until, place), index) in places {
            if *place >= *until {
                continue;
            }
            let (work, _) = self.stream_work(&source, index)?;
            let (transferred, reached) =
                work.transfer_from(*place, *until, count, task, destination.as_ref())?;
            *place = reached;
            return Ok(Step { transferred, at, is_done: false });
        }
        Ok(Step { transferred: Transferred::default(), at, is_done: true })
    }

    fn destination_of(&self, task: &Task) -> Result<Option<Arc<Stream>>> {
        let Some(key) = &task.spec.destination else { return Ok(None) };
        let gone = || Error::not_found(format!("{key}, where records were moved to, was deleted"));
        self.stream(key).ok_or_else(gone).map(Some)
    }
}

/// Whether it is worth to try again.
fn is_passing(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Throttled | ErrorKind::Unavailable | ErrorKind::Indeterminate)
}
