//! The memory that volatile records may take, over all logs.

use std::sync::atomic::{AtomicU64, Ordering};

use env::Signal;
use model::{Error, ErrorKind, Result};

pub(crate) struct VolatileBudget {
    used: AtomicU64,
    max: u64,
    /// Raised when more than half is used.
    pub pressure: Signal,
}

impl VolatileBudget {
    pub fn new(max: u64) -> Self {
        VolatileBudget { used: AtomicU64::new(0), max, pressure: Signal::new() }
    }

    /// Whether `len` bytes more fit. Publishers ask before they lock, so that a few of them together may pass the
    /// bound by what they hold in hand. A unit longer than half of it is let in when half of it is free: it could wait for
    /// ever otherwise.
    pub fn check(&self, len: usize) -> Result<()> {
        match self.used().saturating_add((len as u64).min(self.max / 2)) <= self.max {
            true => Ok(()),
            false => {
                Err(Error::new(ErrorKind::Throttled, "memory for records that are not stored is used up"))
            }
        }
    }

    /// A log's share changed.
    pub fn moved(&self, before: u64, after: u64) {
        if after > before {
            self.used.fetch_add(after - before, Ordering::Relaxed);
            if self.is_pressed() {
                self.pressure.raise();
            }
        } else if before > after {
            self.used.fetch_sub(before - after, Ordering::Relaxed);
        }
    }

    /// Whether records should move out of memory.
    pub fn is_pressed(&self) -> bool {
        self.used() > self.max / 2
    }

    /// Bytes that they may take.
    pub fn max(&self) -> u64 {
        self.max
    }

    /// Whether enough of them have moved out.
    pub fn is_relaxed(&self) -> bool {
        self.used() <= self.max / 8 * 3
    }

    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}
