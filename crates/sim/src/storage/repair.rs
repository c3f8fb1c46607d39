//! `wiremill repair --accept-loss` on a copy of a damaged disk: what is damaged is given up and named, everything else
//! reads, nothing is invented, and no offset is given out again.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use model::{FormatTag, LogId, Offset, Seq};
use store::{Durability, Log, NewBatch, ReadLimits, Recovery, Store, Upto, wal::Class};

use super::{
    model::{Op, State},
    read::difference,
    run::Run,
    state::{Heard, HeardCatalog, body},
};
use crate::{Crash, SimWorld};

/// What the engine does not serve of a log, and what it does.
#[derive(Default)]
struct Served {
    live: BTreeSet<u64>,
    lost: Vec<Range<Offset>>,
}

impl Run {
    /// Repairs a copy of the disk that the engine does not start on, and looks at all of it.
    pub fn repair_a_copy(&mut self) {
        let mut world = self.world.copy(self.rng.u64());
        let opened = self.knobs.open(
            world.env(),
            Run::dir(),
            Arc::new(HeardCatalog::default()),
            self.settings.planted,
            true,
        );
        let (store, recovery) = match opened {
            Ok(opened) => opened,
            Err(error) => return self.broken(format!("a repair does not open: {error}")),
        };
        self.note("repaired on a copy");
        self.check_named(&recovery);
        self.check_served(&store, &recovery);
        let appended = self.append_everywhere(&world, &store);
        if !self.report.broken.is_empty() {
            return;
        }
        if let Err(error) = store.close() {
            return self.broken(format!("a repaired store does not close: {error}"));
        }
        drop(store);
        world.crash(Crash::Process);
        let catalog = Arc::new(HeardCatalog::default());
        match self.knobs.open(world.env(), Run::dir(), catalog, self.settings.planted, false) {
            Ok((store, _)) => self.check_appended(&store, &appended),
            Err(error) => self.broken(format!("a repaired store does not open again: {error}")),
        }
    }

    /// One wrong bit is in one frame, and that frame's units are what is named, unless it is in the file's own header.
    fn check_named(&mut self, recovery: &Recovery) {
        if self.is_format_wrong && recovery.mended_format {
            return self.note("repair: the format file was written anew");
        }
        let is_silent = recovery.lost.is_empty() && recovery.damaged.is_empty();
        if is_silent && recovery.damaged_checkpoints.is_empty() {
            return self.broken("a repair names nothing as damaged".into());
        }
        let Some((path, at)) = self.wrong_at.clone() else { return };
        let lost = &recovery.lost;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let number = name.strip_suffix(".wal").and_then(|number| number.parse::<u64>().ok());
        let Some(number) = number.filter(|_| at >= 4096) else { return };
        let [one] = &lost[..] else {
            return self.broken(format!("one bit is wrong, at {at} of {name}, and {lost:?} is lost"));
        };
        if one.place.file != number || one.place.at > at {
            self.broken(format!("a bit is wrong at {at} of {name}, and {one:?} is named"));
        }
        let (first, last) = (one.first.0, one.last.0);
        if first <= last
            && let Some(end) = self.frame_ends.range(first..last).next()
        {
            self.broken(format!(
                "units {first} to {last} are lost, of more than the frame that ends at {end}"
            ));
        }
        self.report.count("repair: exactly one frame lost");
        self.report.add_count("repair: units lost", (last + 1).saturating_sub(first));
    }

    /// What must be there is, and what is there was.
    fn check_served(&mut self, store: &Store<Heard>, recovery: &Recovery) {
        let is_lost = |seq: u64| recovery.lost.iter().any(|lost| lost.first.0 <= seq && seq <= lost.last.0);
        let adds = |op: &Op| matches!(op, Op::Append(_) | Op::Create { .. } | Op::Advance(_));
        // A checkpoint may have any of what the lost units did.
        let last = store.durable().0;
        let least = self.model.folded(last, |seq, op| !is_lost(seq) || !adds(op));
        let most = self.model.folded(last, |seq, op| !is_lost(seq) || adds(op));
        let mut unread = 0;
        let ids: Vec<u64> = least.logs.iter().filter(|(_, log)| !log.deleted).map(|(id, _)| *id).collect();
        for id in ids {
            let Some(log) = store.log(LogId(id)) else {
                return self.broken(format!("log {id} is gone with a repair"));
            };
            let Some(served) = self.served(store, &log) else { return };
            if served.lost.iter().any(|range| !self.was_aside(id, range)) {
                unread += 1;
            }
            self.compare_served(id, &served, &least, &most);
        }
        if unread > 1 && self.wrong_at.is_some() && !self.is_sector {
            self.broken(format!("one bit is wrong, and {unread} logs have records that do not read"));
        }
    }

