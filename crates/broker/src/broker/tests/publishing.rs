use model::{Attributes, Offset, ProducerStamp, RecordAttributes};

use crate::{
    Allowance, Append, Claim, Conditions, DeadLetter, Extent, HolderId, LeaseAsk, LeaseKind, Mode, NewBatch,
    Outcome, Overflow, PublishUnit, RefusalReason, Settlement, StreamSettings, Verdict,
    testing::{Rig, START_MS, batch, wait},
};

fn numbered(epoch: i16, first_sequence: i32, bodies: &[&str]) -> NewBatch {
    NewBatch { producer: Some(ProducerStamp { id: 4, epoch, first_sequence }), ..batch(bodies) }
}

fn reason(outcome: &Outcome) -> RefusalReason {
    match outcome {
        Outcome::Refused(refusal) => refusal.reason,
        other => panic!("{other:?}"),
    }
}

fn at(base: u64) -> Outcome {
    Outcome::Appended { base: Offset(base), append_time_ms: START_MS }
}

#[test]
fn what_is_published_is_read_after_its_commit_and_after_a_restart() {
    let mut rig = Rig::new();
    rig.log("orders", 1);
    assert_eq!(rig.append(&rig.partition("orders", 0), &["a", "b"]), Offset(0));
    assert_eq!(rig.append(&rig.partition("orders", 0), &["c"]), Offset(2));
    let expected = [(0, "a".into()), (1, "b".into()), (2, "c".into())];
    assert_eq!(rig.read(&rig.partition("orders", 0), 0).unwrap(), expected);
    rig.reopen();
    assert_eq!(rig.read(&rig.partition("orders", 0), 0).unwrap(), expected);
    assert_eq!(rig.append(&rig.partition("orders", 0), &["d"]), Offset(3));
}

#[test]
fn one_unit_reaches_many_partitions_and_each_append_has_its_outcome() {
    let rig = Rig::new();
    let stream = rig.log("orders", 16);
    let appends = stream.partitions().iter().map(|partition| Append::new(partition, batch(&["x"]))).collect();
    let published = rig.broker.publish(PublishUnit::of(appends)).unwrap();
    assert_eq!(published.outcomes, vec![at(0); 16]);
    wait(rig.broker.durable(published.wait)).unwrap();
    assert!(stream.partitions().iter().all(|partition| partition.bounds().durable_end == Offset(1)));
}

#[test]
fn a_batch_sent_again_is_answered_with_its_first_offset_also_after_a_restart() {
    let mut rig = Rig::new();
    rig.log("orders", 1);
    for (first, base) in [(0, 0), (2, 2), (4, 4)] {
        let append = Append::new(&rig.partition("orders", 0), numbered(0, first, &["x", "y"]));
        assert_eq!(rig.publish(append), at(base));
    }
    rig.advance(10);
    for _ in 0..2 {
        let again = Append::new(&rig.partition("orders", 0), numbered(0, 2, &["x", "y"]));
        assert_eq!(rig.publish(again), Outcome::Duplicate { base: Offset(2), append_time_ms: START_MS });
        let gap = Append::new(&rig.partition("orders", 0), numbered(0, 7, &["z"]));
        assert_eq!(reason(&rig.publish(gap)), RefusalReason::SequenceGap);
        rig.reopen();
    }
    assert_eq!(rig.read(&rig.partition("orders", 0), 0).unwrap().len(), 6);
    let next = Append::new(&rig.partition("orders", 0), numbered(1, 0, &["z"]));
    assert!(matches!(rig.publish(next), Outcome::Appended { base: Offset(6), .. }));
    let old = Append::new(&rig.partition("orders", 0), numbered(0, 6, &["z"]));
    assert_eq!(reason(&rig.publish(old)), RefusalReason::ProducerFenced);
}

