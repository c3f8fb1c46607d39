//! One task gives every group its time: groups lie in a set ordered by their next deadline.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use broker::{CursorKey, Next, Signal, Worker};
use parking_lot::Mutex;

use super::Coordinator;

/// How often committed offsets are looked at for expiry, milliseconds.
const EXPIRY_INTERVAL_MS: u64 = 60_000;

#[derive(Default)]
pub(super) struct Timers {
    armed: Mutex<Armed>,
    /// Wakes the clockwork.
    sooner: Signal,
}

#[derive(Default)]
struct Armed {
    by_time: BTreeSet<(u64, CursorKey)>,
    by_key: HashMap<CursorKey, u64>,
}

impl Timers {
    /// Sets, moves or takes away the deadline of one group, milliseconds on the monotonic clock.
    pub(super) fn arm(&self, key: &CursorKey, at_ms: Option<u64>) {
        let mut armed = self.armed.lock();
        if armed.by_key.get(key).copied() == at_ms {
            return;
        }
        if let Some(old) = armed.by_key.remove(key) {
            armed.by_time.remove(&(old, key.clone()));
        }
        let Some(at_ms) = at_ms else { return };
        let first_before = armed.by_time.first().map(|(at, _)| *at);
        armed.by_key.insert(key.clone(), at_ms);
        armed.by_time.insert((at_ms, key.clone()));
        if first_before.is_none_or(|first| at_ms < first) {
            self.sooner.raise();
        }
    }

    fn first(&self) -> Option<u64> {
        self.armed.lock().by_time.first().map(|(at, _)| *at)
    }

    fn due(&self, now_ms: u64) -> Vec<CursorKey> {
        let mut armed = self.armed.lock();
        let mut due = Vec::new();
        while armed.by_time.first().is_some_and(|(at, _)| *at <= now_ms) {
            if let Some((_, key)) = armed.by_time.pop_first() {
                armed.by_key.remove(&key);
                due.push(key);
            }
        }
        due
    }
}

/// Gives groups their time until the process ends. It goes by the clock of the broker's world, which tests move.
pub(super) struct Clockwork {
    coordinator: Arc<Coordinator>,
    next_expiry_ms: u64,
}

impl Clockwork {
    /// Starts it.
    pub(super) fn start(coordinator: &Arc<Coordinator>) {
        let next_expiry_ms = coordinator.now().mono_ms + EXPIRY_INTERVAL_MS;
        let clockwork = Clockwork { coordinator: coordinator.clone(), next_expiry_ms };
        let (spawn, signal) = (&coordinator.broker.env().spawn, coordinator.timers.sooner.clone());
        spawn.task("kafka groups", signal, Box::new(clockwork));
    }
}

impl Worker for Clockwork {
    fn step(&mut self) -> Next {
        let coordinator = &self.coordinator;
        let now_ms = coordinator.now().mono_ms;
        for key in coordinator.timers.due(now_ms) {
            if let Some(slot) = coordinator.find(&key) {
                coordinator.step(&slot, |state, now| ((), state.group.tick(now)));
            }
        }
        if now_ms >= self.next_expiry_ms {
            coordinator.expire_offsets();
            self.next_expiry_ms = now_ms + EXPIRY_INTERVAL_MS;
        }
        let first_ms = coordinator.timers.first().unwrap_or(u64::MAX);
        Next::ParkUntil(first_ms.min(self.next_expiry_ms).saturating_mul(1_000_000))
    }
}
