use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    task::Waker,
};

use bytes::Bytes;
use env::Signal;
use model::{Error, ErrorKind, LogId, Result, Seq, limits};
use parking_lot::Mutex;

use super::blobs::{Hints, MemBlob};
use crate::{
    Change, Entry, Unit,
    blobs::Blob,
    wal::{
        Class, Commit, Permit, Place, Replay, Replayed, Room, Run, RunBatch, RunBatchPlace, Wal, WalFileInfo,
        WalProvider, WalStats,
        codec::{Encoder, Order, begin_run, decode_batch, end_run},
    },
};

/// How a WAL in memory behaves.
#[derive(Clone, Copy, Debug)]
pub struct MemWalOptions {
    /// Whether every unit is a commit of its own at once. Else [`MemWalProvider::commit`] makes one of all staged.
    pub eager: bool,
    /// A file is sealed once it is this long, bytes.
    pub file_len: u64,
    /// Whether frames are served from memory; without it every stored record is a cold read.
    pub tail: bool,
}

impl Default for MemWalOptions {
    fn default() -> Self {
        MemWalOptions { eager: true, file_len: 64 << 20, tail: true }
    }
}

/// A WAL in memory that outlives its incarnations.
#[derive(Clone)]
pub struct MemWalProvider {
    shared: Arc<Shared>,
}

struct Shared {
    options: MemWalOptions,
    state: Mutex<State>,
    hints: Hints,
}

#[derive(Default)]
struct State {
    files: BTreeMap<u64, MemFile>,
    /// Durable up to here.
    last: Seq,
    /// Rises with every opening; older incarnations are fenced.
    incarnation: u64,
    replayed: Option<Replayed>,
    closed: bool,
    staged: Vec<Unit>,
    commits: VecDeque<Commit>,
    applied: Seq,
    waiters: Vec<(Seq, Waker)>,
    committed: Option<Signal>,
    stats: WalStats,
}

#[derive(Default)]
struct MemFile {
    bytes: Vec<u8>,
    units: Vec<StoredUnit>,
    sealed: Option<Seq>,
    footer: bool,
}

struct StoredUnit {
    seq: Seq,
    entries: Vec<Entry>,
    /// One per data entry.
    places: Vec<RunBatchPlace>,
}

impl MemWalProvider {
    /// An empty WAL.
    pub fn new(options: MemWalOptions) -> Self {
        MemWalProvider {
            shared: Arc::new(Shared { options, state: Mutex::default(), hints: Hints::default() }),
        }
    }

    /// Commits everything staged as one frame. Says whether there was anything.
    pub fn commit(&self) -> bool {
        self.shared.commit(&mut self.shared.state.lock())
    }

    /// Takes what readers said they will need next: positions in WAL files and lengths, in their order.
    pub fn take_hints(&self) -> Vec<(u64, u32)> {
        std::mem::take(&mut self.shared.hints.lock())
    }

    /// Forgets what is staged, as a crash would.
    pub fn crash(&self) {
        let mut state = self.shared.state.lock();
        state.staged.clear();
        state.commits.clear();
    }
}

impl Shared {
    fn commit(&self, state: &mut State) -> bool {
        let units = std::mem::take(&mut state.staged);
        if units.is_empty() {
            return false;
        }
        let first = Seq(state.last.0 + 1);
        let last = Seq(state.last.0 + units.len() as u64);
        let full =
            state.files.last_key_value().is_none_or(|(_, f)| f.bytes.len() as u64 >= self.options.file_len);
        if full {
            let next = state.files.last_key_value().map_or(1, |(number, _)| number + 1);
            state.files.insert(next, MemFile::default());
        }
        let Some(mut entry) = state.files.last_entry() else { return false };
        let number = *entry.key();
        let file = entry.get_mut();
        let place = Place { file: number, at: file.bytes.len() as u64 };
        let runs = lay_out(file, place, first, units);
        let frame = Bytes::copy_from_slice(&file.bytes[usize::try_from(place.at).unwrap_or(0)..]);
        if full && let Some((_, before)) = state.files.range_mut(..number).next_back() {
            before.sealed = Some(Seq(first.0 - 1));
        }
        state.last = last;
        state.stats.frames += 1;
        state.stats.units += last.0 - first.0 + 1;
        state.stats.bytes += frame.len() as u64;
        state.commits.push_back(Commit { first, last, runs, frame, place });
        state.committed.iter().for_each(Signal::raise);
        true
    }
}

