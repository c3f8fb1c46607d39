//! Copies live batches into a new segment and moves their logs over to it.

use std::{ops::Range, sync::Arc};

use bytes::Bytes;
use model::{Batch, Error, ErrorKind, LogId, Offset, OwnerEpoch, Result};

use super::{
    parts::{Item, Items, Part},
    plan::Choice,
    stretches::Stretches,
};
use crate::{
    Attached, Change, Log,
    blobs::NewBlob,
    files::segment_name,
    index::INDEX_STEP_LEN,
    log::{
        Gone,
        live::{Extent, FileId, Index, Point},
    },
    segment::FooterWriter,
    store::Inner,
    wal::codec::decode_entry,
};

/// Offsets without a stored batch that an extent may span: they are marked as dropped one by one.
const GAP_MAX: u64 = 4096;

/// An extent is at most this long, so that one without its index can be read whole.
const EXTENT_LEN_MAX: u32 = 16 << 20;

/// A segment that is being written, part by part: between two of them the disk can be left to the log.
pub(super) struct NewSegment {
    number: u64,
    left: Items,
    items: std::vec::IntoIter<Item>,
    /// None before there is something to write: no file for nothing.
    blob: Option<Box<dyn NewBlob>>,
    at: u64,
    growing: Option<Growing>,
    copied: Vec<Copied>,
    footer: FooterWriter,
}

/// What of one log the new segment has, and between which offsets it replaces what was chosen.
struct Copied {
    log: LogId,
    extents: Vec<Extent>,
    offsets: Range<Offset>,
}

struct Growing {
    log: LogId,
    extent: Extent,
    points: Vec<Point>,
}

impl NewSegment {
    /// Segment `number` with what is live of what is chosen of `parts`.
    pub fn new(number: u64, parts: Vec<Part>) -> Self {
        NewSegment {
            number,
            left: Items::new(parts),
            items: Vec::new().into_iter(),
            blob: None,
            at: 0,
            growing: None,
            copied: Vec::new(),
            footer: FooterWriter::default(),
        }
    }

    /// Copies the next part. Whether there is nothing left: then the segment is durable, and its logs use it.
    pub fn step<A: Attached>(
        &mut self,
        store: &Inner<A>,
        choice: &Choice,
        stretches: &mut Stretches,
    ) -> Result<bool> {
        let mut part = Vec::new();
        while part.len() < store.options.copied_part_len {
            let Some(item) = self.next_item(store, choice, stretches) else {
                self.finish(store, choice, part)?;
                return Ok(true);
            };
            self.item(store, &item, &mut part)?;
        }
        self.write(store, &part)?;
        Ok(false)
    }

    fn next_item<A: Attached>(
        &mut self,
        store: &Inner<A>,
        choice: &Choice,
        stretches: &mut Stretches,
    ) -> Option<Item> {
        if self.items.as_slice().is_empty() {
            self.items = self.left.next(store, choice).into_iter();
            stretches.begin();
        }
        stretches.ask(&store.files, self.items.as_slice());
        self.items.next()
    }

    fn finish<A: Attached>(&mut self, store: &Inner<A>, choice: &Choice, mut part: Vec<u8>) -> Result<()> {
        self.close();
        if self.copied.is_empty() {
            return Ok(());
        }
        part.extend(std::mem::take(&mut self.footer).finish());
        self.write(store, &part)?;
        self.blob.take().map(NewBlob::finish).transpose()?;
        let copied = std::mem::take(&mut self.copied);
        copied.into_iter().for_each(|copied| swap(store, &self.left, choice, copied));
        Ok(())
    }

    fn write<A: Attached>(&mut self, store: &Inner<A>, part: &[u8]) -> Result<()> {
        let blob = match self.blob.take() {
            Some(blob) => blob,
            None => store.files.blobs.create(&segment_name(self.number))?,
        };
        self.blob.insert(blob).add(part)
    }

