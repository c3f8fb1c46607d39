//! The suite for [`Wal`] and [`WalProvider`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Wake, Waker},
};

use bytes::Bytes;
use env::Signal;
use model::{Batch, ErrorKind, FormatTag, LogId, Offset, OwnerEpoch, Result, Seq};

use crate::{
    entry::{Change, Entry, Unit},
    wal::{Class, Replay, Replayed, RunBatchPlace, Wal, WalProvider, codec},
};

/// An implementation under test.
pub trait WalRig {
    /// A provider over an empty place.
    fn fresh(&self) -> Arc<dyn WalProvider>;
    /// Another provider over the place of the last one, as after an orderly or a hard stop of the process.
    fn again(&self) -> Arc<dyn WalProvider>;
    /// Runs background work until there is none.
    fn run(&self);
}

/// A replay, written down.
#[derive(Debug, Default)]
pub struct Collected {
    /// Every unit with its sequence.
    pub units: Vec<(Seq, Vec<Entry>)>,
    /// Every place of a data entry.
    pub places: Vec<RunBatchPlace>,
}

impl Replay for Collected {
    fn unit(&mut self, seq: Seq, entries: Vec<Entry>, places: &[RunBatchPlace]) -> Result<()> {
        self.units.push((seq, entries));
        self.places.extend(places);
        Ok(())
    }
}

/// Replays everything after `from`.
pub fn collect(provider: &dyn WalProvider, from: Seq) -> Result<(Replayed, Collected)> {
    let mut collected = Collected::default();
    let replayed = provider.fence_and_replay(from, &mut collected)?;
    Ok((replayed, collected))
}

/// Runs every case; panics with the case's words when one fails.
pub fn wal_suite(rig: &dyn WalRig) {
    what_was_applied_is_replayed_in_order_by_the_next_incarnation(rig);
    nothing_is_durable_before_it_ran(rig);
    a_unit_of_many_logs_comes_back_whole_and_in_its_own_order(rig);
    a_replay_begins_after_the_given_unit(rig);
    a_replay_twice_answers_the_same(rig);
    a_replay_fences_the_incarnation_before(rig);
    commits_are_handed_out_once_and_locate_their_batches(rig);
    waiters_are_woken_when_their_unit_is_applied(rig);
    sequences_go_on_after_a_restart(rig);
    an_incarnation_is_opened_only_after_its_replay(rig);
    a_unit_longer_than_everything_is_refused_before_it_is_staged(rig);
    a_closed_log_has_written_what_was_staged(rig);
    a_full_replay_needs_every_unit_from_its_start(rig);
}

/// A batch of `count` records at `base` with `body`.
pub(crate) fn batch(base: u64, count: u32, body: impl Into<Bytes>) -> Batch {
    Batch::bare(FormatTag(1), Offset(base), count, 1_790_000_000_000 + base as i64, body.into())
}

pub(crate) fn entry(log: u64, change: Change) -> Entry {
    Entry { log: LogId(log), epoch: OwnerEpoch(1), change }
}

pub(crate) fn data(log: u64, base: u64, body: impl Into<Bytes>) -> Entry {
    entry(log, Change::Data { batch: batch(base, 1, body), stamp: None })
}

pub(crate) fn submit(wal: &dyn Wal, entries: Vec<Entry>) -> Seq {
    let permit = wal.reserve(1000, Class::Publish).expect("room for a small unit");
    wal.submit(permit, Unit { entries })
}

/// Opens after replaying everything after `from`.
pub(crate) fn open(provider: &dyn WalProvider, from: Seq) -> Arc<dyn Wal> {
    let (replayed, _) = collect(provider, from).expect("an intact log");
    provider.open(&replayed, Signal::new()).expect("an opened log")
}

/// Applies every commit that was handed out; answers the last unit.
pub(crate) fn apply(wal: &dyn Wal) -> Option<Seq> {
    let mut last = None;
    while let Some(commit) = wal.next_commit() {
        wal.applied(commit.last);
        last = Some(commit.last);
    }
    last
}

pub(crate) fn debug(units: &[(Seq, Vec<Entry>)]) -> String {
    format!("{units:?}")
}

