//! Background work stepped by hand, on a clock that stands still until it is told.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use env::{Clock, Env, Files, Job, Next, Random, Signal, Spawn, Worker};
use parking_lot::Mutex;

/// Workers and blocking jobs that run when [`Hands::run`] is called, and time that passes when [`Hands::pass`] is.
#[derive(Default)]
pub struct Hands {
    state: Mutex<State>,
    now_ns: AtomicU64,
    random: AtomicU64,
}

#[derive(Default)]
struct State {
    workers: Vec<Slot>,
    jobs: Vec<Job>,
}

struct Slot {
    signal: Signal,
    worker: Box<dyn Worker>,
    next: Next,
}

impl Hands {
    /// An environment over `files` that is driven by these hands. Random bytes follow from `seed`.
    pub fn env(self: &Arc<Self>, files: Arc<dyn Files>, seed: u64) -> Env {
        self.random.store(seed, Ordering::Relaxed);
        self.now_ns.fetch_max(1_000_000_000, Ordering::Relaxed);
        Env { files, clock: self.clone(), random: self.clone(), spawn: self.clone() }
    }

    /// Runs everything that can run without time passing.
    pub fn run(&self) {
        while self.step() {}
    }

    /// Lets time pass; nothing runs yet.
    pub fn pass(&self, ns: u64) {
        self.now_ns.fetch_add(ns, Ordering::Relaxed);
    }

    /// Runs one job, or steps one worker that wants it; whether there was one.
    pub fn step(&self) -> bool {
        let job = self.state.lock().jobs.pop();
        if let Some(job) = job {
            job();
            return true;
        }
        let Some(mut slot) = self.take_ready() else { return false };
        slot.signal.take();
        slot.next = slot.worker.step();
        if slot.next != Next::Done {
            self.state.lock().workers.push(slot);
        }
        true
    }

    /// Forgets all work, as a crash does.
    pub fn drop_everything(&self) {
        let state = std::mem::take(&mut *self.state.lock());
        drop(state);
    }

    fn take_ready(&self) -> Option<Slot> {
        let now_ns = self.mono_ns();
        let mut state = self.state.lock();
        let ready = |slot: &Slot| match slot.next {
            Next::Again => true,
            Next::Park => slot.signal.is_raised(),
            Next::ParkUntil(at_ns) => slot.signal.is_raised() || at_ns <= now_ns,
            Next::Done => false,
        };
        let index = state.workers.iter().position(ready)?;
        Some(state.workers.remove(index))
    }
}

impl Spawn for Hands {
    fn worker(&self, _name: &str, signal: Signal, worker: Box<dyn Worker>) {
        self.state.lock().workers.push(Slot { signal, worker, next: Next::Again });
    }

    fn task(&self, name: &str, signal: Signal, worker: Box<dyn Worker>) {
        self.worker(name, signal, worker);
    }

    fn blocking(&self, job: Job) {
        self.state.lock().jobs.push(job);
    }
}

impl Clock for Hands {
    fn wall_ms(&self) -> i64 {
        1_790_000_000_000 + (self.mono_ns() / 1_000_000) as i64
    }

    fn mono_ns(&self) -> u64 {
        self.now_ns.load(Ordering::Relaxed)
    }
}

impl Random for Hands {
    fn fill(&self, buf: &mut [u8]) {
        for chunk in buf.chunks_mut(8) {
            // SplitMix64: every state gives another output, and the same seed the same row of them.
            let state = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
            let mut value = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            value ^= value >> 31;
            chunk.copy_from_slice(&value.to_le_bytes()[..chunk.len()]);
        }
    }
}
