//! Reads of the disk take turns, so that the log's syncs never wait behind a long queue of them. In the order in which they
//! come: a long one would wait for ever for room that short ones fill again and again.

use parking_lot::{Condvar, Mutex};

/// Bytes that reads together may have asked the disk for at a time: what keeps a fast disk busy, and what a slow one
/// (300 MB/s) gives within a few milliseconds. A longer read goes alone.
const IN_FLIGHT_LEN_MAX: usize = 2 << 20;

/// See the module.
#[derive(Default)]
pub(super) struct Turns {
    state: Mutex<State>,
    moved: Condvar,
}

#[derive(Default)]
struct State {
    in_flight_len: usize,
    /// How many reads have come, and how many of them have begun.
    come: u64,
    begun: u64,
}

/// A read that is under way; it ends when this is dropped.
pub(super) struct Turn<'a> {
    turns: &'a Turns,
    len: usize,
}

impl Turns {
    /// Waits until a read of `len` bytes may begin: those that came before have, and there is room.
    pub(super) fn take(&self, len: usize) -> Turn<'_> {
        let mut state = self.state.lock();
        let nth = state.come;
        state.come += 1;
        while nth != state.begun || (state.in_flight_len > 0 && state.in_flight_len + len > IN_FLIGHT_LEN_MAX)
        {
            self.moved.wait(&mut state);
        }
        state.begun += 1;
        state.in_flight_len += len;
        self.moved.notify_all();
        Turn { turns: self, len }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.turns.state.lock().in_flight_len -= self.len;
        self.turns.moved.notify_all();
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
            for len in [1 << 20, 1 << 20, 700 << 10, 3 << 20, 4_096, 1] {
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
        assert_eq!(turns.state.lock().in_flight_len, 0);
    }

    #[test]
    fn a_long_read_that_waits_is_not_overtaken_by_short_ones() {
        let (turns, begun) = (Turns::default(), Mutex::new(Vec::new()));
        let all_came = |count| {
            while turns.state.lock().come < count {
                thread::yield_now();
            }
        };
        thread::scope(|scope| {
            let first = turns.take(4_096);
            let read = |len| {
                let (turns, begun) = (&turns, &begun);
                move || {
                    let _turn = turns.take(len);
                    begun.lock().push(len);
                }
            };
            scope.spawn(read(3 << 20));
            all_came(2);
            scope.spawn(read(1));
            all_came(3);
            (0..100).for_each(|_| thread::yield_now());
            assert_eq!(*begun.lock(), [], "neither has room, or may go first");
            drop(first);
        });
        assert_eq!(*begun.lock(), [3 << 20, 1]);
    }
}
