//! The naive model: units in commit order, folded one by one. No index, no cleverness; slow is fine.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use model::OwnerEpoch;

/// One change, as the workload asked for it.
#[derive(Clone, Debug)]
pub enum Op {
    /// A log came into being.
    Create { start: u64 },
    /// A log is gone.
    Delete,
    /// Records.
    Append(ModelBatch),
    /// Offsets are gone.
    Drop(Vec<Range<u64>>),
    /// Everything below is gone.
    Trim(u64),
    /// The end moved up.
    Advance(u64),
    /// State attached to the log.
    Note(u64),
    /// A catalog command.
    Command(u64),
}

/// One batch: what must come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelBatch {
    /// Offset of its first record.
    pub base: u64,
    /// How many offsets it covers.
    pub count: u32,
    /// Unique in the run; the body follows from it.
    pub id: u64,
    /// Length of its body.
    pub body_len: usize,
    /// The append time that the engine gave it.
    pub append_time_ms: i64,
    /// Whether a crash takes it back.
    pub volatile: bool,
    /// The unit it came in.
    pub seq: u64,
}

impl ModelBatch {
    /// The offset after its last record.
    pub fn end(&self) -> u64 {
        self.base + u64::from(self.count)
    }
}

/// What a log's attached state has been told, in order: a count and a running hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// How many entries.
    pub count: u64,
    /// Over all of them, in order.
    pub hash: u64,
}

