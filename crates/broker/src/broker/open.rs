//! Start and stop.

use std::{collections::HashSet, path::Path, sync::Arc};

use env::Env;
use model::{Formats, LogId, Offset, PartitionIndex, Result};
use store::{CATALOG, Class, Durability};

use super::{Broker, Inner};
use crate::{
    catalog::{Catalog, Command},
    engine,
    log_state::room::LogRoom,
    options::BrokerOptions,
    retention,
    work::{due, moves},
};

/// What a start found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Units that were replayed from the write-ahead log.
    pub replayed_units: u64,
    /// Whoever had the directory last closed it in order, or nobody had it.
    pub closed_in_order: bool,
    /// A torn tail that was cut, in words.
    pub torn: Option<String>,
    /// What is damaged and not served, in words.
    pub damaged: Vec<String>,
    /// How long it took, milliseconds.
    pub took_ms: u64,
}

impl Broker {
    /// Opens the data directory `dir`, creating it when it is not there. [`model::ErrorKind::Unavailable`] when another
    /// process holds it, [`model::ErrorKind::Corrupt`] when bytes that were acknowledged do not read.
    pub fn open(
        env: Env,
        dir: &Path,
        options: BrokerOptions,
        formats: Formats,
    ) -> Result<(Broker, RecoveryReport)> {
        let began_ns = env.clock.mono_ns();
        let catalog = Arc::new(Catalog::new());
        let (store, recovery) = engine::open(&env, dir, &options, catalog.clone())?;
        let dedup_room = LogRoom::new(options.dedup_len_max());
        let producer_room = LogRoom::new(options.producers_len_max());
        let inner = Inner {
            env,
            formats,
            options,
            store,
            catalog,
            cursors: Default::default(),
            memberships: Default::default(),
            redirects: Default::default(),
            addresses: Default::default(),
            successors: Default::default(),
            user_watchers: Default::default(),
            users_generation: Default::default(),
            producer_ids: Default::default(),
            passwords: Default::default(),
            retention: Default::default(),
            due: Default::default(),
            halfway: Default::default(),
            patience: Default::default(),
            moves: Default::default(),
            counters: Default::default(),
            routes: Default::default(),
            decoded: Default::default(),
            dedup_room,
            producer_room,
            was_closed_in_order: recovery.closed_in_order,
            tenants: Default::default(),
        };
        let broker = Broker { inner: Arc::new(inner) };
        let mut report = RecoveryReport::default();
        report_recovery(&mut report, &recovery);
        broker.start(&mut report, recovery.start_of_missing())?;
        broker.load_routes()?;
        broker.load_moves()?;
        retention::start(&broker);
        due::start(&broker);
        moves::start(&broker);
        let took_ns = broker.env().clock.mono_ns().saturating_sub(began_ns);
        report.took_ms = took_ns / 1_000_000;
        Ok((broker, report))
    }

    /// Brings catalog and logs together: a crash may have come between a command and what follows from it, and a repair may
    /// have given up either. Logs that are missing begin at `begin`.
    fn start(&self, report: &mut RecoveryReport, begin: Offset) -> Result<()> {
        let mut state = self.catalog().lock();
        self.store().used_log_id(state.log_id_max);
        if state.incarnation == 0 {
            let random = &self.env().random;
            let command = Command::Init { incarnation: random.u128(), secret: random.u128() };
            self.command(&mut state, command)?;
        }
        let streams: Vec<_> = state.streams.values().cloned().collect();
        // Queues over logs come last: they have the partitions of others.
        let (over, own): (Vec<_>, Vec<_>) =
            streams.iter().cloned().partition(|stream| stream.settings().over.is_some());
        for stream in own.iter().chain(&over) {
            if let Some(base) = &stream.settings().over
                && !state.streams.contains_key(base)
            {
                report.damaged.push(format!("{} is over {base}, which is not there", stream.key()));
                continue;
            }
            let missing = stream.logs().iter().filter(|log| self.store().log(**log).is_none()).count();
            // Each begins with a note.
            let permits =
                (0..missing * 2).map(|_| self.store().reserve(0, Class::Drain)).collect::<Result<_>>()?;
            self.make_logs(&mut state, stream.id(), (permits, begin), &[])?;
        }
        let doomed: Vec<LogId> = state.doomed.iter().copied().collect();
        if !doomed.is_empty() {
            self.delete_logs(&doomed)?;
            self.command(&mut state, Command::LogsGone(doomed))?;
        }
        drop(state);
        let known: HashSet<LogId> = streams.iter().flat_map(|stream| stream.logs()).copied().collect();
        self.judge_strangers(&known, report)?;
        let damaged = self.store().damaged();
        report.damaged.extend(
            damaged.iter().map(|(log, range)| format!("offsets {}..{} of log {log}", range.start, range.end)),
        );
        for stream in &own {
            for (index, partition) in (0..).map(PartitionIndex).zip(stream.partitions()) {
                self.index_positions(stream.id(), index, partition);
                if partition.log().with(|_, state| state.expiries.is_some()) {
                    self.schedule(partition);
                }
            }
        }
        Ok(())
    }

