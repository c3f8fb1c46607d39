//! What is read of files before somebody asks for it, shared by all readers.
//!
//! A range is queued, then read by a job or by the reader that comes first, then here until room is needed. A short one is
//! left in the queue for a moment: ranges that lie side by side in a file become one there, so that what several logs have
//! in one stretch of a file is read at once. Ranges that readers have gone through make room first; ranges that nobody came
//! for do after a while; while there is no room nothing is read ahead: pushing out what others are about to read would have
//! it read twice.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::buffers::{self, Loaded};
use crate::log::live::FileId;

/// What nobody read for so long makes room, nanoseconds.
const STALE_NS: u64 = 1_000_000_000;

/// What nobody read for so long goes although there is room, nanoseconds: its readers have gone.
const IDLE_NS: u64 = 10_000_000_000;

/// Ranges that lie this close to each other are read together, bytes: what a frame's padding and headers take.
pub(crate) const GAP_LEN_MAX: u64 = 4 << 10;

/// Ranges are put together up to this length, bytes.
const TOGETHER_LEN_MAX: u64 = 2 << 20;

/// How long a range waits for others beside it, nanoseconds: about what one request for many logs takes.
const GATHER_NS: u64 = 1_000_000;

/// From this length on a range waits for nothing, bytes.
const LONG_LEN: u32 = 512 << 10;

/// See the module.
pub(super) struct ReadAhead {
    state: Mutex<State>,
    /// A range that was being read is here, or will not be.
    ended: Condvar,
}

struct State {
    /// By where they begin. They may overlap; the one that begins last before a place counts.
    ranges: BTreeMap<(FileId, u64), Range>,
    /// In the order in which they came.
    order: BTreeMap<u64, (FileId, u64)>,
    next_nth: u64,
    /// Bytes of memory that all of them take, and bytes that no reader has had yet.
    held_len: usize,
    unread_len: usize,
    len_max: usize,
    /// Ranges from this length on are read into buffers, which are longer.
    long_len_min: u32,
}

struct Range {
    len: u32,
    /// What it takes in memory, or will.
    held_len: usize,
    state: Held,
    /// Bytes of it that readers have had.
    passed_len: u32,
    /// When it came, or somebody last had a part of it.
    came_ns: u64,
    /// Where it is in the order.
    nth: u64,
}

impl Range {
    fn new(len: u32, held_len: usize, state: Held, came_ns: u64) -> Self {
        Range { len, held_len, state, passed_len: 0, came_ns, nth: 0 }
    }

    /// Whether about as much as there is was had, by one reader or by several with a part of it each.
    fn is_done(&self) -> bool {
        self.passed_len >= self.len - self.len / 16
    }
}

/// A range that nobody reads yet.
#[derive(Clone, Copy)]
struct Queued {
    at: u64,
    len: u32,
    came_ns: u64,
    told: bool,
}

impl Queued {
    /// Both as one, if they lie side by side and are not too long for it.
    fn with(&self, other: &Queued) -> Option<Queued> {
        let (own_end, other_end) = (self.at + u64::from(self.len), other.at + u64::from(other.len));
        let (at, end) = (self.at.min(other.at), own_end.max(other_end));
        let is_near = other.at <= own_end + GAP_LEN_MAX && self.at <= other_end + GAP_LEN_MAX;
        let len =
            u32::try_from(end - at).ok().filter(|len| is_near && u64::from(*len) <= TOGETHER_LEN_MAX)?;
        Some(Queued { at, len, came_ns: self.came_ns.min(other.came_ns), told: self.told || other.told })
    }
}

enum Held {
    /// Nobody reads it yet; whether a job is on its way.
    Queued {
        told: bool,
    },
    /// A job reads it.
    Reading,
    Here(Bytes),
}

/// What is known of the bytes at a place.
pub(super) enum Found {
    /// From that place to the end of their range.
    Here(Bytes),
    /// A job is reading them.
    Reading,
    /// A range that is queued, and is the finder's to read now: where it begins, and its length.
    Taken(u64, u32),
    Nothing,
}

