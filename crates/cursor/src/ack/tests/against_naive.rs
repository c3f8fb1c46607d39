//! Random operations, restarts among them, on the cursor and on the naive one: they agree after each.

use proptest::{prelude::*, test_runner::TestCaseError};

use super::{
    naive::{Naive, key, level},
    *,
};
use crate::{CursorEntry, ack::index::Index};

type Check = Result<(), TestCaseError>;

/// How many records the keyed cursors of these tests look ahead.
const WINDOW: u64 = 24;

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Lease {
        ask: Ask,
        for_ms: Option<i64>,
    },
    Settle {
        range: Range<u64>,
        claim: Claim,
        verdict: Verdict,
    },
    Pass(i64),
    Skip(Range<u64>),
    Seek(u64),
    Limit(Option<u32>, Option<u64>),
    /// Keep a snapshot; the entries before it are not needed any more.
    Checkpoint,
    /// Go on from a snapshot of now.
    Restart,
    /// Go on from the last checkpoint and the entries since.
    Replay,
}

#[derive(Clone, Copy)]
enum Kinds {
    /// Every lease is recorded or taken, and the limits stay: a replay gives the very state.
    Durable,
    /// Volatile ones too.
    All,
}

fn verdict() -> impl Strategy<Value = Verdict> {
    let count = prop_oneof![Just(Count::Keep), Just(Count::Add), (0u32..5).prop_map(Count::Set)];
    let time = || proptest::option::of(0i64..300);
    prop_oneof![
        3 => Just(Verdict::Settle),
        2 => (time(), count.clone()).prop_map(|(due_ms, count)| Verdict::Release { due_ms, count }),
        1 => time().prop_map(|deadline_ms| Verdict::Extend { deadline_ms }),
        1 => (1u64..4, time(), count).prop_map(|(holder, deadline_ms, count)| {
            Verdict::Transfer { holder: HolderId(holder), deadline_ms, count }
        }),
    ]
}

fn claim() -> impl Strategy<Value = Claim> {
    prop_oneof![
        Just(Claim::Anyone),
        Just(Claim::Nobody),
        (1u64..4).prop_map(|holder| Claim::Holder(HolderId(holder))),
        (1u32..4).prop_map(Claim::Attempt),
    ]
}

fn range() -> impl Strategy<Value = Range<u64>> {
    (0u64..60, 1u64..12).prop_map(|(start, len)| start..start + len)
}

fn step(kinds: Kinds) -> impl Strategy<Value = Step> {
    let kind = match kinds {
        Kinds::Durable => prop_oneof![4 => Just(LeaseKind::Recorded), 1 => Just(LeaseKind::Taken)].boxed(),
        Kinds::All => {
            prop_oneof![Just(LeaseKind::Recorded), Just(LeaseKind::Volatile), Just(LeaseKind::Taken)].boxed()
        }
    };
    let ask = (1u64..4, 0u64..9, kind).prop_map(|(holder, count, kind)| Ask {
        holder: HolderId(holder),
        allowance: Allowance::records(count),
        kind,
        deadline_ms: None,
        goes_on: false,
        looks_ahead: false,
    });
    let last = match kinds {
        Kinds::Durable => Just(Step::Replay).boxed(),
        Kinds::All => (proptest::option::of(1u32..4), proptest::option::of(0u64..12))
            .prop_map(|(attempts, leased)| Step::Limit(attempts, leased))
            .boxed(),
    };
    prop_oneof![
        4 => (1u64..9).prop_map(Step::Append),
        8 => (ask, proptest::option::of(1i64..80)).prop_map(|(ask, for_ms)| Step::Lease { ask, for_ms }),
        8 => (range(), claim(), verdict())
            .prop_map(|(range, claim, verdict)| Step::Settle { range, claim, verdict }),
        3 => (0i64..60).prop_map(Step::Pass),
        1 => range().prop_map(Step::Skip),
        1 => (0u64..30).prop_map(Step::Seek),
        1 => Just(Step::Checkpoint),
        1 => Just(Step::Restart),
        1 => last,
    ]
}

