//! What time brings where nobody leases anything, and what a restart or a seek must not forget.

use super::*;

fn timed(change: impl Fn(&mut RecordAttributes)) -> Attributes {
    Attributes::Same(Box::new(row(change)))
}

fn publish_with(rig: &Rig, partition: &Arc<Partition>, body: &str, attributes: Attributes) {
    rig.publish(Append::new(partition, NewBatch { attributes, ..batch(&[body]) }));
}

fn later(rig: &Rig, partition: &Arc<Partition>, body: &str, at_ms: i64) {
    publish_with(rig, partition, body, timed(|row| row.deliver_at_ms = Some(at_ms)));
}

fn fleeting(rig: &Rig) -> (Arc<Partition>, Arc<Partition>) {
    with_dead_letters(rig, StreamSettings { ttl_ms: Some(1_000), ..StreamSettings::default() })
}

fn is_moved(rig: &Rig, from: &str, to: &str) -> bool {
    rig.broker.clock_was_set();
    find(rig, from).stats().records == 0 && find(rig, to).stats().records == 1
}

#[test]
fn a_record_that_waits_for_its_time_waits_on_after_a_restart_although_later_ones_were_delivered() {
    for is_worked_before in [true, false] {
        let mut rig = Rig::new();
        let partition = queue(&rig, "later");
        if is_worked_before {
            work(&rig, &partition);
        }
        later(&rig, &partition, "early", START_MS + 10_000);
        rig.append(&partition, &["due"]);
        let cursor = work(&rig, &partition);
        assert_eq!(lease(&rig, &cursor, ask(1, 9, LeaseKind::Volatile)), [(1, 1)]);
        // How far deliveries went is logged with this.
        settle(&rig, &cursor, &[1], Verdict::Accept);
        rig.reopen();
        let cursor = work(&rig, &find(&rig, "later"));
        assert_eq!(lease(&rig, &cursor, ask(1, 9, LeaseKind::Recorded)), [], "{is_worked_before}");
        rig.advance(10_000);
        assert_eq!(lease(&rig, &cursor, ask(1, 9, LeaseKind::Recorded)), [(0, 1)], "{is_worked_before}");
    }
}

#[test]
fn a_cursor_that_is_set_back_delivers_nothing_before_its_time() {
    let rig = Rig::new();
    let partition = rig.log("events", 1).partitions()[0].clone();
    let (cursor, _) = rig.broker.open_work(&partition, "c", WorkSpec::default()).unwrap();
    later(&rig, &partition, "early", START_MS + 10_000);
    rig.append(&partition, &["due"]);
    assert_eq!(offsets(&rig, &cursor, ask(1, 9, LeaseKind::Recorded)), [1]);
    wait(rig.broker.durable(cursor.seek(Offset(0)).unwrap())).unwrap();
    assert_eq!(offsets(&rig, &cursor, ask(1, 9, LeaseKind::Recorded)), [1]);
    assert_eq!(cursor.state(Offset(0)).unwrap(), RecordState::Delayed(START_MS + 10_000));
}

#[test]
fn what_is_not_there_counts_as_nothing_after_a_seek_and_after_a_restart() {
    let mut rig = Rig::new();
    let partition = rig.log("events", 1).partitions()[0].clone();
    let (cursor, _) = rig.broker.open_work(&partition, "c", WorkSpec::default()).unwrap();
    rig.append(&partition, &["a", "b", "c", "d"]);
    wait(rig.broker.durable(rig.broker.drop_records(&partition, &spans(&[1, 2])).unwrap())).unwrap();
    wait(rig.broker.durable(cursor.seek(Offset(0)).unwrap())).unwrap();
    assert_eq!(cursor.counts().unwrap().ready, 2);
    assert_eq!(cursor.state(Offset(1)).unwrap(), RecordState::Settled);
    rig.reopen();
    let partition = rig.partition("events", 0);
    let cursor = rig.broker.work(&partition, "c").unwrap();
    assert_eq!(cursor.counts().unwrap().ready, 2);
}

#[test]
fn offsets_of_records_in_memory_are_not_counted_after_a_restart() {
    let mut rig = Rig::new();
    let partition = queue(&rig, "mixed");
    work(&rig, &partition);
    rig.append(&partition, &["on disk"]);
    let durability = Some(crate::Durability::Memory);
    rig.publish(Append::new(&partition, NewBatch { durability, ..batch(&["in memory"]) }));
    assert_eq!(work(&rig, &partition).counts().unwrap().ready, 2);
    rig.reopen();
    let partition = find(&rig, "mixed");
    assert_eq!(partition.bounds().end, Offset(2));
    assert_eq!(work(&rig, &partition).counts().unwrap().ready, 1);
}