impl ReadAhead {
    pub fn new(len_max: usize, long_len_min: u32) -> Self {
        let state = State {
            ranges: BTreeMap::new(),
            order: BTreeMap::new(),
            next_nth: 0,
            held_len: 0,
            unread_len: 0,
            len_max,
            long_len_min,
        };
        ReadAhead { state: Mutex::new(state), ended: Condvar::new() }
    }

    /// Bytes that may be read ahead for one more reader, of the `wanted` ones: a part of what is free, so that a crowd of
    /// readers gets less and less each.
    pub fn window(&self, wanted: usize) -> usize {
        let state = self.state.lock();
        wanted.min(state.len_max.saturating_sub(state.unread_len) / 4)
    }

    /// The bytes at `at`, as far as their range goes, if they are here.
    pub fn here(&self, file: FileId, at: u64) -> Option<Bytes> {
        match self.state.lock().find(file, at)? {
            (_, Range { state: Held::Here(bytes), .. }, skip) => Some(bytes.slice(skip..)),
            _ => None,
        }
    }

    /// A reader has had `len` bytes from `at` on.
    pub fn passed(&self, file: FileId, at: u64, len: u32, now_ns: u64) {
        let mut state = self.state.lock();
        let Some((_, range, _)) = state.find(file, at) else { return };
        let passed_len = range.passed_len.saturating_add(len).min(range.len);
        let news = (passed_len - std::mem::replace(&mut range.passed_len, passed_len)) as usize;
        range.came_ns = range.came_ns.max(now_ns);
        state.unread_len -= news;
    }

    /// Like [`ReadAhead::here`], for whoever can wait or read himself.
    pub fn find(&self, file: FileId, at: u64) -> Found {
        let mut state = self.state.lock();
        let Some((key, range, skip)) = state.find(file, at) else { return Found::Nothing };
        let len = range.len;
        match &range.state {
            Held::Here(bytes) => Found::Here(bytes.slice(skip..)),
            Held::Reading => Found::Reading,
            Held::Queued { .. } => {
                state.remove(key);
                Found::Taken(key.1, len)
            }
        }
    }

    /// Whether anything is known of the bytes at `at`: where their range ends.
    pub fn covered(&self, file: FileId, at: u64) -> Option<u64> {
        self.state.lock().find(file, at).map(|(key, range, _)| key.1 + u64::from(range.len))
    }

    /// Makes a range known that will be read; false when there is no room for it.
    pub fn queue(&self, file: FileId, at: u64, len: u32, now_ns: u64) -> bool {
        let mut state = self.state.lock();
        let alone = Queued { at, len, came_ns: now_ns, told: false };
        let Queued { at, len, came_ns, told } = state.with_neighbours(file, alone);
        let held_len = state.held_len_of(len);
        state.put(file, at, Range::new(len, held_len, Held::Queued { told }, came_ns))
    }

    /// The queued ranges that have waited long enough for a job to be sent for each, and when the next of the others has.
    pub fn ripe(&self, now_ns: u64) -> (Vec<(FileId, u64)>, Option<u64>) {
        let mut state = self.state.lock();
        let (mut ripe, mut next_ns) = (Vec::new(), None);
        for (key, range) in &mut state.ranges {
            let Held::Queued { told: told @ false } = &mut range.state else { continue };
            let ripe_ns = range.came_ns.saturating_add(GATHER_NS);
            if range.len >= LONG_LEN || ripe_ns <= now_ns {
                *told = true;
                ripe.push(*key);
            } else {
                next_ns = next_ns.into_iter().chain([ripe_ns]).min();
            }
        }
        (ripe, next_ns)
    }

    /// Forgets what is here and nobody had a part of in [`IDLE_NS`]. When to look again, if anything is left.
    pub fn give_up_idle(&self, now_ns: u64) -> Option<u64> {
        let mut state = self.state.lock();
        let is_idle = |range: &Range| {
            matches!(range.state, Held::Here(_)) && now_ns.saturating_sub(range.came_ns) >= IDLE_NS
        };
        let idle: Vec<_> =
            state.ranges.iter().filter(|(_, range)| is_idle(range)).map(|(key, _)| *key).collect();
        idle.into_iter().for_each(|key| state.remove(key));
        (!state.ranges.is_empty()).then(|| now_ns.saturating_add(IDLE_NS))
    }

