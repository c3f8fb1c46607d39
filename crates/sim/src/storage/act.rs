//! The operations of the workload.

use std::{ops::Range, sync::Arc};

use model::{ErrorKind, FormatTag, LogId, Offset};
use store::{
    Durability, NewBatch,
    wal::{Class, Permit},
};

use super::{
    model::{ModelBatch, Op, kind},
    run::Run,
    state::{HeardCatalog, body, note},
    wait::Wait,
};

/// Most logs that are alive at a time: few enough that each sees a lot.
const LOGS_MAX: usize = 8;

impl Run {
    /// One random operation.
    pub fn act(&mut self, op: u64) {
        match self.rng.below(100) {
            0..=3 => self.create_log(),
            4 => self.delete_log(),
            5..=54 => self.publish(),
            55..=59 => self.remove_records(),
            60..=62 => self.command(),
            63..=82 => self.read_somewhere(),
            83..=86 => self.finish_held(),
            87..=88 => self.search_somewhere(),
            89 => self.checkpoint(),
            90 => self.pass_time(),
            91 => self.arm_power_cut(),
            92 => self.settle_and_compare_bounds(),
            93 => self.fill_disk(op),
            94 => self.rot_or_heal(),
            95 => self.open_twice(),
            _ => self.churn(),
        }
    }

    fn new_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    /// Room for a unit, unless the engine has a good reason to refuse it.
    fn room(&mut self, len: usize, class: Class) -> Option<Permit> {
        let store = self.store()?;
        let refused = match store.reserve(len, class) {
            Ok(permit) => return Some(permit),
            Err(refused) => refused,
        };
        if !self.world.powered() {
            return None;
        }
        match refused.kind() {
            ErrorKind::Throttled => self.note("refused: queue full"),
            ErrorKind::Unavailable => self.note("refused: disk at its floor"),
            ErrorKind::Limit => self.note("refused: too large"),
            ErrorKind::Indeterminate if store.failure().is_some() => self.note("refused: failed before"),
            kind => self.broken(format!("a reservation failed with {kind:?}: {refused}")),
        }
        None
    }

    fn create_log(&mut self) {
        if self.logs().len() >= LOGS_MAX {
            return;
        }
        let (Some(store), Some(permit)) = (self.store(), self.room(64, Class::Drain)) else { return };
        let id = store.next_log_id();
        if self.log_ids.contains(&id.0) {
            let known = self.model.now.logs.contains_key(&id.0);
            if known {
                return self.broken(format!("log id {id} was given out again"));
            }
        }
        self.log_ids.push(id.0);
        let start = if self.rng.permille(800) { 0 } else { self.rng.below(1 << 40) };
        let durability = if self.rng.permille(750) { Durability::Fsync } else { Durability::Memory };
        match store.create_log(permit, id, Offset(start), durability) {
            Ok((_, seq)) => {
                self.note("create");
                self.model.stage(seq.0, vec![(id.0, Op::Create { start })]);
            }
            Err(e) => self.broken(format!("create of log {id}: {e}")),
        }
    }

    fn delete_log(&mut self) {
        let logs = self.logs();
        if logs.len() < 2 {
            return;
        }
        let (id, log) = logs[self.rng.index(logs.len())].clone();
        let (Some(store), Some(permit)) = (self.store(), self.room(64, Class::Drain)) else { return };
        let mut locked = store.lock(&[&log]);
        if let Ok(mut log) = locked.log(LogId(id)) {
            log.delete();
        }
        let seq = store.commit(permit, locked);
        self.note("delete");
        self.model.stage(seq.0, vec![(id, Op::Delete)]);
    }

    fn command(&mut self) {
        let Some(permit) = self.room(64, Class::Drain) else { return };
        let id = self.new_id();
        let Some(engine) = &self.engine else { return };
        let catalog = engine.catalog.clone();
        let seq = engine.store.command(permit, note(id), |seq| catalog.applied(seq, id));
        self.note("command");
        self.model.stage(seq.0, vec![(0, Op::Command(id))]);
    }

