//! How far a cursor is, and whom it is for.

use super::*;

fn routed(keys: &[&str]) -> NewBatch {
    let row = |key: &&str| RecordAttributes {
        route_key: Some(bytes::Bytes::copy_from_slice(key.as_bytes())),
        ..RecordAttributes::default()
    };
    let rows: Vec<RecordAttributes> = keys.iter().map(row).collect();
    NewBatch { attributes: Attributes::Rows(rows.into()), ..batch(keys) }
}

#[test]
fn progress_counts_what_is_out_and_what_was_delivered_again() {
    let rig = Rig::new();
    rig.log("events", 1);
    let partition = rig.partition("events", 0);
    rig.append(&partition, &["a", "b", "c", "d"]);
    let work = rig.broker.open_work(&partition, "reader", WorkSpec::default()).unwrap().0;
    assert_eq!(work.progress().unwrap(), WorkProgress::default());
    assert_eq!(offsets(&rig, &work, ask(1, 3, LeaseKind::Recorded)), [0, 1, 2]);
    settle(&rig, &work, &[0], Verdict::Accept);
    settle(&rig, &work, &[1], Verdict::Release { delay_ms: 0, count: Count::Add });
    let outstanding = |work: &Work| {
        let WorkProgress { floor, delivered_end, outstanding, redelivered, .. } = work.progress().unwrap();
        (floor.0, delivered_end.0, outstanding, redelivered)
    };
    assert_eq!(outstanding(&work), (1, 3, 2, 0));
    assert_eq!(lease(&rig, &work, ask(1, 1, LeaseKind::Recorded)), [(1, 2)]);
    assert_eq!(outstanding(&work), (1, 3, 2, 1));
}

#[test]
fn a_filter_that_changed_is_in_force_at_once_and_after_a_restart() {
    let mut rig = Rig::new();
    rig.log("events", 1);
    let partition = rig.partition("events", 0);
    let spec = WorkSpec { filter: vec!["a.*".to_owned()], ..WorkSpec::default() };
    let work = rig.broker.open_work(&partition, "reader", spec).unwrap().0;
    rig.publish(Append::new(&partition, routed(&["a.1", "b.1"])));
    assert_eq!(offsets(&rig, &work, ask(1, 9, LeaseKind::Recorded)), [0]);
    let wait_for = work.set_filter(vec!["b.*".to_owned()]).unwrap();
    wait(rig.broker.durable(wait_for)).unwrap();
    rig.publish(Append::new(&partition, routed(&["a.2", "b.2"])));
    assert_eq!(offsets(&rig, &work, ask(1, 9, LeaseKind::Recorded)), [3], "what was passed over stays so");
    rig.reopen();
    let partition = rig.partition("events", 0);
    rig.publish(Append::new(&partition, routed(&["a.3", "b.3"])));
    let work = rig.broker.work(&partition, "reader").unwrap();
    assert_eq!(offsets(&rig, &work, ask(2, 9, LeaseKind::Recorded)), [5]);
    assert!(work.set_filter(vec!["a.>.b".to_owned()]).is_err());
}

#[test]
fn a_record_of_a_log_goes_when_its_own_time_is_over_also_after_a_restart() {
    let mut rig = Rig::new();
    rig.log_with("events", 1, StreamSettings { expires_records: true, ..StreamSettings::default() });
    rig.log("keeps", 1);
    let expiring = |after_ms: i64| NewBatch {
        attributes: Attributes::Same(Box::new(RecordAttributes {
            expiry_ms: Some(START_MS + after_ms),
            ..RecordAttributes::default()
        })),
        ..batch(&["x"])
    };
    let partition = rig.partition("events", 0);
    rig.publish(Append::new(&partition, expiring(1_000)));
    rig.publish(Append::new(&rig.partition("keeps", 0), expiring(1_000)));
    rig.publish(Append::new(&partition, batch(&["stays"])));
    rig.publish(Append::new(&partition, expiring(5_000)));
    let gone = |rig: &Rig, count: u64| {
        rig.broker.clock_was_set();
        let partition = rig.partition("events", 0);
        // The worker of what is due runs beside the test.
        until(|| partition.stats().records == count);
    };
    gone(&rig, 3);
    rig.advance(1_000);
    gone(&rig, 2);
    rig.reopen();
    rig.advance(4_000);
    gone(&rig, 1);
    assert_eq!(rig.partition("keeps", 0).stats().records, 1);
    assert_eq!(rig.read(&rig.partition("events", 0), 1).unwrap(), [(1, "stays".to_owned())]);
}
