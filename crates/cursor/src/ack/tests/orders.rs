//! The orders that choose, by example.

use super::*;

/// A cursor over one record per letter, which is its key; a dot has none.
fn keyed(sharing: KeySharing, keys: &str) -> AckCursor {
    let config = AckConfig { order: Order::Keyed(sharing), ..AckConfig::default() };
    let mut cursor = cursor_of(keys.len() as u64, config);
    let keys: Vec<_> = keys.bytes().map(|key| (key != b'.').then(|| OrderingKey::of(&[key]))).collect();
    cursor.note_keys(Offset::ZERO, &keys).unwrap();
    cursor
}

/// A cursor over one record per digit, which is its priority.
fn by_level(levels: &str) -> AckCursor {
    let config = AckConfig { order: Order::Priority, ..AckConfig::default() };
    let mut cursor = cursor_of(levels.len() as u64, config);
    let levels: Vec<u8> = levels.bytes().map(|level| level - b'0').collect();
    cursor.note_levels(Offset::ZERO, &levels).unwrap();
    cursor
}

fn granted(cursor: &mut AckCursor, holder: HolderId, count: u64) -> Vec<u64> {
    offsets(&lease(cursor, ask(holder, count), 0))
}

#[test]
fn a_key_is_blocked_while_one_of_its_records_is_leased() {
    let mut cursor = keyed(KeySharing::One, "aabac");
    assert_eq!(granted(&mut cursor, ANNA, 9), [0, 2, 4]);
    assert_eq!(granted(&mut cursor, ANNA, 9), [] as [u64; 0]);
    settle(&mut cursor, 0..1, Verdict::Settle);
    assert_eq!(granted(&mut cursor, BELA, 9), [1]);
    settle(&mut cursor, 1..2, release(Count::Add));
    assert_eq!(granted(&mut cursor, BELA, 9), [1]);
    settle(&mut cursor, 1..2, Verdict::Settle);
    assert_eq!(granted(&mut cursor, BELA, 9), [3]);
}

#[test]
fn one_grant_may_hold_several_of_a_key_in_order_and_the_next_none() {
    let mut cursor = keyed(KeySharing::Grant, "abaaab");
    assert_eq!(granted(&mut cursor, ANNA, 4), [0, 2, 3, 4], "as many as there are of one key, then others");
    assert_eq!(granted(&mut cursor, ANNA, 9), [1, 5]);
    let mut cursor = keyed(KeySharing::Grant, "aaab");
    assert_eq!(granted(&mut cursor, ANNA, 2), [0, 1]);
    assert_eq!(granted(&mut cursor, ANNA, 9), [3]);
    settle(&mut cursor, 0..1, Verdict::Settle);
    assert_eq!(granted(&mut cursor, ANNA, 9), [] as [u64; 0]);
    settle(&mut cursor, 1..2, Verdict::Settle);
    assert_eq!(granted(&mut cursor, BELA, 9), [2]);
}

#[test]
fn a_record_that_is_back_does_not_wait_for_later_ones_of_its_grant_and_they_wait_for_it() {
    let mut cursor = keyed(KeySharing::Grant, "aaa");
    assert_eq!(granted(&mut cursor, ANNA, 9), [0, 1, 2]);
    settle(&mut cursor, 1..2, release(Count::Add));
    assert_eq!(granted(&mut cursor, BELA, 9), [] as [u64; 0], "the first is still out");
    settle(&mut cursor, 0..1, release(Count::Add));
    assert_eq!(granted(&mut cursor, BELA, 9), [0, 1], "the last is still out");
}

#[test]
fn keys_take_turns() {
    let mut cursor = keyed(KeySharing::Grant, "abbca");
    let at_once = Ask { deadline_ms: Some(0), ..ask(ANNA, 3) };
    assert_eq!(offsets(&lease(&mut cursor, at_once, 0)), [0, 4, 1]);
    assert_eq!(granted(&mut cursor, ANNA, 9), [3, 0, 4, 1, 2], "the one that was not served comes first");
}

