//! Long reads for what is copied in short pieces.
//!
//! The log's files are written past the machine's cache, and their short runs are copied log by log: read one by one, each
//! costs a request to the disk of its own, and copying falls behind the log. So the machine is told of the whole stretch
//! around a run, a little ahead: its cache then has the runs of all logs in it when their turn comes.

use std::collections::{BTreeMap, VecDeque};

use super::parts::Item;
use crate::{files::DataFiles, log::live::FileId};

/// What the machine is told of at a time, bytes.
const STRETCH_LEN: u32 = 512 << 10;
/// Worth it where this part of a stretch is copied.
const DENSE_PART: u32 = 4;
/// Stretches that are on their way ahead of what is copied, at most: what a disk is busy with for some milliseconds.
const ON_THEIR_WAY_MAX: usize = 2;

/// The stretches of one pass that are worth it and that the machine was not told of yet.
#[derive(Default)]
pub(super) struct Stretches {
    untold: BTreeMap<(FileId, u64), u32>,
    /// How many items before the next one were looked at already.
    ahead: usize,
    /// For each stretch on its way, how many items come before the one that it was for.
    on_their_way: VecDeque<usize>,
}

impl Stretches {
    /// So much of a pass lies at this place.
    pub fn add(&mut self, file: FileId, at: u64, len: u32) {
        for (stretch, len) in pieces(at, len) {
            let known = self.untold.entry((file, stretch)).or_default();
            *known = known.saturating_add(len);
        }
    }

    /// All of the pass was added.
    pub fn added(mut self) -> Self {
        self.untold.retain(|_, len| *len >= STRETCH_LEN / DENSE_PART);
        self
    }

    /// The next items are others than those that were looked at.
    pub fn begin(&mut self) {
        self.ahead = 0;
        self.on_their_way.clear();
    }

    /// Tells the machine what the first of the `items` that are left, and some after them, lie in. To be called before each
    /// of them is taken.
    pub fn ask(&mut self, files: &DataFiles, items: &[Item]) {
        while self.on_their_way.len() < ON_THEIR_WAY_MAX
            && !self.untold.is_empty()
            && let Some(item) = items.get(self.ahead)
        {
            for (stretch, _) in pieces(item.at, item.len) {
                if self.untold.remove(&(item.file, stretch)).is_some() {
                    files.will_need(item.file, stretch * u64::from(STRETCH_LEN), STRETCH_LEN);
                    self.on_their_way.push_back(self.ahead);
                }
            }
            self.ahead += 1;
        }
        // The first item is taken now.
        if self.on_their_way.front() == Some(&0) {
            self.on_their_way.retain(|before| *before > 0);
        }
        self.on_their_way.iter_mut().for_each(|before| *before -= 1);
        self.ahead = self.ahead.saturating_sub(1);
    }
}

/// The stretches of its file that `len` bytes at `at` lie in, by number, and how much of them is in each.
fn pieces(at: u64, len: u32) -> impl Iterator<Item = (u64, u32)> + use<> {
    let stretch_len = u64::from(STRETCH_LEN);
    let end = at + u64::from(len);
    (at / stretch_len..end.div_ceil(stretch_len)).map(move |stretch| {
        let from = at.max(stretch * stretch_len);
        let to = end.min((stretch + 1) * stretch_len);
        (stretch, u32::try_from(to - from).unwrap_or(STRETCH_LEN))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_item_counts_for_every_stretch_that_it_lies_in() {
        let len = u64::from(STRETCH_LEN);
        assert_eq!(pieces(len - 10, 30).collect::<Vec<_>>(), [(0, 10), (1, 20)]);
        assert_eq!(pieces(len, STRETCH_LEN).collect::<Vec<_>>(), [(1, STRETCH_LEN)]);
    }

    #[test]
    fn a_stretch_of_which_little_is_copied_is_left_to_short_reads() {
        let quarter = STRETCH_LEN / DENSE_PART;
        let far = 10 * u64::from(STRETCH_LEN);
        let mut stretches = Stretches::default();
        for (at, len) in [(0, quarter / 2), (far, quarter - 1), (9_999_999, 1), (1 << 18, quarter / 2)] {
            stretches.add(FileId::Wal(1), at, len);
        }
        assert_eq!(stretches.added().untold.into_keys().collect::<Vec<_>>(), [(FileId::Wal(1), 0)]);
    }
}