/// Writes the units' entries grouped by log behind the file's bytes.
fn lay_out(file: &mut MemFile, frame: Place, first: Seq, units: Vec<Unit>) -> Vec<Run> {
    let mut by_log: BTreeMap<LogId, Vec<(usize, usize)>> = BTreeMap::new();
    for (unit, entries) in units.iter().enumerate() {
        for (index, entry) in entries.entries.iter().enumerate() {
            by_log.entry(entry.log).or_default().push((unit, index));
        }
    }
    let stored = |(nth, unit): (usize, Unit)| StoredUnit {
        seq: Seq(first.0 + nth as u64),
        places: Vec::new(),
        entries: unit.entries,
    };
    let mut stored: Vec<StoredUnit> = units.into_iter().enumerate().map(stored).collect();
    let mut places: BTreeMap<(usize, usize), RunBatchPlace> = BTreeMap::new();
    let mut runs = Vec::new();
    let mut encoder = Encoder::default();
    for (log, members) in by_log {
        let run_at = file.bytes.len();
        let place = Place { file: frame.file, at: run_at as u64 };
        let entries_at = begin_run(&mut file.bytes, log, stored[members[0].0].entries[members[0].1].epoch);
        let mut batches = Vec::new();
        for (unit, index) in members {
            let entry = &mut stored[unit].entries[index];
            let at = file.bytes.len();
            let order = Order { units_since: 0, index: u32::try_from(index).unwrap_or(u32::MAX) };
            let len = encoder.entry(&mut file.bytes, entry, order);
            let len = u32::try_from(len).unwrap_or(u32::MAX);
            if let Change::Data { batch, stamp } = &mut entry.change {
                places.insert(
                    (unit, index),
                    RunBatchPlace { place: Place { file: frame.file, at: at as u64 }, len },
                );
                batches.push(RunBatch {
                    base: batch.base,
                    count: batch.count,
                    at: u32::try_from(at - run_at).unwrap_or(u32::MAX),
                    len,
                    append_time_ms: batch.append_time_ms,
                    event_time_ms: batch.max_event_time_ms.unwrap_or(batch.append_time_ms),
                });
                *stamp = None;
                if let Ok((written, _)) = decode_batch(log, &Bytes::copy_from_slice(&file.bytes[at..])) {
                    *batch = written;
                }
            }
        }
        let closed = end_run(&mut file.bytes, entries_at);
        debug_assert!(closed.is_ok(), "a test's frame is short");
        let len = u32::try_from(file.bytes.len() - run_at).unwrap_or(u32::MAX);
        runs.push(Run { log, place, len, batches });
    }
    for ((unit, _), place) in places {
        stored[unit].places.push(place);
    }
    file.units.extend(stored);
    runs
}

impl WalProvider for MemWalProvider {
    fn fence_and_replay(&self, from: Seq, sink: &mut dyn Replay) -> Result<Replayed> {
        let mut state = self.shared.state.lock();
        state.incarnation += 1;
        state.staged.clear();
        state.commits.clear();
        let first = state.files.values().find_map(|file| file.units.first()).map_or(Seq(1), |unit| unit.seq);
        if from > state.last || first.0 > from.0 + 1 {
            return Err(Error::corrupt(format!("units after {} are gone", from.0)));
        }
        for file in state.files.values() {
            for unit in file.units.iter().filter(|unit| unit.seq > from) {
                sink.unit(unit.seq, unit.entries.clone(), &unit.places)?;
            }
        }
        let replayed = Replayed { last: state.last.max(from), torn: None, lost: Vec::new() };
        state.replayed = Some(replayed.clone());
        Ok(replayed)
    }

    fn open(&self, after: &Replayed, committed: Signal) -> Result<Arc<dyn Wal>> {
        let mut state = self.shared.state.lock();
        if state.replayed.as_ref() != Some(after) {
            return Err(Error::invalid("this is not what the latest replay answered"));
        }
        state.last = after.last;
        state.closed = false;
        state.applied = after.last;
        state.committed = Some(committed);
        Ok(Arc::new(MemWal { shared: self.shared.clone(), incarnation: state.incarnation }))
    }
}

struct MemWal {
    shared: Arc<Shared>,
    incarnation: u64,
}

impl Room for Shared {
    fn give_back(&self, len: usize, _: Class) {
        let mut state = self.state.lock();
        state.stats.queued_len = state.stats.queued_len.saturating_sub(len as u64);
    }
}

