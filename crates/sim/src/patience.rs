//! Waiting for a future on a simulated machine: the machine goes on until the answer is there.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use crate::{SimWorld, Turn};

/// Turns that one wait may take. An answer that takes longer never comes.
const TURNS_MAX: usize = 200_000;

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// The power went.
    PowerGone,
    /// Nothing can happen any more, or too much did.
    Never,
}

struct Bell(AtomicBool);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

impl SimWorld {
    /// Polls `future` while the machine goes on.
    pub fn wait<F: Future>(&self, future: F) -> Result<F::Output, Unanswered> {
        let bell = Arc::new(Bell(AtomicBool::new(true)));
        let waker = Waker::from(bell.clone());
        let mut future = pin!(future);
        for _ in 0..TURNS_MAX {
            if bell.0.swap(false, Ordering::SeqCst)
                && let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker))
            {
                return if self.powered() { Ok(output) } else { Err(Unanswered::PowerGone) };
            }
            if !self.powered() {
                return Err(Unanswered::PowerGone);
            }
            if self.turn() == Turn::Idle && !bell.0.load(Ordering::SeqCst) {
                break;
            }
        }
        Err(Unanswered::Never)
    }
}
