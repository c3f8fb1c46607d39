//! The whole engine against a naive model: random operations, commits, flushes, checkpoints, crashes and closings.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use bytes::Bytes;
use model::{LogId, Offset};

use crate::{
    Durability, Log, NewBatch, ReadLimits, StoreOptions, Upto,
    mem::MemWalOptions,
    testing::{Notes, World, batch},
};

/// SplitMix64.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }
}

/// One log as it should be.
#[derive(Clone, Default)]
struct Model {
    start: u64,
    end: u64,
    /// Live offsets, with the body of their batch and whether it is volatile.
    live: BTreeMap<u64, (Bytes, bool)>,
    notes: Vec<Bytes>,
}

impl Model {
    fn append(&mut self, base: u64, count: u64, body: &Bytes, volatile: bool) {
        self.live.extend((base..base + count).map(|offset| (offset, (body.clone(), volatile))));
        self.end = base + count;
    }

    fn drop(&mut self, range: &Range<u64>) {
        self.live.retain(|offset, _| !range.contains(offset));
    }
}

struct Run {
    rng: Rng,
    world: Option<World>,
    /// As committed, and as staged. A crash takes the difference.
    durable: BTreeMap<LogId, Model>,
    staged: BTreeMap<LogId, Model>,
    /// No offset below this may be given again.
    given: BTreeMap<LogId, u64>,
    deleted: BTreeSet<LogId>,
    bodies: u64,
    damage: bool,
}

impl Run {
    fn new(seed: u64, damage: bool) -> Run {
        let mut rng = Rng(seed);
        let wal = MemWalOptions {
            eager: false,
            file_len: [300, 3_000, 30_000, 300_000][rng.below(4) as usize],
            tail: rng.below(2) == 0,
        };
        let options = StoreOptions {
            unflushed_len_max: 1 << (10 + rng.below(10)),
            unflushed_entries_max: 1 << (3 + rng.below(10)),
            extents_max: 1 << (2 + rng.below(10)),
            read_ahead_len: 1 << rng.below(16),
            run_kept_len: 1 << rng.below(10),
            segment_len: 1 << (7 + rng.below(12)),
            own_segment_len: 1 << (6 + rng.below(12)),
            merge_len_max: 1 << (6 + rng.below(12)),
            merge_count: 2 + rng.below(3) as usize,
            ..StoreOptions::default()
        };
        Run {
            rng,
            world: Some(World::new(wal, options)),
            durable: BTreeMap::new(),
            staged: BTreeMap::new(),
            given: BTreeMap::new(),
            deleted: BTreeSet::new(),
            bodies: 0,
            damage,
        }
    }

    fn world(&self) -> &World {
        self.world.as_ref().unwrap()
    }

    fn pick(&mut self) -> Option<(LogId, Arc<Log<Notes>>)> {
        let nth = self.rng.below(self.staged.len() as u64) as usize;
        let id = *self.staged.keys().nth(nth)?;
        Some((id, self.world().log(id)))
    }

    fn body(&mut self) -> Bytes {
        self.bodies += 1;
        let len = [0, 8, 100, 1000, 5000][self.rng.below(5) as usize];
        let mut body = self.bodies.to_le_bytes().to_vec();
        body.resize(body.len() + len, 7);
        body.into()
    }

    fn step(&mut self) {
        match self.rng.below(100) {
            0..=2 => self.create(),
            3 => self.delete(),
            4..=49 => self.change(),
            50..=79 => self.settle(),
            80..=83 => {
                let flush = self.rng.below(2) == 0;
                let world = self.world();
                world.store.checkpoint(flush).unwrap();
            }
            84..=85 => self.crash(),
            86 => self.close(),
            _ => self.check_one(),
        }
    }

    fn create(&mut self) {
        if self.staged.len() >= 6 {
            return;
        }
        let durability = if self.rng.below(4) == 0 { Durability::Memory } else { Durability::Fsync };
        let log = self.world().create(durability);
        assert!(!self.deleted.contains(&log.id()), "a log id was given again");
        self.staged.insert(log.id(), Model::default());
    }

    fn delete(&mut self) {
        let Some((id, log)) = self.pick() else { return };
        self.world().change(&log, |l| l.delete());
        self.staged.remove(&id);
        self.deleted.insert(id);
    }

    /// A unit of a few changes, perhaps of two logs.
    fn change(&mut self) {
        let (Some((_, one)), Some((_, other))) = (self.pick(), self.pick()) else { return };
        let store = self.world().store.clone();
        let permit = store.reserve(0, crate::Class::Drain).unwrap();
        let mut locked = store.lock(&[&one, &other]);
        for _ in 0..1 + self.rng.below(4) {
            let log = if self.rng.below(2) == 0 { &one } else { &other };
            self.entry(&mut locked.log(log.id()).unwrap(), log.id());
        }
        store.commit(permit, locked);
    }

