mod against_naive;
mod naive;
mod orders;
mod scale;

use model::Offset;

use super::*;
use crate::{
    credit::{Allowance, Oversize},
    entry::Count,
};

const ANNA: HolderId = HolderId(1);
const BELA: HolderId = HolderId(2);

fn cursor_of(end: u64, config: AckConfig) -> AckCursor {
    let mut cursor = AckCursor::new(config, Offset::ZERO);
    cursor.note_appended(Offset(end));
    cursor
}

fn here(_: Offset) -> Look {
    Look::Here { len: 10 }
}

fn ask(holder: HolderId, count: u64) -> Ask {
    Ask {
        holder,
        allowance: Allowance::records(count),
        kind: LeaseKind::Recorded,
        deadline_ms: Some(1_000),
        goes_on: false,
        looks_ahead: false,
    }
}

fn lease(cursor: &mut AckCursor, ask: Ask, now_ms: i64) -> Grant {
    cursor.lease(&ask, now_ms, &mut here, &mut Changes::new())
}

fn offsets(grant: &Grant) -> Vec<u64> {
    grant.runs.iter().flat_map(|run| run.span.range()).collect()
}

fn settle(cursor: &mut AckCursor, range: Range<u64>, verdict: Verdict) -> Settled {
    cursor.settle(&Span::of(range).into(), Claim::Anyone, verdict, 0, &mut Changes::new())
}

fn release(count: Count) -> Verdict {
    Verdict::Release { due_ms: None, count }
}

#[test]
fn what_is_in_doubt_is_granted_as_if_it_had_been_delivered_and_counts_as_before() {
    let mut cursor = cursor_of(6, AckConfig::default());
    cursor.doubt();
    cursor.note_appended(Offset(10));
    settle(&mut cursor, 2..3, Verdict::Settle);
    let mut cursor = AckCursor::restore(AckConfig::default(), &cursor.snapshot().unwrap()).unwrap();
    cursor.note_appended(Offset(10));
    let grant = lease(&mut cursor, ask(ANNA, 100), 0);
    let told = |run: &GrantRun| (run.span.range(), run.attempt, run.is_redelivered, run.is_first);
    let runs: Vec<_> = grant.runs.iter().map(told).collect();
    assert_eq!(runs, [(0..2, 1, true, false), (3..6, 1, true, false), (6..10, 1, false, true)]);
}

#[test]
fn a_snapshot_of_before_there_was_doubt_reads() {
    let cursor = cursor_of(6, AckConfig::default());
    let mut bytes = cursor.snapshot().unwrap().to_vec();
    assert_eq!(bytes.remove(0), 2);
    assert_eq!(bytes.remove(4), 0, "what is in doubt ends there");
    bytes.insert(0, 1);
    let mut cursor = AckCursor::restore(AckConfig::default(), &bytes).unwrap();
    cursor.note_appended(Offset(6));
    assert!(lease(&mut cursor, ask(ANNA, 100), 0).runs.iter().all(|run| !run.is_redelivered));
}

#[test]
fn records_are_granted_in_order_and_once() {
    let mut cursor = cursor_of(10, AckConfig::default());
    assert_eq!(offsets(&lease(&mut cursor, ask(ANNA, 4), 0)), [0, 1, 2, 3]);
    let rest = lease(&mut cursor, ask(BELA, 100), 0);
    assert_eq!(offsets(&rest), [4, 5, 6, 7, 8, 9]);
    assert_eq!(rest.stop, Stop::Drained);
    assert_eq!(rest.bytes, 60);
    assert_eq!(cursor.counts(), Counts { leased: 10, ..Counts::default() });
}

#[test]
fn the_floor_follows_the_oldest_unsettled_record() {
    let mut cursor = cursor_of(10, AckConfig::default());
    lease(&mut cursor, ask(ANNA, 6), 0);
    settle(&mut cursor, 1..3, Verdict::Settle);
    assert_eq!(cursor.floor(), Offset(0));
    settle(&mut cursor, 0..1, Verdict::Settle);
    assert_eq!(cursor.floor(), Offset(3));
    settle(&mut cursor, 3..10, Verdict::Settle);
    assert_eq!(cursor.floor(), Offset(10));
    assert_eq!(cursor.counts().unsettled(), 0);
}