#[test]
fn a_grant_goes_on_with_its_keys_unless_somebody_else_had_one() {
    let mut cursor = keyed(KeySharing::Grant, "aaaaaa");
    let more = |holder| Ask { goes_on: true, ..ask(holder, 2) };
    assert_eq!(granted(&mut cursor, ANNA, 2), [0, 1]);
    assert_eq!(offsets(&lease(&mut cursor, more(BELA), 0)), [] as [u64; 0]);
    assert_eq!(offsets(&lease(&mut cursor, more(ANNA), 0)), [] as [u64; 0], "another grant was made since");
    let mut cursor = keyed(KeySharing::Grant, "aaaaaa");
    assert_eq!(granted(&mut cursor, ANNA, 2), [0, 1]);
    assert_eq!(offsets(&lease(&mut cursor, more(ANNA), 0)), [2, 3]);
}

#[test]
fn what_is_spent_stays_ready_until_it_is_offered_where_that_is_asked_for() {
    for order in [Order::Offset, Order::Keyed(KeySharing::Grant)] {
        let config =
            AckConfig { order, max_attempts: Some(1), exhaust: Exhaust::WhenOffered, ..AckConfig::default() };
        let mut cursor = cursor_of(2, config);
        drop(cursor.note_keys(Offset::ZERO, &[None; 2]));
        assert_eq!(granted(&mut cursor, ANNA, 1), [0]);
        settle(&mut cursor, 0..1, release(Count::Add));
        assert_eq!((cursor.counts().ready, cursor.exhausted(9)), (2, Spans::new()));
        cursor.set_attempts(Some(2), Exhaust::WhenOffered);
        cursor.set_attempts(Some(1), Exhaust::WhenOffered);
        assert_eq!(granted(&mut cursor, ANNA, 9), [1]);
        assert_eq!((cursor.exhausted(9), cursor.attempts(Offset(0))), (Offset(0).into(), 1));
        cursor.set_attempts(None, Exhaust::WhenOffered);
        assert_eq!(granted(&mut cursor, ANNA, 9), [0]);
    }
}

#[test]
fn a_delivery_that_did_not_happen_leaves_neither_count_nor_time() {
    let mut cursor = cursor_of(1, AckConfig::default());
    lease(&mut cursor, Ask { deadline_ms: None, ..ask(ANNA, 1) }, 5);
    settle(&mut cursor, 0..1, release(Count::Keep));
    let again = lease(&mut cursor, Ask { deadline_ms: None, ..ask(ANNA, 1) }, 9);
    assert_eq!((again.runs[0].attempt, again.runs[0].first_delivery_ms), (1, Some(9)));
    settle(&mut cursor, 0..1, release(Count::Add));
    lease(&mut cursor, Ask { deadline_ms: None, ..ask(ANNA, 1) }, 11);
    settle(&mut cursor, 0..1, release(Count::Keep));
    let again = lease(&mut cursor, Ask { deadline_ms: None, ..ask(ANNA, 1) }, 20);
    assert_eq!((again.runs[0].attempt, again.runs[0].first_delivery_ms), (2, Some(9)));
}

#[test]
fn a_holder_may_go_on_with_the_keys_it_has() {
    let mut cursor = keyed(KeySharing::Holder, "abab");
    assert_eq!(granted(&mut cursor, ANNA, 1), [0]);
    assert_eq!(granted(&mut cursor, BELA, 9), [1, 3]);
    assert_eq!(granted(&mut cursor, ANNA, 9), [2]);
}

#[test]
fn a_key_stays_with_who_has_a_lease_when_that_of_another_holder_ends() {
    let until = |holder, deadline_ms| Ask { deadline_ms: Some(deadline_ms), ..ask(holder, 2) };
    let mut cursor = keyed(KeySharing::Holder, "aaaa");
    assert_eq!(offsets(&lease(&mut cursor, until(ANNA, 100), 0)), [0, 1]);
    settle(&mut cursor, 1..2, Verdict::Transfer { holder: BELA, deadline_ms: Some(50), count: Count::Keep });
    cursor.expire(50);
    assert_eq!(
        offsets(&lease(&mut cursor, until(BELA, 100), 50)),
        [] as [u64; 0],
        "it has none of the key now"
    );
    assert_eq!(offsets(&lease(&mut cursor, until(ANNA, 100), 50)), [1, 2]);
    cursor.expire(100);
    assert_eq!(offsets(&lease(&mut cursor, until(BELA, 200), 100)), [0, 1], "nobody has one");
}

