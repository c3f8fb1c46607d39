//! Logs with many cursors: what those cost that have nothing to do.

use super::*;

fn keyed(keys: &[&str]) -> NewBatch {
    let row = |key: &&str| RecordAttributes {
        route_key: Some(bytes::Bytes::copy_from_slice(key.as_bytes())),
        ..RecordAttributes::default()
    };
    let rows: Vec<RecordAttributes> = keys.iter().map(row).collect();
    NewBatch { attributes: Attributes::Rows(rows.into()), ..batch(keys) }
}

fn open(rig: &Rig, partition: &Arc<Partition>, name: &str, filter: &[&str]) -> Work {
    let spec =
        WorkSpec { filter: filter.iter().map(|one| (*one).to_owned()).collect(), ..WorkSpec::default() };
    rig.broker.open_work(partition, name, spec).unwrap().0
}

/// How many cursors were looked at while `run` ran.
fn looked_at(partition: &Partition, run: impl FnOnce()) -> u64 {
    let before = partition.visited_cursors();
    run();
    partition.visited_cursors() - before
}

#[test]
fn what_a_commit_a_look_and_a_settlement_cost_does_not_grow_with_the_cursors_of_a_log() {
    let costs = [10, 1_000].map(|count: u64| {
        let rig = Rig::new();
        rig.log("events", 1);
        let partition = rig.partition("events", 0);
        let works: Vec<Work> = (0..count)
            .map(|number| open(&rig, &partition, &format!("w{number}"), &[&format!("k.{number}")]))
            .collect();
        let watches: Vec<Watch> = works.iter().map(|_| Watch::new()).collect();
        works.iter().zip(&watches).for_each(|(work, watch)| work.wait(HolderId(1), watch));
        works[0].counts().unwrap();
        let commit = looked_at(&partition, || {
            rig.publish(Append::new(&partition, keyed(&["k.3", "k.4", "other"])));
            wait(watches[3].changed());
        });
        let told = watches.iter().filter(|watch| watch.take()).count();
        assert_eq!(told, 1, "the other one that matches, and nobody else");
        let look = looked_at(&partition, || assert_eq!(works[5].progress().unwrap().outstanding, 0));
        let lease = looked_at(&partition, || {
            assert_eq!(offsets(&rig, &works[3], ask(1, 9, LeaseKind::Recorded)), [0]);
        });
        let settled = looked_at(&partition, || {
            assert_eq!(settle(&rig, &works[3], &[0], Verdict::Accept).done, spans(&[0]));
        });
        let dropped = looked_at(&partition, || {
            rig.broker.drop_records(&partition, &spans(&[1])).unwrap();
        });
        let due = looked_at(&partition, || {
            assert_eq!(offsets(&rig, &works[4], ask(1, 9, LeaseKind::Recorded)), [0; 0]);
        });
        [commit, look, lease, settled, dropped, due]
    });
    assert_eq!(costs[0], costs[1]);
    assert!(costs[0].iter().all(|cost| *cost < 20), "{costs:?}");
}

#[test]
fn a_lease_that_runs_out_is_given_again_whatever_other_cursors_wait_for() {
    let rig = Rig::new();
    rig.log("events", 1);
    let partition = rig.partition("events", 0);
    let [first, second] = ["first", "second"].map(|name| open(&rig, &partition, name, &[]));
    rig.append(&partition, &["a", "b"]);
    let timed = |lease_ms| LeaseAsk { time: LeaseTime::Ms(lease_ms), ..ask(1, 1, LeaseKind::Recorded) };
    assert_eq!(lease(&rig, &first, timed(60_000)), [(0, 1)]);
    assert_eq!(lease(&rig, &second, timed(1_000)), [(0, 1)]);
    let watch = Watch::new();
    settle(&rig, &second, &[1], Verdict::Accept);
    second.wait(HolderId(2), &watch);
    assert!(!watch.take());
    rig.advance(1_000);
    rig.broker.clock_was_set();
    wait(watch.changed());
    assert_eq!(lease(&rig, &second, ask(2, 9, LeaseKind::Recorded)), [(0, 2)]);
    assert!(offsets(&rig, &first, ask(2, 1, LeaseKind::Recorded)) == [1], "the first is still leased there");
}