#[test]
fn two_batches_of_one_producer_in_one_unit_follow_each_other() {
    let rig = Rig::new();
    rig.log("orders", 1);
    let partition = rig.partition("orders", 0);
    let appends = [0, 1, 3].map(|first| Append::new(&partition, numbered(0, first, &["x"])));
    let published = rig.broker.publish(PublishUnit::of(appends.into())).unwrap();
    assert_eq!(published.outcomes[..2], [at(0), at(1)]);
    assert_eq!(reason(&published.outcomes[2]), RefusalReason::SequenceGap);
}

#[test]
fn a_duplicate_waits_for_the_commit_of_the_first() {
    let rig = Rig::new();
    rig.log("orders", 1);
    let partition = rig.partition("orders", 0);
    let publish = || {
        let append = Append::new(&partition, numbered(0, 0, &["x"]));
        rig.broker.publish(PublishUnit::of(vec![append])).unwrap()
    };
    let (first, second) = (publish(), publish());
    assert!(matches!(second.outcomes[0], Outcome::Duplicate { .. }));
    assert!(second.wait >= first.wait);
}

#[test]
fn a_producer_idle_for_a_day_is_forgotten() {
    let rig = Rig::new();
    let stream = rig.log("orders", 1);
    let partition = rig.partition("orders", 0);
    rig.publish(Append::new(&partition, numbered(0, 0, &["x"])));
    assert_eq!(rig.broker.producers(&partition).len(), 1);
    rig.advance(24 * 60 * 60 * 1_000);
    rig.broker.retain(&stream);
    assert_eq!(rig.broker.producers(&partition).len(), 1);
    rig.advance(1);
    rig.broker.retain(&stream);
    assert!(rig.broker.producers(&partition).is_empty());
    assert!(matches!(
        rig.publish(Append::new(&partition, numbered(0, 50, &["x"]))),
        Outcome::Appended { .. }
    ));
}

#[test]
fn of_two_appends_that_expect_the_same_end_one_is_refused() {
    let rig = Rig::new();
    rig.log("orders", 1);
    let partition = rig.partition("orders", 0);
    let conditions = Conditions { expected_end: Some(Offset(0)), ..Conditions::default() };
    let append = || Append { conditions: conditions.clone(), ..Append::new(&partition, batch(&["x"])) };
    let first = rig.broker.publish(PublishUnit::of(vec![append()])).unwrap();
    let second = rig.broker.publish(PublishUnit::of(vec![append()])).unwrap();
    assert_eq!(first.outcomes, [at(0)]);
    assert_eq!(reason(&second.outcomes[0]), RefusalReason::ConditionFailed);
    assert!(second.wait >= first.wait, "the refusal rests on what is staged");
}

#[test]
fn an_append_may_name_its_offset_and_time_and_what_is_between_is_a_gap() {
    let rig = Rig::new();
    rig.log("orders", 1);
    let partition = rig.partition("orders", 0);
    let placed = |offset, time| Append {
        conditions: Conditions { placed_at: Some((Offset(offset), time)), ..Conditions::default() },
        ..Append::new(&partition, batch(&["x"]))
    };
    let time = START_MS - 5;
    let first = rig.publish(placed(7, time));
    assert_eq!(first, Outcome::Appended { base: Offset(7), append_time_ms: time });
    assert_eq!(rig.read(&partition, 0).unwrap(), [(7, "x".into())]);
    assert_eq!(reason(&rig.publish(placed(7, time))), RefusalReason::Invalid);
}

#[test]
fn a_unit_for_all_or_nothing_appends_nothing_when_one_is_refused() {
    let rig = Rig::new();
    let stream = rig.log("orders", 2);
    let [a, b] = [&stream.partitions()[0], &stream.partitions()[1]];
    let conditions = Conditions { expected_end: Some(Offset(1)), ..Conditions::default() };
    let refused = Append { conditions, ..Append::new(b, batch(&["y"])) };
    let unit = PublishUnit {
        appends: vec![Append::new(a, batch(&["x"])), refused],
        extent: Extent::All,
        ..Default::default()
    };
    let published = rig.broker.publish(unit).unwrap();
    assert_eq!(reason(&published.outcomes[0]), RefusalReason::OthersRefused);
    assert_eq!(reason(&published.outcomes[1]), RefusalReason::ConditionFailed);
    assert_eq!((a.bounds().end, b.bounds().end), (Offset(0), Offset(0)));
}