#[test]
fn an_expired_lease_is_delivered_again_with_the_next_attempt() {
    let mut cursor = cursor_of(2, AckConfig::default());
    lease(&mut cursor, ask(ANNA, 2), 0);
    assert_eq!(cursor.next_due_ms(), Some(1_000));
    assert!(cursor.expire(999).leases.is_empty());
    let again = lease(&mut cursor, Ask { deadline_ms: None, ..ask(BELA, 2) }, 1_000);
    assert_eq!(again.runs.len(), 1);
    let run = again.runs[0];
    assert_eq!((run.attempt, run.is_redelivered, run.first_delivery_ms), (2, true, Some(0)));
    assert_eq!(cursor.next_due_ms(), None);
}

#[test]
fn a_release_counts_as_it_says() {
    for (count, attempt) in [(Count::Keep, 1), (Count::Add, 2), (Count::Set(0), 1), (Count::Set(7), 8)] {
        let mut cursor = cursor_of(1, AckConfig::default());
        lease(&mut cursor, ask(ANNA, 1), 0);
        settle(&mut cursor, 0..1, release(count));
        let again = lease(&mut cursor, ask(ANNA, 1), 0);
        assert_eq!((again.runs[0].attempt, again.runs[0].is_redelivered), (attempt, true), "{count:?}");
        assert_eq!(again.runs[0].is_first, count == Count::Keep, "{count:?}");
    }
}

#[test]
fn a_delayed_release_waits_for_its_time() {
    let mut cursor = cursor_of(2, AckConfig::default());
    lease(&mut cursor, ask(ANNA, 1), 0);
    settle(&mut cursor, 0..1, Verdict::Release { due_ms: Some(500), count: Count::Add });
    assert_eq!(cursor.state(Offset(0)), RecordState::Delayed(500));
    assert_eq!(offsets(&lease(&mut cursor, ask(BELA, 5), 499)), [1]);
    assert_eq!(offsets(&lease(&mut cursor, ask(BELA, 5), 500)), [0]);
}

#[test]
fn a_record_delivered_as_often_as_allowed_is_handed_to_the_caller() {
    let mut cursor = cursor_of(3, AckConfig { max_attempts: Some(2), ..AckConfig::default() });
    for _ in 0..2 {
        assert_eq!(offsets(&lease(&mut cursor, ask(ANNA, 1), 0)), [0]);
        settle(&mut cursor, 0..1, release(Count::Add));
    }
    assert_eq!(cursor.exhausted(10), Spans::from(Offset(0)));
    assert_eq!(offsets(&lease(&mut cursor, ask(ANNA, 9), 0)), [1, 2]);
    settle(&mut cursor, 0..1, Verdict::Settle);
    assert!(cursor.exhausted(10).is_empty());
    assert_eq!(cursor.floor(), Offset(1));
}

#[test]
fn changed_limits_apply_to_what_waits() {
    let mut cursor = cursor_of(3, AckConfig::default());
    lease(&mut cursor, ask(ANNA, 3), 0);
    settle(&mut cursor, 0..1, release(Count::Add));
    settle(&mut cursor, 1..2, release(Count::Set(4)));
    settle(&mut cursor, 2..3, Verdict::Release { due_ms: Some(900), count: Count::Set(4) });
    cursor.set_limits(Some(4), None);
    assert_eq!(cursor.exhausted(10).count(), 2);
    assert_eq!(cursor.exhausted(1).count(), 1);
    cursor.set_limits(Some(5), Some(1));
    assert!(cursor.exhausted(10).is_empty());
    let grant = lease(&mut cursor, ask(ANNA, 9), 0);
    assert_eq!((offsets(&grant), grant.stop), (vec![0], Stop::Full));
}

#[test]
fn a_claim_that_does_not_fit_is_stale() {
    let mut cursor = cursor_of(4, AckConfig::default());
    lease(&mut cursor, ask(ANNA, 2), 0);
    lease(&mut cursor, ask(BELA, 1), 0);
    let all = Spans::from(Span::of(0..9));
    let outcome = cursor.settle(&all, Claim::Holder(BELA), Verdict::Settle, 0, &mut Changes::new());
    assert_eq!(outcome.done, Spans::from(Offset(2)));
    assert_eq!(outcome.stale, [Span::of(0..2), Span::of(3..4)].into_iter().collect());
    cursor.expire(1_000);
    lease(&mut cursor, Ask { deadline_ms: Some(2_000), ..ask(BELA, 1) }, 1_000);
    let first = Spans::from(Offset(0));
    let mut stale = |attempt| {
        let claim = Claim::Attempt(attempt);
        cursor
            .settle(&first, claim, Verdict::Extend { deadline_ms: None }, 0, &mut Changes::new())
            .stale
            .count()
    };
    assert_eq!((stale(1), stale(2)), (1, 0));
}