#[test]
fn who_waits_is_told_by_any_of_its_filters_and_again_after_they_changed() {
    let rig = Rig::new();
    rig.log("events", 1);
    let partition = rig.partition("events", 0);
    let work = open(&rig, &partition, "w", &["a.*", "b.c"]);
    let watch = Watch::new();
    for key in ["a.x", "b.c"] {
        let end = partition.bounds().end.0;
        work.wait(HolderId(1), &watch);
        rig.publish(Append::new(&partition, keyed(&["x.y"])));
        assert!(!watch.take());
        rig.publish(Append::new(&partition, keyed(&[key])));
        wait(watch.changed());
        assert_eq!(offsets(&rig, &work, ask(1, 9, LeaseKind::Recorded)), [end + 1]);
    }
    work.wait(HolderId(1), &watch);
    let changed = work.set_filter(vec!["x.>".to_owned()]).unwrap();
    wait(rig.broker.durable(changed)).unwrap();
    wait(watch.changed());
    assert_eq!(offsets(&rig, &work, ask(1, 9, LeaseKind::Recorded)), [0; 0]);
    work.wait(HolderId(1), &watch);
    rig.publish(Append::new(&partition, keyed(&["a.x", "b.c"])));
    assert!(!watch.take(), "what it was for before");
    rig.publish(Append::new(&partition, keyed(&["x.y.z"])));
    wait(watch.changed());
    assert_eq!(offsets(&rig, &work, ask(1, 9, LeaseKind::Recorded)), [6]);
}

#[test]
fn who_begins_to_wait_while_its_record_is_on_its_way_is_told_of_it() {
    let rig = Rig::new();
    rig.log("events", 1);
    let partition = rig.partition("events", 0);
    for number in 0..50 {
        let key = format!("k.{number}");
        // Also the first that has such a filter.
        let late = (number % 2 == 0).then(|| open(&rig, &partition, &key, &[&key]));
        let append = Append::new(&partition, keyed(&[&key]));
        let published = rig.broker.publish(crate::PublishUnit::of(vec![append])).unwrap();
        let work = late.unwrap_or_else(|| open(&rig, &partition, &key, &[&key]));
        let watch = Watch::new();
        if offsets(&rig, &work, ask(1, 1, LeaseKind::Volatile)).is_empty() {
            work.wait(HolderId(1), &watch);
            wait(watch.changed());
            assert_eq!(offsets(&rig, &work, ask(1, 1, LeaseKind::Volatile)), [number]);
        }
        wait(rig.broker.durable(published.wait)).unwrap();
        work.close().unwrap();
    }
}

#[test]
fn a_cursor_that_was_idle_knows_of_all_that_left_the_log_meanwhile() {
    for dropped in [3, 2_000] {
        let rig = Rig::new();
        rig.log("events", 1);
        let partition = rig.partition("events", 0);
        let [busy, idle] = ["busy", "idle"].map(|name| open(&rig, &partition, name, &[]));
        let bodies = vec!["x"; 5_000];
        rig.append(&partition, &bodies);
        assert_eq!(idle.counts().unwrap().ready, 5_000);
        for offset in 0..dropped {
            rig.broker.drop_records(&partition, &spans(&[1 + offset * 2])).unwrap();
        }
        rig.append(&partition, &["y"]);
        assert_eq!(idle.counts().unwrap().ready, 5_001 - dropped);
        assert_eq!(offsets(&rig, &idle, ask(1, 2, LeaseKind::Volatile)), [0, 2]);
        assert_eq!(busy.counts().unwrap().ready, 5_001 - dropped);
    }
}

