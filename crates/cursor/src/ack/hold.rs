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
        self.mark_delivered(range.clone());
        self.put_back(range, History::NEVER_DELIVERED, Some(due_ms));
        true
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
    use crate::{AckConfig, AckCursor, Allowance, Ask, Changes, HolderId, LeaseKind, Look};
    use model::Offset;

    fn granted(cursor: &mut AckCursor, now_ms: i64) -> Vec<(u64, u32)> {
        let ask = Ask {
            holder: HolderId(1),
            allowance: Allowance::records(10),
            kind: LeaseKind::Volatile,
            deadline_ms: None,
            goes_on: false,
            looks_ahead: false,
        };
        let grant = cursor.lease(&ask, now_ms, &mut |_| Look::Here { len: 1 }, &mut Changes::new());
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
}
