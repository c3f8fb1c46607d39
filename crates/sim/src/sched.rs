//! One thread that steps everything: workers, tasks and blocking jobs, in seeded random order.

use std::sync::Arc;

use env::{Clock, Job, Next, Signal, Spawn, Worker};
use parking_lot::Mutex;

use crate::{Rng, SimClock, Trace};

/// What one turn of the scheduler did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something ran.
    Ran,
    /// Nothing could run; time went on to the next deadline.
    Waited,
    /// Nothing can run, and no deadline is ahead.
    Idle,
}

/// Everything that one boot runs. Dropping its content is the crash of its threads.
#[derive(Clone)]
pub struct Scheduler {
    state: Arc<Mutex<State>>,
    clock: SimClock,
    trace: Trace,
}

struct State {
    workers: Vec<Slot>,
    jobs: Vec<Job>,
    rng: Rng,
    stopped: bool,
}

struct Slot {
    name: String,
    signal: Signal,
    /// Absent while it is being stepped.
    worker: Option<Box<dyn Worker>>,
    next: Next,
}

enum Choice {
    Worker(usize, Box<dyn Worker>, Signal),
    Job(Job),
}

impl Scheduler {
    /// Nothing to run yet.
    pub fn new(rng: Rng, clock: SimClock, trace: Trace) -> Self {
        let state = State { workers: Vec::new(), jobs: Vec::new(), rng, stopped: false };
        Scheduler { state: Arc::new(Mutex::new(state)), clock, trace }
    }

    /// Steps one thing that can run, or lets time pass until something can.
    pub fn turn(&self) -> Turn {
        let choice = self.choose();
        match choice {
            Ok(Choice::Worker(index, mut worker, signal)) => {
                // Taken before the step: what is raised during it calls for another.
                let _was_raised = signal.take();
                let next = worker.step();
                let mut state = self.state.lock();
                if state.stopped {
                    drop(state);
                    drop(worker);
                    return Turn::Ran;
                }
                let slot = &mut state.workers[index];
                slot.next = next;
                if next == Next::Done {
                    drop(state);
                    drop(worker);
                } else {
                    slot.worker = Some(worker);
                }
                Turn::Ran
            }
            Ok(Choice::Job(job)) => {
                job();
                Turn::Ran
            }
            Err(Some(at_ns)) => {
                self.clock.advance_to_ns(at_ns);
                Turn::Waited
            }
            Err(None) => Turn::Idle,
        }
    }

    /// Drops all workers and jobs where they stand; what is spawned from now on is dropped too.
    pub fn stop(&self) {
        let (workers, jobs) = {
            let mut state = self.state.lock();
            state.stopped = true;
            (std::mem::take(&mut state.workers), std::mem::take(&mut state.jobs))
        };
        drop(workers);
        drop(jobs);
    }

    /// Names of the workers that are not done, for reports.
    pub fn workers(&self) -> Vec<String> {
        let state = self.state.lock();
        state.workers.iter().filter(|slot| slot.next != Next::Done).map(|slot| slot.name.clone()).collect()
    }

    /// What to run now, or the next deadline.
    fn choose(&self) -> Result<Choice, Option<u64>> {
        let mut state = self.state.lock();
        let now_ns = self.clock.mono_ns();
        let runnable = |slot: &Slot| match slot.next {
            Next::Again => true,
            Next::Park => slot.signal.is_raised(),
            Next::ParkUntil(at_ns) => slot.signal.is_raised() || at_ns <= now_ns,
            Next::Done => false,
        };
        let ready: Vec<usize> =
            (0..state.workers.len()).filter(|index| runnable(&state.workers[*index])).collect();
        let choices = ready.len() + state.jobs.len();
        if choices == 0 {
            let deadlines = state.workers.iter().filter_map(|slot| match slot.next {
                Next::ParkUntil(at_ns) => Some(at_ns),
                _ => None,
            });
            return Err(deadlines.min());
        }
        let pick = state.rng.index(choices);
        let pause_ns = state.rng.between(200, 20_000);
        self.clock.advance_ns(pause_ns);
        let Some(index) = ready.get(pick) else {
            let job = state.jobs.swap_remove(pick - ready.len());
            self.trace.line(format_args!("job"));
            return Ok(Choice::Job(job));
        };
        let slot = &mut state.workers[*index];
        self.trace.line(format_args!("step {}", slot.name));
        match slot.worker.take() {
            Some(worker) => Ok(Choice::Worker(*index, worker, slot.signal.clone())),
            None => Err(None),
        }
    }
}

impl Spawn for Scheduler {
    fn worker(&self, name: &str, signal: Signal, worker: Box<dyn Worker>) {
        let mut state = self.state.lock();
        if state.stopped {
            drop(state);
            return;
        }
        let slot = Slot { name: name.to_owned(), signal, worker: Some(worker), next: Next::Again };
        state.workers.push(slot);
    }

    fn task(&self, name: &str, signal: Signal, worker: Box<dyn Worker>) {
        self.worker(name, signal, worker);
    }

    fn blocking(&self, job: Job) {
        let mut state = self.state.lock();
        if !state.stopped {
            state.jobs.push(job);
        }
    }
}
