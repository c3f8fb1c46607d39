//! Opening: the last good checkpoint, then what the write-ahead log has after it.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use env::Signal;
use model::{Batch, Error, ErrorKind, LogId, Offset, OwnerEpoch, Result, Seq};

use crate::{
    Annex, Attached, CATALOG, Catalog, Change, Durability, Entry, Log, LogCore, Store, annex,
    apply::ApplierTask,
    blobs::Blobs,
    checkpoint::{self, Head, Needed},
    dir::Held,
    epochs,
    faults::Fault,
    files,
    flush::{Figures, FlushWorker, Flusher, Kept, Reclaim, dead_len},
    index::INDEX_STEP_LEN,
    log::OFFSETS_LOST_MAX,
    log::live::{Extent, FileId, Index, Point},
    read::AheadTask,
    spill::{Spill, SpillWorker},
    store::{Opened, Parts},
    unflushed::Unflushed,
    wal::{Class, Lost, Place, Replay, RunBatchPlace, Wal},
};

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Replay began after this unit: what the checkpoint covers.
    pub checkpoint: Option<Seq>,
    /// Units replayed from the write-ahead log.
    pub replayed_units: u64,
    /// A torn tail that was cut: where, and how many bytes after it were not empty. Nothing in it was acknowledged.
    pub torn: Option<(Place, u64)>,
    /// What was durable once and is missing: only after a repair.
    pub lost: Vec<Lost>,
    /// What was read and rests on what is missing, so that it was left out: only after a repair.
    pub unapplied: Vec<Unapplied>,
    /// The directory's format file was missing or did not read, and was written anew: only after a repair.
    pub mended_format: bool,
    /// Checkpoints that did not read.
    pub damaged_checkpoints: Vec<u64>,
    /// Stored ranges that are set aside because they cannot be read back.
    pub damaged: Vec<(LogId, Range<Offset>)>,
    /// Whoever had the directory last closed it in order, or nobody had it.
    pub closed_in_order: bool,
    /// Logs that went on above offsets which may have been given to records that the crash took back.
    pub skipped_logs: u64,
}

/// Changes that could not be made because others are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unapplied {
    /// The log that they are of; [`CATALOG`] for commands.
    pub log: LogId,
    /// The unit with the first of them.
    pub first: Seq,
    /// How many.
    pub count: u64,
    /// Why the first one could not be made.
    pub why: String,
}

impl Recovery {
    /// Where a log is to begin that should be there and is not: it may have given out offsets in what is lost.
    pub fn start_of_missing(&self) -> Offset {
        if self.lost.is_empty() { Offset::ZERO } else { Offset(OFFSETS_LOST_MAX) }
    }
}

