//! Bytes of WAL files and segments for readers: handles that pin what is read, what is read ahead, and the pages of
//! footers that were looked at last.

mod ahead;
mod buffers;
mod pages;
mod turns;

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use env::{Clock, Signal};
use model::{Error, ErrorKind, LogId, Offset, Result};
use parking_lot::Mutex;

pub(crate) use self::ahead::GAP_LEN_MAX;
use self::{
    ahead::{Found, ReadAhead},
    buffers::{Buffers, Loaded},
    pages::{Cached, PageCache, TRAILER},
    turns::Turns,
};
use crate::{
    StoreOptions, TimeOf,
    blobs::{self, Blob, Blobs},
    index::{Stretch, cut},
    log::live::{Extent, FileId, Index},
    segment::{Child, Footer, Lookup, Miss, Page, Pages},
    wal::{Place, Wal},
};

/// Handles kept open for the next reader, at most: an idle file holds none for long.
const HANDLES_MAX: usize = 64;

pub(crate) struct DataFiles {
    pub wal: Arc<dyn Wal>,
    pub blobs: Arc<dyn Blobs>,
    handles: Mutex<VecDeque<(FileId, Arc<dyn Blob>)>>,
    ahead: ReadAhead,
    /// Something is to be read ahead.
    pub queued: Signal,
    buffers: Arc<Buffers>,
    pages: Mutex<PageCache>,
    turns: Turns,
    clock: Arc<dyn Clock>,
    /// Reads from this length on go past the machine's cache.
    long_len_min: u32,
}

/// Whether the disk may be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Memory,
    Disk,
}

impl DataFiles {
    pub fn new(
        wal: Arc<dyn Wal>,
        blobs: Arc<dyn Blobs>,
        clock: Arc<dyn Clock>,
        options: &StoreOptions,
    ) -> Self {
        DataFiles {
            wal,
            blobs,
            handles: Mutex::default(),
            ahead: ReadAhead::new(options.read_ahead_total_len, options.long_read_len_min),
            queued: Signal::new(),
            // Answers under way hold as much again.
            buffers: Arc::new(Buffers::new(options.read_ahead_total_len / 2)),
            pages: Mutex::new(PageCache::new(options.index_len_max)),
            turns: Turns::default(),
            clock,
            long_len_min: options.long_read_len_min,
        }
    }

    /// The bytes, if they are in the WAL's tail.
    pub fn in_tail(&self, file: FileId, at: u64, len: u32) -> Option<Bytes> {
        match file {
            FileId::Wal(number) => self.wal.tail(Place { file: number, at }, len),
            FileId::Segment(_) => None,
        }
    }

    /// The bytes, from the file if need be. Blocks on the disk. [`model::ErrorKind::NotFound`] when the file is gone:
    /// what lay there has been copied elsewhere, or nothing of it is live.
    pub fn read(&self, file: FileId, at: u64, len: u32) -> Result<Bytes> {
        if let Some(bytes) = self.in_tail(file, at, len) {
            return Ok(bytes);
        }
        match self.ahead.here(file, at) {
            Some(bytes) if bytes.len() >= len as usize => Ok(bytes.slice(..len as usize)),
            _ => self.read_file(file, at, len),
        }
    }

    /// The bytes, from the file whatever is in memory; as [`DataFiles::read`] but for that.
    pub fn read_file(&self, file: FileId, at: u64, len: u32) -> Result<Bytes> {
        self.load(file, at, len).map(|loaded| loaded.bytes)
    }

    fn load(&self, file: FileId, at: u64, len: u32) -> Result<Loaded> {
        let _turn = self.turns.take(len as usize);
        let read = |blob: &dyn Blob| match len >= self.long_len_min {
            true => self.buffers.read(blob, at, len),
            false => blob.read(at, len).map(|bytes| Loaded { bytes, held_len: len as usize }),
        };
        match read(&*self.open(file)?) {
            // The handle may be from when the file was shorter.
            Err(error) if error.kind() == ErrorKind::Invalid => {
                self.close_handle(file);
                // What lies behind the end of its file is damage like any other: the rest is served.
                read(&*self.open(file)?).map_err(|error| match error.kind() {
                    ErrorKind::Invalid => Error::corrupt(error.to_string()),
                    _ => error,
                })
            }
            read => read,
        }
    }

    /// What was read ahead from `at` on, as far as it goes.
    pub fn here(&self, file: FileId, at: u64) -> Option<Bytes> {
        self.ahead.here(file, at)
    }

    /// A reader has had `len` bytes of what was read ahead, from `at` on.
    pub fn passed(&self, file: FileId, at: u64, len: u32) {
        self.ahead.passed(file, at, len, self.clock.mono_ns());
    }

