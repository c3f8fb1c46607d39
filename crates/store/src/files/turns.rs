//! Reads of the disk take turns, so that the log's syncs never wait behind a long queue of them.

use parking_lot::{Condvar, Mutex};

/// Bytes that reads together may have asked the disk for at a time: what keeps a fast disk busy, and what a slow one
/// (300 MB/s) gives within a few milliseconds. A longer read goes alone.
const IN_FLIGHT_LEN_MAX: usize = 2 << 20;

/// See the module.
#[derive(Default)]
pub(super) struct Turns {
    in_flight_len: Mutex<usize>,
    ended: Condvar,
}

/// A read that is under way; it ends when this is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    len: usize,
}

impl Turns {
    /// Waits until a read of `len` bytes may begin.
    pub(super) fn take(&self, len: usize) -> Turn<'_> {
        let mut in_flight_len = self.in_flight_len.lock();
        while *in_flight_len > 0 && *in_flight_len + len > IN_FLIGHT_LEN_MAX {
            self.ended.wait(&mut in_flight_len);
        }
        *in_flight_len += len;
        Turn { turns: self, len }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.turns.in_flight_len.lock() -= self.len;
        self.turns.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        thread,
    };

    use super::*;

    #[test]
    fn reads_under_way_never_exceed_the_bound_and_a_longer_one_goes_alone() {
        let (turns, in_flight) = (Turns::default(), AtomicUsize::new(0));
        thread::scope(|scope| {
            for len in [1 << 20, 1 << 20, 700 << 10, 3 << 20, 4_096, 0] {
                let (turns, in_flight) = (&turns, &in_flight);
                scope.spawn(move || {
                    for _ in 0..200 {
                        let turn = turns.take(len);
                        let now = in_flight.fetch_add(len, Ordering::SeqCst) + len;
                        assert!(now <= IN_FLIGHT_LEN_MAX.max(len), "{now} bytes at a time");
                        thread::yield_now();
                        in_flight.fetch_sub(len, Ordering::SeqCst);
                        drop(turn);
                    }
                });
            }
        });
        assert_eq!(*turns.in_flight_len.lock(), 0);
    }
}