fn what_was_applied_is_replayed_in_order_by_the_next_incarnation(rig: &dyn WalRig) {
    let wal = open(&*rig.fresh(), Seq(0));
    let mut expected = Vec::new();
    for i in 0..50u64 {
        let entries = vec![data(1 + i % 3, i, format!("record {i}"))];
        expected.push((submit(&*wal, entries.clone()), entries));
        if i % 7 == 0 {
            rig.run();
        }
    }
    rig.run();
    assert_eq!(apply(&*wal), Some(Seq(50)));
    assert_eq!(wal.durable(), Seq(50));
    drop(wal);
    let (replayed, collected) = collect(&*rig.again(), Seq(0)).unwrap();
    assert_eq!((replayed.last, replayed.torn, replayed.lost), (Seq(50), None, vec![]));
    assert_eq!(debug(&collected.units), debug(&expected));
}

fn nothing_is_durable_before_it_ran(rig: &dyn WalRig) {
    let wal = open(&*rig.fresh(), Seq(0));
    let seq = submit(&*wal, vec![data(1, 0, "a")]);
    assert!(wal.durable() < seq && wal.next_commit().is_none() || apply(&*wal).is_none());
    rig.run();
    assert!(wal.durable() < seq, "synced, but not applied yet");
    assert_eq!(apply(&*wal), Some(seq));
    assert_eq!(wal.durable(), seq);
}

fn a_unit_of_many_logs_comes_back_whole_and_in_its_own_order(rig: &dyn WalRig) {
    let wal = open(&*rig.fresh(), Seq(0));
    let fan_out = |base| {
        vec![
            data(9, base, "first"),
            entry(3, Change::Drop(vec![Offset(base)..Offset(base + 1)])),
            data(9, base + 1, "second"),
            entry(3, Change::Note(Bytes::from_static(b"settled"))),
            entry(0, Change::Note(Bytes::from_static(b"command"))),
            data(3, base, "third"),
        ]
    };
    let units = [fan_out(0), vec![data(3, 1, "between")], fan_out(2), vec![]];
    let expected: Vec<_> = units.into_iter().map(|unit| (submit(&*wal, unit.clone()), unit)).collect();
    rig.run();
    apply(&*wal);
    drop(wal);
    let (_, collected) = collect(&*rig.again(), Seq(0)).unwrap();
    assert_eq!(debug(&collected.units), debug(&expected));
}

fn a_replay_begins_after_the_given_unit(rig: &dyn WalRig) {
    let wal = open(&*rig.fresh(), Seq(0));
    for i in 0..10 {
        submit(&*wal, vec![data(1, i, "x")]);
        if i % 4 == 3 {
            rig.run();
        }
    }
    rig.run();
    apply(&*wal);
    drop(wal);
    for from in 0..=10 {
        let (replayed, collected) = collect(&*rig.again(), Seq(from)).unwrap();
        let seqs: Vec<u64> = collected.units.iter().map(|(seq, _)| seq.0).collect();
        assert_eq!(seqs, (from + 1..=10).collect::<Vec<_>>());
        assert_eq!(replayed.last, Seq(10));
    }
}

fn a_replay_twice_answers_the_same(rig: &dyn WalRig) {
    let wal = open(&*rig.fresh(), Seq(0));
    submit(&*wal, vec![data(1, 0, "x")]);
    rig.run();
    apply(&*wal);
    drop(wal);
    let provider = rig.again();
    let (first, units) = collect(&*provider, Seq(0)).unwrap();
    let (second, again) = collect(&*provider, Seq(0)).unwrap();
    assert_eq!((first, debug(&units.units)), (second, debug(&again.units)));
}

fn a_replay_fences_the_incarnation_before(rig: &dyn WalRig) {
    let provider = rig.fresh();
    let old = open(&*provider, Seq(0));
    submit(&*old, vec![data(1, 0, "kept")]);
    rig.run();
    apply(&*old);
    let (replayed, _) = collect(&*provider, Seq(0)).unwrap();
    assert_eq!(old.failure().map(|e| e.kind()), Some(ErrorKind::Fenced));
    assert!(old.reserve(1, Class::Drain).is_err());
    let new = provider.open(&replayed, Signal::new()).unwrap();
    rig.run();
    assert!(old.next_commit().is_none());
    submit(&*new, vec![data(1, 1, "new")]);
    rig.run();
    assert_eq!(apply(&*new), Some(Seq(2)));
}

