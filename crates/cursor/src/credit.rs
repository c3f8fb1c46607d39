//! How much a consumer may be given.

/// What one grant may hold at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    /// Records.
    pub records: u64,
    /// Bytes, as the lengths that the supplier of the records tells.
    pub bytes: u64,
    /// What of a record that is longer than `bytes`.
    pub oversize: Oversize,
}

/// What of a record that alone is longer than the bytes allowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oversize {
    /// It is given when it comes first, as long as one byte is allowed: readers make progress.
    #[default]
    First,
    /// It is not given; the grant says so.
    Never,
}

impl Allowance {
    /// `count` records of any length.
    pub const fn records(count: u64) -> Self {
        Allowance { records: count, bytes: u64::MAX, oversize: Oversize::First }
    }
}

/// Records and bytes that may be out at one time. Several subscriptions may share one: the caller keeps it where
/// they all reach it, narrows each grant by it, and gives back as records are settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credit {
    records_max: u64,
    bytes_max: u64,
    records: u64,
    bytes: u64,
}

impl Credit {
    /// Up to `records` and `bytes` out at one time; `None` = any number.
    pub fn new(records: Option<u64>, bytes: Option<u64>) -> Self {
        Credit {
            records_max: records.unwrap_or(u64::MAX),
            bytes_max: bytes.unwrap_or(u64::MAX),
            records: 0,
            bytes: 0,
        }
    }

    /// Changes the limits. What is out stays out, also when it is more than that.
    pub fn limit(&mut self, records: Option<u64>, bytes: Option<u64>) {
        self.records_max = records.unwrap_or(u64::MAX);
        self.bytes_max = bytes.unwrap_or(u64::MAX);
    }

    /// Records that may be out at one time; `None` = any number.
    pub fn records_max(&self) -> Option<u64> {
        (self.records_max < u64::MAX).then_some(self.records_max)
    }

    /// What may still go out, no more than `other` allows.
    pub fn narrow(&self, other: Allowance) -> Allowance {
        Allowance {
            records: other.records.min(self.records_max.saturating_sub(self.records)),
            bytes: other.bytes.min(self.bytes_max.saturating_sub(self.bytes)),
            oversize: other.oversize,
        }
    }

    /// Notes that so much went out.
    pub fn take(&mut self, records: u64, bytes: u64) {
        self.records = self.records.saturating_add(records);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Notes that so much came back.
    pub fn give(&mut self, records: u64, bytes: u64) {
        self.records = self.records.saturating_sub(records);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether at least one record and one byte may go out.
    pub fn is_open(&self) -> bool {
        self.records < self.records_max && self.bytes < self.bytes_max
    }

    /// Records that are out.
    pub fn records_out(&self) -> u64 {
        self.records
    }

    /// Bytes that are out.
    pub fn bytes_out(&self) -> u64 {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_credit_narrows_everyone() {
        let mut channel = Credit::new(Some(10), None);
        let consumer = Credit::new(Some(6), Some(1_000));
        channel.take(7, 70);
        let allowance = consumer.narrow(channel.narrow(Allowance::records(100)));
        assert_eq!((allowance.records, allowance.bytes), (3, 1_000));
        channel.give(7, 70);
        assert_eq!(consumer.narrow(channel.narrow(Allowance::records(100))).records, 6);
    }

    #[test]
    fn a_lowered_limit_gives_nothing_until_enough_came_back() {
        let mut credit = Credit::new(Some(5), None);
        credit.take(5, 0);
        credit.limit(Some(2), None);
        credit.give(3, 0);
        assert!(!credit.is_open());
        credit.give(1, 0);
        assert!(credit.is_open());
    }
}