impl Wal for MemWal {
    fn reserve(&self, len: usize, class: Class) -> Result<Permit> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        if len > limits::BATCH_LEN_MAX {
            return Err(Error::new(ErrorKind::Limit, "no unit may be that long"));
        }
        self.shared.state.lock().stats.queued_len += len as u64;
        Ok(Permit::new(len, class, self.shared.clone()))
    }

    fn wake_on_room(&self, waker: &Waker) {
        waker.wake_by_ref();
    }

    fn submit(&self, permit: Permit, unit: Unit) -> Seq {
        let mut state = self.shared.state.lock();
        let (len, _) = permit.spend();
        state.stats.queued_len = state.stats.queued_len.saturating_sub(len as u64);
        if state.incarnation != self.incarnation || state.closed {
            return Seq(u64::MAX - 1); // Swallowed: never durable.
        }
        state.staged.push(unit);
        let seq = Seq(state.last.0 + state.staged.len() as u64);
        if self.shared.options.eager {
            self.shared.commit(&mut state);
        }
        seq
    }

    fn durable(&self) -> Seq {
        self.shared.state.lock().applied
    }

    fn wake_on_durable(&self, seq: Seq, waker: &Waker) {
        let mut state = self.shared.state.lock();
        if state.applied >= seq || state.incarnation != self.incarnation {
            waker.wake_by_ref();
        } else {
            state.waiters.push((seq, waker.clone()));
        }
    }

    fn failure(&self) -> Option<Error> {
        let fenced = self.shared.state.lock().incarnation != self.incarnation;
        fenced.then(|| Error::fenced("a newer incarnation took over"))
    }

    fn next_commit(&self) -> Option<Commit> {
        let mut state = self.shared.state.lock();
        if state.incarnation == self.incarnation { state.commits.pop_front() } else { None }
    }

    fn applied(&self, upto: Seq) {
        let mut state = self.shared.state.lock();
        state.applied = state.applied.max(upto);
        let applied = state.applied;
        let (ready, waiting) =
            std::mem::take(&mut state.waiters).into_iter().partition(|(seq, _)| *seq <= applied);
        state.waiters = waiting;
        drop(state);
        let ready: Vec<(Seq, Waker)> = ready;
        ready.into_iter().for_each(|(_, waker)| waker.wake());
    }

    fn tail(&self, place: Place, len: u32) -> Option<Bytes> {
        if self.shared.options.tail { self.read(place, len).ok() } else { None }
    }

    fn read(&self, place: Place, len: u32) -> Result<Bytes> {
        let state = self.shared.state.lock();
        let gone = || Error::not_found(format!("WAL file {} was released", place.file));
        let file = state.files.get(&place.file).ok_or_else(gone)?;
        let from = usize::try_from(place.at).unwrap_or(usize::MAX);
        let bytes = file.bytes.get(from..from.saturating_add(len as usize));
        bytes.map(Bytes::copy_from_slice).ok_or_else(|| Error::invalid("past the end of a WAL file"))
    }

    fn open_file(&self, file: u64) -> Result<Arc<dyn Blob>> {
        match self.shared.state.lock().files.get(&file) {
            Some(file) => {
                Ok(Arc::new(MemBlob(Bytes::copy_from_slice(&file.bytes), self.shared.hints.clone())))
            }
            None => Err(Error::not_found(format!("WAL file {file} was released"))),
        }
    }

    fn files(&self) -> Vec<WalFileInfo> {
        let state = self.shared.state.lock();
        let info = |(number, file): (&u64, &MemFile)| WalFileInfo {
            file: *number,
            len: file.bytes.len() as u64,
            sealed: file.sealed,
        };
        state.files.iter().map(info).collect()
    }

    fn keep(&self, file: u64, _used_len: u64, footer: &[Bytes]) -> Result<(Place, u32)> {
        let mut state = self.shared.state.lock();
        let Some(found) = state.files.get_mut(&file) else {
            return Err(Error::not_found(format!("WAL file {file} was released")));
        };
        if found.sealed.is_none() {
            return Err(Error::invalid(format!("WAL file {file} is not sealed")));
        }
        if std::mem::replace(&mut found.footer, true) {
            return Err(Error::exists(format!("WAL file {file} has a footer")));
        }
        let at = found.bytes.len();
        footer.iter().for_each(|part| found.bytes.extend_from_slice(part));
        let len = u32::try_from(found.bytes.len() - at).unwrap_or(u32::MAX);
        Ok((Place { file, at: at as u64 }, len))
    }

    fn release(&self, file: u64) {
        let mut state = self.shared.state.lock();
        if state.files.get(&file).is_some_and(|found| found.sealed.is_some()) {
            state.files.remove(&file);
        }
    }

    fn stats(&self) -> WalStats {
        self.shared.state.lock().stats
    }

    fn close(&self) -> Result<()> {
        let mut state = self.shared.state.lock();
        self.shared.commit(&mut state);
        state.closed = true;
        Ok(())
    }
}