    /// The range that holds the byte at `at`, if it is still nobody's; it is the caller's then, who says how it ended.
    pub fn begin(&self, file: FileId, at: u64) -> Option<(u64, u32)> {
        match self.state.lock().find(file, at)? {
            (key, range @ Range { state: Held::Queued { .. }, .. }, _) => {
                range.state = Held::Reading;
                Some((key.1, range.len))
            }
            _ => None,
        }
    }

    /// How reading the range that begins at `at` ended. What is not as long as the range was read for another one there,
    /// which was forgotten meanwhile: readers of this one go to the disk themselves.
    pub fn end(&self, file: FileId, at: u64, read: Option<Loaded>) {
        {
            let mut state = self.state.lock();
            let range = state.ranges.get_mut(&(file, at));
            let fits = |loaded: &Loaded| {
                range.as_ref().is_some_and(|range| range.len as usize == loaded.bytes.len())
            };
            match (read.filter(fits), range) {
                (Some(loaded), Some(range @ Range { state: Held::Reading, .. })) => {
                    range.state = Held::Here(loaded.bytes);
                    let before = std::mem::replace(&mut range.held_len, loaded.held_len);
                    let came_ns = range.came_ns;
                    state.held_len = state.held_len - before + loaded.held_len;
                    // What it takes more than was thought is there already: as far as others can go, they do.
                    state.make_room(0, came_ns);
                }
                (None, Some(Range { state: Held::Reading, .. })) => state.remove((file, at)),
                // Forgotten meanwhile.
                _ => {}
            }
        }
        self.ended.notify_all();
    }

    /// Keeps bytes that somebody will ask for, if there is room.
    pub fn keep(&self, file: FileId, at: u64, loaded: Loaded, now_ns: u64) {
        let Ok(len) = u32::try_from(loaded.bytes.len()) else { return };
        let range = Range::new(len, loaded.held_len, Held::Here(loaded.bytes), now_ns);
        self.state.lock().put(file, at, range);
    }

    /// Waits until nothing that holds the bytes at `at` is being read.
    pub fn wait(&self, file: FileId, at: u64) {
        let mut state = self.state.lock();
        while matches!(state.find(file, at), Some((_, Range { state: Held::Reading, .. }, _))) {
            self.ended.wait(&mut state);
        }
    }

    /// Forgets what holds any byte of `places`: they were not what they should be.
    pub fn forget_within(&self, file: FileId, places: std::ops::Range<u64>) {
        let mut state = self.state.lock();
        let before = state.ranges.range((file, 0)..(file, places.end));
        let touched = before.filter(|((_, at), range)| at + u64::from(range.len) > places.start);
        let keys: Vec<_> = touched.map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| state.remove(key));
        drop(state);
        self.ended.notify_all();
    }

    /// Forgets everything of a file.
    pub fn forget(&self, file: FileId) {
        let mut state = self.state.lock();
        let keys: Vec<_> = state.ranges.range((file, 0)..=(file, u64::MAX)).map(|(key, _)| *key).collect();
        keys.into_iter().for_each(|key| state.remove(key));
        drop(state);
        self.ended.notify_all();
    }
}

impl State {
    /// What a range of `len` bytes will take in memory.
    fn held_len_of(&self, len: u32) -> usize {
        if len >= self.long_len_min { buffers::held_len(len) } else { len as usize }
    }

    /// The range with the byte at `at`, and how far into it that is.
    fn find(&mut self, file: FileId, at: u64) -> Option<((FileId, u64), &mut Range, usize)> {
        let (key, range) = self.ranges.range_mut(..=(file, at)).next_back()?;
        let skip = at - if key.0 == file { key.1 } else { return None };
        (skip < u64::from(range.len)).then_some((*key, range, usize::try_from(skip).unwrap_or(0)))
    }

