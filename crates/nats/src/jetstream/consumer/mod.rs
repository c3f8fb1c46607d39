//! Consumers: who gets which messages of a stream, and what became of them.
//!
//! | their word | our word |
//! |---|---|
//! | consumer | work cursor; a reader without state where nothing is acknowledged and nothing lasts |
//! | acknowledgement | settlement |
//! | ack wait, backoff | how long a lease lasts |
//! | max deliver | delivery limit |
//! | max ack pending | records that may be leased at one time |
//! | pull request | credit |
//!
//! [`Consumer`] is what the API, acknowledgements and pull requests see; its [`courier`] is the one task that takes
//! messages from the [`source`] and sends them. [`book`] has an account's consumers, those that last as documents.
//!
//! *Invariant:* only the courier delivers, so sequences ascend; a message goes out after it is durable.

pub(crate) mod ack;
pub(crate) mod book;
pub(crate) mod config;
mod courier;
mod dead;
mod flow;
mod groups;
pub(crate) mod make;
pub(crate) mod pull;
mod source;
pub(crate) mod view;

use std::{collections::VecDeque, sync::Arc};

use broker::{Broker, Partition, Watch, Work, WorkProgress, routing::Pattern};
use model::{Offset, StreamId};
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use self::{config::ConsumerConfig, flow::Flow, groups::Pin, pull::Pull};
use crate::core::hub::Hub;

/// One consumer.
pub(crate) struct Consumer {
    /// The name of its stream.
    pub stream: String,
    pub stream_id: StreamId,
    pub name: String,
    /// When it was made, milliseconds since the Unix epoch.
    pub created_ms: i64,
    pub partition: Arc<Partition>,
    broker: Broker,
    hub: Arc<Hub>,
    /// Its cursor, where it has one.
    pub work: Option<Work>,
    /// The offset at which it began.
    start: Offset,
    /// Whether it is there after a restart.
    lasts: bool,
    /// Told when the courier should look.
    pub signal: Arc<Notify>,
    /// Told when there may be messages.
    watch: Watch,
    state: Mutex<State>,
}

/// What changes.
struct State {
    config: Arc<ConsumerConfig>,
    patterns: Arc<[Pattern]>,
    /// Messages sent, deliveries again included.
    sent: u64,
    /// The offset after the last message sent.
    sent_end: Offset,
    /// From where on messages that are still to be sent are counted, and how many before that are to come as the last
    /// ones of their subjects.
    counted_from: Offset,
    firsts_left: u64,
    /// Those messages, ascending, as long as one of them is left.
    firsts: Vec<Offset>,
    last_sent_ms: Option<i64>,
    last_ack_ms: Option<i64>,
    /// When it was used last.
    used: Instant,
    requests: VecDeque<Pull>,
    flow: Flow,
    /// The client that gets everything, where one does.
    pin: Option<Pin>,
    /// Whether somebody listens where it delivers.
    is_bound: bool,
    is_deleted: bool,
    pending: Pending,
}

/// How many messages are still to be sent, as counted last.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    from: Offset,
    end: Offset,
    records: u64,
    count: u64,
}

/// Up to this distance from the end, messages are counted one by one.
const COUNTED_MAX: u64 = 1_024;

impl Consumer {
    pub(crate) fn config(&self) -> Arc<ConsumerConfig> {
        self.state.lock().config.clone()
    }

    /// Puts another configuration in force.
    pub(crate) fn set_config(&self, config: ConsumerConfig) {
        let mut state = self.state.lock();
        let (old, new) = (state.config.deliver_subject.clone(), config.deliver_subject.clone());
        state.patterns = config.patterns().into();
        state.config = Arc::new(config);
        state.pending = Pending::default();
        drop(state);
        if old != new {
            self.hub.ignore(old.as_bytes(), &self.signal);
            self.hub.observe(new.as_bytes(), &self.signal);
        }
        self.signal.notify_one();
    }

    /// Whether somebody listens where it delivers.
    pub(crate) fn is_bound(&self) -> bool {
        self.state.lock().is_bound
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.state.lock().is_deleted
    }

    /// Ends it; its courier says goodbye.
    pub(crate) fn end(&self) {
        self.state.lock().is_deleted = true;
        self.signal.notify_one();
    }

    /// How far it is.
    fn progress(&self) -> WorkProgress {
        let progress = self.work.as_ref().and_then(|work| work.progress().ok()).unwrap_or_default();
        // What was delivered as often as it may is waited for no more.
        WorkProgress { outstanding: progress.outstanding.saturating_sub(progress.parked), ..progress }
    }

    /// It was used just now.
    fn note_used(&self) {
        self.state.lock().used = Instant::now();
    }

    /// How many messages are still to be sent for the first time.
    fn pending(&self) -> u64 {
        let mut state = self.state.lock();
        state.pending(&self.partition)
    }
}

impl State {
    /// How many messages are still to be sent for the first time.
    fn pending(&mut self, partition: &Partition) -> u64 {
        let (from, end, records) = (self.counted_from, partition.staged_end(), partition.stats().records);
        let known = self.pending;
        if (known.from, known.end, known.records) != (from, end, records) {
            if self.firsts_left > 0 && records < known.records + end.since(known.end) {
                // Some are gone: those that were to come first may be among them.
                let sent_end = self.sent_end;
                self.firsts.retain(|first| *first >= sent_end && partition.has(*first));
                self.firsts_left = self.firsts.len() as u64;
            }
            let count = count_from(partition, &self.patterns, from, end);
            self.pending = Pending { from, end, records, count };
        }
        self.firsts_left + self.pending.count
    }

    /// A message was sent for the first time.
    fn note_sent(&mut self, offset: Offset) {
        self.sent_end = self.sent_end.max(offset.plus(1));
        if offset < self.counted_from {
            self.firsts_left = self.firsts_left.saturating_sub(1);
            if self.firsts_left == 0 {
                self.firsts = Vec::new();
            }
            return;
        }
        self.counted_from = offset.plus(1);
        self.pending.from = self.counted_from;
        self.pending.count = self.pending.count.saturating_sub(1);
    }

    /// Everything below `to` was looked at, and not all of it was for this consumer.
    fn pass(&mut self, to: Offset) {
        self.counted_from = self.counted_from.max(to);
    }
}

/// How many messages from `from` on are for these patterns.
fn count_from(partition: &Partition, patterns: &[Pattern], from: Offset, end: Offset) -> u64 {
    if from >= end {
        return 0;
    }
    if !patterns.is_empty() {
        return patterns.iter().map(|pattern| partition.count_under(pattern, from)).sum();
    }
    if from <= partition.bounds().start {
        return partition.stats().records;
    }
    if end.since(from) <= COUNTED_MAX {
        return (from.0..end.0).filter(|offset| partition.has(Offset(*offset))).count() as u64;
    }
    match crate::core::subject::pattern(b">") {
        Some(all) => partition.count_under(&all, from),
        None => 0,
    }
}

/// A span of time as the original writes it.
pub(crate) fn duration_text(ns: i64) -> String {
    let ms = ns / 1_000_000;
    if ms % 1_000 != 0 || ms == 0 {
        return format!("{ms}ms");
    }
    let all = ms / 1_000;
    let (hours, minutes, seconds) = (all / 3_600, all / 60 % 60, all % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, minutes) => format!("{minutes}m{seconds}s"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
    }
}
