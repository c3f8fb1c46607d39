//! The write-ahead log behind two narrow traits: [`Wal`], one open incarnation, and [`WalProvider`], which opens it and
//! replays what an earlier incarnation left. A single node replays its own previous incarnation at every start.

mod ahead;
pub mod codec;
mod file_wal;
mod files;
mod frame;
mod layout;
mod provider;
mod recovery;
mod room;
mod scan;
mod tail;
pub(crate) mod varint;
mod writer;

use std::{sync::Arc, task::Waker};

use bytes::Bytes;
use env::Signal;
use model::{LogId, Offset, Result, Seq};

use crate::{
    blobs::Blob,
    entry::{Entry, Unit},
};

pub use file_wal::WalOptions;
pub use provider::FileWalProvider;

/// Which queue space a reservation draws on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// New records. Refused first when the queue or the disk is full.
    Publish,
    /// Settlements, leases, drops, trims, catalog commands: a full broker can always be drained.
    Drain,
    /// Records that move from one log to another, as dead letters do: much of it holds up nothing that drains.
    Move,
}

/// Something for each class.
pub(crate) type ByClass<T> = [T; 3];

impl Class {
    const ALL: ByClass<Class> = [Class::Publish, Class::Drain, Class::Move];

    /// What is there for it.
    fn of<T>(self, [publish, drain, moves]: &ByClass<T>) -> &T {
        match self {
            Class::Publish => publish,
            Class::Drain => drain,
            Class::Move => moves,
        }
    }

    /// The same, to change.
    fn of_mut<T>(self, [publish, drain, moves]: &mut ByClass<T>) -> &mut T {
        match self {
            Class::Publish => publish,
            Class::Drain => drain,
            Class::Move => moves,
        }
    }
}

/// Room in the queue, taken before any lock. Dropping it unused gives the room back.
pub struct Permit {
    len: usize,
    class: Class,
    room: Option<Arc<dyn Room>>,
}

/// Where a [`Permit`] goes back to.
pub trait Room: Send + Sync + 'static {
    /// Takes back `len` bytes of `class`.
    fn give_back(&self, len: usize, class: Class);
}

impl Permit {
    /// A permit for `len` bytes that goes back to `room`.
    pub fn new(len: usize, class: Class, room: Arc<dyn Room>) -> Self {
        Permit { len, class, room: Some(room) }
    }

    /// Bytes it stands for.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it stands for no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it was taken for.
    pub fn class(&self) -> Class {
        self.class
    }

    /// Used up: whoever calls this gives the room back itself, later.
    pub fn spend(mut self) -> (usize, Class) {
        self.room = None;
        (self.len, self.class)
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(room) = self.room.take() {
            room.give_back(self.len, self.class);
        }
    }
}

/// Where bytes of a WAL lie: file number and position in it. Opaque above the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// Number of the WAL file; rises, never reused.
    pub file: u64,
    /// Byte position in that file.
    pub at: u64,
}

/// Consecutive entries of one log within one frame: frames are grouped by log, so there is one run per log and frame
/// (two when the owner epoch rose in between).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose entries.
    pub log: LogId,
    /// Where the run's bytes begin.
    pub place: Place,
    /// Length of the run in bytes.
    pub len: u32,
    /// The data batches in it, in offset order.
    pub batches: Vec<RunBatch>,
}

/// One data batch of a [`Run`], as the index needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunBatch {
    /// Offset of its first record.
    pub base: Offset,
    /// How many offsets it covers.
    pub count: u32,
    /// Where its entry begins, relative to the run.
    pub at: u32,
    /// Length of its entry in bytes, header included.
    pub len: u32,
    /// Append time, milliseconds since the Unix epoch.
    pub append_time_ms: i64,
    /// Latest event time; the append time where the batch has none of its own.
    pub event_time_ms: i64,
}

/// One frame that a sync has made durable. Handed out in order, exactly once.
#[derive(Clone, Debug)]
pub struct Commit {
    /// First and last unit in it.
    pub first: Seq,
    /// Last unit in it; everything up to it is durable.
    pub last: Seq,
    /// Its runs, ordered by log; logs without data have one too, without batches.
    pub runs: Vec<Run>,
    /// The frame's bytes in memory.
    pub frame: Bytes,
    /// Where the frame begins.
    pub place: Place,
}

