use std::sync::Arc;

use model::{Attributes, ErrorKind, Kind, Offset, RecordAttributes, StreamKey};

use super::*;
use crate::{
    Append, DeadLetter, Mode, NewBatch, Overflow, StreamSettings, StreamSpec,
    testing::{Rig, START_MS, batch, key, until, wait},
};

mod many;
mod progress;
mod queues;
mod redirects;
mod time;

fn queue_key(name: &str) -> StreamKey {
    StreamKey { kind: Kind::Queue, ..key(name) }
}

fn queue_with(rig: &Rig, name: &str, settings: StreamSettings) -> Arc<Partition> {
    let settings = StreamSettings { mode: Mode::Queue, ..settings };
    let spec = StreamSpec { settings, ..StreamSpec::with_partitions(1) };
    wait(rig.broker.create_stream(queue_key(name), spec)).unwrap().partitions()[0].clone()
}

fn queue(rig: &Rig, name: &str) -> Arc<Partition> {
    queue_with(rig, name, StreamSettings::default())
}

fn find(rig: &Rig, name: &str) -> Arc<Partition> {
    rig.broker.stream(&queue_key(name)).unwrap().partitions()[0].clone()
}

pub(super) fn work(rig: &Rig, partition: &Arc<Partition>) -> Work {
    rig.broker.queue_work(partition).unwrap().0
}

pub(super) fn ask(holder: u64, records: u64, kind: LeaseKind) -> LeaseAsk {
    LeaseAsk {
        holder: HolderId(holder),
        allowance: Allowance::records(records),
        kind,
        time: LeaseTime::Setting,
    }
}

/// Leases, waits for the commit, and answers offsets with their attempts.
pub(super) fn lease(rig: &Rig, work: &Work, ask: LeaseAsk) -> Vec<(u64, u32)> {
    let leased = wait(work.lease(ask)).unwrap();
    wait(rig.broker.durable(leased.wait)).unwrap();
    let runs = leased.deliveries.iter().flat_map(|delivery| &delivery.runs);
    runs.flat_map(|run| (run.span.start.0..run.span.end.0).map(|offset| (offset, run.attempt))).collect()
}

fn offsets(rig: &Rig, work: &Work, ask: LeaseAsk) -> Vec<u64> {
    lease(rig, work, ask).into_iter().map(|(offset, _)| offset).collect()
}

fn spans(offsets: &[u64]) -> Spans {
    offsets.iter().map(|offset| Span::one(Offset(*offset))).collect()
}

pub(super) fn settle(rig: &Rig, work: &Work, offsets: &[u64], verdict: Verdict) -> Settled {
    let settlement = Settlement { work: work.clone(), spans: spans(offsets), claim: Claim::Anyone, verdict };
    let (mut settled, seq) = wait(rig.broker.settle(vec![settlement])).unwrap();
    wait(rig.broker.durable(seq)).unwrap();
    settled.remove(0)
}

const RELEASE: Verdict = Verdict::Release { delay_ms: 0, count: Count::Add };

#[test]
fn a_settled_record_is_gone_and_never_delivered_again_also_after_a_restart() {
    let mut rig = Rig::new();
    let partition = queue(&rig, "jobs");
    rig.append(&partition, &["a", "b", "c"]);
    let work_before = work(&rig, &partition);
    assert_eq!(lease(&rig, &work_before, ask(1, 10, LeaseKind::Volatile)), [(0, 1), (1, 1), (2, 1)]);
    assert_eq!(settle(&rig, &work_before, &[1], Verdict::Accept).done, spans(&[1]));
    assert_eq!(partition.stats().records, 2);
    rig.reopen();
    let partition = find(&rig, "jobs");
    let again = lease(&rig, &work(&rig, &partition), ask(2, 10, LeaseKind::Volatile));
    assert_eq!(again.iter().map(|(offset, _)| *offset).collect::<Vec<_>>(), [0, 2]);
    settle(&rig, &work(&rig, &partition), &[0, 2], Verdict::Accept);
    assert_eq!((partition.stats().records, partition.bounds().start), (0, Offset(3)));
}

