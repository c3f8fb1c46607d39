//! The writer: takes everything staged, writes it as one frame with one sync, and says so. While a sync runs the next
//! frame gathers; that is the whole group-commit policy.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use env::{DIRECT_ALIGN_LEN, Next, Worker};
use model::{Error, Result, Seq};
use parking_lot::Mutex;

use super::{
    Commit, Place, Run,
    ahead::{Prepared, patience_ns},
    file_wal::{Shared, Spent, Staged},
    files::WalFile,
    frame::{FRAME_HEADER_LEN, PAGE_LEN},
    layout::{Layout, Link},
};
use crate::{faults::Fault, fsio::is_full};

/// How long the writer waits before it looks again for disk space, nanoseconds.
const FULL_RETRY_NS: u64 = 50_000_000;
/// How long it waits while publishers wait for the disk to be above its floor, nanoseconds.
const FLOOR_RETRY_NS: u64 = 500_000_000;
/// Sync times that the median is taken from.
const SYNC_TIMES: usize = 63;

/// The end of the chain of frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chain {
    /// Number of the next frame.
    pub(super) number: u64,
    /// The next unit.
    pub(super) next: Seq,
    /// Checksum of the last frame's header.
    pub(super) prev_crc: u32,
}

/// The one who writes.
pub(super) struct Writer {
    shared: Arc<Shared>,
    layout: Layout,
    chain: Chain,
    active: Prepared,
    /// When the active file was taken into use, monotonic nanoseconds.
    taken_ns: u64,
    /// Whether the next file is being zero-filled, for want of haste in the active one.
    zeroing: bool,
    /// Where the next frame goes in the active file.
    at: u64,
    /// The file before, until the active one holds a durable frame.
    full: Option<(Arc<WalFile>, Seq)>,
    /// Taken from staging, not yet in a frame.
    gathered: VecDeque<Staged>,
    /// The units of the frame being written.
    batch: Vec<Staged>,
    /// When the last commit is to be proven by an empty frame, monotonic nanoseconds; `None` when it is proven.
    prove_at_ns: Option<u64>,
    sync_times_ns: Vec<u64>,
    done: bool,
}

/// What a worker drives: the writer, shared with whoever closes the log.
pub(super) struct Driver(pub(super) Arc<Mutex<Writer>>);

impl Worker for Driver {
    fn step(&mut self) -> Next {
        self.0.lock().step()
    }
}

/// How a step went.
enum Done {
    /// A frame was written.
    Wrote,
    /// There was nothing to write.
    Nothing,
    /// The disk is full; nothing was written, it can be tried again.
    Full(Error),
}

impl Writer {
    /// Goes on after `chain` in `active`, with an empty frame that proves everything before it.
    pub(super) fn start(shared: Arc<Shared>, chain: Chain, active: Prepared) -> Result<Self> {
        let layout = Layout::new(shared.options.faults);
        let taken_ns = shared.env.clock.mono_ns();
        let mut writer = Writer {
            shared,
            layout,
            chain,
            active,
            taken_ns,
            zeroing: false,
            at: PAGE_LEN,
            full: None,
            gathered: VecDeque::new(),
            batch: Vec::new(),
            prove_at_ns: None,
            sync_times_ns: Vec::new(),
            done: false,
        };
        match writer.write_frame()? {
            Done::Full(e) => Err(e),
            Done::Wrote | Done::Nothing => Ok(writer),
        }
    }

    /// One commit, or a decision to wait.
    fn step(&mut self) -> Next {
        if self.done {
            return Next::Done;
        }
        if self.shared.failure().is_some() {
            self.drop_staged();
            return Next::Park;
        }
        match self.commit() {
            Ok(Done::Wrote) => Next::Again,
            Ok(Done::Full(_)) => Next::ParkUntil(self.now_ns() + FULL_RETRY_NS),
            Ok(Done::Nothing) => self.idle(),
            Err(e) => {
                self.fail(e);
                Next::Park
            }
        }
    }

    /// Writes everything that is staged and the proof of it; no step after this does anything.
    pub(super) fn finish(&mut self) -> Result<()> {
        while !self.done {
            if let Some(failure) = self.shared.failure().cloned() {
                self.drop_staged();
                self.done = true;
                return Err(failure);
            }
            let outcome = match self.commit() {
                Ok(Done::Nothing) if self.prove_at_ns.is_some() => self.write_frame(),
                Ok(Done::Nothing) => {
                    self.done = true;
                    return Ok(());
                }
                other => other,
            };
            match outcome {
                Ok(Done::Full(e)) => return Err(e),
                Ok(_) => {}
                Err(e) => self.fail(e),
            }
        }
        Ok(())
    }