    /// A unit over several logs: appends, notes, drops, trims and gaps together.
    fn publish(&mut self) {
        let mut targets = Vec::new();
        let logs = self.logs();
        if logs.is_empty() {
            return;
        }
        for _ in 0..self.rng.pick(&[1, 1, 1, 2, 2, 3, 5]) {
            targets.push(logs[self.rng.index(logs.len())].clone());
        }
        let lens: Vec<usize> = targets.iter().map(|_| self.body_len()).collect();
        let len = lens.iter().map(|len| len + 64).sum::<usize>() + 64;
        let (Some(store), Some(permit)) = (self.store(), self.room(len, Class::Publish)) else { return };
        let handles: Vec<_> = targets.iter().map(|(_, log)| log).collect();
        let mut locked = store.lock(&handles);
        let mut ops = Vec::new();
        for ((id, _), len) in targets.iter().zip(lens) {
            let Ok(mut log) = locked.log(LogId(*id)) else { continue };
            if self.rng.permille(60) {
                let to = log.core().end().plus(self.rng.between(1, 50));
                log.advance(to);
                ops.push((*id, Op::Advance(to.0)));
            }
            let batch = self.append(*id, &mut log, len);
            self.archive.insert((*id, batch.base), batch.clone());
            ops.push((*id, Op::Append(batch)));
            if self.rng.permille(300) {
                let written = self.new_id();
                log.note(note(written));
                log.attached().tell(kind::NOTE, written);
                ops.push((*id, Op::Note(written)));
            }
            if self.rng.permille(80) {
                let ranges = self.ranges(log.core().start().0, log.core().end().0);
                log.drop_offsets(ranges.iter().map(|range| Offset(range.start)..Offset(range.end)).collect());
                ops.push((*id, Op::Drop(ranges)));
            }
        }
        let seq = store.commit(permit, locked);
        self.note("publish");
        if self.rng.permille(100) {
            self.waits.push(Wait::on(&store, seq));
        }
        let seq = seq.0;
        for (id, op) in &mut ops {
            if let Op::Append(batch) = op {
                batch.seq = seq;
                self.archive.insert((*id, batch.base), batch.clone());
            }
        }
        self.model.stage(seq, ops);
    }

    fn append(
        &mut self,
        id: u64,
        log: &mut store::LockedLog<'_, super::state::Heard>,
        len: usize,
    ) -> ModelBatch {
        let batch_id = self.new_id();
        let count = if self.rng.permille(700) { 1 } else { self.rng.between(2, 40) as u32 };
        let bytes = body(batch_id, len);
        let body_len = bytes.len();
        let mut batch = NewBatch::new(count, FormatTag(7), bytes);
        if self.rng.permille(self.knobs.mixed_permille) {
            let other = if self.rng.permille(500) { Durability::Fsync } else { Durability::Memory };
            batch.durability = Some(other);
        }
        let volatile = batch.durability.unwrap_or(log.core().durability()) == Durability::Memory;
        let end = log.core().end();
        let last_ms = log.core().last_append_time_ms();
        let appended = if self.rng.permille(40) {
            let base = end.plus(self.rng.between(0, 30));
            log.append_at(base, last_ms + self.rng.below(50) as i64, batch)
        } else {
            log.append(batch)
        };
        if appended.base < end {
            self.broken(format!("log {id}: offset {} was given below the end {end}", appended.base));
        }
        if self.model.promised_end.get(&id).is_some_and(|promised| appended.base.0 < *promised) {
            self.broken(format!("log {id}: offset {} was given out before and shown", appended.base));
        }
        if appended.append_time_ms < last_ms {
            self.broken(format!("log {id}: append time went back"));
        }
        if !volatile {
            log.attached().tell(kind::DATA, appended.base.0);
        }
        ModelBatch {
            base: appended.base.0,
            count,
            id: batch_id,
            body_len,
            append_time_ms: appended.append_time_ms,
            volatile,
            seq: 0,
        }
    }

    /// Drops, trims and advances without records.
    fn remove_records(&mut self) {
        let logs = self.logs();
        if logs.is_empty() {
            return;
        }
        let (id, log) = logs[self.rng.index(logs.len())].clone();
        let (Some(store), Some(permit)) = (self.store(), self.room(256, Class::Drain)) else { return };
        let mut locked = store.lock(&[&log]);
        let mut ops = Vec::new();
        if let Ok(mut log) = locked.log(LogId(id)) {
            let (start, end) = (log.core().start().0, log.core().end().0);
            if self.rng.permille(600) {
                let ranges = self.ranges(start, end);
                log.drop_offsets(ranges.iter().map(|range| Offset(range.start)..Offset(range.end)).collect());
                ops.push((id, Op::Drop(ranges)));
            } else {
                let to = self.offset_near(id, start, end).min(end);
                log.trim(Offset(to));
                ops.push((id, Op::Trim(to)));
            }
        }
        let seq = store.commit(permit, locked);
        self.note("remove");
        // Position 0: all of it was gone before, and nothing was written.
        if seq.0 > 0 {
            self.model.stage(seq.0, ops);
        }
    }

