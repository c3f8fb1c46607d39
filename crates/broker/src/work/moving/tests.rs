use model::Offset;

use super::super::{Claim, Count, LeaseKind, Settlement, Span, Verdict, tests};
use crate::{
    Overflow, ReadLimits, StreamSettings,
    testing::{Rig, until, wait},
};

#[test]
fn a_record_that_waits_for_its_delay_takes_its_deliveries_along_when_a_full_queue_moves_it() {
    let rig = Rig::new();
    let settings =
        StreamSettings { length_max: Some(1), overflow: Overflow::DropOldest, ..StreamSettings::default() };
    let (partition, dead) = tests::with_dead_letters(&rig, settings);
    rig.append(&partition, &["a"]);
    let work = tests::work(&rig, &partition);
    for (attempt, delay_ms) in [(1, 0), (2, 60_000)] {
        assert_eq!(tests::lease(&rig, &work, tests::ask(1, 1, LeaseKind::Recorded)), [(0, attempt)]);
        tests::settle(&rig, &work, &[0], Verdict::Release { delay_ms, count: Count::Add });
    }
    rig.append(&partition, &["b"]);
    until(|| dead.bounds().durable_end == Offset(1));
    let chunk = wait(rig.broker.read(&dead, Offset(0), ReadLimits::default())).unwrap();
    assert_eq!(chunk.batches[0].batch.origin.map(|origin| origin.attempts), Some(2));
}

#[test]
fn many_records_are_moved_in_several_units() {
    let rig = Rig::new();
    let (partition, dead) = tests::with_dead_letters(&rig, StreamSettings::default());
    rig.append(&partition, &vec!["x"; 3_000]);
    let work = tests::work(&rig, &partition);
    tests::lease(&rig, &work, tests::ask(1, 3_000, LeaseKind::Volatile));
    let spans = [Span::new(Offset(0), Offset(3_000))].into_iter().collect();
    let settlement = Settlement { work, spans, claim: Claim::Anyone, verdict: Verdict::Reject };
    let before = rig.broker.store().durable();
    let (settled, seq) = wait(rig.broker.settle(vec![settlement])).unwrap();
    assert_eq!(settled[0].done.count(), 3_000);
    assert_eq!(seq.0 - before.0, 3);
    wait(rig.broker.durable(seq)).unwrap();
    assert_eq!((dead.stats().records, partition.stats().records), (3_000, 0));
}

#[test]
fn what_is_too_much_goes_as_soon_as_it_can_be_seen() {
    // The clock stands: nothing comes because it is looked at again after a while.
    let rig = Rig::new();
    let settings =
        StreamSettings { length_max: Some(1), overflow: Overflow::DropOldest, ..StreamSettings::default() };
    let (partition, dead) = tests::with_dead_letters(&rig, settings);
    for round in 1..=5 {
        rig.append(&partition, &["a", "b", "c"]);
        crate::testing::until(|| dead.bounds().durable_end == Offset(3 * round - 1));
    }
}