pub(crate) fn open<A: Attached>(
    parts: Parts,
    dir: Option<Held>,
    spill: Option<Spill>,
) -> Result<(Store<A>, Recovery)> {
    let Base { mut sink, head, kept, next_checkpoint, damaged } = base::<A>(&parts)?;
    let from = head.map_or(Seq(0), |head| head.position);
    let replayed = parts.wal.fence_and_replay(from, &mut sink)?;
    let mut recovery = Recovery {
        checkpoint: head.map(|head| head.position),
        replayed_units: sink.units,
        torn: replayed.torn,
        lost: replayed.lost.clone(),
        mended_format: dir.as_ref().is_some_and(|dir| dir.mended),
        closed_in_order: dir.as_ref().is_none_or(|dir| dir.closed_in_order),
        damaged_checkpoints: damaged,
        ..Recovery::default()
    };
    let mut epoch_floor = epochs::floor(&*parts.blobs)?;
    if recovery.torn.is_some() {
        // What is written from now on is told apart from what was cut.
        epoch_floor = epochs::raise(&*parts.blobs, epoch_floor, sink.last_epoch())?;
    }
    let faults = parts.options.faults;
    let ignore_reserve = faults.has(Fault::ReuseOffset);
    let skips_lost = !recovery.lost.is_empty() && !faults.has(Fault::RepairReusesOffsets);
    recovery.unapplied = std::mem::take(&mut sink.unapplied).into_values().collect();
    let after = After { epoch_floor, ignore_reserve, skips_lost };
    let Restored { logs, next_log, skipped } = sink.finish(&recovery, after)?;
    recovery.skipped_logs = skipped.len() as u64;
    let committed = Signal::new();
    let wal = parts.wal.open(&replayed, committed.clone())?;
    let existing = existing(&*wal, &*parts.blobs)?;
    recovery.damaged = set_missing_aside(&logs, &existing);

    let unflushed_len =
        wal.files().iter().filter(|f| f.sealed.is_none_or(|last| last > from)).map(|f| f.len).sum();
    let (used, segments) = files_of(&logs);
    let (extents, left) = count_extents(&logs, &segments, parts.options.run_kept_len);
    let unflushed = Unflushed::new(&parts.options, from, unflushed_len, extents, left);
    let next_segment = existing.iter().filter_map(|file| match file {
        FileId::Segment(number) => Some(number + 1),
        FileId::Wal(_) => None,
    });
    let annexes: BTreeSet<u64> = annex::list(&*parts.blobs)?.into_iter().collect();
    let next_segment = next_segment.chain(annexes.last().map(|number| number + 1)).max().unwrap_or(1);
    let next_segment = next_segment.max(head.map_or(1, |head| head.next_segment));
    let protected = match recovery.damaged_checkpoints.is_empty() {
        true => Needed::default(),
        false => Needed { files: existing, annexes },
    };
    let dead_len = dead_len(&*wal, &*parts.blobs, &used)?;
    let reclaim = Reclaim::new(&parts.options, dead_len);
    let figures = Arc::new(Figures::default());
    let flusher = Flusher::new(kept, next_checkpoint, next_segment, segments, protected, figures.clone());
    let next_log = next_log.max(head.map_or(1, |head| head.next_log));
    let opened = Opened {
        wal,
        unflushed,
        reclaim,
        flusher,
        figures,
        committed: committed.clone(),
        logs,
        next_log,
        epoch_floor,
        dir,
        spill,
    };
    let store = Store::assemble(parts, opened);
    write_skips(&store, skipped);
    ApplierTask::start(&store.0, committed);
    FlushWorker::start(&store.0, store.0.flush.clone());
    AheadTask::start(&store.0);
    if store.0.spill.is_some() {
        SpillWorker::start(&store.0);
    }
    Ok((store, recovery))
}

/// What replay begins with.
struct Base<A: Attached> {
    sink: Restorer<A>,
    head: Option<Head>,
    kept: Vec<Kept>,
    next_checkpoint: u64,
    damaged: Vec<u64>,
}

/// Restores the newest checkpoint that reads. Those that do not are left where they are.
fn base<A: Attached>(parts: &Parts) -> Result<Base<A>> {
    let ids = checkpoint::list(&*parts.blobs)?;
    let next_checkpoint = ids.last().map_or(1, |last| last + 1);
    let mut damaged = Vec::new();
    for (nth, id) in ids.iter().enumerate().rev() {
        let mut sink = Restorer::new(parts);
        match checkpoint::read(&*parts.blobs, *id, &mut sink) {
            Ok(head) => {
                sink.restore_catalog()?;
                // What the one before it needs is not known: nothing is released until both are of this run.
                let older = nth.checked_sub(1).map(|at| Kept { id: ids[at], position: Seq(0), needed: None });
                let this = Kept { id: *id, position: head.position, needed: None };
                let kept = older.into_iter().chain([this]).collect();
                return Ok(Base { sink, head: Some(head), kept, next_checkpoint, damaged });
            }
            Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                tracing::error!(checkpoint = id, %error, "a checkpoint does not read; the one before it is used");
                damaged.push(*id);
            }
            Err(error) => return Err(error),
        }
    }
    let sink = Restorer::new(parts);
    Ok(Base { sink, head: None, kept: Vec::new(), next_checkpoint, damaged })
}

/// Every file that could hold entries.
fn existing(wal: &dyn Wal, blobs: &dyn Blobs) -> Result<BTreeSet<FileId>> {
    let mut files: BTreeSet<FileId> = wal.files().iter().map(|info| FileId::Wal(info.file)).collect();
    files.extend(files::segments(blobs)?.into_iter().map(FileId::Segment));
    Ok(files)
}

