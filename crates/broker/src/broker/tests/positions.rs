use bytes::Bytes;
use model::{ErrorKind, Namespace, Offset, PartitionIndex};

use crate::{
    CursorKey, DocumentKey, LagStatus, Position, Retention, StreamSettings,
    testing::{Rig, START_MS, key, wait},
};

fn group(name: &str) -> CursorKey {
    CursorKey::new(&Namespace::default(), name)
}

fn commit(rig: &Rig, cursor: &str, positions: &[(&str, usize, u64)]) {
    let commits = positions
        .iter()
        .map(|(stream, index, offset)| (rig.partition(stream, *index), Position::at(Offset(*offset))));
    let seq = rig.broker.commit_positions(&group(cursor), commits.collect()).unwrap();
    wait(rig.broker.durable(seq)).unwrap();
}

fn offsets(rig: &Rig, cursor: &str) -> Option<Vec<(String, u32, u64)>> {
    let views = rig.broker.positions(&group(cursor))?;
    let short =
        |view: &crate::PositionView| (view.stream.name.to_string(), view.partition.0, view.position.offset.0);
    Some(views.iter().map(short).collect())
}

#[test]
fn committed_positions_survive_a_restart_with_what_was_kept_beside_them() {
    let mut rig = Rig::new();
    rig.log("a", 2);
    rig.log("b", 1);
    commit(&rig, "readers", &[("b", 0, 7), ("a", 1, 5)]);
    let rich = Position {
        note: Some(3),
        metadata: Bytes::from_static(b"host-1"),
        expires_at_ms: Some(START_MS + 50),
        ..Position::at(Offset(6))
    };
    let seq =
        rig.broker.commit_positions(&group("readers"), vec![(rig.partition("a", 0), rich.clone())]).unwrap();
    wait(rig.broker.durable(seq)).unwrap();
    for _ in 0..2 {
        let expected = [("a".to_owned(), 0, 6), ("a".to_owned(), 1, 5), ("b".to_owned(), 0, 7)];
        assert_eq!(offsets(&rig, "readers").unwrap(), expected);
        let found = rig.broker.position(&group("readers"), &rig.partition("a", 0)).unwrap();
        assert_eq!(found, Position { committed_at_ms: START_MS, ..rich.clone() });
        assert_eq!(rig.broker.cursors(&Namespace::default()), [group("readers")]);
        rig.reopen();
    }
}

#[test]
fn a_cursor_goes_with_its_last_position() {
    let mut rig = Rig::new();
    rig.log("a", 2);
    commit(&rig, "readers", &[("a", 0, 1), ("a", 1, 2)]);
    let seq = rig.broker.delete_positions(&group("readers"), &[rig.partition("a", 0)]).unwrap();
    wait(rig.broker.durable(seq)).unwrap();
    assert_eq!(offsets(&rig, "readers").unwrap(), [("a".to_owned(), 1, 2)]);
    wait(rig.broker.delete_cursor(&group("readers"))).unwrap();
    assert_eq!(offsets(&rig, "readers"), None);
    assert_eq!(wait(rig.broker.delete_cursor(&group("readers"))).unwrap_err().kind(), ErrorKind::NotFound);
    rig.reopen();
    assert!(rig.broker.cursors(&group("readers").namespace).is_empty());
}

#[test]
fn positions_go_with_their_stream_and_do_not_match_its_successor() {
    let rig = Rig::new();
    rig.log("a", 1);
    rig.log("b", 1);
    commit(&rig, "readers", &[("a", 0, 1), ("b", 0, 2)]);
    wait(rig.broker.delete_stream(&key("a"))).unwrap();
    rig.log("a", 1);
    assert_eq!(offsets(&rig, "readers").unwrap(), [("b".to_owned(), 0, 2)]);
    assert_eq!(rig.broker.position(&group("readers"), &rig.partition("a", 0)), None);
}

#[test]
fn a_commit_that_names_a_deleted_stream_moves_nothing() {
    let rig = Rig::new();
    rig.log("a", 1);
    rig.log("b", 1);
    let gone = rig.partition("a", 0);
    wait(rig.broker.delete_stream(&key("a"))).unwrap();
    let commits = [rig.partition("b", 0), gone].map(|partition| (partition, Position::at(Offset(1))));
    let refused = rig.broker.commit_positions(&group("readers"), commits.into()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Closed);
    assert_eq!(offsets(&rig, "readers"), None);
}

#[test]
fn metadata_of_a_commit_is_limited() {
    let rig = Rig::new();
    rig.log("a", 1);
    for (len, is_taken) in [(32_766, true), (32_767, true), (32_768, false)] {
        let position = Position { metadata: vec![0; len].into(), ..Position::at(Offset(0)) };
        let committed =
            rig.broker.commit_positions(&group("readers"), vec![(rig.partition("a", 0), position)]);
        assert_eq!(committed.is_ok(), is_taken, "{len}");
    }
}