#[test]
fn what_others_settled_before_it_was_read_is_a_gap_and_no_error() {
    let rig = Rig::new();
    let partition = queue(&rig, "jobs");
    rig.append(&partition, &["a", "b", "c"]);
    let work = work(&rig, &partition);
    settle(&rig, &work, &[0, 1], Verdict::Accept);
    assert_eq!(partition.bounds().start, Offset(2));
    let window = wait(work.read_window(Offset(0), 1 << 10)).unwrap();
    assert!(window.covers(Offset(0)) && window.batch_at(Offset(0)).is_none());
    assert_eq!(window.records().map(|(offset, ..)| offset).collect::<Vec<_>>(), [Offset(2)]);
    let rejected = wait(work.reject(&spans(&[1]), Claim::Anyone)).unwrap().0;
    assert!(rejected.done.is_empty());
}

#[test]
fn a_recorded_lease_survives_a_restart_with_its_holder_deadline_and_attempt() {
    let mut rig = Rig::new();
    let partition = queue(&rig, "jobs");
    rig.append(&partition, &["a", "b"]);
    let ask_leased = LeaseAsk { time: LeaseTime::Ms(30_000), ..ask(7, 1, LeaseKind::Recorded) };
    assert_eq!(offsets(&rig, &work(&rig, &partition), ask_leased), [0]);
    rig.reopen();
    let partition = find(&rig, "jobs");
    let leases = work(&rig, &partition).leases(Offset(0), 10).unwrap();
    assert_eq!(
        (leases[0].holder, leases[0].deadline_ms, leases[0].attempt),
        (HolderId(7), Some(START_MS + 30_000), 1)
    );
    assert_eq!(offsets(&rig, &work(&rig, &partition), ask(8, 10, LeaseKind::Recorded)), [1]);
}

#[test]
fn a_volatile_lease_comes_back_after_a_restart_as_delivered_before() {
    let mut rig = Rig::new();
    let partition = queue(&rig, "jobs");
    rig.append(&partition, &["a", "b", "c"]);
    let held = work(&rig, &partition);
    assert_eq!(offsets(&rig, &held, ask(1, 2, LeaseKind::Volatile)), [0, 1]);
    // The settlement carries along how far deliveries went.
    settle(&rig, &held, &[0], Verdict::Accept);
    rig.reopen();
    let leased = wait(work(&rig, &find(&rig, "jobs")).lease(ask(2, 10, LeaseKind::Volatile))).unwrap();
    let runs: Vec<_> = leased.deliveries.iter().flat_map(|delivery| delivery.runs.clone()).collect();
    assert_eq!((runs[0].span, runs[0].is_redelivered, runs[0].attempt), (Span::one(Offset(1)), true, 2));
    assert_eq!((runs[1].span, runs[1].is_redelivered), (Span::one(Offset(2)), false));
}

#[test]
fn a_recorded_lease_keeps_its_attempt_over_a_restart_also_after_volatile_ones() {
    let mut rig = Rig::new();
    let partition = queue(&rig, "jobs");
    rig.append(&partition, &["a"]);
    let held = work(&rig, &partition);
    for attempt in 1..=2 {
        assert_eq!(lease(&rig, &held, ask(1, 1, LeaseKind::Volatile)), [(0, attempt)]);
        settle(&rig, &held, &[0], RELEASE);
    }
    assert_eq!(lease(&rig, &held, ask(1, 1, LeaseKind::Recorded)), [(0, 3)]);
    rig.reopen();
    let leases = work(&rig, &find(&rig, "jobs")).leases(Offset(0), 10).unwrap();
    assert_eq!((leases[0].holder, leases[0].attempt), (HolderId(1), 3));
}

