//! What a pass does: which sealed WAL files stay as segments, and what is copied out of which files.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
};

use bytes::Bytes;
use model::{ErrorKind, LogId, Offset, Result};

use super::stretches::Stretches;
use crate::{
    Attached,
    log::live::{Extent, FileId, Index},
    segment::FooterWriter,
    store::Inner,
};

/// An extent that is to be copied.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub log: LogId,
    pub file: FileId,
    pub at: u64,
    pub len: u32,
    pub offsets: Range<Offset>,
    /// Nothing that stays lies between it and the item before, which is of the same log.
    pub follows: bool,
}

#[derive(Default)]
pub(super) struct Plan {
    /// WAL files that become segments.
    pub keep: Vec<u64>,
    /// What goes into each new segment, sorted by log and offset.
    pub copies: VecDeque<Vec<Item>>,
    /// What of the files is worth reading at a time.
    pub stretches: Stretches,
    /// There was more than one pass should do.
    pub is_cut: bool,
}

/// Live bytes of one file.
#[derive(Default)]
struct Live {
    big: u64,
    small: u64,
    damaged: bool,
}

/// What happens to a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Stays,
    /// Its long runs stay, the short ones are copied.
    Becomes,
    /// Everything live is copied.
    Copied,
}

impl Plan {
    pub fn new<A: Attached>(store: &Inner<A>, segments: &BTreeSet<u64>) -> Plan {
        let durable = store.wal.durable();
        let sealed = store.wal.files().into_iter().filter(|f| f.sealed.is_some_and(|last| last <= durable));
        let sealed: BTreeMap<u64, u64> = sealed.map(|f| (f.file, f.len)).collect();
        let mut live: BTreeMap<FileId, Live> = BTreeMap::new();
        let run_kept_len = store.options.run_kept_len;
        each_extent(store, |_, extent| {
            let file = live.entry(extent.file).or_default();
            file.damaged |= extent.damaged;
            match extent.len >= run_kept_len {
                true => file.big += extent.live_len(),
                false => file.small += extent.live_len(),
            }
        });
        let mut fates = fates(store, &live, &sealed, segments);
        let is_cut = cut(&mut fates, &live, store.options.unflushed_len_max);
        let items = items(store, |extent| match fates.get(&extent.file) {
            Some(Fate::Copied) => !extent.damaged,
            Some(Fate::Becomes) => !extent.damaged && extent.len < run_kept_len,
            Some(Fate::Stays) | None => false,
        });
        let becomes = fates.iter().filter(|(_, fate)| **fate == Fate::Becomes);
        let keep = becomes.filter_map(|(file, _)| match file {
            FileId::Wal(number) => Some(*number),
            FileId::Segment(_) => None,
        });
        Plan {
            keep: keep.collect(),
            stretches: Stretches::of(&items),
            copies: divide(items, store.options.segment_len, store.options.own_segment_len),
            is_cut,
        }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.keep.is_empty() && self.copies.is_empty()
    }
}

/// Leaves the newest files to another pass where the older ones have more to copy than `len_max`: what is copied is there
/// twice until the pass is over.
fn cut(fates: &mut BTreeMap<FileId, Fate>, live: &BTreeMap<FileId, Live>, len_max: u64) -> bool {
    let mut left = len_max;
    let mut is_cut = false;
    for (file, fate) in fates.iter_mut() {
        let (FileId::Wal(_), Fate::Copied, Some(live)) = (file, *fate, live.get(file)) else { continue };
        let len = live.big + live.small;
        // The first one always goes.
        if len > left && left < len_max {
            *fate = Fate::Stays;
            is_cut = true;
        } else {
            left = left.saturating_sub(len);
        }
    }
    is_cut
}