fn order() -> impl Strategy<Value = Order> {
    prop_oneof![
        Just(Order::Offset),
        Just(Order::Priority),
        Just(Order::Keyed(KeySharing::One)),
        Just(Order::Keyed(KeySharing::Grant)),
        Just(Order::Keyed(KeySharing::Holder)),
        Just(Order::Keyed(KeySharing::Fair)),
    ]
}

fn config() -> impl Strategy<Value = AckConfig> {
    let limits = (proptest::option::of(1u32..4), proptest::option::of(4u64..20));
    let exhaust = prop_oneof![Just(Exhaust::WhenReturned), Just(Exhaust::WhenOffered)];
    (order(), limits, exhaust).prop_map(|(order, (max_attempts, max_leased), exhaust)| {
        // Which record was offered is not told where keys take turns.
        let has_turns = order == Order::Keyed(KeySharing::Grant);
        let exhaust = if has_turns { Exhaust::WhenReturned } else { exhaust };
        AckConfig { order, max_attempts, exhaust, max_leased }
    })
}

struct Pair {
    cursor: AckCursor,
    naive: Naive,
    now_ms: i64,
    checkpoint: bytes::Bytes,
    entries: Vec<bytes::Bytes>,
    skipped: Vec<Range<u64>>,
}

impl Pair {
    fn new(config: AckConfig) -> Self {
        let cursor = small_window(AckCursor::new(config, Offset::ZERO));
        let checkpoint = cursor.snapshot().unwrap();
        Pair {
            cursor,
            naive: Naive::new(config, WINDOW),
            now_ms: 0,
            checkpoint,
            entries: Vec::new(),
            skipped: Vec::new(),
        }
    }

    fn run(&mut self, step: Step) -> Check {
        let mut changes = Changes::new();
        match step {
            Step::Append(count) => {
                self.naive.append(count);
                self.cursor.note_appended(Offset(self.naive.end()));
            }
            Step::Lease { ask, for_ms } => {
                let ask = Ask { deadline_ms: for_ms.map(|ms| self.now_ms + ms), ..ask };
                self.lease(&ask, &mut changes)?;
            }
            Step::Settle { range, claim, verdict } => {
                let spans = Span::of(range.clone()).into();
                let outcome = self.cursor.settle(&spans, claim, verdict, self.now_ms, &mut changes);
                prop_assert_eq!(outcome, self.naive.settle(range, claim, verdict, self.now_ms));
            }
            Step::Pass(ms) => {
                self.now_ms += ms;
                self.expire();
            }
            Step::Skip(range) => {
                let range = range.start..range.end.min(self.naive.end());
                self.cursor.skip(Span::of(range.clone()));
                self.naive.skip(range.clone());
                self.skipped.push(range);
            }
            Step::Seek(to) => {
                let to = to.min(self.naive.end());
                self.cursor.seek(Offset(to), &mut changes);
                self.cursor = small_window(self.cursor.clone());
                self.naive.seek(to);
                self.skipped.clear();
            }
            Step::Limit(attempts, leased) => {
                self.cursor.set_limits(attempts, leased);
                self.naive.set_limits(attempts, leased);
            }
            Step::Checkpoint => {
                self.checkpoint = self.cursor.snapshot().unwrap();
                self.entries.clear();
            }
            Step::Restart => {
                let snapshot = self.cursor.snapshot().unwrap();
                self.restart(&snapshot, &[]);
            }
            Step::Replay => {
                let entries = self.entries.clone();
                self.restart(&self.checkpoint.clone(), &entries);
            }
        }
        self.entries.extend(changes.into_entry().map(|entry| entry.encode()));
        self.tell_index()?;
        self.compare()
    }

