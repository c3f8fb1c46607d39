//! The sparse index of an extent, used to read a stretch of it.

use model::Offset;

use crate::log::live::{Extent, Point};

/// About how many bytes of an extent lie between two points of its index.
pub(crate) const INDEX_STEP_LEN: u32 = 16 << 10;

/// A stretch of an extent. It begins and ends between batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Relative to the extent.
    pub at: u32,
    pub len: u32,
    /// Batches below this offset are in it, or before it.
    pub end: Offset,
    /// Whether it reaches to the extent's end.
    pub last: bool,
}

/// The stretch to read for batches from `from` on: about `len` bytes, the whole rest without an index.
pub(crate) fn cut(points: &[Point], extent: &Extent, from: Offset, len: usize) -> Stretch {
    let wanted = from.since(extent.base);
    let first = points.partition_point(|p| u64::from(p.base) <= wanted).saturating_sub(1);
    let at = points.get(first).map_or(0, |p| p.at);
    let stop = u64::from(at).saturating_add(len as u64);
    match points.get(first + 1..).and_then(|rest| rest.iter().find(|p| u64::from(p.at) >= stop)) {
        Some(end) => {
            Stretch { at, len: end.at - at, end: extent.base.plus(u64::from(end.base)), last: false }
        }
        None => Stretch { at, len: extent.len - at, end: extent.end(), last: true },
    }
}
