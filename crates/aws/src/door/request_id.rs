//! Ids of requests: UUIDs that nobody guesses and that cost next to nothing.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use wire::uuid;

/// Makes ids.
pub(crate) struct RequestIds {
    high: u64,
    next: AtomicU64,
}

/// One id; shown as a UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RequestId(u128);

impl RequestIds {
    /// Ids that follow from `seed`.
    pub(crate) fn new(seed: u128) -> Self {
        let bytes = seed.to_le_bytes();
        let word = |half: &[u8]| half.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
        let (low, high) = bytes.split_at(8);
        RequestIds { high: word(high), next: AtomicU64::new(word(low)) }
    }

    /// The next id.
    pub(crate) fn next(&self) -> RequestId {
        let n = self.next.fetch_add(1, Ordering::Relaxed);
        let (high, low) = (mixed(n ^ self.high), mixed(n.wrapping_add(self.high)));
        RequestId(u128::from(high) << 64 | u128::from(low))
    }
}

/// The finaliser of SplitMix64: every bit of the result depends on every bit of `word`.
fn mixed(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&uuid::text(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_uuids_that_differ() {
        let ids = RequestIds { high: 7, next: AtomicU64::new(u64::MAX) };
        let (first, second) = (ids.next().to_string(), ids.next().to_string());
        assert_ne!(first, second);
        for id in [first, second] {
            let lens: Vec<usize> = id.split('-').map(str::len).collect();
            assert_eq!(lens, [8, 4, 4, 4, 12], "{id}");
            assert_eq!(id.as_bytes()[14], b'4', "{id}");
            assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        }
    }
}