/// Sets extents aside whose file is not there, and answers all that are set aside.
fn set_missing_aside<A: Attached>(
    logs: &HashMap<LogId, Arc<Log<A>>>,
    existing: &BTreeSet<FileId>,
) -> Vec<(LogId, Range<Offset>)> {
    let mut damaged = Vec::new();
    for log in logs.values() {
        let mut state = log.lock();
        for extent in state.core.live.extents_mut() {
            if !existing.contains(&extent.file) && !extent.damaged {
                tracing::error!(log = log.id().0, file = ?extent.file, "a file with stored records is missing");
                extent.damaged = true;
            }
            if extent.damaged {
                damaged.push((log.id(), extent.base..extent.end()));
            }
        }
    }
    damaged.sort_unstable_by_key(|(log, range)| (*log, range.start));
    damaged
}

/// Files with live records, and those of the WAL among them that were made segments: they have extents whose index is in a
/// footer.
fn files_of<A: Attached>(logs: &HashMap<LogId, Arc<Log<A>>>) -> (BTreeSet<FileId>, BTreeSet<u64>) {
    let (mut files, mut segments) = (BTreeSet::new(), BTreeSet::new());
    for log in logs.values() {
        for extent in log.lock().core.live.extents() {
            files.insert(extent.file);
            if let (FileId::Wal(number), Index::Footer) = (extent.file, &extent.index) {
                segments.insert(number);
            }
        }
    }
    (files, segments)
}

/// Extents of all logs, and those that the next flush leaves: what lies in segments and in the files of the log that became
/// such, long runs wherever they are, and what is set aside.
fn count_extents<A: Attached>(
    logs: &HashMap<LogId, Arc<Log<A>>>,
    segments: &BTreeSet<u64>,
    run_kept_len: u32,
) -> (u64, u64) {
    let (mut all, mut left) = (0, 0);
    for log in logs.values() {
        for extent in log.lock().core.live.extents() {
            let is_flushed = match extent.file {
                FileId::Wal(number) => segments.contains(&number),
                FileId::Segment(_) => true,
            };
            all += 1;
            left += u64::from(is_flushed || extent.len >= run_kept_len || extent.damaged);
        }
    }
    (all, left)
}

/// Logs per unit that says where they go on.
const SKIPS_PER_UNIT: usize = 1000;

/// Makes it durable that these logs go on at their new ends. A crash before that finds the same ends again.
fn write_skips<A: Attached>(store: &Store<A>, mut skipped: Vec<LogId>) {
    skipped.sort_unstable();
    for some in skipped.chunks(SKIPS_PER_UNIT) {
        let logs: Vec<Arc<Log<A>>> = some.iter().filter_map(|id| store.log(*id)).collect();
        let mut locked = store.lock(&logs.iter().collect::<Vec<_>>());
        logs.iter().for_each(|log| locked.went_on(log.id()));
        store.commit(store.0.no_room(Class::Drain), locked);
    }
}

/// A log as it is being put together.
struct Replaying<A> {
    core: LogCore,
    attached: A,
    /// Entries of units up to here are in the state already ...
    covered: Seq,
    /// ... except for where batches from here on lie.
    placed_end: Offset,
    growing: Option<Growing>,
    /// Its creation is lost: this is what came after it.
    is_rest: bool,
}

/// An extent whose batches are still arriving.
struct Growing {
    extent: Extent,
    points: Vec<Point>,
}

pub(crate) struct Restorer<A: Attached> {
    logs: HashMap<LogId, Replaying<A>>,
    blobs: Arc<dyn Blobs>,
    catalog: Arc<dyn Catalog>,
    catalog_covered: Seq,
    /// From a checkpoint, until the whole of it has proved to be good.
    catalog_state: Option<(Seq, Vec<u8>)>,
    /// Logs with entries that were neither in the checkpoint nor created since. Their deletion must follow.
    unknown: BTreeSet<LogId>,
    /// Units before this point are lost, and it was decided to go on without them.
    has_lost: bool,
    unapplied: BTreeMap<LogId, Unapplied>,
    next_log: u64,
    units: u64,
}

/// How logs go on after the replay.
pub(crate) struct After {
    /// None is in an epoch below this one.
    epoch_floor: OwnerEpoch,
    ignore_reserve: bool,
    skips_lost: bool,
}

pub(crate) struct Restored<A: Attached> {
    pub logs: HashMap<LogId, Arc<Log<A>>>,
    pub next_log: u64,
    pub skipped: Vec<LogId>,
}

impl<A: Attached> Restorer<A> {
    pub fn new(parts: &Parts) -> Self {
        Restorer {
            logs: HashMap::new(),
            blobs: parts.blobs.clone(),
            catalog: parts.catalog.clone(),
            catalog_covered: Seq(0),
            catalog_state: None,
            unknown: BTreeSet::new(),
            has_lost: false,
            unapplied: BTreeMap::new(),
            next_log: 1,
            units: 0,
        }
    }