    /// Ascending, disjoint ranges among what is live; most are short.
    fn ranges(&mut self, start: u64, end: u64) -> Vec<Range<u64>> {
        let mut ranges = Vec::new();
        let mut at = start + self.rng.below((end - start).min(2000) + 1);
        for _ in 0..self.rng.between(1, 4) {
            let to = (at + self.rng.pick(&[1, 1, 2, 5, 30, 200])).min(end);
            if at < to {
                ranges.push(at..to);
            }
            at = to + self.rng.between(1, 20);
        }
        ranges
    }

    /// An offset of interest: at a batch's border, inside one, or anywhere.
    pub fn offset_near(&mut self, id: u64, start: u64, end: u64) -> u64 {
        let bases: Vec<u64> = match self.model.now.logs.get(&id) {
            Some(log) => log.batches.keys().copied().collect(),
            None => Vec::new(),
        };
        if bases.is_empty() || self.rng.permille(100) {
            return self.rng.between(start.min(end), end);
        }
        let base = bases[self.rng.index(bases.len())];
        base + self.rng.pick(&[0, 0, 0, 1, 3])
    }

    fn body_len(&mut self) -> usize {
        let most = match self.rng.below(100) {
            0..=59 => 200,
            60..=89 => 2_000,
            90..=97 => 12_000,
            _ => self.knobs.body_len_max,
        };
        8 + self.rng.index(most)
    }

    /// Lets the scheduler run for a while: queues drain, files seal, flushes happen.
    fn churn(&mut self) {
        for _ in 0..self.rng.between(10, 120) {
            if self.world.turn() == crate::Turn::Idle {
                break;
            }
            self.hear();
        }
    }

    fn pass_time(&mut self) {
        let ms = self.rng.pick(&[1, 50, 1_000, 60_000]);
        self.world.clock.advance_ns(ms * 1_000_000);
        if self.rng.permille(300) {
            self.note("wall clock jumped");
            let by_ms = self.rng.below(20_000) as i64 - 10_000;
            self.world.clock.jump_wall_ms(by_ms);
        }
    }

    fn arm_power_cut(&mut self) {
        if !self.rng.permille(self.knobs.cut_permille) {
            return;
        }
        let within = self.rng.pick(&[3, 10, 40, 150]);
        let n = self.rng.below(within);
        self.world.disk.cut_power_in(Some(n));
    }

    /// A second process on the same folder is refused at once, and is told who has it.
    fn open_twice(&mut self) {
        let env = self.world.env();
        let second =
            self.knobs.open(env, Run::dir(), Arc::new(HeardCatalog::default()), self.settings.planted, false);
        match second {
            _ if !self.world.powered() => {}
            Err(e) if e.kind() == ErrorKind::Unavailable && e.text().contains("in use by") => {
                self.note("second start refused");
            }
            Err(e) => self.broken(format!("a second start failed with {:?}: {e}", e.kind())),
            Ok(_) => self.broken("a second start succeeded".into()),
        }
    }

    fn rot_or_heal(&mut self) {
        if self.rotten && self.rng.permille(300) {
            self.heal();
        } else {
            self.rot_something();
        }
    }

    fn fill_disk(&mut self, op: u64) {
        if !self.knobs.full_disk || self.full_until.is_some() {
            return;
        }
        self.note("disk nearly full");
        let spare = self.rng.pick(&[0, 10_000, 100_000, 400_000]);
        self.world.disk.set_capacity(self.world.disk.used() + spare);
        self.full_until = Some(op + self.rng.between(5, 60));
    }
}

impl Run {
    fn checkpoint(&mut self) {
        let Some(store) = self.store() else { return };
        let flush = self.rng.permille(700);
        match store.checkpoint(flush) {
            Ok(true) => self.note("checkpoint made"),
            Ok(false) => self.note("checkpoint waits"),
            Err(e) => self.refused_work("checkpoint", &e),
        }
    }

    /// Background work may fail for a reason that is there to see.
    pub fn refused_work(&mut self, what: &str, error: &model::Error) {
        if self.world.powered() && !self.faults_on() {
            self.broken(format!("{what}: {:?}: {error}", error.kind()));
        }
    }
}
