//! One seed: a machine, an engine on it, a model beside it, and random operations until enough was seen.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use env::Clock;
use model::{LogId, Seq};
use store::{Log, Store, wal::Class};

use super::{
    Report, Settings,
    model::{Model, ModelBatch},
    read::Held,
    settings::Knobs,
    state::{Heard, HeardCatalog},
    wait::Wait,
};
use crate::{Crash, Rates, Rng, SimWorld, Trace};

/// Where the engine lives on the simulated disk.
pub(super) const DIR: &str = "/data";

/// The engine of one boot.
pub(super) struct Engine {
    pub store: Store<Heard>,
    pub catalog: Arc<HeardCatalog>,
}

/// One seed at work.
pub(super) struct Run {
    pub settings: Settings,
    pub knobs: Knobs,
    pub world: SimWorld,
    pub rng: Rng,
    pub model: Model,
    pub engine: Option<Engine>,
    pub report: Report,
    /// Every batch ever staged, by log and base: what a slow reader may still be shown after it is gone.
    pub archive: BTreeMap<(u64, u64), ModelBatch>,
    /// Reads that were begun and not finished.
    pub held: Vec<Held>,
    /// Who waits for units.
    pub waits: Vec<Wait>,
    /// Ranges that were set aside while bits were wrong: they may stay so.
    pub aside: Vec<(LogId, std::ops::Range<model::Offset>)>,
    /// Ids of logs, all that were ever given out.
    pub log_ids: Vec<u64>,
    pub next_id: u64,
    /// A bit that is wrong on the disk right now.
    pub rotten: bool,
    /// Which one, if it is one, or a byte of the one sector that is dead.
    pub wrong_at: Option<(std::path::PathBuf, u64)>,
    /// It is a sector, which several logs may have records in.
    pub is_sector: bool,
    /// Whether it is in the file that says which format the rest has: nobody can guess that.
    pub is_format_wrong: bool,
    /// Durable positions that were seen: each is the end of a frame.
    pub frame_ends: std::collections::BTreeSet<u64>,
    /// Until the operation with this number, the disk is nearly full.
    pub full_until: Option<u64>,
    /// What the next start must say of how the engine ended; `None` where a start may have failed in between.
    pub closed: Option<bool>,
}

/// Runs one seed and reports.
pub fn run(settings: &Settings) -> Report {
    let mut run = Run::new(settings.clone());
    for op in 0..settings.ops {
        run.step(op);
        if !run.report.broken.is_empty() {
            break;
        }
    }
    if run.report.broken.is_empty() {
        run.finish();
    }
    run.close_report()
}

impl Run {
    fn new(settings: Settings) -> Self {
        let mut rng = Rng::new(settings.seed ^ 0x5157_5eed);
        let knobs = Knobs::random(&mut rng, &settings);
        let trace = Trace::new(settings.keep_trace);
        let world = SimWorld::new(rng.u64(), knobs.capacity, trace);
        world.disk.plant(settings.disk_planted);
        Run {
            settings,
            knobs,
            world,
            rng,
            model: Model::default(),
            engine: None,
            report: Report::default(),
            archive: BTreeMap::new(),
            held: Vec::new(),
            waits: Vec::new(),
            aside: Vec::new(),
            log_ids: Vec::new(),
            next_id: 1,
            rotten: false,
            wrong_at: None,
            is_sector: false,
            is_format_wrong: false,
            frame_ends: Default::default(),
            full_until: None,
            closed: None,
        }
    }

    /// One operation, some turns of the scheduler, and now and then the end of a boot.
    fn step(&mut self, op: u64) {
        self.report.count("operations");
        self.world.trace.line(format_args!("op {op}"));
        if self.engine.is_none() && !self.open() {
            return;
        }
        if self.full_until.is_some_and(|until| until <= op) {
            self.make_room();
        }
        self.act(op);
        let turns = self.rng.pick(&[0, 0, 1, 1, 2, 3, 5, 8, 20]);
        for _ in 0..turns {
            self.world.turn();
            self.hear();
        }
        let failed = self.engine.as_ref().is_some_and(|engine| engine.store.failure().is_some());
        if failed {
            self.report.count("failure latched");
            self.check_told_of_failure();
        }
        if !self.world.powered()
            || (failed && self.rng.permille(300))
            || self.rng.permille(self.knobs.crash_permille)
        {
            let crash = if self.rng.permille(600) { Crash::Power } else { Crash::Process };
            self.crash(crash);
        }
    }

    /// Once everything has run that can, nobody may wait for a unit of a failed engine any more.
    fn check_told_of_failure(&mut self) {
        let at_rest = (0..500).any(|_| self.world.turn() != crate::Turn::Ran);
        self.hear();
        if at_rest
            && self.world.powered()
            && let Some(fault) = self.waits.iter().find_map(Wait::fault_at_rest)
        {
            self.broken(fault);
        }
    }

    /// Takes note of what the engine has acknowledged by now, as long as it is there to be believed.
    pub fn hear(&mut self) {
        if !self.world.powered() {
            return;
        }
        let Some(store) = self.store() else { return };
        let durable = store.durable().0;
        if durable < self.model.acknowledged {
            self.broken(format!("the durable position went back to {durable}"));
        }
        self.model.acknowledge(durable);
        self.frame_ends.insert(durable);
        if let Some(wronged) = self.world.disk.wronged() {
            return self.broken(wronged);
        }
        let fault = self.waits.iter().find_map(|wait| wait.fault(&store));
        if let Some(fault) = fault {
            return self.broken(fault);
        }
        let over = self.waits.extract_if(.., |wait| wait.is_over()).count() as u64;
        self.report.add_count("waits checked", over);
    }