    fn expire(&mut self) {
        self.cursor.expire(self.now_ms);
        self.naive.expire(self.now_ms);
    }

    fn lease(&mut self, ask: &Ask, changes: &mut Changes) -> Check {
        let grant = self.cursor.lease(ask, self.now_ms, &mut here, changes);
        let granted: Vec<_> = grant
            .runs
            .iter()
            .flat_map(|run| {
                run.span.range().map(|o| (o, run.attempt, run.is_redelivered, run.first_delivery_ms))
            })
            .collect();
        prop_assert_eq!(granted.len() as u64, grant.records);
        let chosen: Vec<u64> = granted.iter().map(|(offset, ..)| *offset).collect();
        prop_assert_eq!(granted, self.naive.lease(ask, self.now_ms, &chosen));
        Ok(())
    }

    fn restart(&mut self, snapshot: &[u8], entries: &[bytes::Bytes]) {
        let mut cursor = small_window(AckCursor::restore(self.naive.config, snapshot).unwrap());
        for entry in entries {
            cursor.apply(&CursorEntry::decode(entry).unwrap()).unwrap();
        }
        cursor = small_window(cursor);
        cursor.note_appended(Offset(self.naive.end()));
        for range in &self.skipped {
            cursor.skip(Span::of(range.clone()));
        }
        self.cursor = cursor;
        self.cursor.expire(self.now_ms);
        self.naive.restart(self.now_ms);
    }

    /// Tells what the cursor wants, a few records at a time.
    fn tell_index(&mut self) -> Check {
        while let Some(wanted) = self.cursor.wants() {
            let (base, end) = (wanted.start.0.saturating_sub(1), wanted.end.0.min(wanted.start.0 + 5));
            match self.cursor.config().order {
                Order::Priority => {
                    let levels: Vec<u8> = (base..end).map(level).collect();
                    self.cursor.note_levels(Offset(base), &levels).unwrap();
                }
                _ => {
                    let key = |o| key(o).map(|key| OrderingKey::of(&key.to_be_bytes()));
                    let keys: Vec<_> = (base..end).map(key).collect();
                    self.cursor.note_keys(Offset(base), &keys).unwrap();
                }
            }
            prop_assert_ne!(self.cursor.wants().map(|next| next.start), Some(wanted.start));
        }
        Ok(())
    }

    fn compare(&self) -> Check {
        prop_assert_eq!(self.cursor.floor().0, self.naive.floor());
        for offset in 0..self.naive.end() + 2 {
            prop_assert_eq!(self.cursor.state(Offset(offset)), self.naive.state(offset), "offset {}", offset);
        }
        prop_assert_eq!(self.cursor.counts(), self.naive.counts());
        prop_assert_eq!(self.cursor.next_due_ms(), self.naive.next_due_ms());
        let exhausted: Spans = (0..self.naive.end())
            .filter(|o| self.naive.state(*o) == RecordState::Exhausted)
            .map(Offset)
            .collect();
        prop_assert_eq!(self.cursor.exhausted(u64::MAX), exhausted);
        Ok(())
    }
}

fn small_window(mut cursor: AckCursor) -> AckCursor {
    // Keys all the time; what happens without is by example.
    cursor.note_keyed(Offset(u64::MAX - 1));
    if let Index::Keys(keys) = &mut cursor.index {
        keys.window = WINDOW;
    }
    cursor
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn agrees_with_the_naive_one_over_snapshots(
        config in config(),
        steps in proptest::collection::vec(step(Kinds::All), 1..90),
    ) {
        let mut pair = Pair::new(config);
        for step in steps {
            pair.run(step)?;
        }
    }

    #[test]
    fn agrees_with_the_naive_one_over_replays_of_its_entries(
        config in config(),
        steps in proptest::collection::vec(step(Kinds::Durable), 1..90),
    ) {
        let mut pair = Pair::new(config);
        for step in steps {
            pair.run(step)?;
        }
        pair.run(Step::Replay)?;
    }

    #[test]
    fn damaged_snapshots_are_refused_or_read_but_never_panic(
        config in config(),
        steps in proptest::collection::vec(step(Kinds::All), 1..40),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut pair = Pair::new(config);
        for step in steps {
            pair.run(step)?;
        }
        let mut bytes = pair.cursor.snapshot().unwrap().to_vec();
        prop_assert!(AckCursor::restore(config, &bytes[..at.index(bytes.len())]).is_err());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(mut cursor) = AckCursor::restore(config, &bytes) {
            cursor.note_appended(Offset(100));
            let _grant = lease(&mut cursor, ask(ANNA, 10), 0);
        }
    }
}

