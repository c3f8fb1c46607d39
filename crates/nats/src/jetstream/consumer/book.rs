//! The consumers of an account. Those that last are documents beside their cursors; the others are gone after a restart.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, OnceLock, Weak},
};

use broker::{Broker, DocumentKey, LeaseKind, Partition, Stream, Watch, Work};
use bytes::Bytes;
use model::{LogId, Namespace, Offset, PartitionIndex, Result, Seq, StreamId};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::{sync::Notify, time::Instant};

use super::{
    Consumer, Pending, State,
    config::{AckPolicy, ConsumerConfig},
    courier::Courier,
    flow::Flow,
    source::{Reader, Source},
};
use crate::{
    core::{fanout::Fanout, hub::Hub},
    jetstream::{
        account::{Account, Bound},
        advisory::Done,
        config::StreamConfig,
        foreign,
    },
};

/// Whose documents they are.
const DIALECT: &str = "nats.consumer";

/// How the names of their cursors begin.
const WORK_PREFIX: &str = "consumer-";

/// An account's consumers, by the log that they read and by name.
pub(crate) struct Book {
    broker: Broker,
    namespace: Namespace,
    hub: Arc<Hub>,
    pending_len_max: usize,
    by_stream: RwLock<HashMap<LogId, BTreeMap<String, Arc<Consumer>>>>,
    /// Whose consumers they are.
    account: OnceLock<Weak<Account>>,
}

/// What is kept of a consumer that lasts.
#[derive(Serialize, Deserialize)]
struct Kept {
    config: ConsumerConfig,
    created_ms: i64,
    /// The offset at which it began.
    start: u64,
    /// The name of its cursor.
    work: String,
}

/// What a consumer is made of.
pub(super) struct Parts {
    pub config: ConsumerConfig,
    pub created_ms: i64,
    pub start: Offset,
    pub work: Option<Work>,
    pub firsts: Vec<Offset>,
    pub lasts: bool,
}

impl Book {
    pub(crate) fn new(broker: Broker, namespace: Namespace, hub: Arc<Hub>, pending_len_max: usize) -> Self {
        Book {
            broker,
            namespace,
            hub,
            pending_len_max,
            by_stream: RwLock::default(),
            account: OnceLock::new(),
        }
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.broker
    }

    pub(crate) fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub(crate) fn pending_len_max(&self) -> usize {
        self.pending_len_max
    }

    /// The account.
    pub(super) fn account(&self) -> Option<Arc<Account>> {
        self.account.get()?.upgrade()
    }

    /// Takes up the consumers that were there before a restart, and lets go of the cursors of those that are not.
    pub(crate) fn load(self: &Arc<Self>, account: &Arc<Account>) {
        // Set once: an account loads its consumers when it is made.
        let _is_first = self.account.set(Arc::downgrade(account));
        let mut known: HashSet<(LogId, String)> = HashSet::new();
        for (key, body) in self.broker.documents(DIALECT) {
            if key.namespace != self.namespace {
                continue;
            }
            match self.take_up(&key, &body) {
                Some((log, work)) => {
                    known.insert((log, work));
                }
                None => {
                    tracing::info!(consumer = key.name, "a consumer whose stream is gone is forgotten");
                    self.log(self.broker.put_document(key, None));
                }
            }
        }
        for stream in self.broker.streams(&self.namespace, Some(model::Kind::Log)) {
            for partition in stream.partitions() {
                self.close_strangers(partition, &known);
            }
        }
    }

    /// Lets go of the cursors of consumers that are not there.
    fn close_strangers(&self, partition: &Arc<Partition>, known: &HashSet<(LogId, String)>) {
        for view in self.broker.works(partition) {
            let is_known = || known.contains(&(partition.log_id(), view.name.to_string()));
            if view.name.starts_with(WORK_PREFIX)
                && !is_known()
                && let Some(work) = self.broker.work(partition, &view.name)
            {
                self.log(work.close());
            }
        }
    }

