//! One seed: a machine, a broker on it, a model beside it.

use std::{collections::BTreeMap, future::Future, path::Path, sync::Arc};

use broker::{
    Broker, BrokerOptions, Mode, Partition, Permission, StreamSettings, StreamSpec, faults::Faults,
    plain::Plain,
};
use env::Clock;
use model::{Formats, PartitionIndex, Result, Seq, StreamId};

use super::{
    credit::Shared,
    model::Model,
    streams::{CURSORS, EVENTS, SCRATCH, STREAMS, key, over_events, spec},
};
use crate::{Crash, Rates, Rng, SimWorld, Trace, Unanswered, storage::Report};

const DIR: &str = "/data";

/// One run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everything that happens follows from it.
    pub seed: u64,
    /// Operations.
    pub ops: u64,
    /// Whether the trace's text is kept.
    pub keep_trace: bool,
    /// A mistake of the broker, to see whether it is noticed.
    pub planted: Faults,
}

impl Settings {
    /// A thousand operations of `seed`, nothing planted.
    pub fn of(seed: u64) -> Self {
        Settings { seed, ops: 1000, keep_trace: false, planted: Faults::default() }
    }
}

/// One seed at work.
pub(super) struct Run {
    pub settings: Settings,
    pub world: SimWorld,
    pub rng: Rng,
    pub model: Model,
    pub broker: Option<Broker>,
    pub report: Report,
    pub next_id: u64,
    pub scratch: Option<StreamId>,
    /// The last incarnation of `scratch` whose deletion was answered.
    pub deleted: Option<StreamId>,
    /// The users and routes that must be there or must not; what was not answered is not in it.
    pub named: BTreeMap<String, bool>,
    /// What the users may do that must be there.
    pub people: BTreeMap<String, Vec<Permission>>,
    /// What the sessions of this boot share.
    pub shared: Shared,
    rates: Rates,
    crash_permille: u32,
}

/// Runs one seed and reports.
pub fn run(settings: &Settings) -> Report {
    let mut run = Run::new(settings.clone());
    if !run.open() {
        run.broken("the broker does not open on an empty disk".into());
    }
    for op in 0..settings.ops {
        if !run.report.broken.is_empty() {
            break;
        }
        run.step(op);
    }
    if run.report.broken.is_empty() {
        run.finish();
    }
    run.broker = None;
    run.report.fired = run.world.disk.fired();
    run.report.trace_hash = run.world.trace.hash();
    run.report.trace_text = run.world.trace.text();
    run.report
}

impl Run {
    fn new(settings: Settings) -> Self {
        let mut rng = Rng::new(settings.seed ^ 0xd1a1_ec70);
        let trace = Trace::new(settings.keep_trace);
        let world = SimWorld::new(rng.u64(), 256 << 20, trace.clone());
        let mut sometimes = |permille: u32, ppm: u32| if rng.permille(permille) { ppm } else { 0 };
        let rates = Rates {
            sync_failed_ppm: sometimes(200, 2_000),
            slow_sync_ppm: sometimes(300, 10_000),
            writeback_permille: sometimes(500, 250),
            ..Rates::default()
        };
        let crash_permille = rng.pick(&[2, 5, 10, 20]);
        Run {
            settings,
            world,
            rng,
            model: Model::new(trace.clone()),
            broker: None,
            report: Report::default(),
            next_id: 1,
            scratch: None,
            deleted: None,
            named: BTreeMap::new(),
            people: BTreeMap::new(),
            shared: Shared::new(),
            rates,
            crash_permille,
        }
    }

    fn step(&mut self, op: u64) {
        self.report.count("operations");
        self.world.trace.line(format_args!("op {op}"));
        if self.broker.is_none() && !self.open() {
            return;
        }
        if self.rng.permille(self.crash_permille) {
            let n = self.rng.below(60);
            self.world.disk.cut_power_in(Some(n));
        }
        self.act();
        for _ in 0..self.rng.pick(&[0, 0, 1, 2, 3, 5, 8]) {
            self.world.turn();
        }
        let failed = self.broker.as_ref().is_some_and(|broker| broker.failure().is_some());
        if !self.world.powered() || failed || self.rng.permille(self.crash_permille / 2) {
            self.end_boot();
        }
    }

    fn end_boot(&mut self) {
        if self.world.powered() && self.rng.permille(300) && self.settle() {
            self.close();
        }
        let crash = if self.rng.permille(600) { Crash::Power } else { Crash::Process };
        self.crash(crash);
    }

    fn close(&mut self) {
        let Some(broker) = self.broker.take() else { return };
        self.note("closed");
        if let Err(error) = broker.close()
            && self.world.powered()
            && broker.failure().is_none()
        {
            self.broken(format!("close: {error}"));
        }
    }

    pub fn crash(&mut self, crash: Crash) {
        self.note(match crash {
            Crash::Power => "crash: power",
            Crash::Process => "crash: process",
        });
        self.world.crash(crash);
        self.broker = None;
        self.shared = Shared::new();
    }

