use bytes::Bytes;
use model::{Attributes, Offset, Record, RecordAttributes};

use crate::{
    Append, Conditions, NewBatch, Outcome, Overflow, RefusalReason, Replaces, Span, StreamSettings,
    routing::{Pattern, Syntax},
    testing::{Rig, batch, batch_of, wait},
};

fn under(keys: &[&str]) -> NewBatch {
    let row = |key: &&str| RecordAttributes {
        route_key: Some(key.as_bytes().to_vec().into()),
        ..RecordAttributes::default()
    };
    NewBatch { attributes: Attributes::Rows(keys.iter().map(row).collect()), ..batch(keys) }
}

fn keyed() -> StreamSettings {
    StreamSettings { index_route_keys: true, ..StreamSettings::default() }
}

fn put(rig: &Rig, batch: NewBatch) -> Outcome {
    rig.publish(Append::new(&rig.partition("kv", 0), batch))
}

/// Offsets and bodies, which are the keys.
fn all(rig: &Rig) -> Vec<(u64, String)> {
    let partition = rig.partition("kv", 0);
    rig.read(&partition, partition.bounds().start.0).unwrap()
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text.as_bytes(), Syntax::ONE_REST).unwrap()
}

#[test]
fn the_oldest_records_of_a_key_that_is_above_its_length_go_also_after_a_restart() {
    let mut rig = Rig::new();
    rig.log_with("kv", 1, StreamSettings { key_records_max: Some(2), ..keyed() });
    put(&rig, under(&["a", "b", "a", "a"]));
    for _ in 0..2 {
        assert_eq!(all(&rig), [(1, "b".into()), (2, "a".into()), (3, "a".into())]);
        rig.reopen();
    }
    put(&rig, under(&["a"]));
    assert_eq!(all(&rig), [(1, "b".into()), (3, "a".into()), (4, "a".into())]);
}

#[test]
fn a_key_that_is_full_refuses_where_the_stream_says_so_and_other_keys_do_not() {
    let rig = Rig::new();
    let settings = StreamSettings { key_records_max: Some(2), key_overflow: Overflow::Refuse, ..keyed() };
    rig.log_with("kv", 1, settings);
    let is_full = |outcome| match outcome {
        Outcome::Refused(refusal) => refusal.reason == RefusalReason::Full,
        _ => false,
    };
    assert!(is_full(put(&rig, under(&["a", "a", "a"]))));
    assert!(!is_full(put(&rig, under(&["a", "a"]))));
    assert!(is_full(put(&rig, under(&["b", "a"]))));
    assert!(!is_full(put(&rig, under(&["b"]))));
    assert_eq!(all(&rig).len(), 3);
}

#[test]
fn a_batch_may_replace_what_was_there_under_its_key_or_at_all() {
    let mut rig = Rig::new();
    rig.log_with("kv", 1, keyed());
    put(&rig, under(&["a", "b", "a", "c"]));
    put(&rig, NewBatch { replaces: Replaces::SameKey, ..under(&["a"]) });
    for _ in 0..2 {
        assert_eq!(all(&rig), [(1, "b".into()), (3, "c".into()), (4, "a".into())]);
        rig.reopen();
    }
    put(&rig, NewBatch { replaces: Replaces::Everything, ..under(&["d"]) });
    for _ in 0..2 {
        assert_eq!(all(&rig), [(5, "d".into())]);
        assert_eq!(rig.partition("kv", 0).route_key_count(), 1);
        rig.reopen();
    }
}

#[test]
fn records_are_found_by_patterns_of_their_keys_whatever_was_deleted_between() {
    let mut rig = Rig::new();
    rig.log_with("kv", 1, keyed());
    put(&rig, under(&["a.x", "b", "a.y", "a.x", "b"]));
    let gone = [Span::one(Offset(2))].into_iter().collect();
    let seq = rig.broker.drop_records(&rig.partition("kv", 0), &gone).unwrap();
    wait(rig.broker.durable(seq)).unwrap();
    for _ in 0..2 {
        let partition = rig.partition("kv", 0);
        assert_eq!(partition.next_under(&pattern("a.*"), Offset(1)), Some(Offset(3)));
        assert_eq!(partition.next_under(&pattern("a.y"), Offset(0)), None);
        assert_eq!(partition.last_under(&pattern(">"), Offset(4)), Some(Offset(3)));
        assert_eq!(partition.lasts_under(&pattern(">"), Offset(4), 9), [Offset(3), Offset(1)]);
        assert_eq!(partition.count_under(&pattern("a.>"), Offset(0)), 2);
        assert_eq!(partition.offsets_under(&pattern("b"), Offset(0), Offset(5), 1), [Offset(1)]);
        let views = partition.route_keys(&pattern("a.*"), 0, 10);
        let found: Vec<_> = views.iter().map(|view| (&view.key[..], view.records, view.last)).collect();
        assert_eq!(found, [(&b"a.x"[..], 2, Offset(3))]);
        assert_eq!(partition.gaps(10), (vec![Offset(2)], 1));
        rig.reopen();
    }
}

