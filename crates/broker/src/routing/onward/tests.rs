use std::sync::Arc;

use bytes::Bytes;
use model::{Namespace, Offset, ProducerStamp, Record};

use crate::{
    Append, Claim, DeadLetter, Extent, HolderId, Mode, NewBatch, Outcome, Overflow, PublishUnit, Published,
    RefusalReason, Settlement, Span, StreamSettings, Verdict,
    routing::RouteCache,
    testing::{Rig, batch, batch_of, key, wait},
};

/// Publishes to the log `name` as the address `a:NAME`, along its routes.
pub(super) fn publish(rig: &Rig, name: &str, batch: NewBatch) -> Published {
    publish_as(rig, name, batch, Extent::Each)
}

fn publish_as(rig: &Rig, name: &str, batch: NewBatch, extent: Extent) -> Published {
    let stream = rig.stream(name);
    let targets = RouteCache::default().of(&rig.broker, &Namespace::default(), "a", name.as_bytes());
    let already = [stream.clone()];
    let onward = rig.broker.onward(&targets.unwrap_or_default(), &batch, &already).unwrap();
    let append = Append::new(&stream.partitions()[0], batch);
    let mut unit = PublishUnit { appends: vec![append], extent, ..PublishUnit::default() };
    onward.follow(0, &mut unit);
    let published = rig.broker.publish(unit).unwrap();
    wait(rig.broker.durable(published.wait)).unwrap();
    published
}

pub(super) fn route(rig: &Rig, from: &str, target: &str, key_template: Option<&str>) {
    wait(rig.broker.add_route(&Namespace::default(), from, key(target), key_template)).unwrap();
}

pub(super) fn bodies(rig: &Rig, name: &str, partition: usize) -> Vec<String> {
    let partition = rig.partition(name, partition);
    let start = partition.bounds().start;
    rig.read(&partition, start.0).unwrap().into_iter().map(|(_, body)| body).collect()
}

pub(super) fn keyed(key: Option<&str>, body: &str) -> Record {
    Record {
        key: key.map(|key| Bytes::copy_from_slice(key.as_bytes())),
        body: Some(Bytes::copy_from_slice(body.as_bytes())),
        ..Record::default()
    }
}

fn numbered(first_sequence: i32) -> NewBatch {
    NewBatch { producer: Some(ProducerStamp { id: 4, epoch: 0, first_sequence }), ..batch(&["x"]) }
}

/// A rig with `in`, whose records also go to `out`, a stream of these settings.
fn routed(settings: StreamSettings) -> Rig {
    let rig = Rig::new();
    rig.log("in", 1);
    rig.log_with("out", 1, settings);
    route(&rig, "a:in", "out", None);
    rig
}

fn limited(overflow: Overflow) -> StreamSettings {
    StreamSettings { length_max: Some(1), overflow, ..StreamSettings::default() }
}