#[test]
fn a_late_answer_settles_a_record_that_nobody_holds() {
    let mut cursor = cursor_of(2, AckConfig::default());
    lease(&mut cursor, ask(ANNA, 1), 0);
    cursor.expire(1_000);
    assert_eq!(settle(&mut cursor, 0..1, Verdict::Settle).done.count(), 1);
    assert_eq!(settle(&mut cursor, 0..1, Verdict::Settle), Settled::default());
    assert_eq!(offsets(&lease(&mut cursor, ask(BELA, 5), 1_000)), [1]);
}

#[test]
fn settling_what_was_never_stored_changes_and_logs_nothing() {
    let mut cursor = cursor_of(2, AckConfig::default());
    let mut changes = Changes::new();
    let beyond = Spans::from(Span::of(2..50));
    let outcome = cursor.settle(&beyond, Claim::Anyone, Verdict::Settle, 0, &mut changes);
    assert_eq!((outcome, changes.into_entry()), (Settled::default(), None));
}

#[test]
fn settlements_of_one_read_are_one_entry() {
    let mut cursor = cursor_of(100, AckConfig::default());
    lease(&mut cursor, ask(ANNA, 100), 0);
    let mut changes = Changes::new();
    for offset in [3, 1, 2, 50, 0, 51] {
        cursor.settle(&Offset(offset).into(), Claim::Holder(ANNA), Verdict::Settle, 0, &mut changes);
    }
    let spans = [Span::of(0..4), Span::of(50..52)].into_iter().collect();
    let expected = crate::CursorEntry::Ack(vec![crate::AckChange::Settle(spans)]);
    assert_eq!(changes.into_entry(), Some(expected));
}

#[test]
fn an_extended_lease_outlives_its_first_deadline() {
    let mut cursor = cursor_of(2, AckConfig::default());
    lease(&mut cursor, ask(ANNA, 2), 0);
    settle(&mut cursor, 0..1, Verdict::Extend { deadline_ms: Some(5_000) });
    let ended = cursor.expire(1_000);
    assert_eq!(ended.leases.iter().map(|(span, _)| span.start.0).collect::<Vec<_>>(), [1]);
    assert_eq!(cursor.next_due_ms(), Some(5_000));
}

#[test]
fn a_transferred_lease_belongs_to_the_new_holder() {
    let mut cursor = cursor_of(1, AckConfig::default());
    lease(&mut cursor, ask(ANNA, 1), 0);
    let transfer = Verdict::Transfer { holder: BELA, deadline_ms: None, count: Count::Add };
    let mut changes = Changes::new();
    cursor.settle(&Offset(0).into(), Claim::Anyone, transfer, 70, &mut changes);
    let (span, lease) = cursor.leases().next().unwrap();
    assert_eq!((span, lease.holder, lease.attempt, lease.delivered_at_ms), (Span::of(0..1), BELA, 2, 70));
    assert_eq!(lease.first_delivery_ms, Some(0));
    let late = cursor.settle(&Offset(0).into(), Claim::Holder(ANNA), Verdict::Settle, 0, &mut changes);
    assert_eq!(late.stale.count(), 1);
}

#[test]
fn gaps_are_passed_over_and_let_the_floor_through() {
    let mut cursor = cursor_of(10, AckConfig::default());
    cursor.skip(Span::of(2..4));
    let mut look = |offset: Offset| if offset.0 == 5 { Look::Gap } else { Look::Here { len: 1 } };
    let grant = cursor.lease(&ask(ANNA, 5), 0, &mut look, &mut Changes::new());
    assert_eq!(offsets(&grant), [0, 1, 4, 6, 7]);
    settle(&mut cursor, 0..8, Verdict::Settle);
    assert_eq!(cursor.floor(), Offset(8));
}

#[test]
fn a_grant_ends_before_a_record_that_has_to_be_read() {
    let mut cursor = cursor_of(10, AckConfig::default());
    let mut look = |offset: Offset| if offset.0 == 3 { Look::Unread } else { Look::Here { len: 1 } };
    let grant = cursor.lease(&ask(ANNA, 9), 0, &mut look, &mut Changes::new());
    assert_eq!((offsets(&grant), grant.stop), (vec![0, 1, 2], Stop::Unread(Offset(3))));
}

