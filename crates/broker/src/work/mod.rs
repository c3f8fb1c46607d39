//! Working a partition off: leases, settlements, dead letters.
//!
//! A [`Work`] is a named ack cursor on one partition. A dialect leases records through it, delivers them, and settles
//! them; what is settled on a queue is dropped in the same unit. Recorded leases survive a restart, volatile ones come
//! back as delivered before.
//!
//! - [`leasing`] grants records, reading ahead where it must; [`telling`] says what an order has to know of them;
//! - [`settling`] takes the holders' word, and moves rejected records to the dead letters in one unit;
//! - [`moves`] takes the records of a queue elsewhere, as a task;
//! - [`due`] is the worker that ends leases and delays, and moves what was delivered too often or expired;
//! - [`works`] has the cursors of a log with what makes idle ones cost nothing, of which [`waits`] knows who waits;
//!   [`state`] is one of them; [`window`] the stretch of records that is being worked.

mod by_name;
pub(crate) mod due;
mod leasing;
pub(crate) mod moves;
pub(crate) mod moving;
mod oldest;
mod prepared;
mod progress;
mod settling;
pub(crate) mod state;
mod telling;
mod waits;
mod window;
pub(crate) mod works;

#[cfg(test)]
mod random_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use bytes::Bytes;
use model::{Batch, Error, Offset, PartitionIndex, Result, Seq};
use store::{Class, LockedLog};

pub use self::moves::{MOVE_RATE_MAX, MOVES_PER_SOURCE, MoveFilter, MoveId, MoveSpec, MoveState, MoveView};
pub use self::progress::WorkProgress;
pub(crate) use self::settling::{check_open, room_of, settle_one};
pub use cursor::{
    Allowance, Claim, Count, Counts, Credit, Exhaust, GrantRun, GroupId, HolderId, KeySharing, LeaseKind,
    Mask as LeaseMask, Order, RecordState, Settled, Sharing, Span, Spans, Stop, Subscription,
};

use self::state::{Drops, WorkState};
use crate::{
    broker::Broker,
    faults::Fault,
    log_state::LogState,
    settings::Mode,
    stream::{Partition, Stream, closed},
    watch::Watch,
};

/// The name of a queue's own work cursor.
pub const QUEUE_WORK: &str = "";

/// How a work cursor behaves. Fixed when it is opened first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkSpec {
    /// In which order records are offered.
    pub order: Order,
    /// Deliveries after which a record goes to the dead letters; `None` = any number.
    pub delivery_limit: Option<u32>,
    /// Records that may be leased at one time, over all holders; `None` = any number.
    pub leased_max: Option<u64>,
    /// The first offset; `None` = the start of the partition.
    pub start: Option<Offset>,
    /// Only records whose route key matches one of these: tokens with `*` and a final `>`. Empty = all.
    pub filter: Vec<String>,
    /// How its consumers share.
    pub sharing: Sharing,
}

/// A named ack cursor on one partition. Cheap to clone.
#[derive(Clone)]
pub struct Work {
    broker: Broker,
    partition: Arc<Partition>,
    name: Arc<str>,
}

/// A request for records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseAsk {
    /// For whom.
    pub holder: HolderId,
    /// How much; narrow it by the [`Credit`]s that the consumer shares.
    pub allowance: Allowance,
    /// Recorded, volatile, or settled at once.
    pub kind: LeaseKind,
    /// For how long.
    pub time: LeaseTime,
}

/// For how long records are leased.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LeaseTime {
    /// As the stream's settings say, which may be until settled.
    #[default]
    Setting,
    /// So many milliseconds.
    Ms(u64),
    /// Until settled, whatever the settings say.
    UntilSettled,
}

/// What a lease gave.
#[derive(Clone, Debug, Default)]
pub struct Leased {
    /// The records, in the order of delivery.
    pub deliveries: Vec<Delivery>,
    /// How many.
    pub records: u64,
    /// Their lengths together, bytes.
    pub bytes: u64,
    /// Pass this to [`Broker::durable`] where the answer has to follow the commit of the lease.
    pub wait: Seq,
    /// Whether there are no more because the cursor has as many leased as it may.
    pub is_full: bool,
}

/// Leased records of one batch.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The batch that they are in.
    pub batch: Batch,
    /// Which of its records, in the order of delivery.
    pub runs: Vec<GrantRun>,
}

impl Delivery {
    /// The delivered records as a mask over the batch.
    pub fn mask(&self) -> LeaseMask {
        self.spans().mask(self.batch.base, self.batch.count)
    }

