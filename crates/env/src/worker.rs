//! Background work in one shape: a worker is stepped until it has nothing to do, then waits for its signal.

use std::{
    any::Any,
    future::{Future, poll_fn},
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

/// What a worker wants after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Step again at once.
    Again,
    /// Step again when the signal is raised.
    Park,
    /// Step again when the signal is raised, or when the monotonic clock reaches this many nanoseconds.
    ParkUntil(u64),
    /// Finished; never step again.
    Done,
}

/// One piece of background work.
pub trait Worker: Send + 'static {
    /// Does a bounded amount of work. A signal raised during the step is not lost: the worker is stepped again.
    fn step(&mut self) -> Next;
}

/// Wakes one worker. Cheap to raise when it is awake already.
#[derive(Clone, Default)]
pub struct Signal {
    inner: Arc<SignalInner>,
}

#[derive(Default)]
struct SignalInner {
    raised: AtomicBool,
    waker: OnceLock<Waker>,
}

impl Signal {
    /// A signal that no worker listens to yet; pass it to [`Spawn::worker`].
    pub fn new() -> Self {
        Signal::default()
    }

    /// Asks for a step. Everything written before is seen by that step.
    pub fn raise(&self) {
        if !self.inner.raised.swap(true, Ordering::SeqCst)
            && let Some(waker) = self.inner.waker.get()
        {
            waker.wake_by_ref();
        }
    }

    /// Takes the signal down and says whether it was raised. For whoever drives the worker.
    pub fn take(&self) -> bool {
        self.inner.raised.swap(false, Ordering::SeqCst)
    }

    /// Whether it is raised. For whoever drives the worker.
    pub fn is_raised(&self) -> bool {
        self.inner.raised.load(Ordering::SeqCst)
    }

    /// Names what wakes the worker's driver. The first call counts: a worker has one driver for its life.
    pub fn listen_with(&self, waker: Waker) {
        self.inner.waker.get_or_init(|| waker);
    }
}

/// A closure that may block on files.
pub type Job = Box<dyn FnOnce() + Send + 'static>;

/// Runs background work.
pub trait Spawn: Send + Sync + 'static {
    /// Drives `worker` until it is done. `signal` is raised by whoever has work for it. A worker that panics takes the
    /// process down: the engine's state is then unknown.
    fn worker(&self, name: &str, signal: Signal, worker: Box<dyn Worker>);

    /// Like [`Spawn::worker`] for work whose steps take well under half a millisecond and touch no file: it may share
    /// threads with other tasks.
    fn task(&self, name: &str, signal: Signal, worker: Box<dyn Worker>);

    /// Runs `job` where blocking on files is fine. Jobs run in any order.
    fn blocking(&self, job: Job);

    /// Something that the process needs is gone, and the process has to end: in order where somebody watches over it, else
    /// at once, as for a worker that panics.
    fn fault(&self, reason: &str) {
        drop(writeln!(std::io::stderr(), "{reason}"));
        std::process::abort();
    }
}

/// Runs `body`; a panic becomes its text.
pub async fn guarded(body: impl Future<Output = ()>) -> Result<(), String> {
    let mut body = pin!(body);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| body.as_mut().poll(cx))) {
        Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(text_of(panic.as_ref()))),
    })
    .await
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no text".to_owned())
}