#[test]
fn a_released_record_is_offered_again_after_its_delay() {
    let rig = Rig::new();
    let partition = queue(&rig, "jobs");
    rig.append(&partition, &["a", "b"]);
    let work = work(&rig, &partition);
    offsets(&rig, &work, ask(1, 10, LeaseKind::Recorded));
    settle(&rig, &work, &[0], Verdict::Release { delay_ms: 100, count: Count::Add });
    settle(&rig, &work, &[1], RELEASE);
    assert_eq!(lease(&rig, &work, ask(2, 10, LeaseKind::Recorded)), [(1, 2)]);
    rig.advance(100);
    assert_eq!(lease(&rig, &work, ask(2, 10, LeaseKind::Recorded)), [(0, 2)]);
}

#[test]
fn a_claim_that_does_not_fit_settles_nothing() {
    let rig = Rig::new();
    let partition = queue(&rig, "jobs");
    rig.append(&partition, &["a"]);
    let work = work(&rig, &partition);
    offsets(&rig, &work, ask(1, 10, LeaseKind::Recorded));
    for claim in [Claim::Holder(HolderId(2)), Claim::Attempt(2)] {
        let settlement =
            Settlement { work: work.clone(), spans: spans(&[0]), claim, verdict: Verdict::Accept };
        let (settled, _) = wait(rig.broker.settle(vec![settlement])).unwrap();
        assert_eq!((settled[0].done.count(), &settled[0].stale), (0, &spans(&[0])));
    }
    assert_eq!(partition.stats().records, 1);
}

#[test]
fn a_lease_can_be_extended_and_handed_over() {
    let rig = Rig::new();
    let partition = queue(&rig, "jobs");
    rig.append(&partition, &["a"]);
    let work = work(&rig, &partition);
    offsets(&rig, &work, LeaseAsk { time: LeaseTime::Ms(10), ..ask(1, 1, LeaseKind::Recorded) });
    settle(&rig, &work, &[0], Verdict::Extend { deadline_ms: Some(START_MS + 500) });
    rig.advance(100);
    assert!(offsets(&rig, &work, ask(2, 1, LeaseKind::Recorded)).is_empty());
    let deadline_ms = Some(START_MS + 900);
    settle(&rig, &work, &[0], Verdict::Transfer { holder: HolderId(5), deadline_ms, count: Count::Keep });
    let lease = work.leases(Offset(0), 1).unwrap()[0];
    assert_eq!((lease.holder, lease.deadline_ms, lease.attempt), (HolderId(5), deadline_ms, 1));
}

pub(super) fn with_dead_letters(rig: &Rig, settings: StreamSettings) -> (Arc<Partition>, Arc<Partition>) {
    let dead = queue(rig, "dead");
    let dead_letter = Some(DeadLetter { target: queue_key("dead"), route_key: Some("failed".into()) });
    (queue_with(rig, "jobs", StreamSettings { dead_letter, ..settings }), dead)
}

#[test]
fn a_rejected_record_is_in_the_dead_letters_and_gone_here_in_one_unit() {
    let mut rig = Rig::new();
    let (partition, dead) = with_dead_letters(&rig, StreamSettings::default());
    rig.append(&partition, &["a", "b", "c"]);
    let work = work(&rig, &partition);
    offsets(&rig, &work, ask(1, 10, LeaseKind::Recorded));
    assert_eq!(settle(&rig, &work, &[1], Verdict::Reject).done, spans(&[1]));
    assert_eq!(rig.read(&dead, 0).unwrap(), [(0, "b".into())]);
    assert_eq!(partition.stats().records, 2);
    rig.reopen();
    let dead = find(&rig, "dead");
    let chunk = wait(rig.broker.read(&dead, Offset(0), crate::ReadLimits::default())).unwrap();
    let moved = &chunk.batches[0].batch;
    let origin = moved.origin.unwrap();
    assert_eq!((origin.offset, origin.append_time_ms, origin.attempts), (Offset(1), START_MS, 1));
    assert_eq!(origin.log, find(&rig, "jobs").log_id());
    assert_eq!(moved.attributes.of(0).unwrap().route_key.as_deref(), Some(&b"failed"[..]));
}