#[test]
fn a_delayed_record_blocks_its_key_and_no_other() {
    let mut cursor = keyed(KeySharing::One, "aab");
    assert_eq!(granted(&mut cursor, ANNA, 1), [0]);
    settle(&mut cursor, 0..1, Verdict::Release { due_ms: Some(100), count: Count::Add });
    assert_eq!(granted(&mut cursor, ANNA, 9), [2]);
    assert_eq!(offsets(&lease(&mut cursor, ask(ANNA, 9), 100)), [0]);
}

#[test]
fn an_exhausted_record_blocks_its_key_until_it_is_moved_away() {
    let mut cursor = keyed(KeySharing::One, "aa");
    cursor.set_limits(Some(1), None);
    assert_eq!(granted(&mut cursor, ANNA, 9), [0]);
    cursor.expire(1_000);
    assert_eq!(cursor.exhausted(9), Offset(0).into());
    assert_eq!(granted(&mut cursor, ANNA, 9), [] as [u64; 0]);
    settle(&mut cursor, 0..1, Verdict::Settle);
    assert_eq!(granted(&mut cursor, ANNA, 9), [1]);
}

#[test]
fn records_without_a_key_wait_for_nobody() {
    assert_eq!(granted(&mut keyed(KeySharing::One, "..a.a."), ANNA, 9), [0, 1, 2, 3, 5]);
}

#[test]
fn a_keyed_cursor_looks_no_further_than_its_window() {
    let config = AckConfig { order: Order::Keyed(KeySharing::One), ..AckConfig::default() };
    let mut cursor = cursor_of(KEY_WINDOW + 10, config);
    assert_eq!(cursor.wants(), Some(Span::of(0..KEY_WINDOW)));
    let key = Some(OrderingKey::of(b"the only one"));
    cursor.note_keys(Offset::ZERO, &vec![key; KEY_WINDOW as usize + 10]).unwrap();
    assert_eq!(cursor.wants(), None);
    assert_eq!(granted(&mut cursor, ANNA, 9), [0]);
    settle(&mut cursor, 0..4, Verdict::Settle);
    assert_eq!(cursor.wants(), Some(Span::of(KEY_WINDOW..KEY_WINDOW + 4)));
}

#[test]
fn keys_are_told_in_order() {
    let config = AckConfig { order: Order::Keyed(KeySharing::One), ..AckConfig::default() };
    let mut cursor = cursor_of(9, config);
    assert_eq!(cursor.note_keys(Offset(3), &[None]).unwrap_err().kind(), model::ErrorKind::Conflict);
    assert_eq!(cursor.note_levels(Offset(0), &[1]).unwrap_err().kind(), model::ErrorKind::Invalid);
    assert_eq!(lease(&mut cursor, ask(ANNA, 9), 0).stop, Stop::Index);
    cursor.skip(Span::of(0..3));
    cursor.note_keys(Offset(1), &[None; 6]).unwrap();
    assert_eq!(cursor.wants(), Some(Span::of(7..9)));
}

#[test]
fn the_highest_priority_comes_first_and_the_oldest_within_it() {
    let mut cursor = by_level("010290");
    assert_eq!(granted(&mut cursor, ANNA, 2), [4, 3]);
    settle(&mut cursor, 4..5, release(Count::Add));
    assert_eq!(granted(&mut cursor, ANNA, 9), [4, 1, 0, 2, 5]);
}

#[test]
fn nothing_is_granted_by_priority_before_all_priorities_are_known() {
    let mut cursor = by_level("00");
    cursor.note_appended(Offset(3));
    let grant = lease(&mut cursor, ask(ANNA, 9), 0);
    assert_eq!((grant.records, grant.stop), (0, Stop::Index));
    cursor.note_levels(Offset(2), &[5]).unwrap();
    assert_eq!(granted(&mut cursor, ANNA, 9), [2, 0, 1]);
}

