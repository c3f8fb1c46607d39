//! A queue with a deep backlog and many ordering keys, worked off: what a lease and its settlement cost must not depend
//! on what waits behind them.
//!
//! Cost is counted, not timed: entries of the cursor's state that were looked at, records and bytes that were read for
//! it, reads that went to the disk, and what the cursor holds in memory. Every key has a hundred records, and each round
//! of the publisher brings one of every key. Three phases are measured: `free` (a record is settled before the next is
//! leased), `blocked` (nine keys of ten are out at any time, and a random one comes back), and `again`, which is `blocked`
//! after a crash with all of those leases out.

use std::{fmt, future::Future, path::Path, sync::Arc};

use broker::{
    Allowance, Append, Broker, BrokerOptions, Claim, Conditions, Extent, HolderId, KeySharing, LeaseAsk,
    LeaseKind, Mode, NewBatch, Order, Partition, PublishUnit, QUEUE_WORK, Settlement, Span, StreamSettings,
    StreamSpec, Verdict, Work, WorkSpec,
    plain::{PLAIN, Plain},
};
use model::{Error, Format, Formats, Kind, Namespace, Offset, Record, Result, Seq, StreamKey};

use crate::{Crash, Rng, SimWorld, Trace};

/// Records that each key has.
const ROUNDS: u64 = 100;
/// Records in one batch.
const BATCH: u64 = 100;
/// Batches between two waits for the disk.
const IN_FLIGHT: usize = 400;
/// Leases and settlements that are measured together.
const CYCLES: u64 = 4_000;
/// Of ten keys, how many are out in the phases that are blocked.
const BLOCKED_OF_TEN: u64 = 9;

const ME: HolderId = HolderId(1);

/// One backlog.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Records, a multiple of 10,000; a hundredth of them are the keys.
    pub records: u64,
    /// Everything follows from it.
    pub seed: u64,
}

/// What was counted at one moment, or, as a difference, over a phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// Pairs of a lease and a settlement.
    pub cycles: u64,
    /// Leases that gave nothing because every record within the look-ahead waited for its key.
    pub empty: u64,
    /// Entries of the cursor's state that were looked at.
    pub visited: u64,
    /// Reads for the cursor.
    pub reads: u64,
    /// Of these, the ones that asked the disk.
    pub cold_reads: u64,
    /// Records in them.
    pub read_records: u64,
    /// Bytes of their bodies.
    pub read_bytes: u64,
}

impl Counted {
    fn since(self, before: Counted) -> Counted {
        Counted {
            cycles: self.cycles - before.cycles,
            empty: self.empty - before.empty,
            visited: self.visited - before.visited,
            reads: self.reads - before.reads,
            cold_reads: self.cold_reads - before.cold_reads,
            read_records: self.read_records - before.read_records,
            read_bytes: self.read_bytes - before.read_bytes,
        }
    }

    /// How many of `what` a lease and a settlement took, in hundredths.
    pub fn per_cycle(&self, what: u64) -> u64 {
        what * 100 / self.cycles.max(1)
    }
}

/// One phase.
#[derive(Clone, Copy, Debug)]
pub struct Phase {
    /// Its name.
    pub name: &'static str,
    /// What it took.
    pub counted: Counted,
    /// What the cursor held at its end, bytes.
    pub memory_len: u64,
    /// Records that were out then.
    pub out: u64,
}

/// What one backlog came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Records at the start.
    pub records: u64,
    /// The phases.
    pub phases: Vec<Phase>,
}

impl Report {
    /// The phase of that name.
    pub fn phase(&self, name: &str) -> Phase {
        let nothing = Phase { name: "nothing", counted: Counted::default(), memory_len: 0, out: 0 };
        self.phases.iter().copied().find(|phase| phase.name == name).unwrap_or(nothing)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} records, {} keys; for each lease and settlement:",
            self.records,
            self.records / ROUNDS
        )?;
        for Phase { name, counted, memory_len, out } in &self.phases {
            let each =
                |what| format!("{}.{:02}", counted.per_cycle(what) / 100, counted.per_cycle(what) % 100);
            writeln!(
                f,
                "  {name:<8} {} looked at, {} reads ({} of the disk), {} records, {} bytes; {memory_len} bytes held, \
                 {out} out; {} of {} leases empty",
                each(counted.visited),
                each(counted.reads),
                each(counted.cold_reads),
                each(counted.read_records),
                each(counted.read_bytes),
                counted.empty,
                counted.cycles,
            )?;
        }
        Ok(())
    }
}

