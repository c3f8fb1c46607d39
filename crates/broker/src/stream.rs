//! Handles on streams and their partitions.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use model::{Error, LogId, Offset, OwnerEpoch, PartitionIndex, Result, StreamId, StreamKey};
use parking_lot::RwLock;
use route::{Pattern, Syntax};
use store::Durability;

use crate::{
    catalog::StreamRecord,
    log_state::{LogState, route_keys::Slot},
    settings::{Facets, Overflow, StreamSettings},
    tenant::TenantCounters,
    watch::Watch,
    work::QUEUE_WORK,
};

/// How the name of a cursor begins that works a log as a queue.
const OVER: &str = "over-";

/// The queue over a log that a cursor of this name works.
pub(crate) fn queue_of_work(name: &str) -> Option<StreamId> {
    u128::from_str_radix(name.strip_prefix(OVER)?, 16).ok().map(StreamId)
}

/// A stream as the catalog had it when this handle was made. Handles are made again when settings or partitions change;
/// the partitions' handles stay the same.
pub struct Stream {
    record: StreamRecord,
    /// Set once the engine's logs are known: at creation, or after a start.
    partitions: OnceLock<Box<[Arc<Partition>]>>,
}

impl Stream {
    pub(crate) fn new(record: StreamRecord) -> Self {
        Stream { record, partitions: OnceLock::new() }
    }

    pub(crate) fn record(&self) -> &StreamRecord {
        &self.record
    }

    /// The log of each partition.
    pub(crate) fn logs(&self) -> &[LogId] {
        &self.record.logs
    }

    /// The same stream with other settings.
    pub(crate) fn with_settings(&self, settings: Arc<StreamSettings>) -> Arc<Self> {
        let changed = Stream::new(StreamRecord { settings, ..self.record.clone() });
        if let Some(partitions) = self.partitions.get() {
            changed.attach(partitions.clone());
        }
        Arc::new(changed)
    }

    /// The same stream with more partitions, which are not attached.
    pub(crate) fn with_logs(&self, logs: &[LogId]) -> Arc<Self> {
        let logs = self.record.logs.iter().chain(logs).copied().collect();
        Arc::new(Stream::new(StreamRecord { logs, ..self.record.clone() }))
    }

    /// Gives the stream its partitions. Only the first call counts.
    pub(crate) fn attach(&self, partitions: Box<[Arc<Partition>]>) {
        self.partitions.get_or_init(|| partitions);
    }

    /// The name of the cursor that works it as a queue.
    pub(crate) fn work_name(&self) -> Arc<str> {
        match self.settings().over {
            Some(_) => format!("{OVER}{:032x}", self.id().0).into(),
            None => QUEUE_WORK.into(),
        }
    }

    /// Its full name.
    pub fn key(&self) -> &StreamKey {
        &self.record.key
    }

    /// Its incarnation: another after it was deleted and created again.
    pub fn id(&self) -> StreamId {
        self.record.id
    }

    /// Its settings.
    pub fn settings(&self) -> &Arc<StreamSettings> {
        &self.record.settings
    }

    /// Its properties.
    pub fn facets(&self) -> Facets {
        self.record.facets
    }

    /// Its partitions, by index.
    pub fn partitions(&self) -> &[Arc<Partition>] {
        self.partitions.get().map_or(&[], |partitions| partitions)
    }

    /// The partition of that index.
    pub fn partition(&self, index: PartitionIndex) -> Option<&Arc<Partition>> {
        self.partitions().get(index.0 as usize)
    }
}

pub use store::Bounds;

/// What a partition holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PartitionStats {
    /// Records that are there (gaps are not).
    pub records: u64,
    /// Stored bytes.
    pub bytes: u64,
}

/// The records of one route key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteKeyView {
    /// The key.
    pub key: Bytes,
    /// How many records it has.
    pub records: u64,
    /// The oldest of them.
    pub first: Offset,
    /// The newest of them.
    pub last: Offset,
}

/// From where on a partition was written under which owner epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: OwnerEpoch,
    /// The first offset under it.
    pub start: Offset,
}

/// One partition: a log of records with offsets.
pub struct Partition {
    stream: StreamId,
    index: PartitionIndex,
    log: Arc<store::Log<LogState>>,
    /// Whether a publish that finds it full goes to another stream, which then has to be locked beside it.
    deflects: AtomicBool,
    /// Whether the length of its records is limited, so that they are measured before anything is locked.
    measures: AtomicBool,
    /// What a record may come in under that has no route key, where it needs one.
    entry_keys: RwLock<Option<Arc<[Pattern]>>>,
    /// Whether its records are kept in memory.
    is_volatile: bool,
    tenant: Arc<TenantCounters>,
}