#[test]
fn a_position_lapses_at_its_time() {
    let rig = Rig::new();
    let stream = rig.log("a", 1);
    let lapsing = Position { expires_at_ms: Some(START_MS + 50), ..Position::at(Offset(1)) };
    rig.broker.commit_positions(&group("readers"), vec![(rig.partition("a", 0), lapsing)]).unwrap();
    rig.advance(49);
    rig.broker.retain(&stream);
    assert!(offsets(&rig, "readers").is_some());
    rig.advance(1);
    rig.broker.retain(&stream);
    assert_eq!(offsets(&rig, "readers"), None);
}

#[test]
fn a_cursor_can_be_moved_and_copied() {
    let rig = Rig::new();
    rig.log("a", 2);
    commit(&rig, "readers", &[("a", 0, 1), ("a", 1, 2)]);
    wait(rig.broker.copy_cursor(&group("readers"), &group("copy"))).unwrap();
    wait(rig.broker.seek(&group("readers"), vec![(rig.partition("a", 0), Offset(0))])).unwrap();
    assert_eq!(offsets(&rig, "copy").unwrap(), [("a".to_owned(), 0, 1), ("a".to_owned(), 1, 2)]);
    assert_eq!(offsets(&rig, "readers").unwrap(), [("a".to_owned(), 0, 0), ("a".to_owned(), 1, 2)]);
}

#[test]
fn a_protected_cursor_holds_retention_back_up_to_its_bytes() {
    for (protect, expected) in [(None, 10), (Some(1 << 20), 4), (Some(1), 8)] {
        let rig = Rig::new();
        let retention = Retention { time_ms: Some(1), ..Retention::default() };
        let stream = rig.log_with("a", 1, StreamSettings { retention, ..StreamSettings::default() });
        let partition = rig.partition("a", 0);
        for _ in 0..5 {
            rig.append(&partition, &["x", "y"]);
        }
        commit(&rig, "readers", &[("a", 0, 4)]);
        wait(rig.broker.protect(&group("readers"), protect)).unwrap();
        rig.advance(100);
        rig.broker.retain(&stream);
        assert_eq!(partition.bounds().start, Offset(expected), "{protect:?}");
    }
}

#[test]
fn lag_tells_records_bytes_age_and_the_time_until_retention() {
    let rig = Rig::new();
    let retention = Retention { time_ms: Some(1_000), ..Retention::default() };
    rig.log_with("a", 1, StreamSettings { retention, ..StreamSettings::default() });
    let partition = rig.partition("a", 0);
    for body in ["x", "y", "z"] {
        rig.append(&partition, &[body]);
        rig.advance(100);
    }
    commit(&rig, "readers", &[("a", 0, 1)]);
    let lag = wait(rig.broker.lag(&group("readers"))).unwrap();
    assert_eq!((lag[0].partition, lag[0].position, lag[0].end), (PartitionIndex(0), Offset(1), Offset(3)));
    assert_eq!((lag[0].lag_records, lag[0].lag_age_ms), (2, 200));
    assert_eq!(lag[0].retention_headroom_ms, Some(800));
    assert!(lag[0].lag_bytes > 0 && lag[0].lag_bytes < partition.stats().bytes);
    assert_eq!(lag[0].status, LagStatus::Ok);
    rig.advance(60_001);
    assert_eq!(wait(rig.broker.lag(&group("readers"))).unwrap()[0].status, LagStatus::Stopped);
    commit(&rig, "readers", &[("a", 0, 3)]);
    let lag = wait(rig.broker.lag(&group("readers"))).unwrap();
    assert_eq!((lag[0].lag_records, lag[0].lag_bytes, lag[0].lag_age_ms), (0, 0, 0));
    assert_eq!((lag[0].retention_headroom_ms, lag[0].status), (None, LagStatus::Ok));
    commit(&rig, "readers", &[("a", 0, 0)]);
    assert_eq!(wait(rig.broker.lag(&group("readers"))).unwrap()[0].status, LagStatus::Rewound);
    wait(rig.broker.trim(&partition, Offset(2))).unwrap();
    assert_eq!(wait(rig.broker.lag(&group("readers"))).unwrap()[0].status, LagStatus::Truncated);
}

#[test]
fn lag_counts_records_and_not_offsets_without_one() {
    let rig = Rig::new();
    rig.log("a", 1);
    rig.append(&rig.partition("a", 0), &["a", "b", "c", "d"]);
    commit(&rig, "readers", &[("a", 0, 1)]);
    let behind = |drop: std::ops::Range<u64>| {
        let dropped = crate::Span { start: Offset(drop.start), end: Offset(drop.end) };
        let dropped = [dropped].into_iter().collect();
        let seq = rig.broker.drop_records(&rig.partition("a", 0), &dropped).unwrap();
        wait(rig.broker.durable(seq)).unwrap();
        let lag = wait(rig.broker.lag(&group("readers"))).unwrap().remove(0);
        (lag.end, lag.lag_records, lag.status)
    };
    rig.advance(60_001);
    assert_eq!(behind(1..3), (Offset(4), 1, LagStatus::Stopped));
    assert_eq!(behind(3..4), (Offset(4), 0, LagStatus::Ok));
}

