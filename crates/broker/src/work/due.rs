//! The worker that does what time brings: ends leases and delays, and moves records that were delivered too often, are
//! past their time to live, or are the oldest of a full queue with a dead-letter target.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

use cursor::{Deadlines, Order};
use env::{Next, Signal, Worker};
use model::{LogId, Offset, Result};
use parking_lot::Mutex;
use store::{LogCore, Upto};

use super::{
    Spans, Work,
    moving::{MOVED_MAX, Why, first_of, split},
    window::{Heads, Need, Window},
};
use crate::{
    broker::{Broker, Inner},
    faults::Fault,
    log_state::LogState,
    settings::{Mode, Overflow},
    stream::Partition,
    watch::Watch,
};

/// Bytes read from the head of a queue at a time.
const HEAD_READ_LEN: usize = 256 << 10;

/// How long the worker leaves a partition alone after a failure there, milliseconds.
const RETRY_MS: i64 = 1_000;

/// When a head is looked at again behind which records were staged that could not be seen yet, milliseconds.
const UNSEEN_MS: i64 = 20;

/// Which logs want to be looked at, and when.
#[derive(Default)]
pub(crate) struct DueHandle {
    list: Arc<List>,
    stop: Arc<AtomicBool>,
    /// Logs of whose excess too little could be seen yet.
    unseen: Mutex<HashMap<LogId, Watch>>,
    /// Publishers that wait for memory.
    throttled: Mutex<Vec<Waker>>,
}

/// How long publishers that wait for memory wait before they try again, nanoseconds: nothing tells when consumers have
/// made room, and a full memory is no moment to hurry.
const MEMORY_RETRY_NS: u64 = 50_000_000;

#[derive(Default)]
struct List {
    signal: Signal,
    deadlines: Mutex<Deadlines<LogId>>,
}

impl List {
    fn set(&self, log: LogId, due_ms: Option<i64>) {
        let mut deadlines = self.deadlines.lock();
        let first = deadlines.next_ms();
        deadlines.set(log, due_ms);
        let is_earlier = deadlines.next_ms() < first || first.is_none();
        drop(deadlines);
        if is_earlier && due_ms.is_some() {
            self.signal.raise();
        }
    }
}

/// Has a log looked at as soon as more of it can be seen.
struct Seen {
    list: Arc<List>,
    log: LogId,
}

impl Wake for Seen {
    fn wake(self: Arc<Self>) {
        self.list.set(self.log, Some(0));
    }
}

impl DueHandle {
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.list.signal.raise();
    }

    /// Has the worker look at its deadlines again: the wall clock may have jumped.
    pub(crate) fn look(&self) {
        self.list.signal.raise();
    }

    /// Wakes `waker` in a short while.
    pub(crate) fn wake_on_memory(&self, waker: &Waker) {
        self.throttled.lock().push(waker.clone());
        self.list.signal.raise();
    }

    fn set(&self, log: LogId, due_ms: Option<i64>) {
        self.list.set(log, due_ms);
    }

    /// Has a partition looked at when more of it can be seen than up to `from`.
    fn look_when_seen(&self, partition: &Partition, from: Offset) {
        let log = partition.log_id();
        let watch = Watch::waking(Waker::from(Arc::new(Seen { list: self.list.clone(), log })));
        partition.log().with(|core, state| state.watchers.arm(core, from, &watch));
        self.unseen.lock().insert(log, watch);
    }

    /// Whether more of a log can be seen than when that was asked for last.
    fn was_seen(&self, log: LogId) -> bool {
        let mut unseen = self.unseen.lock();
        let was_seen = unseen.get(&log).is_some_and(Watch::take);
        if was_seen {
            unseen.remove(&log);
        }
        was_seen
    }
}

/// Starts the worker of `broker`. It ends with the broker's last handle.
pub(crate) fn start(broker: &Broker) {
    let handle = &broker.inner.due;
    let worker =
        Due { broker: Arc::downgrade(&broker.inner), stop: handle.stop.clone(), memory_retry_ns: None };
    broker.env().spawn.worker("wm-due", handle.list.signal.clone(), Box::new(worker));
}

struct Due {
    broker: Weak<Inner>,
    stop: Arc<AtomicBool>,
    /// When publishers that wait for memory are woken; `None` = none waits.
    memory_retry_ns: Option<u64>,
}

impl Due {
    /// Wakes publishers that waited for memory long enough, and says when the next ones are.
    fn serve_throttled(&mut self, handle: &DueHandle, now_ns: u64) -> Option<u64> {
        let mut throttled = handle.throttled.lock();
        if throttled.is_empty() {
            self.memory_retry_ns = None;
        } else if *self.memory_retry_ns.get_or_insert(now_ns.saturating_add(MEMORY_RETRY_NS)) <= now_ns {
            throttled.drain(..).for_each(Waker::wake);
            self.memory_retry_ns = None;
        }
        self.memory_retry_ns
    }
}

