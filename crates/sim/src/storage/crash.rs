//! Ends of boots, starts of new ones, and bits that rot in between.

use std::sync::Arc;

use model::{ErrorKind, Offset};

use super::{
    run::{Engine, Run},
    state::HeardCatalog,
};
use crate::{Crash, Rates, Rottable, SECTOR_LEN};

/// What the log is written in, bytes: the first page of a file is its own header.
const LOG_PAGE_LEN: u64 = 4_096;

impl Run {
    /// Ends the boot.
    pub fn crash(&mut self, crash: Crash) {
        self.note(match (crash, self.world.powered()) {
            (_, false) => "crash: power cut in an operation",
            (Crash::Power, true) => "crash: power cut",
            (Crash::Process, true) => "crash: process killed",
        });
        self.report.count("crash");
        self.remember_aside();
        // The disk forgets first: nothing that the engine does on its way out may count.
        self.world.crash(crash);
        self.engine = None;
        self.held.clear();
        self.waits.clear();
        if self.rng.permille(250) {
            self.rot(|_| false);
        }
    }

    /// While a bit is wrong, what is set aside may stay so for good.
    fn remember_aside(&mut self) {
        if self.rotten
            && let Some(store) = self.store()
        {
            self.aside.extend(store.damaged());
            self.aside.sort_by_key(|(log, range)| (*log, range.start, range.end));
            self.aside.dedup();
        }
    }

    /// Whether `offset` may be reported lost: a bit is wrong, or was when its range was set aside.
    pub fn may_be_lost(&self, log: u64, offset: Offset) -> bool {
        self.rotten || self.aside.iter().any(|(of, range)| of.0 == log && range.contains(&offset))
    }

    /// Starts the engine and compares what it brought back. False when there is no engine yet.
    pub fn open(&mut self) -> bool {
        if self.rng.permille(150) {
            let within = self.rng.pick(&[5, 30, 100]);
            let n = self.rng.below(within);
            self.world.disk.cut_power_in(Some(n));
        }
        let rates = if self.rng.permille(500) { self.knobs.rates } else { Rates::default() };
        self.world.disk.set_rates(rates);
        let was_closed = self.closed.take();
        let catalog = Arc::new(HeardCatalog::default());
        let env = self.world.env();
        let opened = self.knobs.open(env, Run::dir(), catalog.clone(), self.settings.planted, false);
        if !self.world.powered() {
            drop(opened);
            self.crash(Crash::Power);
            return false;
        }
        match opened {
            Ok((store, recovery)) => {
                self.note("start");
                self.count_recovery(&recovery);
                if was_closed.is_some_and(|was_closed| was_closed != recovery.closed_in_order) {
                    self.broken(format!(
                        "a start says that it was closed in order: {}",
                        recovery.closed_in_order
                    ));
                }
                self.closed = Some(false);
                let last = store.durable().0;
                self.engine = Some(Engine { store, catalog });
                self.compare_restart(last);
                self.world.disk.set_rates(self.knobs.rates);
                self.report.broken.is_empty()
            }
            Err(e) => {
                self.refused_start(&e, &rates);
                self.crash(Crash::Process);
                false
            }
        }
    }

    /// `rates` were in force.
    fn refused_start(&mut self, e: &model::Error, rates: &Rates) {
        match e.kind() {
            ErrorKind::Corrupt if self.rotten => {
                self.note("start refused: corrupt");
                self.repair_a_copy();
                self.heal();
            }
            // A wrong digit reads as the format of another version.
            ErrorKind::Invalid if self.rotten && self.is_format_wrong => {
                self.note("start refused: corrupt");
                self.heal();
            }
            ErrorKind::Corrupt => self.broken(format!("start refused on a disk without rot: {e}")),
            ErrorKind::Unavailable | ErrorKind::Internal | ErrorKind::Indeterminate
                if refuses(rates) || self.full_until.is_some() =>
            {
                self.note("start refused: disk");
                // Not for ever: the operator makes room, the controller is replaced.
                self.make_room();
            }
            kind => self.broken(format!("start refused: {kind:?}: {e}")),
        }
    }

    /// Whether the disk may refuse something.
    pub fn faults_on(&self) -> bool {
        refuses(&self.knobs.rates) || self.full_until.is_some()
    }