#[test]
fn records_expire_after_a_restart_that_nothing_follows() {
    for own in [false, true] {
        let mut rig = Rig::new();
        let settings = StreamSettings { ttl_ms: (!own).then_some(1_000), ..StreamSettings::default() };
        let (partition, _) = with_dead_letters(&rig, settings);
        publish_with(&rig, &partition, "old", timed(|row| row.expiry_ms = own.then_some(START_MS + 1_000)));
        rig.reopen();
        rig.advance(2_000);
        until(|| is_moved(&rig, "jobs", "dead"));
    }
}

#[test]
fn a_record_that_expired_in_somebodys_hands_is_gone_once_it_is_back() {
    let rig = Rig::new();
    let (partition, _) = fleeting(&rig);
    rig.append(&partition, &["old"]);
    let cursor = work(&rig, &partition);
    let held = LeaseAsk { time: LeaseTime::Ms(5_000), ..ask(1, 1, LeaseKind::Recorded) };
    assert_eq!(lease(&rig, &cursor, held), [(0, 1)]);
    rig.advance(2_000);
    rig.broker.clock_was_set();
    // Nobody gives it to another when the lease runs out, whoever is first to notice.
    rig.advance(4_000);
    assert_eq!(lease(&rig, &cursor, ask(2, 1, LeaseKind::Recorded)), []);
    until(|| is_moved(&rig, "jobs", "dead"));
}

#[test]
fn what_waits_expires_however_much_before_it_is_in_somebodys_hands() {
    let rig = Rig::new();
    let (partition, dead) = fleeting(&rig);
    let large = "x".repeat(100_000);
    for _ in 0..6 {
        rig.append(&partition, &[large.as_str()]);
    }
    let cursor = work(&rig, &partition);
    let held = LeaseAsk { time: LeaseTime::Ms(60_000), ..ask(1, 6, LeaseKind::Recorded) };
    let mut leased = 0;
    while leased < 6 {
        leased += lease(&rig, &cursor, held).len();
    }
    rig.append(&partition, &["waits"]);
    rig.advance(2_000);
    until(|| {
        rig.broker.clock_was_set();
        dead.stats().records == 1
    });
    assert_eq!(partition.stats().records, 6);
}

#[test]
fn a_released_record_whose_time_is_over_is_gone() {
    let rig = Rig::new();
    let (partition, _) = fleeting(&rig);
    rig.append(&partition, &["old"]);
    let cursor = work(&rig, &partition);
    assert_eq!(lease(&rig, &cursor, ask(1, 1, LeaseKind::Recorded)), [(0, 1)]);
    rig.advance(2_000);
    settle(&rig, &cursor, &[0], Verdict::Release { delay_ms: 0, count: Count::Add });
    until(|| is_moved(&rig, "jobs", "dead"));
}

#[test]
fn a_time_to_live_that_is_set_later_holds_for_what_is_there() {
    let rig = Rig::new();
    let (partition, _) = with_dead_letters(&rig, StreamSettings::default());
    rig.append(&partition, &["old"]);
    let key = queue_key("jobs");
    let shorten = |settings: &mut StreamSettings| {
        settings.ttl_ms = Some(1_000);
        Ok(())
    };
    wait(rig.broker.alter_stream(&key, shorten)).unwrap();
    rig.advance(2_000);
    until(|| is_moved(&rig, "jobs", "dead"));
}

#[test]
fn a_full_queue_whose_records_are_out_sends_them_away_when_they_are_back() {
    let rig = Rig::new();
    let settings = StreamSettings { length_max: Some(2), ..StreamSettings::default() };
    let (partition, dead) = with_dead_letters(&rig, settings);
    let cursor = work(&rig, &partition);
    rig.append(&partition, &["a", "b"]);
    assert_eq!(offsets(&rig, &cursor, ask(1, 2, LeaseKind::Recorded)), [0, 1]);
    rig.append(&partition, &["c"]);
    let has_moved = |count| {
        rig.advance(10);
        rig.broker.clock_was_set();
        dead.stats().records == count
    };
    until(|| has_moved(1));
    assert_eq!(rig.read(&partition, 0).unwrap().len(), 2);
    settle(&rig, &cursor, &[0], Verdict::Release { delay_ms: 0, count: Count::Add });
    rig.append(&partition, &["d"]);
    until(|| has_moved(2));
    assert_eq!(rig.read(&partition, 1).unwrap(), [(1, "b".into()), (3, "d".into())]);
}

#[test]
fn a_record_with_its_own_time_is_not_delivered_before() {
    let rig = Rig::new();
    let partition = queue(&rig, "jobs");
    let rows = [Some(START_MS + 100), None].map(|at| row(|row| row.deliver_at_ms = at));
    rig.publish(Append::new(&partition, attributed(rows.into())));
    let work = work(&rig, &partition);
    // The first read tells the cursor of the record's time, and gives the other one.
    assert_eq!(offsets(&rig, &work, ask(1, 10, LeaseKind::Volatile)), [1]);
    rig.advance(100);
    assert_eq!(lease(&rig, &work, ask(1, 10, LeaseKind::Volatile)), [(0, 1)]);
}
