//! What records take in the log beside what they count for, where only what is ready counts for the length of a queue.

use model::{Attributes, Batch, RecordAttributes};
use store::stored_len;

/// Records, and what they take beside what they count for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Part {
    pub records: u64,
    pub bytes: u64,
}

/// What the records of a log take beside what they count for, as of the last that came or went; which of them went is not
/// known, so that each counts for the average. Records of which nothing is known count for nothing: nothing is taken away
/// for their sake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Surplus {
    /// Of those that a restart brings back.
    durable: Part,
    volatile: Part,
}

impl Surplus {
    /// The log has so many records of so many bytes now.
    pub(crate) fn now_holds(&mut self, records: u64, bytes: u64) {
        let known = self.durable.records.saturating_add(self.volatile.records);
        if records > known {
            self.durable.records += records - known;
            self.durable.bytes += share(bytes, records - known, records);
        } else if records < known {
            let durable = share(self.durable.records, records, known).min(records);
            let left = |bytes: u64| share_up(bytes, records, known);
            self.durable = Part { records: durable, bytes: left(self.durable.bytes) };
            self.volatile = Part { records: records - durable, bytes: left(self.volatile.bytes) };
        }
    }

    /// These records came, and take so many bytes more than they count for.
    pub(crate) fn add(&mut self, records: u64, bytes: u64, is_volatile: bool) {
        let part = if is_volatile { &mut self.volatile } else { &mut self.durable };
        part.records = part.records.saturating_add(records);
        part.bytes = part.bytes.saturating_add(bytes);
    }

    /// The same for a batch that is read back.
    pub(crate) fn replay(&mut self, batch: &Batch) {
        let counted = counted_len(batch.count, &batch.attributes).unwrap_or(0);
        let stored = stored_len(batch) as u64;
        self.add(u64::from(batch.count), stored.saturating_sub(counted), false);
    }

    /// What the `records` of a log that take `bytes` take beside what they count for, bytes.
    pub(crate) fn of(mut self, records: u64, bytes: u64) -> u64 {
        self.now_holds(records, bytes);
        self.durable.bytes.saturating_add(self.volatile.bytes)
    }

    /// What a restart brings back.
    pub(crate) fn kept(self) -> Part {
        self.durable
    }

    pub(crate) fn restored(durable: Part) -> Self {
        Surplus { durable, volatile: Part::default() }
    }

    pub(crate) fn is_empty(self) -> bool {
        self == Surplus::default()
    }
}

/// What the records of a batch count for, bytes; `None` when its rows do not say.
pub(crate) fn counted_len(count: u32, attributes: &Attributes) -> Option<u64> {
    match attributes {
        Attributes::None => None,
        Attributes::Same(row) => Some(u64::from(row.body_len?) * u64::from(count)),
        Attributes::Rows(rows) => rows.iter().map(|row| row.body_len.map(u64::from)).sum(),
    }
}

/// Rows of a batch that had none, which say what its records count for, on average.
pub(crate) fn counted_rows(count: u32, counted_len: u64) -> Attributes {
    let average = counted_len.checked_div(u64::from(count)).unwrap_or(0);
    let body_len = Some(u32::try_from(average).unwrap_or(u32::MAX));
    Attributes::Same(Box::new(RecordAttributes { body_len, ..RecordAttributes::default() }))
}

/// The part of `bytes` that `records` of `all` have on average.
pub(crate) fn share(bytes: u64, records: u64, all: u64) -> u64 {
    let share = (u128::from(bytes) * u128::from(records)).checked_div(u128::from(all));
    share.map_or(0, |share| u64::try_from(share).unwrap_or(u64::MAX))
}

/// The same, rounded up, so that what is reckoned often does not wear away.
fn share_up(bytes: u64, records: u64, all: u64) -> u64 {
    let product = u128::from(bytes) * u128::from(records);
    if all == 0 { 0 } else { u64::try_from(product.div_ceil(u128::from(all))).unwrap_or(u64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_went_take_their_part_along() {
        let mut surplus = Surplus::default();
        assert_eq!(surplus.of(0, 0), 0);
        surplus.now_holds(0, 0);
        surplus.add(1_000, 0, false);
        surplus.now_holds(1, 30);
        surplus.add(9, 9 * 200, false);
        assert_eq!(surplus.of(10, 3_000), 1_800);
        assert_eq!(surplus.of(5, 1_500), 900);
        surplus.now_holds(0, 0);
        surplus.add(2, 14, true);
        assert_eq!(surplus.of(2, 100), 14);
    }

    #[test]
    fn what_is_not_known_counts_for_nothing() {
        let mut surplus = Surplus::default();
        assert_eq!(surplus.of(6, 1_800), 1_800);
        surplus.now_holds(6, 1_800);
        surplus.add(6, 1_200, false);
        assert_eq!(surplus.of(12, 3_600), 3_000);
        surplus.now_holds(6, 1_800);
        assert_eq!(surplus.of(6, 1_800), 1_500);
    }

    #[test]
    fn what_a_restart_brings_back_is_known_after_it() {
        let mut surplus = Surplus::default();
        surplus.add(4, 800, false);
        surplus.add(4, 0, true);
        let restored = Surplus::restored(surplus.kept());
        assert_eq!(restored.of(4, 1_200), 800);
        surplus.now_holds(4, 600);
        assert_eq!(surplus.kept(), Part { records: 2, bytes: 400 });
    }

    #[test]
    fn rows_say_what_records_count_for() {
        assert_eq!(counted_len(3, &Attributes::None), None);
        assert_eq!(counted_len(3, &counted_rows(3, 300)), Some(300));
        let row = |body_len| RecordAttributes { body_len, ..RecordAttributes::default() };
        let rows = |more| Attributes::Rows(vec![row(Some(7)), row(more)].into());
        assert_eq!((counted_len(2, &rows(Some(8))), counted_len(2, &rows(None))), (Some(15), None));
    }
}
