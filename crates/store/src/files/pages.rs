//! Pages of footers in memory, under one bound.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{
    log::live::FileId,
    segment::{Footer, Page},
};

/// Damaged pages that are remembered at most, so that each is reported once.
const DAMAGED_MAX: usize = 4096;

/// What a page takes beside what it holds, bytes.
const OVERHEAD_LEN: usize = 128;

/// The pages used last. What was asked for since it came is spared once when room is needed.
pub(super) struct PageCache {
    held: BTreeMap<(FileId, u64), Held>,
    /// In the order in which they are looked at when room is needed.
    order: VecDeque<(FileId, u64)>,
    len: usize,
    len_max: usize,
    damaged: BTreeSet<(FileId, u64)>,
}

struct Held {
    what: Cached,
    len: usize,
    used: bool,
}

#[derive(Clone)]
pub(super) enum Cached {
    /// The trailer, under [`TRAILER`].
    Footer(Footer),
    Page(Arc<Page>),
}

/// Where a file's trailer is filed: no page begins there.
pub(super) const TRAILER: u64 = u64::MAX;

impl PageCache {
    pub fn new(len_max: usize) -> Self {
        PageCache { held: BTreeMap::new(), order: VecDeque::new(), len: 0, len_max, damaged: BTreeSet::new() }
    }

    pub fn find(&mut self, file: FileId, at: u64) -> Option<Cached> {
        let held = self.held.get_mut(&(file, at))?;
        held.used = true;
        Some(held.what.clone())
    }

    pub fn keep(&mut self, file: FileId, at: u64, what: Cached) {
        let len = OVERHEAD_LEN
            + match &what {
                Cached::Footer(_) => 0,
                Cached::Page(page) => page.held_len(),
            };
        let key = (file, at);
        self.len += len;
        match self.held.insert(key, Held { what, len, used: false }) {
            Some(before) => self.len -= before.len,
            None => self.order.push_back(key),
        }
        self.make_room();
    }

    fn make_room(&mut self) {
        // Each is spared at most once, so that this ends after two rounds.
        let mut spared = self.order.len();
        while self.len > self.len_max {
            let Some(oldest) = self.order.pop_front() else { return };
            let Some(held) = self.held.get_mut(&oldest) else { continue };
            if spared > 0 && std::mem::take(&mut held.used) {
                spared -= 1;
                self.order.push_back(oldest);
            } else if let Some(gone) = self.held.remove(&oldest) {
                self.len -= gone.len;
            }
        }
    }

    /// Bytes of memory it takes, about.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Remembers a page that failed its checks. Whether that is news.
    pub fn set_aside(&mut self, file: FileId, at: u64) -> bool {
        self.damaged.len() < DAMAGED_MAX && self.damaged.insert((file, at))
    }

    pub fn is_aside(&self, file: FileId, at: u64) -> bool {
        self.damaged.contains(&(file, at))
    }

    /// Pages that failed their checks, of files that are there.
    pub fn aside(&self) -> usize {
        self.damaged.len()
    }

    /// Forgets everything of a file.
    pub fn forget(&mut self, file: FileId) {
        let keys: Vec<_> = self.held.range((file, 0)..=(file, TRAILER)).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(gone) = self.held.remove(&key) {
                self.len -= gone.len;
            }
        }
        self.order.retain(|(of, _)| *of != file);
        self.damaged.retain(|(of, _)| *of != file);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(steps: usize) -> Cached {
        let child = crate::segment::Child::new(model::LogId(1), model::Offset(0));
        Cached::Page(Arc::new(Page::Directory(vec![child; steps])))
    }

    #[test]
    fn pages_stay_within_their_bound_and_those_in_use_stay_longest() {
        let mut cache = PageCache::new(10_000);
        for at in 0..100 {
            cache.keep(FileId::Segment(1), at, page(10));
            assert!(cache.find(FileId::Segment(1), 0).is_some(), "asked for all the time");
            assert!(cache.len() <= 10_000);
        }
        assert!(cache.find(FileId::Segment(1), 50).is_none());
        assert!(cache.find(FileId::Segment(1), 99).is_some());
    }

    #[test]
    fn a_file_that_goes_takes_its_pages_and_its_damage_with_it() {
        let mut cache = PageCache::new(10_000);
        for file in [1, 2] {
            cache.keep(FileId::Wal(file), 0, page(1));
            assert!(cache.set_aside(FileId::Wal(file), 7));
        }
        assert!(!cache.set_aside(FileId::Wal(1), 7), "reported once");
        cache.forget(FileId::Wal(1));
        assert!(cache.find(FileId::Wal(1), 0).is_none() && cache.find(FileId::Wal(2), 0).is_some());
        assert_eq!((cache.aside(), cache.order.len()), (1, 1));
    }

    #[test]
    fn a_page_beyond_the_bound_is_not_kept() {
        let mut cache = PageCache::new(1_000);
        cache.keep(FileId::Segment(1), 0, page(100));
        assert_eq!(cache.len(), 0);
    }
}
