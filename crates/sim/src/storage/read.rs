//! Reads, and what must be true of whatever they answer.

use std::sync::Arc;

use model::{Error, ErrorKind, LogId, Offset};
use store::{Chunk, ColdRead, Log, Read, ReadLimits, Upto};

use crate::Paused;

use super::{
    model::ModelBatch,
    run::Run,
    state::{Heard, body},
};

/// A read that was begun and is not done.
pub(super) struct Held {
    asked: Asked,
    at: At,
}

enum At {
    /// It waits for its turn at the disk.
    Queue(ColdRead<Heard>),
    /// It stands in the middle of reading.
    Disk(Paused<Result<Chunk, Error>>),
}

/// What a read asked for, and how things stood then.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    log: u64,
    from: u64,
    /// Units up to here were acknowledged, so their records must be shown and what they removed must not.
    durable: u64,
    /// A bit was wrong then: what is found lost may have been healed, and gone, before the answer is looked at.
    rotten: bool,
}

/// Reads that wait at most: each may pin a file.
const HELD_MAX: usize = 6;

impl Run {
    /// Reads from a random place of a random log.
    pub fn read_somewhere(&mut self) {
        let logs = self.logs();
        if logs.is_empty() {
            return;
        }
        let (id, log) = logs[self.rng.index(logs.len())].clone();
        let bounds = log.bounds();
        let from = self.offset_near(id, bounds.start.0.saturating_sub(3), bounds.end.0 + 3);
        let limits = ReadLimits {
            bytes: self.rng.pick(&[1, 500, 5_000, 100_000]),
            records: self.rng.pick(&[1, 10, 1000]),
        };
        let upto = if self.rng.permille(500) { Upto::Durable } else { Upto::Stable };
        self.hear();
        let Some(store) = self.store() else { return };
        let asked = Asked { log: id, from, durable: self.model.acknowledged, rotten: self.rotten };
        match store.read(&log, Offset(from), limits, upto) {
            Ok(Read::Ready(chunk)) => {
                self.report.count("read: from memory");
                self.check_chunk(asked, &chunk);
            }
            Ok(Read::Cold(cold)) if self.held.len() < HELD_MAX && self.rng.permille(400) => {
                self.report.count("read: held back");
                self.held.push(Held { asked, at: At::Queue(cold) });
            }
            Ok(Read::Cold(cold)) => {
                self.report.count("read: from disk");
                let outcome = cold.run();
                self.check_outcome(asked, outcome);
            }
            Err(e) => self.check_refusal(asked, &e),
        }
    }

    /// Runs one of the reads that wait.
    pub fn finish_held(&mut self) {
        if self.held.is_empty() {
            return self.read_somewhere();
        }
        let Held { asked, at } = self.held.swap_remove(self.rng.index(self.held.len()));
        match at {
            At::Queue(cold) if self.rng.permille(300) => {
                self.report.count("read: after a while");
                let outcome = cold.run();
                self.check_outcome(asked, outcome);
            }
            At::Queue(cold) => {
                self.report.count("read: stands in the middle");
                self.go_on(asked, Paused::begin(|| cold.run()));
            }
            At::Disk(mut reading) => match reading.step() {
                Some(outcome) => self.check_outcome(asked, outcome),
                None if reading.is_done() => self.broken(format!("a read of log {} panicked", asked.log)),
                None => self.held.push(Held { asked, at: At::Disk(reading) }),
            },
        }
    }

    fn go_on(&mut self, asked: Asked, mut reading: Paused<Result<Chunk, Error>>) {
        if !reading.is_done() {
            return self.held.push(Held { asked, at: At::Disk(reading) });
        }
        match reading.step() {
            Some(outcome) => self.check_outcome(asked, outcome),
            None => self.broken(format!("a read of log {} panicked", asked.log)),
        }
    }

    fn check_outcome(&mut self, asked: Asked, outcome: Result<Chunk, Error>) {
        match outcome {
            Ok(chunk) => self.check_chunk(asked, &chunk),
            Err(e) => self.check_refusal(asked, &e),
        }
    }

    /// A read may fail for a reason that is there to see, and for no other.
    fn check_refusal(&mut self, asked: Asked, error: &Error) {
        if !self.world.powered() {
            return;
        }
        let deleted = self.model.now.logs.get(&asked.log).is_none_or(|log| log.deleted);
        match error.kind() {
            ErrorKind::Closed if deleted => self.report.count("read refused: deleted"),
            ErrorKind::Internal if self.knobs.rates.read_failed_ppm > 0 => {
                self.report.count("read refused: disk")
            }
            ErrorKind::Unavailable => self.report.count("read refused: moved too fast"),
            kind => self.broken(format!("read of log {} at {}: {kind:?}: {error}", asked.log, asked.from)),
        }
    }

