//! The write-ahead log alone on the simulated disk: the conformance suites, and random units, crashes and faults beside
//! a list of what was submitted.
#![allow(clippy::unwrap_used, clippy::print_stderr, clippy::print_stdout)] // All of this is a test.

use std::{
    cell::RefCell,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use env::Signal;
use model::{Batch, ErrorKind, FormatTag, LogId, Offset, OwnerEpoch, Seq};
use sim::{Crash, Fault, Fired, Rates, Rng, SimWorld, Trace, Turn};
use store::{
    Change, Entry, Unit,
    blobs::{Blob, Blobs, FileBlobs},
    conformance::{BlobsRig, WalRig, blobs_suite, collect, wal_suite},
    faults,
    wal::{Class, FileWalProvider, Place, Wal, WalOptions, WalProvider, codec},
};

const DISK_LEN: u64 = 64 << 20;

/// A fresh simulated machine per case.
struct Simulated {
    world: RefCell<SimWorld>,
    seed: RefCell<u64>,
    crash: Crash,
}

impl Simulated {
    fn new(crash: Crash) -> Self {
        let world = RefCell::new(SimWorld::new(0, DISK_LEN, Trace::new(false)));
        Simulated { world, seed: RefCell::new(0), crash }
    }

    fn renew(&self) {
        let seed = self.seed.replace_with(|seed| *seed + 1);
        self.world.replace(SimWorld::new(seed, DISK_LEN, Trace::new(false)));
    }
}

fn options() -> WalOptions {
    let mut options = WalOptions::new("/data/wal");
    (options.file_len, options.first_file_len) = (64 << 10, 16 << 10);
    options
}

impl WalRig for Simulated {
    fn fresh(&self) -> Arc<dyn WalProvider> {
        self.renew();
        let env = self.world.borrow_mut().env();
        Arc::new(FileWalProvider::new(env, options()))
    }

    fn again(&self) -> Arc<dyn WalProvider> {
        self.world.borrow_mut().crash(self.crash);
        let env = self.world.borrow_mut().env();
        Arc::new(FileWalProvider::new(env, options()))
    }

    fn run(&self) {
        while self.world.borrow().turn() != Turn::Idle {}
    }
}

impl BlobsRig for Simulated {
    fn fresh(&self) -> Arc<dyn Blobs> {
        self.renew();
        let env = self.world.borrow_mut().env();
        Arc::new(FileBlobs::open(env, "/data/blobs").unwrap())
    }

    fn again(&self) -> Arc<dyn Blobs> {
        self.world.borrow_mut().crash(self.crash);
        let env = self.world.borrow_mut().env();
        Arc::new(FileBlobs::open(env, "/data/blobs").unwrap())
    }
}

#[test]
fn the_file_log_conforms_on_a_disk_that_forgets() {
    wal_suite(&Simulated::new(Crash::Process));
    wal_suite(&Simulated::new(Crash::Power));
}

#[test]
fn blobs_in_files_conform_on_a_disk_that_forgets() {
    blobs_suite(&Simulated::new(Crash::Process));
    blobs_suite(&Simulated::new(Crash::Power));
}

/// One run: what was submitted, what was acknowledged, and the log on its disk.
struct Run {
    world: SimWorld,
    rng: Rng,
    options: WalOptions,
    /// Every unit in the log, by sequence from 1 on, as its `Debug` text.
    units: Vec<String>,
    /// Acknowledged: must be there.
    acked: u64,
    /// A checkpoint would cover these: their files may be released.
    covered: u64,
    offset: u64,
    pinned: Option<(Arc<dyn Blob>, Bytes)>,
    places: Vec<(LogId, Place, u32)>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    replays: u64,
    replayed: u64,
    torn: u64,
    corrupt: u64,
    failed: u64,
    pins: u64,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let world = SimWorld::new(rng.u64(), 4 << 20, Trace::new(std::env::var("WAL_SEED").is_ok()));
        let mut options = options();
        options.file_len = rng.pick(&[16 << 10, 32 << 10, 128 << 10]);
        options.first_file_len = rng.pick(&[8 << 10, 16 << 10]);
        options.commit_len = rng.pick(&[300, 4 << 10, 1 << 20]);
        options.tail_len = rng.pick(&[0, 16 << 10, 1 << 20]);
        Run {
            world,
            rng,
            options,
            units: Vec::new(),
            acked: 0,
            covered: 0,
            offset: 0,
            pinned: None,
            places: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn unit(&mut self) -> Vec<Entry> {
        let count = self.rng.pick(&[1, 1, 1, 2, 4]);
        (0..count).map(|_| self.entry()).collect()
    }

    fn entry(&mut self) -> Entry {
        self.offset += 1;
        let log = LogId(1 + self.rng.below(5));
        let change = match self.rng.below(4) {
            0 => Change::Note(Bytes::from(format!("note {}", self.offset))),
            _ => {
                let len = self.rng.pick(&[0, 10, 100, 3000, 20_000]);
                let mut body = vec![0; len];
                self.rng.fill(&mut body);
                let batch = Batch::bare(FormatTag(1), Offset(self.offset), 1, 1_790_000_000_000, body.into());
                Change::Data { batch, stamp: None }
            }
        };
        Entry { log, epoch: OwnerEpoch(1), change }
    }

    /// Replays and opens, or `None` when that was cut short.
    fn open(&mut self) -> Option<Arc<dyn Wal>> {
        let from = if self.covered > 0 { self.covered } else { 0 };
        let provider = FileWalProvider::new(self.world.env(), self.options.clone());
        let (replayed, collected) = match collect(&provider, Seq(from)) {
            Ok(found) => found,
            Err(e) if e.kind() == ErrorKind::Corrupt && self.world.powered() => {
                panic!(
                    "no rot, but: {e}\n{:?}\n{}",
                    self.world.disk.dump(Path::new("/data")),
                    self.world.trace.text().unwrap_or_default()
                )
            }
            Err(_) => return None,
        };
        assert!(replayed.last.0 >= self.acked, "acknowledged {} but found {}", self.acked, replayed.last.0);
        assert!(replayed.last.0 <= self.units.len() as u64);
        for (at, (seq, entries)) in (from + 1..).zip(&collected.units) {
            assert_eq!(seq.0, at);
            assert_eq!(format!("{entries:?}"), self.units[at as usize - 1], "unit {at}");
        }
        assert_eq!(collected.units.len() as u64, replayed.last.0 - from);
        self.counts.replays += 1;
        self.counts.replayed += collected.units.len() as u64;
        self.counts.torn += u64::from(replayed.torn.is_some());
        // What was found is durable from here on; what was not is gone for good.
        self.units.truncate(replayed.last.0 as usize);
        self.acked = replayed.last.0;
        let wal = provider.open(&replayed, Signal::new()).ok()?;
        self.read_in_place(&*wal);
        Some(wal)
    }

    fn read_in_place(&mut self, wal: &dyn Wal) {
        for (log, place, len) in self.places.split_off(self.places.len().saturating_sub(20)) {
            if wal.files().iter().any(|info| info.file == place.file)
                && let Ok(bytes) = wal.read(place, len)
                && self.world.powered()
            {
                codec::decode_batch(log, &bytes).unwrap();
            }
        }
        self.places.clear();
    }

    fn step(&mut self, wal: &dyn Wal) {
        match self.rng.below(10) {
            0..4 => {
                let entries = self.unit();
                if let Ok(permit) = wal.reserve(1000, Class::Publish) {
                    self.units.push(format!("{entries:?}"));
                    let seq = wal.submit(permit, Unit { entries });
                    assert_eq!(seq.0, self.units.len() as u64);
                }
            }
            4..8 => {
                self.world.turn();
            }
            8 => self.apply(wal),
            _ => self.release(wal),
        }
    }

    fn apply(&mut self, wal: &dyn Wal) {
        while let Some(commit) = wal.next_commit() {
            for run in &commit.runs {
                self.places.extend(run.batches.iter().map(|batch| {
                    let place = Place { file: run.place.file, at: run.place.at + u64::from(batch.at) };
                    (run.log, place, batch.len)
                }));
            }
            wal.applied(commit.last);
        }
        if self.world.powered() {
            self.acked = wal.durable().0;
        }
    }

    fn release(&mut self, wal: &dyn Wal) {
        let files = wal.files();
        if let Some((blob, before)) = self.pinned.take_if(|_| self.rng.permille(300))
            && let Ok(now) = blob.read(0, before.len() as u32)
            && self.world.powered()
        {
            assert_eq!(before, now, "a pinned file changed");
            self.counts.pins += 1;
        }
        let Some(first) = files.first().filter(|info| info.sealed.is_some_and(|last| last.0 <= self.acked))
        else {
            return;
        };
        if self.pinned.is_none()
            && let Ok(blob) = wal.open_file(first.file)
            && let Ok(bytes) = blob.read(0, first.len as u32)
        {
            self.pinned = Some((blob, bytes));
        }
        self.covered = self.covered.max(first.sealed.map_or(0, |last| last.0));
        wal.release(first.file);
    }

    fn faults(&mut self) {
        let odds = |rng: &mut Rng, ppm| if rng.permille(300) { ppm } else { 0 };
        let rates = Rates {
            sync_failed_ppm: odds(&mut self.rng, 20_000),
            sync_full_ppm: odds(&mut self.rng, 20_000),
            write_failed_ppm: odds(&mut self.rng, 10_000),
            writeback_permille: odds(&mut self.rng, 200),
            ..Rates::default()
        };
        self.world.disk.set_rates(rates);
        self.world.disk.set_capacity(self.rng.pick(&[100 << 10, 4 << 20, 4 << 20]));
        let cut = self.rng.permille(600).then(|| self.rng.below(60));
        self.world.disk.cut_power_in(cut);
    }

    fn play(&mut self) -> Fired {
        for _ in 0..12 {
            if let Some(wal) = self.open() {
                self.faults();
                for _ in 0..self.rng.between(1, 120) {
                    if !self.world.powered() {
                        break;
                    }
                    self.step(&*wal);
                }
                self.counts.failed += u64::from(wal.failure().is_some());
            }
            self.pinned = None;
            let crash = self.rng.pick(&[Crash::Process, Crash::Power, Crash::Power]);
            self.world.crash(crash);
            self.world.disk.set_rates(Rates::default());
            self.world.disk.set_capacity(64 << 20);
            if self.rng.permille(200) {
                self.rot();
            }
            let cut = self.rng.permille(200).then(|| self.rng.below(20));
            self.world.disk.cut_power_in(cut);
        }
        self.world.disk.fired()
    }

    /// Flips a bit that a later frame proves. The replay refuses, or what rotted was not needed.
    fn rot(&mut self) {
        let found = self.world.disk.rottable(Path::new("/data"), |_: &Path| false);
        if found.is_empty() {
            return;
        }
        let rottable = &found[self.rng.index(found.len())];
        let path: PathBuf = rottable.path.clone();
        let at = self.rng.below(rottable.below);
        self.world.disk.rot(&path, at, self.rng.below(8) as u8).unwrap();
        let provider = FileWalProvider::new(self.world.env(), self.options.clone());
        match collect(&provider, Seq(self.covered)) {
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::Corrupt, "{e}");
                self.counts.corrupt += 1;
            }
            Ok((replayed, collected)) => {
                assert!(
                    replayed.last.0 >= self.acked,
                    "rot at {at} of {path:?} took acknowledged units back"
                );
                assert_eq!(collected.units.len() as u64, replayed.last.0 - self.covered);
            }
        }
        self.world.disk.heal();
    }
}