/// A record that is out: its offset and key.
#[derive(Clone, Copy)]
struct Out {
    offset: u64,
    key: u32,
}

struct Run {
    settings: Settings,
    world: SimWorld,
    rng: Rng,
    broker: Broker,
    partition: Arc<Partition>,
    work: Work,
    /// By batch of a round: its keys. By round and place: which batch was published there.
    batches: Vec<Vec<u32>>,
    places: Vec<u16>,
    /// By key: the round whose record comes next.
    next: Vec<u8>,
    /// By key: whether one of its records is out.
    is_out: Vec<bool>,
    out: Vec<Out>,
    cycles: u64,
    empty: u64,
    /// What the counters of earlier boots came to.
    before: Counted,
}

/// Publishes the backlog, works on it and counts.
pub fn run(settings: Settings) -> Result<Report> {
    let mut run = Run::new(settings)?;
    run.publish_all()?;
    let mut phases = vec![run.phase("free", 1)?];
    let blocked = settings.records / ROUNDS * BLOCKED_OF_TEN / 10;
    run.take_out(blocked)?;
    // Until the look-ahead is full of records that wait for their keys.
    run.work(2 * settings.records / ROUNDS, blocked)?;
    phases.push(run.phase("blocked", blocked)?);
    run.restart()?;
    phases.push(run.phase("again", blocked)?);
    Ok(Report { records: settings.records, phases })
}

fn key() -> StreamKey {
    StreamKey { kind: Kind::Queue, ..StreamKey::log(&Namespace::default(), "deep") }
}

fn open(world: &mut SimWorld) -> Result<Broker> {
    let mut formats = Formats::default();
    formats.register(Arc::new(Plain))?;
    let options = BrokerOptions {
        memory_budget_len: 64 << 20,
        wal_file_len: 8 << 20,
        uncheckpointed_len_max: 32 << 20,
        uncheckpointed_entries_max: 200_000,
        ..BrokerOptions::default()
    };
    let env = world.env();
    let opening = Broker::open(env, Path::new("/data"), options, formats);
    opening.map(|(broker, _)| broker)
}

fn work_on(world: &SimWorld, broker: &Broker) -> Result<(Arc<Partition>, Work)> {
    let stream = broker.stream(&key()).ok_or_else(|| Error::not_found("the queue is gone"))?;
    let partition = stream.partitions().first().cloned().ok_or_else(|| Error::not_found("no partition"))?;
    let spec = WorkSpec { order: Order::Keyed(KeySharing::One), ..WorkSpec::default() };
    let (work, seq) = broker.open_work(&partition, QUEUE_WORK, spec)?;
    answered(world, broker.durable(seq))?;
    Ok((partition, work))
}

/// The answer of the broker; an error when none comes.
fn answered<T>(world: &SimWorld, future: impl Future<Output = Result<T>>) -> Result<T> {
    world.wait(future).map_err(|why| Error::internal(format!("no answer: {why:?}")))?
}

impl Run {
    fn new(settings: Settings) -> Result<Self> {
        let mut rng = Rng::new(settings.seed);
        let mut world = SimWorld::new(rng.u64(), 4 << 30, Trace::new(false));
        let broker = open(&mut world)?;
        let settings_of_queue = StreamSettings { mode: Mode::Queue, ..StreamSettings::default() };
        let spec = StreamSpec { settings: settings_of_queue, ..StreamSpec::with_partitions(1) };
        answered(&world, broker.create_stream(key(), spec))?;
        let (partition, work) = work_on(&world, &broker)?;
        let keys = u32::try_from(settings.records / ROUNDS).unwrap_or(0);
        let mut shuffled: Vec<u32> = (0..keys).collect();
        shuffle(&mut shuffled, &mut rng);
        Ok(Run {
            settings,
            world,
            rng,
            broker,
            partition,
            work,
            batches: shuffled.chunks(BATCH as usize).map(<[u32]>::to_vec).collect(),
            places: Vec::new(),
            next: vec![0; keys as usize],
            is_out: vec![false; keys as usize],
            out: Vec::new(),
            cycles: 0,
            empty: 0,
            before: Counted::default(),
        })
    }

