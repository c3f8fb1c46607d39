use model::Offset;

use super::super::{Count, LeaseKind, Verdict, tests};
use crate::{
    Overflow, ReadLimits, StreamSettings,
    testing::{Rig, wait},
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
    tests::until(|| dead.bounds().durable_end == Offset(1));
    let chunk = wait(rig.broker.read(&dead, Offset(0), ReadLimits::default())).unwrap();
    assert_eq!(chunk.batches[0].batch.origin.map(|origin| origin.attempts), Some(2));
}