#[test]
fn bytes_end_a_grant_but_the_first_record_may_be_longer() {
    for (bytes, oversize, granted) in [
        (25, Oversize::First, 2),
        (30, Oversize::First, 3),
        (5, Oversize::First, 1),
        (0, Oversize::First, 0),
        (5, Oversize::Never, 0),
        (10, Oversize::Never, 1),
    ] {
        let mut cursor = cursor_of(5, AckConfig::default());
        let allowance = Allowance { records: 100, bytes, oversize };
        let grant = lease(&mut cursor, Ask { allowance, ..ask(ANNA, 0) }, 0);
        assert_eq!((grant.records, grant.stop), (granted, Stop::Bytes), "{bytes} {oversize:?}");
    }
}

#[test]
fn what_is_taken_is_settled_at_once() {
    let mut cursor = cursor_of(5, AckConfig::default());
    let mut changes = Changes::new();
    let grant = cursor.lease(&Ask { kind: LeaseKind::Taken, ..ask(ANNA, 3) }, 0, &mut here, &mut changes);
    assert_eq!((grant.records, cursor.floor()), (3, Offset(3)));
    let settled = crate::AckChange::Settle(Span::of(0..3).into());
    assert_eq!(changes.into_entry(), Some(crate::CursorEntry::Ack(vec![settled])));
}

#[test]
fn a_uniform_delay_holds_the_newest_back() {
    let mut cursor = cursor_of(5, AckConfig::default());
    cursor.hold_from(Some(Offset(2)));
    assert_eq!(offsets(&lease(&mut cursor, ask(ANNA, 9), 0)), [0, 1]);
    assert_eq!(cursor.counts(), Counts { leased: 2, delayed: 3, ..Counts::default() });
    cursor.hold_from(None);
    assert_eq!(offsets(&lease(&mut cursor, ask(ANNA, 9), 0)), [2, 3, 4]);
}

#[test]
fn the_oldest_that_nobody_holds_can_be_named() {
    let mut cursor = cursor_of(10, AckConfig::default());
    lease(&mut cursor, ask(ANNA, 4), 0);
    settle(&mut cursor, 1..2, release(Count::Add));
    settle(&mut cursor, 5..6, Verdict::Settle);
    let named =
        |limit, end| cursor.unleased_below(Offset(end), limit).offsets().map(|o| o.0).collect::<Vec<_>>();
    assert_eq!(named(3, 99), [1, 4, 6]);
    assert_eq!(named(99, 8), [1, 4, 6, 7]);
}

#[test]
fn a_purge_leaves_what_is_out() {
    let mut cursor = cursor_of(5, AckConfig::default());
    lease(&mut cursor, ask(ANNA, 2), 0);
    let all = Spans::from(Span::of(0..9));
    let outcome = cursor.settle(&all, Claim::Nobody, Verdict::Settle, 0, &mut Changes::new());
    assert_eq!((outcome.done, outcome.stale), (Span::of(2..5).into(), Span::of(0..2).into()));
    assert_eq!(cursor.counts(), Counts { leased: 2, ..Counts::default() });
}

#[test]
fn what_a_gone_holder_had_can_be_released() {
    let mut cursor = cursor_of(6, AckConfig::default());
    lease(&mut cursor, ask(ANNA, 2), 0);
    lease(&mut cursor, ask(BELA, 2), 0);
    lease(&mut cursor, ask(ANNA, 1), 0);
    let held = cursor.held_by(ANNA);
    assert_eq!(held, [Span::of(0..2), Span::of(4..5)].into_iter().collect());
    cursor.settle(&held, Claim::Holder(ANNA), release(Count::Add), 0, &mut Changes::new());
    assert_eq!(offsets(&lease(&mut cursor, ask(BELA, 9), 0)), [0, 1, 4, 5]);
}

#[test]
fn a_cursor_set_back_offers_everything_from_there_anew() {
    let mut cursor = cursor_of(10, AckConfig::default());
    lease(&mut cursor, ask(ANNA, 8), 0);
    settle(&mut cursor, 0..8, Verdict::Settle);
    let mut changes = Changes::new();
    cursor.seek(Offset(5), &mut changes);
    assert!(changes.into_entry().is_some());
    let grant = lease(&mut cursor, ask(BELA, 99), 0);
    assert_eq!(offsets(&grant), [5, 6, 7, 8, 9]);
    assert!(grant.runs.iter().all(|run| run.attempt == 1 && !run.is_redelivered));
}

#[test]
fn a_grant_over_a_batch_is_a_mask() {
    let mut cursor = cursor_of(10, AckConfig::default());
    cursor.skip(Span::of(5..6));
    let grant = lease(&mut cursor, ask(ANNA, 6), 0);
    assert_eq!(grant.mask(Offset(4), 4).indices().collect::<Vec<_>>(), [0, 2]);
}