    /// Takes an entry in. After a loss, what rests on what is lost is left out.
    fn entry(&mut self, seq: Seq, entry: Entry, place: Option<RunBatchPlace>) -> Result<()> {
        let log = entry.log;
        match self.try_entry(seq, entry, place) {
            Err(error) if self.has_lost && error.kind() == ErrorKind::Corrupt => {
                let first = || Unapplied { log, first: seq, count: 0, why: error.text().to_owned() };
                self.unapplied.entry(log).or_insert_with(first).count += 1;
                Ok(())
            }
            done => done,
        }
    }

    fn try_entry(&mut self, seq: Seq, entry: Entry, place: Option<RunBatchPlace>) -> Result<()> {
        if entry.log == CATALOG {
            return match &entry.change {
                Change::Note(command) if seq > self.catalog_covered => self.catalog.replay(seq, command),
                Change::Note(_) => Ok(()),
                _ => Err(Error::corrupt(format!("unit {} changes the catalog as if it were a log", seq.0))),
            };
        }
        self.next_log = self.next_log.max(entry.log.0.saturating_add(1));
        match &entry.change {
            Change::Create { start, durability } => self.create(seq, &entry, *start, *durability),
            Change::Delete => {
                self.unknown.remove(&entry.log);
                self.logs.remove(&entry.log);
                Ok(())
            }
            _ => match self.logs.get_mut(&entry.log) {
                Some(log) => log.entry(seq, &entry, place),
                None => self.unknown(seq, &entry, place),
            },
        }
    }

    /// An entry of a log that nothing created.
    fn unknown(&mut self, seq: Seq, entry: &Entry, place: Option<RunBatchPlace>) -> Result<()> {
        if !self.has_lost {
            self.unknown.insert(entry.log);
            return Ok(());
        }
        let Some(rest) = Replaying::rest(entry.log, &entry.change) else { return Ok(()) };
        self.logs.entry(entry.log).or_insert(rest).entry(seq, entry, place)
    }

    fn create(&mut self, seq: Seq, entry: &Entry, start: Offset, durability: Durability) -> Result<()> {
        if self.logs.contains_key(&entry.log) {
            return Ok(()); // The checkpoint has it.
        }
        let core = LogCore::new(entry.log, start, durability);
        let mut log = Replaying::new(core, A::default(), Seq(0), start);
        log.core.replay(seq, entry);
        log.attached.replay(&log.core, entry)?;
        self.logs.insert(entry.log, log);
        Ok(())
    }

    /// Hands the checkpoint's catalog to its state machine.
    pub fn restore_catalog(&mut self) -> Result<()> {
        match self.catalog_state.take() {
            Some((seq, state)) => {
                self.catalog_covered = seq;
                self.catalog.restore(&state)
            }
            None => Ok(()),
        }
    }

    /// The highest epoch of any log.
    fn last_epoch(&self) -> OwnerEpoch {
        self.logs.values().map(|log| log.core.epoch()).max().unwrap_or_default()
    }

    pub fn finish(self, recovery: &Recovery, after: After) -> Result<Restored<A>> {
        if let Some(id) = self.unknown.first()
            && recovery.lost.is_empty()
        {
            return Err(Error::corrupt(format!("log {id} has entries but was never created")));
        }
        let mut skipped = Vec::new();
        let mut logs = HashMap::with_capacity(self.logs.len());
        for (id, mut log) in self.logs {
            log.place_growing();
            // Of one whose beginning is lost nothing else is known: whoever knows that it should be there makes it anew.
            if log.is_rest && log.core.end() == log.core.start() {
                continue;
            }
            if log.core.finish_replay(after.ignore_reserve, after.skips_lost) {
                skipped.push(id);
            }
            log.core.set_epoch(after.epoch_floor);
            log.core.set_stable_limit(log.attached.stable_limit());
            logs.insert(id, Arc::new(Log::new(log.core, log.attached)));
        }
        Ok(Restored { logs, next_log: self.next_log, skipped })
    }
}