/// A cursor whose keys share fairly, told of no more than the first `told_count` of its records.
fn fair(keys: &str, told_count: usize) -> AckCursor {
    let config = AckConfig { order: Order::Keyed(KeySharing::Fair), ..AckConfig::default() };
    let mut cursor = cursor_of(keys.len() as u64, config);
    cursor.note_keyed(Offset(keys.len() as u64 - 1));
    let keys: Vec<_> = keys.bytes().map(|key| (key != b'.').then(|| OrderingKey::of(&[key]))).collect();
    cursor.note_keys(Offset::ZERO, &keys[..told_count]).unwrap();
    cursor
}

#[test]
fn a_key_with_much_out_lets_the_others_pass() {
    let mut cursor = fair("aaaaaabc.", 9);
    assert_eq!(granted(&mut cursor, ANNA, 1), [0]);
    assert_eq!(granted(&mut cursor, ANNA, 3), [6, 7, 8], "nothing of these is out");
    assert_eq!(granted(&mut cursor, ANNA, 9), [1, 2, 3, 4, 5], "and when there is nothing else, more of it");
}

#[test]
fn keys_with_about_as_much_out_are_offered_by_offset() {
    let mut cursor = fair("abababab", 8);
    assert_eq!(granted(&mut cursor, ANNA, 4), [0, 1, 2, 3]);
    settle(&mut cursor, 0..4, Verdict::Settle);
    assert_eq!(granted(&mut cursor, ANNA, 4), [4, 5, 6, 7]);
}

#[test]
fn a_record_that_waits_for_its_time_does_not_hold_up_its_key_where_keys_share() {
    let mut cursor = fair("aab", 3);
    assert_eq!(granted(&mut cursor, ANNA, 1), [0]);
    settle(&mut cursor, 0..1, Verdict::Release { due_ms: Some(50), count: Count::Add });
    assert_eq!(granted(&mut cursor, ANNA, 9), [1, 2]);
    assert_eq!(offsets(&lease(&mut cursor, ask(ANNA, 9), 50)), [0]);
}

#[test]
fn before_a_key_gets_more_than_its_share_records_further_on_are_told_of() {
    let mut cursor = fair("aaaaab", 4);
    let looking = |count| Ask { looks_ahead: true, ..ask(ANNA, count) };
    assert_eq!(offsets(&lease(&mut cursor, looking(2), 0)), [0, 1]);
    let stopped = lease(&mut cursor, looking(2), 0);
    assert_eq!((stopped.records, stopped.stop), (0, Stop::Index));
    assert_eq!(cursor.wants(), Some(Span::of(4..6)));
    let rest: Vec<_> = b"ab".iter().map(|key| Some(OrderingKey::of(&[*key]))).collect();
    cursor.note_keys(Offset(4), &rest).unwrap();
    assert_eq!(offsets(&lease(&mut cursor, looking(2), 0)), [5, 2]);
}

#[test]
fn sharing_costs_nothing_once_no_record_has_a_key() {
    let config = AckConfig { order: Order::Keyed(KeySharing::Fair), ..AckConfig::default() };
    let mut cursor = cursor_of(1_000, config);
    assert!(cursor.is_by_offset() && cursor.wants().is_none());
    cursor.note_keyed(Offset(3));
    assert!(!cursor.is_by_offset());
    assert_eq!(lease(&mut cursor, ask(ANNA, 1), 0).stop, Stop::Index);
    let keys: Vec<_> = (0..1_000).map(|at| (at == 3).then(|| OrderingKey::of(b"a"))).collect();
    cursor.note_keys(Offset(0), &keys).unwrap();
    assert_eq!(granted(&mut cursor, ANNA, 5), [0, 1, 2, 3, 4]);
    settle(&mut cursor, 0..4, Verdict::Settle);
    assert_eq!(granted(&mut cursor, ANNA, 1), [5]);
    assert!(cursor.is_by_offset());
    assert!(cursor.footprint() < 1_024, "{} bytes", cursor.footprint());
}