#[test]
fn a_cursor_that_was_idle_because_nothing_came_has_not_stopped() {
    let rig = Rig::new();
    rig.log("a", 1);
    let partition = rig.partition("a", 0);
    rig.append(&partition, &["x", "y"]);
    commit(&rig, "readers", &[("a", 0, 2)]);
    let status = || wait(rig.broker.lag(&group("readers"))).unwrap()[0].status;
    rig.advance(600_000);
    rig.append(&partition, &["z"]);
    assert_eq!(status(), LagStatus::Ok);
    rig.advance(60_000);
    assert_eq!(status(), LagStatus::Ok);
    rig.advance(1);
    assert_eq!(status(), LagStatus::Stopped);
    // One that went back is rewound until it is where it was, unless it died on the way.
    commit(&rig, "readers", &[("a", 0, 0)]);
    assert_eq!(status(), LagStatus::Rewound);
    rig.advance(60_001);
    assert_eq!(status(), LagStatus::Stopped);
    commit(&rig, "readers", &[("a", 0, 1)]);
    assert_eq!(status(), LagStatus::Rewound);
    commit(&rig, "readers", &[("a", 0, 2)]);
    assert_eq!(status(), LagStatus::Ok);
}

#[test]
fn headroom_is_what_retention_leaves_whatever_bounds_it() {
    let check = |retention: Retention, protect: Option<u64>, expected: Option<u64>| {
        let rig = Rig::new();
        rig.log_with("a", 1, StreamSettings { retention, ..StreamSettings::default() });
        for _ in 0..5 {
            rig.append(&rig.partition("a", 0), &["x", "y"]);
        }
        commit(&rig, "readers", &[("a", 0, 4)]);
        wait(rig.broker.protect(&group("readers"), protect)).unwrap();
        let lag = wait(rig.broker.lag(&group("readers"))).unwrap();
        assert_eq!(lag[0].retention_headroom_ms, expected, "{retention:?} {protect:?}");
    };
    let none = Retention::default();
    check(none, None, None);
    check(Retention { time_ms: Some(1_000), ..none }, None, Some(1_000));
    check(Retention { records: Some(6), ..none }, None, None);
    check(Retention { records: Some(5), ..none }, None, Some(0));
    check(Retention { bytes: Some(1), ..none }, None, Some(0));
    check(Retention { bytes: Some(1 << 20), time_ms: Some(7), ..none }, None, Some(7));
    // Protected, and within its limit; beyond it as if it were not.
    check(Retention { bytes: Some(1), time_ms: Some(7), ..none }, Some(1 << 20), None);
    check(Retention { records: Some(5), ..none }, Some(1), Some(0));
}

#[test]
fn a_cursor_is_protected_also_where_it_gets_a_position_later() {
    let mut rig = Rig::new();
    rig.log("a", 3);
    commit(&rig, "readers", &[("a", 0, 0)]);
    wait(rig.broker.protect(&group("readers"), Some(9))).unwrap();
    let protected = |rig: &Rig| {
        let views = wait(rig.broker.lag(&group("readers"))).unwrap();
        views.iter().map(|view| view.protect_len).collect::<Vec<_>>()
    };
    commit(&rig, "readers", &[("a", 1, 0)]);
    rig.reopen();
    commit(&rig, "readers", &[("a", 2, 0)]);
    assert_eq!(protected(&rig), [Some(9); 3]);
    wait(rig.broker.protect(&group("readers"), None)).unwrap();
    let seq = rig.broker.delete_positions(&group("readers"), &[rig.partition("a", 2)]).unwrap();
    wait(rig.broker.durable(seq)).unwrap();
    commit(&rig, "readers", &[("a", 2, 0)]);
    assert_eq!(protected(&rig), [None; 3]);
}

#[test]
fn documents_are_kept_by_dialect_and_name_over_a_restart() {
    let mut rig = Rig::new();
    let document = |dialect: &str, name: &str| DocumentKey {
        dialect: dialect.into(),
        namespace: Namespace::default(),
        name: name.into(),
    };
    for (dialect, name) in [("one", "a"), ("one", "b"), ("two", "a")] {
        rig.broker.put_document(document(dialect, name), Some(Bytes::from_static(b"body"))).unwrap();
    }
    let seq = rig.broker.put_document(document("one", "b"), None).unwrap();
    wait(rig.broker.durable(seq)).unwrap();
    rig.reopen();
    assert_eq!(rig.broker.documents("one"), [(document("one", "a"), Bytes::from_static(b"body"))]);
    assert!(rig.broker.document(&document("two", "a")).is_some());
}