impl Partition {
    pub(crate) fn new(
        stream: StreamId,
        index: PartitionIndex,
        log: Arc<store::Log<LogState>>,
        tenant: Arc<TenantCounters>,
    ) -> Self {
        let is_volatile = log.with(|core, _| core.durability()) == Durability::Memory;
        let (deflects, measures) = (AtomicBool::new(false), AtomicBool::new(false));
        let entry_keys = RwLock::new(None);
        Partition { stream, index, log, deflects, measures, entry_keys, is_volatile, tenant }
    }

    /// Takes over what a publish has to know of the settings before it locks.
    pub(crate) fn follow(&self, settings: &StreamSettings) {
        let deflects = settings.overflow == Overflow::Deflect && settings.dead_letter.is_some();
        self.deflects.store(deflects, Ordering::Relaxed);
        self.measures.store(settings.record_len_max.is_some(), Ordering::Relaxed);
        // Those that do not read match nothing; they were read when the stream was made.
        let read = |text: &String| Pattern::parse(text.as_bytes(), Syntax::ONE_REST).ok();
        let patterns: Option<Arc<[Pattern]>> =
            (!settings.entry_keys.is_empty()).then(|| settings.entry_keys.iter().filter_map(read).collect());
        *self.entry_keys.write() = patterns;
    }

    /// The account of its tenant.
    pub(crate) fn tenant(&self) -> &TenantCounters {
        &self.tenant
    }

    pub(crate) fn deflects(&self) -> bool {
        self.deflects.load(Ordering::Relaxed)
    }

    pub(crate) fn entry_keys(&self) -> Option<Arc<[Pattern]>> {
        self.entry_keys.read().clone()
    }

    pub(crate) fn measures(&self) -> bool {
        self.measures.load(Ordering::Relaxed)
    }

    pub(crate) fn is_volatile(&self) -> bool {
        self.is_volatile
    }

    pub(crate) fn log(&self) -> &Arc<store::Log<LogState>> {
        &self.log
    }

    /// Incarnation of the stream it belongs to.
    pub fn stream_id(&self) -> StreamId {
        self.stream
    }

    /// Its index in the stream.
    pub fn index(&self) -> PartitionIndex {
        self.index
    }

    /// Its log.
    pub fn log_id(&self) -> LogId {
        self.log.id()
    }

    /// Where it begins and ends now.
    pub fn bounds(&self) -> Bounds {
        self.log.bounds()
    }

    /// Its current owner epoch.
    pub fn epoch(&self) -> OwnerEpoch {
        self.log.with(|core, _| core.epoch())
    }

    /// Where each owner epoch that has records began, ascending; the last is the current one.
    pub fn epochs(&self) -> Vec<EpochStart> {
        self.log.with(|core, state| {
            let mut epochs = state.epochs.clone();
            if epochs.last().is_none_or(|last| last.epoch < core.epoch()) {
                epochs.push(EpochStart { epoch: core.epoch(), start: core.end() });
            }
            epochs
        })
    }

    /// What it holds, with what is staged.
    pub fn stats(&self) -> PartitionStats {
        self.log.with(|core, _| PartitionStats { records: core.records(), bytes: core.bytes() })
    }

    /// About how many bytes its readable records from `from` to below `to` have as they are stored.
    pub fn len_between(&self, from: Offset, to: Offset) -> u64 {
        self.log.with(|core, _| core.bytes_from(from).saturating_sub(core.bytes_from(to)))
    }

    /// Append time of its last batch, milliseconds since the Unix epoch; 0 before the first.
    pub fn last_append_time_ms(&self) -> i64 {
        self.log.with(|core, _| core.last_append_time_ms())
    }

    /// How often one of its work cursors was looked at since the start: what commits, leases and settlements cost.
    pub fn visited_cursors(&self) -> u64 {
        self.log.with(|_, state| state.works.as_ref().map_or(0, |works| works.visited()))
    }

    /// How many route keys it has records of; 0 where they are not indexed.
    pub fn route_key_count(&self) -> usize {
        self.log.with(|_, state| state.route_keys.as_ref().map_or(0, |keys| keys.len()))
    }

    /// The route keys that `pattern` matches, in the order of their bytes: `limit` of them after the first `skip`. Staged
    /// records count.
    pub fn route_keys(&self, pattern: &Pattern, skip: usize, limit: usize) -> Vec<RouteKeyView> {
        self.log.with(|_, state| {
            let slots = state.route_keys.iter().flat_map(|keys| keys.matching(pattern));
            let view = |slot: &Slot| {
                let (first, last) = (slot.offsets.first()?, slot.offsets.last()?);
                Some(RouteKeyView { key: slot.key.clone(), records: slot.offsets.len(), first, last })
            };
            slots.skip(skip).take(limit).filter_map(view).collect()
        })
    }