    /// Everything that a chunk promises, against the model.
    fn check_chunk(&mut self, asked: Asked, chunk: &Chunk) {
        if !self.world.powered() {
            return;
        }
        self.hear();
        let Asked { log, from, durable, .. } = asked;
        self.report.count("reads checked");
        let mut shown = Vec::new();
        let mut wrong = None;
        let mut at = 0;
        for found in &chunk.batches {
            let batch = &found.batch;
            let Some(known) = self.archive.get(&(log, batch.base.0)) else {
                wrong = Some(format!("a batch at {} that was never written", batch.base));
                break;
            };
            if let Some(difference) = difference(known, batch) {
                wrong = Some(format!("batch at {}: {difference}", batch.base));
                break;
            }
            if batch.base.0 < at {
                wrong = Some(format!("batch at {} comes after {at}", batch.base));
                break;
            }
            at = batch.end().0;
            if !known.volatile && known.seq > self.model.acknowledged.max(self.durable_now()) {
                wrong = Some(format!("batch at {} of unit {} is not durable", batch.base, known.seq));
                break;
            }
            shown.push((known.clone(), found.dropped.clone()));
        }
        if wrong.is_none() {
            wrong = self.missing(asked, chunk, &shown);
        }
        if let Some(wrong) = wrong {
            return self.broken(format!("read of log {log} from {from} (durable {durable}): {wrong}"));
        }
        for (batch, _) in shown {
            self.report.add_count("records checked by reads", u64::from(batch.count));
            self.model.show(log, &batch);
        }
    }

    fn durable_now(&self) -> u64 {
        self.engine.as_ref().map_or(0, |engine| engine.store.durable().0)
    }

    /// What should have been in the chunk and is not, or should not and is.
    fn missing(
        &mut self,
        asked: Asked,
        chunk: &Chunk,
        shown: &[(ModelBatch, Option<store::Mask>)],
    ) -> Option<String> {
        let Some(log) = self.model.now.logs.get(&asked.log) else { return Some("no such log".into()) };
        let unfounded = |range: &&std::ops::Range<Offset>| {
            !self.may_be_lost(asked.log, range.start) || !self.may_be_lost(asked.log, Offset(range.end.0 - 1))
        };
        if let Some(range) = chunk.lost.iter().find(unfounded).filter(|_| !asked.rotten) {
            return Some(format!("{range:?} is reported lost on a healthy disk"));
        }
        if log.deleted {
            return None;
        }
        let is_lost = |offset: u64| chunk.lost.iter().any(|range| range.contains(&Offset(offset)));
        for (batch, dropped) in shown {
            for offset in batch.base..batch.end() {
                let masked = dropped.as_ref().is_some_and(|mask| mask.contains((offset - batch.base) as u32));
                let gone_by = log.dropped.get(&offset).copied();
                let trimmed = offset < log.trimmed;
                if masked && gone_by.is_none() && !trimmed {
                    return Some(format!("offset {offset} is masked and was never dropped"));
                }
                if !masked && offset >= asked.from && gone_by.is_some_and(|seq| seq <= asked.durable) {
                    let (first, end, seq) = (batch.base, batch.end(), batch.seq);
                    return Some(format!(
                        "offset {offset} was dropped by unit {gone_by:?} and is shown, in {first}..{end} of unit {seq}"
                    ));
                }
                if !masked && offset >= asked.from && offset < log.trimmed && log.trimmed_by <= asked.durable
                {
                    return Some(format!("offset {offset} was trimmed and is shown"));
                }
            }
        }
        let mut expected = log.batches.range(..chunk.next.0).map(|(_, batch)| batch);
        let absent = expected.find(|batch| {
            let live = |offset: &u64| *offset >= asked.from && *offset < chunk.next.0 && log.is_live(*offset);
            !batch.volatile
                && batch.seq <= asked.durable
                && batch.end() > asked.from
                && !shown.iter().any(|(found, _)| found.base == batch.base)
                && (batch.base..batch.end()).any(|offset| live(&offset) && !is_lost(offset))
        });
        absent.map(|batch| {
            format!("batch at {} of unit {} is missing before {}", batch.base, batch.seq, chunk.next)
        })
    }

    /// Looks for the first record at or after a time.
    pub fn search_somewhere(&mut self) {
        let logs = self.logs();
        if logs.is_empty() {
            return;
        }
        let (id, log) = logs[self.rng.index(logs.len())].clone();
        let Some(state) = self.model.now.logs.get(&id) else { return };
        let times: Vec<i64> = state.batches.values().map(|batch| batch.append_time_ms).collect();
        if times.is_empty() {
            return;
        }
        let at_ms = times[self.rng.index(times.len())] + self.rng.below(3) as i64 - 1;
        self.hear();
        self.check_search(id, &log, at_ms);
    }