    /// The delivered offsets.
    pub fn spans(&self) -> Spans {
        self.runs.iter().map(|run| run.span).collect()
    }
}

/// What is to become of leased records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Done.
    Accept,
    /// To be offered again.
    Release {
        /// After so long, milliseconds.
        delay_ms: u64,
        /// How the delivery counts.
        count: Count,
    },
    /// Not to be offered again: to the dead letters, if the stream has a target, and gone here.
    Reject,
    /// Held until this time.
    Extend {
        /// Milliseconds since the Unix epoch; `None` = until settled.
        deadline_ms: Option<i64>,
    },
    /// Handed to another holder.
    Transfer {
        /// To whom.
        holder: HolderId,
        /// Until when, milliseconds since the Unix epoch; `None` = until settled.
        deadline_ms: Option<i64>,
        /// How the delivery counts.
        count: Count,
    },
}

/// A holder's word on records.
#[derive(Clone)]
pub struct Settlement {
    /// Through which cursor they were leased.
    pub work: Work,
    /// Which.
    pub spans: Spans,
    /// In whose name.
    pub claim: Claim,
    /// What becomes of them.
    pub verdict: Verdict,
}

/// A lease as listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseView {
    /// Which records.
    pub span: Span,
    /// Who has them.
    pub holder: HolderId,
    /// Until when, milliseconds since the Unix epoch; `None` = until settled.
    pub deadline_ms: Option<i64>,
    /// Which delivery it is.
    pub attempt: u32,
    /// When it was delivered, milliseconds since the Unix epoch.
    pub delivered_at_ms: i64,
    /// When the records were delivered first, as far as known.
    pub first_delivery_ms: Option<i64>,
}

/// A work cursor as listed.
#[derive(Clone, Debug)]
pub struct WorkView {
    /// Its name.
    pub name: Arc<str>,
    /// How it behaves.
    pub spec: WorkSpec,
    /// How many records are in which state.
    pub counts: Counts,
    /// Everything below is settled.
    pub floor: Offset,
    /// The offset after its last delivery.
    pub delivered_end: Offset,
    /// Who consumes.
    pub consumers: Vec<Subscription>,
    /// What its state takes in memory, bytes, about; without the records that it has at hand.
    pub memory_len: usize,
    /// Entries of its state that leases and settlements looked at since the start.
    pub visited: u64,
}

/// What opening or closing a cursor takes in the queue beside its texts, bytes.
const OPEN_LEN: usize = 128;

impl Broker {
    /// Opens the cursor `name` on a partition, making it as `spec` says when it is not there. With one that is there
    /// and differs: [`model::ErrorKind::Exists`]. The sequence says when it is durable.
    pub fn open_work(&self, partition: &Arc<Partition>, name: &str, spec: WorkSpec) -> Result<(Work, Seq)> {
        let name: Arc<str> = name.into();
        let work = Work { broker: self.clone(), partition: partition.clone(), name: name.clone() };
        let len = OPEN_LEN + name.len() + spec.filter.iter().map(String::len).sum::<usize>();
        let permit = self.store().reserve(len, Class::Drain)?;
        let mut locked = self.store().lock(&[partition.log()]);
        let mut log = locked.log(partition.log_id())?;
        let (core, state) = log.parts();
        if core.is_deleted() {
            return Err(closed());
        }
        if let Some(known) = state.work(&name) {
            let is_same = *known.spec() == WorkSpec { start: known.spec().start, ..spec };
            let applied = core.applied();
            return if is_same {
                Ok((work, applied))
            } else {
                Err(Error::exists("a work cursor with other settings"))
            };
        }
        let drops = drops_of(state.settings.as_deref().map(|settings| settings.mode));
        let start = spec.start.unwrap_or(core.start()).max(core.start());
        let spec = WorkSpec { start: Some(start), ..spec };
        let mut made = WorkState::new(name, spec, drops)?;
        made.cursor.note_appended(core.stable_end());
        let note = made.open_note();
        state.works.get_or_insert_default().insert(Box::new(made), Some(core));
        log.note(note);
        Ok((work, self.store().commit(permit, locked)))
    }

    /// The work cursor of a queue, as the stream's settings say.
    pub fn queue_work(&self, partition: &Arc<Partition>) -> Result<(Work, Seq)> {
        if let Some(work) = self.work(partition, QUEUE_WORK) {
            return Ok((work, Seq(0)));
        }
        let limit = partition
            .log()
            .with(|_, state| state.settings.as_ref().and_then(|settings| settings.delivery_limit));
        self.open_work(partition, QUEUE_WORK, WorkSpec { delivery_limit: limit, ..WorkSpec::default() })
    }