#[test]
fn batches_longer_than_the_stream_allows_are_refused() {
    let rig = Rig::new();
    let len = u32::try_from(batch(&["12345"]).body.len()).unwrap();
    rig.log_with("orders", 1, StreamSettings { batch_len_max: Some(len), ..StreamSettings::default() });
    let partition = rig.partition("orders", 0);
    for (body, is_taken) in [("1234", true), ("12345", true), ("123456", false)] {
        let outcome = rig.publish(Append::new(&partition, batch(&[body])));
        assert_eq!(matches!(outcome, Outcome::Appended { .. }), is_taken, "{body}");
        if !is_taken {
            assert_eq!(reason(&outcome), RefusalReason::TooLarge);
        }
    }
}

#[test]
fn a_full_stream_refuses_or_drops_its_oldest() {
    let rig = Rig::new();
    let limited = |overflow| StreamSettings { length_max: Some(2), overflow, ..StreamSettings::default() };
    rig.log_with("refusing", 1, limited(Overflow::Refuse));
    let refusing = rig.partition("refusing", 0);
    rig.append(&refusing, &["a"]);
    rig.append(&refusing, &["b"]);
    assert_eq!(reason(&rig.publish(Append::new(&refusing, batch(&["c"])))), RefusalReason::Full);
    rig.log_with("dropping", 1, limited(Overflow::DropOldest));
    let dropping = rig.partition("dropping", 0);
    for bodies in [&["a"][..], &["b", "c"], &["d"]] {
        rig.append(&dropping, bodies);
    }
    assert_eq!(rig.read(&dropping, 2).unwrap(), [(2, "c".into()), (3, "d".into())]);
    assert_eq!(dropping.bounds().start, Offset(2));
}

#[test]
fn a_publish_to_a_deleted_stream_is_refused_as_closed() {
    let rig = Rig::new();
    rig.log("orders", 1);
    let partition = rig.partition("orders", 0);
    wait(rig.broker.delete_stream(&crate::testing::key("orders"))).unwrap();
    assert_eq!(reason(&rig.publish(Append::new(&partition, batch(&["x"])))), RefusalReason::Closed);
}

fn under(key: &'static str) -> NewBatch {
    let row = RecordAttributes { route_key: Some(key.as_bytes().into()), ..RecordAttributes::default() };
    NewBatch { attributes: Attributes::Same(Box::new(row)), ..batch(&["x"]) }
}

fn expecting(partition: &std::sync::Arc<crate::Partition>, key: &'static str, last: Option<u64>) -> Append {
    let expected_key_last = Some((key.as_bytes().into(), last.map(Offset)));
    let conditions = Conditions { expected_key_last, ..Conditions::default() };
    Append { conditions, ..Append::new(partition, under(key)) }
}

#[test]
fn an_append_may_expect_the_last_offset_of_its_route_key_also_after_a_restart() {
    let mut rig = Rig::new();
    rig.log_with("kv", 1, StreamSettings { index_route_keys: true, ..StreamSettings::default() });
    let publish = |rig: &Rig, key, last| rig.publish(expecting(&rig.partition("kv", 0), key, last));
    assert_eq!(publish(&rig, "a", None), at(0));
    assert_eq!(publish(&rig, "b", None), at(1));
    assert_eq!(publish(&rig, "a", Some(0)), at(2));
    for _ in 0..2 {
        assert_eq!(reason(&publish(&rig, "a", Some(0))), RefusalReason::ConditionFailed);
        assert_eq!(reason(&publish(&rig, "b", None)), RefusalReason::ConditionFailed);
        rig.reopen();
    }
    let seq = rig
        .broker
        .drop_records(&rig.partition("kv", 0), &[crate::Span::one(Offset(1))].into_iter().collect());
    wait(rig.broker.durable(seq.unwrap())).unwrap();
    assert_eq!(publish(&rig, "b", None), at(3));
    rig.log("plain", 1);
    let refused = rig.publish(expecting(&rig.partition("plain", 0), "a", None));
    assert_eq!(reason(&refused), RefusalReason::Invalid);
}