impl Told {
    /// One more entry.
    pub fn tell(&mut self, kind: u64, value: u64) {
        self.count += 1;
        for word in [kind, value] {
            self.hash = (self.hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
    }
}

/// Kinds of entry that attached states count; see [`Told::tell`].
pub mod kind {
    /// Data; the value is the base offset.
    pub const DATA: u64 = 1;
    /// A note; the value is its id.
    pub const NOTE: u64 = 2;
}

/// One log as it must be.
#[derive(Clone, Debug, Default)]
pub struct LogState {
    /// Everything below was trimmed.
    pub trimmed: u64,
    /// The next append's offset.
    pub end: u64,
    /// By base offset.
    pub batches: BTreeMap<u64, ModelBatch>,
    /// Dropped offsets at or above `trimmed` that belong to a batch, with the unit that dropped them.
    pub dropped: BTreeMap<u64, u64>,
    /// The unit of the last trim.
    pub trimmed_by: u64,
    /// What was trimmed before that, for readers that may not have seen the trim yet.
    pub trimmed_before: u64,
    /// What its attached state must have been told.
    pub told: Told,
    /// The latest append time.
    pub last_time_ms: i64,
    /// Whether it was deleted.
    pub deleted: bool,
}

impl LogState {
    fn apply(&mut self, seq: u64, op: &Op) {
        match op {
            Op::Create { start } => {
                *self = LogState { trimmed: *start, end: *start, ..LogState::default() };
            }
            Op::Delete => {
                self.deleted = true;
                self.batches.clear();
                self.dropped.clear();
            }
            Op::Append(batch) => {
                self.end = batch.end();
                self.last_time_ms = self.last_time_ms.max(batch.append_time_ms);
                if !batch.volatile {
                    self.told.tell(kind::DATA, batch.base);
                }
                self.batches.insert(batch.base, ModelBatch { seq, ..batch.clone() });
            }
            Op::Drop(ranges) => {
                for range in ranges {
                    for offset in range.clone() {
                        if self.batch_at(offset).is_some() {
                            self.dropped.entry(offset).or_insert(seq);
                        }
                    }
                }
            }
            Op::Trim(to) => {
                // The end was raised by records that a restart does not bring back.
                let to = *to;
                self.end = self.end.max(to);
                if to > self.trimmed {
                    (self.trimmed_before, self.trimmed, self.trimmed_by) = (self.trimmed, to, seq);
                    self.batches.retain(|_, batch| batch.end() > to);
                    self.dropped.retain(|offset, _| *offset >= to);
                }
            }
            Op::Advance(to) => self.end = self.end.max(*to),
            Op::Note(id) => self.told.tell(kind::NOTE, *id),
            Op::Command(_) => {}
        }
    }

    /// The batch that covers `offset`.
    pub fn batch_at(&self, offset: u64) -> Option<&ModelBatch> {
        self.batches.range(..=offset).next_back().map(|(_, batch)| batch).filter(|batch| offset < batch.end())
    }

    /// Whether a record is stored at `offset` and not gone.
    pub fn is_live(&self, offset: u64) -> bool {
        offset >= self.trimmed && !self.dropped.contains_key(&offset) && self.batch_at(offset).is_some()
    }

    /// The first live offset at or above `from`.
    pub fn first_live(&self, from: u64) -> Option<u64> {
        let from = from.max(self.trimmed);
        let first = self.batch_at(from).map_or(from, |batch| batch.base);
        let mut offsets =
            self.batches.range(first..).flat_map(|(_, batch)| batch.base.max(from)..batch.end());
        offsets.find(|offset| !self.dropped.contains_key(offset))
    }

    /// All live offsets.
    pub fn live_offsets(&self) -> BTreeSet<u64> {
        let offsets = self.batches.values().flat_map(|batch| batch.base.max(self.trimmed)..batch.end());
        offsets.filter(|offset| !self.dropped.contains_key(offset)).collect()
    }
}

/// Everything, after some unit.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// By log id. Deleted ones stay, so that they can be told from those never created.
    pub logs: BTreeMap<u64, LogState>,
    /// What the catalog must have been told.
    pub catalog: Told,
}

impl State {
    fn apply(&mut self, seq: u64, ops: &[(u64, Op)]) {
        for (log, op) in ops {
            match op {
                Op::Command(id) => self.catalog.tell(kind::NOTE, *id),
                Op::Create { .. } => self.logs.entry(*log).or_default().apply(seq, op),
                op => {
                    // Absent when a restart took its creation back: then this changed nothing that lasts.
                    if let Some(state) = self.logs.get_mut(log) {
                        state.apply(seq, op);
                    }
                }
            }
        }
    }
}

/// The history since the last start, and what it folds to.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// As the last start left it.
    base: State,
    /// Every unit that a start brought back, without volatile records.
    past: Vec<(u64, Vec<(u64, Op)>)>,
    /// Since then: the position that each waits for, which is 0 or an earlier unit's where nothing but volatile records
    /// was staged.
    units: Vec<(u64, Vec<(u64, Op)>)>,
    /// Everything staged.
    pub now: State,
    /// The last unit that was staged.
    pub staged: u64,
    /// The last unit that was acknowledged: whoever waited for it was told that it is durable.
    pub acknowledged: u64,
    /// The last unit of which an fsync record was shown to a reader.
    pub shown: u64,
    /// Per log, the end of everything that anybody was shown or promised.
    pub promised_end: BTreeMap<u64, u64>,
    /// Per log, the epoch in which the last start found it.
    pub epochs: BTreeMap<u64, OwnerEpoch>,
}

impl Model {
    /// One unit was staged as `seq`.
    pub fn stage(&mut self, seq: u64, ops: Vec<(u64, Op)>) {
        self.now.apply(seq, &ops);
        self.staged = self.staged.max(seq);
        if seq <= self.acknowledged {
            promise(&mut self.promised_end, &ops);
        }
        self.units.push((seq, ops));
    }

    /// Everything up to `seq` was acknowledged.
    pub fn acknowledge(&mut self, seq: u64) {
        let before = self.acknowledged;
        if seq <= before {
            return;
        }
        self.acknowledged = seq;
        for (at, ops) in &self.units {
            if *at > before && *at <= seq {
                promise(&mut self.promised_end, ops);
            }
        }
    }

    /// A reader was shown `batch` of `log`.
    pub fn show(&mut self, log: u64, batch: &ModelBatch) {
        if !batch.volatile {
            self.shown = self.shown.max(batch.seq);
        }
        let end = self.promised_end.entry(log).or_default();
        *end = batch.end().max(*end);
    }