    fn take_up(self: &Arc<Self>, key: &DocumentKey, body: &[u8]) -> Option<(LogId, String)> {
        let (place, _) = key.name.split_once('/')?;
        let (id, index) = place.split_once('.').unwrap_or((place, "0"));
        let id = StreamId(u128::from_str_radix(id, 16).ok()?);
        let kept: Kept = serde_json::from_slice(body).ok()?;
        let stream = self.broker.stream_by_id(id)?;
        let partition = stream.partition(PartitionIndex(index.parse().ok()?))?;
        let work = self.broker.work(partition, &kept.work)?;
        let parts = Parts {
            config: kept.config,
            created_ms: kept.created_ms,
            start: Offset(kept.start),
            work: Some(work),
            firsts: Vec::new(),
            lasts: true,
        };
        let shown = match StreamConfig::of(stream.settings()) {
            Some(_) => stream.key().name.to_string(),
            None => foreign::shown_partition(&stream, partition.index()),
        };
        let consumer = self.enter(&stream, partition, shown, parts);
        self.start(&consumer, Vec::new());
        Some((partition.log_id(), kept.work))
    }

    fn log(&self, done: Result<Seq>) {
        if let Err(error) = done {
            tracing::warn!(%error, "what is left of a consumer could not be removed");
        }
    }

    /// The name of a new cursor.
    pub(super) fn work_name(&self, consumer: &str) -> String {
        format!("{WORK_PREFIX}{:016x}-{consumer}", self.broker.env().random.u64())
    }

    /// The consumer of that name.
    pub(crate) fn find(&self, stream: &Bound, name: &str) -> Option<Arc<Consumer>> {
        self.by_stream.read().get(&stream.partition.log_id())?.get(name).cloned()
    }

    /// The consumers of a stream, by name.
    pub(crate) fn of_stream(&self, stream: &Bound) -> Vec<Arc<Consumer>> {
        let by_stream = self.by_stream.read();
        let all = by_stream.get(&stream.partition.log_id());
        all.map(|all| all.values().cloned().collect()).unwrap_or_default()
    }

    /// Up to `count` consumers of a stream after the first `skip`, by name, and how many there are.
    pub(crate) fn page_of(&self, stream: &Bound, skip: usize, count: usize) -> (Vec<Arc<Consumer>>, usize) {
        let by_stream = self.by_stream.read();
        let Some(all) = by_stream.get(&stream.partition.log_id()) else { return (Vec::new(), 0) };
        (all.values().skip(skip).take(count).cloned().collect(), all.len())
    }

    /// How many consumers a stream has.
    pub(crate) fn count_of(&self, stream: &Bound) -> usize {
        self.by_stream.read().get(&stream.partition.log_id()).map_or(0, BTreeMap::len)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.by_stream.read().values().map(BTreeMap::len).sum()
    }

    /// Puts a consumer of a partition in, which is not working yet; `shown` is what the stream is called.
    pub(super) fn enter(
        &self,
        stream: &Stream,
        partition: &Arc<Partition>,
        shown: String,
        parts: Parts,
    ) -> Arc<Consumer> {
        let progress = parts.work.as_ref().and_then(|work| work.progress().ok()).unwrap_or_default();
        let sent_end = parts.start.max(progress.delivered_end);
        let name = parts.config.name.clone();
        let firsts_end = parts.firsts.last().map_or(sent_end, |last| last.plus(1));
        let state = State {
            patterns: parts.config.patterns().into(),
            config: Arc::new(parts.config),
            // How often messages were sent before a restart is not kept: it is taken that each was sent once.
            sent: sent_end.since(parts.start),
            sent_end,
            counted_from: sent_end.max(firsts_end),
            firsts_left: parts.firsts.len() as u64,
            firsts: parts.firsts,
            last_sent_ms: None,
            last_ack_ms: None,
            used: Instant::now(),
            requests: Default::default(),
            flow: Flow::default(),
            pin: None,
            is_bound: false,
            is_deleted: false,
            pending: Pending::default(),
        };
        let consumer = Arc::new(Consumer {
            stream: shown,
            stream_id: stream.id(),
            name: name.clone(),
            created_ms: parts.created_ms,
            partition: partition.clone(),
            broker: self.broker.clone(),
            hub: self.hub.clone(),
            work: parts.work,
            start: parts.start,
            lasts: parts.lasts,
            signal: Arc::new(Notify::new()),
            watch: Watch::new(),
            state: Mutex::new(state),
        });
        self.by_stream.write().entry(partition.log_id()).or_default().insert(name, consumer.clone());
        consumer
    }

