//! Random operations on a queue with dead letters, reopened in between, beside a naive model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Kind, Offset, StreamKey};

use super::*;
use crate::{
    DeadLetter, Mode, StreamSettings, StreamSpec,
    testing::{Rig, key, wait},
};

/// Numbers from a seed: the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

/// What a naive queue knows: every record by offset, in one place.
#[derive(Default)]
struct Naive {
    /// Not settled, with its body.
    waiting: BTreeMap<u64, String>,
    leased: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    dead: Vec<String>,
}

fn queue_key(name: &str) -> StreamKey {
    StreamKey { kind: Kind::Queue, ..key(name) }
}

fn partition(rig: &Rig, name: &str) -> Arc<Partition> {
    rig.broker.stream(&queue_key(name)).unwrap().partitions()[0].clone()
}

fn create(rig: &Rig, name: &str, dead_letter: Option<DeadLetter>) {
    let settings = StreamSettings { mode: Mode::Queue, dead_letter, ..StreamSettings::default() };
    let spec = StreamSpec { settings, ..StreamSpec::with_partitions(1) };
    wait(rig.broker.create_stream(queue_key(name), spec)).unwrap();
}

fn publish(rig: &Rig, naive: &mut Naive, dice: &mut Dice, number: u64) {
    let bodies: Vec<String> = (0..=dice.roll(4)).map(|part| format!("{number}-{part}")).collect();
    let texts: Vec<&str> = bodies.iter().map(String::as_str).collect();
    let base = rig.append(&partition(rig, "jobs"), &texts);
    naive.waiting.extend((base.0..).zip(bodies));
}

fn lease(rig: &Rig, work: &Work, naive: &mut Naive, dice: &mut Dice) {
    let kind = if dice.roll(2) == 0 { LeaseKind::Recorded } else { LeaseKind::Volatile };
    let allowance = Allowance::records(1 + dice.roll(5));
    let leased =
        wait(work.lease(LeaseAsk { holder: HolderId(1), allowance, kind, time: Default::default() }))
            .unwrap();
    wait(rig.broker.durable(leased.wait)).unwrap();
    let free = naive.waiting.len() - naive.leased.len();
    assert_eq!(leased.records == 0, free == 0, "records are given while some wait");
    for offset in leased.deliveries.iter().flat_map(|delivery| delivery.spans().offsets().collect::<Vec<_>>())
    {
        assert!(!naive.settled.contains(&offset.0), "{offset} was settled, and is delivered again");
        assert!(
            naive.waiting.contains_key(&offset.0) && naive.leased.insert(offset.0),
            "{offset} is leased twice"
        );
    }
}

fn settle(rig: &Rig, work: &Work, naive: &mut Naive, dice: &mut Dice) {
    let at = usize::try_from(dice.roll(8)).unwrap();
    let Some(offset) = naive.leased.iter().nth(at).or(naive.leased.first()).copied() else { return };
    let verdict = match dice.roll(4) {
        0 => Verdict::Reject,
        1 => Verdict::Release { delay_ms: 0, count: Count::Add },
        _ => Verdict::Accept,
    };
    let spans = [Span::one(Offset(offset))].into_iter().collect();
    let settlement = Settlement { work: work.clone(), spans, claim: Claim::Holder(HolderId(1)), verdict };
    let (settled, seq) = wait(rig.broker.settle(vec![settlement])).unwrap();
    wait(rig.broker.durable(seq)).unwrap();
    assert_eq!(settled[0].done.count(), 1);
    naive.leased.remove(&offset);
    if !matches!(verdict, Verdict::Release { .. }) {
        naive.settled.insert(offset);
        let body = naive.waiting.remove(&offset);
        naive.dead.extend(body.filter(|_| verdict == Verdict::Reject));
    }
}

/// After a restart recorded leases are still there, volatile ones are not.
fn forget_volatile(work: &Work, naive: &mut Naive) {
    let leases = work.leases(Offset(0), usize::MAX).unwrap();
    naive.leased = leases.iter().flat_map(|lease| lease.span.start.0..lease.span.end.0).collect();
    assert!(
        naive.leased.iter().all(|offset| naive.waiting.contains_key(offset)),
        "a settled record is leased"
    );
}

fn check(rig: &Rig, naive: &Naive) {
    let jobs = partition(rig, "jobs");
    let start = jobs.bounds().start.0;
    let stored: BTreeMap<u64, String> = rig.read(&jobs, start).unwrap().into_iter().collect();
    assert_eq!(stored, naive.waiting, "what is stored is what is not settled");
    let dead = rig.read(&partition(rig, "dead"), 0).unwrap();
    assert_eq!(dead.into_iter().map(|(_, body)| body).collect::<Vec<_>>(), naive.dead);
}

#[test]
fn a_queue_loses_and_repeats_nothing_over_random_operations_and_restarts() {
    for seed in 1..=3 {
        let mut rig = Rig::new();
        let (mut naive, mut dice) = (Naive::default(), Dice(seed));
        create(&rig, "dead", None);
        create(&rig, "jobs", Some(DeadLetter { target: queue_key("dead"), route_key: None }));
        for number in 0..200 {
            let work = rig.broker.queue_work(&partition(&rig, "jobs")).unwrap().0;
            match dice.roll(20) {
                0 => {
                    rig.reopen();
                    let work = rig.broker.queue_work(&partition(&rig, "jobs")).unwrap().0;
                    forget_volatile(&work, &mut naive);
                    check(&rig, &naive);
                }
                1..=5 => publish(&rig, &mut naive, &mut dice, number),
                6..=11 => lease(&rig, &work, &mut naive, &mut dice),
                _ => settle(&rig, &work, &mut naive, &mut dice),
            }
        }
        check(&rig, &naive);
        assert!(!naive.dead.is_empty() && naive.settled.len() > 20, "seed {seed} shows too little");
    }
}
