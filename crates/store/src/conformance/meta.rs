//! The suite for [`Meta`].

use std::sync::Arc;

use bytes::Bytes;
use model::Seq;
use parking_lot::Mutex;

use crate::meta::{Meta, Watcher};

/// An implementation under test. Its state machine collects the commands.
pub trait MetaRig {
    /// Over an empty place. What was given out before is forgotten.
    fn fresh(&self) -> Arc<dyn Meta>;
    /// Over the place of the last one, after a hard stop of the process; whoever calls this dropped the last one.
    fn again(&self) -> Arc<dyn Meta>;
    /// Runs background work until there is none: what was applied becomes durable.
    fn run(&self);
    /// What the state machine has seen.
    fn commands(&self) -> Vec<Bytes>;
}

/// Runs every case; panics with the case's words when one fails.
pub fn meta_suite(rig: &dyn MetaRig) {
    commands_are_applied_at_once_and_in_order(rig);
    watchers_are_told_once_in_order_and_only_of_what_is_durable(rig);
    a_watcher_that_is_gone_is_told_nothing_and_one_that_comes_late_not_of_the_past(rig);
    what_was_durable_is_there_after_a_hard_stop_and_nothing_else(rig);
}

fn command(n: u8) -> Bytes {
    Bytes::from(vec![n; 3])
}

#[derive(Default)]
struct Told(Mutex<Vec<(Seq, Bytes)>>);

impl Watcher for Told {
    fn command(&self, seq: Seq, command: &Bytes) {
        self.0.lock().push((seq, command.clone()));
    }
}

fn commands_are_applied_at_once_and_in_order(rig: &dyn MetaRig) {
    let meta = rig.fresh();
    let first = meta.apply(command(1)).unwrap();
    let second = meta.apply(command(2)).unwrap();
    assert!(first < second);
    assert_eq!(rig.commands(), [command(1), command(2)]);
    rig.run();
    assert!(meta.durable() >= second);
}

fn watchers_are_told_once_in_order_and_only_of_what_is_durable(rig: &dyn MetaRig) {
    let meta = rig.fresh();
    let told = Arc::new(Told::default());
    let watcher: Arc<dyn Watcher> = told.clone();
    meta.watch(&watcher);
    let expected: Vec<_> = (0..10).map(|n| (meta.apply(command(n)).unwrap(), command(n))).collect();
    assert!(told.0.lock().iter().all(|(seq, _)| *seq <= meta.durable()));
    rig.run();
    assert_eq!(*told.0.lock(), expected);
    rig.run();
    assert_eq!(told.0.lock().len(), 10);
}

fn a_watcher_that_is_gone_is_told_nothing_and_one_that_comes_late_not_of_the_past(rig: &dyn MetaRig) {
    let meta = rig.fresh();
    let (early, late) = (Arc::new(Told::default()), Arc::new(Told::default()));
    let watcher: Arc<dyn Watcher> = early.clone();
    meta.watch(&watcher);
    meta.apply(command(1)).unwrap();
    rig.run();
    drop(watcher);
    let before = early.0.lock().len();
    drop(early);
    let watcher: Arc<dyn Watcher> = late.clone();
    meta.watch(&watcher);
    let seq = meta.apply(command(2)).unwrap();
    rig.run();
    assert_eq!(before, 1);
    assert_eq!(*late.0.lock(), [(seq, command(2))]);
}

fn what_was_durable_is_there_after_a_hard_stop_and_nothing_else(rig: &dyn MetaRig) {
    let meta = rig.fresh();
    meta.apply(command(1)).unwrap();
    meta.apply(command(2)).unwrap();
    rig.run();
    let last = meta.durable();
    meta.apply(command(3)).unwrap();
    drop(meta);
    let meta = rig.again();
    rig.run();
    assert_eq!(rig.commands(), [command(1), command(2)]);
    assert!(meta.durable() >= last);
    assert!(meta.apply(command(4)).unwrap() > last);
}
