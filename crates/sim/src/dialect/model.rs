//! What must be true: every change that the broker answered, in order, folded into a naive state. A crash takes back
//! exactly the changes above the last unit that is there afterwards.

use std::collections::{BTreeMap, BTreeSet};

use super::streams::{CURSOR_SCRATCH, CURSORS, DELIVERY_LIMIT, EVENTS, JOBS, SCRATCH, STREAMS, WANTED};
use crate::Trace;

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
    /// When it stops being deliverable, by itself, and with its stream's time to live.
    pub expiry_ms: Option<i64>,
    pub expires_ms: Option<i64>,
    /// Not deliverable before.
    pub deliver_at_ms: Option<i64>,
}

impl Rec {
    /// Bytes of its body.
    pub fn len(&self) -> u64 {
        u64::from(self.id.checked_ilog10().unwrap_or(0)) + 1
    }

    pub fn is_over(&self, now_ms: i64) -> bool {
        self.expires_ms.is_some_and(|at| at <= now_ms)
    }

    pub fn is_early(&self, now_ms: i64) -> bool {
        self.deliver_at_ms.is_some_and(|at| at > now_ms)
    }
}

/// Who has a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    pub holder: u64,
    pub deadline_ms: Option<i64>,
    pub attempt: u32,
    pub recorded: bool,
}

impl Lease {
    pub fn is_over(&self, now_ms: i64) -> bool {
        self.deadline_ms.is_some_and(|at| at <= now_ms)
    }
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
    /// Delivered in vain: then so many deliveries count.
    Released {
        cursor: usize,
        offset: u64,
        due_ms: i64,
        attempts: u32,
    },
    /// So many deliveries were counted by something that nobody logged, which a checkpoint may have.
    Counted {
        cursor: usize,
        offset: u64,
        attempts: u32,
    },
    /// The cursor was set to an offset.
    Sought {
        cursor: usize,
        to: u64,
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
    /// Everything below counts as settled.
    pub floor: u64,
    pub settled: BTreeSet<u64>,
    pub leases: BTreeMap<u64, Lease>,
    /// Deliveries that must be counted.
    pub attempts: BTreeMap<u64, u32>,
    pub due_ms: BTreeMap<u64, i64>,
    /// Delivered before the last restart under a lease that nobody logged.
    pub delivered: BTreeSet<u64>,
}

impl CursorState {
    pub fn is_settled(&self, offset: u64) -> bool {
        offset < self.floor || self.settled.contains(&offset)
    }

