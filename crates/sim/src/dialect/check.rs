//! What is compared with the model: after a start what is there, and at rest everything.

use std::collections::BTreeMap;

use broker::{Broker, CursorKey, Partition, ReadLimits};
use model::{ErrorKind, Namespace, Offset, Record};

use super::{
    model::Rec,
    run::Run,
    streams::{CURSORS, EVENTS, FLEETING, HOSE, INTEREST, JOBS, MOVED_TO, STREAMS},
};

/// Positions that the workload keeps on `events`.
pub(super) const POSITIONS: [&str; 2] = ["reader", "other"];

/// The number in a record's body.
pub(super) fn id_of(record: &Record) -> Option<u64> {
    std::str::from_utf8(record.body.as_ref()?).ok()?.parse().ok()
}

impl Run {
    /// After a start: positions, leases, names.
    pub fn after_start(&mut self) {
        let Some(broker) = self.broker.clone() else { return };
        self.check_positions(&broker);
        for cursor in 0..CURSORS.len() {
            self.check_leases(cursor);
        }
        let named = self.named.clone();
        for (name, expected) in named {
            let found = match name.strip_prefix("route:") {
                Some(token) => !broker.routed(&Namespace::default(), "neutral", token).is_empty(),
                None => broker.users().list().iter().any(|user| user.name == name),
            };
            if found != expected {
                self.broken(format!("{name} is there: {found} instead of {expected}"));
            }
        }
    }

    fn check_positions(&mut self, broker: &Broker) {
        let Some(partition) = self.partition(EVENTS) else { return };
        for (at, name) in POSITIONS.iter().enumerate() {
            let cursor = CursorKey::new(&Namespace::default(), name);
            let found = broker.position(&cursor, &partition).map(|position| position.offset.0);
            let expected = self.model.now.positions.get(&at).copied();
            if found != expected {
                self.broken(format!("position {name} is {found:?} instead of {expected:?}"));
            }
        }
    }

    /// Recorded leases are there with all that was said of them, and no others are.
    fn check_leases(&mut self, cursor: usize) {
        let Ok(Some((work, _))) = self.open_work(cursor) else { return };
        let Ok(views) = work.leases(Offset(0), usize::MAX) else { return };
        let now_ms = self.now_ms();
        let mut found = BTreeMap::new();
        for view in views {
            for offset in view.span.start.0..view.span.end.0 {
                found.insert(offset, (view.holder.0, view.deadline_ms, view.attempt));
            }
        }
        let expected = self.model.now.cursors[cursor].leases.clone();
        for (offset, lease) in &expected {
            let is_over = lease.deadline_ms.is_some_and(|at| at <= now_ms);
            let told = (lease.holder, lease.deadline_ms, lease.attempt);
            let is_live = self.model.now.records[CURSORS[cursor].0].contains_key(offset);
            match found.get(offset) {
                Some(known) if *known == told => self.report.count("recorded leases brought back"),
                None if is_over || !is_live => {}
                other => {
                    self.broken(format!("cursor {cursor}: {offset} is leased {other:?} instead of {told:?}"))
                }
            }
        }
        // A lease that ran out before the crash is there until somebody looks at the time.
        found.retain(|offset, (_, deadline_ms, _)| {
            !expected.contains_key(offset) && deadline_ms.is_none_or(|at| at > now_ms)
        });
        if let Some(offset) = found.keys().next() {
            self.broken(format!("cursor {cursor}: {offset} is leased after a start, and nobody was told"));
        }
    }

    /// Everything that a stream holds, by offset.
    pub fn read_all(
        &mut self,
        broker: &Broker,
        stream: usize,
        partition: &Partition,
    ) -> Option<BTreeMap<u64, u64>> {
        let mut found = BTreeMap::new();
        let mut from = partition.bounds().start;
        loop {
            let chunk = match self.wait(broker.read(partition, from, ReadLimits::bytes(20_000)))? {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == ErrorKind::NotFound && from < partition.bounds().start => {
                    from = partition.bounds().start;
                    continue;
                }
                Err(error) => {
                    self.broken(format!("a read failed: {error}"));
                    return None;
                }
            };
            for part in &chunk.batches {
                let ids = self.ids_in(stream, part).into_iter();
                found.extend(ids.map(|(offset, id)| (offset, id.unwrap_or(0))));
            }
            if chunk.next <= from {
                return Some(found);
            }
            from = chunk.next;
        }
    }

    /// Compares everything, at rest.
    pub fn compare(&mut self) {
        if !self.settle() {
            return;
        }
        let Some(broker) = self.broker.clone() else { return };
        self.note("compared");
        self.compare_counts();
        for stream in (0..STREAMS.len()).filter(|stream| !is_moving(*stream)) {
            let Some(partition) = self.partition(stream) else { return };
            let Some(found) = self.read_all(&broker, stream, &partition) else { return };
            self.report.add_count("records compared", found.len() as u64);
            if stream == INTEREST {
                self.compare_interest(&found);
                continue;
            }
            let expected: BTreeMap<u64, u64> =
                self.model.now.live(stream).map(|(offset, rec)| (offset, rec.id)).collect();
            self.same(STREAMS[stream].0, &found, &expected);
        }
        self.compare_moved(&broker);
        self.check_positions(&broker);
    }

    fn same(&mut self, what: &str, found: &BTreeMap<u64, u64>, expected: &BTreeMap<u64, u64>) {
        if found == expected {
            return;
        }
        let missing: Vec<_> = expected.iter().filter(|(at, id)| found.get(at) != Some(id)).take(5).collect();
        let surplus: Vec<_> = found.iter().filter(|(at, id)| expected.get(at) != Some(id)).take(5).collect();
        self.broken(format!("{what}: missing {missing:?}, not to be there {surplus:?}"));
    }

    /// A stream by interest has what a cursor still wants, and nothing that was not published.
    fn compare_interest(&mut self, found: &BTreeMap<u64, u64>) {
        let records = self.model.now.records[INTEREST].clone();
        let wanted: Vec<(u64, Rec)> =
            self.model.now.unsettled(6).chain(self.model.now.unsettled(7)).collect();
        for (offset, rec) in wanted {
            if found.get(&offset) != Some(&rec.id) {
                self.broken(format!("interest: {offset} is wanted, and gone"));
            }
        }
        for (offset, id) in found {
            if records.get(offset).map(|rec| rec.id) != Some(*id) {
                self.broken(format!("interest: {offset} holds {id}, which was not published there"));
            }
        }
    }
}

/// Whether records come to or leave the stream without being asked.
pub(super) fn is_moving(stream: usize) -> bool {
    MOVED_TO.contains(&stream) || matches!(stream, JOBS | FLEETING | HOSE)
}
