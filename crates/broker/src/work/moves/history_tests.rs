//! Queues with a memory.

use model::ErrorKind;

use super::tests::*;
use super::*;
use crate::{
    Count, Mode, Overflow, StreamSettings, StreamSpec, Verdict,
    testing::{Rig, START_MS, key, wait},
};

const HOUR_MS: i64 = 3_600_000;

fn keeping() -> StreamSettings {
    StreamSettings { history_ms: Some(3_600_000), ..StreamSettings::default() }
}

/// A queue `a` that keeps for an hour, with records `0`, `1`, …, all of them settled, and a queue `b`.
fn worked(count: usize) -> Rig {
    let rig = Rig::new();
    let a = queue(&rig, "a", keeping());
    queue(&rig, "b", StreamSettings::default());
    for n in 0..count {
        rig.append(&a, &[&n.to_string()]);
    }
    let work = lease(&rig, &a, count as u64);
    settle(&rig, &work, 0..count as u64, Verdict::Accept);
    rig
}

fn ready(rig: &Rig, name: &str) -> Vec<String> {
    let partition = find(rig, name);
    let (work, _) = rig.broker.queue_work(&partition).unwrap();
    let start = partition.bounds().start;
    let all = rig.read(&partition, start.0).unwrap().into_iter();
    let is_ready =
        |offset: u64| matches!(work.state(Offset(offset)).unwrap(), crate::RecordState::Ready { .. });
    all.filter(|(offset, _)| is_ready(*offset)).map(|(_, body)| body).collect()
}

fn kept(rig: &Rig) -> u64 {
    find(rig, "a").log().with(|_, state| state.kept())
}

fn replay(rig: &Rig, since_ms: i64, to: Option<&str>) -> MoveView {
    let started = wait(rig.broker.start_replay(queue_key("a"), since_ms, to.map(queue_key), None)).unwrap();
    ended(rig, started.id)
}

fn retain(rig: &Rig) {
    rig.broker.retain(&rig.broker.stream(&queue_key("a")).unwrap());
}

#[test]
fn settled_records_are_kept_and_count_for_nothing_also_after_a_restart() {
    let mut rig = worked(3);
    for _ in 0..3 {
        let counts = rig.broker.queue_counts(&rig.broker.stream(&queue_key("a")).unwrap());
        assert_eq!((counts.unsettled(), kept(&rig)), (0, 3));
        let looker = crate::CursorKey::new(&model::Namespace::default(), "looker");
        wait(rig.broker.seek(&looker, vec![(find(&rig, "a"), Offset(0))])).unwrap();
        assert_eq!(wait(rig.broker.lag(&looker)).unwrap()[0].lag_records, 0);
        assert_eq!(bodies(&rig, "a"), numbers(3));
        retain(&rig);
        rig.reopen();
    }
}

#[test]
fn a_replay_makes_them_ready_again_once_and_with_their_origin() {
    let mut rig = worked(3);
    let view = replay(&rig, START_MS, None);
    assert_eq!((view.state, view.moved, view.to_move), (MoveState::Completed, 3, 3));
    assert_eq!((ready(&rig, "a"), kept(&rig)), (numbers(3), 0));
    let partition = find(&rig, "a");
    let chunk = wait(rig.broker.read(&partition, Offset(3), crate::ReadLimits::default())).unwrap();
    let origin = chunk.batches[0].batch.origin.unwrap();
    assert_eq!((origin.log, origin.offset, origin.append_time_ms), (partition.log_id(), Offset(0), START_MS));
    // There is nothing left to replay; a restart brings nothing back.
    assert_eq!(replay(&rig, START_MS, None).moved, 0);
    rig.reopen();
    assert_eq!((ready(&rig, "a"), kept(&rig)), (numbers(3), 0));
    // Settled again, they are kept again.
    let work = lease(&rig, &find(&rig, "a"), 3);
    settle(&rig, &work, 3..6, Verdict::Accept);
    assert_eq!(replay(&rig, START_MS, None).moved, 3);
}

#[test]
fn a_replay_into_another_queue_takes_them_there() {
    let rig = worked(3);
    assert_eq!(replay(&rig, START_MS, Some("b")).moved, 3);
    assert_eq!((ready(&rig, "b"), ready(&rig, "a"), kept(&rig)), (numbers(3), Vec::new(), 0));
}

#[test]
fn a_replay_takes_what_was_appended_since() {
    let rig = worked(2);
    rig.advance(1_000);
    let a = find(&rig, "a");
    rig.append(&a, &["2"]);
    let work = lease(&rig, &a, 1);
    settle(&rig, &work, 2..3, Verdict::Accept);
    assert_eq!(replay(&rig, START_MS + 1, None).moved, 1);
    assert_eq!((ready(&rig, "a"), kept(&rig)), (vec!["2".to_owned()], 2));
}