impl Worker for Due {
    fn step(&mut self) -> Next {
        if self.stop.load(Ordering::Acquire) {
            return Next::Done;
        }
        let Some(inner) = self.broker.upgrade() else { return Next::Done };
        let broker = Broker { inner };
        let clock = &broker.env().clock;
        let now_ms = clock.wall_ms();
        let (due, next_ms) = {
            let mut deadlines = broker.inner.due.list.deadlines.lock();
            (deadlines.pop_due(now_ms), deadlines.next_ms())
        };
        if let Some(log) = due {
            broker.serve_due(log, now_ms);
            return Next::Again;
        }
        let now_ns = clock.mono_ns();
        let due_ns = next_ms.map(|next_ms| {
            let wait_ms = u64::try_from(next_ms.saturating_sub(now_ms)).unwrap_or(0);
            now_ns.saturating_add(wait_ms.saturating_mul(1_000_000))
        });
        let retry_ns = self.serve_throttled(&broker.inner.due, now_ns);
        due_ns.into_iter().chain(retry_ns).min().map_or(Next::Park, Next::ParkUntil)
    }
}

/// When a log wants to be looked at.
fn due_of(core: &LogCore, state: &mut LogState) -> Option<i64> {
    if core.is_deleted() {
        return None;
    }
    let of_works = state.works.as_mut().and_then(|works| works.next_due_ms());
    // What waits for the end of time is never due.
    of_works.into_iter().chain(state.own_due_ms()).min().filter(|due_ms| *due_ms < i64::MAX)
}

impl Broker {
    /// Notes when the partition wants to be looked at, if that changed.
    pub(crate) fn schedule(&self, partition: &Partition) {
        let changed = partition.log().with(|core, state| {
            let due_ms = due_of(core, state);
            let is_new = state.scheduled_ms != due_ms;
            state.scheduled_ms = due_ms;
            is_new.then_some(due_ms)
        });
        if let Some(due_ms) = changed {
            self.inner.due.set(partition.log_id(), due_ms);
        }
    }

    /// Has what time brings looked at on a partition that was just found, or whose settings changed: nothing is known then
    /// of when its records expire.
    pub(crate) fn look_at_head(&self, partition: &Partition) {
        let now_ms = self.env().clock.wall_ms();
        let is_watched = partition.log().with(|core, state| {
            if core.records() > 0 {
                state.came_back(now_ms);
            }
            state.watches_head() || state.works.is_some()
        });
        if is_watched {
            self.schedule(partition);
        }
    }

    /// Has deadlines looked at again at once, after the wall clock was set.
    pub fn clock_was_set(&self) {
        self.inner.due.look();
        self.inner.retention.look();
    }

    fn serve_due(&self, log: LogId, now_ms: i64) {
        let was_seen = self.inner.due.was_seen(log);
        let Some(partition) = self.partition_of(log) else { return };
        partition.log().with(|_, state| {
            state.scheduled_ms = None;
            if was_seen {
                state.head_due_ms = Some(now_ms);
            }
        });
        if let Err(error) = self.serve_partition(&partition, now_ms) {
            tracing::warn!(log = log.0, %error, "what is due on a partition could not be done");
            partition.log().with(|_, state| {
                state.head_due_ms = state.head_due_ms.map(|due| due.max(now_ms + RETRY_MS));
                state.scheduled_ms = Some(now_ms + RETRY_MS);
            });
            return self.inner.due.set(log, Some(now_ms + RETRY_MS));
        }
        self.schedule(&partition);
    }

    fn serve_partition(&self, partition: &Arc<Partition>, now_ms: i64) -> Result<()> {
        let (due, head_is_due) = partition.log().with(|core, state| {
            let due = state.works.as_mut().map(|works| works.due(now_ms)).unwrap_or_default();
            for name in &due {
                let Some(work) = state.followed(name, core) else { continue };
                if work.held_until_ms.is_some_and(|due_ms| due_ms <= now_ms) {
                    work.held_until_ms = None;
                }
                work.tell_next();
                state.end_due(name, now_ms);
            }
            (due, state.head_due_ms.is_some_and(|due_ms| due_ms <= now_ms))
        });
        self.drop_expired(partition, now_ms)?;
        if head_is_due {
            self.queue_work(partition)?;
            self.serve_head(partition, now_ms)?;
        }
        for name in due {
            if let Some(work) = self.work(partition, &name) {
                work.move_exhausted()?;
            }
        }
        Ok(())
    }