#[test]
fn where_route_keys_are_known_an_interest_does_not_wait_for_cursors_that_a_record_is_not_for() {
    let rig = Rig::new();
    let settings =
        StreamSettings { mode: Mode::Interest, index_route_keys: true, ..StreamSettings::default() };
    rig.log_with("events", 1, settings);
    let partition = rig.partition("events", 0);
    let [a, _b, all] = [("a", &["a.*"][..]), ("b", &["b.*"]), ("all", &[">"])]
        .map(|(name, filter)| open(&rig, &partition, name, filter));
    rig.publish(Append::new(&partition, keyed(&["a.1", "a.2", "b.1"])));
    assert_eq!(offsets(&rig, &a, ask(1, 9, LeaseKind::Volatile)), [0, 1]);
    assert_eq!(offsets(&rig, &all, ask(1, 9, LeaseKind::Volatile)), [0, 1, 2]);
    settle(&rig, &a, &[1], Verdict::Accept);
    settle(&rig, &all, &[0, 1, 2], Verdict::Accept);
    assert_eq!(partition.stats().records, 2, "one is settled by all that it is for");
    settle(&rig, &a, &[0], Verdict::Accept);
    assert_eq!((partition.stats().records, partition.bounds().start), (1, Offset(2)));
}

#[test]
fn a_watch_for_route_keys_is_told_of_theirs_alone() {
    let rig = Rig::new();
    rig.log_with("events", 1, StreamSettings { index_route_keys: true, ..StreamSettings::default() });
    let partition = rig.partition("events", 0);
    let pattern = |text: &str| route::Pattern::parse(text.as_bytes(), route::Syntax::ONE_REST).unwrap();
    let (watch, patterns) = (Watch::new(), [pattern("a.*"), pattern("b")]);
    partition.watch_under(Offset(0), &patterns, &watch);
    rig.publish(Append::new(&partition, keyed(&["c", "a"])));
    assert!(!watch.take());
    rig.publish(Append::new(&partition, keyed(&["c", "a.x", "b"])));
    wait(watch.changed());
    partition.watch_under(Offset(0), &patterns, &watch);
    assert!(watch.take(), "it is there");
    partition.watch_under(Offset(5), &patterns, &watch);
    rig.publish(Append::new(&partition, keyed(&["b"])));
    wait(watch.changed());
    partition.watch_under(Offset(6), &patterns, &watch);
    partition.watch(Offset(6), &watch);
    rig.publish(Append::new(&partition, keyed(&["c"])));
    wait(watch.changed());
    partition.watch_under(Offset(7), &patterns, &watch);
    wait(rig.broker.delete_stream(&key("events"))).unwrap();
    wait(watch.changed());
}

#[test]
fn a_cursor_with_a_filter_does_not_read_what_is_not_for_it() {
    let rig = Rig::new();
    rig.log_with("events", 1, StreamSettings { index_route_keys: true, ..StreamSettings::default() });
    let partition = rig.partition("events", 0);
    let work = open(&rig, &partition, "some", &["a.*", "b"]);
    rig.publish(Append::new(&partition, keyed(&["a.1", "other"])));
    for _ in 0..3 {
        rig.publish(Append::new(&partition, keyed(&vec!["other"; 5_000])));
    }
    rig.publish(Append::new(&partition, keyed(&["b", "other", "a.2"])));
    let seen = || rig.broker.works(&partition)[0].visited;
    assert_eq!(offsets(&rig, &work, ask(1, 1, LeaseKind::Recorded)), [0]);
    let before = seen();
    assert_eq!(offsets(&rig, &work, ask(1, 9, LeaseKind::Recorded)), [15_002, 15_004]);
    assert!(seen() - before < 20, "{}", seen() - before);
    assert_eq!(work.counts().unwrap().ready, 0);
}
