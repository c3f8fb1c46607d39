//! A clock that tests put forward, for ephemeral runs.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use env::{Clock, Env, Job, Next, Signal, Spawn, Worker};
use parking_lot::Mutex;

/// Both clocks of the machine, and how far they were put forward.
pub struct TestClock {
    machine: Arc<dyn Clock>,
    ahead_ms: AtomicU64,
    /// Every worker's: raised when the clock moves, so that each looks at the time again.
    signals: Mutex<Vec<Signal>>,
}

/// `env` on a clock that can be put forward, and that clock.
pub fn on_test_clock(env: Env) -> (Env, Arc<TestClock>) {
    let clock = Arc::new(TestClock {
        machine: env.clock.clone(),
        ahead_ms: AtomicU64::new(0),
        signals: Mutex::default(),
    });
    let spawn = Arc::new(TestSpawn { inner: env.spawn.clone(), clock: clock.clone() });
    (Env { clock: clock.clone(), spawn, ..env }, clock)
}

impl TestClock {
    fn ahead_ns(&self) -> u64 {
        self.ahead_ms.load(Ordering::SeqCst).saturating_mul(1_000_000)
    }
}

impl Clock for TestClock {
    fn wall_ms(&self) -> i64 {
        let ahead = i64::try_from(self.ahead_ms.load(Ordering::SeqCst)).unwrap_or(i64::MAX);
        self.machine.wall_ms().saturating_add(ahead)
    }

    fn mono_ns(&self) -> u64 {
        self.machine.mono_ns().saturating_add(self.ahead_ns())
    }
}

impl admin::TestClock for TestClock {
    fn advance(&self, by_ms: u64) {
        self.ahead_ms.fetch_add(by_ms, Ordering::SeqCst);
        for signal in &*self.signals.lock() {
            signal.raise();
        }
    }
}

/// Drives workers on the machine's clock: what they say in test time is translated.
struct TestSpawn {
    inner: Arc<dyn Spawn>,
    clock: Arc<TestClock>,
}

impl TestSpawn {
    fn translated(&self, signal: &Signal, worker: Box<dyn Worker>) -> Box<dyn Worker> {
        self.clock.signals.lock().push(signal.clone());
        Box::new(Translated { worker, clock: self.clock.clone() })
    }
}

impl Spawn for TestSpawn {
    fn worker(&self, name: &str, signal: Signal, worker: Box<dyn Worker>) {
        let worker = self.translated(&signal, worker);
        self.inner.worker(name, signal, worker);
    }

    fn task(&self, name: &str, signal: Signal, worker: Box<dyn Worker>) {
        let worker = self.translated(&signal, worker);
        self.inner.task(name, signal, worker);
    }

    fn blocking(&self, job: Job) {
        self.inner.blocking(job);
    }

    fn fault(&self, reason: &str) {
        self.inner.fault(reason);
    }
}

struct Translated {
    worker: Box<dyn Worker>,
    clock: Arc<TestClock>,
}

impl Worker for Translated {
    fn step(&mut self) -> Next {
        match self.worker.step() {
            Next::ParkUntil(at_ns) => Next::ParkUntil(at_ns.saturating_sub(self.clock.ahead_ns())),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use admin::TestClock as _;

    use super::*;

    struct Alarm {
        clock: Arc<dyn Clock>,
        at_ns: u64,
        rang: mpsc::Sender<()>,
    }

    impl Worker for Alarm {
        fn step(&mut self) -> Next {
            if self.clock.mono_ns() < self.at_ns {
                return Next::ParkUntil(self.at_ns);
            }
            self.rang.send(()).unwrap();
            Next::Done
        }
    }

    #[test]
    fn a_worker_that_waits_for_tomorrow_runs_when_the_clock_is_put_forward() {
        const DAY_MS: u64 = 86_400_000;
        let (env, clock) = on_test_clock(env::real());
        let (rang, rings) = mpsc::channel();
        let before_ms = env.clock.wall_ms();
        let at_ns = env.clock.mono_ns() + DAY_MS * 1_000_000;
        let alarm = Alarm { clock: env.clock.clone(), at_ns, rang };
        env.spawn.worker("alarm", Signal::new(), Box::new(alarm));
        clock.advance(DAY_MS);
        rings.recv().unwrap();
        assert!(env.clock.wall_ms() - before_ms >= 86_400_000);
    }
}