    /// The answer is the first batch whose time is at or after `at_ms`, among those that are certain.
    fn check_search(&mut self, id: u64, log: &Arc<Log<Heard>>, at_ms: i64) {
        let Some(store) = self.store() else { return };
        let durable = self.model.acknowledged;
        let found = match store.search_time_blocking(log, at_ms, store::TimeOf::Append, Upto::Durable) {
            Ok(found) => found,
            Err(e) => {
                return self.check_refusal(Asked { log: id, from: 0, durable, rotten: self.rotten }, &e);
            }
        };
        if !self.world.powered() || self.rotten || !self.aside.is_empty() {
            return;
        }
        self.report.count("searches checked");
        let Some(state) = self.model.now.logs.get(&id) else { return };
        let live = |batch: &ModelBatch| (batch.base..batch.end()).any(|offset| state.is_live(offset));
        let due = |batch: &&ModelBatch| batch.append_time_ms >= at_ms && live(batch);
        let certain = |batch: &&ModelBatch| !batch.volatile && batch.seq <= durable;
        let first_certain = state.batches.values().filter(due).find(certain).map(|batch| batch.base);
        let found_base = found.as_ref().map(|found| found.batch.base.0);
        let late = match (found_base, first_certain) {
            (Some(found), Some(first)) => found > first,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        if late {
            return self.broken(format!(
                "log {id}: a search for {at_ms} found {found_base:?}; {first_certain:?} is earlier and durable"
            ));
        }
        if let Some(found) = found
            && found.batch.append_time_ms < at_ms
        {
            self.broken(format!("log {id}: a search for {at_ms} found {}", found.batch.append_time_ms));
        }
    }

    /// Reads all of a log and compares it with the model, which must be exact: nothing is under way.
    pub fn compare_whole(&mut self, id: u64, log: &Arc<Log<Heard>>) {
        let Some(store) = self.store() else { return };
        let limits = ReadLimits { bytes: self.rng.pick(&[2_000, 60_000, 1 << 20]), records: 10_000 };
        let (mut at, mut live) = (log.bounds().start, std::collections::BTreeSet::new());
        let mut lost = Vec::new();
        let mut retries = 0;
        loop {
            let asked = Asked { log: id, from: at.0, durable: self.model.acknowledged, rotten: self.rotten };
            let chunk = match store.read_blocking(log, at, limits, Upto::Durable) {
                Ok(chunk) => chunk,
                Err(e) => {
                    self.check_refusal(asked, &e);
                    retries += 1;
                    if retries > 50 || !self.report.broken.is_empty() || !self.world.powered() {
                        return;
                    }
                    continue;
                }
            };
            self.check_chunk(asked, &chunk);
            for found in &chunk.batches {
                let (base, end) = (found.batch.base.0, found.batch.end().0);
                let gone = |offset: u64| {
                    found.dropped.as_ref().is_some_and(|mask| mask.contains((offset - base) as u32))
                };
                live.extend((base.max(at.0)..end).filter(|offset| !gone(*offset)));
            }
            lost.extend(chunk.lost.iter().cloned());
            if !self.world.powered() || !self.report.broken.is_empty() {
                return;
            }
            if chunk.next >= chunk.bounds.durable_end {
                break;
            }
            if chunk.next <= at {
                return self.broken(format!("log {id}: a read at {at} does not move on"));
            }
            at = chunk.next;
        }
        let Some(state) = self.model.now.logs.get(&id) else { return };
        let mut expected = state.live_offsets();
        expected.retain(|offset| !lost.iter().any(|range| range.contains(&Offset(*offset))));
        live.retain(|offset| !lost.iter().any(|range| range.contains(&Offset(*offset))));
        self.report.add_count("records compared", expected.len() as u64);
        if live != expected {
            let missing: Vec<_> = expected.difference(&live).take(5).collect();
            let extra: Vec<_> = live.difference(&expected).take(5).collect();
            self.broken(format!("log {id}: live offsets differ: missing {missing:?}, too many {extra:?}"));
        }
    }

    /// The engine's handle of a log that must be there.
    pub fn handle(&mut self, id: u64) -> Option<Arc<Log<Heard>>> {
        let found = self.store()?.log(LogId(id));
        if found.is_none() {
            self.broken(format!("log {id} is missing"));
        }
        found
    }
}

/// How a batch differs from what was written, if it does.
pub(super) fn difference(known: &ModelBatch, found: &model::Batch) -> Option<String> {
    if found.count != known.count {
        return Some(format!("{} records instead of {}", found.count, known.count));
    }
    if found.append_time_ms != known.append_time_ms {
        return Some(format!("append time {} instead of {}", found.append_time_ms, known.append_time_ms));
    }
    (found.body != body(known.id, known.body_len)).then(|| "other bytes than were written".to_owned())
}