fn fates<A: Attached>(
    store: &Inner<A>,
    live: &BTreeMap<FileId, Live>,
    sealed: &BTreeMap<u64, u64>,
    segments: &BTreeSet<u64>,
) -> BTreeMap<FileId, Fate> {
    let mut fates = BTreeMap::new();
    let mut small_segments = Vec::new();
    for (file, live) in live {
        let (len, flushed) = match file {
            FileId::Wal(number) => match sealed.get(number) {
                Some(len) => (*len, segments.contains(number)),
                None => continue, // It is being written.
            },
            FileId::Segment(_) => match store.files.open(*file) {
                Ok(blob) => (blob.len(), true),
                Err(_) => continue, // Reads report it.
            },
        };
        let fate = match flushed {
            true if (live.big + live.small) * 2 < len => Fate::Copied,
            true => Fate::Stays,
            false if live.big * 2 >= len => Fate::Becomes,
            false => Fate::Copied,
        };
        if fate == Fate::Stays && matches!(file, FileId::Segment(_)) && len < store.options.merge_len_max {
            small_segments.push((len, *file));
        }
        fates.insert(*file, fate);
    }
    // Tiers: the smallest go together, so that what is copied grows by a factor every time it is.
    if small_segments.len() >= store.options.merge_count {
        small_segments.sort_unstable();
        small_segments.truncate(store.options.merge_count);
        fates.extend(small_segments.into_iter().map(|(_, file)| (file, Fate::Copied)));
    }
    fates
}

fn each_extent<A: Attached>(store: &Inner<A>, mut each: impl FnMut(LogId, &Extent)) {
    for log in store.logs_by_id() {
        let state = log.lock();
        state.core.live.extents().iter().for_each(|extent| each(log.id(), extent));
    }
}

/// What is copied, sorted by log and offset.
fn items<A: Attached>(store: &Inner<A>, copied: impl Fn(&Extent) -> bool) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    for log in store.logs_by_id() {
        let state = log.lock();
        let live = &state.core.live;
        let mut before: Option<Offset> = None;
        for extent in live.extents() {
            if !copied(extent) {
                before = None;
                continue;
            }
            let (file, at, len) = (extent.file, extent.at, extent.len);
            // Volatile records may lie between extents, too.
            let apart = |end| live.volatile_from(end).next().is_some_and(|v| v.batch.base < extent.base);
            let follows = before.is_some_and(|end| !apart(end));
            items.push(Item { log: log.id(), file, at, len, offsets: extent.base..extent.end(), follows });
            before = Some(extent.end());
        }
    }
    items
}

/// Divides what is to be copied among segments: shared ones, and own ones for logs that have much.
fn divide(items: Vec<Item>, segment_len: u64, own_len: u64) -> VecDeque<Vec<Item>> {
    let mut segments = VecDeque::new();
    let (mut shared, mut shared_len) = (Vec::new(), 0);
    for of_log in items.chunk_by(|a, b| a.log == b.log) {
        let len: u64 = of_log.iter().map(|item| u64::from(item.len)).sum();
        if len > own_len {
            let (mut own, mut own_len) = (Vec::new(), 0);
            for item in of_log {
                push(&mut segments, &mut own, &mut own_len, item, segment_len);
            }
            segments.push_back(own);
        } else {
            for item in of_log {
                push(&mut segments, &mut shared, &mut shared_len, item, segment_len);
            }
        }
    }
    if !shared.is_empty() {
        segments.push_back(shared);
    }
    segments
}

fn push(segments: &mut VecDeque<Vec<Item>>, into: &mut Vec<Item>, len: &mut u64, item: &Item, max: u64) {
    if *len + u64::from(item.len) > max && !into.is_empty() {
        segments.push_back(std::mem::take(into));
        *len = 0;
    }
    *len += u64::from(item.len);
    into.push(item.clone());
}

/// Makes a sealed WAL file a segment: writes its footer, and lets the extents use it.
pub(super) fn keep<A: Attached>(store: &Inner<A>, number: u64) -> Result<()> {
    let file = FileId::Wal(number);
    let (mut footer, mut used_len) = (FooterWriter::default(), 0);
    let mut logs = BTreeSet::new();
    each_extent(store, |log, extent| {
        if extent.file == file {
            used_len = used_len.max(extent.at + u64::from(extent.len));
            footer.extent(log, extent);
            logs.insert(log);
        }
    });
    match store.wal.keep(number, used_len, &[Bytes::from(footer.finish())]) {
        Ok(_) => {}
        // A crash came between the footer and the checkpoint. What is missing in it is read without an index.
        Err(error) if error.kind() == ErrorKind::Exists => {}
        // Nothing in it lived any more when a checkpoint came in between.
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    store.files.close(file);
    for id in logs {
        let Some(log) = store.logs.read().get(&id).cloned() else { continue };
        let mut state = log.lock();
        for extent in state.core.live.extents_mut() {
            if extent.file == file && matches!(extent.index, Index::Points(_)) {
                extent.index = Index::Footer;
            }
        }
    }
    Ok(())
}