fn commits_are_handed_out_once_and_locate_their_batches(rig: &dyn WalRig) {
    let wal = open(&*rig.fresh(), Seq(0));
    for i in 0..20u64 {
        submit(&*wal, vec![data(1 + i % 2, i / 2, format!("record {i}")), entry(7, Change::Trim(Offset(i)))]);
    }
    rig.run();
    let mut next = Seq(1);
    let mut found = Vec::new();
    while let Some(commit) = wal.next_commit() {
        assert_eq!(commit.first, next);
        next = Seq(commit.last.0 + 1);
        assert!(commit.runs.is_sorted_by_key(|run| run.log));
        for run in &commit.runs {
            for batch in &run.batches {
                let mut place = run.place;
                place.at += u64::from(batch.at);
                let tail = wal.tail(place, batch.len).expect("the newest frames are in memory");
                let disk = wal.read(place, batch.len).unwrap();
                assert_eq!(tail, disk);
                let (found_batch, _) = codec::decode_batch(run.log, &disk).unwrap();
                assert_eq!((found_batch.base, found_batch.count), (batch.base, batch.count));
                assert_eq!(found_batch.append_time_ms, batch.append_time_ms);
                found.push((run.log.0, batch.base.0, found_batch.body));
            }
        }
        wal.applied(commit.last);
    }
    assert_eq!(next, Seq(21));
    assert_eq!(found.len(), 20);
    assert!(found.iter().any(|found| *found == (2, 9, Bytes::from("record 19"))));
    assert!(wal.next_commit().is_none());
}

/// Counts how often it was woken.
#[derive(Default)]
pub(crate) struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Woken {
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

fn waiters_are_woken_when_their_unit_is_applied(rig: &dyn WalRig) {
    let wal = open(&*rig.fresh(), Seq(0));
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(woken.clone());
    let first = submit(&*wal, vec![data(1, 0, "a")]);
    wal.wake_on_durable(first, &waker);
    wal.wake_on_durable(Seq(first.0 + 1), &waker);
    rig.run();
    assert_eq!(woken.count(), 0, "synced, but not applied yet");
    apply(&*wal);
    assert_eq!(woken.count(), 1, "the waiter for the unit after goes on waiting");
    wal.wake_on_durable(first, &waker);
    assert_eq!(woken.count(), 2, "what is durable already wakes at once");
}

fn sequences_go_on_after_a_restart(rig: &dyn WalRig) {
    let wal = open(&*rig.fresh(), Seq(0));
    assert_eq!(submit(&*wal, vec![data(1, 0, "a")]), Seq(1));
    rig.run();
    apply(&*wal);
    for restart in 2..6 {
        let wal = open(&*rig.again(), Seq(restart / 2));
        assert_eq!(wal.durable(), Seq(restart - 1));
        assert_eq!(submit(&*wal, vec![data(1, restart, "b")]), Seq(restart));
        rig.run();
        assert_eq!(apply(&*wal), Some(Seq(restart)));
    }
}

fn an_incarnation_is_opened_only_after_its_replay(rig: &dyn WalRig) {
    let provider = rig.fresh();
    let nothing = Replayed { last: Seq(0), torn: None, lost: vec![] };
    let refused = provider.open(&nothing, Signal::new()).err().map(|e| e.kind());
    assert_eq!(refused, Some(ErrorKind::Invalid));
    let (replayed, _) = collect(&*provider, Seq(0)).unwrap();
    let other = Replayed { last: Seq(7), ..replayed };
    assert_eq!(provider.open(&other, Signal::new()).err().map(|e| e.kind()), Some(ErrorKind::Invalid));
}

fn a_unit_longer_than_everything_is_refused_before_it_is_staged(rig: &dyn WalRig) {
    let wal = open(&*rig.fresh(), Seq(0));
    let refused = wal.reserve(usize::MAX / 2, Class::Drain).err().map(|e| e.kind());
    assert_eq!(refused, Some(ErrorKind::Limit));
}

fn a_closed_log_has_written_what_was_staged(rig: &dyn WalRig) {
    let wal = open(&*rig.fresh(), Seq(0));
    submit(&*wal, vec![data(1, 0, "a")]);
    wal.close().unwrap();
    assert_eq!(apply(&*wal), Some(Seq(1)));
    submit(&*wal, vec![data(1, 1, "too late")]);
    rig.run();
    assert_eq!(apply(&*wal), None);
    drop(wal);
    let (replayed, collected) = collect(&*rig.again(), Seq(0)).unwrap();
    assert_eq!((replayed.last, collected.units.len()), (Seq(1), 1));
}

fn a_full_replay_needs_every_unit_from_its_start(rig: &dyn WalRig) {
    let wal = open(&*rig.fresh(), Seq(0));
    submit(&*wal, vec![data(1, 0, "a")]);
    rig.run();
    apply(&*wal);
    drop(wal);
    let refused = collect(&*rig.again(), Seq(2)).err().map(|e| e.kind());
    assert_eq!(refused, Some(ErrorKind::Corrupt), "a checkpoint knows of units that the log does not");
}