#[test]
fn a_restart_offers_what_was_delivered_without_a_record_as_delivered_before() {
    let mut cursor = cursor_of(10, AckConfig::default());
    let mut changes = Changes::new();
    let volatile = Ask { kind: LeaseKind::Volatile, deadline_ms: None, ..ask(ANNA, 6) };
    cursor.lease(&volatile, 0, &mut here, &mut changes);
    cursor.settle(&Span::of(1..3).into(), Claim::Holder(ANNA), Verdict::Settle, 0, &mut changes);
    changes.note_delivered(&mut cursor);
    let entry = changes.into_entry().unwrap();
    let mut again = Changes::new();
    again.note_delivered(&mut cursor);
    assert!(again.is_empty());

    let mut replica = cursor_of(10, AckConfig::default());
    replica.apply(&CursorEntry::decode(&entry.encode()).unwrap()).unwrap();
    for (mut cursor, name) in [
        (replica, "replay"),
        (AckCursor::restore(AckConfig::default(), &cursor.snapshot().unwrap()).unwrap(), "snapshot"),
    ] {
        cursor.note_appended(Offset(10));
        let grant = lease(&mut cursor, ask(BELA, 99), 5);
        assert_eq!(offsets(&grant), [0, 3, 4, 5, 6, 7, 8, 9], "{name}");
        for run in &grant.runs {
            let was_delivered = run.span.start < Offset(6);
            assert_eq!((run.is_redelivered, run.attempt > 1), (was_delivered, was_delivered), "{name}");
        }
    }
}

#[test]
fn a_restart_knows_of_a_delivery_in_memory_also_after_one_that_did_not_count() {
    let mut cursor = cursor_of(1, AckConfig::default());
    let keep = Verdict::Release { due_ms: None, count: Count::Keep };
    let one = Spans::from(Offset(0));
    let mut entries = Vec::new();
    // The second time the deliveries go no further than was logged the first time.
    for _ in 0..2 {
        for kind in [LeaseKind::Recorded, LeaseKind::Volatile] {
            let mut changes = Changes::new();
            let grant = cursor.lease(&Ask { kind, ..ask(ANNA, 1) }, 0, &mut here, &mut changes);
            assert_eq!(grant.runs[0].attempt, 1);
            if kind == LeaseKind::Volatile {
                changes.note_delivered(&mut cursor);
                entries.extend(changes.into_entry());
                let mut replica = cursor_of(1, AckConfig::default());
                entries.iter().for_each(|entry| replica.apply(entry).unwrap());
                let run = lease(&mut replica, ask(BELA, 1), 0).runs[0];
                assert_eq!((run.attempt, run.is_redelivered), (2, true));
                changes = Changes::new();
            }
            cursor.settle(&one, Claim::Holder(ANNA), keep, 0, &mut changes);
            entries.extend(changes.into_entry());
        }
    }
}

#[test]
fn an_entry_of_the_other_kind_of_cursor_is_refused() {
    let entry = CursorEntry::Position(crate::PositionChange::Clear);
    assert!(cursor_of(1, AckConfig::default()).apply(&entry).is_err());
    let entry = CursorEntry::Ack(Vec::new());
    assert!(crate::PositionCursor::new().apply(&entry).is_err());
}