#[test]
fn of_two_publishes_under_one_dedup_key_the_second_is_answered_with_the_first() {
    let mut rig = Rig::new();
    rig.log_with("orders", 1, StreamSettings { dedup_window_ms: 100, ..StreamSettings::default() });
    let publish = |rig: &Rig| {
        let conditions = Conditions { dedup_key: Some("id".into()), ..Conditions::default() };
        rig.publish(Append { conditions, ..Append::new(&rig.partition("orders", 0), batch(&["x"])) })
    };
    assert_eq!(publish(&rig), at(0));
    rig.advance(99);
    for _ in 0..2 {
        assert_eq!(publish(&rig), Outcome::Duplicate { base: Offset(0), append_time_ms: START_MS });
        rig.reopen();
    }
    rig.advance(1);
    assert!(matches!(publish(&rig), Outcome::Appended { base: Offset(1), .. }));
}

#[test]
fn a_dedup_key_is_known_after_restarts_whatever_number_was_published_since() {
    let mut rig = Rig::new();
    rig.log_with("orders", 1, StreamSettings { dedup_window_ms: 60_000, ..StreamSettings::default() });
    let append = |rig: &Rig, id: u32| {
        let dedup_key = Some(id.to_be_bytes().to_vec().into());
        let conditions = Conditions { dedup_key, ..Conditions::default() };
        Append { conditions, ..Append::new(&rig.partition("orders", 0), batch(&["x"])) }
    };
    for id in 0..70_000 {
        let published = rig.broker.publish(PublishUnit::of(vec![append(&rig, id)])).unwrap();
        if id % 1_000 == 999 {
            wait(rig.broker.durable(published.wait)).unwrap();
        }
    }
    for _ in 0..3 {
        rig.reopen();
        for id in [0, 32_768, 69_999] {
            let expected = Outcome::Duplicate { base: Offset(u64::from(id)), append_time_ms: START_MS };
            assert_eq!(rig.publish(append(&rig, id)), expected);
        }
    }
}

fn queue_of(rig: &Rig, name: &str, settings: StreamSettings) -> std::sync::Arc<crate::Partition> {
    let settings = StreamSettings { mode: Mode::Queue, ..settings };
    rig.log_with(name, 1, settings).partitions()[0].clone()
}

#[test]
fn a_unit_may_append_to_many_and_settle_what_it_came_from() {
    let rig = Rig::new();
    let source = queue_of(&rig, "source", StreamSettings::default());
    rig.append(&source, &["in"]);
    let work = rig.broker.queue_work(&source).unwrap().0;
    let ask = LeaseAsk {
        holder: HolderId(1),
        allowance: Allowance::records(1),
        kind: LeaseKind::Recorded,
        time: Default::default(),
    };
    let spans = wait(work.lease(ask)).unwrap().deliveries[0].spans();
    let targets = rig.log("targets", 2);
    let unit = |expected_end| {
        let conditions = Conditions { expected_end, ..Conditions::default() };
        let append =
            |partition| Append { conditions: conditions.clone(), ..Append::new(partition, batch(&["out"])) };
        let settlement = Settlement {
            work: work.clone(),
            spans: spans.clone(),
            claim: Claim::Anyone,
            verdict: Verdict::Accept,
        };
        PublishUnit {
            appends: targets.partitions().iter().map(append).collect(),
            settlements: vec![settlement],
            extent: Extent::All,
            ..PublishUnit::default()
        }
    };
    let refused = rig.broker.publish(unit(Some(Offset(5)))).unwrap();
    assert!(refused.settled.is_empty() && source.stats().records == 1);
    let published = rig.broker.publish(unit(Some(Offset(0)))).unwrap();
    assert_eq!((published.outcomes, published.settled[0].done.count()), (vec![at(0), at(0)], 1));
    wait(rig.broker.durable(published.wait)).unwrap();
    assert_eq!(source.stats().records, 0);
}

