use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use env::{Clock, Next, Signal, Worker};

use super::*;

struct Counter {
    steps: Arc<AtomicU64>,
    next: fn(u64) -> Next,
}

impl Worker for Counter {
    fn step(&mut self) -> Next {
        (self.next)(self.steps.fetch_add(1, Ordering::SeqCst) + 1)
    }
}

fn world(seed: u64) -> SimWorld {
    SimWorld::new(seed, 1 << 20, Trace::new(true))
}

fn spawn(world: &mut SimWorld, name: &str, signal: &Signal, next: fn(u64) -> Next) -> Arc<AtomicU64> {
    let steps = Arc::new(AtomicU64::new(0));
    world.env().spawn.worker(name, signal.clone(), Box::new(Counter { steps: steps.clone(), next }));
    steps
}

#[test]
fn a_parked_worker_runs_again_when_its_signal_is_raised() {
    let mut world = world(1);
    let signal = Signal::new();
    let steps = spawn(&mut world, "w", &signal, |_| Next::Park);
    assert!(!world.run_until(10, || false));
    assert_eq!(steps.load(Ordering::SeqCst), 1);
    signal.raise();
    assert!(world.run_until(10, || steps.load(Ordering::SeqCst) == 2));
}

#[test]
fn time_passes_when_everybody_waits() {
    let mut world = world(1);
    let steps = spawn(&mut world, "w", &Signal::new(), |_| Next::ParkUntil(5_000_000_000));
    assert!(world.run_until(10, || steps.load(Ordering::SeqCst) == 2));
    assert!(world.clock.mono_ns() >= 5_000_000_000);
}

#[test]
fn a_crash_drops_workers_and_kills_their_handles() {
    let mut world = world(1);
    let env = world.env();
    let steps = spawn(&mut world, "w", &Signal::new(), |_| Next::Again);
    world.crash(Crash::Process);
    assert_eq!(world.turn(), Turn::Idle);
    assert_eq!(steps.load(Ordering::SeqCst), 0);
    assert!(env.files.list(std::path::Path::new("/")).is_err());
}

#[test]
fn a_world_that_ends_lets_go_of_what_its_last_boot_ran() {
    struct Holder {
        _env: env::Env,
        _held: Arc<()>,
    }
    impl Worker for Holder {
        fn step(&mut self) -> Next {
            Next::Park
        }
    }
    let mut world = world(1);
    let held = Arc::new(());
    let env = world.env();
    let spawn = env.spawn.clone();
    spawn.worker("w", Signal::new(), Box::new(Holder { _env: env, _held: held.clone() }));
    drop(spawn);
    world.turn();
    drop(world);
    assert_eq!(Arc::strong_count(&held), 1);
}

#[test]
fn one_seed_steps_its_workers_in_one_order() {
    let order = |seed| {
        let mut world = world(seed);
        for name in ["a", "b", "c"] {
            spawn(&mut world, name, &Signal::new(), |n| if n < 20 { Next::Again } else { Next::Done });
        }
        world.run_until(1000, || false);
        world.trace.text()
    };
    assert_eq!(order(3), order(3));
    assert_ne!(order(3), order(4));
}