    /// Records that were staged since the last start and acknowledged.
    pub fn acknowledged_records(&self) -> u64 {
        let units = self.units.iter().filter(|(seq, _)| *seq <= self.acknowledged);
        let counts = units.flat_map(|(_, ops)| ops).map(|(_, op)| match op {
            Op::Append(batch) if !batch.volatile => u64::from(batch.count),
            _ => 0,
        });
        counts.sum()
    }

    /// The machine restarted and `last` is the last unit that it brought back: what must be there is everything up to
    /// it, without volatile records.
    pub fn restart(&mut self, last: u64) -> &mut State {
        for (seq, mut ops) in std::mem::take(&mut self.units) {
            if seq <= last {
                ops.retain(|(_, op)| !matches!(op, Op::Append(batch) if batch.volatile));
                self.base.apply(seq, &ops);
                self.past.push((seq, ops));
            }
        }
        self.staged = last;
        (self.acknowledged, self.shown) = (last, last);
        self.now = self.base.clone();
        &mut self.base
    }

    /// What there is after a start whose last unit is `last`, of those changes that `counts` takes.
    pub fn folded(&self, last: u64, counts: impl Fn(u64, &Op) -> bool) -> State {
        let mut state = State::default();
        for (seq, ops) in self.past.iter().chain(&self.units).filter(|(seq, _)| *seq <= last) {
            let mut ops = ops.clone();
            ops.retain(|(_, op)| {
                let is_volatile = matches!(op, Op::Append(batch) if batch.volatile);
                !is_volatile && counts(*seq, op)
            });
            state.apply(*seq, &ops);
        }
        state
    }

    /// After a restart, the engine may go on further up: the offsets between are a gap.
    pub fn restarted_at(&mut self, log: u64, end: u64) {
        for state in [&mut self.base, &mut self.now] {
            if let Some(log) = state.logs.get_mut(&log) {
                log.end = end.max(log.end);
            }
        }
    }
}

/// Whoever waited for these was told: their offsets are taken for ever.
fn promise(promised_end: &mut BTreeMap<u64, u64>, ops: &[(u64, Op)]) {
    for (log, op) in ops {
        if let Op::Append(batch) = op {
            let end = promised_end.entry(*log).or_default();
            *end = batch.end().max(*end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(base: u64, count: u32, volatile: bool) -> Op {
        let (id, body_len, append_time_ms) = (base, 1, 0);
        Op::Append(ModelBatch { base, count, id, body_len, append_time_ms, volatile, seq: 0 })
    }

    fn create() -> (u64, Op) {
        (1, Op::Create { start: 0 })
    }

    #[test]
    fn a_restart_keeps_a_prefix_of_units_and_no_volatile_record() {
        let mut model = Model::default();
        model.stage(1, vec![create(), (1, batch(0, 2, false))]);
        model.stage(2, vec![(1, batch(2, 2, true))]);
        model.stage(3, vec![(1, batch(4, 1, false)), (1, Op::Note(7))]);
        model.stage(4, vec![(1, batch(5, 1, false))]);
        let log = &model.restart(3).logs[&1];
        assert_eq!(log.live_offsets(), BTreeSet::from([0, 1, 4]));
        assert_eq!((log.end, log.told.count), (5, 3));
    }

    #[test]
    fn drops_and_trims_make_offsets_dead() {
        let mut model = Model::default();
        model.stage(1, vec![create(), (1, batch(0, 10, false))]);
        model.stage(2, vec![(1, Op::Drop(vec![3..5, 20..30])), (1, Op::Trim(2))]);
        let log = &model.now.logs[&1];
        assert_eq!(log.live_offsets(), BTreeSet::from([2, 5, 6, 7, 8, 9]));
        assert_eq!(log.first_live(3), Some(5));
        assert_eq!(log.first_live(10), None);
    }

    #[test]
    fn what_was_acknowledged_is_promised() {
        let mut model = Model::default();
        model.stage(1, vec![create(), (1, batch(0, 10, false))]);
        assert_eq!(model.promised_end.get(&1), None);
        model.acknowledge(1);
        assert_eq!(model.promised_end.get(&1), Some(&10));
        assert_eq!(model.acknowledged_records(), 10);
    }
}