impl<A: Attached> checkpoint::Sink for Restorer<A> {
    fn log(&mut self, core: LogCore, placed_end: Offset, state: &[u8]) -> Result<()> {
        let mut attached = A::default();
        let log = core.id();
        attached.restore(state, &|number| Annex::read(&*self.blobs, log, number))?;
        let covered = core.applied();
        self.next_log = self.next_log.max(core.id().0.saturating_add(1));
        self.logs.insert(core.id(), Replaying::new(core, attached, covered, placed_end));
        Ok(())
    }

    fn catalog(&mut self, seq: Seq, state: &[u8]) -> Result<()> {
        self.catalog_state = Some((seq, state.to_vec()));
        Ok(())
    }
}

impl<A: Attached> Replay for Restorer<A> {
    fn unit(&mut self, seq: Seq, entries: Vec<Entry>, places: &[RunBatchPlace]) -> Result<()> {
        self.units += 1;
        let mut places = places.iter();
        for entry in entries {
            let place = match &entry.change {
                Change::Data { .. } => Some(*places.next().ok_or_else(|| {
                    Error::internal(format!("unit {} was replayed without the place of a batch", seq.0))
                })?),
                _ => None,
            };
            self.entry(seq, entry, place)?;
        }
        Ok(())
    }

    fn lost(&mut self) {
        self.has_lost = true;
    }
}

impl<A: Attached> Replaying<A> {
    fn new(core: LogCore, attached: A, covered: Seq, placed_end: Offset) -> Self {
        Replaying { core, attached, covered, placed_end, growing: None, is_rest: false }
    }

    /// A log whose creation is lost and that goes on with a batch or a note.
    fn rest(id: LogId, change: &Change) -> Option<Self> {
        let start = match change {
            Change::Data { batch, .. } => batch.base,
            Change::Note(_) => Offset::ZERO,
            _ => return None,
        };
        let core = LogCore::new(id, start, Durability::Fsync);
        Some(Replaying { is_rest: true, ..Replaying::new(core, A::default(), Seq(0), start) })
    }

    fn entry(&mut self, seq: Seq, entry: &Entry, place: Option<RunBatchPlace>) -> Result<()> {
        let new = seq > self.covered;
        match (&entry.change, place) {
            (Change::Data { batch, .. }, Some(place)) if new || batch.base >= self.placed_end => {
                self.grow(batch, place);
            }
            _ => self.place_growing(),
        }
        if !new {
            return Ok(());
        }
        self.core.replay(seq, entry);
        self.attached.replay(&self.core, entry)
    }

    /// Adds a batch to the extent that ends where it begins, or begins another.
    fn grow(&mut self, batch: &Batch, place: RunBatchPlace) {
        let file = FileId::Wal(place.place.file);
        let event_time_ms = batch.max_event_time_ms.unwrap_or(batch.append_time_ms);
        if let Some(Growing { extent, points }) = &mut self.growing
            && (extent.file, extent.at + u64::from(extent.len)) == (file, place.place.at)
            && extent.end() == batch.base
            && let Some(len) = extent.len.checked_add(place.len)
            && let Some(count) = extent.count.checked_add(batch.count)
        {
            let at = extent.len;
            match points.last_mut() {
                Some(point) if at - point.at < INDEX_STEP_LEN => {
                    point.append_time_ms = point.append_time_ms.max(batch.append_time_ms);
                    point.event_time_ms = point.event_time_ms.max(event_time_ms);
                }
                _ => points.push(Point {
                    base: extent.count,
                    at,
                    append_time_ms: batch.append_time_ms,
                    event_time_ms,
                }),
            }
            (extent.len, extent.count, extent.stored) = (len, count, count);
            extent.append_time_ms = extent.append_time_ms.max(batch.append_time_ms);
            extent.event_time_ms = extent.event_time_ms.max(event_time_ms);
            return;
        }
        self.place_growing();
        let append_time_ms = batch.append_time_ms;
        self.growing = Some(Growing {
            points: vec![Point { base: 0, at: 0, append_time_ms, event_time_ms }],
            extent: Extent {
                file,
                at: place.place.at,
                base: batch.base,
                len: place.len,
                count: batch.count,
                stored: batch.count,
                live: batch.count,
                append_time_ms,
                event_time_ms,
                index: Index::None,
                damaged: false,
            },
        });
    }

    fn place_growing(&mut self) {
        if let Some(Growing { mut extent, points }) = self.growing.take() {
            if points.len() > 1 {
                extent.index = Index::Points(points.into());
            }
            self.core.place(extent);
        }
    }
}
