//! Memory for what all logs keep of one kind, such as dedup keys.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Room for what logs keep of one kind.
#[derive(Debug)]
pub(crate) struct LogRoom {
    used: AtomicUsize,
    max: usize,
}

impl LogRoom {
    /// Room for `max` bytes.
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(LogRoom { used: AtomicUsize::new(0), max })
    }

    /// Whether `len` bytes more fit. Publishers of several logs may pass the bound together, by what they grow at once.
    pub(super) fn has(&self, len: usize) -> bool {
        len == 0 || self.used_len().saturating_add(len) <= self.max
    }

    /// Bytes taken.
    pub(super) fn used_len(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }
}

/// What one log takes of the room; given back when dropped.
#[derive(Debug, Default)]
pub(super) struct Charge {
    room: Option<Arc<LogRoom>>,
    len: usize,
}

impl Charge {
    /// Nothing yet of `room`.
    pub(super) fn to(room: &Arc<LogRoom>) -> Self {
        Charge { room: Some(room.clone()), len: 0 }
    }

    /// The room, if there is one.
    pub(super) fn room(&self) -> Option<&LogRoom> {
        self.room.as_deref()
    }

    /// Makes it `len` bytes.
    pub(super) fn set(&mut self, len: usize) {
        let Some(room) = &self.room else { return };
        if len > self.len {
            room.used.fetch_add(len - self.len, Ordering::Relaxed);
        } else if len < self.len {
            room.used.fetch_sub(self.len - len, Ordering::Relaxed);
        }
        self.len = len;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

/// Equal whatever they are: what is remembered is the same.
impl PartialEq for Charge {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Charge {}
