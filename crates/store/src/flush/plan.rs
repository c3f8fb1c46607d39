//! What a pass does: which sealed WAL files stay as segments, and what is copied out of which files.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
};

use bytes::Bytes;
use model::{ErrorKind, LogId, Offset, Result};

use super::{
    copy::NewSegment,
    parts::{Division, Part},
    stretches::Stretches,
};
use crate::{
    Attached,
    log::live::{Extent, FileId, Index},
    segment::FooterWriter,
    store::Inner,
};

#[derive(Default)]
pub(super) struct Plan {
    /// WAL files that become segments.
    pub keep: Vec<u64>,
    /// What goes into each new segment, sorted by log and offset.
    pub copies: VecDeque<Vec<Part>>,
    /// Which extents of that.
    pub choice: Choice,
    /// The one that is being written.
    pub segment: Option<NewSegment>,
    /// What of the files is worth reading at a time.
    pub stretches: Stretches,
    /// There was more than one pass should do.
    pub is_cut: bool,
}

/// Which extents a pass copies.
#[derive(Default)]
pub(super) struct Choice {
    fates: BTreeMap<FileId, Fate>,
    run_kept_len: u32,
}

impl Choice {
    /// Whether `extent` is to be copied, unless it is set aside by then. What comes into a log while the pass runs lies
    /// behind what it copies of that log.
    pub fn takes(&self, extent: &Extent) -> bool {
        !extent.damaged && self.covers(extent)
    }

    /// The same whatever is known of its bytes.
    pub fn covers(&self, extent: &Extent) -> bool {
        match self.fates.get(&extent.file) {
            Some(Fate::Copied) => true,
            Some(Fate::Becomes | Fate::Thinned) => extent.len < self.run_kept_len,
            Some(Fate::Stays) | None => false,
        }
    }
}

/// Live bytes of one file.
#[derive(Default)]
struct Live {
    big: u64,
    small: u64,
    extents: u64,
}

impl Live {
    fn len(&self) -> u64 {
        self.big + self.small
    }
}

/// What happens to a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing.
    Stays,
    /// Its long runs stay, the short ones are copied.
    Becomes,
    /// The same for a file that is still written: what is to become of it is decided once it is sealed.
    Thinned,
    /// Everything live is copied.
    Copied,
}

impl Plan {
    /// `thins` says whether extents have become so many that short ones are also copied out of the file that is being
    /// written.
    pub fn new<A: Attached>(store: &Inner<A>, segments: &BTreeSet<u64>, thins: bool) -> Plan {
        let durable = store.wal.durable();
        let files = store.wal.files();
        let sealed = files.iter().filter(|f| f.sealed.is_some_and(|last| last <= durable));
        let sealed: BTreeMap<u64, u64> = sealed.map(|f| (f.file, f.len)).collect();
        let mut live: BTreeMap<FileId, Live> = BTreeMap::new();
        let run_kept_len = store.options.run_kept_len;
        each_extent(store, |_, extent| {
            let file = live.entry(extent.file).or_default();
            file.extents += 1;
            match extent.len >= run_kept_len {
                true => file.big += extent.live_len(),
                false => file.small += extent.live_len(),
            }
        });
        let mut fates = fates(store, &live, &sealed, segments);
        if thins {
            let written = files.iter().map(|f| f.file).filter(|file| !sealed.contains_key(file));
            fates.extend(written.map(|file| (FileId::Wal(file), Fate::Thinned)));
        }
        merge_layers(store, &live, &mut fates);
        let is_cut = cut(&mut fates, &live, store.options.unflushed_len_max);
        let becomes = fates.iter().filter(|(_, fate)| **fate == Fate::Becomes);
        let keep = becomes.filter_map(|(file, _)| match file {
            FileId::Wal(number) => Some(*number),
            FileId::Segment(_) => None,
        });
        let keep = keep.collect();
        let choice = Choice { fates, run_kept_len };
        let (copies, stretches) = divide(store, &choice);
        Plan { keep, copies, choice, segment: None, stretches, is_cut }
    }