#[test]
fn rejecting_what_is_gone_already_takes_effect_on_nothing() {
    let rig = Rig::new();
    let (partition, dead) = with_dead_letters(&rig, StreamSettings::default());
    rig.append(&partition, &["a", "b"]);
    let work = work(&rig, &partition);
    offsets(&rig, &work, ask(1, 10, LeaseKind::Recorded));
    settle(&rig, &work, &[0], Verdict::Accept);
    assert_eq!(settle(&rig, &work, &[0, 1], Verdict::Reject).done, spans(&[1]));
    assert_eq!(rig.read(&dead, 0).unwrap(), [(0, "b".into())]);
}

#[test]
fn a_record_delivered_as_often_as_allowed_goes_to_the_dead_letters() {
    let rig = Rig::new();
    let (partition, dead) =
        with_dead_letters(&rig, StreamSettings { delivery_limit: Some(2), ..StreamSettings::default() });
    rig.append(&partition, &["a"]);
    let work = work(&rig, &partition);
    for attempt in 1..=2 {
        assert_eq!(lease(&rig, &work, ask(1, 1, LeaseKind::Recorded)), [(0, attempt)]);
        settle(&rig, &work, &[0], RELEASE);
    }
    until(|| dead.bounds().durable_end == Offset(1));
    assert_eq!(partition.stats().records, 0);
}

#[test]
fn records_past_their_time_to_live_go_to_the_dead_letters_without_a_consumer() {
    let rig = Rig::new();
    let (partition, dead) =
        with_dead_letters(&rig, StreamSettings { ttl_ms: Some(50), ..StreamSettings::default() });
    rig.append(&partition, &["old"]);
    rig.advance(49);
    rig.append(&partition, &["new"]);
    rig.advance(1);
    rig.broker.clock_was_set();
    until(|| dead.bounds().durable_end == Offset(1));
    assert_eq!(rig.read(&dead, 0).unwrap(), [(0, "old".into())]);
    assert_eq!(offsets(&rig, &work(&rig, &partition), ask(1, 10, LeaseKind::Volatile)), [1]);
}

#[test]
fn the_oldest_of_a_full_queue_go_to_the_dead_letters() {
    let rig = Rig::new();
    let (partition, dead) = with_dead_letters(
        &rig,
        StreamSettings { length_max: Some(2), overflow: Overflow::DropOldest, ..StreamSettings::default() },
    );
    for body in ["a", "b", "c", "d"] {
        rig.append(&partition, &[body]);
    }
    until(|| dead.bounds().durable_end == Offset(2));
    assert_eq!(rig.read(&partition, 2).unwrap(), [(2, "c".into()), (3, "d".into())]);
}

#[test]
fn a_lease_that_runs_out_wakes_who_waits() {
    let rig = Rig::new();
    let partition = queue(&rig, "jobs");
    rig.append(&partition, &["a"]);
    let work = work(&rig, &partition);
    offsets(&rig, &work, LeaseAsk { time: LeaseTime::Ms(10), ..ask(1, 1, LeaseKind::Recorded) });
    let watch = Watch::new();
    work.wait(HolderId(2), &watch);
    assert!(!watch.take());
    rig.advance(10);
    rig.broker.clock_was_set();
    wait(watch.changed());
    assert_eq!(lease(&rig, &work, ask(2, 1, LeaseKind::Recorded)), [(0, 2)]);
}

