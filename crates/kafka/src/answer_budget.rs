//! What fetch answers may take of memory until their clients have read them, all connections together.
//!
//! A slow reader costs its own connection: each answer takes at most a quarter of what is free, so that a crowd of them
//! gets smaller and smaller answers and there is always some room for the next. Beyond the budget answers have the least
//! length; beyond twice the budget there is none until others were read.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

/// Bytes that an answer may have however little is free. One batch may be longer: the first is given whole (KIP-74).
const ANSWER_LEN_MIN: usize = 64 * 1024;

/// Bytes of all answers that wait to be written or read.
pub(crate) struct AnswerBudget {
    /// Up to here answers have what is asked for, or a fair part of it.
    soft_len: usize,
    /// Nothing is begun above.
    hard_len: usize,
    held: AtomicUsize,
    released: Notify,
}

impl AnswerBudget {
    pub(crate) fn new(len: usize) -> Arc<Self> {
        let hard_len = len.saturating_mul(2);
        Arc::new(AnswerBudget { soft_len: len, hard_len, held: AtomicUsize::new(0), released: Notify::new() })
    }

    /// Takes up to `wanted` bytes, waiting for others to give some back if there are none; `None` when the time is over.
    pub(crate) async fn take(self: &Arc<Self>, wanted: usize, deadline: Instant) -> Option<Charge> {
        loop {
            let mut released = std::pin::pin!(self.released.notified());
            released.as_mut().enable();
            if let Some(charge) = self.try_take(wanted) {
                return Some(charge);
            }
            timeout_at(deadline, released).await.ok()?;
        }
    }

    fn try_take(self: &Arc<Self>, wanted: usize) -> Option<Charge> {
        let share = |held: usize| {
            let free = self.soft_len.saturating_sub(held);
            wanted.min((free / 4).max(ANSWER_LEN_MIN))
        };
        let take = |held: usize| {
            let share = share(held);
            (held + share <= self.hard_len).then_some(held + share)
        };
        let held = self.held.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).ok()?;
        Some(Charge { budget: self.clone(), len: share(held) })
    }

    /// Whether little is left: seven eighths are held.
    pub(crate) fn is_short(&self) -> bool {
        self.held.load(Ordering::Acquire) > self.soft_len - self.soft_len / 8
    }

    /// Bytes held now.
    #[cfg(test)]
    pub(crate) fn held_len(&self) -> usize {
        self.held.load(Ordering::Acquire)
    }
}

/// Bytes taken from the budget; given back when it goes.
pub(crate) struct Charge {
    budget: Arc<AnswerBudget>,
    len: usize,
}

impl Charge {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Makes them what the answer really has: less when there was less to give, more when one batch was longer.
    pub(crate) fn settle(&mut self, len: usize) {
        if len > self.len {
            self.budget.held.fetch_add(len - self.len, Ordering::AcqRel);
        } else {
            self.budget.release(self.len - len);
        }
        self.len = len;
    }

    /// Ties it to the last part of an answer: it is held until that is written, or given up with its connection.
    pub(crate) fn attach(self, parts: &mut Vec<Bytes>) {
        if self.len > 0
            && let Some(last) = parts.pop()
        {
            parts.push(Bytes::from_owner(Charged { part: last, _charge: self }));
        }
    }
}

impl AnswerBudget {
    fn release(&self, len: usize) {
        if len > 0 {
            self.held.fetch_sub(len, Ordering::AcqRel);
            self.released.notify_waiters();
        }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.release(self.len);
    }
}

struct Charged {
    part: Bytes,
    _charge: Charge,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.part
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn now() -> Instant {
        Instant::now()
    }

    #[tokio::test]
    async fn answers_shrink_as_room_does_and_the_last_one_still_has_the_least_length() {
        let budget = AnswerBudget::new(8 << 20);
        let mut charges = Vec::new();
        while budget.held_len() < 8 << 20 {
            charges.push(budget.take(50 << 20, now()).await.unwrap());
        }
        let lens: Vec<usize> = charges.iter().map(Charge::len).collect();
        assert_eq!(lens[0], 2 << 20, "a quarter");
        assert!(lens.is_sorted_by(|a, b| a >= b));
        assert_eq!(lens.last(), Some(&ANSWER_LEN_MIN));
        assert_eq!(budget.take(10, now()).await.unwrap().len(), 10, "no more than was asked for");
    }

    #[tokio::test]
    async fn beyond_twice_the_budget_a_taker_waits_until_something_is_given_back() {
        let budget = AnswerBudget::new(1 << 20);
        let mut held = Vec::new();
        while let Some(charge) = budget.take(1 << 20, now()).await {
            held.push(charge);
        }
        assert!(budget.held_len() <= 2 << 20);
        let late = now() + Duration::from_secs(60);
        let (taken, ()) = tokio::join!(budget.take(1 << 20, late), async { drop(held.pop()) });
        assert_eq!(taken.unwrap().len(), ANSWER_LEN_MIN);
    }

    #[tokio::test]
    async fn what_an_answer_really_has_is_charged_until_its_last_part_is_gone() {
        let budget = AnswerBudget::new(1 << 20);
        let mut charge = budget.take(1 << 20, now()).await.unwrap();
        charge.settle(900_000);
        assert_eq!(budget.held_len(), 900_000, "more than was taken");
        charge.settle(100);
        assert_eq!(budget.held_len(), 100);
        let mut parts = vec![Bytes::from_static(b"head"), Bytes::from_static(b"tail")];
        charge.attach(&mut parts);
        assert_eq!(parts[1].as_ref(), b"tail");
        let tail = parts.pop();
        drop(parts);
        assert_eq!(budget.held_len(), 100);
        drop(tail);
        assert_eq!(budget.held_len(), 0);
    }
}