    /// Whether nothing is left to do.
    pub fn is_done(&self) -> bool {
        self.keep.is_empty() && self.copies.is_empty() && self.segment.is_none()
    }
}

/// Leaves the newest files to another pass where the older ones have more to copy than `len_max`: what is copied is there
/// twice until the pass is over.
fn cut(fates: &mut BTreeMap<FileId, Fate>, live: &BTreeMap<FileId, Live>, len_max: u64) -> bool {
    let mut left = len_max;
    let mut is_cut = false;
    for (file, fate) in fates.iter_mut() {
        let (FileId::Wal(_), Fate::Copied, Some(live)) = (file, *fate, live.get(file)) else { continue };
        let len = live.len();
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
            true if live.len() * 2 < len => Fate::Copied,
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

/// A merge for the sake of memory leaves a quarter of the extents or fewer.
const LAYERS_MIN: u64 = 4;

/// Merges segments with short extents where many logs have one in each: every flush of many logs that get little leaves
/// such a layer. Of segments whose extents are about as long only, so that what is copied grows by a factor every time it
/// is; and once they count among what may be in memory.
fn merge_layers<A: Attached>(
    store: &Inner<A>,
    live: &BTreeMap<FileId, Live>,
    fates: &mut BTreeMap<FileId, Fate>,
) {
    let mut tiers: BTreeMap<u32, Vec<(FileId, &Live)>> = BTreeMap::new();
    for (file, live) in live {
        let mean_len = live.len() / live.extents.max(1);
        let is_segment = matches!(file, FileId::Segment(_));
        if is_segment
            && fates.get(file) == Some(&Fate::Stays)
            && mean_len < u64::from(store.options.run_kept_len)
        {
            tiers.entry(mean_len.max(1).ilog2() / 3).or_default().push((*file, live));
        }
    }
    for tier in tiers.into_values() {
        let mut left = store.options.unflushed_len_max;
        let fits = |(_, live): &&(FileId, &Live)| {
            let fits = live.len() <= left;
            left = left.saturating_sub(live.len());
            fits
        };
        let taken: BTreeMap<FileId, u64> =
            tier.iter().take_while(fits).map(|(file, live)| (*file, live.extents)).collect();
        let extents: u64 = taken.values().sum();
        if extents >= store.options.extents_max / 8 && extents >= LAYERS_MIN * logs_in(store, &taken) {
            fates.extend(taken.into_keys().map(|file| (file, Fate::Copied)));
        }
    }
}

/// How many logs have something in one of `files`.
fn logs_in<A: Attached>(store: &Inner<A>, files: &BTreeMap<FileId, u64>) -> u64 {
    let has_some = |log: &&std::sync::Arc<crate::Log<A>>| {
        log.lock().core.live.extents().iter().any(|extent| files.contains_key(&extent.file))
    };
    store.logs_by_id().iter().filter(has_some).count() as u64
}

pub(super) fn each_extent<A: Attached>(store: &Inner<A>, mut each: impl FnMut(LogId, &Extent)) {
    for log in store.logs_by_id() {
        let state = log.lock();
        state.core.live.extents().iter().for_each(|extent| each(log.id(), extent));
    }
}

/// What goes into which segment, and what is read at a time for it.
fn divide<A: Attached>(store: &Inner<A>, choice: &Choice) -> (VecDeque<Vec<Part>>, Stretches) {
    let mut division = Division::new(store.options.segment_len, store.options.own_segment_len);
    let mut stretches = Stretches::default();
    let mut taken: Vec<(Range<Offset>, u32)> = Vec::new();
    for log in store.logs_by_id() {
        taken.clear();
        for extent in log.lock().core.live.extents().iter().filter(|extent| choice.takes(extent)) {
            stretches.add(extent.file, extent.at, extent.len);
            taken.push((extent.base..extent.end(), extent.len));
        }
        division.log(log.id(), &taken);
    }
    (division.finish(), stretches.added())
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
