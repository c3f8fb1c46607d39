//! What queues are asked for beside their records, and whose turn it is in them.

use super::*;
use crate::Oversize;

fn stream(rig: &Rig) -> Arc<crate::Stream> {
    rig.broker.stream(&queue_key("jobs")).unwrap()
}

#[test]
fn the_age_of_a_queue_is_that_of_its_oldest_record_that_is_not_settled() {
    let rig = Rig::new();
    let partition = queue(&rig, "jobs");
    let age = |rig: &Rig| wait(rig.broker.queue_age_ms(&stream(rig))).unwrap();
    assert_eq!(age(&rig), None);
    rig.publish(Append::new(&partition, batch(&["a"])));
    rig.advance(3_000);
    assert_eq!(age(&rig), Some(3_000), "nobody has worked it yet");
    rig.publish(Append::new(&partition, batch(&["a"])));
    rig.advance(1_000);
    let work = rig.broker.queue_work(&partition).unwrap().0;
    assert_eq!(offsets(&rig, &work, ask(1, 2, LeaseKind::Recorded)), [0, 1]);
    assert_eq!(age(&rig), Some(4_000), "what is out counts");
    settle(&rig, &work, &[0], Verdict::Accept);
    assert_eq!((age(&rig), age(&rig)), (Some(1_000), Some(1_000)));
    settle(&rig, &work, &[1], Verdict::Accept);
    assert_eq!(age(&rig), None);
}

#[test]
fn consumers_are_told_in_turn_and_higher_priorities_first() {
    let rig = Rig::new();
    let partition = queue(&rig, "jobs");
    let work = work(&rig, &partition);
    let watches: Vec<Watch> = (0..3).map(|_| Watch::new()).collect();
    for (holder, priority) in [(0, 0), (1, 5), (2, 0)] {
        let group = GroupId::default();
        work.join(Subscription { holder: HolderId(holder), priority, group, prefetch: None }).unwrap();
        work.wait(HolderId(holder), &watches[usize::try_from(holder).unwrap()]);
    }
    let mut order = Vec::new();
    let mut tell = || {
        rig.append(&partition, &["x"]);
        order.extend((0..3).filter(|at| watches[*at].take()));
        order.clone()
    };
    tell();
    assert_eq!(tell(), [1], "lower ones wait while it is at work");
    assert_eq!(offsets(&rig, &work, ask(1, 1, LeaseKind::Volatile)), [0]);
    assert!(watches.iter().all(|watch| !watch.take()), "also when it leaves some");
    work.pass(HolderId(1)).unwrap();
    assert_eq!(tell(), [1, 0, 2]);
}

#[test]
fn a_quiet_key_passes_a_loud_one_that_has_much_out_also_after_a_restart() {
    let mut rig = Rig::new();
    let partition = queue(&rig, "jobs");
    rig.publish(Append::new(&partition, keyed(&["loud"; 20])));
    let spec = WorkSpec { order: Order::Keyed(KeySharing::Fair), ..WorkSpec::default() };
    let work = rig.broker.open_work(&partition, QUEUE_WORK, spec).unwrap().0;
    assert_eq!(offsets(&rig, &work, ask(1, 8, LeaseKind::Recorded)), [0, 1, 2, 3, 4, 5, 6, 7]);
    rig.publish(Append::new(&partition, keyed(&["quiet"])));
    assert_eq!(offsets(&rig, &work, ask(2, 1, LeaseKind::Recorded)), [20]);
    rig.publish(Append::new(&partition, keyed(&["quiet"])));
    rig.reopen();
    let work = rig.broker.work(&find(&rig, "jobs"), QUEUE_WORK).unwrap();
    assert_eq!(offsets(&rig, &work, ask(3, 2, LeaseKind::Recorded)), [21, 8]);
}

#[test]
fn who_took_as_many_bytes_as_it_may_is_told_of_the_rest() {
    for len in [30, 40, 50, 60, 70, 90].map(|kib| kib << 10) {
        let rig = Rig::new();
        let partition = queue(&rig, "jobs");
        for _ in 0..6 {
            rig.append(&partition, &[&"x".repeat(len)]);
        }
        let (work, watch) = (work(&rig, &partition), Watch::new());
        let allowance = Allowance { records: 10, bytes: 100 << 10, oversize: Oversize::First };
        let mut taken = 0;
        while taken < 6 {
            work.wait(HolderId(1), &watch);
            assert!(
                watch.take(),
                "{taken} records of {len} bytes were taken, and nobody is told of the others"
            );
            taken += lease(&rig, &work, LeaseAsk { allowance, ..ask(1, 10, LeaseKind::Taken) }).len();
        }
    }
}

#[test]
fn what_has_to_be_told_or_taken_away_first_is_no_reason_to_give_nothing() {
    const COUNT: i64 = 70;
    let rig = Rig::new();
    let partition = queue(&rig, "jobs");
    let body = "x".repeat(1 << 20);
    let publish = |partition: &Arc<Partition>, body: &str, change: &dyn Fn(&mut RecordAttributes)| {
        let attributes = Attributes::Same(Box::new(row(change)));
        rig.publish(Append::new(partition, NewBatch { attributes, ..batch(&[body]) }));
    };
    for _ in 0..COUNT {
        publish(&partition, &body, &|row| row.priority = Some(4));
    }
    let spec = WorkSpec { order: Order::Priority, ..WorkSpec::default() };
    let work = rig.broker.open_work(&partition, QUEUE_WORK, spec).unwrap().0;
    assert_eq!(offsets(&rig, &work, ask(1, 1, LeaseKind::Recorded)), [0]);
    let fleeting = queue(&rig, "fleeting");
    for _ in 0..COUNT {
        publish(&fleeting, &body[..64 << 10], &|row| row.expiry_ms = Some(START_MS + 1_000));
    }
    rig.append(&fleeting, &["stays"]);
    rig.advance(1_000);
    let allowance = Allowance { records: 1, bytes: 1, oversize: Oversize::First };
    let work = rig.broker.queue_work(&fleeting).unwrap().0;
    let ask = LeaseAsk { allowance, ..ask(1, 1, LeaseKind::Recorded) };
    assert_eq!(offsets(&rig, &work, ask), [COUNT as u64]);
}

#[test]
fn a_lease_may_last_until_it_is_settled_whatever_the_queue_says() {
    let rig = Rig::new();
    let partition = queue_with(&rig, "jobs", StreamSettings { lease_ms: Some(200), ..Default::default() });
    let work = work(&rig, &partition);
    rig.append(&partition, &["a", "b", "c"]);
    for (time, deadline_ms) in [
        (LeaseTime::Setting, Some(START_MS + 200)),
        (LeaseTime::Ms(50), Some(START_MS + 50)),
        (LeaseTime::UntilSettled, None),
    ] {
        let leased = offsets(&rig, &work, LeaseAsk { time, ..ask(1, 1, LeaseKind::Recorded) });
        let lease = work.leases(Offset(leased[0]), 1).unwrap()[0];
        assert_eq!(lease.deadline_ms, deadline_ms, "{time:?}");
    }
}
