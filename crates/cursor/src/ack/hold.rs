//! Records with a time of their own before which they are not delivered.

use model::Offset;

use super::{AckCursor, History};

impl AckCursor {
    /// Holds a record that was never delivered back until `due_ms`, and says whether it did. Nothing is logged: the
    /// record says when, and the caller tells again after a restart. A delivery after that counts as the first.
    pub fn hold_until(&mut self, offset: Offset, due_ms: i64) -> bool {
        let range = self.known(offset.0..offset.0 + 1);
        if range.is_empty() || self.settled.contains(offset.0) || !self.is_fresh(offset.0) {
            return false;
        }
        self.wait_until(offset.0, due_ms);
        true
    }

    /// Lets a record that nobody has wait for its own time. What nothing is known of but that a delivery further on was
    /// logged was not delivered: its time had not come.
    pub(super) fn wait_until(&mut self, offset: u64, due_ms: i64) {
        let range = offset..offset + 1;
        let history = self.history.get(offset).copied().unwrap_or(History::NEVER_DELIVERED);
        self.mark_delivered(range.clone());
        self.put_back(range, history, Some(due_ms));
    }
}

impl AckCursor {
    /// The first record that was delivered before and is ready again, unless the order has another one first.
    pub fn next_returned(&self) -> Option<Offset> {
        self.returned.min().map(Offset)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        AckChange, AckConfig, AckCursor, Allowance, Ask, Changes, CursorEntry, HolderId, KeySharing,
        LeaseKind, Look, Order, OrderingKey,
    };
    use model::Offset;

    fn granted(cursor: &mut AckCursor, now_ms: i64) -> Vec<(u64, u32)> {
        granted_of(cursor, now_ms, &mut |_| Look::Here { len: 1 })
    }

    fn granted_of(
        cursor: &mut AckCursor,
        now_ms: i64,
        look: &mut dyn FnMut(Offset) -> Look,
    ) -> Vec<(u64, u32)> {
        let ask = Ask {
            holder: HolderId(1),
            allowance: Allowance::records(10),
            kind: LeaseKind::Volatile,
            deadline_ms: None,
            goes_on: false,
            looks_ahead: false,
        };
        let grant = cursor.lease(&ask, now_ms, look, &mut Changes::new());
        let runs = grant.runs.iter();
        runs.flat_map(|run| (run.span.start.0..run.span.end.0).map(|offset| (offset, run.attempt))).collect()
    }

    #[test]
    fn a_record_with_its_own_time_waits_for_it_while_others_pass() {
        let mut cursor = AckCursor::new(AckConfig::default(), Offset(0));
        cursor.note_appended(Offset(3));
        assert!(cursor.hold_until(Offset(1), 100));
        assert!(!cursor.hold_until(Offset(1), 200), "it is held already");
        assert!(!cursor.hold_until(Offset(3), 100), "it is not there");
        assert_eq!(granted(&mut cursor, 99), [(0, 1), (2, 1)]);
        assert_eq!(cursor.next_due_ms(), Some(100));
        assert_eq!(granted(&mut cursor, 100), [(1, 1)]);
    }

    fn delivered(cursor: &mut AckCursor, end: u64) {
        cursor.apply(&CursorEntry::Ack(vec![AckChange::Delivered(Offset(end))])).unwrap();
    }

    #[test]
    fn a_record_that_says_that_its_time_has_not_come_waits_in_every_order() {
        for order in [Order::Offset, Order::Priority, Order::Keyed(KeySharing::One)] {
            for was_delivered in [false, true] {
                let mut cursor = AckCursor::new(AckConfig { order, ..AckConfig::default() }, Offset(0));
                cursor.note_appended(Offset(3));
                match order {
                    Order::Priority => cursor.note_levels(Offset(0), &[1, 1, 1]).unwrap(),
                    Order::Keyed(_) => {
                        let keys = [b"a", b"b", b"c"].map(|key| Some(OrderingKey::of(key)));
                        cursor.note_keys(Offset(0), &keys).unwrap();
                    }
                    Order::Offset => {}
                }
                if was_delivered {
                    // A restart that was told of the delivery of a later one, and not of this one's time.
                    delivered(&mut cursor, 3);
                }
                let mut look = |offset: Offset| {
                    if offset.0 == 1 { Look::NotBefore(100) } else { Look::Here { len: 1 } }
                };
                let attempt = if was_delivered { 2 } else { 1 };
                assert_eq!(granted_of(&mut cursor, 99, &mut look), [(0, attempt), (2, attempt)], "{order:?}");
                assert_eq!(cursor.next_due_ms(), Some(100));
                assert_eq!(granted(&mut cursor, 100), [(1, 1)], "{order:?}");
            }
        }
    }

    #[test]
    fn after_a_restart_a_held_record_counts_as_delivered_if_it_may_have_been() {
        for (now_ms, attempt) in [(50, 1), (150, 2)] {
            let mut cursor = AckCursor::new(AckConfig::default(), Offset(0));
            cursor.note_appended(Offset(2));
            assert!(cursor.hold_until(Offset(0), 100));
            delivered(&mut cursor, 2);
            // The first look at the time: before it is due, nobody can have had it.
            cursor.expire(now_ms);
            assert_eq!(granted(&mut cursor, 200), [(0, attempt), (1, 2)], "restarted at {now_ms}");
        }
    }
}