#[test]
fn every_planted_fault_is_noticed() {
    for fault in [
        faults::Fault::AckEarly,
        faults::Fault::CutMidLog,
        faults::Fault::DropSecondEntry,
        faults::Fault::RecyclePinned,
    ] {
        let noticed = (0..200).find(|&seed| {
            let mut run = Run::new(seed);
            run.options.faults = faults::Faults::plant(fault);
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.play())).is_err()
        });
        println!("{fault:?} was noticed by seed {noticed:?}");
        assert!(noticed.is_some(), "{fault:?}");
    }
}

#[test]
fn random_units_crashes_and_faults_lose_nothing_that_was_acknowledged() {
    let seeds = std::env::var("WAL_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(50);
    let first = std::env::var("WAL_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0);
    let (mut fired, mut total) = (Fired::default(), Counts::default());
    for seed in first..first + seeds {
        let mut run = Run::new(seed);
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.play()));
        match played {
            Ok(more) => fired.add(&more),
            Err(cause) => {
                eprintln!("seed {seed}: run again with WAL_SEED={seed} WAL_SEEDS=1");
                std::panic::resume_unwind(cause);
            }
        }
        total.replays += run.counts.replays;
        total.replayed += run.counts.replayed;
        total.torn += run.counts.torn;
        total.corrupt += run.counts.corrupt;
        total.failed += run.counts.failed;
        total.pins += run.counts.pins;
    }
    println!("{total:?} {fired:?}");
    for (what, count) in
        [("torn", total.torn), ("corrupt", total.corrupt), ("failed", total.failed), ("pins", total.pins)]
    {
        assert!(seeds < 50 || count >= 3, "{what} happened {count} times only");
    }
    assert!(seeds < 50 || fired.of(Fault::SyncFailed) > 3);
}