    /// The work cursor of one partition of a queue, which may be made over a log.
    pub fn stream_work(&self, stream: &Stream, index: PartitionIndex) -> Result<(Work, Seq)> {
        let partition =
            stream.partition(index).ok_or_else(|| Error::not_found("there is no such partition"))?;
        let name = stream.work_name();
        if let Some(work) = self.work(partition, &name) {
            return Ok((work, Seq(0)));
        }
        let delivery_limit = stream.settings().delivery_limit;
        self.open_work(partition, &name, WorkSpec { delivery_limit, ..WorkSpec::default() })
    }

    /// The work cursor of one partition of a queue, if anybody has worked it yet.
    pub fn queue_work_there(&self, queue: &Stream, index: PartitionIndex) -> Option<Work> {
        self.work(queue.partition(index)?, &queue.work_name())
    }

    /// How many records of a queue are in which state, over its partitions.
    pub fn queue_counts(&self, queue: &Stream) -> Counts {
        let mut all = Counts::default();
        for partition in queue.partitions() {
            let counts = self.queue_work_there(queue, partition.index()).and_then(|work| work.counts().ok());
            // What nobody has worked yet is ready, all of it.
            let counts =
                counts.unwrap_or_else(|| Counts { ready: partition.stats().records, ..Counts::default() });
            all.ready += counts.ready;
            all.leased += counts.leased;
            all.delayed += counts.delayed;
            all.exhausted += counts.exhausted;
        }
        all
    }

    /// Settles everything of a queue that nobody holds; of a queue over a log, the log keeps it. Answers after the commit
    /// with how many records there were.
    pub async fn purge_queue(&self, queue: &Stream) -> Result<u64> {
        let mut settlements = Vec::new();
        for partition in queue.partitions() {
            let (work, _) = self.stream_work(queue, partition.index())?;
            let span = work.with(|_, work| Span::new(work.cursor.floor(), work.cursor.end()))?;
            let spans = [span].into_iter().filter(|span| !span.is_empty()).collect();
            settlements.push(Settlement { work, spans, claim: Claim::Nobody, verdict: Verdict::Accept });
        }
        let (settled, wait) = self.settle(settlements).await?;
        self.durable(wait).await?;
        Ok(settled.iter().map(|one| one.done.count()).sum())
    }

    /// The stream that a log is a partition of, if it is there.
    pub fn stream_of_log(&self, log: model::LogId) -> Option<Arc<Stream>> {
        self.stream_by_id(self.partition_of(log)?.stream_id())
    }

    /// The cursor `name` on a partition, if it is there.
    pub fn work(&self, partition: &Arc<Partition>, name: &str) -> Option<Work> {
        let is_there = partition.log().with(|_, state| state.work(name).is_some());
        is_there.then(|| Work { broker: self.clone(), partition: partition.clone(), name: name.into() })
    }

    /// The work cursors of a partition, by name.
    pub fn works(&self, partition: &Partition) -> Vec<WorkView> {
        partition.log().with(|core, state| {
            let works = state.works.iter_mut().flat_map(|works| works.all_followed(core));
            works.map(|work| work.view()).collect()
        })
    }

    /// A holder id that no other session of this data directory has, with all but certainty.
    pub fn new_holder_id(&self) -> HolderId {
        HolderId(self.env().random.u64() >> 1)
    }
}

/// When settled records leave a log of this mode.
pub(crate) fn drops_of(mode: Option<Mode>) -> Drops {
    match mode {
        None | Some(Mode::Log) => Drops::Never,
        Some(Mode::Queue) => Drops::Settled,
        Some(Mode::Interest) => Drops::SettledByAll,
    }
}

impl Work {
    /// The partition that it works.
    pub fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Looks at the state; [`model::ErrorKind::Closed`] once stream or cursor are deleted.
    fn with<R>(&self, look: impl FnOnce(&store::LogCore, &mut WorkState) -> R) -> Result<R> {
        self.partition.log().with(|core, state| {
            if core.is_deleted() {
                return Err(closed());
            }
            let work = state.followed(&self.name, core).ok_or_else(gone)?;
            Ok(look(core, work))
        })
    }

    /// After a start that found the broker had not been closed in order ([`Broker::was_closed_in_order`]): what is there may
    /// have been delivered under volatile leases that nothing tells of, and is delivered as something that was. Costs
    /// nothing, whatever waits; how often a record was delivered stays what is known.
    pub fn doubt(&self) -> Result<()> {
        self.with(|_, work| work.cursor.doubt())
    }

