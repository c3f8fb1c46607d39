//! Drives the groups: gives them time, stores what they ask to store, and lets answers go after the commit.
//!
//! Each group has one lock, held for a step of its machine and never across an await. Answers carry the sequence of the
//! last store of their group, so that nobody learns of a generation that a crash would take back.

mod expiry;
mod timers;
mod views;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use broker::{Broker, CursorKey, DocumentKey};
use model::{Namespace, Seq};
use parking_lot::Mutex;
use tokio::sync::oneshot;
use tracing::{info, warn};

use crate::group::{
    Answer, Committer, Group, GroupLimits, Join, Joined, Leaver, Now, Outcome, Phase, Refusal, Sync, Synced,
    Ticket,
};
pub(crate) use views::{GroupView, InUse};

/// Under which groups are stored.
const DOCUMENTS: &str = "kafka.group";

/// Memory that a group takes which nobody is in: its place in the tables, its name, an offer or two. Rounded up.
const IDLE_GROUP_LEN: usize = 1 << 10;

/// Every group of every tenant.
pub(crate) struct Coordinator {
    broker: Broker,
    limits: GroupLimits,
    /// Groups beyond this many are not begun: a quarter of the broker's memory holds them.
    groups_max: usize,
    /// How long an empty group's offsets are kept, milliseconds.
    offsets_retention_ms: i64,
    groups: Mutex<HashMap<CursorKey, Arc<Slot>>>,
    timers: timers::Timers,
    tickets: AtomicU64,
}

struct Slot {
    key: CursorKey,
    state: Mutex<State>,
}

struct State {
    group: Group,
    waiting: HashMap<Ticket, oneshot::Sender<(Answer, Seq)>>,
    /// The last store of this group.
    stored: Seq,
    /// A store failed: the next one writes everything anyway.
    unsaved: bool,
    /// Deleted: whoever still holds this slot has to look again.
    gone: bool,
}

/// Answers whose senders are to be called once no lock is held.
type Ready = Vec<(oneshot::Sender<(Answer, Seq)>, Answer, Seq)>;

impl Coordinator {
    /// The coordinator with every group that was stored. A group that does not read is reported and left alone: its
    /// members join anew, its document stays for whoever repairs it.
    pub(crate) fn open(broker: Broker, limits: GroupLimits, offsets_retention_ms: i64) -> Arc<Self> {
        let now = now(&broker);
        let mut groups = HashMap::new();
        for (document, body) in broker.documents(DOCUMENTS) {
            match Group::from_stored(&document.name, limits, &body, now) {
                Ok(group) => {
                    let key = CursorKey::new(&document.namespace, &document.name);
                    groups.insert(key.clone(), Arc::new(Slot::new(key, group)));
                }
                Err(e) => warn!(group = %document.name, error = %e, "a stored group does not read"),
            }
        }
        let groups_max = broker.options().memory_budget_len / 4 / IDLE_GROUP_LEN;
        let coordinator = Arc::new(Coordinator {
            broker,
            limits,
            groups_max,
            offsets_retention_ms,
            groups: Mutex::new(groups),
            timers: timers::Timers::default(),
            tickets: AtomicU64::new(1),
        });
        for slot in coordinator.slots() {
            coordinator.timers.arm(&slot.key, slot.state.lock().group.next_deadline());
        }
        coordinator
    }

    /// Gives groups their time from now on.
    pub(crate) fn start_clockwork(self: &Arc<Self>) {
        timers::Clockwork::start(self);
    }

    fn now(&self) -> Now {
        now(&self.broker)
    }

    fn slots(&self) -> Vec<Arc<Slot>> {
        self.groups.lock().values().cloned().collect()
    }

    fn find(&self, key: &CursorKey) -> Option<Arc<Slot>> {
        self.groups.lock().get(key).cloned()
    }

    /// The group that a request of a member is about.
    fn of_member(&self, key: &CursorKey) -> Result<Arc<Slot>, Refusal> {
        match key.name.is_empty() {
            true => Err(Refusal::InvalidGroupId),
            false => self.find(key).ok_or(Refusal::UnknownMember),
        }
    }

    /// The group, which begins now if it is not there; `None` when there are as many as memory holds.
    fn find_or_create(&self, key: &CursorKey) -> Option<Arc<Slot>> {
        let mut groups = self.groups.lock();
        if let Some(slot) = groups.get(key) {
            return Some(slot.clone());
        }
        if groups.len() >= self.groups_max {
            return None;
        }
        let slot = Arc::new(Slot::new(key.clone(), Group::new(&key.name, self.limits)));
        groups.insert(key.clone(), slot.clone());
        Some(slot)
    }