    /// Whether the record may be delivered as far as the cursor goes.
    pub fn is_ready(&self, offset: u64, rec: &Rec, now_ms: i64) -> bool {
        let is_out = self.leases.get(&offset).is_some_and(|lease| !lease.is_over(now_ms));
        let waits = self.due_ms.get(&offset).is_some_and(|due_ms| *due_ms > now_ms);
        !is_out && !waits && !rec.is_early(now_ms) && !rec.is_over(now_ms)
    }
}

#[derive(Clone, Debug, Default)]
pub struct State {
    /// By stream: every record that was appended, and the offsets of those that are gone.
    pub records: [BTreeMap<u64, Rec>; STREAMS.len()],
    pub gone: [BTreeSet<u64>; STREAMS.len()],
    pub cursors: [CursorState; CURSORS.len()],
    pub producers: BTreeMap<u8, Produced>,
    pub dedup: BTreeMap<u8, u64>,
    /// Records that were rejected, by stream and offset.
    pub rejected: BTreeSet<(usize, u64)>,
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
                self.rejected.insert((CURSORS[cursor].0, offset));
                self.settle(cursor, offset);
            }
            Fact::Leased { cursor, offset, lease } => {
                let state = &mut self.cursors[cursor];
                state.leases.insert(offset, lease);
                state.attempts.insert(offset, lease.attempt);
                state.due_ms.remove(&offset);
            }
            Fact::Released { cursor, offset, due_ms, attempts } => {
                let state = &mut self.cursors[cursor];
                state.leases.remove(&offset);
                state.attempts.insert(offset, attempts);
                state.due_ms.insert(offset, due_ms);
            }
            Fact::Counted { cursor, offset, attempts } => {
                if let Some(known) = self.cursors[cursor].attempts.get_mut(&offset) {
                    *known = attempts.min(*known);
                }
            }
            Fact::Sought { cursor, to } => {
                self.cursors[cursor] = CursorState { floor: to, ..CursorState::default() };
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
        let state = &self.cursors[cursor];
        let wanted = WANTED[cursor];
        self.live(CURSORS[cursor].0).filter(move |(offset, rec)| {
            !state.is_settled(*offset) && wanted.is_none_or(|key| key == rec.key)
        })
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
    /// By cursor: up to where records were ever given under a lease that nobody logged.
    pub volatile_end: [u64; CURSORS.len()],
    /// The same at the last restart: the deliveries of what lies below are counted exactly only from when it is handed out
    /// again.
    blur_end: [u64; CURSORS.len()],
    seen: [BTreeSet<u64>; CURSORS.len()],
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
        if let Fact::Leased { cursor, offset, lease } = fact
            && CURSORS[cursor].0 == JOBS
            && lease.attempt >= DELIVERY_LIMIT
        {
            self.exhausted.insert(offset);
        }
        let told = match fact {
            // What a volatile lease comes to is not told before the next that is logged.
            Fact::Released { cursor, offset, attempts, .. } if !self.is_recorded(cursor, offset) => {
                Some(Fact::Counted { cursor, offset, attempts })
            }
            Fact::Leased { cursor, offset, lease } if !lease.recorded => {
                Some(Fact::Counted { cursor, offset, attempts: lease.attempt })
            }
            Fact::Appended { rec, .. } if rec.volatile => None,
            fact => Some(fact),
        };
        self.now.apply(fact);
        if let Fact::Sought { cursor, .. } = fact {
            self.blur_end[cursor] = 0;
        }
        self.journal.extend(told.map(|told| (seq, told)));
    }

    fn is_recorded(&self, cursor: usize, offset: u64) -> bool {
        self.now.cursors[cursor].leases.get(&offset).is_none_or(|lease| lease.recorded)
    }

    /// A record was handed out: from now on its deliveries are known.
    pub fn handed_out(&mut self, cursor: usize, offset: u64, is_volatile: bool) {
        self.seen[cursor].insert(offset);
        if is_volatile {
            self.volatile_end[cursor] = self.volatile_end[cursor].max(offset + 1);
        }
    }

    /// Whether the deliveries of the record are known exactly.
    pub fn is_exact(&self, cursor: usize, offset: u64) -> bool {
        offset >= self.blur_end[cursor] || self.seen[cursor].contains(&offset)
    }

    /// A start found `last` as the last unit. Answers how many durable changes it brought back.
    pub fn restart(&mut self, last: u64) -> u64 {
        self.journal.retain(|(seq, _)| *seq <= last);
        self.now = State::default();
        self.journal.iter().for_each(|(_, fact)| self.now.apply(*fact));
        self.staged = last;
        self.acknowledged = last;
        self.blur_end = self.volatile_end;
        self.seen = Default::default();
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
            | Fact::Counted { cursor, .. }
            | Fact::Sought { cursor, .. }
            | Fact::Delivered { cursor, .. } => cursor != CURSOR_SCRATCH,
            _ => true,
        });
        self.now.records[SCRATCH].clear();
        self.now.gone[SCRATCH].clear();
        self.now.cursors[CURSOR_SCRATCH] = CursorState::default();
        self.used[SCRATCH] = 0;
        self.volatile_end[CURSOR_SCRATCH] = 0;
        self.blur_end[CURSOR_SCRATCH] = 0;
        self.seen[CURSOR_SCRATCH].clear();
    }
}
