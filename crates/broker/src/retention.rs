//! Retention: a worker that looks at every stream from time to time and trims what its settings let go. A protected
//! cursor holds it back, up to its byte limit.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};

use env::{Next, Signal, Worker};
use model::{Offset, StreamKey};
use store::{Keep, LogCore, TimeOf};

use crate::{
    broker::{Broker, Inner},
    log_state::{LogState, positions::Positions},
    position::CursorKey,
    settings::{StreamSettings, TimeSource},
    stream::{Partition, Stream},
};

/// Streams looked at in one step: keeps a step short, and the catalog's lock free between steps.
const STREAMS_PER_STEP: usize = 64;

/// Tells the worker to stop, or to look now.
#[derive(Default)]
pub(crate) struct RetentionHandle {
    signal: Signal,
    stop: Arc<AtomicBool>,
}

impl RetentionHandle {
    /// Has the worker look at its clock again.
    pub(crate) fn look(&self) {
        self.signal.raise();
    }

    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.signal.raise();
    }
}

/// Starts the worker of `broker`. It ends with the broker's last handle.
pub(crate) fn start(broker: &Broker) {
    let handle = &broker.inner.retention;
    let worker = Retention {
        broker: Arc::downgrade(&broker.inner),
        stop: handle.stop.clone(),
        after: None,
        due_ns: next_round(broker),
    };
    broker.env().spawn.worker("wm-retention", handle.signal.clone(), Box::new(worker));
}

struct Retention {
    broker: Weak<Inner>,
    stop: Arc<AtomicBool>,
    /// The last stream looked at in this round; `None` between rounds.
    after: Option<StreamKey>,
    /// When the next round begins, on the monotonic clock.
    due_ns: u64,
}

fn next_round(broker: &Broker) -> u64 {
    broker
        .env()
        .clock
        .mono_ns()
        .saturating_add(broker.options().retention_interval_ms.saturating_mul(1_000_000))
}

impl Worker for Retention {
    fn step(&mut self) -> Next {
        if self.stop.load(Ordering::Acquire) {
            return Next::Done;
        }
        let Some(inner) = self.broker.upgrade() else { return Next::Done };
        let broker = Broker { inner };
        if self.after.is_none() && broker.env().clock.mono_ns() < self.due_ns {
            return Next::ParkUntil(self.due_ns);
        }
        let some = broker.streams_after(self.after.as_ref(), STREAMS_PER_STEP);
        some.iter().for_each(|stream| broker.retain(stream));
        self.after =
            if some.len() < STREAMS_PER_STEP { None } else { some.last().map(|stream| stream.key().clone()) };
        if self.after.is_some() {
            return Next::Again;
        }
        self.due_ns = next_round(&broker);
        Next::ParkUntil(self.due_ns)
    }
}

impl Broker {
    /// Up to `count` streams after `key`, by key.
    fn streams_after(&self, key: Option<&StreamKey>, count: usize) -> Vec<Arc<Stream>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let state = self.catalog().read();
        let from = key.map_or(Unbounded, Excluded);
        state.streams.from(from).take(count).cloned().collect()
    }

    /// Applies retention to a stream now.
    pub fn retain(&self, stream: &Stream) {
        let now_ms = self.env().clock.wall_ms();
        let producers_since_ms = now_ms.saturating_sub_unsigned(self.options().producer_expiry_ms);
        for partition in stream.partitions() {
            let (start, to) = partition.log().with(|core, state| {
                state.expire_producers(producers_since_ms);
                state.expire_dedup(now_ms);
                (core.start(), kept_from(core, state, stream.settings(), now_ms))
            });
            if to > start {
                self.inner.counters.retention_trims.add(1);
                if let Err(error) = self.expire_below(partition, to, now_ms) {
                    tracing::warn!(stream = %stream.key(), %error, "retention could not trim a partition");
                }
            }
            self.end_history(partition, stream.settings().history_ms, now_ms);
            self.expire_positions(stream, partition, now_ms);
        }
    }

    /// Drops settled records that were kept for long enough.
    fn end_history(&self, partition: &Arc<Partition>, history_ms: Option<u64>, now_ms: i64) {
        let due = partition.log().with(|_, state| {
            state.history.as_mut().map(|history| history.due(now_ms, history_ms)).unwrap_or_default()
        });
        if !due.is_empty()
            && let Err(error) = self.drop_records(partition, &due)
        {
            tracing::warn!(log = partition.log_id().0, %error, "a history could not be cut");
        }
    }

    fn expire_positions(&self, stream: &Stream, partition: &Arc<Partition>, now_ms: i64) {
        let lapsed = partition.log().with(|_, state| lapsed(state.positions.as_deref(), now_ms));
        if lapsed.is_empty() {
            return;
        }
        let memberships = self.memberships();
        let is_kept = |key: &CursorKey| memberships.iter().any(|all| all.keeps_position(key, stream.key()));
        for key in lapsed.into_iter().filter(|key| !is_kept(key)) {
            // Whoever committed meanwhile has moved the deadline: `expire` looks again.
            let expired = self
                .change_positions(&key, std::slice::from_ref(partition), 0, |held| Ok(held.expire(now_ms)));
            if let Err(error) = expired {
                tracing::warn!(cursor = %key.name, %error, "a position could not be expired");
            }
        }
    }
}

fn lapsed(positions: Option<&Positions>, now_ms: i64) -> Vec<Arc<CursorKey>> {
    let Some(positions) = positions else { return Vec::new() };
    let due = positions
        .by_cursor
        .iter()
        .filter(|(_, held)| held.cursor.expires_at_ms().is_some_and(|at| at <= now_ms));
    due.map(|(key, _)| key.clone()).collect()
}

/// From where on a log's records stay.
fn kept_from(core: &LogCore, state: &LogState, settings: &StreamSettings, now_ms: i64) -> Offset {
    let keep = Keep {
        since_ms: settings.retention.time_ms.map(|time_ms| now_ms.saturating_sub_unsigned(time_ms)),
        time: time_of(settings.time),
        bytes: settings.retention.bytes,
        records: settings.retention.records,
    };
    if (keep.since_ms, keep.bytes, keep.records) == (None, None, None) {
        return core.start();
    }
    let point = core.retention_point(keep);
    let protected = state.positions.iter().flat_map(|positions| positions.protected());
    protected.fold(point, |point, (offset, bytes_max)| {
        if offset >= point {
            return point;
        }
        // Held back to its position, but not for more bytes than it may hold.
        let by_bytes = Keep { since_ms: None, bytes: Some(bytes_max), records: None, ..keep };
        point.min(offset.max(core.retention_point(by_bytes)))
    })
}

pub(crate) fn time_of(source: TimeSource) -> TimeOf {
    match source {
        TimeSource::Producer => TimeOf::Event,
        TimeSource::Append => TimeOf::Append,
    }
}
