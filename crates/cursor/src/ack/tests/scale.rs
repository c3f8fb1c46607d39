//! Depth costs nothing, and an operation costs the same at any depth. Costs are counted, not timed.

use super::*;

const DEPTH: u64 = 10_000_000;

#[test]
fn a_plain_queue_of_ten_million_costs_kilobytes() {
    let mut cursor = cursor_of(DEPTH, AckConfig::default());
    for round in 0..2_000 {
        let grant = lease(&mut cursor, Ask { deadline_ms: Some(30_000 + round), ..ask(ANNA, 100) }, round);
        assert_eq!(grant.records, 100);
        let done = grant.spans();
        cursor.settle(&done, Claim::Holder(ANNA), Verdict::Settle, round, &mut Changes::new());
    }
    lease(&mut cursor, ask(ANNA, 1_000), 0);
    assert_eq!(cursor.counts().unsettled(), DEPTH - 200_000);
    assert!(cursor.footprint() < 4_096, "{} bytes", cursor.footprint());
    assert!(cursor.snapshot().unwrap().len() < 1_024);
}

#[test]
fn ten_million_returned_by_a_restart_cost_kilobytes() {
    let mut cursor = cursor_of(DEPTH, AckConfig::default());
    let volatile = Ask { kind: LeaseKind::Volatile, deadline_ms: None, ..ask(ANNA, DEPTH) };
    let mut changes = Changes::new();
    assert_eq!(cursor.lease(&volatile, 0, &mut here, &mut changes).records, DEPTH);
    changes.note_delivered(&mut cursor);
    let mut replica = cursor_of(DEPTH, AckConfig::default());
    replica.apply(&changes.into_entry().unwrap()).unwrap();
    assert_eq!(replica.counts().ready, DEPTH);
    assert!(replica.footprint() < 16_384, "{} bytes", replica.footprint());
}

#[test]
fn every_second_record_settled_costs_bits() {
    let mut cursor = cursor_of(DEPTH, AckConfig::default());
    let mut changes = Changes::new();
    for offset in (1..1_000_000).step_by(2) {
        cursor.settle(&Offset(offset).into(), Claim::Anyone, Verdict::Settle, 0, &mut changes);
    }
    assert!(cursor.footprint() < 200_000, "{} bytes", cursor.footprint());
    assert_eq!(offsets(&lease(&mut cursor, ask(ANNA, 3), 0)), [0, 2, 4]);
}

/// Works through part of a deep backlog in which records of `key_count` keys alternate; one in eight is released
/// once. Answers how many records were settled, and the largest footprint.
fn work_keyed(key_count: u64, rounds: i64) -> (u64, usize) {
    let config = AckConfig { order: Order::Keyed(KeySharing::One), ..AckConfig::default() };
    let mut cursor = cursor_of(DEPTH, config);
    let (mut settled, mut footprint) = (0, 0);
    let mut last_of_key = std::collections::HashMap::new();
    for round in 0..rounds {
        while let Some(wanted) = cursor.wants() {
            let end = wanted.end.0.min(wanted.start.0 + 10_000);
            let keys: Vec<_> = (wanted.start.0..end)
                .map(|o| Some(OrderingKey::of(&(o % key_count).to_be_bytes())))
                .collect();
            cursor.note_keys(wanted.start, &keys).unwrap();
        }
        let grant = lease(&mut cursor, Ask { deadline_ms: Some(round + 50), ..ask(ANNA, 64) }, round);
        assert!(grant.records > 0);
        for offset in offsets(&grant) {
            let verdict =
                if offset % 8 == 0 && round % 2 == 0 { release(Count::Add) } else { Verdict::Settle };
            settle(&mut cursor, offset..offset + 1, verdict);
            if verdict == Verdict::Settle {
                settled += 1;
                let before = last_of_key.insert(offset % key_count, offset);
                assert!(before.is_none_or(|before| before < offset), "order of a key");
            }
        }
        footprint = footprint.max(cursor.footprint());
    }
    (settled, footprint)
}

#[test]
fn a_hundred_thousand_keys_over_ten_million_records_stay_within_the_window() {
    let (settled, footprint) = work_keyed(100_000, 500);
    assert!(settled > 25_000, "{settled}");
    assert!(footprint < 32 << 20, "{footprint} bytes");
}

#[test]
fn a_handful_of_keys_over_ten_million_records_stay_within_the_window() {
    let (settled, footprint) = work_keyed(10, 500);
    assert!(settled > 4_000, "{settled}");
    assert!(footprint < 32 << 20, "{footprint} bytes");
}

#[test]
fn two_levels_over_a_million_records_cost_bits() {
    let mut cursor = cursor_of(1_000_000, AckConfig { order: Order::Priority, ..AckConfig::default() });
    assert_eq!(lease(&mut cursor, ask(ANNA, 1), 0).stop, Stop::Index);
    while let Some(wanted) = cursor.wants() {
        let levels: Vec<u8> = wanted.range().take(50_000).map(|o| u8::from(o % 1_000 == 999)).collect();
        cursor.note_levels(wanted.start, &levels).unwrap();
    }
    let grant = lease(&mut cursor, ask(ANNA, 1_002), 0);
    let first = offsets(&grant);
    assert!(first[..1_000].iter().all(|o| o % 1_000 == 999));
    assert_eq!(first[1_000..], [0, 1]);
    assert!(cursor.footprint() < 1 << 20, "{} bytes", cursor.footprint());
}

#[test]
fn a_loud_key_ahead_of_a_quiet_one_costs_each_record_one_telling() {
    const LOUD: u64 = 100_000;
    let config = AckConfig { order: Order::Keyed(KeySharing::Fair), ..AckConfig::default() };
    let mut cursor = cursor_of(LOUD + 1, config);
    cursor.note_keyed(Offset(LOUD));
    let key = |offset: u64| Some(OrderingKey::of(if offset < LOUD { b"loud" } else { b"quiet" }));
    let (mut told, mut leases, mut reads) = (0, 0, 0);
    loop {
        let grant = lease(&mut cursor, Ask { looks_ahead: true, ..ask(ANNA, 1) }, 0);
        leases += grant.records;
        if offsets(&grant) == [LOUD] {
            break;
        }
        if grant.stop == Stop::Index {
            let wanted = cursor.wants().unwrap();
            let end = wanted.end.0.min(wanted.start.0 + 1_000);
            let keys: Vec<_> = (wanted.start.0..end).map(key).collect();
            cursor.note_keys(wanted.start, &keys).unwrap();
            told += end - wanted.start.0;
            reads += 1;
        }
    }
    assert_eq!((leases, told, reads), (3, LOUD + 1, 101), "two of the loud one, then the quiet one");
    assert!(cursor.footprint() < 32 << 20, "{} bytes", cursor.footprint());
}
