//! Runs of a compressed bitmap. The treemap of `roaring` iterates offset by offset; these go run by run.

use std::ops::Range;

use roaring::RoaringTreemap;

/// The first run of members at or after `at`. A run that crosses a multiple of 2^32 comes in two.
pub fn next_run(set: &RoaringTreemap, at: u64) -> Option<Range<u64>> {
    let high = (at >> 32) as u32;
    for (key, bitmap) in set.bitmaps() {
        if key < high {
            continue;
        }
        let mut offsets = bitmap.iter();
        if key == high {
            offsets.advance_to(at as u32);
        }
        if let Some(run) = offsets.next_range() {
            let base = u64::from(key) << 32;
            return Some(base + u64::from(*run.start())..base + u64::from(*run.end()) + 1);
        }
    }
    None
}

/// The first run within `range` of which no offset is a member.
pub fn next_gap(set: &RoaringTreemap, range: Range<u64>) -> Option<Range<u64>> {
    let mut at = range.start;
    while at < range.end {
        match next_run(set, at) {
            Some(run) if run.start == at => at = run.end,
            Some(run) => return Some(at..run.start.min(range.end)),
            None => return Some(at..range.end),
        }
    }
    None
}

/// Removes a range, at no cost when there is nothing to remove.
pub fn remove(set: &mut RoaringTreemap, range: Range<u64>) {
    if !set.is_empty() {
        set.remove_range(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_gaps_alternate_across_the_32_bit_border() {
        let mut set = RoaringTreemap::new();
        let border = 1u64 << 32;
        set.insert_range(10..20);
        set.insert_range(border - 2..border + 2);
        assert_eq!(next_run(&set, 0), Some(10..20));
        assert_eq!(next_run(&set, 15), Some(15..20));
        assert_eq!(next_run(&set, 20), Some(border - 2..border));
        assert_eq!(next_run(&set, border), Some(border..border + 2));
        assert_eq!(next_run(&set, border + 2), None);
        assert_eq!(next_gap(&set, 10..30), Some(20..30));
        assert_eq!(next_gap(&set, 0..30), Some(0..10));
        assert_eq!(next_gap(&set, border - 1..border + 5), Some(border + 2..border + 5));
        assert_eq!(next_gap(&set, 12..18), None);
    }
}