    fn item<A: Attached>(&mut self, store: &Inner<A>, item: &Item, out: &mut Vec<u8>) -> Result<()> {
        // Also when nothing of this item is left to copy: those after it do not follow on what is before it.
        if !item.follows || self.growing.as_ref().is_some_and(|growing| growing.log != item.log) {
            self.close();
        }
        let Some(log) = store.logs.read().get(&item.log).cloned() else { return Ok(()) };
        let batches = match read_batches(store, item) {
            Ok(batches) => batches,
            Err(error) if is_damage(&error) => {
                set_aside(&log, item, &error);
                self.left.set_aside(item);
                self.close(); // The next one must not span it.
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let state = log.lock();
        let live = |batch: &Batch| !matches!(state.core.gone_in(batch), Gone::All);
        let batches: Vec<_> = batches.into_iter().filter(|(batch, _)| live(batch)).collect();
        drop(state);
        self.of(item).offsets.end = item.offsets.end;
        for (batch, bytes) in batches {
            self.batch(item, &batch, &bytes, out);
        }
        Ok(())
    }

    /// What has been copied of the log of `item`, which is the last one so far or comes after it.
    fn of(&mut self, item: &Item) -> &mut Copied {
        if self.copied.last().is_none_or(|last| last.log != item.log) {
            self.copied.push(Copied { log: item.log, extents: Vec::new(), offsets: item.offsets.clone() });
        }
        let last = self.copied.len() - 1;
        &mut self.copied[last]
    }

    fn batch(&mut self, item: &Item, batch: &Batch, bytes: &Bytes, out: &mut Vec<u8>) {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let fits = |growing: &Growing| {
            growing.log == item.log
                && batch.base >= growing.extent.end()
                && batch.base.since(growing.extent.end()) <= GAP_MAX
                && growing.extent.len.saturating_add(len) <= EXTENT_LEN_MAX
                && batch.end().since(growing.extent.base) <= u64::from(u32::MAX)
        };
        if !self.growing.as_ref().is_some_and(fits) {
            self.close();
            self.growing = Some(Growing {
                log: item.log,
                extent: Extent {
                    file: FileId::Segment(self.number),
                    at: self.at,
                    base: batch.base,
                    len: 0,
                    count: 0,
                    stored: 0,
                    live: 0,
                    append_time_ms: i64::MIN,
                    event_time_ms: i64::MIN,
                    index: Index::None,
                    damaged: false,
                },
                points: Vec::new(),
            });
        }
        if let Some(growing) = &mut self.growing {
            growing.add(batch, len);
        }
        out.extend_from_slice(bytes);
        self.at += bytes.len() as u64;
    }

    fn close(&mut self) {
        let Some(Growing { log, mut extent, points }) = self.growing.take() else { return };
        if points.len() > 1 {
            extent.index = Index::Points(points.into());
        }
        self.footer.extent(log, &extent);
        if matches!(extent.index, Index::Points(_)) {
            extent.index = Index::Footer;
        }
        // Its log is the last of which something was copied.
        if let Some(copied) = self.copied.last_mut() {
            debug_assert_eq!(copied.log, log);
            copied.extents.push(extent);
        }
    }
}

impl Growing {
    fn add(&mut self, batch: &Batch, len: u32) {
        let event_time_ms = batch.max_event_time_ms.unwrap_or(batch.append_time_ms);
        let base = u32::try_from(batch.base.since(self.extent.base)).unwrap_or(u32::MAX);
        let at = self.extent.len;
        match self.points.last_mut() {
            Some(point) if at - point.at < INDEX_STEP_LEN => {
                point.append_time_ms = point.append_time_ms.max(batch.append_time_ms);
                point.event_time_ms = point.event_time_ms.max(event_time_ms);
            }
            _ => self.points.push(Point { base, at, append_time_ms: batch.append_time_ms, event_time_ms }),
        }
        let extent = &mut self.extent;
        extent.len += len;
        extent.count = base + batch.count;
        extent.stored += batch.count;
        extent.append_time_ms = extent.append_time_ms.max(batch.append_time_ms);
        extent.event_time_ms = extent.event_time_ms.max(event_time_ms);
    }
}

fn is_damage(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corrupt)
}

/// The batches of an extent with their entries' bytes. What fails its checks is looked at once more, from the disk whatever
/// is in memory, as readers do: it is set aside for ever.
fn read_batches<A: Attached>(store: &Inner<A>, item: &Item) -> Result<Vec<(Batch, Bytes)>> {
    let files = &store.files;
    let bytes = files.read(item.file, item.at, item.len);
    match bytes.and_then(|bytes| batches_in(item, &bytes)) {
        Err(error) if is_damage(&error) => {
            files.forget_ahead(item.file, item.at, item.len);
            batches_in(item, &files.read_file(item.file, item.at, item.len)?)
        }
        read => read,
    }
}

fn batches_in(item: &Item, bytes: &Bytes) -> Result<Vec<(Batch, Bytes)>> {
    let mut batches = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let decoded = decode_entry(item.log, OwnerEpoch::default(), &bytes.slice(at..))?;
        if let Change::Data { batch, .. } = decoded.entry.change {
            if batch.base < item.offsets.start || batch.end() > item.offsets.end {
                return Err(Error::corrupt(format!(
                    "offset {} of log {} is out of place",
                    batch.base, item.log
                )));
            }
            batches.push((batch, bytes.slice(at..at + decoded.len)));
        }
        at += decoded.len;
    }
    Ok(batches)
}

fn set_aside<A: Attached>(log: &Arc<Log<A>>, item: &Item, error: &Error) {
    let (first, end) = (item.offsets.start, item.offsets.end);
    if log.lock().core.quarantine(item.file, item.at, first) {
        tracing::error!(
            log = item.log.0, first = first.0, end = end.0, file = ?item.file, at = item.at, %error,
            "stored records cannot be copied; the extent is set aside"
        );
    }
}

/// Lets a log use the copies of its extents. What was dropped meanwhile stays dropped.
fn swap<A: Attached>(store: &Inner<A>, items: &Items, choice: &Choice, copied: Copied) {
    let Some(log) = store.logs.read().get(&copied.log).cloned() else { return };
    let mut state = log.lock();
    let before = state.core.live.extents().len();
    // What could not be read is set aside, and not taken. What somebody else set aside since it was copied is: its copy is
    // sound, and would lie over it.
    state.core.replace(copied.offsets, |extent| items.has_copied(choice, extent), copied.extents);
    store.unflushed.extents_moved(before, state.core.live.extents().len());
}