    /// Nothing more is written, since a newer incarnation took over.
    pub(super) fn fence(&mut self) {
        self.shared.latch(Error::fenced("a newer incarnation of the write-ahead log took over"));
        self.shared.table.stop();
        self.drop_staged();
        self.done = true;
    }

    /// Nothing more is written; what is staged is forgotten, as in a crash.
    pub(super) fn abandon(&mut self) {
        self.drop_staged();
        self.done = true;
    }

    fn idle(&mut self) -> Next {
        let floor = self.shared.look_at_floor().then(|| self.now_ns() + FLOOR_RETRY_NS);
        match self.prove_at_ns {
            Some(at_ns) if at_ns <= self.now_ns() => match self.write_frame() {
                Ok(Done::Full(_)) => Next::ParkUntil(self.now_ns() + FULL_RETRY_NS),
                Ok(_) => Next::Again,
                Err(e) => {
                    self.fail(e);
                    Next::Park
                }
            },
            Some(at_ns) => Next::ParkUntil(floor.map_or(at_ns, |floor| floor.min(at_ns))),
            None => floor.map_or(Next::Park, Next::ParkUntil),
        }
    }

    /// Takes what is staged, up to the cap, and writes it.
    fn commit(&mut self) -> Result<Done> {
        if self.batch.is_empty() {
            self.gather();
        }
        if self.batch.is_empty() { Ok(Done::Nothing) } else { self.write_frame() }
    }

    fn gather(&mut self) {
        if self.gathered.is_empty() {
            std::mem::swap(&mut self.shared.staging.lock().units, &mut self.gathered);
        }
        let mut len = 0;
        while let Some(next) = self.gathered.front() {
            if !self.batch.is_empty() && len + next.frame_len > self.shared.options.commit_len {
                break;
            }
            len += next.frame_len;
            self.batch.extend(self.gathered.pop_front());
        }
    }

    /// Writes the batch as one frame; an empty batch makes an empty frame. After an error the log has failed.
    fn write_frame(&mut self) -> Result<Done> {
        let estimate = self.batch.iter().map(|staged| staged.frame_len).sum::<usize>();
        let frame_len = (estimate + FRAME_HEADER_LEN).next_multiple_of(PAGE_LEN as usize);
        let buffer = self.shared.ring.write().buffer(frame_len + DIRECT_ALIGN_LEN);
        let mut laid = self.layout.frame(self.batch.iter().map(|staged| &staged.unit), buffer)?;
        match self.make_way(laid.len()) {
            Ok(()) => {}
            Err(e) if is_full(&e) => return Ok(Done::Full(e)),
            Err(e) => return Err(e),
        }
        let place = Place { file: self.active.file.number(), at: self.at };
        let prev_crc = laid.seal(&self.link(), place);
        let mut runs = std::mem::take(&mut laid.runs);
        let (frame, capacity) = laid.into_frame();
        let early = self.shared.options.faults.has(Fault::AckEarly);
        if early {
            self.publish(std::mem::take(&mut runs), frame.clone(), capacity, place);
        }
        self.write_and_sync(&frame)?;
        self.at += frame.len() as u64;
        self.active.file.set_frames_end(self.at);
        if let Some((file, last)) = self.full.take() {
            file.seal(last);
        }
        let (number, units) = (self.chain.number + 1, self.batch.len() as u64);
        self.count(frame.len() as u64, units);
        self.prove_at_ns = (units > 0).then(|| self.now_ns() + self.shared.options.idle_ns);
        if !early {
            self.publish(runs, frame, capacity, place);
        }
        self.chain = Chain { number, next: Seq(self.chain.next.0 + units), prev_crc };
        self.batch.clear();
        Ok(Done::Wrote)
    }

    fn link(&self) -> Link {
        Link {
            salt: self.active.file.salt(),
            number: self.chain.number,
            first: self.chain.next,
            prev_crc: self.chain.prev_crc,
            // Frames are written one at a time, each after the sync of the one before.
            durable: self.chain.number - 1,
        }
    }