    fn publish_all(&mut self) -> Result<()> {
        let bodies = self.batches.iter().map(|keys| {
            let record =
                |key: &u32| Record { key: Some(key.to_le_bytes()[..3].to_vec().into()), ..Record::default() };
            Plain.write(&keys.iter().map(record).collect::<Vec<_>>())
        });
        let bodies = bodies.collect::<Result<Vec<_>>>()?;
        let mut order: Vec<u16> = (0..).take(self.batches.len()).collect();
        for _ in 0..ROUNDS {
            shuffle(&mut order, &mut self.rng);
            for (at, batch) in order.iter().enumerate() {
                let batch = NewBatch {
                    count: u32::try_from(BATCH).unwrap_or(0),
                    format: PLAIN,
                    body: bodies[usize::from(*batch)].clone(),
                    ..NewBatch::default()
                };
                let append =
                    Append { partition: self.partition.clone(), batch, conditions: Conditions::default() };
                let unit =
                    PublishUnit { extent: Extent::All, appends: vec![append], ..PublishUnit::default() };
                let wait = self.broker.publish(unit)?.wait;
                if at % IN_FLIGHT == IN_FLIGHT - 1 || at + 1 == order.len() {
                    answered(&self.world, self.broker.durable(wait))?;
                }
            }
            self.places.extend(&order);
        }
        Ok(())
    }

    /// The round and the key of a record.
    fn record_at(&self, offset: u64) -> Result<(u64, u32)> {
        let missing = || Error::internal(format!("{offset} was never published"));
        let place = usize::try_from(offset / BATCH).unwrap_or(usize::MAX);
        let batch = self.places.get(place).ok_or_else(missing)?;
        let key = self.batches[usize::from(*batch)][(offset % BATCH) as usize];
        Ok((offset / (self.settings.records / ROUNDS), key))
    }

    /// Leases one record; whether there was one.
    fn lease(&mut self) -> Result<(bool, Seq)> {
        let ask = LeaseAsk {
            holder: ME,
            allowance: Allowance::records(1),
            kind: LeaseKind::Recorded,
            time: Default::default(),
        };
        let leased = answered(&self.world, self.work.lease(ask))?;
        let runs = leased.deliveries.iter().flat_map(|delivery| &delivery.runs);
        let offsets: Vec<u64> = runs.flat_map(|run| run.span.start.0..run.span.end.0).collect();
        for offset in &offsets {
            let (round, key) = self.record_at(*offset)?;
            let at = key as usize;
            if std::mem::replace(&mut self.is_out[at], true) {
                return Err(Error::internal(format!("two records of key {key} are out")));
            }
            if u64::from(self.next[at]) != round {
                return Err(Error::internal(format!("record {round} of key {key} came out of order")));
            }
            self.out.push(Out { offset: *offset, key });
        }
        Ok((!offsets.is_empty(), leased.wait))
    }

    /// Settles one that is out, whichever.
    fn settle(&mut self) -> Result<Seq> {
        let at = self.rng.index(self.out.len());
        let Out { offset, key } = self.out.swap_remove(at);
        self.is_out[key as usize] = false;
        self.next[key as usize] += 1;
        let settlement = Settlement {
            work: self.work.clone(),
            spans: Span::one(Offset(offset)).into(),
            claim: Claim::Holder(ME),
            verdict: Verdict::Accept,
        };
        let (settled, seq) = answered(&self.world, self.broker.settle(vec![settlement]))?;
        if settled.iter().all(|one| one.done.is_empty()) {
            return Err(Error::internal(format!("the holder of {offset} was not heard")));
        }
        Ok(seq)
    }

    /// Leases until `count` are out.
    fn take_out(&mut self, count: u64) -> Result<()> {
        while (self.out.len() as u64) < count {
            let (found, wait) = self.lease()?;
            if !found {
                return Err(Error::internal(format!("only {} of {count} keys can be out", self.out.len())));
            }
            if self.out.len().is_multiple_of(IN_FLIGHT) {
                answered(&self.world, self.broker.durable(wait))?;
            }
        }
        Ok(())
    }