#[test]
fn who_waits_is_told_when_the_queue_is_deleted() {
    let rig = Rig::new();
    let partition = queue(&rig, "jobs");
    let work = work(&rig, &partition);
    let watch = Watch::new();
    work.wait(HolderId(1), &watch);
    wait(rig.broker.delete_stream(&queue_key("jobs"))).unwrap();
    wait(watch.changed());
    assert_eq!(wait(work.lease(ask(1, 1, LeaseKind::Volatile))).unwrap_err().kind(), ErrorKind::Closed);
}

fn attributed(rows: Vec<RecordAttributes>) -> NewBatch {
    let bodies = vec!["x"; rows.len()];
    NewBatch { attributes: Attributes::Rows(rows.into()), ..batch(&bodies) }
}

fn row(change: impl FnOnce(&mut RecordAttributes)) -> RecordAttributes {
    let mut row = RecordAttributes::default();
    change(&mut row);
    row
}

fn keyed(keys: &[&'static str]) -> NewBatch {
    attributed(keys.iter().map(|key| row(|row| row.ordering_key = Some(key.as_bytes().into()))).collect())
}

#[test]
fn records_of_one_ordering_key_are_worked_one_after_another() {
    let rig = Rig::new();
    rig.log("events", 1);
    let partition = rig.partition("events", 0);
    rig.publish(Append::new(&partition, keyed(&["a", "a", "b", "a", "b"])));
    let spec = WorkSpec { order: Order::Keyed(KeySharing::One), ..WorkSpec::default() };
    let work = rig.broker.open_work(&partition, "workers", spec).unwrap().0;
    assert_eq!(offsets(&rig, &work, ask(1, 10, LeaseKind::Recorded)), [0, 2]);
    assert!(offsets(&rig, &work, ask(2, 10, LeaseKind::Recorded)).is_empty());
    settle(&rig, &work, &[0], Verdict::Accept);
    assert_eq!(offsets(&rig, &work, ask(2, 10, LeaseKind::Recorded)), [1]);
    assert_eq!(partition.stats().records, 5, "a log keeps what is settled");
}

#[test]
fn a_recorded_lease_between_volatile_ones_stays_with_its_holder_over_a_restart() {
    let mut rig = Rig::new();
    let partition = queue(&rig, "jobs");
    let levels = [1, 9, 1].map(|level| row(|row| row.priority = Some(level)));
    rig.publish(Append::new(&partition, attributed(levels.into())));
    let spec = WorkSpec { order: Order::Priority, ..WorkSpec::default() };
    let work = rig.broker.open_work(&partition, QUEUE_WORK, spec).unwrap().0;
    assert_eq!(lease(&rig, &work, ask(1, 1, LeaseKind::Recorded)), [(1, 1)]);
    assert_eq!(lease(&rig, &work, ask(2, 2, LeaseKind::Volatile)), [(0, 1), (2, 1)]);
    // Carries along how far deliveries went.
    settle(&rig, &work, &[2], Verdict::Accept);
    rig.reopen();
    let work = rig.broker.work(&find(&rig, "jobs"), QUEUE_WORK).unwrap();
    let leases = work.leases(Offset(0), 10).unwrap();
    assert_eq!((leases[0].span, leases[0].holder), (Span::one(Offset(1)), HolderId(1)));
    assert_eq!(offsets(&rig, &work, ask(3, 10, LeaseKind::Recorded)), [0]);
}

#[test]
fn higher_priorities_are_delivered_first() {
    let rig = Rig::new();
    let partition = queue(&rig, "jobs");
    let levels = [1, 9, 1, 5].map(|level| row(|row| row.priority = Some(level)));
    rig.publish(Append::new(&partition, attributed(levels.into())));
    let spec = WorkSpec { order: Order::Priority, ..WorkSpec::default() };
    let work = rig.broker.open_work(&partition, QUEUE_WORK, spec).unwrap().0;
    let leased = wait(work.lease(ask(1, 3, LeaseKind::Volatile))).unwrap();
    let runs = leased.deliveries.iter().flat_map(|delivery| &delivery.runs);
    assert_eq!(runs.map(|run| run.span.start.0).collect::<Vec<_>>(), [1, 3, 0]);
}

#[test]
fn a_filter_passes_over_what_it_does_not_match() {
    let rig = Rig::new();
    rig.log("events", 1);
    let partition = rig.partition("events", 0);
    let keys = ["a.x", "b.x", "a.y"].map(|key| row(|row| row.route_key = Some(key.as_bytes().into())));
    rig.publish(Append::new(&partition, attributed(keys.into())));
    let open = |name: &str, filter: &str| {
        let spec = WorkSpec { filter: vec![filter.to_owned()], ..WorkSpec::default() };
        rig.broker.open_work(&partition, name, spec).unwrap().0
    };
    assert_eq!(offsets(&rig, &open("a", "a.*"), ask(1, 10, LeaseKind::Volatile)), [0, 2]);
    assert_eq!(offsets(&rig, &open("b", "b.>"), ask(1, 10, LeaseKind::Volatile)), [1]);
    let bad = WorkSpec { filter: vec!["a.>.b".to_owned()], ..WorkSpec::default() };
    assert_eq!(rig.broker.open_work(&partition, "bad", bad).err().unwrap().kind(), ErrorKind::Invalid);
}

#[test]
fn a_uniform_delay_holds_every_record_back_for_its_time() {
    let rig = Rig::new();
    let partition = queue_with(&rig, "jobs", StreamSettings { delay_ms: 100, ..StreamSettings::default() });
    rig.append(&partition, &["a"]);
    rig.advance(60);
    rig.append(&partition, &["b"]);
    let work = work(&rig, &partition);
    assert!(offsets(&rig, &work, ask(1, 10, LeaseKind::Volatile)).is_empty());
    let watch = Watch::new();
    work.wait(HolderId(1), &watch);
    assert!(!watch.take(), "there is nothing for it before its time");
    rig.advance(40);
    rig.broker.clock_was_set();
    wait(watch.changed());
    assert_eq!(offsets(&rig, &work, ask(1, 10, LeaseKind::Volatile)), [0]);
    rig.advance(60);
    assert_eq!(offsets(&rig, &work, ask(1, 10, LeaseKind::Volatile)), [1]);
}

#[test]
fn records_taken_without_a_lease_are_settled_at_once() {
    let rig = Rig::new();
    let partition = queue(&rig, "jobs");
    rig.append(&partition, &["a", "b"]);
    assert_eq!(offsets(&rig, &work(&rig, &partition), ask(1, 1, LeaseKind::Taken)), [0]);
    assert_eq!(partition.stats().records, 1);
}

#[test]
fn a_stream_of_the_interest_mode_keeps_a_record_until_every_cursor_has_settled_it() {
    let rig = Rig::new();
    let settings = StreamSettings { mode: Mode::Interest, ..StreamSettings::default() };
    rig.log_with("events", 1, settings);
    let partition = rig.partition("events", 0);
    rig.append(&partition, &["nobody"]);
    assert_eq!((partition.stats().records, partition.bounds().end), (0, Offset(1)));
    let [a, b] =
        ["a", "b"].map(|name| rig.broker.open_work(&partition, name, WorkSpec::default()).unwrap().0);
    rig.append(&partition, &["x", "y"]);
    for work in [&a, &b] {
        assert_eq!(offsets(&rig, work, ask(1, 10, LeaseKind::Volatile)), [1, 2]);
    }
    settle(&rig, &a, &[1, 2], Verdict::Accept);
    assert_eq!(partition.stats().records, 2);
    settle(&rig, &b, &[2], Verdict::Accept);
    assert_eq!(partition.stats().records, 1);
    b.close().unwrap();
    assert_eq!(partition.stats().records, 0);
}

#[test]
fn records_deleted_from_the_middle_are_neither_read_nor_leased() {
    let mut rig = Rig::new();
    let partition = queue(&rig, "jobs");
    rig.append(&partition, &["a", "b", "c"]);
    let seq = rig.broker.drop_records(&partition, &spans(&[1])).unwrap();
    wait(rig.broker.durable(seq)).unwrap();
    for _ in 0..2 {
        let partition = find(&rig, "jobs");
        assert_eq!(rig.read(&partition, 0).unwrap(), [(0, "a".into()), (2, "c".into())]);
        rig.reopen();
    }
    let partition = find(&rig, "jobs");
    assert_eq!(offsets(&rig, &work(&rig, &partition), ask(1, 10, LeaseKind::Volatile)), [0, 2]);
    assert_eq!(rig.broker.drop_records(&partition, &spans(&[3])).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn a_cursor_on_a_log_keeps_its_place_over_a_restart_and_can_be_closed() {
    let mut rig = Rig::new();
    rig.log("events", 1);
    rig.append(&rig.partition("events", 0), &["a", "b", "c"]);
    let spec = WorkSpec { start: Some(Offset(1)), delivery_limit: Some(9), ..WorkSpec::default() };
    let (work, _) = rig.broker.open_work(&rig.partition("events", 0), "workers", spec.clone()).unwrap();
    assert_eq!(offsets(&rig, &work, ask(1, 1, LeaseKind::Recorded)), [1]);
    settle(&rig, &work, &[1], Verdict::Accept);
    rig.reopen();
    let partition = rig.partition("events", 0);
    let (work, _) = rig.broker.open_work(&partition, "workers", spec.clone()).unwrap();
    let other = rig.broker.open_work(&partition, "workers", WorkSpec { delivery_limit: None, ..spec });
    assert_eq!(other.err().unwrap().kind(), ErrorKind::Exists);
    assert_eq!(offsets(&rig, &work, ask(1, 10, LeaseKind::Recorded)), [2]);
    let view = &rig.broker.works(&partition)[0];
    assert_eq!((&*view.name, view.floor, view.counts.leased), ("workers", Offset(2), 1));
    wait(rig.broker.durable(work.close().unwrap())).unwrap();
    rig.reopen();
    assert!(rig.broker.work(&rig.partition("events", 0), "workers").is_none());
}

#[test]
fn a_queue_over_a_log_works_its_records_and_takes_none_away() {
    let mut rig = Rig::new();
    rig.log("events", 2);
    rig.append(&rig.partition("events", 0), &["a", "b"]);
    let over = || {
        let settings = StreamSettings { over: Some(key("events")), ..StreamSettings::default() };
        StreamSpec { settings, ..StreamSpec::with_partitions(1) }
    };
    let queue = wait(rig.broker.create_stream(queue_key("jobs"), over())).unwrap();
    assert_eq!(queue.partitions().len(), 2);
    let work = rig.broker.stream_work(&queue, PartitionIndex(0)).unwrap().0;
    assert_eq!(offsets(&rig, &work, ask(1, 1, LeaseKind::Recorded)), [0]);
    settle(&rig, &work, &[0], Verdict::Accept);
    assert_eq!(rig.partition("events", 0).stats().records, 2);
    rig.reopen();
    let queue = rig.broker.stream(&queue_key("jobs")).unwrap();
    let work = rig.broker.stream_work(&queue, PartitionIndex(0)).unwrap().0;
    assert_eq!(offsets(&rig, &work, ask(1, 9, LeaseKind::Recorded)), [1]);
    wait(rig.broker.add_partitions(&key("events"), 3)).unwrap();
    assert_eq!(rig.broker.stream(&queue_key("jobs")).unwrap().partitions().len(), 3);
    assert_eq!(wait(rig.broker.delete_stream(&key("events"))).unwrap_err().kind(), ErrorKind::Conflict);
    wait(rig.broker.delete_stream(&queue_key("jobs"))).unwrap();
    assert!(rig.broker.works(&rig.partition("events", 0)).is_empty());
    assert_eq!(rig.read(&rig.partition("events", 0), 0).unwrap().len(), 2);
    let again = wait(rig.broker.create_stream(queue_key("jobs"), over())).unwrap();
    let work = rig.broker.stream_work(&again, PartitionIndex(0)).unwrap().0;
    assert_eq!(offsets(&rig, &work, ask(1, 9, LeaseKind::Recorded)), [0, 1]);
    let bad = StreamSettings { over: Some(queue_key("jobs")), ..StreamSettings::default() };
    let spec = StreamSpec { settings: bad, ..StreamSpec::with_partitions(1) };
    assert_eq!(
        wait(rig.broker.create_stream(queue_key("x"), spec)).err().unwrap().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn what_a_session_that_is_gone_had_is_offered_to_others() {
    let rig = Rig::new();
    let partition = queue(&rig, "jobs");
    rig.append(&partition, &["a", "b", "c"]);
    let work = work(&rig, &partition);
    assert_eq!(offsets(&rig, &work, ask(1, 2, LeaseKind::Volatile)), [0, 1]);
    assert_eq!(offsets(&rig, &work, ask(2, 1, LeaseKind::Volatile)), [2]);
    let watch = Watch::new();
    work.wait(HolderId(2), &watch);
    assert!(!watch.take());
    assert_eq!(work.release_all(HolderId(1), Count::Add).unwrap().0.done, spans(&[0, 1]));
    assert!(watch.take());
    assert_eq!(lease(&rig, &work, ask(2, 9, LeaseKind::Volatile)), [(0, 2), (1, 2)]);
}

#[test]
fn who_waits_for_records_that_its_filter_does_not_match_is_not_told_again_and_again() {
    let rig = Rig::new();
    rig.log("events", 1);
    let partition = rig.partition("events", 0);
    let spec = WorkSpec { filter: vec!["wanted".to_owned()], ..WorkSpec::default() };
    let work = rig.broker.open_work(&partition, "some", spec).unwrap().0;
    rig.publish(Append::new(&partition, attributed(vec![row(|row| row.route_key = Some("other".into()))])));
    assert!(offsets(&rig, &work, ask(1, 1, LeaseKind::Volatile)).is_empty());
    let watch = Watch::new();
    work.wait(HolderId(1), &watch);
    assert!(!watch.take());
    rig.publish(Append::new(&partition, attributed(vec![row(|row| row.route_key = Some("wanted".into()))])));
    wait(watch.changed());
    assert_eq!(offsets(&rig, &work, ask(1, 1, LeaseKind::Volatile)), [1]);
}

#[test]
fn a_record_that_one_cursor_settled_and_the_other_passed_over_is_gone() {
    let rig = Rig::new();
    rig.log_with("events", 1, StreamSettings { mode: Mode::Interest, ..StreamSettings::default() });
    let partition = rig.partition("events", 0);
    let [a, b] = ["a", "b"].map(|name| {
        let spec = WorkSpec { filter: vec![format!("{name}.*")], ..WorkSpec::default() };
        rig.broker.open_work(&partition, name, spec).unwrap().0
    });
    let publish = |key: &'static str| {
        rig.publish(Append::new(&partition, attributed(vec![row(|row| row.route_key = Some(key.into()))])));
    };
    publish("c.nobody");
    assert_eq!(partition.stats().records, 0, "nobody is interested");
    publish("a.x");
    assert_eq!(offsets(&rig, &a, ask(1, 9, LeaseKind::Volatile)), [1]);
    settle(&rig, &a, &[1], Verdict::Accept);
    assert!(offsets(&rig, &b, ask(1, 9, LeaseKind::Volatile)).is_empty());
    assert_eq!((partition.stats().records, partition.bounds().start), (0, Offset(2)));
}
