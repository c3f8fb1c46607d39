//! What must be true: every change that the broker answered, in order, folded into a naive state. A crash takes back
//! exactly the changes above the last unit that is there afterwards.

use std::collections::{BTreeMap, BTreeSet};

use crate::Trace;

/// The streams of the workload, by place.
pub const STREAMS: [&str; 9] =
    ["jobs", "keyed", "levels", "tasks", "dead", "events", "interest", "scratch", "mirror"];
pub const JOBS: usize = 0;
pub const KEYED: usize = 1;
pub const LEVELS: usize = 2;
pub const TASKS: usize = 3;
pub const DEAD: usize = 4;
pub const EVENTS: usize = 5;
pub const INTEREST: usize = 6;
pub const SCRATCH: usize = 7;
pub const MIRROR: usize = 8;

/// The work cursors: on which stream, and whether settled records leave it.
pub const CURSORS: [(usize, bool); 8] = [
    (JOBS, true),
    (KEYED, true),
    (LEVELS, true),
    (TASKS, true),
    (SCRATCH, true),
    (EVENTS, false),
    (INTEREST, false),
    (INTEREST, false),
];
/// The route key that a cursor is for, where it is for one.
pub const WANTED: [Option<u8>; 8] = [None, None, None, None, None, None, Some(0), Some(1)];
pub const CURSOR_SCRATCH: usize = 4;

/// Deliveries of a record of `jobs` before it goes to the dead letters.
pub const DELIVERY_LIMIT: u32 = 3;
/// Records that `scratch` takes.
pub const SCRATCH_MAX: u64 = 40;

/// A record as it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rec {
    pub id: u64,
    pub seq: u64,
    /// In memory only.
    pub volatile: bool,
    /// Ordering key, route key and priority level.
    pub key: u8,
    pub level: u8,
}

/// Who has a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub holder: u64,
    pub deadline_ms: Option<i64>,
    pub attempt: u32,
    pub recorded: bool,
}

/// What a producer did last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Produced {
    pub sequence: i32,
    pub base: u64,
}

/// One answered change.
#[derive(Clone, Copy, Debug)]
pub enum Fact {
    Appended {
        stream: usize,
        offset: u64,
        rec: Rec,
    },
    Produced {
        producer: u8,
        last: Produced,
    },
    Dedup {
        key: u8,
        base: u64,
    },
    Settled {
        cursor: usize,
        offset: u64,
    },
    Rejected {
        cursor: usize,
        offset: u64,
    },
    Leased {
        cursor: usize,
        offset: u64,
        lease: Lease,
    },
    /// Delivered in vain: it counts for nothing (`keep`), or for one.
    Released {
        cursor: usize,
        offset: u64,
        due_ms: i64,
        keep: bool,
    },
    /// It was out by a volatile lease when something later of its cursor was logged.
    Delivered {
        cursor: usize,
        offset: u64,
    },
    Dropped {
        stream: usize,
        offset: u64,
    },
    Committed {
        position: usize,
        offset: u64,
    },
}

#[derive(Clone, Debug, Default)]
pub struct CursorState {
    pub settled: BTreeSet<u64>,
    pub leases: BTreeMap<u64, Lease>,
    /// Deliveries that must be counted.
    pub attempts: BTreeMap<u64, u32>,
    pub due_ms: BTreeMap<u64, i64>,
    /// Delivered before the last restart under a lease that nobody logged.
    pub delivered: BTreeSet<u64>,
}

#[derive(Clone, Debug, Default)]
pub struct State {
    /// By stream: every record that was appended, and the offsets of those that are gone.
    pub records: [BTreeMap<u64, Rec>; STREAMS.len()],
    pub gone: [BTreeSet<u64>; STREAMS.len()],
    pub cursors: [CursorState; CURSORS.len()],
    pub producers: BTreeMap<u8, Produced>,
    pub dedup: BTreeMap<u8, u64>,
    /// Offsets of `jobs` that were rejected.
    pub rejected: BTreeSet<u64>,
    pub positions: BTreeMap<usize, u64>,
    pub key_last: BTreeMap<u8, u64>,
}