    /// Leases and settles, with `out` records out as far as there are so many that can be.
    fn phase(&mut self, name: &'static str, out: u64) -> Result<Phase> {
        let before = self.counted();
        self.work(CYCLES, out)?;
        let counted = self.counted().since(before);
        let view = self.broker.works(&self.partition).into_iter().next();
        let memory_len = view.map_or(0, |view| view.memory_len) as u64;
        Ok(Phase { name, counted, memory_len, out: self.out.len() as u64 })
    }

    fn work(&mut self, cycles: u64, out: u64) -> Result<()> {
        for cycle in 0..cycles {
            let (found, _) = self.lease()?;
            self.cycles += 1;
            self.empty += u64::from(!found);
            if !found || self.out.len() as u64 >= out {
                let seq = self.settle()?;
                if cycle.is_multiple_of(64) {
                    answered(&self.world, self.broker.durable(seq))?;
                }
            }
        }
        Ok(())
    }

    fn counted(&self) -> Counted {
        let counters = self.broker.counters();
        let view = self.broker.works(&self.partition).into_iter().next();
        Counted {
            cycles: self.cycles,
            empty: self.empty,
            visited: self.before.visited + view.map_or(0, |view| view.visited),
            reads: self.before.reads + counters.work_reads,
            cold_reads: self.before.cold_reads + counters.cold_reads,
            read_records: self.before.read_records + counters.work_read_records,
            read_bytes: self.before.read_bytes + counters.work_read_bytes,
        }
    }

    /// A crash with everything that is out: after it the same records are.
    fn restart(&mut self) -> Result<()> {
        self.before = self.counted();
        let seq = self.settle()?;
        answered(&self.world, self.broker.durable(seq))?;
        self.world.crash(Crash::Process);
        self.broker = open(&mut self.world)?;
        (self.partition, self.work) = work_on(&self.world, &self.broker)?;
        let found: u64 = self
            .work
            .leases(Offset(0), usize::MAX)?
            .iter()
            .map(|lease| lease.span.end.since(lease.span.start))
            .sum();
        if found != self.out.len() as u64 {
            return Err(Error::internal(format!("{found} records are out instead of {}", self.out.len())));
        }
        Ok(())
    }
}

fn shuffle<T>(items: &mut [T], rng: &mut Rng) {
    for at in (1..items.len()).rev() {
        items.swap(at, rng.index(at + 1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records that an order by keys looks at, at most.
    const LOOK_AHEAD: u64 = 120_000;

    fn worked(records: u64) -> Report {
        run(Settings { records, seed: 7 }).unwrap()
    }

    #[test]
    fn a_lease_and_its_settlement_cost_the_same_before_ten_million_records_as_before_ten_thousand() {
        let (shallow, deeper, deep) = (worked(20_000), worked(1_000_000), worked(10_000_000));
        let said = format!("{shallow}{deeper}{deep}");
        for report in [&deeper, &deep] {
            let (free, small) = (report.phase("free"), shallow.phase("free"));
            let each =
                |phase: &Phase, what: fn(&Counted) -> u64| phase.counted.per_cycle(what(&phase.counted));
            assert!(free.counted.cycles == CYCLES && free.counted.empty == 0, "{said}");
            assert!(each(&free, |it| it.visited) <= each(&small, |it| it.visited) * 3 / 2, "{said}");
            assert!(each(&free, |it| it.read_records) <= each(&small, |it| it.read_records) * 2, "{said}");
            assert!(free.memory_len <= small.memory_len + 4_096, "{said}");

            for name in ["blocked", "again"] {
                let (phase, small) = (report.phase(name), shallow.phase(name));
                // A restart tells the order of its look-ahead anew, once.
                let told = if name == "again" { 2 * LOOK_AHEAD } else { 0 };
                let visited = phase.counted.visited.saturating_sub(told);
                assert!(visited <= small.counted.visited * 3 / 2, "{name}: {said}");
                assert!(phase.counted.reads <= phase.counted.cycles, "{name}: {said}");
                let read = phase.counted.read_records.saturating_sub(told);
                assert!(read <= deeper.phase(name).counted.read_records * 3 / 2, "{name}: {said}");
                assert!(phase.counted.read_bytes <= 8_192 * CYCLES, "{name}: {said}");
                let kept = phase.out + LOOK_AHEAD.min(report.records);
                assert!(phase.memory_len <= 200 * kept, "{name}: {said}");
            }
        }
        assert!(deep.phase("blocked").out >= 60_000 && deep.phase("blocked").counted.empty > 0, "{said}");
    }
}
