//! A whole simulated machine: disk, clock, randomness and scheduler behind one [`Env`] per boot.

use std::sync::Arc;

use env::{Env, Random};
use parking_lot::Mutex;

use crate::{Crash, Rng, Scheduler, SimClock, SimDisk, Trace, Turn};

/// One machine. It is crashed and booted again as often as a run likes; its disk and its clock go on.
pub struct SimWorld {
    /// Its disk.
    pub disk: SimDisk,
    /// Its clock.
    pub clock: SimClock,
    /// What happened so far.
    pub trace: Trace,
    sched: Scheduler,
    rng: Rng,
}

impl SimWorld {
    /// A machine with an empty disk of `capacity` bytes, whose every accident follows from `seed`.
    pub fn new(seed: u64, capacity: u64, trace: Trace) -> Self {
        let mut rng = Rng::new(seed);
        let clock = SimClock::new();
        let disk = SimDisk::new(rng.fork(), clock.clone(), trace.clone(), capacity);
        let sched = Scheduler::new(rng.fork(), clock.clone(), trace.clone());
        SimWorld { disk, clock, trace, sched, rng }
    }

    /// Another machine with a copy of this one's disk as it is now, and a clock that goes on from the same time.
    pub fn copy(&self, seed: u64) -> SimWorld {
        let mut rng = Rng::new(seed);
        let (clock, trace) = (self.clock.copy(), Trace::default());
        let disk = self.disk.copy(rng.fork(), clock.clone(), trace.clone());
        let sched = Scheduler::new(rng.fork(), clock.clone(), trace.clone());
        SimWorld { disk, clock, trace, sched, rng }
    }

    /// The world as a process of the current boot sees it.
    pub fn env(&mut self) -> Env {
        Env {
            files: Arc::new(self.disk.files()),
            clock: Arc::new(self.clock.clone()),
            random: Arc::new(SimRandom { rng: Mutex::new(self.rng.fork()) }),
            spawn: Arc::new(self.sched.clone()),
        }
    }

    /// Whether the power is still on. Once it is off, nothing that the process says counts any more: call
    /// [`SimWorld::crash`].
    pub fn powered(&self) -> bool {
        self.disk.powered()
    }

    /// Steps one thing, or lets time pass.
    pub fn turn(&self) -> Turn {
        self.sched.turn()
    }

    /// Turns until `done`, until the power goes, until nothing can happen, or `most` times; says whether it is done.
    pub fn run_until(&self, most: usize, mut done: impl FnMut() -> bool) -> bool {
        for _ in 0..most {
            if !self.powered() {
                return false;
            }
            if done() {
                return true;
            }
            if self.turn() == Turn::Idle {
                return done();
            }
        }
        done()
    }

    /// Ends the boot: workers and jobs are dropped where they stand, then the disk resolves what no sync covered.
    /// Handles of the old boot that somebody still holds are dead.
    pub fn crash(&mut self, crash: Crash) {
        // The disk first, so that nothing which a dropped worker does on its way out reaches it.
        self.disk.crash(crash);
        self.sched.stop();
        self.sched = Scheduler::new(self.rng.fork(), self.clock.clone(), self.trace.clone());
    }

    /// Workers that are not done.
    pub fn workers(&self) -> Vec<String> {
        self.sched.workers()
    }
}

/// What a boot runs holds the boot's [`Env`], and that holds the scheduler: without an end they keep each other for good.
impl Drop for SimWorld {
    fn drop(&mut self) {
        self.sched.stop();
    }
}

/// Random bytes from the seed.
struct SimRandom {
    rng: Mutex<Rng>,
}

impl Random for SimRandom {
    fn fill(&self, buf: &mut [u8]) {
        self.rng.lock().fill(buf);
    }
}

#[cfg(test)]
mod tests;