    /// The range together with those that are queued right before and behind it, which are taken out.
    fn with_neighbours(&mut self, file: FileId, alone: Queued) -> Queued {
        let key = (file, alone.at);
        let before = self.ranges.range(..key).next_back();
        let behind = self.ranges.range(key..).next();
        let (mut all, mut taken, mut known) = (alone, Vec::new(), 0);
        for ((of, at), range) in before.into_iter().chain(behind).filter(|((of, _), _)| *of == file) {
            let Held::Queued { told } = range.state else { continue };
            if let Some(together) =
                all.with(&Queued { at: *at, len: range.len, came_ns: range.came_ns, told })
            {
                all = together;
                known += range.held_len;
                taken.push((*of, *at));
            }
        }
        if !self.make_room(self.held_len_of(all.len).saturating_sub(known), alone.came_ns) {
            return alone;
        }
        taken.into_iter().for_each(|key| self.remove(key));
        all
    }

    fn put(&mut self, file: FileId, at: u64, mut range: Range) -> bool {
        let key = (file, at);
        if self.ranges.contains_key(&key) || range.len == 0 || !self.make_room(range.held_len, range.came_ns)
        {
            return false;
        }
        self.held_len += range.held_len;
        self.unread_len += range.len as usize;
        range.nth = self.next_nth;
        self.next_nth += 1;
        self.order.insert(range.nth, key);
        self.ranges.insert(key, range);
        true
    }

    fn remove(&mut self, key: (FileId, u64)) {
        if let Some(range) = self.ranges.remove(&key) {
            self.held_len -= range.held_len;
            self.unread_len -= (range.len - range.passed_len) as usize;
            self.order.remove(&range.nth);
        }
    }

