//! Answers that a client may give once, because it was asked: it was sent a message that names where to.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

/// How long an answer may take; the original's default.
const TTL: Duration = Duration::from_secs(120);

/// Answers outstanding at most; beyond them the oldest may no longer be given.
const COUNT_MAX: usize = 65_536;

/// Where one client may answer.
#[derive(Debug, Default)]
pub(crate) struct Replies {
    /// Until when each may be given.
    open: HashMap<Box<[u8]>, Instant>,
    by_age: VecDeque<(Instant, Box<[u8]>)>,
}

impl Replies {
    /// It was asked to answer there.
    pub(crate) fn note(&mut self, reply: &[u8], now: Instant) {
        self.forget(now);
        if self.by_age.len() >= COUNT_MAX {
            self.forget_oldest();
        }
        if !self.open.contains_key(reply) {
            self.open.insert(reply.into(), now + TTL);
            self.by_age.push_back((now + TTL, reply.into()));
        }
    }

    /// Whether it may answer there; from then on it may not.
    pub(crate) fn take(&mut self, reply: &[u8], now: Instant) -> bool {
        self.forget(now);
        self.open.remove(reply).is_some()
    }

    fn forget(&mut self, now: Instant) {
        while self.by_age.front().is_some_and(|(end, _)| *end <= now) {
            self.forget_oldest();
        }
    }

    /// An answer that was given, and asked for again since, stays.
    fn forget_oldest(&mut self) {
        if let Some((end, reply)) = self.by_age.pop_front()
            && self.open.get(&reply) == Some(&end)
        {
            self.open.remove(&reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_given_once_and_in_time() {
        let mut replies = Replies::default();
        let now = Instant::now();
        replies.note(b"a", now);
        replies.note(b"b", now);
        assert!(replies.take(b"a", now) && !replies.take(b"a", now) && !replies.take(b"c", now));
        assert!(!replies.take(b"b", now + TTL));
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_make_room() {
        let mut replies = Replies::default();
        let now = Instant::now();
        for n in 0..=COUNT_MAX {
            replies.note(n.to_string().as_bytes(), now);
        }
        assert!(!replies.take(b"0", now));
        assert!(replies.take(b"1", now) && replies.take(COUNT_MAX.to_string().as_bytes(), now));
        assert!(replies.by_age.len() <= COUNT_MAX);
    }
}