    /// Like [`DataFiles::here`], but waits for what is on its way, and reads what was to be read ahead and is not on its
    /// way yet. `None` when nothing was to be.
    pub fn arriving(&self, file: FileId, at: u64) -> Result<Option<Bytes>> {
        loop {
            match self.ahead.find(file, at) {
                Found::Here(bytes) => return Ok(Some(bytes)),
                Found::Reading => self.ahead.wait(file, at),
                Found::Taken(from, len) => {
                    let loaded = self.load(file, from, len)?;
                    let bytes = loaded.bytes.clone();
                    self.ahead.keep(file, from, loaded, self.clock.mono_ns());
                    let skip = usize::try_from(at - from).unwrap_or(usize::MAX);
                    return Ok((skip < bytes.len()).then(|| bytes.slice(skip..)));
                }
                Found::Nothing => return Ok(None),
            }
        }
    }

    /// Bytes to read ahead for a reader who should have `wanted` of them.
    pub fn window(&self, wanted: u32) -> u32 {
        u32::try_from(self.ahead.window(wanted as usize)).unwrap_or(u32::MAX)
    }

    /// Where what is read ahead at `at`, or is to be, ends.
    pub fn covered(&self, file: FileId, at: u64) -> Option<u64> {
        self.ahead.covered(file, at)
    }

    /// Makes it known that a range is to be read ahead; false when there is no room. [`DataFiles::queued`] is to be raised
    /// once all are known.
    pub fn queue_ahead(&self, file: FileId, at: u64, len: u32) -> bool {
        self.ahead.queue(file, at, len, self.clock.mono_ns())
    }

    /// Ranges whose turn it is to be read ahead, and when the next one's is.
    pub fn ripe(&self) -> (Vec<(FileId, u64)>, Option<u64>) {
        self.ahead.ripe(self.clock.mono_ns())
    }

    /// Reads the queued range that `at` is in, unless somebody came first. Blocks on the disk. What cannot be read is its
    /// reader's trouble.
    pub fn read_ahead(&self, file: FileId, at: u64) {
        if let Some((at, len)) = self.ahead.begin(file, at) {
            self.ahead.end(file, at, self.load(file, at, len).ok());
        }
    }

    /// Gives up what was read ahead and nobody came for in a long time, and its memory. When to look again, if there is
    /// anything left.
    pub fn give_up_idle(&self) -> Option<u64> {
        let now_ns = self.clock.mono_ns();
        let next_ns = self.ahead.give_up_idle(now_ns);
        if next_ns.is_none() {
            self.buffers.give_up();
        }
        next_ns
    }

    /// Whether a read of `len` bytes goes past the machine's cache, which then knows nothing of it.
    pub fn is_long(&self, len: u32) -> bool {
        len >= self.long_len_min
    }

    /// Forgets what was read ahead of `len` bytes at `at`: they are not what they should be.
    pub fn forget_ahead(&self, file: FileId, at: u64, len: u32) {
        self.ahead.forget_within(file, at..at + u64::from(len));
    }

    /// Has these bytes in memory as if they had been read ahead.
    #[cfg(test)]
    pub fn plant_ahead(&self, file: FileId, at: u64, bytes: Bytes) {
        let held_len = bytes.len();
        self.ahead.keep(file, at, Loaded { bytes, held_len }, self.clock.mono_ns());
    }

    /// The stretch of `extent` to read for batches from `from` on, about `len` bytes of it. `None` when only the disk
    /// could say. An index that does not read is reported, and done without: the stretch is then the whole extent.
    pub fn stretch(
        &self,
        log: LogId,
        extent: &Extent,
        from: Offset,
        len: usize,
        source: Source,
    ) -> Option<Stretch> {
        match &extent.index {
            Index::None => Some(cut(&[], extent, from, len)),
            Index::Points(points) => Some(cut(points, extent, from, len)),
            Index::Footer => {
                match self.look_up(extent.file, source, |index| index.cut(log, extent, from, len)) {
                    Ok(stretch) => Some(stretch),
                    Err(Miss::NotInMemory) => None,
                    Err(Miss::Failed(error)) => {
                        tracing::debug!(file = ?extent.file, %error, "an extent is read without its index");
                        Some(cut(&[], extent, from, len))
                    }
                }
            }
        }
    }

    /// Where, at or after `from`, the first stretch of a flushed extent begins that holds a time of `at_ms` or later;
    /// `None` when none does. Blocks on the disk. Without an index that reads, `from` within the extent.
    pub fn late(&self, log: LogId, extent: &Extent, from: Offset, at_ms: i64, of: TimeOf) -> Option<Offset> {
        let found = self.look_up(extent.file, Source::Disk, |index| index.late(log, extent, from, at_ms, of));
        found.unwrap_or_else(|_| Some(from.max(extent.base)))
    }

