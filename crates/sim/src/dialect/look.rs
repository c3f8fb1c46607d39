//! Looking without taking: reads, states of single records, counts, and records that nobody can read.

use broker::{ChunkBatch, ReadLimits, RecordState, WorkSpec};
use model::{ErrorKind, Offset, Record};

use super::{
    check::id_of,
    model::Rec,
    publish::row_of,
    run::Run,
    streams::{
        CURSOR_FLEETING, CURSOR_HOSE, CURSORS, FOREIGN, JOBS, MOVED_TO, SPILL, SPILLED, SPREAD, STREAMS,
        WANTED,
    },
};

impl Run {
    /// Looks at records without taking them.
    pub fn browse(&mut self) {
        let stream = self.rng.index(STREAMS.len());
        self.browse_stream(stream);
    }

    pub fn browse_stream(&mut self, stream: usize) {
        let (Some(broker), Some(partition)) = (self.broker.clone(), self.partition(stream)) else { return };
        let bounds = partition.bounds();
        let from = Offset(self.rng.between(bounds.start.0, bounds.stable_end.0));
        let Some(Ok(chunk)) = self.wait(broker.read(&partition, from, ReadLimits::bytes(500))) else {
            return;
        };
        if MOVED_TO.contains(&stream) {
            return;
        }
        for part in &chunk.batches {
            for (offset, id) in self.ids_in(stream, part) {
                self.report.count("records browsed");
                let known = self.model.now.records[stream].get(&offset).copied();
                self.model.used[stream] = self.model.used[stream].max(offset + 1);
                let Some(rec) = known.filter(|rec| Some(rec.id) == id) else {
                    self.broken(format!("stream {stream}: {offset} reads {id:?} instead of {known:?}"));
                    return;
                };
                if !rec.volatile && !self.is_durable(rec.seq) {
                    self.broken(format!("stream {stream}: {offset} was read before it was durable"));
                }
                self.check_row(stream, offset, &rec, part);
            }
        }
    }

    /// The records of a batch that are there: offset, and the number in the body.
    pub fn ids_in(&mut self, stream: usize, part: &ChunkBatch) -> Vec<(u64, Option<u64>)> {
        let Some(broker) = self.broker.clone() else { return Vec::new() };
        let batch = &part.batch;
        let is_gone = |index: u32| part.dropped.as_ref().is_some_and(|gone| gone.contains(index));
        let mut found = Vec::new();
        if stream == FOREIGN {
            let text = String::from_utf8_lossy(&batch.body).into_owned();
            let ids = (0..).zip(text.split(',')).filter(|(index, _)| !is_gone(*index));
            found.extend(ids.map(|(index, id)| (batch.base.0 + u64::from(index), id.parse().ok())));
            return found;
        }
        let read = broker.formats().read(batch, &mut |index, record: Record| {
            if !is_gone(index) {
                found.push((batch.base.0 + u64::from(index), id_of(&record)));
            }
            Ok(())
        });
        if let Err(error) = read {
            self.broken(format!("stored records do not read: {error}"));
        }
        found
    }

    /// What the broker decides on is stored as it was handed over.
    fn check_row(&mut self, stream: usize, offset: u64, rec: &Rec, part: &ChunkBatch) {
        if stream == FOREIGN {
            return;
        }
        let index = u32::try_from(offset - part.batch.base.0).unwrap_or(u32::MAX);
        let found = part.batch.attributes.of(index).cloned().unwrap_or_default();
        let mut expected = row_of(rec);
        if stream == SPILL {
            expected.route_key = Some(SPILLED.into());
        }
        if (SPREAD..FOREIGN).contains(&stream) {
            // By a route with a template of its own, or by its own key.
            expected.record_key.clone_from(&found.record_key);
        }
        if found != expected {
            self.broken(format!("stream {stream}: {offset} has {found:?} instead of {expected:?}"));
        }
    }

    /// What a cursor says of one record.
    pub fn look_at_a_state(&mut self) {
        let cursor = self.rng.index(CURSORS.len());
        let stream = CURSORS[cursor].0;
        let (Ok(Some((work, _))), Some(partition)) = (self.open_work(cursor), self.partition(stream)) else {
            return;
        };
        let known = &self.model.now.records[stream];
        let Some((offset, rec)) = known.iter().nth_back(self.rng.index(known.len().min(40))) else { return };
        let (offset, rec) = (*offset, *rec);
        // What is not readable yet, what another cursor wants, and what may be on its way elsewhere.
        let is_unsure = offset >= partition.bounds().stable_end.0
            || WANTED[cursor].is_some_and(|key| key != rec.key)
            || rec.is_over(self.now_ms())
            || matches!(stream, JOBS | super::streams::HOSE);
        if is_unsure {
            return;
        }
        let Ok(found) = work.state(Offset(offset)) else { return };
        let expected = self.expected_state(cursor, offset, &rec, found);
        self.report.count("states checked");
        if !expected {
            let state = &self.model.now.cursors[cursor];
            let (lease, due_ms) = (state.leases.get(&offset), state.due_ms.get(&offset));
            let attempts = state.attempts.get(&offset);
            self.broken(format!(
                "cursor {cursor}: {offset} is {found:?} at {}; {rec:?}, {lease:?}, {due_ms:?}, {attempts:?}",
                self.now_ms()
            ));
        }
    }

