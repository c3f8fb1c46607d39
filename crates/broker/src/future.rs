//! The few things that a caller waits for: thin futures over wakers, for any executor.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use env::Env;
use model::{Error, Result, Seq};
use parking_lot::Mutex;
use store::Class;

use crate::broker::Broker;

impl Broker {
    /// `body`, to be run as a task without which clients would wait in vain: the process ends if it panics. `name` says in
    /// reports what it is.
    pub fn needed<F>(&self, name: &'static str, body: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (spawn, body) = (self.env().spawn.clone(), Box::pin(body));
        async move {
            if let Err(reason) = env::guarded(body).await {
                tracing::error!(task = name, reason, "a task panicked; this is a bug");
                spawn.fault(&format!("{name} panicked: {reason}"));
            }
        }
    }
}

/// Resolves when everything up to a sequence is durable and readable. [`model::ErrorKind::Indeterminate`] when a write or
/// sync failed before.
#[must_use = "nothing is known to be durable before this resolves"]
pub struct Durable {
    broker: Broker,
    seq: Seq,
}

impl Durable {
    pub(crate) fn new(broker: Broker, seq: Seq) -> Self {
        Durable { broker, seq }
    }

    /// Whether it would resolve at once, and to what.
    pub fn now(&self) -> Option<Result<()>> {
        let store = self.broker.store();
        if store.durable() >= self.seq {
            return Some(Ok(()));
        }
        let failed = store.failure()?;
        Some(Err(Error::indeterminate(format!("it may not have been stored: {failed}"))))
    }
}

impl Future for Durable {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(known) = self.now() {
            return Poll::Ready(known);
        }
        self.broker.store().wake_on_durable(self.seq, ctx.waker());
        // It may have become durable between the look and the registration.
        self.now().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Room for records kept in memory below which a throttled publisher waits for memory, bytes: about a large batch.
const MEMORY_ROOM_LEN: usize = 1 << 20;

/// Resolves when what was throttled may be tried again.
#[must_use = "this waits for nothing unless awaited"]
pub struct Room {
    broker: Broker,
    class: Class,
    asked: bool,
}

impl Room {
    /// For a publish or a move, or for what drains: that waits for the disk alone, as memory comes back when it goes on.
    pub(crate) fn new(broker: Broker, class: Class) -> Self {
        Room { broker, class, asked: false }
    }
}

impl Future for Room {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<()> {
        if self.asked {
            return Poll::Ready(());
        }
        self.asked = true;
        let memory_len = match self.class {
            Class::Publish => Some(MEMORY_ROOM_LEN),
            // As much as is asked for at the most: whoever is refused less than that is not woken at once.
            Class::Move => Some(usize::MAX),
            Class::Drain => None,
        };
        if memory_len.is_some_and(|len| self.broker.is_memory_short(len)) {
            self.broker.inner.due.wake_on_memory(ctx.waker());
        } else {
            self.broker.store().wake_on_room(self.class, ctx.waker());
        }
        Poll::Pending
    }
}

/// Runs `job` where blocking is fine, and resolves to what it gives. [`model::ErrorKind::Unavailable`] when it was never
/// run because the process stops.
pub(crate) async fn blocking<T: Send + 'static>(
    env: &Env,
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let answer = Arc::new(Mutex::new(Slot { state: SlotState::Waiting, waker: None }));
    let promise = Promise { slot: answer.clone() };
    env.spawn.blocking(Box::new(move || promise.keep(job())));
    Answer { slot: answer }.await
}

struct Slot<T> {
    state: SlotState<T>,
    waker: Option<Waker>,
}

enum SlotState<T> {
    Waiting,
    Done(Result<T>),
    Taken,
}

/// The job's end. Dropped unkept, it breaks the promise.
struct Promise<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> Promise<T> {
    fn keep(self, result: Result<T>) {
        self.slot.lock().state = SlotState::Done(result);
    }
}

impl<T> Drop for Promise<T> {
    fn drop(&mut self) {
        let mut slot = self.slot.lock();
        if matches!(slot.state, SlotState::Waiting) {
            slot.state = SlotState::Done(Err(Error::unavailable("the broker stops")));
        }
        let waker = slot.waker.take();
        drop(slot);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

struct Answer<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> Future for Answer<T> {
    type Output = Result<T>;

    fn poll(self: Pin<&mut Self>, ctx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.slot.lock();
        match std::mem::replace(&mut slot.state, SlotState::Taken) {
            SlotState::Done(result) => Poll::Ready(result),
            SlotState::Waiting => {
                slot.state = SlotState::Waiting;
                slot.waker = Some(ctx.waker().clone());
                Poll::Pending
            }
            SlotState::Taken => Poll::Ready(Err(Error::internal("an answer was asked for twice"))),
        }
    }
}