/// One open incarnation of the log.
pub trait Wal: Send + Sync + 'static {
    /// Takes room for a unit whose entries' bodies sum to `len` bytes. [`model::ErrorKind::Throttled`] when the queue is
    /// full (try again when woken), [`model::ErrorKind::Unavailable`] when the disk is at its floor,
    /// [`model::ErrorKind::Limit`] when no unit may be that long, [`model::ErrorKind::Indeterminate`] once a write failed.
    fn reserve(&self, len: usize, class: Class) -> Result<Permit>;

    /// Registers `waker` for when a refused reservation may succeed.
    fn wake_on_room(&self, waker: &Waker);

    /// Whether a publish was refused because the disk is at its floor, and the disk is still there.
    fn is_starved(&self) -> bool {
        false
    }

    /// Stages `unit`. Call order is log order; callers hold the locks of the logs concerned. Cannot fail: a log that has
    /// failed swallows it, and its sequence never becomes durable.
    fn submit(&self, permit: Permit, unit: Unit) -> Seq;

    /// Everything up to here is on disk *and* applied to its logs: the last position given to [`Wal::applied`].
    fn durable(&self) -> Seq;

    /// Registers `waker` for when [`Wal::durable`] reaches `seq`, or the log has failed before it synced that far;
    /// wakes at once if it is so already.
    fn wake_on_durable(&self, seq: Seq, waker: &Waker);

    /// The latched failure, if a write or sync ever failed: [`model::ErrorKind::Indeterminate`], or
    /// [`model::ErrorKind::Fenced`] when a newer incarnation took over. What was synced before it stays durable.
    fn failure(&self) -> Option<model::Error>;

    /// The next commit, in order, once. The signal given to [`WalProvider::open`] is raised when there is one.
    fn next_commit(&self) -> Option<Commit>;

    /// Everything up to `upto`, the last unit of a commit that was handed out, has been applied to its logs: moves
    /// [`Wal::durable`], wakes its waiters, and gives back the room that those units held.
    fn applied(&self, upto: Seq);

    /// Bytes at `place`: from memory when the frame is still in the tail ring.
    fn tail(&self, place: Place, len: u32) -> Option<Bytes>;

    /// Bytes at `place` from the file. Blocks on the disk.
    fn read(&self, place: Place, len: u32) -> Result<Bytes>;

    /// Pins `file` for reading: while the handle lives its bytes stay what they are, also after [`Wal::release`].
    /// Positions are those of [`Place::at`]. [`model::ErrorKind::NotFound`] when the file was released.
    fn open_file(&self, file: u64) -> Result<Arc<dyn Blob>>;

    /// Every WAL file that exists, ascending; the last one is being written.
    fn files(&self) -> Vec<WalFileInfo>;

    /// Turns a sealed file into a segment: writes `footer` behind its last frame, cuts the file there and makes it
    /// durable. Where damage hides what lies before `used_len`, the footer goes behind everything there is. Answers where
    /// it lies; frames stay where they are. Blocks on the disk. The file lives on until it is released;
    /// [`model::ErrorKind::Invalid`] while it is not sealed, [`model::ErrorKind::Exists`] when it has a footer already.
    fn keep(&self, file: u64, used_len: u64, footer: &[Bytes]) -> Result<(Place, u32)>;

    /// Nothing refers to `file` any more: recycle or remove it. Readers that hold it go on safely. Ignored for the file
    /// that is being written.
    fn release(&self, file: u64);

    /// What it has done and holds.
    fn stats(&self) -> WalStats;

    /// Stops taking units, writes what is staged, closes. Blocks.
    fn close(&self) -> Result<()>;
}

/// One WAL file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WalFileInfo {
    /// Its number.
    pub file: u64,
    /// Bytes written to it, its header and footer included.
    pub len: u64,
    /// Set once no more will be written and its successor holds a durable frame: no unit after this one is in it.
    /// Exact for files written or replayed by this process, an upper bound for older ones.
    pub sealed: Option<Seq>,
}

/// Counters and gauges of an open log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WalStats {
    /// Frames synced, empty ones included.
    pub frames: u64,
    /// Units synced.
    pub units: u64,
    /// Bytes synced, padding included.
    pub bytes: u64,
    /// Bytes reserved and not yet applied.
    pub queued_len: u64,
    /// Bytes of frames in the tail ring.
    pub tail_len: u64,
    /// Bytes of frames that left the ring and are kept alive by readers' slices.
    pub pinned_len: u64,
    /// How long the last write and sync took, nanoseconds.
    pub sync_last_ns: u64,
    /// Median of the latest write-and-sync times, nanoseconds. Background writers yield while the last one is above
    /// twice this.
    pub sync_median_ns: u64,
}

/// Receives what an earlier incarnation left, in commit order.
pub trait Replay {
    /// One unit. `places` has, for each data entry, where its entry lies; both slices run in parallel to the data
    /// entries in `entries`.
    fn unit(&mut self, seq: Seq, entries: Vec<Entry>, places: &[RunBatchPlace]) -> Result<()>;

    /// Units between the last one and the next are lost, which a repair goes on without: what comes may rest on them.
    fn lost(&mut self) {}
}

/// Where a replayed data entry lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunBatchPlace {
    /// Where the entry begins.
    pub place: Place,
    /// Its length, header included.
    pub len: u32,
}

/// What a replay found at the end of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    /// Last unit that was found.
    pub last: Seq,
    /// A torn tail that was cut: where, and how many bytes after it were not empty.
    pub torn: Option<(Place, u64)>,
    /// What is missing although it was durable once. Always empty unless damage is tolerated.
    pub lost: Vec<Lost>,
}

/// A damaged stretch that a repairing replay stepped over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where the damage begins.
    pub place: Place,
    /// First unit that is missing.
    pub first: Seq,
    /// Last unit that is missing; before `first` when only empty frames are.
    pub last: Seq,
    /// Logs that the damaged bytes still name; others may be concerned.
    pub logs: Vec<LogId>,
}

/// Opens incarnations of the log.
pub trait WalProvider: Send + Sync {
    /// Fences the earlier incarnation and replays it from the unit after `from`. Idempotent. Damage before a position
    /// that is proven durable is [`model::ErrorKind::Corrupt`], naming file, position and the logs concerned, unless
    /// the provider was told to tolerate damage; the same when units right after `from` are gone.
    fn fence_and_replay(&self, from: Seq, sink: &mut dyn Replay) -> Result<Replayed>;

    /// Opens a new incarnation that goes on after what was replayed. `committed` is raised for every commit.
    /// [`model::ErrorKind::Invalid`] unless `after` is what the latest replay answered.
    fn open(&self, after: &Replayed, committed: Signal) -> Result<Arc<dyn Wal>>;
}

#[cfg(test)]
mod tests;
