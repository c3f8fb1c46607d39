use std::sync::Arc;

use bytes::Bytes;
use model::{ErrorKind, Kind, Offset, Origin, StreamKey};

use super::*;
use crate::{
    Allowance, Append, Claim, DeadLetter, HolderId, LeaseAsk, LeaseKind, Mode, Overflow, Partition,
    Settlement, Span, StreamSettings, StreamSpec, Verdict,
    testing::{Rig, START_MS, batch, key, until, wait},
};

pub(super) fn queue_key(name: &str) -> StreamKey {
    StreamKey { kind: Kind::Queue, ..key(name) }
}

pub(super) fn queue(rig: &Rig, name: &str, settings: StreamSettings) -> Arc<Partition> {
    let settings = StreamSettings { mode: Mode::Queue, ..settings };
    let spec = StreamSpec { settings, ..StreamSpec::with_partitions(1) };
    wait(rig.broker.create_stream(queue_key(name), spec)).unwrap().partitions()[0].clone()
}

pub(super) fn find(rig: &Rig, name: &str) -> Arc<Partition> {
    rig.broker.stream(&queue_key(name)).unwrap().partitions()[0].clone()
}

/// Two queues: `a` with records `0`, `1`, …, and `b`.
fn pair(count: usize, b: StreamSettings) -> Rig {
    let rig = Rig::new();
    let a = queue(&rig, "a", StreamSettings::default());
    queue(&rig, "b", b);
    for n in 0..count {
        rig.append(&a, &[&n.to_string()]);
    }
    rig
}

pub(super) fn bodies(rig: &Rig, name: &str) -> Vec<String> {
    let partition = find(rig, name);
    let start = partition.bounds().start;
    rig.read(&partition, start.0).unwrap().into_iter().map(|(_, body)| body).collect()
}

pub(super) fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

pub(super) fn a_to_b() -> MoveSpec {
    MoveSpec::all(queue_key("a"), Some(queue_key("b")))
}

pub(super) fn begin(rig: &Rig, spec: MoveSpec) -> MoveId {
    wait(rig.broker.start_move(spec)).unwrap().id
}

pub(super) fn ended(rig: &Rig, id: MoveId) -> MoveView {
    until(|| !rig.broker.move_task(id).unwrap().state.is_running());
    rig.broker.move_task(id).unwrap()
}

pub(super) fn lease(rig: &Rig, partition: &Arc<Partition>, count: u64) -> crate::Work {
    let (work, _) = rig.broker.queue_work(partition).unwrap();
    let ask = LeaseAsk {
        holder: HolderId(1),
        allowance: Allowance::records(count),
        kind: LeaseKind::Recorded,
        time: Default::default(),
    };
    assert_eq!(wait(work.lease(ask)).unwrap().records, count);
    work
}

pub(super) fn settle(rig: &Rig, work: &crate::Work, offsets: std::ops::Range<u64>, verdict: Verdict) {
    let spans = [Span::new(Offset(offsets.start), Offset(offsets.end))].into_iter();
    let spans = spans.filter(|span| !span.is_empty()).collect();
    let settlement = Settlement { work: work.clone(), spans, claim: Claim::Holder(HolderId(1)), verdict };
    let (_, seq) = wait(rig.broker.settle(vec![settlement])).unwrap();
    wait(rig.broker.durable(seq)).unwrap();
}

#[test]
fn everything_that_waits_is_moved_in_order_and_counted() {
    let mut rig = pair(25, StreamSettings::default());
    let id = begin(&rig, a_to_b());
    let view = ended(&rig, id);
    assert_eq!((view.state, view.moved, view.to_move), (MoveState::Completed, 25, 25));
    assert_eq!((view.started_at_ms, view.ended_at_ms), (START_MS, Some(START_MS)));
    assert_eq!((bodies(&rig, "a"), bodies(&rig, "b")), (Vec::new(), numbers(25)));
    rig.reopen();
    assert_eq!((bodies(&rig, "a"), bodies(&rig, "b")), (Vec::new(), numbers(25)));
    assert_eq!(rig.broker.move_task(id).unwrap().state, MoveState::Completed);
}

#[test]
fn a_task_goes_on_after_a_restart_and_moves_nothing_twice() {
    let mut rig = pair(60, StreamSettings::default());
    let id = begin(&rig, MoveSpec { rate: Some(100), ..a_to_b() });
    until(|| rig.broker.move_task(id).unwrap().moved > 0);
    rig.reopen();
    let view = ended(&rig, id);
    assert_eq!(view.state, MoveState::Completed);
    assert_eq!((bodies(&rig, "a"), bodies(&rig, "b")), (Vec::new(), numbers(60)));
}

