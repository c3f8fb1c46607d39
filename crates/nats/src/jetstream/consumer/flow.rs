//! What holds a push consumer back: bytes that its subscriber has not confirmed, and a rate.

use std::time::Duration;

use tokio::time::Instant;

/// Bytes that may be on their way at most, and at first.
const WINDOW_MAX: usize = 32 << 20;
const WINDOW_FIRST: usize = WINDOW_MAX / 16;

/// Flow control of one consumer, as the original has it: the subscriber is asked once half of the window is out, and
/// each answer doubles the window.
#[derive(Debug)]
pub(super) struct Flow {
    window: usize,
    out: usize,
    /// The question that is open: where its answer goes, and what was out when it was put.
    asked: Option<(String, usize)>,
    /// From when on the rate lets more go.
    free_at: Option<Instant>,
}

impl Default for Flow {
    fn default() -> Self {
        Flow { window: WINDOW_FIRST, out: 0, asked: None, free_at: None }
    }
}

impl Flow {
    /// Whether the subscriber has to confirm first.
    pub(super) fn is_stalled(&self) -> bool {
        self.out > self.window
    }

    /// `len` bytes went out. Whether the subscriber should be asked.
    pub(super) fn sent(&mut self, len: usize) -> bool {
        self.out += len;
        match &mut self.asked {
            None => self.out > self.window / 2,
            Some((_, size)) => {
                if self.out - (*size).min(self.out) >= self.window {
                    *size += len;
                }
                false
            }
        }
    }

    /// The subscriber was asked to answer there.
    pub(super) fn ask(&mut self, to: String) {
        self.asked = Some((to, self.out));
    }

    /// Where the answer that is waited for goes.
    pub(super) fn open(&self) -> Option<&str> {
        self.asked.as_ref().map(|(to, _)| to.as_str())
    }

    /// An answer came. Whether it was waited for.
    pub(super) fn answered(&mut self, to: &[u8]) -> bool {
        match &self.asked {
            Some((asked, size)) if asked.as_bytes() == to => {
                self.out = self.out.saturating_sub(*size);
                self.asked = None;
                self.window = (self.window * 2).min(WINDOW_MAX);
                true
            }
            _ => false,
        }
    }

    /// A new subscriber has nothing to confirm.
    pub(super) fn begin_again(&mut self) {
        *self = Flow::default();
    }

    /// From when on more may go, if not now.
    pub(super) fn free_at(&self, now: Instant) -> Option<Instant> {
        self.free_at.filter(|at| *at > now)
    }

    /// `len` bytes went out at a rate of so many bits per second.
    pub(super) fn spend(&mut self, len: usize, bits_per_s: u64, now: Instant) {
        if bits_per_s == 0 {
            return;
        }
        let us = (len as u64).saturating_mul(8_000_000) / bits_per_s;
        let from = self.free_at.map_or(now, |at| at.max(now));
        self.free_at = Some(from + Duration::from_micros(us));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscriber_is_asked_at_half_of_the_window_and_its_answer_doubles_it() {
        let mut flow = Flow::default();
        assert!(!flow.sent(WINDOW_FIRST / 2));
        assert!(flow.sent(1));
        flow.ask("there".to_owned());
        assert!(!flow.sent(WINDOW_FIRST / 2) && flow.is_stalled());
        assert!(!flow.answered(b"elsewhere") && flow.answered(b"there"));
        assert!(!flow.is_stalled() && flow.open().is_none());
        assert!(!flow.sent(WINDOW_FIRST / 2), "half of the window is twice as much now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_lets_more_go_when_the_last_is_paid_for() {
        let (mut flow, now) = (Flow::default(), Instant::now());
        flow.spend(1_000, 8_000, now);
        assert_eq!(flow.free_at(now), Some(now + Duration::from_secs(1)));
        assert_eq!(flow.free_at(now + Duration::from_secs(1)), None);
    }
}