    /// Logs that no stream has: those of transient streams go, others are kept and reported, because nothing is
    /// deleted only since its catalog entry is missing.
    fn judge_strangers(&self, known: &HashSet<LogId>, report: &mut RecoveryReport) -> Result<()> {
        let mut transient = Vec::new();
        for log in self.store().logs().iter().filter(|log| !known.contains(&log.id())) {
            match log.with(|core, _| core.durability()) {
                Durability::Memory => transient.push(log.id()),
                Durability::Fsync => {
                    report.damaged.push(format!("log {} belongs to no stream; it is kept", log.id()))
                }
            }
        }
        self.delete_logs(&transient)
    }

    fn delete_logs(&self, ids: &[LogId]) -> Result<()> {
        for id in ids {
            let Some(log) = self.store().log(*id) else { continue };
            let permit = self.store().reserve(0, Class::Drain)?;
            let mut locked = self.store().lock(&[&log]);
            locked.log(*id)?.delete();
            self.store().commit(permit, locked);
        }
        Ok(())
    }

    /// Whether whoever had the data directory before this start closed it in order, or nobody had it: else what only memory
    /// knew is lost.
    pub fn was_closed_in_order(&self) -> bool {
        self.inner.was_closed_in_order
    }

    /// Takes nothing new, makes everything staged durable, writes a checkpoint, stops the workers. Blocks.
    pub fn close(&self) -> Result<()> {
        self.inner.retention.stop();
        self.inner.due.stop();
        self.inner.moves.stop();
        self.store().close()
    }
}

fn torn(place: store::wal::Place, len: u64) -> String {
    format!("{len} bytes from position {} of log file {} on", place.at, place.file)
}

fn lost(lost: &store::wal::Lost) -> String {
    let store::wal::Lost { place, first, last, logs } = lost;
    let logs: Vec<String> = logs.iter().map(ToString::to_string).collect();
    let logs = if logs.is_empty() { "unknown".to_owned() } else { logs.join(", ") };
    let (at, file) = (place.at, place.file);
    format!("units {first} to {last}, from position {at} of log file {file} on; logs concerned: {logs}")
}

fn unapplied(unapplied: &store::Unapplied) -> String {
    let store::Unapplied { log, first, count, why } = unapplied;
    let whose = if *log == CATALOG { "the catalog".to_owned() } else { format!("log {log}") };
    format!("{count} changes of {whose}, the first in unit {first}, rest on what is lost: {why}")
}

fn report_recovery(report: &mut RecoveryReport, recovery: &store::Recovery) {
    report.replayed_units = recovery.replayed_units;
    report.closed_in_order = recovery.closed_in_order;
    report.torn = recovery.torn.as_ref().map(|(place, len)| torn(*place, *len));
    report.damaged.extend(recovery.lost.iter().map(lost));
    report.damaged.extend(recovery.unapplied.iter().map(unapplied));
    if recovery.mended_format {
        report.damaged.push("the format file did not read; it was written anew".to_owned());
    }
    let checkpoints = recovery.damaged_checkpoints.iter();
    report
        .damaged
        .extend(checkpoints.map(|id| format!("checkpoint {id} does not read; the one before it was used")));
    let ranges = recovery.damaged.iter();
    report.damaged.extend(ranges.map(|(log, range)| {
        format!(
            "offsets {} to {} of log {log} cannot be read back",
            range.start,
            range.end.0.saturating_sub(1)
        )
    }));
}