#[test]
fn dead_letters_go_back_to_where_each_came_from_with_their_origin() {
    let rig = Rig::new();
    queue(&rig, "dead", StreamSettings::default());
    for name in ["a", "b"] {
        let dead_letter = Some(DeadLetter { target: queue_key("dead"), route_key: None });
        let partition = queue(&rig, name, StreamSettings { dead_letter, ..StreamSettings::default() });
        rig.append(&partition, &[name]);
        settle(&rig, &lease(&rig, &partition, 1), 0..1, Verdict::Reject);
    }
    assert_eq!(bodies(&rig, "dead"), ["a", "b"]);
    let view = ended(&rig, begin(&rig, MoveSpec::all(queue_key("dead"), None)));
    assert_eq!((view.state, view.moved), (MoveState::Completed, 2));
    for name in ["a", "b"] {
        assert_eq!(bodies(&rig, name), [name]);
        let partition = find(&rig, name);
        let chunk = wait(rig.broker.read(&partition, Offset(1), crate::ReadLimits::default())).unwrap();
        let (log, source) = (partition.log_id(), find(&rig, "dead").log_id());
        let origin = Origin { log, offset: Offset(0), append_time_ms: START_MS, attempts: 1, source };
        assert_eq!(chunk.batches[0].batch.origin, Some(origin));
    }
    assert!(bodies(&rig, "dead").is_empty());
}

#[test]
fn a_record_that_came_from_nowhere_stays_and_the_task_fails() {
    let rig = pair(1, StreamSettings::default());
    let view = ended(&rig, begin(&rig, MoveSpec::all(queue_key("a"), None)));
    assert!(matches!(&view.state, MoveState::Failed(why) if why.contains("name a destination")), "{view:?}");
    assert_eq!(bodies(&rig, "a"), ["0"]);
}

#[test]
fn what_somebody_holds_stays_with_them() {
    let rig = pair(3, StreamSettings::default());
    lease(&rig, &find(&rig, "a"), 1);
    let view = ended(&rig, begin(&rig, a_to_b()));
    assert_eq!((view.state, view.moved, view.to_move), (MoveState::Completed, 2, 2));
    assert_eq!((bodies(&rig, "a"), bodies(&rig, "b")), (vec!["0".into()], vec!["1".into(), "2".into()]));
}

#[test]
fn what_comes_after_the_start_is_not_moved() {
    let rig = pair(20, StreamSettings::default());
    let id = begin(&rig, MoveSpec { rate: Some(50), ..a_to_b() });
    rig.append(&find(&rig, "a"), &["late"]);
    assert_eq!(ended(&rig, id).moved, 20);
    assert_eq!(bodies(&rig, "a"), ["late"]);
}

#[test]
fn only_what_the_filter_wants_is_moved() {
    let rig = pair(12, StreamSettings::default());
    let filter = MoveFilter { body_contains: Some(Bytes::from_static(b"1")), ..MoveFilter::default() };
    let view = ended(&rig, begin(&rig, MoveSpec { filter, ..a_to_b() }));
    assert_eq!((view.state, view.moved), (MoveState::Completed, 3));
    assert_eq!(bodies(&rig, "b"), ["1", "10", "11"]);
    assert_eq!(bodies(&rig, "a").len(), 9);
}

#[test]
fn a_full_destination_ends_the_task_and_nothing_is_lost() {
    let full =
        StreamSettings { length_max: Some(2), overflow: Overflow::Refuse, ..StreamSettings::default() };
    let rig = pair(5, full);
    let view = ended(&rig, begin(&rig, a_to_b()));
    assert_eq!((view.state, view.moved), (MoveState::Failed("the stream is full".into()), 2));
    assert_eq!((bodies(&rig, "a").len(), bodies(&rig, "b").len()), (3, 2));
}