impl State {
    pub fn apply(&mut self, fact: Fact) {
        match fact {
            Fact::Appended { stream, offset, rec } => {
                self.records[stream].insert(offset, rec);
                if stream == EVENTS {
                    self.key_last.insert(rec.key, offset);
                }
            }
            Fact::Produced { producer, last } => drop(self.producers.insert(producer, last)),
            Fact::Dedup { key, base } => drop(self.dedup.insert(key, base)),
            Fact::Settled { cursor, offset } => self.settle(cursor, offset),
            Fact::Rejected { cursor, offset } => {
                if CURSORS[cursor].0 == JOBS {
                    self.rejected.insert(offset);
                }
                self.settle(cursor, offset);
            }
            Fact::Leased { cursor, offset, lease } => {
                let state = &mut self.cursors[cursor];
                state.leases.insert(offset, lease);
                state.attempts.insert(offset, lease.attempt);
                state.due_ms.remove(&offset);
            }
            Fact::Released { cursor, offset, due_ms, keep } => {
                let state = &mut self.cursors[cursor];
                let out = state.leases.remove(&offset).map(|lease| lease.attempt);
                let attempts = state.attempts.entry(offset).or_default();
                *attempts = out.unwrap_or(*attempts).saturating_sub(u32::from(keep));
                state.due_ms.insert(offset, due_ms);
            }
            Fact::Delivered { cursor, offset } => {
                self.cursors[cursor].delivered.insert(offset);
            }
            Fact::Dropped { stream, offset } => {
                self.gone[stream].insert(offset);
                for (cursor, (of, _)) in CURSORS.iter().enumerate() {
                    if *of == stream {
                        self.cursors[cursor].leases.remove(&offset);
                    }
                }
            }
            Fact::Committed { position, offset } => drop(self.positions.insert(position, offset)),
        }
    }

    fn settle(&mut self, cursor: usize, offset: u64) {
        let (stream, drops) = CURSORS[cursor];
        let state = &mut self.cursors[cursor];
        state.settled.insert(offset);
        state.leases.remove(&offset);
        if drops {
            self.gone[stream].insert(offset);
        }
    }

    /// The records of a stream that are there.
    pub fn live(&self, stream: usize) -> impl Iterator<Item = (u64, Rec)> {
        let gone = &self.gone[stream];
        self.records[stream]
            .iter()
            .filter(|(offset, _)| !gone.contains(offset))
            .map(|(offset, rec)| (*offset, *rec))
    }

    /// The records that a cursor still has to do with.
    pub fn unsettled(&self, cursor: usize) -> impl Iterator<Item = (u64, Rec)> {
        let settled = &self.cursors[cursor].settled;
        let wanted = WANTED[cursor];
        self.live(CURSORS[cursor].0)
            .filter(move |(offset, rec)| !settled.contains(offset) && wanted.is_none_or(|key| key == rec.key))
    }
}

/// Every change with its unit, and the state that they come to.
#[derive(Default)]
pub struct Model {
    pub now: State,
    journal: Vec<(u64, Fact)>,
    /// The last unit that was answered as durable.
    pub acknowledged: u64,
    /// The last unit of any answer.
    pub staged: u64,
    /// By stream: no offset below is given out again.
    pub used: [u64; STREAMS.len()],
    /// Offsets of `jobs` that were once delivered as often as allowed: they may have gone to the dead letters.
    pub exhausted: BTreeSet<u64>,
    /// Where every change is written down.
    pub trace: Trace,
}

impl Model {
    pub fn new(trace: Trace) -> Self {
        Model { trace, ..Model::default() }
    }

    /// A change in unit `seq`.
    pub fn note(&mut self, seq: u64, fact: Fact) {
        self.trace.line(format_args!("unit {seq}: {fact:?}"));
        self.staged = self.staged.max(seq);
        let lasts = match fact {
            // What a volatile lease comes to is not told before the next that is logged.
            Fact::Released { cursor, offset, keep, .. } => {
                keep || self.now.cursors[cursor].leases.get(&offset).is_none_or(|lease| lease.recorded)
            }
            Fact::Leased { lease, .. } => lease.recorded,
            Fact::Appended { rec, .. } => !rec.volatile,
            _ => true,
        };
        self.now.apply(fact);
        if lasts {
            self.journal.push((seq, fact));
        }
    }

    /// A start found `last` as the last unit. Answers how many durable changes it brought back.
    pub fn restart(&mut self, last: u64) -> u64 {
        self.journal.retain(|(seq, _)| *seq <= last);
        self.now = State::default();
        self.journal.iter().for_each(|(_, fact)| self.now.apply(*fact));
        self.staged = last;
        self.acknowledged = last;
        self.journal.len() as u64
    }

    /// A stream and its cursor were deleted for good.
    pub fn forget_scratch(&mut self) {
        self.journal.retain(|(_, fact)| match *fact {
            Fact::Appended { stream, .. } | Fact::Dropped { stream, .. } => stream != SCRATCH,
            Fact::Settled { cursor, .. }
            | Fact::Rejected { cursor, .. }
            | Fact::Leased { cursor, .. }
            | Fact::Released { cursor, .. }
            | Fact::Delivered { cursor, .. } => cursor != CURSOR_SCRATCH,
            _ => true,
        });
        self.now.records[SCRATCH].clear();
        self.now.gone[SCRATCH].clear();
        self.now.cursors[CURSOR_SCRATCH] = CursorState::default();
        self.used[SCRATCH] = 0;
    }
}
