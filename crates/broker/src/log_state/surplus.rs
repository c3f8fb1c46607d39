//! What records take in the log beside what they count for.

/// Records after which the older ones count half.
const RECENT: u64 = 1 << 16;

/// What the records take on average that were appended lately; unknown, and taken for nothing, after a start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Surplus {
    records: u64,
    bytes: u64,
}

impl Surplus {
    /// These records take so many bytes more than they count for.
    pub(crate) fn note(&mut self, records: u64, bytes: u64) {
        if self.records >= RECENT {
            *self = Surplus { records: self.records / 2, bytes: self.bytes / 2 };
        }
        self.records += records;
        self.bytes += bytes;
    }

    /// What so many records take more than they count for, bytes.
    pub(crate) fn of(self, records: u64) -> u64 {
        share(self.bytes, records, self.records)
    }
}

/// The part of `bytes` that `records` of `all` have on average.
pub(crate) fn share(bytes: u64, records: u64, all: u64) -> u64 {
    let share = (u128::from(bytes) * u128::from(records)).checked_div(u128::from(all));
    share.map_or(0, |share| u64::try_from(share).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_lately_counts_more() {
        let mut surplus = Surplus::default();
        assert_eq!(surplus.of(5), 0);
        surplus.note(RECENT, 10 * RECENT);
        assert_eq!(surplus.of(5), 50);
        surplus.note(RECENT, 40 * RECENT);
        assert_eq!(surplus.of(3), 90);
    }
}