#[test]
fn a_full_stream_may_send_what_it_refuses_to_its_dead_letters() {
    let rig = Rig::new();
    let dead = queue_of(&rig, "dead", StreamSettings::default());
    let dead_letter = Some(DeadLetter { target: crate::testing::key("dead"), route_key: None });
    let settings = StreamSettings {
        length_max: Some(1),
        overflow: Overflow::Deflect,
        dead_letter,
        ..StreamSettings::default()
    };
    let full = queue_of(&rig, "full", settings);
    rig.append(&full, &["kept"]);
    assert_eq!(reason(&rig.publish(Append::new(&full, batch(&["over"])))), RefusalReason::Full);
    assert_eq!(rig.read(&dead, 0).unwrap(), [(0, "over".into())]);
}

#[test]
fn what_is_deflected_keeps_its_own_attributes_and_neither_expires_nor_waits() {
    let rig = Rig::new();
    let dead = queue_of(&rig, "dead", StreamSettings::default());
    let dead_letter =
        Some(DeadLetter { target: crate::testing::key("dead"), route_key: Some("too-much".into()) });
    let settings = StreamSettings {
        length_max: Some(1),
        overflow: Overflow::Deflect,
        dead_letter,
        ..StreamSettings::default()
    };
    let full = queue_of(&rig, "full", settings);
    let row = |key: &'static str| RecordAttributes {
        ordering_key: Some(key.into()),
        expiry_ms: Some(START_MS + 1),
        deliver_at_ms: Some(START_MS + 1_000),
        ..RecordAttributes::default()
    };
    let attributes = Attributes::Rows([row("a"), row("b")].into());
    let published = Append::new(&full, NewBatch { attributes, ..batch(&["x", "y"]) });
    assert_eq!(reason(&rig.publish(published)), RefusalReason::Full);
    let chunk = wait(rig.broker.read(&dead, Offset(0), crate::ReadLimits::bytes(1_000))).unwrap();
    let found = &chunk.batches[0].batch.attributes;
    for (index, key) in [(0, "a"), (1, "b")] {
        let expected = RecordAttributes {
            ordering_key: Some(key.into()),
            route_key: Some("too-much".into()),
            ..RecordAttributes::default()
        };
        assert_eq!(found.of(index), Some(&expected));
    }
}

#[test]
fn a_publisher_of_records_in_memory_waits_until_there_is_room_again() {
    let rig = Rig::with(crate::BrokerOptions { memory_budget_len: 8 << 20, ..Default::default() });
    let settings = StreamSettings { durability: crate::Durability::Memory, ..StreamSettings::default() };
    let stream = rig.log_with("memory", 1, settings);
    let partition = &stream.partitions()[0];
    let body = "x".repeat(100_000);
    let publish = || rig.broker.publish(PublishUnit::of(vec![Append::new(partition, batch(&[&body]))]));
    let refused = (0..1_000).find_map(|_| publish().err()).unwrap();
    assert_eq!(refused.kind(), model::ErrorKind::Throttled);
    wait(rig.broker.room());
    wait(rig.broker.trim(partition, partition.bounds().durable_end)).unwrap();
    wait(rig.broker.room());
    assert!(publish().is_ok());
}

#[test]
fn records_that_a_crash_may_take_back_leave_a_gap_and_never_overtake() {
    let mut rig = Rig::new();
    rig.log("orders", 1);
    let transient = NewBatch { durability: Some(crate::Durability::Memory), ..batch(&["lost"]) };
    rig.append(&rig.partition("orders", 0), &["kept"]);
    rig.publish(Append::new(&rig.partition("orders", 0), transient));
    assert_eq!(rig.append(&rig.partition("orders", 0), &["after"]), Offset(2));
    assert_eq!(rig.read(&rig.partition("orders", 0), 0).unwrap().len(), 3);
    rig.reopen();
    let expected = [(0, "kept".into()), (2, "after".into())];
    assert_eq!(rig.read(&rig.partition("orders", 0), 0).unwrap(), expected);
    assert!(rig.append(&rig.partition("orders", 0), &["next"]) >= Offset(3));
}
