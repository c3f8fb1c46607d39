//! The engine's short workers as tasks of the runtime: no thread hand-over between a commit and the sessions it wakes.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use env::{Clock, Env, Job, Next, Signal, Spawn, Worker};
use tokio::{runtime::Handle, time::Sleep};

use crate::supervisor::{Class, Supervisor};

/// Steps before other tasks of the thread get their turn.
const STEPS_PER_POLL: usize = 16;

/// `env`, with [`Spawn::task`] taken over by the runtime of `handle`.
pub fn on_runtime(env: Env, handle: Handle, supervisor: Supervisor) -> Env {
    let spawn = Runtime { threads: env.spawn.clone(), clock: env.clock.clone(), handle, supervisor };
    Env { spawn: Arc::new(spawn), ..env }
}

struct Runtime {
    threads: Arc<dyn Spawn>,
    clock: Arc<dyn Clock>,
    handle: Handle,
    supervisor: Supervisor,
}

impl Spawn for Runtime {
    fn worker(&self, name: &str, signal: Signal, worker: Box<dyn Worker>) {
        self.threads.worker(name, signal, worker);
    }

    fn task(&self, name: &str, signal: Signal, worker: Box<dyn Worker>) {
        let _entered = self.handle.enter(); // the engine may call from a thread of its own
        let driver = Driver { signal, worker, clock: self.clock.clone(), timer: None, due: true };
        self.supervisor.spawn(Class::Engine, name, driver);
    }

    fn blocking(&self, job: Job) {
        self.threads.blocking(job);
    }

    fn fault(&self, reason: &str) {
        self.supervisor.report(reason.to_owned());
    }
}

/// Steps one worker. A task's waker stays the same for its life, so it is registered with the signal once.
struct Driver {
    signal: Signal,
    worker: Box<dyn Worker>,
    clock: Arc<dyn Clock>,
    /// Set while the worker waits for a time.
    timer: Option<Pin<Box<Sleep>>>,
    /// Step without asking the signal: at the start, and after [`Next::Again`].
    due: bool,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.signal.listen_with(cx.waker().clone());
        for _ in 0..STEPS_PER_POLL {
            let timer_rang = self.timer.as_mut().is_some_and(|timer| timer.as_mut().poll(cx).is_ready());
            if !(self.signal.take() || self.due || timer_rang) {
                return Poll::Pending;
            }
            self.timer = None;
            let next = self.worker.step();
            self.due = next == Next::Again;
            match next {
                Next::Again | Next::Park => {}
                Next::ParkUntil(at_ns) => {
                    let left = Duration::from_nanos(at_ns.saturating_sub(self.clock.mono_ns()));
                    self.timer = Some(Box::pin(tokio::time::sleep(left)));
                }
                Next::Done => return Poll::Ready(()),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    struct Counting {
        steps: Arc<AtomicU32>,
        then: Vec<Next>,
    }

    impl Worker for Counting {
        fn step(&mut self) -> Next {
            self.steps.fetch_add(1, Ordering::SeqCst);
            self.then.pop().unwrap_or(Next::Done)
        }
    }

    async fn steps_of(then: Vec<Next>, raise: bool) -> u32 {
        let supervisor = Supervisor::default();
        let env = on_runtime(env::real(), Handle::current(), supervisor.clone());
        let (signal, steps) = (Signal::new(), Arc::new(AtomicU32::new(0)));
        env.spawn.task("counting", signal.clone(), Box::new(Counting { steps: steps.clone(), then }));
        if raise {
            tokio::task::yield_now().await;
            signal.raise();
        }
        supervisor.finished(Class::Engine).await;
        steps.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn a_worker_that_wants_more_is_stepped_until_it_is_done() {
        assert_eq!(steps_of(vec![Next::Again; 40], false).await, 41);
    }

    #[tokio::test]
    async fn a_parked_worker_is_stepped_when_its_signal_is_raised() {
        assert_eq!(steps_of(vec![Next::Park], true).await, 2);
    }

    #[tokio::test]
    async fn what_a_dialect_cannot_go_on_without_is_the_fault_of_the_process() {
        let supervisor = Supervisor::default();
        let env = on_runtime(env::real(), Handle::current(), supervisor.clone());
        let (env, _) = crate::test_clock::on_test_clock(env);
        env.spawn.fault("amqp schedule panicked: on purpose");
        env.spawn.fault("what followed from that");
        assert_eq!(supervisor.fault().await, "amqp schedule panicked: on purpose");
    }

    #[tokio::test]
    async fn a_worker_parked_until_a_time_is_stepped_at_that_time() {
        assert_eq!(steps_of(vec![Next::ParkUntil(0)], false).await, 2);
    }
}