    /// Runs `look` over the footer of `file`.
    fn look_up<T>(
        &self,
        file: FileId,
        source: Source,
        look: impl FnOnce(&Lookup<'_>) -> Result<T, Miss>,
    ) -> Result<T, Miss> {
        let pages = FilePages { files: self, file, source };
        let footer = pages.footer()?;
        look(&Lookup { footer: &footer, pages: &InFooter { pages: &pages, footer: &footer } })
    }

    /// Bytes that pages of footers take in memory, and how many were found damaged.
    pub fn index_figures(&self) -> (usize, usize) {
        let pages = self.pages.lock();
        (pages.len(), pages.aside())
    }

    /// Lets the machine fetch bytes into its cache that a reader will ask for next. Advice: what cannot be opened is
    /// somebody else's trouble.
    pub fn will_need(&self, file: FileId, at: u64, len: u32) {
        if let Ok(blob) = self.open(file) {
            blob.will_need(at, len);
        }
    }

    /// Pins a file.
    pub fn open(&self, file: FileId) -> Result<Arc<dyn Blob>> {
        if let Some((_, blob)) = self.handles.lock().iter().find(|(id, _)| *id == file) {
            return Ok(blob.clone());
        }
        let blob = match file {
            FileId::Wal(number) => self.wal.open_file(number)?,
            FileId::Segment(number) => self.blobs.open(&segment_name(number))?,
        };
        let mut handles = self.handles.lock();
        if handles.len() >= HANDLES_MAX {
            handles.pop_front();
        }
        handles.push_back((file, blob.clone()));
        Ok(blob)
    }

    /// Gives up the handle of a file that is about to go or to change its length.
    pub fn close(&self, file: FileId) {
        self.close_handle(file);
        self.ahead.forget(file);
    }

    fn close_handle(&self, file: FileId) {
        self.handles.lock().retain(|(id, _)| *id != file);
        self.pages.lock().forget(file);
    }
}

/// The pages of one file's footer, from memory or from the disk.
struct FilePages<'a> {
    files: &'a DataFiles,
    file: FileId,
    source: Source,
}

impl FilePages<'_> {
    fn footer(&self) -> Result<Footer, Miss> {
        match self.cached(TRAILER, |blob| Footer::read(blob).map(Cached::Footer))? {
            Cached::Footer(footer) => Ok(footer),
            Cached::Page(_) => Err(Miss::Failed(Error::internal("a page is filed as a trailer"))),
        }
    }

    fn cached(&self, at: u64, read: impl FnOnce(&dyn Blob) -> Result<Cached>) -> Result<Cached, Miss> {
        {
            let mut pages = self.files.pages.lock();
            if let Some(found) = pages.find(self.file, at) {
                return Ok(found);
            }
            if pages.is_aside(self.file, at) {
                return Err(Miss::Failed(Error::corrupt("a page that was found damaged before")));
            }
        }
        if self.source == Source::Memory {
            return Err(Miss::NotInMemory);
        }
        match self.files.open(self.file).and_then(|blob| read(&*blob)) {
            Ok(found) => {
                self.files.pages.lock().keep(self.file, at, found.clone());
                Ok(found)
            }
            Err(error) => {
                self.report(at, &error);
                Err(Miss::Failed(error))
            }
        }
    }

    /// Damage is reported once. A file that is gone, or a disk that cannot be read right now, says nothing of the page.
    fn report(&self, at: u64, error: &Error) {
        let damaged = error.kind() == ErrorKind::Corrupt;
        if damaged && self.files.pages.lock().set_aside(self.file, at) {
            tracing::error!(
                file = ?self.file, page = at, %error,
                "a page of a segment's index is damaged; what it describes is read without it"
            );
        }
    }
}

struct InFooter<'a> {
    pages: &'a FilePages<'a>,
    footer: &'a Footer,
}

impl Pages for InFooter<'_> {
    fn page(&self, page: &Child) -> Result<Arc<Page>, Miss> {
        let read = |blob: &dyn Blob| self.footer.page(blob, page).map(|page| Cached::Page(Arc::new(page)));
        match self.pages.cached(page.at, read)? {
            Cached::Page(page) => Ok(page),
            Cached::Footer(_) => Err(Miss::Failed(Error::internal("a trailer is filed as a page"))),
        }
    }
}

/// What the names of segments' blobs begin with.
pub(crate) const SEGMENT_PREFIX: &str = "segment-";

/// Name of a segment's blob.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{SEGMENT_PREFIX}{number:016}")
}

/// The numbers of all segments that there are, ascending.
pub(crate) fn segments(blobs: &dyn Blobs) -> Result<Vec<u64>> {
    blobs::numbers(blobs, SEGMENT_PREFIX)
}

/// The same with their lengths in bytes.
pub(crate) fn segment_lens(blobs: &dyn Blobs) -> Result<Vec<(u64, u64)>> {
    blobs::numbers_and_lens(blobs, SEGMENT_PREFIX)
}