#[test]
fn a_replay_leaves_what_waits_alone() {
    let rig = worked(1);
    rig.append(&find(&rig, "a"), &["new"]);
    assert_eq!(replay(&rig, START_MS, None).moved, 1);
    assert_eq!(ready(&rig, "a"), ["new", "0"]);
}

#[test]
fn retention_ends_the_history_after_its_time() {
    let mut rig = worked(3);
    rig.advance(HOUR_MS - 1);
    retain(&rig);
    assert_eq!(kept(&rig), 3);
    rig.advance(HOUR_MS / 64 + 1);
    retain(&rig);
    assert_eq!((kept(&rig), find(&rig, "a").stats().records), (0, 0));
    rig.reopen();
    assert_eq!((kept(&rig), find(&rig, "a").stats().records), (0, 0));
}

#[test]
fn a_history_that_a_restart_read_back_ends_after_its_time_too() {
    let mut rig = worked(3);
    rig.reopen();
    retain(&rig);
    assert_eq!(kept(&rig), 3);
    rig.advance(HOUR_MS + HOUR_MS / 64 + 1);
    retain(&rig);
    assert_eq!(kept(&rig), 0);
}

#[test]
fn a_queue_that_is_told_to_forget_does() {
    let rig = worked(3);
    wait(rig.broker.alter_stream(&queue_key("a"), |settings| {
        settings.history_ms = None;
        Ok(())
    }))
    .unwrap();
    retain(&rig);
    assert_eq!((kept(&rig), find(&rig, "a").stats().records), (0, 0));
}

#[test]
fn what_is_kept_takes_no_room_from_what_waits() {
    let rig = Rig::new();
    let limits = StreamSettings { length_max: Some(2), overflow: Overflow::Refuse, ..keeping() };
    let a = queue(&rig, "a", limits);
    for n in 0..4 {
        rig.append(&a, &[&n.to_string()]);
        let work = lease(&rig, &a, 1);
        settle(&rig, &work, n..n + 1, Verdict::Accept);
    }
    assert_eq!(kept(&rig), 4);
    rig.append(&a, &["x"]);
    rig.append(&a, &["y"]);
    let refused = rig.publish(crate::Append::new(&a, crate::testing::batch(&["z"])));
    assert!(matches!(refused, crate::Outcome::Refused(_)), "{refused:?}");
    assert_eq!(ready(&rig, "a"), ["x", "y"]);
}

#[test]
fn a_released_record_and_one_that_was_moved_away_are_no_history() {
    let rig = worked(0);
    let a = find(&rig, "a");
    rig.append(&a, &["0"]);
    let work = lease(&rig, &a, 1);
    settle(&rig, &work, 0..1, Verdict::Release { delay_ms: 0, count: Count::Add });
    assert_eq!((kept(&rig), ready(&rig, "a")), (0, vec!["0".to_owned()]));
    ended(&rig, begin(&rig, a_to_b()));
    assert_eq!((kept(&rig), bodies(&rig, "a"), bodies(&rig, "b")), (0, Vec::new(), vec!["0".to_owned()]));
}

#[test]
fn a_record_that_is_taken_at_once_is_kept_too() {
    let mut rig = worked(0);
    let a = find(&rig, "a");
    rig.append(&a, &["0", "1"]);
    let (work, _) = rig.broker.queue_work(&a).unwrap();
    let ask = crate::LeaseAsk {
        holder: crate::HolderId(1),
        allowance: crate::Allowance::records(2),
        kind: crate::LeaseKind::Taken,
        time: Default::default(),
    };
    let leased = wait(work.lease(ask)).unwrap();
    wait(rig.broker.durable(leased.wait)).unwrap();
    for _ in 0..2 {
        assert_eq!((leased.records, kept(&rig), ready(&rig, "a")), (2, 2, Vec::new()));
        rig.reopen();
    }
    assert_eq!(replay(&rig, START_MS, None).moved, 2);
    assert_eq!(ready(&rig, "a"), ["0", "1"]);
}

#[test]
fn a_history_is_refused_where_it_means_nothing() {
    let rig = worked(0);
    let spec = StreamSpec { settings: keeping(), ..StreamSpec::with_partitions(1) };
    let error = wait(rig.broker.create_stream(key("log"), spec)).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    rig.log("orders", 1);
    let settings = StreamSettings { mode: Mode::Queue, over: Some(key("orders")), ..keeping() };
    let spec = StreamSpec { settings, ..StreamSpec::with_partitions(1) };
    assert_eq!(
        wait(rig.broker.create_stream(queue_key("over"), spec)).err().unwrap().kind(),
        ErrorKind::Invalid
    );
    let replay = |source: &str| wait(rig.broker.start_replay(queue_key(source), 0, None, None));
    assert_eq!(replay("b").unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(replay("absent").unwrap_err().kind(), ErrorKind::NotFound);
}
