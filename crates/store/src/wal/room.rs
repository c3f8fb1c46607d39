//! Room in the queue: who may stage, and who waits until it may.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    task::Waker,
};

use model::{Error, ErrorKind, Result};
use parking_lot::Mutex;

use super::{ByClass, Class, Room};

/// Budgets of bytes, so that whoever drains is never shut out by whoever publishes, or by what moves.
pub(super) struct Queue {
    budgets: ByClass<Budget>,
    unit_len_max: usize,
    waiting: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

struct Budget {
    used: AtomicUsize,
    max: usize,
}

impl Queue {
    /// Room for `publish_max` bytes of new records, `drain_max` of those that move, and as much of everything else.
    pub(super) fn new(publish_max: usize, drain_max: usize, unit_len_max: usize) -> Self {
        let budget = |max| Budget { used: AtomicUsize::new(0), max };
        Queue {
            budgets: [publish_max, drain_max, drain_max].map(budget),
            unit_len_max,
            waiting: AtomicBool::new(false),
            wakers: Mutex::new(Vec::new()),
        }
    }

    /// Takes `len` bytes. While half of the budget is free, any unit is let in: one that is longer than the whole budget would
    /// never be, and one of much of it would not for as long as many small ones come.
    pub(super) fn take(&self, len: usize, class: Class) -> Result<()> {
        if len > self.unit_len_max {
            let text = format!("a unit of {len} bytes is longer than the limit of {}", self.unit_len_max);
            return Err(Error::limit(text));
        }
        let budget = self.budget(class);
        let fits = |used: usize| {
            let is_let_in = used + len <= budget.max || used <= budget.max / 2;
            is_let_in.then_some(used + len)
        };
        match budget.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits) {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::new(ErrorKind::Throttled, "the write-ahead log's queue is full")),
        }
    }

    /// Registers `waker` for the next time room is given back, or wakes it when nothing is taken.
    pub(super) fn wake_on_room(&self, waker: &Waker) {
        {
            let mut wakers = self.wakers.lock();
            if !wakers.iter().any(|known| known.will_wake(waker)) {
                wakers.push(waker.clone());
            }
            self.waiting.store(true, Ordering::SeqCst);
        }
        if self.used_len() == 0 {
            self.wake();
        }
    }

    /// Wakes everyone who waits for room.
    pub(super) fn wake(&self) {
        if self.waiting.swap(false, Ordering::SeqCst) {
            let wakers = std::mem::take(&mut *self.wakers.lock());
            wakers.into_iter().for_each(Waker::wake);
        }
    }

    /// Bytes taken, of all classes.
    pub(super) fn used_len(&self) -> usize {
        self.budgets.iter().map(|budget| budget.used.load(Ordering::SeqCst)).sum()
    }

    fn budget(&self, class: Class) -> &Budget {
        class.of(&self.budgets)
    }
}

impl Room for Queue {
    fn give_back(&self, len: usize, class: Class) {
        self.budget(class).used.fetch_sub(len, Ordering::SeqCst);
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_refuses_publishes_and_goes_on_taking_settlements() {
        let queue = Queue::new(100, 50, 1000);
        queue.take(100, Class::Publish).unwrap();
        assert_eq!(queue.take(1, Class::Publish).unwrap_err().kind(), ErrorKind::Throttled);
        queue.take(50, Class::Move).unwrap();
        queue.take(50, Class::Drain).unwrap();
        assert_eq!(queue.take(1, Class::Drain).unwrap_err().kind(), ErrorKind::Throttled);
        queue.give_back(100, Class::Publish);
        queue.take(100, Class::Publish).unwrap();
    }

    #[test]
    fn a_unit_beyond_the_whole_budget_is_let_in_where_half_of_it_is_free() {
        let queue = Queue::new(100, 50, 1000);
        queue.take(51, Class::Publish).unwrap();
        assert_eq!(queue.take(1000, Class::Publish).unwrap_err().kind(), ErrorKind::Throttled);
        queue.give_back(1, Class::Publish);
        queue.take(1000, Class::Publish).unwrap();
        queue.give_back(50, Class::Publish);
        assert!(queue.take(1, Class::Publish).is_err());
        queue.give_back(1000, Class::Publish);
        assert_eq!(queue.take(1001, Class::Publish).unwrap_err().kind(), ErrorKind::Limit);
    }

    #[test]
    fn a_long_unit_is_let_in_beside_small_ones_that_keep_less_than_half_of_the_queue() {
        let queue = Queue::new(100, 50, 1000);
        queue.take(50, Class::Publish).unwrap();
        queue.take(80, Class::Publish).unwrap();
        assert_eq!(queue.take(1, Class::Publish).unwrap_err().kind(), ErrorKind::Throttled);
        queue.give_back(50, Class::Publish);
        assert_eq!(queue.take(80, Class::Publish).unwrap_err().kind(), ErrorKind::Throttled);
        queue.take(20, Class::Publish).unwrap();
    }
}
