//! Accept loops, connections and the engine's workers on the runtime are registered here: who runs, who ended before its
//! time, whom shutdown waits for.
//!
//! What a dialect starts itself is not, and goes on until its connection or the runtime ends. If it panics, it ends the
//! connection that it belongs to; if it serves more than one (`Broker::needed`), it is reported here, and the process ends.

use std::{collections::BTreeMap, future::Future, pin::pin, sync::Arc};

use env::guarded;
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};
use tracing::error;

struct Running {
    class: Class,
    name: Arc<str>,
    handle: AbortHandle,
}

/// What the end of a task means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The accept loop of a listener: its end before shutdown is the fault of the process, and in a shutdown it ends first.
    Acceptor,
    /// One connection: its end, or its panic, is its own affair.
    Session,
    /// A worker of the engine, or a dialect's clockwork: runs until the engine is closed.
    Engine,
}

/// Registers tasks. Clones share the register.
#[derive(Clone)]
pub struct Supervisor {
    shared: Arc<Shared>,
}

struct Shared {
    tasks: Mutex<Register>,
    ended: Notify,
    fault: watch::Sender<Option<String>>,
}

#[derive(Default)]
struct Register {
    next_id: u64,
    running: BTreeMap<u64, Running>,
}

impl Default for Supervisor {
    fn default() -> Self {
        let shared =
            Shared { tasks: Mutex::default(), ended: Notify::new(), fault: watch::Sender::new(None) };
        Supervisor { shared: Arc::new(shared) }
    }
}

impl Supervisor {
    /// Runs `body` as a task. `name` says in reports what it is.
    pub fn spawn(&self, class: Class, name: &str, body: impl Future<Output = ()> + Send + 'static) {
        let shared = self.shared.clone();
        let name: Arc<str> = name.into();
        let registered = name.clone();
        let mut tasks = self.shared.tasks.lock(); // held until registered: the task cannot end before
        let id = tasks.next_id;
        tasks.next_id += 1;
        let ending = Ending { shared, id };
        let task = tokio::spawn(async move {
            let ending = ending;
            let outcome = guarded(body).await;
            ending.shared.finished(class, &name, outcome);
        });
        tasks.running.insert(id, Running { class, name: registered, handle: task.abort_handle() });
    }

    /// Resolves when no task of `class` runs.
    pub async fn finished(&self, class: Class) {
        loop {
            let mut ended = pin!(self.shared.ended.notified());
            ended.as_mut().enable();
            if self.count(class) == 0 {
                return;
            }
            ended.await;
        }
    }

    /// How many tasks of `class` run.
    pub fn count(&self, class: Class) -> usize {
        self.shared.tasks.lock().running.values().filter(|task| task.class == class).count()
    }

    /// How many sessions there are, by name.
    pub fn sessions(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for task in self.shared.tasks.lock().running.values().filter(|task| task.class == Class::Session) {
            match counts.get_mut(&*task.name) {
                Some(count) => *count += 1,
                None => drop(counts.insert(task.name.to_string(), 1)),
            }
        }
        counts
    }

    /// Drops the tasks of `class` where they stand, and says how many there were.
    pub fn abort(&self, class: Class) -> usize {
        let tasks = self.shared.tasks.lock();
        let of_class = tasks.running.values().filter(|task| task.class == class);
        of_class.map(|task| task.handle.abort()).count()
    }

    /// Something that the process needs is gone. The first reason counts.
    pub fn report(&self, reason: String) {
        self.shared.report(reason);
    }

    /// Resolves with the reason when something that the process needs is gone.
    pub async fn fault(&self) -> String {
        let mut fault = self.shared.fault.subscribe();
        loop {
            if let Some(reason) = fault.borrow_and_update().clone() {
                return reason;
            }
            if fault.changed().await.is_err() {
                return "the supervisor is gone".to_owned();
            }
        }
    }
}

impl Shared {
    fn finished(&self, class: Class, name: &str, outcome: Result<(), String>) {
        if let Err(reason) = &outcome {
            error!(task = name, reason, "a task panicked; this is a bug");
        }
        let reason = match (class, outcome) {
            (Class::Acceptor, Ok(())) => format!("{name} ended"),
            (Class::Acceptor | Class::Engine, Err(reason)) => {
                format!("{name} panicked: {reason}")
            }
            (Class::Session | Class::Engine, _) => return,
        };
        self.report(reason);
    }

    fn report(&self, reason: String) {
        self.fault.send_if_modified(|first| {
            let new = first.is_none();
            first.get_or_insert(reason);
            new
        });
    }
}

/// Takes its task off the register, also when it is aborted.
struct Ending {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.tasks.lock().running.remove(&self.id);
        self.shared.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_session_that_panics_ends_alone() {
        let supervisor = Supervisor::default();
        supervisor.spawn(Class::Session, "s", async { panic!("on purpose") });
        supervisor.finished(Class::Session).await;
        assert_eq!(supervisor.count(Class::Session), 0);
        assert!(supervisor.shared.fault.borrow().is_none());
    }

    #[tokio::test]
    async fn an_accept_loop_that_ends_is_the_fault_of_the_process() {
        let supervisor = Supervisor::default();
        supervisor.spawn(Class::Acceptor, "accepting kafka", async {});
        assert_eq!(supervisor.fault().await, "accepting kafka ended");
    }

    #[tokio::test]
    async fn an_aborted_task_leaves_the_register() {
        let supervisor = Supervisor::default();
        supervisor.spawn(Class::Session, "s", std::future::pending());
        assert_eq!(supervisor.abort(Class::Session), 1);
        supervisor.finished(Class::Session).await;
    }
}
