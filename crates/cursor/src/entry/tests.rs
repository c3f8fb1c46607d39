use proptest::prelude::*;

use super::*;
use crate::Span;

fn spans() -> impl Strategy<Value = Spans> {
    proptest::collection::vec((0u64..10_000, 1u64..50), 0..12)
        .prop_map(|runs| runs.into_iter().map(|(start, len)| Span::of(start..start + len)).collect())
}

fn count() -> impl Strategy<Value = Count> {
    prop_oneof![Just(Count::Keep), Just(Count::Add), any::<u32>().prop_map(Count::Set)]
}

fn change() -> impl Strategy<Value = AckChange> {
    let holder = any::<u64>().prop_map(HolderId);
    let time = any::<Option<i64>>;
    prop_oneof![
        (spans(), holder.clone(), time(), any::<i64>()).prop_map(|(spans, holder, deadline_ms, at_ms)| {
            AckChange::Lease { spans, holder, deadline_ms, at_ms }
        }),
        spans().prop_map(AckChange::Settle),
        (spans(), time(), count()).prop_map(|(spans, due_ms, count)| AckChange::Release {
            spans,
            due_ms,
            count
        }),
        (spans(), time()).prop_map(|(spans, deadline_ms)| AckChange::Extend { spans, deadline_ms }),
        (spans(), holder, time(), any::<i64>(), count()).prop_map(
            |(spans, holder, deadline_ms, at_ms, count)| {
                AckChange::Transfer { spans, holder, deadline_ms, at_ms, count }
            }
        ),
        (0u64..1 << 62).prop_map(|end| AckChange::Delivered(Offset(end))),
        (0u64..1 << 62).prop_map(|to| AckChange::Seek(Offset(to))),
    ]
}

fn position() -> impl Strategy<Value = PositionChange> {
    let commit = (0u64..1 << 62, any::<Vec<u8>>(), any::<Option<i64>>(), any::<i64>(), any::<Option<i64>>());
    prop_oneof![
        commit.prop_map(|(offset, metadata, note, committed_at_ms, expires_at_ms)| {
            PositionChange::Commit(Commit {
                offset: Offset(offset),
                metadata: metadata.into(),
                note,
                committed_at_ms,
                expires_at_ms,
            })
        }),
        Just(PositionChange::Clear),
        any::<Option<u64>>().prop_map(PositionChange::Protect),
    ]
}

fn entry() -> impl Strategy<Value = CursorEntry> {
    prop_oneof![
        proptest::collection::vec(change(), 0..6).prop_map(CursorEntry::Ack),
        position().prop_map(CursorEntry::Position),
    ]
}

proptest! {
    #[test]
    fn an_entry_reads_back_as_it_was_written(entry in entry()) {
        prop_assert_eq!(CursorEntry::decode(&entry.encode()), Ok(entry));
    }

    #[test]
    fn a_cut_entry_is_refused(entry in entry(), cut in any::<prop::sample::Index>()) {
        let bytes = entry.encode();
        prop_assert!(CursorEntry::decode(&bytes[..cut.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_longer_entry_is_refused(entry in entry(), more in 0u8..) {
        let mut bytes = entry.encode().to_vec();
        bytes.push(more);
        prop_assert!(CursorEntry::decode(&bytes).is_err());
    }

    #[test]
    fn any_bytes_are_answered_without_a_panic(bytes in any::<Vec<u8>>()) {
        let mut framed = vec![VERSION, KIND_ACK];
        framed.extend_from_slice(&bytes);
        if let Ok(entry) = CursorEntry::decode(&framed) {
            prop_assert_eq!(CursorEntry::decode(&entry.encode()), Ok(entry));
        }
    }
}

#[test]
fn an_entry_of_a_newer_release_is_refused() {
    let mut bytes = CursorEntry::Ack(Vec::new()).encode().to_vec();
    bytes[0] = VERSION + 1;
    assert_eq!(CursorEntry::decode(&bytes).unwrap_err().kind(), model::ErrorKind::Corrupt);
}

#[test]
fn a_thousand_settlements_in_a_row_take_a_dozen_bytes() {
    let spans = (5_000..6_000).map(Offset).collect();
    assert!(CursorEntry::Ack(vec![AckChange::Settle(spans)]).encode().len() <= 12);
}