    /// A healthy disk, a last crash, a last look.
    fn finish(&mut self) {
        self.rates = Rates::default();
        self.world.disk.cut_power_in(None);
        self.crash(Crash::Power);
        if !self.open() {
            return self.broken("the broker does not open on a healthy disk".into());
        }
        if self.report.broken.is_empty() {
            self.compare();
        }
    }

    /// Starts the broker and compares what it brought back.
    fn open(&mut self) -> bool {
        self.world.disk.set_rates(Rates::default());
        let env = self.world.env();
        let mut formats = Formats::default();
        let opened = formats
            .register(Arc::new(Plain))
            .and_then(|()| Broker::open(env, Path::new(DIR), options(&self.settings), formats));
        let (broker, recovery) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.broken(format!("start refused: {error}"));
                return false;
            }
        };
        if !recovery.damaged.is_empty() {
            self.broken(format!("a start reports damage: {:?}", recovery.damaged));
        }
        // Nothing of this boot is durable before the first turn.
        let mut last = 0;
        while broker.durable(Seq(last + 1)).now().is_some_and(|known| known.is_ok()) {
            last += 1;
        }
        self.broker = Some(broker);
        if last < self.model.acknowledged {
            let acknowledged = self.model.acknowledged;
            self.broken(format!("unit {last} is the last after a start; {acknowledged} was acknowledged"));
            return false;
        }
        let found = self.model.restart(last);
        self.report.add_count("changes brought back", found);
        self.note("start");
        if let Err(error) = self.create_all() {
            self.broken(format!("the streams cannot be made: {error}"));
            return false;
        }
        self.after_start();
        self.world.disk.set_rates(self.rates);
        self.report.broken.is_empty()
    }

    fn create_all(&mut self) -> Result<()> {
        let Some(broker) = self.broker.clone() else { return Ok(()) };
        for stream in 0..STREAMS.len() {
            if broker.stream(&key(stream)).is_none() {
                self.wait(broker.create_stream(key(stream), spec(stream))).transpose()?;
            }
        }
        let over = over_events();
        if broker.stream(&over).is_none() {
            let settings =
                StreamSettings { over: Some(key(EVENTS)), mode: Mode::Queue, ..Default::default() };
            let spec = StreamSpec { settings, ..StreamSpec::with_partitions(1) };
            self.wait(broker.create_stream(over, spec)).transpose()?;
        }
        for cursor in 0..CURSORS.len() {
            let Some(seq) = self.open_work(cursor)?.map(|(_, seq)| seq) else { continue };
            self.wait(broker.durable(seq)).transpose()?;
        }
        // Whoever is of another incarnation was deleted and made again.
        let id = broker.stream(&key(SCRATCH)).map(|stream| stream.id());
        if id.is_some() && id == self.deleted {
            self.broken("a deleted stream is there again".into());
        }
        if id != self.scratch {
            self.scratch = id;
            self.model.forget_scratch();
        }
        Ok(())
    }

    /// The log of a stream.
    pub fn partition(&self, stream: usize) -> Option<Arc<Partition>> {
        let (_, partition) = STREAMS[stream];
        self.broker.as_ref()?.stream(&key(stream))?.partition(PartitionIndex(partition)).cloned()
    }

    /// Polls `future` while the machine goes on; `None` when the power went.
    pub fn wait<F: Future>(&mut self, future: F) -> Option<F::Output> {
        match self.world.wait(future) {
            Ok(output) => return Some(output),
            Err(Unanswered::PowerGone) => {}
            Err(Unanswered::Never) => self.broken("an answer never came".into()),
        }
        None
    }

    /// Waits until everything up to `seq` is durable; false when that is not known.
    pub fn durable(&mut self, seq: u64) -> bool {
        let Some(broker) = self.broker.clone() else { return false };
        match self.wait(broker.durable(Seq(seq))) {
            Some(Ok(())) => {
                self.model.acknowledged = self.model.acknowledged.max(seq);
                true
            }
            _ => false,
        }
    }

    /// Everything staged becomes durable.
    pub fn settle(&mut self) -> bool {
        self.durable(self.model.staged)
    }

    /// Whether a reader may be shown what is in this unit.
    pub fn is_durable(&self, seq: u64) -> bool {
        let Some(broker) = &self.broker else { return false };
        broker.durable(Seq(seq)).now().is_some_and(|known| known.is_ok())
    }

    pub fn now_ms(&self) -> i64 {
        self.world.clock.wall_ms()
    }

    /// A promise was broken.
    pub fn broken(&mut self, text: String) {
        self.world.trace.line(format_args!("BROKEN {text}"));
        self.report.broken.push(format!("broker seed {}: {text}", self.settings.seed));
    }

    /// Counts one of `what`, also in the trace.
    pub fn note(&mut self, what: &'static str) {
        self.world.trace.line(format_args!("{what}"));
        self.report.count(what);
    }
}

fn options(settings: &Settings) -> BrokerOptions {
    BrokerOptions {
        memory_budget_len: 64 << 20,
        wal_file_len: 256 << 10,
        uncheckpointed_len_max: 400_000,
        uncheckpointed_entries_max: 600,
        faults: settings.planted,
        ..BrokerOptions::default()
    }
}