#[test]
fn one_task_runs_for_a_source_and_stops_when_told() {
    let rig = pair(50, StreamSettings::default());
    let id = begin(&rig, MoveSpec { rate: Some(1), ..a_to_b() });
    assert_eq!(wait(rig.broker.start_move(a_to_b())).unwrap_err().kind(), ErrorKind::Conflict);
    wait(rig.broker.cancel_move(id)).unwrap();
    let view = ended(&rig, id);
    assert_eq!(view.state, MoveState::Cancelled);
    assert_eq!(usize::try_from(view.moved).unwrap(), bodies(&rig, "b").len());
    assert_eq!(bodies(&rig, "a").len() + bodies(&rig, "b").len(), 50);
    assert_eq!(wait(rig.broker.cancel_move(id)).unwrap_err().kind(), ErrorKind::Conflict);
    assert_eq!(ended(&rig, begin(&rig, a_to_b())).state, MoveState::Completed);
}

#[test]
fn a_task_that_was_told_to_stop_does_not_go_on_after_a_restart() {
    let mut rig = pair(50, StreamSettings::default());
    let id = begin(&rig, MoveSpec { rate: Some(1), ..a_to_b() });
    wait(rig.broker.cancel_move(id)).unwrap();
    rig.reopen();
    assert_eq!(ended(&rig, id).state, MoveState::Cancelled);
}

#[test]
fn the_last_ten_tasks_of_a_source_are_remembered_while_it_is_there() {
    let mut rig = pair(0, StreamSettings::default());
    let ids: Vec<MoveId> = (0..MOVES_PER_SOURCE + 2)
        .map(|_| {
            let id = begin(&rig, a_to_b());
            ended(&rig, id);
            id
        })
        .collect();
    let listed = |rig: &Rig| rig.broker.moves(&queue_key("a")).iter().map(|view| view.id).collect::<Vec<_>>();
    let expected: Vec<MoveId> = ids.iter().skip(2).rev().copied().collect();
    assert_eq!(listed(&rig), expected);
    rig.reopen();
    assert_eq!(listed(&rig), expected);
    wait(rig.broker.delete_stream(&queue_key("a"))).unwrap();
    assert!(listed(&rig).is_empty());
    rig.reopen();
    assert_eq!(rig.broker.move_task(ids[11]), None);
}

#[test]
fn a_move_that_makes_no_sense_is_refused() {
    let rig = pair(1, StreamSettings::default());
    rig.log("log", 1);
    let check = |spec: MoveSpec, expected: ErrorKind| {
        assert_eq!(wait(rig.broker.start_move(spec)).unwrap_err().kind(), expected);
    };
    check(MoveSpec::all(queue_key("absent"), None), ErrorKind::NotFound);
    check(MoveSpec::all(queue_key("a"), Some(queue_key("absent"))), ErrorKind::NotFound);
    check(MoveSpec::all(queue_key("a"), Some(queue_key("a"))), ErrorKind::Invalid);
    check(MoveSpec::all(key("log"), Some(queue_key("a"))), ErrorKind::Invalid);
    check(MoveSpec { rate: Some(0), ..a_to_b() }, ErrorKind::Invalid);
    check(MoveSpec { rate: Some(MOVE_RATE_MAX + 1), ..a_to_b() }, ErrorKind::Invalid);
    assert_eq!(wait(rig.broker.cancel_move(MoveId(1))).unwrap_err().kind(), ErrorKind::NotFound);
    for rate in [MOVE_RATE_MAX - 1, MOVE_RATE_MAX] {
        let id = begin(&rig, MoveSpec { rate: Some(rate), ..a_to_b() });
        assert_eq!(ended(&rig, id).state, MoveState::Completed);
    }
}

#[test]
fn records_of_a_queue_over_a_log_are_moved_and_stay_in_the_log() {
    let rig = pair(0, StreamSettings::default());
    rig.log("orders", 2);
    let settings =
        StreamSettings { mode: Mode::Queue, over: Some(key("orders")), ..StreamSettings::default() };
    let spec = StreamSpec { settings, ..StreamSpec::with_partitions(1) };
    wait(rig.broker.create_stream(queue_key("over"), spec)).unwrap();
    for index in 0..2 {
        rig.publish(Append::new(&rig.partition("orders", index), batch(&["x", "y"])));
    }
    let view = ended(&rig, begin(&rig, MoveSpec::all(queue_key("over"), Some(queue_key("b")))));
    assert_eq!((view.state, view.moved), (MoveState::Completed, 4));
    assert_eq!(bodies(&rig, "b").len(), 4);
    assert_eq!(rig.read(&rig.partition("orders", 0), 0).unwrap().len(), 2);
    let again = ended(&rig, begin(&rig, MoveSpec::all(queue_key("over"), Some(queue_key("b")))));
    assert_eq!((again.moved, again.to_move), (0, 0));
}