    /// How many route keys `pattern` matches. Takes time with their number.
    pub fn count_route_keys(&self, pattern: &Pattern) -> usize {
        self.log.with(|_, state| state.route_keys.iter().flat_map(|keys| keys.matching(pattern)).count())
    }

    /// The first record at or after `from` under a route key that `pattern` matches. Staged records count.
    pub fn next_under(&self, pattern: &Pattern, from: Offset) -> Option<Offset> {
        self.log.with(|_, state| {
            let slots = state.route_keys.iter().flat_map(|keys| keys.matching(pattern));
            slots.filter_map(|slot| slot.offsets.next(from)).min()
        })
    }

    /// The last record below `end` under a route key that `pattern` matches.
    pub fn last_under(&self, pattern: &Pattern, end: Offset) -> Option<Offset> {
        self.log.with(|_, state| {
            let slots = state.route_keys.iter().flat_map(|keys| keys.matching(pattern));
            slots.filter_map(|slot| slot.offsets.last_below(end)).max()
        })
    }

    /// The last record below `end` of each route key that `pattern` matches: up to `count` of them, by key.
    pub fn lasts_under(&self, pattern: &Pattern, end: Offset, count: usize) -> Vec<Offset> {
        self.log.with(|_, state| {
            let slots = state.route_keys.iter().flat_map(|keys| keys.matching(pattern));
            slots.filter_map(|slot| slot.offsets.last_below(end)).take(count).collect()
        })
    }

    /// How many records from `from` on are under a route key that `pattern` matches.
    pub fn count_under(&self, pattern: &Pattern, from: Offset) -> u64 {
        self.log.with(|_, state| {
            let slots = state.route_keys.iter().flat_map(|keys| keys.matching(pattern));
            slots.map(|slot| slot.offsets.len() - slot.offsets.count_below(from)).sum()
        })
    }

    /// Up to `count` of the oldest records in `from..to` under a route key that `pattern` matches, ascending.
    pub fn offsets_under(&self, pattern: &Pattern, from: Offset, to: Offset, count: usize) -> Vec<Offset> {
        self.log.with(|_, state| {
            let slots = state.route_keys.iter().flat_map(|keys| keys.matching(pattern));
            let mut found: Vec<Offset> =
                slots.flat_map(|slot| slot.offsets.between(from, to, count)).collect();
            found.sort_unstable();
            found.truncate(count);
            found
        })
    }

    /// Gaps between its start and its end: up to `count` offsets of records that are gone, and how many there are.
    pub fn gaps(&self, count: usize) -> (Vec<Offset>, u64) {
        self.log.with(|core, _| {
            let total = core.end().0.saturating_sub(core.start().0).saturating_sub(core.records());
            let mut found = Vec::new();
            let mut at = core.start();
            while at < core.end() && found.len() < count.min(usize::try_from(total).unwrap_or(count)) {
                if !core.is_live(at) {
                    found.push(at);
                }
                at = at.plus(1);
            }
            (found, total)
        })
    }

    /// The end with what is staged: the offset of the next record.
    pub fn staged_end(&self) -> Offset {
        self.log.with(|core, _| core.end())
    }

    /// Whether there is a record at `offset`, with what is staged.
    pub fn has(&self, offset: Offset) -> bool {
        self.log.with(|core, _| core.is_live(offset))
    }

    /// Arms `watch` here: it is told once when the partition can be read beyond `from`, whether records are there or were
    /// deleted, or when it is deleted itself; at once when that is so already. Arming again moves the offset.
    pub fn watch(&self, from: Offset, watch: &Watch) {
        self.log.with(|core, state| state.watchers.arm(core, from, watch));
    }

    /// As [`Partition::watch`], for records of route keys that one of `patterns` matches (none = all), where the stream
    /// indexes them: what else is appended tells nobody. Deleted records tell nobody either.
    pub fn watch_under(&self, from: Offset, patterns: &[Pattern], watch: &Watch) {
        self.log.with(|core, state| match state.route_keys.as_deref() {
            Some(keys) if !patterns.is_empty() => {
                state.watchers.arm_under(core, keys, from, patterns, watch);
            }
            _ => state.watchers.arm(core, from, watch),
        });
    }

    /// [`model::ErrorKind::Closed`] once the stream is deleted.
    pub fn check_open(&self) -> Result<()> {
        if self.log.with(|core, _| core.is_deleted()) { Err(closed()) } else { Ok(()) }
    }
}

pub(crate) fn closed() -> Error {
    Error::closed("the stream was deleted")
}