    fn entry(&mut self, log: &mut crate::LockedLog<'_, Notes>, id: LogId) {
        let kind = self.rng.below(12);
        let (a, b) = (self.rng.next(), self.rng.next());
        let body = self.body();
        let Some(model) = self.staged.get_mut(&id) else { return };
        let within = |x: u64| model.start + x % (model.end + 1 - model.start);
        match kind {
            0..=5 => {
                let count = 1 + a % 20;
                let volatile = b.is_multiple_of(4);
                let durability = if volatile { Durability::Memory } else { Durability::Fsync };
                let base = if b % 16 == 1 { model.end + a % 50 } else { model.end };
                let new = NewBatch { durability: Some(durability), ..batch(count as u32, &body) };
                let got = log.append_at(Offset(base), 0, new);
                assert_eq!(got.base, Offset(base));
                model.append(base, count, &body, volatile);
            }
            6..=8 => {
                let (from, to) = (within(a), within(b));
                let range = from.min(to)..from.max(to);
                log.drop_offsets(vec![Offset(range.start)..Offset(range.end)]);
                model.drop(&range);
            }
            9 => {
                let to = within(a);
                log.trim(Offset(to));
                model.drop(&(0..to));
            }
            10 => {
                let to = model.end + a % 100;
                log.advance(Offset(to));
                model.end = to;
            }
            _ => {
                log.note(body.clone());
                log.attached().notes.push(body.clone());
                model.notes.push(body);
            }
        }
        model.start = model.start.max(log.core().start().0);
        assert_eq!(log.core().end(), Offset(model.end));
        assert_eq!(log.core().records(), model.live.len() as u64);
        assert!(model.live.keys().all(|offset| log.core().is_live(Offset(*offset))));
    }

    fn settle(&mut self) {
        self.world().settle();
        self.durable = self.staged.clone();
        for (id, model) in &self.durable {
            self.given.insert(*id, model.end);
        }
    }

    fn crash(&mut self) {
        self.reopen(false);
    }

    fn close(&mut self) {
        self.durable = self.staged.clone();
        self.reopen(true);
    }

    fn reopen(&mut self, orderly: bool) {
        let world = self.world.take().unwrap();
        // What readers saw of volatile records must not come back as other records.
        for log in world.store.logs() {
            let seen = self.given.entry(log.id()).or_default();
            *seen = (*seen).max(log.bounds().durable_end.0);
        }
        if orderly {
            world.store.close().unwrap();
        }
        if self.damage && self.rng.below(2) == 0 {
            let names = crate::checkpoint::list(&world.blobs).unwrap();
            if let Some(newest) = names.last() {
                world.blobs.damage(&crate::checkpoint::name(*newest), self.rng.below(200) as usize);
            }
        }
        let world = world.crash();
        let ids: Vec<LogId> = world.store.logs().iter().map(|log| log.id()).collect();
        assert_eq!(ids, self.durable.keys().copied().collect::<Vec<_>>());
        self.staged = std::mem::take(&mut self.durable);
        for (id, model) in &mut self.staged {
            model.live.retain(|_, (_, volatile)| !*volatile);
            let log = world.log(*id);
            let bounds = log.bounds();
            assert!(
                bounds.end.0 >= model.end && bounds.end.0 >= self.given[id],
                "offsets of {id} are given again"
            );
            (model.start, model.end) = (bounds.start.0, bounds.end.0);
            assert_eq!(log.with(|_, notes| notes.notes.clone()), model.notes);
        }
        self.world = Some(world);
        self.settle();
        self.check_all();
    }

    fn check_one(&mut self) {
        self.settle();
        if let Some((id, log)) = self.pick() {
            self.check(id, &log);
        }
    }

    fn check_all(&mut self) {
        self.settle();
        let mut extents = 0;
        for log in self.world().store.logs() {
            self.check(log.id(), &log);
            extents += log.with(|core, _| core.live.extents().len() as u64);
        }
        assert_eq!(self.world().store.stats().unwrap().extents, extents, "each is counted, and once");
    }

    /// Reads the whole log with random limits and compares.
    fn check(&mut self, id: LogId, log: &Arc<Log<Notes>>) {
        let model = self.durable[&id].clone();
        let mut found = BTreeMap::new();
        let mut from = Offset(model.start);
        loop {
            let limits = ReadLimits { bytes: 1 << self.rng.below(16), records: 1 << self.rng.below(10) };
            let chunk = self.world().store.read_blocking(log, from, limits, Upto::Durable).unwrap();
            assert!(chunk.lost.is_empty());
            for read in &chunk.batches {
                for index in 0..read.batch.count {
                    let offset = read.batch.base.0 + u64::from(index);
                    let gone = read.dropped.as_ref().is_some_and(|mask| mask.contains(index));
                    if !gone && offset >= from.0 {
                        found.insert(offset, read.batch.body.clone());
                    }
                }
            }
            if chunk.next <= from {
                break;
            }
            from = chunk.next;
        }
        assert_eq!(from, log.bounds().durable_end);
        let expected: BTreeMap<u64, Bytes> =
            model.live.iter().map(|(offset, (body, _))| (*offset, body.clone())).collect();
        assert_eq!(
            found.keys().collect::<Vec<_>>(),
            expected.keys().collect::<Vec<_>>(),
            "log {id} {:?}",
            log.with(|c, _| format!("{:?} {:?} {:?}", c.bounds(), c.live.extents(), c.live.dropped()))
        );
        assert_eq!(found, expected, "log {id}");
        log.with(|core, _| assert_eq!(core.records(), expected.len() as u64));
    }
}

#[test]
fn random_operations_with_crashes_agree_with_a_naive_model() {
    let (mut checkpoints, mut segments) = (0, 0);
    for seed in 0..150 {
        println!("seed {seed}");
        let mut run = Run::new(seed, seed % 5 == 0);
        for _ in 0..400 {
            run.step();
            if run.rng.below(50) == 0 {
                let stats = run.world().store.stats().unwrap();
                checkpoints += stats.checkpoints.min(1);
                segments += stats.segments.len();
            }
        }
        run.check_all();
    }
    println!("checkpoints seen {checkpoints}, segments seen {segments}");
    assert!(checkpoints > 100 && segments > 100);
}