    /// The last words of a run: everything staged becomes durable, a clean close, and a last look after a power cut.
    fn finish(&mut self) {
        self.make_room();
        self.world.disk.cut_power_in(None);
        self.heal();
        if self.report.of("crash") == 0 || self.rng.permille(500) {
            self.crash(Crash::Power);
        }
        self.knobs.rates = Rates::default();
        self.world.disk.set_rates(Rates::default());
        self.reopen_at_last();
        if self.report.broken.is_empty() {
            self.settle_and_compare();
        }
        if self.report.broken.is_empty() {
            self.check_takes_publishes();
        }
        if self.report.broken.is_empty() {
            self.close_cleanly();
        }
        self.crash(Crash::Power);
        self.reopen_at_last();
    }

    /// Opens on a disk that is healthy now; only power cuts may still come between.
    fn reopen_at_last(&mut self) {
        for _ in 0..20 {
            if self.engine.is_some() || !self.report.broken.is_empty() {
                return;
            }
            self.open();
        }
        self.broken("the store does not open on a healthy disk".into());
    }

    fn close_report(mut self) -> Report {
        self.engine = None;
        self.held.clear();
        self.report.fired = self.world.disk.fired();
        self.report.trace_hash = self.world.trace.hash();
        self.report.trace_text = self.world.trace.text();
        self.report.add_count("disk operations", self.world.disk.ops());
        self.report
    }

    /// A promise was broken.
    pub fn broken(&mut self, text: String) {
        self.world.trace.line(format_args!("BROKEN {text}"));
        self.report.broken.push(format!("seed {}: {text}", self.settings.seed));
    }

    /// Counts one of `what`, also in the trace.
    pub fn note(&mut self, what: &'static str) {
        self.world.trace.line(format_args!("{what}"));
        self.report.count(what);
    }

    /// The engine, if it is open.
    pub fn store(&self) -> Option<Store<Heard>> {
        self.engine.as_ref().map(|engine| engine.store.clone())
    }

    /// Logs that the model says are there, with the engine's handle.
    pub fn logs(&self) -> Vec<(u64, Arc<Log<Heard>>)> {
        let Some(store) = self.store() else { return Vec::new() };
        let alive = self.model.now.logs.iter().filter(|(_, log)| !log.deleted);
        alive.filter_map(|(id, _)| Some((*id, store.log(LogId(*id))?))).collect()
    }

    /// The disk is as large again as it was.
    pub fn make_room(&mut self) {
        self.world.disk.set_capacity(self.knobs.capacity);
        self.full_until = None;
    }

    /// Turns until everything staged is durable, or the engine failed.
    pub fn settle(&mut self) -> bool {
        let Some(store) = self.store() else { return false };
        self.make_room();
        let staged = Seq(self.model.staged);
        let until_ns = self.world.clock.mono_ns() + 3_600_000_000_000;
        // What the engine staged of its own accord counts too: volatile records may wait for it.
        let quiet = |store: &Store<Heard>| {
            store.logs().iter().map(|log| log.bounds()).all(|bounds| bounds.durable_end == bounds.end)
        };
        let done =
            |store: &Store<Heard>| store.failure().is_some() || (store.durable() >= staged && quiet(store));
        for _ in 0..20_000 {
            if !self.world.powered() || done(&store) || self.world.clock.mono_ns() > until_ns {
                break;
            }
            if self.world.turn() == crate::Turn::Idle {
                break;
            }
        }
        self.hear();
        if !self.world.powered() || store.failure().is_some() {
            return false;
        }
        if store.durable() < staged {
            self.broken(format!("unit {staged} never became durable; durable is {}", store.durable()));
            return false;
        }
        true
    }

    /// On a healthy disk with room and nothing staged, whoever was refused is let in.
    fn check_takes_publishes(&mut self) {
        let Some(store) = self.store() else { return };
        let mut refused = None;
        for _ in 0..20_000 {
            if !self.world.powered() || store.failure().is_some() {
                return;
            }
            match store.reserve(1, Class::Publish) {
                Ok(_) => return self.report.count("publishes taken at last"),
                Err(error) => refused = Some(error),
            }
            // Each that is refused has the log look at the disk again, which it does once in a while.
            self.world.clock.advance_ns(10_000_000);
            if self.world.turn() == crate::Turn::Idle {
                self.world.clock.advance_ns(1_000_000_000);
            }
        }
        if let Some(error) = refused {
            self.broken(format!("publishers are refused on a healthy disk without end: {error}"));
        }
    }

    /// Closes the store as a shutdown does; the next start must find that it was in order.
    pub fn close_cleanly(&mut self) {
        self.held.clear();
        let Some(store) = self.store() else { return };
        self.note("close");
        if let Err(e) = store.close()
            && store.failure().is_none()
        {
            return self.broken(format!("close: {e}"));
        }
        self.hear();
        self.closed = (self.world.powered() && store.failure().is_none()).then_some(true);
    }

    /// The folder of the engine.
    pub fn dir() -> &'static Path {
        Path::new(DIR)
    }
}