    fn count_recovery(&mut self, recovery: &store::Recovery) {
        self.report.add_count("units replayed", recovery.replayed_units);
        for (happened, what) in [
            (recovery.checkpoint.is_some(), "start: from a checkpoint"),
            (recovery.torn.is_some(), "start: cut a torn tail"),
            (recovery.skipped_logs > 0, "start: skipped reserved offsets"),
            (!recovery.damaged_checkpoints.is_empty(), "start: from an older checkpoint"),
            (!recovery.damaged.is_empty(), "start: ranges set aside"),
        ] {
            if happened {
                self.note(what);
            }
        }
        if !recovery.lost.is_empty() {
            self.broken(format!("a start reports {:?} as lost", recovery.lost));
        }
        let unfounded = |(log, range): &(model::LogId, std::ops::Range<Offset>)| {
            !self.may_be_lost(log.0, range.start) || !self.may_be_lost(log.0, Offset(range.end.0 - 1))
        };
        if recovery.damaged.iter().any(unfounded)
            || (!recovery.damaged_checkpoints.is_empty() && !self.rotten)
        {
            self.broken(format!("a start reports damage on a disk without rot: {recovery:?}"));
        }
    }

    /// What must be true after a start whose last unit is `last`.
    fn compare_restart(&mut self, last: u64) {
        let (acknowledged, shown) = (self.model.acknowledged, self.model.shown);
        if last < acknowledged {
            return self
                .broken(format!("unit {last} is the last after a start; {acknowledged} was acknowledged"));
        }
        if last < shown {
            return self.broken(format!("unit {last} is the last after a start; a reader was shown {shown}"));
        }
        self.report.add_count("acknowledged records checked", self.model.acknowledged_records());
        self.model.restart(last);
        let expected = self.model.now.clone();
        self.compare_catalog(&expected);
        let Some(store) = self.store() else { return };
        let found: Vec<u64> = store.logs().iter().map(|log| log.id().0).collect();
        let alive: Vec<u64> =
            expected.logs.iter().filter(|(_, log)| !log.deleted).map(|(id, _)| *id).collect();
        if found != alive {
            return self.broken(format!("logs {found:?} after a start instead of {alive:?}"));
        }
        for id in alive {
            let Some(log) = self.handle(id) else { return };
            let bounds = log.bounds();
            let state = &expected.logs[&id];
            let promised = self.model.promised_end.get(&id).copied().unwrap_or_default();
            if bounds.end.0 < state.end.max(promised) {
                return self.broken(format!(
                    "log {id} ends at {} after a start instead of {} or later; {promised} was promised",
                    bounds.end, state.end
                ));
            }
            if bounds.end.0 > state.end {
                self.report.count("start: went on above reserved offsets");
            }
            let epoch = log.with(|core, _| core.epoch());
            if let Some(before) = self.model.epochs.insert(id, epoch).filter(|before| *before > epoch) {
                return self
                    .broken(format!("log {id} is in epoch {epoch} after a start; it was in {before}"));
            }
            self.model.restarted_at(id, bounds.end.0);
            let (told, unread) = log.with(|_, heard| (heard.told, heard.unread));
            if unread > 0 && !self.rotten {
                return self.broken(format!("log {id} has state that does not read on a disk without rot"));
            }
            if told != state.told {
                return self.broken(format!("log {id} was told {told:?} instead of {:?}", state.told));
            }
            self.compare_bounds(id, bounds);
            self.compare_whole(id, &log);
            if !self.report.broken.is_empty() || !self.world.powered() {
                return;
            }
        }
    }

    fn compare_catalog(&mut self, expected: &super::model::State) {
        let told = self.engine.as_ref().map(|engine| engine.catalog.told()).unwrap_or_default();
        if told != expected.catalog {
            self.broken(format!("the catalog was told {told:?} instead of {:?}", expected.catalog));
        }
    }

    /// A log's bounds against the model, with nothing staged.
    pub fn compare_bounds(&mut self, id: u64, bounds: store::Bounds) {
        let Some(state) = self.model.now.logs.get(&id) else { return };
        let first = state.first_live(0).unwrap_or(bounds.end.0);
        let ordered = bounds.start <= bounds.stable_end && bounds.stable_end <= bounds.durable_end;
        if !ordered || bounds.durable_end > bounds.end {
            return self.broken(format!("log {id}: bounds out of order: {bounds:?}"));
        }
        if bounds.start > Offset(first) || bounds.start.0 < state.trimmed.min(bounds.end.0) {
            let trimmed = state.trimmed;
            self.broken(format!(
                "log {id} starts at {}; first live {first}, trimmed to {trimmed}",
                bounds.start
            ));
        }
    }