fn reason(published: &Published) -> RefusalReason {
    match &published.outcomes[..] {
        [Outcome::Refused(refusal)] => refusal.reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_publish_and_its_copies_are_one_unit_that_a_restart_has_whole() {
    let mut rig = routed(StreamSettings::default());
    route(&rig, "a:*", "out", None);
    let published = publish(&rig, "in", batch(&["x", "y"]));
    assert_eq!(published.outcomes.len(), 1, "copies have no outcomes of their own");
    rig.reopen();
    assert_eq!(
        (bodies(&rig, "in", 0), bodies(&rig, "out", 0)),
        (vec!["x".into(), "y".into()], vec!["x".into(), "y".into()])
    );
}

#[test]
fn a_stream_is_no_target_of_its_own_address() {
    let rig = Rig::new();
    rig.log("in", 1);
    route(&rig, "a:in", "in", None);
    publish(&rig, "in", batch(&["x"]));
    assert_eq!(bodies(&rig, "in", 0), ["x"]);
}

#[test]
fn routes_do_not_chain() {
    let rig = routed(StreamSettings::default());
    rig.log("further", 1);
    route(&rig, "a:out", "further", None);
    publish(&rig, "in", batch(&["x"]));
    assert!(bodies(&rig, "further", 0).is_empty());
}

#[test]
fn a_duplicate_is_not_copied_again_not_even_after_a_restart() {
    let mut rig = routed(StreamSettings::default());
    publish(&rig, "in", numbered(0));
    for _ in 0..2 {
        let again = publish(&rig, "in", numbered(0));
        assert!(matches!(again.outcomes[..], [Outcome::Duplicate { base: Offset(0), .. }]));
        assert_eq!(bodies(&rig, "out", 0), ["x"]);
        rig.reopen();
    }
    publish(&rig, "in", numbered(1));
    assert_eq!(bodies(&rig, "out", 0), ["x", "x"]);
}

#[test]
fn a_refused_publish_is_not_copied() {
    let rig = routed(StreamSettings::default());
    publish(&rig, "in", numbered(0));
    assert_eq!(reason(&publish(&rig, "in", numbered(5))), RefusalReason::SequenceGap);
    assert_eq!(bodies(&rig, "out", 0).len(), 1);
}

#[test]
fn a_full_target_refuses_the_publish_whole() {
    for extent in [Extent::Each, Extent::All] {
        let rig = routed(limited(Overflow::Refuse));
        publish_as(&rig, "in", batch(&["a"]), extent);
        let refused = publish_as(&rig, "in", batch(&["b"]), extent);
        assert_eq!(reason(&refused), RefusalReason::Full);
        assert_eq!((bodies(&rig, "in", 0).len(), bodies(&rig, "out", 0).len()), (1, 1));
    }
}

#[test]
fn a_refusal_of_one_append_s_copy_leaves_the_other_appends_alone() {
    let rig = routed(limited(Overflow::Refuse));
    rig.log("other", 1);
    publish(&rig, "in", batch(&["a"]));
    let targets = rig.broker.routed(&Namespace::default(), "a", "in");
    let onward = rig.broker.onward(&targets, &batch(&["b"]), &[]).unwrap();
    let appends = ["other", "in"].map(|name| Append::new(&rig.partition(name, 0), batch(&["b"])));
    let mut unit = PublishUnit::of(appends.into());
    onward.follow(1, &mut unit);
    let outcomes = rig.broker.publish(unit).unwrap().outcomes;
    assert!(matches!(outcomes[0], Outcome::Appended { .. }), "{outcomes:?}");
    assert!(matches!(outcomes[1], Outcome::Refused(_)), "{outcomes:?}");
}

#[test]
fn a_target_that_drops_its_oldest_does_so_for_copies() {
    let rig = routed(limited(Overflow::DropOldest));
    publish(&rig, "in", batch(&["a"]));
    publish(&rig, "in", batch(&["b"]));
    assert_eq!((bodies(&rig, "in", 0).len(), bodies(&rig, "out", 0)), (2, vec!["b".into()]));
}

#[test]
fn a_target_that_deflects_sends_the_copy_to_its_dead_letters_and_refuses_the_publish() {
    let rig = Rig::new();
    rig.log("in", 1);
    rig.log("dead", 1);
    let dead_letter = Some(DeadLetter { target: key("dead"), route_key: None });
    rig.log_with("out", 1, StreamSettings { dead_letter, ..limited(Overflow::Deflect) });
    route(&rig, "a:in", "out", None);
    publish(&rig, "in", batch(&["a"]));
    assert_eq!(reason(&publish(&rig, "in", batch(&["b"]))), RefusalReason::Full);
    assert_eq!((bodies(&rig, "in", 0), bodies(&rig, "dead", 0)), (vec!["a".into()], vec!["b".into()]));
}

#[test]
fn a_target_s_limits_on_length_are_measured_where_the_batch_does_not_say() {
    let rig = routed(StreamSettings { record_len_max: Some(3), ..StreamSettings::default() });
    publish(&rig, "in", batch(&["a", "123"]));
    assert_eq!(reason(&publish(&rig, "in", batch(&["a", "1234"]))), RefusalReason::TooLarge);
    assert_eq!(bodies(&rig, "in", 0).len(), 2);
}

#[test]
fn records_of_one_key_go_to_one_partition_of_the_target_and_keep_their_order() {
    let rig = Rig::new();
    rig.log("in", 1);
    rig.log("out", 3);
    route(&rig, "a:in", "out", None);
    let keys: Vec<String> = (0..12).map(|n| format!("key-{}", n % 4)).collect();
    let records: Vec<Record> =
        keys.iter().zip(0..).map(|(key, n)| keyed(Some(key), &format!("{key}/{n}"))).collect();
    publish(&rig, "in", batch_of(&records));
    let mut all = 0;
    for partition in 0..3 {
        let found = bodies(&rig, "out", partition);
        all += found.len();
        for key in 0..4 {
            let prefix = format!("key-{key}/");
            let of_key: Vec<u32> = found
                .iter()
                .filter_map(|body| body.strip_prefix(&prefix))
                .map(|n| n.parse().unwrap())
                .collect();
            assert!(of_key.is_empty() || of_key.len() == 3, "{found:?}");
            assert!(of_key.is_sorted(), "{found:?}");
        }
    }
    assert_eq!(all, 12);
}

#[test]
fn records_without_a_key_stay_together_in_the_partition_that_ends_first() {
    let rig = Rig::new();
    rig.log("in", 1);
    rig.log("out", 2);
    route(&rig, "a:in", "out", None);
    publish(&rig, "in", batch(&["a", "b"]));
    publish(&rig, "in", batch(&["c"]));
    assert_eq!((bodies(&rig, "out", 0).len(), bodies(&rig, "out", 1).len()), (2, 1));
}

#[test]
fn a_key_that_a_route_gives_is_what_is_read_there_and_not_here() {
    let rig = Rig::new();
    rig.log("in.eu", 1);
    rig.log("out", 3);
    route(&rig, "a:in.*", "out", Some("{token.2}"));
    publish(&rig, "in.eu", batch_of(&[keyed(Some("own"), "x"), keyed(None, "y")]));
    let read = |stream: &Arc<crate::Stream>| {
        let mut found = Vec::new();
        for partition in stream.partitions() {
            let chunk = wait(rig.broker.read(partition, Offset(0), crate::ReadLimits::default())).unwrap();
            found.extend(rig.broker.records(&chunk).unwrap().into_iter().map(|(_, record)| record.key));
        }
        found
    };
    assert_eq!(read(&rig.stream("out")), [Some("eu".into()), Some("eu".into())]);
    assert_eq!(read(&rig.stream("in.eu")), [Some("own".into()), None]);
}

#[test]
fn a_copy_in_a_queue_is_worked_like_any_record() {
    let queue = StreamSettings { mode: Mode::Queue, ..StreamSettings::default() };
    let mut rig = routed(queue);
    publish(&rig, "in", batch(&["x"]));
    rig.reopen();
    let (work, _) = rig.broker.queue_work(&rig.partition("out", 0)).unwrap();
    let ask = crate::LeaseAsk {
        holder: HolderId(1),
        allowance: crate::Allowance::records(1),
        kind: crate::LeaseKind::Recorded,
        time: Default::default(),
    };
    assert_eq!(wait(work.lease(ask)).unwrap().records, 1);
    let spans = [Span::one(Offset(0))].into_iter().collect();
    let settlement = Settlement { work, spans, claim: Claim::Holder(HolderId(1)), verdict: Verdict::Accept };
    wait(rig.broker.settle(vec![settlement])).unwrap();
    assert!(bodies(&rig, "out", 0).is_empty());
    assert_eq!(bodies(&rig, "in", 0), ["x"]);
}
