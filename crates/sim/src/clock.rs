//! Simulated time: it passes when the scheduler or a slow disk says so.

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU64, Ordering},
};

use env::Clock;

/// Both clocks of a simulated machine. Goes on across crashes.
#[derive(Clone)]
pub struct SimClock {
    inner: Arc<Inner>,
}

struct Inner {
    mono_ns: AtomicU64,
    wall_offset_ms: AtomicI64,
}

impl SimClock {
    /// Starts at a fixed date, so that runs are alike.
    pub fn new() -> Self {
        let inner =
            Inner { mono_ns: AtomicU64::new(1_000_000), wall_offset_ms: AtomicI64::new(1_760_000_000_000) };
        SimClock { inner: Arc::new(inner) }
    }

    /// A clock of its own that shows the same time.
    pub fn copy(&self) -> Self {
        let inner = Inner {
            mono_ns: AtomicU64::new(self.inner.mono_ns.load(Ordering::SeqCst)),
            wall_offset_ms: AtomicI64::new(self.inner.wall_offset_ms.load(Ordering::SeqCst)),
        };
        SimClock { inner: Arc::new(inner) }
    }

    /// Lets time pass.
    pub fn advance_ns(&self, ns: u64) {
        self.inner.mono_ns.fetch_add(ns, Ordering::SeqCst);
    }

    /// Lets time pass until `at_ns`, if it has not.
    pub fn advance_to_ns(&self, at_ns: u64) {
        self.inner.mono_ns.fetch_max(at_ns, Ordering::SeqCst);
    }

    /// Moves the wall clock alone, as an operator or a time server does.
    pub fn jump_wall_ms(&self, by_ms: i64) {
        self.inner.wall_offset_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Default for SimClock {
    fn default() -> Self {
        SimClock::new()
    }
}

impl Clock for SimClock {
    fn wall_ms(&self) -> i64 {
        self.inner.wall_offset_ms.load(Ordering::SeqCst) + (self.mono_ns() / 1_000_000) as i64
    }

    fn mono_ns(&self) -> u64 {
        self.inner.mono_ns.load(Ordering::SeqCst)
    }
}