    /// Runs a step of a group's machine, stores what it asks to store, arms its timer, and sends what is answered.
    fn step<T>(&self, slot: &Slot, step: impl FnOnce(&mut State, Now) -> (T, Outcome)) -> Option<T> {
        let mut state = slot.state.lock();
        if state.gone {
            return None;
        }
        let (result, outcome) = step(&mut state, self.now());
        let ready = self.settle(&slot.key, &mut state, outcome);
        self.timers.arm(&slot.key, state.group.next_deadline());
        drop(state);
        send(ready);
        Some(result)
    }

    fn settle(&self, key: &CursorKey, state: &mut State, outcome: Outcome) -> Ready {
        if outcome.persist || state.unsaved {
            match self.broker.put_document(document_key(key), Some(state.group.to_stored())) {
                Ok(seq) => {
                    state.stored = seq;
                    state.unsaved = false;
                }
                Err(e) => {
                    state.unsaved = true;
                    warn!(group = %key.name, error = %e, "a group could not be stored");
                }
            }
        }
        let unsaved = state.unsaved;
        let mut ready = Vec::with_capacity(outcome.answers.len());
        for (ticket, answer) in outcome.answers {
            if let Some(sender) = state.waiting.remove(&ticket) {
                let answer = if unsaved { unavailable(answer) } else { answer };
                ready.push((sender, answer, state.stored));
            }
        }
        ready
    }

    /// Waits for the answer to `ticket`, and for the store that it rests on.
    async fn answer(&self, receiver: oneshot::Receiver<(Answer, Seq)>) -> Option<Answer> {
        let (answer, stored) = receiver.await.ok()?;
        match self.broker.durable(stored).await {
            Ok(()) => Some(answer),
            Err(_) => Some(unavailable(answer)),
        }
    }

    fn ticket(&self, state: &mut State) -> (Ticket, oneshot::Receiver<(Answer, Seq)>) {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        let (sender, receiver) = oneshot::channel();
        state.waiting.insert(ticket, sender);
        (ticket, receiver)
    }

    /// JoinGroup: answered when the generation begins. The member id of a refused join is the one to come back with.
    pub(crate) async fn join(&self, key: &CursorKey, join: Join) -> Result<Joined, (Refusal, String)> {
        if key.name.is_empty() {
            return Err((Refusal::InvalidGroupId, join.member_id));
        }
        if !self.limits.take_session(join.session_timeout_ms) {
            // Nor does it begin the group.
            return Err((Refusal::InvalidSessionTimeout, join.member_id));
        }
        let member_id = join.member_id.clone();
        let lost = |refusal| (refusal, member_id.clone());
        let slot = match self.find(key) {
            Some(slot) => slot,
            // Only a member without an id can be the first of its group.
            None if !member_id.is_empty() => return Err(lost(Refusal::UnknownMember)),
            None => self.find_or_create(key).ok_or_else(|| lost(Refusal::CoordinatorNotAvailable))?,
        };
        let receiver = self.step(&slot, |state, now| {
            let (ticket, receiver) = self.ticket(state);
            (receiver, state.group.join(join, ticket, now))
        });
        let Some(receiver) = receiver else { return Err(lost(Refusal::CoordinatorNotAvailable)) };
        match self.answer(receiver).await {
            Some(Answer::Joined(result)) => result,
            _ => Err(lost(Refusal::CoordinatorNotAvailable)),
        }
    }

    /// SyncGroup: answered when the leader has spoken.
    pub(crate) async fn sync(&self, key: &CursorKey, sync: Sync) -> Result<Synced, Refusal> {
        let slot = self.of_member(key)?;
        let receiver = self.step(&slot, |state, now| {
            let (ticket, receiver) = self.ticket(state);
            (receiver, state.group.sync(sync, ticket, now))
        });
        match self.answer(receiver.ok_or(Refusal::CoordinatorNotAvailable)?).await {
            Some(Answer::Synced(result)) => result,
            _ => Err(Refusal::CoordinatorNotAvailable),
        }
    }

    /// Heartbeat.
    pub(crate) fn heartbeat(&self, key: &CursorKey, who: Committer<'_>) -> Result<(), Refusal> {
        let slot = self.of_member(key)?;
        self.step(&slot, |state, now| {
            (state.group.heartbeat(who.member_id, who.instance_id, who.generation, now), Outcome::default())
        })
        .unwrap_or(Err(Refusal::CoordinatorNotAvailable))
    }

    /// LeaveGroup of one member; resolves after the store that it led to.
    pub(crate) async fn leave(&self, key: &CursorKey, leaver: &Leaver) -> Result<(), Refusal> {
        let slot = self.of_member(key)?;
        let result = self.step(&slot, |state, now| state.group.leave(leaver, now));
        self.after_store(&slot, result).await
    }