fn put_if(rig: &Rig, keys: &[&str], conditions: Conditions) -> Outcome {
    rig.publish(Append { conditions, ..Append::new(&rig.partition("kv", 0), under(keys)) })
}

fn is_refused(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Refused(refusal) if refusal.reason == RefusalReason::ConditionFailed)
}

#[test]
fn an_append_may_expect_the_last_record_of_a_pattern_and_the_last_dedup_key() {
    let rig = Rig::new();
    rig.log_with("kv", 1, keyed());
    put(&rig, under(&["a.x", "a.y", "b"]));
    let by_pattern = |text: &str, last: Option<u64>| Conditions {
        expected_pattern_last: Some((pattern(text), last.map(Offset))),
        ..Conditions::default()
    };
    assert!(is_refused(&put_if(&rig, &["c"], by_pattern("a.*", Some(0)))));
    assert!(is_refused(&put_if(&rig, &["c"], by_pattern("b", None))));
    assert!(!is_refused(&put_if(&rig, &["c"], by_pattern("a.*", Some(1)))));
    let id = |id: &'static str| Conditions { dedup_key: Some(id.into()), ..Conditions::default() };
    let after =
        |id: &'static str| Conditions { expected_last_dedup_key: Some(id.into()), ..Conditions::default() };
    assert!(is_refused(&put_if(&rig, &["a.x"], after("1"))));
    put_if(&rig, &["a.x"], id("1"));
    assert!(!is_refused(&put_if(&rig, &["a.x"], after("1"))));
    assert!(is_refused(&put_if(&rig, &["a.x"], after("1"))), "another record is the last");
}

#[test]
fn a_repeated_publish_is_a_duplicate_or_breaks_its_expectation_as_it_asks() {
    let rig = Rig::new();
    rig.log_with("kv", 1, keyed());
    let asked = |is_dedup_last| Conditions {
        dedup_key: Some("1".into()),
        expected_end: Some(Offset(0)),
        is_dedup_last,
        ..Conditions::default()
    };
    put_if(&rig, &["a"], asked(true));
    assert!(matches!(put_if(&rig, &["a"], asked(false)), Outcome::Duplicate { base: Offset(0), .. }));
    assert!(is_refused(&put_if(&rig, &["a"], asked(true))));
}

#[test]
fn a_record_without_a_route_key_enters_under_its_record_key_or_not_at_all() {
    let mut rig = Rig::new();
    let settings = StreamSettings {
        index_route_keys: true,
        entry_keys: vec!["a.*".to_owned(), "b.>".to_owned()],
        ..StreamSettings::default()
    };
    rig.log_with("events", 1, settings);
    let keyed = |keys: &[Option<&str>]| {
        let record = |key: &Option<&str>| Record {
            key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
            body: Some(Bytes::from_static(b"x")),
            ..Record::default()
        };
        batch_of(&keys.iter().map(record).collect::<Vec<_>>())
    };
    for _ in 0..2 {
        let partition = rig.partition("events", 0);
        for keys in [&[Some("a")][..], &[Some("a.x"), Some("c")], &[None], &[Some("b..x")], &[Some("a. x")]] {
            let outcome = rig.publish(Append::new(&partition, keyed(keys)));
            let is_invalid =
                matches!(&outcome, Outcome::Refused(why) if why.reason == RefusalReason::Invalid);
            assert!(is_invalid, "{keys:?}: {outcome:?}");
        }
        let outcome = rig.publish(Append::new(&partition, keyed(&[Some("a.x"), Some("b.x.y")])));
        assert!(matches!(outcome, Outcome::Appended { .. }), "{outcome:?}");
        rig.reopen();
    }
    let pattern = Pattern::parse(b"b.>", Syntax::ONE_REST).unwrap();
    assert_eq!(
        rig.partition("events", 0).offsets_under(&pattern, Offset(0), Offset(9), 9),
        [1, 3].map(Offset)
    );
}
