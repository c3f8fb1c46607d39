use std::{sync::Arc, time::Duration};

use model::{ErrorKind, Kind, Namespace, Seq, StreamKey};

use crate::{
    Durability, Facets, Retention, StreamSettings, StreamSpec, Watch,
    testing::{Rig, key, wait},
};

#[test]
fn a_created_stream_is_there_after_a_restart_with_its_settings() {
    let mut rig = Rig::new();
    let settings = StreamSettings {
        retention: Retention { time_ms: Some(5), ..Retention::default() },
        extras: [("x.a".to_owned(), "b".to_owned())].into(),
        ..StreamSettings::default()
    };
    let made = rig.log_with("orders", 3, settings.clone());
    let incarnation = rig.broker.incarnation_id();
    rig.reopen();
    let found = rig.stream("orders");
    assert_eq!(found.id(), made.id());
    assert_eq!(**found.settings(), settings);
    assert_eq!(found.partitions().len(), 3);
    assert_eq!(rig.broker.incarnation_id(), incarnation);
    assert_ne!(incarnation, 0);
}

#[test]
fn a_name_is_taken_once() {
    let rig = Rig::new();
    rig.log("orders", 1);
    let again = rig.broker.stage_create_stream(key("orders"), StreamSpec::with_partitions(1)).map(drop);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::Exists);
    let queue = StreamKey { kind: Kind::Queue, ..key("orders") };
    assert!(wait(rig.broker.create_stream(queue, StreamSpec::with_partitions(1))).is_ok());
}

#[test]
fn partitions_are_limited() {
    let rig = Rig::new();
    let max = model::limits::PARTITIONS_MAX;
    for (count, expected) in
        [(0, Some(ErrorKind::Invalid)), (max - 1, None), (max, None), (max + 1, Some(ErrorKind::Limit))]
    {
        let made =
            rig.broker.stage_create_stream(key(&count.to_string()), StreamSpec::with_partitions(count));
        assert_eq!(made.err().map(|e| e.kind()), expected, "{count}");
    }
}

#[test]
fn a_queue_has_one_partition() {
    let rig = Rig::new();
    let queue = StreamKey { kind: Kind::Queue, ..key("jobs") };
    for count in [2, 3] {
        let made = rig.broker.stage_create_stream(queue.clone(), StreamSpec::with_partitions(count));
        assert_eq!(made.err().unwrap().kind(), ErrorKind::Invalid);
    }
    wait(rig.broker.create_stream(queue.clone(), StreamSpec::with_partitions(1))).unwrap();
    assert_eq!(wait(rig.broker.add_partitions(&queue, 2)).err().unwrap().kind(), ErrorKind::Invalid);
    assert_eq!(rig.broker.stream(&queue).unwrap().partitions().len(), 1);
}

