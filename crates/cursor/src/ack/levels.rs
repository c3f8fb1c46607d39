//! Priority: per level a bitmap of offsets.

use std::{collections::BTreeMap, ops::Range};

use roaring::RoaringTreemap;

use model::bitmap;

#[derive(Clone, Debug, Default)]
struct Level {
    /// Every unsettled record of the level.
    all: RoaringTreemap,
    /// Those that may be granted.
    ready: RoaringTreemap,
}

/// Unsettled records by priority, 0 (lowest) ..= 255.
#[derive(Clone, Debug)]
pub(super) struct LevelIndex {
    levels: BTreeMap<u8, Level>,
    /// Records below are indexed.
    pub(super) indexed_end: u64,
}

impl LevelIndex {
    pub(super) fn new(start: u64) -> Self {
        LevelIndex { levels: BTreeMap::new(), indexed_end: start }
    }

    pub(super) fn add(&mut self, offset: u64, level: u8, is_ready: bool) {
        self.indexed_end = self.indexed_end.max(offset + 1);
        let level = self.levels.entry(level).or_default();
        level.all.insert(offset);
        if is_ready {
            level.ready.insert(offset);
        }
    }

    /// The oldest of the highest level that has one.
    pub(super) fn next(&self) -> Option<u64> {
        self.levels.values().rev().find_map(|level| level.ready.min())
    }

    pub(super) fn ready(&mut self, range: Range<u64>) {
        for level in self.levels.values_mut() {
            let mut at = range.start;
            while let Some(run) = bitmap::next_run(&level.all, at)
                && run.start < range.end
            {
                at = run.end;
                level.ready.insert_range(run.start..run.end.min(range.end));
            }
        }
    }

    pub(super) fn not_ready(&mut self, range: Range<u64>) {
        for level in self.levels.values_mut() {
            bitmap::remove(&mut level.ready, range.clone());
        }
    }

    pub(super) fn gone(&mut self, range: Range<u64>) {
        for level in self.levels.values_mut() {
            bitmap::remove(&mut level.ready, range.clone());
            bitmap::remove(&mut level.all, range.clone());
        }
    }

    pub(super) fn footprint(&self) -> usize {
        self.levels.values().map(|level| level.all.serialized_size() + level.ready.serialized_size()).sum()
    }
}