    /// Puts a member out.
    pub(crate) async fn evict(&self, key: &CursorKey, member_id: &str) -> Result<(), Refusal> {
        let slot = self.of_member(key)?;
        let result = self.step(&slot, |state, now| state.group.evict(member_id, now));
        if result == Some(Ok(())) {
            info!(group = %key.name, member = member_id, "a member was evicted");
        }
        self.after_store(&slot, result).await
    }

    async fn after_store(&self, slot: &Slot, result: Option<Result<(), Refusal>>) -> Result<(), Refusal> {
        result.ok_or(Refusal::CoordinatorNotAvailable)??;
        let stored = slot.state.lock().stored;
        self.broker.durable(stored).await.map_err(|_| Refusal::CoordinatorNotAvailable)
    }

    /// Whether `who` may commit offsets. A group that is not there yet is made by the first simple consumer.
    pub(crate) fn check_commit(&self, key: &CursorKey, who: Committer<'_>) -> Result<(), Refusal> {
        match self.find(key) {
            Some(slot) => self
                .step(&slot, |state, now| (state.group.check_commit(who, now), Outcome::default()))
                .unwrap_or(Err(Refusal::CoordinatorNotAvailable)),
            // The group without a name has no members; simple consumers of old commit to it.
            None if who.generation < 0 => Ok(()),
            // A group that has offsets alone is there, and empty.
            None if self.broker.positions(key).is_some() => Err(Refusal::UnknownMember),
            None => Err(Refusal::NoSuchGroup),
        }
    }

    /// Deletes a group without members, with its offsets; durable once [`Broker::durable`] of the sequence resolves. `None` =
    /// there is no such group.
    ///
    /// Everything is staged under the group's lock, and before the group is struck off: one that is made anew under the
    /// name comes behind it.
    pub(crate) fn stage_delete(&self, key: &CursorKey) -> Result<Option<Seq>, DeleteRefusal> {
        let slot = self.find(key);
        let mut state = slot.as_ref().map(|slot| slot.state.lock());
        let has_offsets = self.broker.positions(key).is_some();
        match &state {
            None if !has_offsets => return Ok(None),
            Some(state) if state.group.phase() != Phase::Empty => return Err(DeleteRefusal::NotEmpty),
            _ => {}
        }
        let failed = DeleteRefusal::Failed;
        let offsets = match has_offsets {
            true => self.broker.stage_delete_cursor(key).map_err(failed)?,
            false => Seq(0),
        };
        let removed = self.broker.put_document(document_key(key), None).map_err(failed)?;
        if let Some(state) = &mut state {
            self.strike_off(key, state);
        }
        Ok(Some(removed.max(offsets)))
    }

    /// Forgets every group whatever its members do; the next that is heard of them is an unknown member's. Whoever waits
    /// for an answer is told that the coordinator is not there.
    pub(crate) async fn forget_groups(&self) -> model::Result<()> {
        let mut staged = Seq(0);
        for slot in self.slots() {
            let mut state = slot.state.lock();
            if state.gone {
                continue;
            }
            staged = staged.max(self.broker.put_document(document_key(&slot.key), None)?);
            self.strike_off(&slot.key, &mut state);
            state.waiting.clear();
        }
        self.broker.durable(staged).await
    }

    /// Takes a group, which is locked, out of the table.
    fn strike_off(&self, key: &CursorKey, state: &mut State) {
        state.gone = true;
        self.timers.arm(key, None);
        self.groups.lock().remove(key);
    }
}

/// Why a group was not deleted.
#[derive(Debug)]
pub(crate) enum DeleteRefusal {
    /// It has members.
    NotEmpty,
    /// The broker could not.
    Failed(model::Error),
}

impl Slot {
    fn new(key: CursorKey, group: Group) -> Self {
        let state = State { group, waiting: HashMap::new(), stored: Seq(0), unsaved: false, gone: false };
        Slot { key, state: Mutex::new(state) }
    }
}

fn document_key(key: &CursorKey) -> DocumentKey {
    let namespace: Namespace = key.namespace.clone();
    DocumentKey { dialect: DOCUMENTS.to_owned(), namespace, name: key.name.as_ref().to_owned() }
}

fn now(broker: &Broker) -> Now {
    let clock = &broker.env().clock;
    Now { mono_ms: clock.mono_ns() / 1_000_000, wall_ms: clock.wall_ms() }
}

fn send(ready: Ready) {
    for (sender, answer, stored) in ready {
        // Whoever asked may be gone; its session runs out then.
        drop(sender.send((answer, stored)));
    }
}

/// What is said instead of a success whose store failed.
fn unavailable(answer: Answer) -> Answer {
    match answer {
        Answer::Joined(Ok(joined)) => {
            Answer::Joined(Err((Refusal::CoordinatorNotAvailable, joined.member_id)))
        }
        Answer::Synced(Ok(_)) => Answer::Synced(Err(Refusal::CoordinatorNotAvailable)),
        refused => refused,
    }
}