    fn was_aside(&self, id: u64, range: &Range<Offset>) -> bool {
        let aside = self.aside.iter().filter(|(log, _)| log.0 == id);
        aside.into_iter().any(|(_, known)| known.start <= range.start && range.end <= known.end)
    }

    fn compare_served(&mut self, id: u64, served: &Served, least: &State, most: &State) {
        let live = |state: &State| state.logs.get(&id).map(|log| log.live_offsets()).unwrap_or_default();
        let (must, may) = (live(least), live(most));
        let is_lost = |offset: &u64| served.lost.iter().any(|range| range.contains(&Offset(*offset)));
        let missing: Vec<_> =
            must.difference(&served.live).filter(|offset| !is_lost(offset)).take(5).collect();
        let extra: Vec<_> = served.live.difference(&may).take(5).collect();
        self.report.add_count("repair: records compared", must.len() as u64);
        if !missing.is_empty() || !extra.is_empty() {
            self.broken(format!("log {id} after a repair: missing {missing:?}, too many {extra:?}"));
        }
    }

    /// Reads all of a log. Every batch is as it was written.
    fn served(&mut self, store: &Store<Heard>, log: &Arc<Log<Heard>>) -> Option<Served> {
        let (id, mut served) = (log.id().0, Served::default());
        let limits = ReadLimits { bytes: 60_000, records: 10_000 };
        let mut at = log.bounds().start;
        while at < log.bounds().durable_end {
            let chunk = match store.read_blocking(log, at, limits, Upto::Durable) {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.broken(format!("log {id} does not read at {at} after a repair: {error}"));
                    return None;
                }
            };
            for found in &chunk.batches {
                let (base, end) = (found.batch.base.0, found.batch.end().0);
                let known = self.archive.get(&(id, base));
                if known.is_none_or(|known| difference(known, &found.batch).is_some()) {
                    self.broken(format!("log {id} after a repair: the batch at {base} was not written so"));
                }
                let gone = |offset: u64| {
                    found.dropped.as_ref().is_some_and(|mask| mask.contains((offset - base) as u32))
                };
                served.live.extend((base.max(at.0)..end).filter(|offset| !gone(*offset)));
            }
            served.lost.extend(chunk.lost.iter().cloned());
            if chunk.next <= at {
                self.broken(format!("log {id}: a read at {at} does not move on after a repair"));
                return None;
            }
            at = chunk.next;
        }
        Some(served)
    }

    /// Appends to every log: above everything that was promised of it, also of what is lost.
    fn append_everywhere(&mut self, world: &SimWorld, store: &Store<Heard>) -> Vec<(u64, Offset)> {
        let mut appended = Vec::new();
        let mut last = Seq(0);
        for log in store.logs() {
            let id = log.id();
            let Ok(permit) = store.reserve(200, Class::Drain) else { continue };
            let mut locked = store.lock(&[&log]);
            let Ok(mut own) = locked.log(id) else { continue };
            let base = own.append(NewBatch::new(1, FormatTag(7), body(u64::MAX, 20))).base;
            last = last.max(store.commit(permit, locked));
            let promised = self.model.promised_end.get(&id.0).copied().unwrap_or(0);
            if base.0 < promised {
                self.broken(format!(
                    "log {id}: a repair gives out offset {base} again; {promised} was promised"
                ));
            }
            self.report.count("repair: offsets checked");
            appended.push((id.0, base));
        }
        if !world.run_until(50_000, || store.durable() >= last) {
            self.broken("what is appended after a repair never becomes durable".into());
        }
        appended
    }

    /// The repaired store starts like any other, with what was appended since.
    fn check_appended(&mut self, store: &Store<Heard>, appended: &[(u64, Offset)]) {
        for (id, base) in appended {
            let Some(log) = store.log(LogId(*id)) else {
                return self.broken(format!("log {id} is gone with the start after a repair"));
            };
            let is_there = log.with(|core, _| core.durability() == Durability::Memory || core.is_live(*base));
            if !is_there {
                self.broken(format!(
                    "log {id}: {base}, appended after a repair, is gone with the next start"
                ));
            }
        }
    }
}