    fn make_room(&mut self, len: usize, now_ns: u64) -> bool {
        let is_stale = |range: &Range| {
            matches!(range.state, Held::Here(_)) && now_ns.saturating_sub(range.came_ns) > STALE_NS
        };
        while self.held_len + len > self.len_max {
            let first = |goes: &dyn Fn(&Range) -> bool| {
                self.order.values().find(|key| self.ranges.get(key).is_some_and(goes)).copied()
            };
            match first(&Range::is_done).or_else(|| first(&is_stale)) {
                Some(key) => self.remove(key),
                None => return false,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileId = FileId::Wal(1);

    fn bytes(len: usize) -> Bytes {
        Bytes::from((0..len).map(|i| i as u8).collect::<Vec<u8>>())
    }

    fn loaded(len: usize) -> Loaded {
        Loaded { bytes: bytes(len), held_len: len }
    }

    fn here(ahead: &ReadAhead, at: u64) -> Option<usize> {
        ahead.here(FILE, at).map(|bytes| bytes.len())
    }

    #[test]
    fn a_range_serves_every_place_in_it_and_none_outside() {
        let ahead = ReadAhead::new(1_000, u32::MAX);
        ahead.keep(FILE, 100, loaded(50), 0);
        ahead.keep(FileId::Wal(2), 0, loaded(50), 0);
        assert_eq!(
            [99, 100, 120, 149, 150].map(|at| here(&ahead, at)),
            [None, Some(50), Some(30), Some(1), None]
        );
        assert_eq!(ahead.here(FILE, 120).unwrap()[0], 20);
        assert!(ahead.here(FileId::Segment(1), 100).is_none());
        ahead.forget(FILE);
        assert!(ahead.here(FILE, 100).is_none() && ahead.here(FileId::Wal(2), 0).is_some());
    }

    #[test]
    fn what_was_read_through_makes_room_and_what_waits_for_its_reader_does_not() {
        let ahead = ReadAhead::new(300, u32::MAX);
        for at in [0, 100, 200] {
            assert!(ahead.queue(FILE, at, 100, 0) && ahead.begin(FILE, at).is_some());
            ahead.end(FILE, at, Some(loaded(100)));
        }
        assert!(!ahead.queue(FILE, 300, 100, 0), "all three are waited for");
        ahead.passed(FILE, 150, 40, 0);
        ahead.passed(FILE, 100, 55, 0);
        assert_eq!(here(&ahead, 150), Some(50), "another reader may come until then");
        assert!(ahead.queue(FILE, 300, 100, 0));
        assert_eq!([0, 150, 200].map(|at| here(&ahead, at)), [Some(100), None, Some(100)]);
        assert!(!ahead.queue(FILE, 400, 100, STALE_NS));
        assert!(ahead.queue(FILE, 400, 100, STALE_NS + 1), "nobody came for the first");
        assert_eq!([0, 200].map(|at| here(&ahead, at)), [None, Some(100)]);
    }

    #[test]
    fn what_nobody_comes_for_any_more_goes_although_there_is_room() {
        let ahead = ReadAhead::new(1_000, u32::MAX);
        ahead.keep(FILE, 0, loaded(100), 0);
        ahead.keep(FILE, 100, loaded(100), 0);
        assert!(ahead.queue(FILE, 200, 100, 0));
        ahead.passed(FILE, 0, 10, 5);
        assert_eq!(ahead.give_up_idle(IDLE_NS - 1), Some(2 * IDLE_NS - 1));
        assert_eq!(ahead.give_up_idle(IDLE_NS), Some(2 * IDLE_NS));
        assert_eq!([0, 100].map(|at| here(&ahead, at)), [Some(100), None], "a part of the first was had");
        assert!(ahead.begin(FILE, 200).is_some(), "what is queued is its job's");
        ahead.end(FILE, 200, None);
        assert_eq!(ahead.give_up_idle(IDLE_NS + 5), None);
        assert_eq!(ahead.window(usize::MAX), 250);
    }

    #[test]
    fn the_more_is_waited_for_the_less_is_read_ahead_for_one_more() {
        let ahead = ReadAhead::new(1_000, u32::MAX);
        assert_eq!(ahead.window(100), 100);
        assert_eq!(ahead.window(700), 250);
        assert!(ahead.queue(FILE, 0, 600, 0));
        assert_eq!(ahead.window(700), 100);
    }

    #[test]
    fn a_queued_range_is_read_once_by_its_job_or_by_the_reader_that_comes_first() {
        let ahead = ReadAhead::new(1_000, u32::MAX);
        assert!(ahead.queue(FILE, 0, 100, 0));
        assert!(matches!(ahead.find(FILE, 50), Found::Taken(0, 100)));
        assert!(ahead.begin(FILE, 0).is_none(), "the job comes too late");
        assert!(ahead.queue(FILE, 0, 100, 0) && ahead.begin(FILE, 0).is_some());
        assert!(matches!(ahead.find(FILE, 50), Found::Reading));
        ahead.end(FILE, 0, None);
        assert!(matches!(ahead.find(FILE, 50), Found::Nothing), "it could not be read");
        assert_eq!(ahead.window(usize::MAX), 250, "and takes no room");
    }

    #[test]
    fn ranges_that_lie_side_by_side_become_one_while_nobody_reads_them() {
        let ahead = ReadAhead::new(64 << 20, u32::MAX);
        for at in [100_000, 300_000, 200_000] {
            assert!(ahead.queue(FILE, at, 99_000, 0));
        }
        assert!(ahead.queue(FILE, 500_000, 100, 0), "too far away");
        assert!(ahead.queue(FileId::Wal(2), 399_000, 100, 0), "another file");
        assert_eq!(ahead.begin(FILE, 250_000), Some((100_000, 299_000)));
        assert_eq!(ahead.begin(FILE, 300_000), None, "the jobs of the others have nothing to do");
        assert!(ahead.queue(FILE, 399_000, 1_000, 0));
        assert_eq!(ahead.begin(FILE, 399_000), Some((399_000, 1_000)), "that one is being read");
        for nth in 0..40 {
            assert!(ahead.queue(FileId::Wal(3), nth * 100_000, 100_000, 0));
        }
        let lens: Vec<u32> = (0..40)
            .filter_map(|nth| ahead.begin(FileId::Wal(3), nth * 100_000))
            .map(|(_, len)| len)
            .collect();
        assert_eq!(lens, [2_000_000, 2_000_000]);
    }

    #[test]
    fn a_short_range_waits_a_moment_for_its_neighbours_and_a_long_one_does_not() {
        let ahead = ReadAhead::new(64 << 20, u32::MAX);
        assert!(ahead.queue(FILE, 0, 1_000, 5) && ahead.queue(FILE, 1 << 20, LONG_LEN, 5));
        assert_eq!(ahead.ripe(6), (vec![(FILE, 1 << 20)], Some(5 + GATHER_NS)));
        assert!(ahead.queue(FILE, 1_000, 1_000, 100));
        assert_eq!(ahead.ripe(5 + GATHER_NS), (vec![(FILE, 0)], None), "the older one's time counts");
        assert_eq!(ahead.ripe(u64::MAX), (vec![], None), "a job is sent once");
        assert_eq!(ahead.begin(FILE, 0), Some((0, 2_000)));
    }

    #[test]
    fn a_reader_waits_for_a_range_under_way_until_it_is_here_or_forgotten() {
        for outcome in [Some(bytes(100)), None] {
            let ahead = ReadAhead::new(1_000, u32::MAX);
            assert!(ahead.queue(FILE, 0, 100, 0) && ahead.begin(FILE, 0).is_some());
            std::thread::scope(|scope| {
                let waiting = scope.spawn(|| {
                    ahead.wait(FILE, 10);
                    here(&ahead, 10)
                });
                match &outcome {
                    Some(_) => ahead.end(FILE, 0, Some(loaded(100))),
                    None => ahead.forget(FILE),
                }
                assert_eq!(waiting.join().unwrap(), outcome.as_ref().map(|_| 90));
            });
            ahead.end(FILE, 0, Some(loaded(100)));
            assert_eq!(here(&ahead, 0).is_some(), outcome.is_some(), "what was forgotten does not come back");
        }
    }

    #[test]
    fn what_comes_late_for_a_range_that_was_forgotten_is_not_taken_for_the_one_in_its_place() {
        for (late, len) in [(100, 300), (300, 100)] {
            let ahead = ReadAhead::new(1_000, u32::MAX);
            assert!(ahead.queue(FILE, 0, late, 0) && ahead.begin(FILE, 0).is_some());
            ahead.forget(FILE);
            assert!(ahead.queue(FILE, 0, len, 0) && ahead.begin(FILE, 0).is_some());
            ahead.end(FILE, 0, Some(loaded(late as usize)));
            let found = ahead.find(FILE, u64::from(len) - 1);
            assert!(matches!(found, Found::Nothing), "{late} bytes for {len}");
            ahead.end(FILE, 0, Some(loaded(len as usize)));
            assert!(ahead.queue(FILE, 0, len, 0) && ahead.begin(FILE, 0).is_some());
            ahead.end(FILE, 0, Some(loaded(len as usize)));
            assert_eq!(here(&ahead, 0), Some(len as usize));
        }
    }

    #[test]
    fn what_a_range_takes_in_memory_counts_and_not_what_was_asked_for() {
        let ahead = ReadAhead::new(300_000, 32 << 10);
        assert!(ahead.queue(FILE, 0, 40_000, 0) && ahead.queue(FILE, 1 << 20, 20_000, 0));
        assert!(ahead.queue(FILE, 2 << 20, 40_000, 0), "a buffer of 128 KiB is for the first and for this");
        assert!(!ahead.queue(FILE, 3 << 20, 40_000, 0), "and there is no third");
        ahead.begin(FILE, 0).unwrap();
        assert!(ahead.queue(FILE, 4 << 20, 10_000, 0));
        ahead.end(FILE, 0, Some(Loaded { bytes: bytes(40_000), held_len: 256 << 10 }));
        assert!(!ahead.queue(FILE, 5 << 20, 1_000, 0), "it came in a longer one, that was at hand");
        ahead.passed(FILE, 0, 40_000, 0);
        assert!(ahead.queue(FILE, 5 << 20, 100_000, 0));
    }
}