    /// Deletes the cursor; whoever waits on it is told. The sequence says when that is durable.
    pub fn close(&self) -> Result<Seq> {
        let store = self.broker.store();
        let permit = store.reserve(OPEN_LEN + self.name.len(), Class::Drain)?;
        let mut locked = store.lock(&[self.partition.log()]);
        let mut log = locked.log(self.partition.log_id())?;
        let held = log.attached().work(&self.name).ok_or_else(gone)?;
        let (drops, floor) = (held.drops, held.cursor.floor());
        close_work(&mut log, &self.name);
        let end = log.core().end();
        settling::reap_interest(&mut log);
        let closed = store.commit(permit, locked);
        match drops {
            // What it alone was to settle is nobody's now.
            Drops::SettledByAll => {
                Ok(closed.max(self.broker.drop_unwanted(&self.partition, Span::new(floor, end))?))
            }
            Drops::Never | Drops::Settled => Ok(closed),
        }
    }

    /// Sets the cursor to `to`: everything below counts as settled, everything from there on as never delivered.
    pub fn seek(&self, to: Offset) -> Result<Seq> {
        let store = self.broker.store();
        let permit = store.reserve(OPEN_LEN + self.name.len(), Class::Drain)?;
        let mut locked = store.lock(&[self.partition.log()]);
        let mut log = locked.log(self.partition.log_id())?;
        let (core, state) = log.parts();
        let mut changes = state::changes();
        let to = to.max(core.start());
        if !state.works.as_mut().is_some_and(|works| works.seek(&self.name, to, core, &mut changes)) {
            return Err(gone());
        }
        if let Some(entry) = changes.into_entry()
            && !self.broker.options().faults.has(Fault::SeekNotLogged)
        {
            log.note(state::change_note(&self.name, &entry));
        }
        Ok(store.commit(permit, locked))
    }

    /// Takes everything off the queue that is durable now, whoever has it and whatever it waits for, and forgets its dedup
    /// keys; of a queue over a log, whose records stay, it is all settled. Wait for the sequence.
    pub fn purge(&self) -> Result<Seq> {
        let end = self.partition.bounds().durable_end;
        if self.with(|_, work| work.drops)? != state::Drops::Settled {
            return self.seek(end);
        }
        let (_, trimmed) = self.broker.stage_trim(&self.partition, end)?;
        let store = self.broker.store();
        let permit = store.reserve(1, Class::Drain)?;
        let mut locked = store.lock(&[self.partition.log()]);
        let mut log = locked.log(self.partition.log_id())?;
        if log.attached().dedup.take().is_some() {
            log.note(Bytes::from_static(&[crate::log_state::NOTE_FORGET_DEDUP]));
        }
        Ok(store.commit(permit, locked).max(trimmed))
    }

    /// What the cursor thinks of the record at `offset`. Browsing is this beside [`Broker::read`]: it takes no lease.
    pub fn state(&self, offset: Offset) -> Result<RecordState> {
        self.with_now(|work| work.cursor.state(offset))
    }

    /// Everything below is settled.
    pub fn floor(&self) -> Result<Offset> {
        self.with(|_, work| work.cursor.floor())
    }

    /// How many records are in which state.
    pub fn counts(&self) -> Result<Counts> {
        self.with_now(|work| work.cursor.counts())
    }

    /// [`Work::with`], after leases and delays have ended whose time has come.
    fn with_now<R>(&self, look: impl FnOnce(&WorkState) -> R) -> Result<R> {
        let now_ms = self.broker.env().clock.wall_ms();
        self.partition.log().with(|_, state| state.end_due(&self.name, now_ms));
        let found = self.with(|_, work| {
            // What became readable meanwhile.
            work.cursor.expire(now_ms);
            look(work)
        });
        self.broker.schedule(&self.partition);
        found
    }

    /// [`Work::counts`], with what was never delivered waiting from `offset` on and nothing else: for a uniform delay, where
    /// the caller has looked up by time what it holds back.
    pub fn counts_held_from(&self, offset: Offset) -> Result<Counts> {
        self.with_now(|work| work.cursor.counts_held_from(offset))
    }

    /// Up to `count` leases from `from` on, by offset.
    pub fn leases(&self, from: Offset, count: usize) -> Result<Vec<LeaseView>> {
        self.with(|_, work| {
            let leases = work.cursor.leases_within(Span::new(from, work.cursor.end()));
            let view = |(span, lease): (Span, &cursor::Lease)| LeaseView {
                span,
                holder: lease.holder,
                deadline_ms: lease.deadline_ms,
                attempt: lease.attempt,
                delivered_at_ms: lease.delivered_at_ms,
                first_delivery_ms: lease.first_delivery_ms,
            };
            leases.take(count).map(view).collect()
        })
    }