    /// Moves on to the next file when a frame of `len` bytes does not fit the active one, or when that is left for a
    /// better one.
    fn make_way(&mut self, len: u64) -> Result<()> {
        if self.at + len <= self.active.file.allocated_len() && !self.has_outlasted_haste() {
            return Ok(());
        }
        let next = self.shared.table.take_next(self.shared.options.file_len.max(PAGE_LEN + len))?;
        let before = std::mem::replace(&mut self.active, next);
        self.taken_ns = self.now_ns();
        self.zeroing = false;
        // A file that took no frame yet has no durable successor: what came before it stays unsealed with it.
        self.full = Some((before.file, Seq(self.chain.next.0 - 1)));
        self.at = PAGE_LEN;
        self.prepare_ahead();
        Ok(())
    }

    /// Whether the active file, which was not zero-filled in the haste, lasted so long that there was none, and a
    /// zero-filled one is ready. Until then it has one made.
    fn has_outlasted_haste(&mut self) -> bool {
        let lasted = |writer: &Self| writer.now_ns().saturating_sub(writer.taken_ns);
        // A file without a durable frame is not left: the one before it would lose its proof.
        if self.active.zeroed
            || self.at == PAGE_LEN
            || lasted(self) < patience_ns(self.active.file.allocated_len())
        {
            return false;
        }
        if !self.zeroing {
            self.zeroing = true;
            let shared = self.shared.clone();
            self.shared.env.spawn.blocking(Box::new(move || shared.table.zero_ahead()));
        }
        self.shared.table.is_zeroed_ready()
    }

    /// Has the file after the active one prepared in the background.
    pub(super) fn prepare_ahead(&self) {
        let shared = self.shared.clone();
        self.shared.env.spawn.blocking(Box::new(move || shared.table.prepare_ahead()));
    }

    fn write_and_sync(&mut self, bytes: &[u8]) -> Result<()> {
        let begun_ns = self.now_ns();
        let failed = |what: &str, e: std::io::Error| {
            let path = self.active.file.path().display();
            Error::indeterminate(format!("{path}: {what} of the write-ahead log failed: {e}"))
        };
        // Readers at the tail have the frame in memory; the machine's cache would cost a copy and the pages for it.
        self.active.handle.write_past_cache(bytes, self.at).map_err(|e| failed("a write", e))?;
        self.active.handle.sync().map_err(|e| failed("a sync", e))?;
        let took_ns = self.now_ns().saturating_sub(begun_ns);
        self.time(took_ns);
        Ok(())
    }

    /// Hands the frame to readers at the tail and to the applier.
    fn publish(&mut self, runs: Vec<Run>, frame: Bytes, capacity: usize, place: Place) {
        if self.batch.is_empty() {
            return;
        }
        let first = self.chain.next;
        let last = Seq(first.0 + self.batch.len() as u64 - 1);
        // Readers at the tail want records: a frame of settlements or of catalog commands is not kept for them.
        if runs.iter().any(|run| !run.batches.is_empty()) {
            self.shared.ring.write().push(place, frame.clone(), capacity);
        }
        self.shared.synced_to(last);
        let mut spent = Spent { last, lens: Default::default() };
        for (len, class) in self.batch.iter().map(|staged| staged.room) {
            *class.of_mut(&mut spent.lens) += len;
        }
        self.shared.hand_out(Commit { first, last, runs, frame, place }, spent);
    }

    fn count(&self, bytes: u64, units: u64) {
        let counters = &self.shared.counters;
        counters.frames.fetch_add(1, Ordering::Relaxed);
        counters.units.fetch_add(units, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    fn time(&mut self, took_ns: u64) {
        let store = |counter: &AtomicU64, value| counter.store(value, Ordering::Relaxed);
        store(&self.shared.counters.sync_last_ns, took_ns);
        self.sync_times_ns.push(took_ns);
        if self.sync_times_ns.len() == SYNC_TIMES {
            let (_, median, _) = self.sync_times_ns.select_nth_unstable(SYNC_TIMES / 2);
            store(&self.shared.counters.sync_median_ns, *median);
            self.sync_times_ns.clear();
        }
    }

    fn fail(&mut self, error: Error) {
        let error = Error::indeterminate(error.text().to_owned());
        tracing::error!(error = %error, "the write-ahead log has failed; nothing more is acknowledged");
        self.shared.latch(error);
        self.drop_staged();
    }

    fn drop_staged(&mut self) {
        self.batch.clear();
        self.gathered.clear();
        self.shared.staging.lock().units.clear();
    }

    fn now_ns(&self) -> u64 {
        self.shared.env.clock.mono_ns()
    }
}