#[test]
fn whether_a_stream_can_grow_is_known_before_it_does() {
    let rig = Rig::new();
    rig.log("orders", 2);
    let check = |total: u32| rig.broker.check_growth(&key("orders"), total).map_err(|e| e.kind());
    assert_eq!(check(3), Ok(()));
    assert_eq!(check(model::limits::PARTITIONS_MAX + 1), Err(ErrorKind::Limit));
    for total in [0, 1, 2] {
        assert_eq!(check(total), Err(ErrorKind::Invalid), "{total}");
    }
    assert_eq!(rig.broker.check_growth(&key("absent"), 3).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(rig.stream("orders").partitions().len(), 2);
}

#[test]
fn streams_are_listed_by_namespace_kind_and_name() {
    let rig = Rig::new();
    let other = Namespace::new("public", "other");
    for name in ["b", "a"] {
        rig.log(name, 1);
        let queue = StreamKey { kind: Kind::Queue, ..key(name) };
        wait(rig.broker.create_stream(queue, StreamSpec::with_partitions(1))).unwrap();
    }
    wait(rig.broker.create_stream(StreamKey::log(&other, "c"), StreamSpec::with_partitions(1))).unwrap();
    let names = |namespace: &Namespace, kind| {
        let list = rig.broker.streams(namespace, kind);
        list.iter().map(|stream| stream.key().name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names(&Namespace::default(), Some(Kind::Log)), ["a", "b"]);
    assert_eq!(names(&Namespace::default(), Some(Kind::Queue)), ["a", "b"]);
    assert_eq!(names(&Namespace::default(), None), ["a", "b", "a", "b"]);
    assert_eq!(names(&other, None), ["c"]);
    assert_eq!(rig.broker.namespaces(), [Namespace::default(), other]);
}

#[test]
fn altered_settings_and_added_partitions_survive_a_restart() {
    let mut rig = Rig::new();
    rig.log("orders", 1);
    let first = rig.partition("orders", 0);
    rig.append(&first, &["kept"]);
    let generation = rig.broker.catalog_generation();
    let altered = wait(rig.broker.alter_stream(&key("orders"), |settings| {
        settings.batch_len_max = Some(9);
        Ok(())
    }));
    assert_eq!(altered.unwrap().settings().batch_len_max, Some(9));
    assert!(rig.broker.catalog_generation() > generation);
    let grown = wait(rig.broker.add_partitions(&key("orders"), 3)).unwrap();
    assert!(Arc::ptr_eq(grown.partitions()[0].log(), first.log()));
    assert_eq!(wait(rig.broker.add_partitions(&key("orders"), 3)).err().unwrap().kind(), ErrorKind::Invalid);
    rig.reopen();
    let found = rig.stream("orders");
    assert_eq!((found.partitions().len(), found.settings().batch_len_max), (3, Some(9)));
    assert_eq!(rig.read(&found.partitions()[0], 0).unwrap(), [(0, "kept".into())]);
}

#[test]
fn durability_of_a_stream_cannot_be_altered() {
    let rig = Rig::new();
    rig.log("orders", 1);
    let altered = rig.broker.stage_alter_stream(&key("orders"), |settings| {
        settings.durability = Durability::Memory;
        Ok(())
    });
    assert_eq!(altered.err().unwrap().kind(), ErrorKind::Invalid);
}

#[test]
fn a_stream_that_is_deleted_and_created_again_is_empty_and_another() {
    let mut rig = Rig::new();
    let old = rig.log("orders", 1);
    let partition = rig.partition("orders", 0);
    rig.append(&partition, &["gone"]);
    let watch = Watch::new();
    partition.watch(partition.bounds().end, &watch);
    wait(rig.broker.delete_stream(&key("orders"))).unwrap();
    assert!(watch.take(), "whoever waits on it is told");
    assert_eq!(rig.read(&partition, 0).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(partition.check_open().unwrap_err().kind(), ErrorKind::Closed);
    let new = rig.log("orders", 1);
    assert_ne!(new.id(), old.id());
    assert_ne!(new.partitions()[0].log_id(), partition.log_id());
    rig.reopen();
    assert_eq!(rig.stream("orders").id(), new.id());
    assert!(rig.read(&rig.partition("orders", 0), 0).unwrap().is_empty());
    assert!(rig.broker.stream_by_id(old.id()).is_none());
}

#[test]
fn a_transient_stream_is_gone_after_a_restart() {
    let mut rig = Rig::new();
    let facets = Facets { transient: true, ..Facets::default() };
    let spec = StreamSpec { facets, ..StreamSpec::with_partitions(1) };
    wait(rig.broker.create_stream(key("reply"), spec)).unwrap();
    rig.append(&rig.partition("reply", 0), &["here"]);
    rig.reopen();
    assert!(rig.broker.stream(&key("reply")).is_none());
    assert!(rig.broker.store().logs().is_empty());
}

#[test]
fn streams_are_limited_for_each_tenant() {
    let options = crate::BrokerOptions { streams_per_tenant_max: Some(1), ..Default::default() };
    let rig = Rig::with(options);
    rig.log("one", 1);
    let more = rig.broker.stage_create_stream(key("two"), StreamSpec::with_partitions(1));
    assert_eq!(more.err().unwrap().kind(), ErrorKind::Limit);
    wait(rig.broker.delete_stream(&key("one"))).unwrap();
    rig.log("two", 1);
}

#[test]
fn producer_ids_are_never_given_twice() {
    let mut rig = Rig::new();
    let mut last = -1;
    for _ in 0..2 {
        for _ in 0..1_500 {
            let (id, seq) = rig.broker.new_producer_id().unwrap();
            assert!(id > last && seq > Seq(0));
            last = id;
        }
        wait(rig.broker.durable(rig.broker.new_producer_id().unwrap().1)).unwrap();
        rig.reopen();
    }
}

/// The whole 100,000 is for the bench; here a tenth shows that creating is pipelined and cheap.
#[test]
fn ten_thousand_streams_are_created_and_found_again_in_seconds() {
    let mut rig = Rig::new();
    let began = env::real().clock.mono_ns();
    let mut last = Seq(0);
    for number in 0..10_000 {
        let spec = StreamSpec::with_partitions(1);
        last = rig.broker.stage_create_stream(key(&format!("stream-{number}")), spec).unwrap().1;
    }
    wait(rig.broker.durable(last)).unwrap();
    let made = env::real().clock.mono_ns();
    rig.reopen();
    let found = env::real().clock.mono_ns();
    assert_eq!(rig.broker.all_streams().len(), 10_000);
    println!(
        "created in {:?}, restarted in {:?}",
        Duration::from_nanos(made - began),
        Duration::from_nanos(found - made)
    );
    assert!(made - began < 5_000_000_000 && found - made < 5_000_000_000);
}

/// Takes all the room that those have who publish nothing, but for `left` bytes.
fn fill_drain(rig: &Rig, left: usize) -> Vec<store::Permit> {
    let reserve = |len| rig.broker.store().reserve(len, store::Class::Drain);
    let kept = reserve(left).unwrap();
    let mut held = Vec::new();
    for len in (0..=16).rev().map(|bit| 1 << bit) {
        held.extend(std::iter::from_fn(|| reserve(len).ok()));
    }
    drop(kept);
    held
}

#[test]
fn a_stream_is_made_and_deleted_whole_or_not_at_all_however_little_room_there_is() {
    let rig = Rig::with(crate::BrokerOptions { memory_budget_len: 8 << 20, ..Default::default() });
    let settings = StreamSettings { index_route_keys: true, ..StreamSettings::default() };
    let (mut made, mut deleted) = (0, 0);
    for left in (0..600).step_by(20) {
        let held = fill_drain(&rig, left);
        let spec = StreamSpec { settings: settings.clone(), ..StreamSpec::with_partitions(1) };
        let staged = rig.broker.stage_create_stream(key("kv"), spec.clone());
        drop(held);
        match staged {
            Ok((stream, seq)) => {
                wait(rig.broker.durable(seq)).unwrap();
                assert_eq!(stream.partitions().len(), 1, "{left}");
                made += 1;
            }
            Err(refused) => {
                assert_eq!(refused.kind(), ErrorKind::Throttled);
                assert!(rig.broker.stream(&key("kv")).is_none(), "{left}");
                wait(rig.broker.create_stream(key("kv"), spec)).unwrap();
            }
        }
        let held = fill_drain(&rig, left);
        let staged = rig.broker.stage_delete_stream(&key("kv"));
        drop(held);
        assert_eq!(rig.broker.stream(&key("kv")).is_some(), staged.is_err(), "{left}");
        match staged {
            Ok(seq) => {
                wait(rig.broker.durable(seq)).unwrap();
                deleted += 1;
            }
            Err(_) => wait(rig.broker.delete_stream(&key("kv"))).unwrap(),
        }
    }
    assert!(made > 0 && made < 30 && deleted > 0 && deleted < 30, "{made} made, {deleted} deleted");
}