    /// Lets a consumer work.
    pub(super) fn start(self: &Arc<Self>, consumer: &Arc<Consumer>, firsts: Vec<Offset>) {
        let config = consumer.config();
        if config.is_push() {
            self.hub.observe(config.deliver_subject.as_bytes(), &consumer.signal);
        }
        let source = match &consumer.work {
            Some(work) => {
                let kind = match (config.ack_policy, consumer.lasts) {
                    (AckPolicy::None, _) => LeaseKind::Taken,
                    (_, true) => LeaseKind::Recorded,
                    (_, false) => LeaseKind::Volatile,
                };
                Source::Leased { work: work.clone(), holder: self.broker.new_holder_id(), kind }
            }
            None => {
                let next = consumer.state.lock().counted_from;
                Source::Read(Reader { next, firsts: firsts.into() })
            }
        };
        let out = Fanout::small(self.hub.clone(), self.broker.env().random.u64());
        let courier = Courier::new(consumer.clone(), self.clone(), source, out, self.pending_len_max);
        tokio::spawn(self.broker.needed("nats consumer", courier.run()));
    }

    fn key(&self, consumer: &Consumer) -> DocumentKey {
        let (id, name) = (consumer.stream_id.0, &consumer.name);
        let name = match consumer.partition.index() {
            PartitionIndex(0) => format!("{id:032x}/{name}"),
            PartitionIndex(index) => format!("{id:032x}.{index}/{name}"),
        };
        DocumentKey { dialect: DIALECT.to_owned(), namespace: self.namespace.clone(), name }
    }

    /// Keeps a consumer that lasts as it is now. The sequence to wait for.
    pub(crate) fn keep(&self, consumer: &Consumer) -> Result<Seq> {
        let config = consumer.config();
        let Some(work) = consumer.work.as_ref().filter(|_| consumer.lasts) else { return Ok(Seq(0)) };
        let kept = Kept {
            config: (*config).clone(),
            created_ms: consumer.created_ms,
            start: consumer.start.0,
            work: work.name().to_owned(),
        };
        let body = serde_json::to_vec(&kept).unwrap_or_default();
        self.broker.put_document(self.key(consumer), Some(Bytes::from(body)))
    }

    /// Takes a consumer out with all that is kept of it; nothing happens when that was done. The sequence to wait for.
    pub(crate) fn forget(&self, consumer: &Arc<Consumer>) -> Result<Seq> {
        {
            let mut by_stream = self.by_stream.write();
            let log = consumer.partition.log_id();
            let Some(all) = by_stream.get_mut(&log) else { return Ok(Seq(0)) };
            if !all.get(&consumer.name).is_some_and(|known| Arc::ptr_eq(known, consumer)) {
                return Ok(Seq(0));
            }
            all.remove(&consumer.name);
            if all.is_empty() {
                by_stream.remove(&log);
            }
        }
        let config = consumer.config();
        self.hub.ignore(config.deliver_subject.as_bytes(), &consumer.signal);
        let mut wait = Seq(0);
        if consumer.lasts {
            wait = self.broker.put_document(self.key(consumer), None)?;
        }
        if let Some(work) = &consumer.work {
            // With its stream the cursor is gone already.
            wait = wait.max(work.close().unwrap_or(Seq(0)));
        }
        self.advise_of_consumer(consumer, Done::Deleted);
        Ok(wait)
    }
}