    /// Releases everything that `holder` has, for a session that is gone. Wait for the sequence where it matters.
    pub fn release_all(&self, holder: HolderId, count: Count) -> Result<(Settled, Seq)> {
        let held = self.with(|_, work| {
            let leases = work.cursor.leases().filter(|(_, lease)| lease.holder == holder);
            leases.map(|(span, _)| span).collect::<Spans>()
        })?;
        let verdict = Verdict::Release { delay_ms: 0, count };
        let settlement =
            Settlement { work: self.clone(), spans: held, claim: Claim::Holder(holder), verdict };
        let (mut settled, wait) = self.broker.settle_in_place(&[&settlement])?;
        Ok((settled.pop().unwrap_or_default(), wait))
    }

    /// Changes how often records are delivered and how many may be leased. In force until the broker stops; whoever
    /// opened the cursor says it again.
    pub fn set_limits(&self, delivery_limit: Option<u32>, leased_max: Option<u64>) -> Result<()> {
        self.with(|_, work| {
            work.cursor.set_limits(delivery_limit, leased_max);
            work.tell_next();
        })?;
        self.broker.schedule(&self.partition);
        Ok(())
    }

    /// Makes `subscription` one of the consumers. One that is joins anew, as the last.
    pub fn join(&self, subscription: Subscription) -> Result<()> {
        self.with(|_, work| work.join(subscription))
    }

    /// Changes how many records a consumer may have.
    pub fn set_prefetch(&self, holder: HolderId, prefetch: Option<u32>) -> Result<()> {
        self.with(|_, work| work.subscriptions.set_prefetch(holder, prefetch))?;
        self.took_less();
        Ok(())
    }

    /// Takes a consumer out. Its leases stay: release them, or let them run out.
    pub fn leave(&self, holder: HolderId) -> Result<()> {
        self.with(|_, work| work.leave(holder))?;
        self.took_less();
        Ok(())
    }

    fn took_less(&self) {
        let now_ms = self.broker.env().clock.wall_ms();
        self.partition.log().with(|_, state| state.took_less(now_ms));
        self.broker.schedule(&self.partition);
    }

    /// Whether `holder` does it all although a consumer of a higher priority has come.
    pub fn is_outranked(&self, holder: HolderId) -> Result<bool> {
        self.with(|_, work| work.subscriptions.is_outranked(holder))
    }

    /// How long ago somebody asked for records last, milliseconds; `None` = not since the start.
    pub fn asked_ago_ms(&self) -> Result<Option<u64>> {
        let now_ms = self.broker.env().clock.wall_ms();
        let asked_ms = self.with(|_, work| work.asked_ms)?;
        let ago_ms = u64::try_from(now_ms.saturating_sub(asked_ms)).unwrap_or(0);
        Ok((asked_ms > i64::MIN).then_some(ago_ms))
    }

    /// Among how many `holder` shares what there is: itself and those that are served no later than it.
    pub fn sharers(&self, holder: HolderId) -> Result<u32> {
        self.with(|_, work| work.subscriptions.sharers(holder))
    }

    /// `holder` cannot take records now: it is not told, and if it has been, the turn is somebody else's.
    pub fn pass(&self, holder: HolderId) -> Result<()> {
        self.with(|_, work| work.pass(holder))
    }

    /// Arms `watch` for `holder`, who can take records now: it is told once when it is its turn and there may be
    /// something for it, at once when that is so already, and when stream or cursor are deleted. One that was told keeps
    /// those of lower priorities waiting until it waits again, [passes](Work::pass) or leaves. A holder that has not
    /// joined joins.
    pub fn wait(&self, holder: HolderId, watch: &Watch) {
        let waits = self.partition.log().with(|core, state| {
            let works = state.works.as_mut().filter(|_| !core.is_deleted());
            works.is_some_and(|works| works.wait(&self.name, core, holder, watch))
        });
        if !waits {
            watch.tell();
        }
    }
}

/// Takes a cursor off its log and tells who waits on it. Whether it was there.
pub(crate) fn close_work(log: &mut LockedLog<'_, LogState>, name: &str) -> bool {
    let Some(mut work) = log.attached().works.as_mut().and_then(|works| works.remove(name)) else {
        return false;
    };
    work.tell_all();
    log.note(state::close_note(name));
    true
}

pub(crate) fn gone() -> Error {
    Error::closed("the work cursor was deleted")
}
