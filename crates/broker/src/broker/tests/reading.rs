use std::sync::Arc;

use model::{ErrorKind, Offset, Record};

use crate::{
    Append, Overflow, Oversize, Partition, PublishUnit, ReadLimits, Retention, StreamSettings, TimeSource,
    Watch,
    testing::{Rig, START_MS, batch, batch_of, record, until, wait},
};

fn at(time_ms: i64, body: &str) -> Record {
    Record { event_time_ms: Some(time_ms), ..record(body) }
}

#[test]
fn a_read_begins_with_the_batch_that_holds_its_offset() {
    let rig = Rig::new();
    rig.log("orders", 1);
    let partition = rig.partition("orders", 0);
    rig.append(&partition, &["a", "b", "c"]);
    let chunk = wait(rig.broker.read(&partition, Offset(1), ReadLimits::default())).unwrap();
    assert_eq!((chunk.batches[0].batch.base, chunk.next), (Offset(0), Offset(3)));
    assert_eq!(rig.read(&partition, 1).unwrap(), [(1, "b".into()), (2, "c".into())]);
}

#[test]
fn a_read_outside_of_the_partition_is_not_found_and_at_its_end_is_empty() {
    let rig = Rig::new();
    rig.log("orders", 1);
    let partition = rig.partition("orders", 0);
    rig.append(&partition, &["a"]);
    rig.append(&partition, &["b"]);
    assert_eq!(wait(rig.broker.trim(&partition, Offset(1))), Ok(Offset(1)));
    for (from, expected) in
        [(0, Some(ErrorKind::NotFound)), (1, None), (2, None), (3, Some(ErrorKind::NotFound))]
    {
        let read = wait(rig.broker.read(&partition, Offset(from), ReadLimits::default()));
        assert_eq!(read.err().map(|e| e.kind()), expected, "{from}");
    }
    assert_eq!(wait(rig.broker.trim(&partition, Offset(3))).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_first_batch_that_is_too_long_is_given_unless_it_is_not_wanted() {
    let rig = Rig::new();
    rig.log("orders", 1);
    let partition = rig.partition("orders", 0);
    rig.append(&partition, &["abcdef"]);
    for (oversize, batches) in [(Oversize::First, 1), (Oversize::Never, 0)] {
        let limits = ReadLimits { oversize, ..ReadLimits::bytes(3) };
        let chunk = rig.broker.try_read(&partition, Offset(0), limits).unwrap().unwrap();
        assert_eq!((chunk.batches.len(), chunk.next), (batches, Offset(batches as u64)));
    }
}

#[test]
fn a_watch_is_told_by_any_of_its_partitions_and_then_armed_again() {
    let rig = Rig::new();
    let stream = rig.log("orders", 3);
    let watch = Watch::new();
    let arm = |watch: &Watch| {
        let partitions = stream.partitions().iter();
        partitions.for_each(|partition| partition.watch(partition.bounds().stable_end, watch));
    };
    arm(&watch);
    assert!(!watch.take());
    rig.append(&stream.partitions()[2], &["x"]);
    wait(watch.changed());
    arm(&watch);
    rig.append(&stream.partitions()[0], &["x"]);
    wait(watch.changed());
    assert!(!watch.take());
    stream.partitions()[0].watch(Offset(0), &watch);
    assert!(watch.take(), "there is something to read already");
}

#[test]
fn a_task_that_waits_on_a_watch_is_woken_by_a_publish_of_another_thread() {
    let rig = Rig::new();
    rig.log("orders", 1);
    let partition = rig.partition("orders", 0);
    let watch = Watch::new();
    partition.watch(Offset(0), &watch);
    std::thread::scope(|scope| {
        scope.spawn(|| rig.append(&partition, &["x"]));
        wait(watch.changed());
    });
    assert_eq!(rig.read(&partition, 0).unwrap().len(), 1);
}

#[test]
fn a_watch_is_not_told_by_records_that_are_gone_before_anybody_could_read_them() {
    let rig = Rig::new();
    let settings =
        StreamSettings { length_max: Some(1), overflow: Overflow::DropOldest, ..StreamSettings::default() };
    rig.log_with("newest", 1, settings);
    let partition = rig.partition("newest", 0);
    // A disk may be faster than this thread, but not always.
    for _ in 0..1_000 {
        let burst = (0..10).map(|_| Append::new(&partition, batch(&["x"]))).collect();
        let published = rig.broker.publish(PublishUnit::of(burst)).unwrap();
        let watch = Watch::new();
        let told = partition.log().with(|core, state| {
            let end = core.stable_end();
            (core.start() > end).then(|| {
                state.watchers.arm(core, end, &watch);
                watch.take()
            })
        });
        wait(rig.broker.durable(published.wait)).unwrap();
        if let Some(told) = told {
            assert!(!told, "there is nothing to see yet");
            return wait(watch.changed());
        }
    }
    panic!("no record went before its sync");
}

fn timed(rig: &Rig, time: TimeSource) -> Arc<Partition> {
    rig.log_with("orders", 1, StreamSettings { time, ..StreamSettings::default() });
    let partition = rig.partition("orders", 0);
    for times in [[10, 40, 20], [50, 30, 50]] {
        let records: Vec<_> = times.iter().map(|time| at(*time, "x")).collect();
        rig.publish(Append::new(&partition, batch_of(&records)));
        rig.advance(100);
    }
    partition
}

#[test]
fn a_search_by_time_finds_the_first_record_at_or_after_it_within_batches() {
    let rig = Rig::new();
    let partition = timed(&rig, TimeSource::Producer);
    for (at_ms, expected) in
        [(0, Some((0, 10))), (11, Some((1, 40))), (40, Some((1, 40))), (41, Some((3, 50))), (51, None)]
    {
        let found = wait(rig.broker.search_time(&partition, at_ms)).unwrap();
        assert_eq!(found, expected.map(|(offset, time)| (Offset(offset), time)), "{at_ms}");
    }
    assert_eq!(wait(rig.broker.latest_time(&partition)), Ok(Some((Offset(3), 50))));
}

#[test]
fn a_search_goes_by_the_append_time_where_the_stream_says_so() {
    let rig = Rig::new();
    let partition = timed(&rig, TimeSource::Append);
    let found = wait(rig.broker.search_time(&partition, START_MS + 1)).unwrap();
    assert_eq!(found, Some((Offset(3), START_MS + 100)));
    assert_eq!(wait(rig.broker.latest_time(&partition)), Ok(Some((Offset(3), START_MS + 100))));
    assert_eq!(wait(rig.broker.search_time(&partition, START_MS + 101)), Ok(None));
}

fn kept(rig: &Rig, retention: Retention, advance_ms: i64) -> Vec<u64> {
    let stream = rig.log_with("orders", 1, StreamSettings { retention, ..StreamSettings::default() });
    let partition = rig.partition("orders", 0);
    for _ in 0..5 {
        rig.append(&partition, &["a", "b"]);
        rig.advance(10);
    }
    rig.advance(advance_ms);
    rig.broker.retain(&stream);
    let start = partition.bounds().start;
    rig.read(&partition, start.0).unwrap().iter().map(|(offset, _)| *offset).collect()
}

#[test]
fn retention_by_time_deletes_what_is_older() {
    let retention = Retention { time_ms: Some(30), ..Retention::default() };
    assert_eq!(kept(&Rig::new(), retention, 0), [4, 5, 6, 7, 8, 9]);
    assert!(kept(&Rig::new(), retention, 100).is_empty());
}

#[test]
fn retention_by_count_keeps_exactly_as_many_records() {
    let retention = Retention { records: Some(3), ..Retention::default() };
    assert_eq!(kept(&Rig::new(), retention, 0), [7, 8, 9]);
}

#[test]
fn retention_by_bytes_keeps_at_least_as_many_bytes() {
    let rig = Rig::new();
    assert_eq!(kept(&rig, Retention { bytes: Some(1), ..Retention::default() }, 0), [8, 9]);
    let rig = Rig::new();
    assert_eq!(kept(&rig, Retention { bytes: Some(1 << 20), ..Retention::default() }, 0).len(), 10);
}

#[test]
fn the_retention_worker_trims_by_itself() {
    let options = crate::BrokerOptions { retention_interval_ms: 5, ..Default::default() };
    let rig = Rig::with(options);
    let retention = Retention { time_ms: Some(30), ..Retention::default() };
    rig.log_with("orders", 1, StreamSettings { retention, ..StreamSettings::default() });
    let partition = rig.partition("orders", 0);
    rig.append(&partition, &["a"]);
    rig.advance(1_000);
    until(|| partition.bounds().start != Offset(0));
}