    /// Takes away what is too old or too much at the head of a queue.
    fn serve_head(&self, partition: &Arc<Partition>, now_ms: i64) -> Result<()> {
        let Some(work) = self.work(partition, super::QUEUE_WORK) else { return Ok(()) };
        let settings = partition.log().with(|_, state| state.settings.clone().unwrap_or_default());
        // What is staged has told when it expires, cannot be seen yet, and is not to be forgotten.
        let (seen, is_unseen) = partition.log().with(|core, state| {
            state.head_due_ms = None;
            (core.stable_end(), core.stable_end() < core.end())
        });
        let unseen = is_unseen.then(|| now_ms.saturating_add(UNSEEN_MS));
        let (excess, promised) =
            partition.log().with(|core, state| (excess(core, state, &settings), state.promised()));
        // What somebody has may be much, and is judged when it comes back: the head begins behind it.
        let head = work.with(|core, work| {
            let waits = work.cursor.unleased_below(core.durable_end(), 1);
            first_of(&waits).unwrap_or(work.cursor.floor())
        })?;
        let oldest = work.with(|core, work| match excess.min(MOVED_MAX) {
            0 => Spans::new(),
            excess => {
                let limit = promised.saturating_add(excess);
                work.cursor.unleased_below(core.durable_end(), limit).after(promised)
            }
        })?;
        if is_unseen && oldest.count() < excess.min(MOVED_MAX) {
            self.inner.due.look_when_seen(partition, seen);
        }
        work.move_blocking(&oldest, Why::Excess)?;
        let (any_expired, more) = work.expire_head(head, settings.ttl_ms, now_ms)?;
        // What somebody has cannot be taken: it comes back, or is settled.
        let still_over = !oldest.is_empty()
            && partition.log().with(|core, state| self::excess(core, state, &settings)) > 0;
        let next = if still_over || any_expired { Some(now_ms) } else { more };
        let due = next.into_iter().chain(unseen);
        partition.log().with(|_, state| state.head_due_ms = state.head_due_ms.into_iter().chain(due).min());
        Ok(())
    }

    /// The partition of a log, if its stream is there.
    pub(crate) fn partition_of(&self, log: LogId) -> Option<Arc<Partition>> {
        self.store().log(log)?.with(|_, state| state.partition.upgrade())
    }
}

/// Records above the length of a queue that sends its oldest to the dead letters, or to which some came back that did not
/// count.
fn excess(core: &LogCore, state: &LogState, settings: &crate::StreamSettings) -> u64 {
    if settings.mode != Mode::Queue
        || settings.overflow != Overflow::DropOldest
        || !(settings.has_dead_letters() || settings.limits_ready)
    {
        return 0;
    }
    crate::broker::excess_records(core, state, settings)
}

impl Work {
    /// Takes away what has expired of the first records from `head` on that nobody has, up to one that has not. Whether there
    /// were any, and when the next of them expires.
    fn expire_head(&self, head: Offset, ttl_ms: Option<u64>, now_ms: i64) -> Result<(bool, Option<i64>)> {
        let faults = self.broker.options().faults;
        let judged_ms = if faults.has(Fault::ExpiredEarly) { now_ms + 1_000 } else { now_ms };
        let (mut any, mut more) = (false, None);
        let (mut from, mut left, mut heads) = (head, HEAD_READ_LEN, Heads::default());
        // A read ends where a file does, and what it has may all be gone.
        while left > 0 {
            let window = self.read_blocking(from, left)?;
            let (expired, is_over) = self.with(|_, work| {
                let expired = window.expired(work, from, &mut heads, (ttl_ms, judged_ms));
                (expired, heads.are_all_found(work.spec().order == Order::Priority))
            })?;
            if !expired.is_empty() && !faults.has(Fault::ExpiredStays) {
                any = true;
                // What did not fit comes first the next time.
                if !self.carry_some(&expired, &window, Why::Expired)?.left.is_empty() {
                    break;
                }
            }
            more = more.into_iter().chain(window.next_expiry(ttl_ms, now_ms)).min();
            if is_over || window.next() <= from {
                break;
            }
            (from, left) = (window.next(), left.saturating_sub(window.len()));
        }
        Ok((any, more))
    }

    /// Moves what was delivered as often as allowed.
    fn move_exhausted(&self) -> Result<()> {
        loop {
            let exhausted = self.with(|_, work| work.cursor.exhausted(MOVED_MAX))?;
            if exhausted.is_empty() {
                return Ok(());
            }
            self.move_blocking(&exhausted, Why::Exhausted)?;
        }
    }

    /// Moves `spans`, reading them where that may block.
    fn move_blocking(&self, spans: &Spans, why: Why) -> Result<()> {
        let mut rest = spans.clone();
        while let Some(first) = first_of(&rest) {
            let window = self.read_blocking(first, HEAD_READ_LEN)?;
            let (now, later) = split(&rest, &window);
            if now.is_empty() {
                return Ok(());
            }
            let left = self.carry_some(&now, &window, why)?.left;
            rest = left.iter().chain(later.iter()).collect();
        }
        Ok(())
    }

    pub(super) fn read_blocking(&self, from: Offset, len: usize) -> Result<Window> {
        let limits = store::ReadLimits { bytes: len, ..store::ReadLimits::default() };
        let chunk = self.broker.store().read_blocking(self.partition.log(), from, limits, Upto::Stable)?;
        let ttl_ms = self.partition.log().with(|_, state| state.settings.as_ref().and_then(|set| set.ttl_ms));
        Window::new(&self.broker, from, chunk, Need::Stored, ttl_ms)
    }
}