    /// Waits until everything is durable and compares everything.
    pub fn settle_and_compare(&mut self) {
        if !self.settle() {
            return;
        }
        self.report.count("settled and compared");
        for (id, log) in self.logs() {
            let bounds = log.bounds();
            if bounds.durable_end != bounds.end {
                return self.broken(format!("log {id}: nothing is under way, yet {bounds:?}"));
            }
            self.compare_bounds(id, bounds);
            self.compare_whole(id, &log);
            if !self.report.broken.is_empty() || !self.world.powered() {
                return;
            }
        }
    }

    /// Like [`Run::settle_and_compare`] for the cheap part.
    pub fn settle_and_compare_bounds(&mut self) {
        if !self.settle() {
            return;
        }
        for (id, log) in self.logs() {
            let end = self.model.now.logs.get(&id).map_or(0, |log| log.end);
            let bounds = log.bounds();
            if bounds.end.0 != end || bounds.durable_end != bounds.end {
                return self.broken(format!("log {id}: {bounds:?} instead of an end of {end}"));
            }
            self.compare_bounds(id, bounds);
        }
    }

    /// Flips one bit where that is fair, unless one is flipped already. Nothing that comes of it may be silent.
    pub fn rot_something(&mut self) {
        self.rot(|path| !path.starts_with(Run::dir().join("wal")));
    }

    /// The same; files of which `whole` says so rot anywhere, the others below what a later frame proves.
    fn rot(&mut self, whole: fn(&std::path::Path) -> bool) {
        if !self.knobs.rot || self.rotten {
            return;
        }
        let mut places = self.world.disk.rottable(Run::dir(), whole);
        if self.rng.permille(400) {
            // Where most of what matters is.
            places.retain(|place| place.path.starts_with(Run::dir().join("wal")));
        }
        if places.is_empty() {
            return;
        }
        let place = places[self.rng.index(places.len())].clone();
        let at = if self.rng.permille(200) {
            self.rng.below(place.below.min(64))
        } else {
            self.rng.below(place.below)
        };
        self.is_sector = false;
        self.is_format_wrong = place.path.ends_with("FORMAT");
        if self.rng.permille(300) {
            return self.misdirect(&place);
        }
        let is_whole = (at / SECTOR_LEN as u64 + 1) * SECTOR_LEN as u64 <= place.below;
        // Which units a file of the log has is known from the header of its first frame: without it, a repair serves none.
        let is_first_frame = place.path.extension().is_some_and(|of| of == "wal")
            && (LOG_PAGE_LEN..2 * LOG_PAGE_LEN).contains(&at);
        if is_whole && !is_first_frame && self.rng.permille(300) {
            return self.kill_sector(place.path, at);
        }
        let bit = self.rng.below(8) as u8;
        if self.world.disk.rot(&place.path, at, bit).is_ok() {
            self.note("rot");
            self.rotten = true;
            self.wrong_at = Some((place.path, at));
        }
    }

    fn kill_sector(&mut self, path: std::path::PathBuf, at: u64) {
        if self.world.disk.kill(&path, at).is_ok() {
            self.note("dead sector");
            self.rotten = true;
            self.wrong_at = Some((path, at));
            self.is_sector = true;
        }
    }

    /// A write within the place landed elsewhere in it.
    fn misdirect(&mut self, place: &Rottable) {
        let sectors = place.below / SECTOR_LEN as u64;
        if sectors < 2 {
            return;
        }
        let count = self.rng.between(1, 3).min(sectors / 2);
        let from = self.rng.below(sectors - count + 1);
        let to = self.rng.below(sectors - count + 1);
        if from.abs_diff(to) < count {
            return;
        }
        let (sector_len, len) = (SECTOR_LEN as u64, count as usize * SECTOR_LEN);
        if self.world.disk.misdirect(&place.path, from * sector_len, to * sector_len, len).is_ok() {
            self.note("misdirected write");
            self.rotten = true;
            self.wrong_at = None;
        }
    }

    /// Repairs the bit, if one is wrong.
    pub fn heal(&mut self) {
        self.remember_aside();
        if std::mem::take(&mut self.rotten) {
            self.world.disk.heal();
            self.note("healed");
        }
    }
}

/// Whether a disk with these may refuse something.
fn refuses(rates: &Rates) -> bool {
    let Rates { sync_failed_ppm, sync_full_ppm, write_failed_ppm, read_failed_ppm, .. } = rates;
    sync_failed_ppm + sync_full_ppm + write_failed_ppm + read_failed_ppm > 0
}