    fn expected_state(&self, cursor: usize, offset: u64, rec: &Rec, found: RecordState) -> bool {
        let state = &self.model.now.cursors[cursor];
        let now_ms = self.now_ms();
        let is_gone = self.model.now.gone[CURSORS[cursor].0].contains(&offset);
        if is_gone || state.is_settled(offset) {
            return found == RecordState::Settled;
        }
        if let Some(lease) = state.leases.get(&offset).filter(|lease| !lease.is_over(now_ms)) {
            let RecordState::Leased(known) = found else { return false };
            let told = (known.holder.0, known.deadline_ms, known.attempt, known.is_recorded);
            return told == (lease.holder, lease.deadline_ms, lease.attempt, lease.recorded);
        }
        let waits = state.due_ms.get(&offset).copied().filter(|due_ms| *due_ms > now_ms);
        let waits = waits.or(rec.deliver_at_ms.filter(|at| *at > now_ms));
        match (found, waits) {
            (RecordState::Delayed(until_ms), Some(due_ms)) => until_ms == due_ms,
            // Set back, or after a restart: found out when it is looked at.
            (RecordState::Ready { .. }, Some(_)) => rec.is_early(now_ms),
            // A close keeps what became of a volatile lease, a crash does not.
            (RecordState::Delayed(_), None) => !self.model.is_exact(cursor, offset),
            (RecordState::Ready { attempts }, None) => {
                let known = state.attempts.get(&offset).copied().unwrap_or(0);
                attempts == known || (!self.model.is_exact(cursor, offset) && attempts > known)
            }
            _ => false,
        }
    }

    /// At rest: how many records of each kind a cursor counts.
    pub fn compare_counts(&mut self) {
        for cursor in 0..CURSORS.len() {
            let is_moving = matches!(cursor, CURSOR_FLEETING | CURSOR_HOSE) || CURSORS[cursor].0 == JOBS;
            let Ok(Some((work, _))) = self.open_work(cursor) else { return };
            if is_moving || WANTED[cursor].is_some() {
                continue;
            }
            let Ok(found) = work.counts() else { return };
            let now_ms = self.now_ms();
            let state = &self.model.now.cursors[cursor];
            let (mut ready, mut leased, mut delayed, mut early, mut blurred) = (0, 0, 0, 0, 0);
            for (offset, rec) in self.model.now.unsettled(cursor) {
                let is_out = state.leases.get(&offset).is_some_and(|lease| !lease.is_over(now_ms));
                let waits = state.due_ms.get(&offset).is_some_and(|due_ms| *due_ms > now_ms);
                match (is_out, waits, rec.is_early(now_ms)) {
                    (true, ..) => leased += 1,
                    (_, true, _) => delayed += 1,
                    (.., true) => early += 1,
                    _ => {
                        ready += 1;
                        blurred += u64::from(!self.model.is_exact(cursor, offset));
                    }
                }
            }
            // What was set back waits from when it is looked at; what became of a volatile lease may be known or not.
            let is_right = found.leased == leased
                && found.ready + found.delayed == ready + delayed + early
                && (delayed..=delayed + early + blurred).contains(&found.delayed);
            self.report.count("counts compared");
            if !is_right {
                let expected = format!("ready {ready}, leased {leased}, delayed {delayed} and {early}");
                self.broken(format!("cursor {cursor} counts {found:?} instead of {expected} at {now_ms}"));
            }
        }
    }

    /// Records in a format that nobody registered are kept and reported, and never passed over.
    pub fn read_the_unknown(&mut self) {
        let (Some(broker), Some(partition)) = (self.broker.clone(), self.partition(FOREIGN)) else { return };
        let bounds = partition.bounds();
        if bounds.start >= bounds.stable_end {
            return;
        }
        let read = self.wait(broker.read(&partition, bounds.start, ReadLimits::bytes(500)));
        let Some(Ok(chunk)) = read else { return };
        let told = broker.records(&chunk).map_err(|error| error.kind());
        if !chunk.batches.is_empty() && told != Err(ErrorKind::Corrupt) {
            self.broken(format!("records of an unknown format read as {told:?}"));
        }
        let filter = vec!["0.*".to_owned()];
        let spec = WorkSpec { filter, start: Some(Offset(0)), ..WorkSpec::default() };
        let Ok((work, _)) = broker.open_work(&partition, "picky", spec) else { return };
        let ask = broker::LeaseAsk {
            holder: broker::HolderId(1),
            allowance: broker::Allowance::records(1),
            kind: broker::LeaseKind::Recorded,
            time: Default::default(),
        };
        match self.wait(work.lease(ask)) {
            Some(Ok(leased)) => {
                self.broken(format!("{} records of an unknown format were chosen from", leased.records));
            }
            Some(Err(error)) if error.kind() == ErrorKind::Corrupt => {
                self.report.count("unknown formats reported");
            }
            Some(Err(error)) if broker.failure().is_none() => {
                self.broken(format!("an unknown format is reported as {error}"));
            }
            _ => {}
        }
    }
}
