//! Bytes of WAL files and segments for readers: handles that pin what is read, what was read ahead, and the pages of
//! footers that were looked at last.

mod pages;
mod turns;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use bytes::Bytes;
use model::{Error, ErrorKind, LogId, Offset, Result};
use parking_lot::Mutex;

use self::{
    pages::{Cached, PageCache, TRAILER},
    turns::Turns,
};
use crate::{
    TimeOf,
    blobs::{Blob, Blobs},
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
    ahead: Mutex<ReadAhead>,
    pages: Mutex<PageCache>,
    turns: Turns,
}

/// Whether the disk may be asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Memory,
    Disk,
}

#[derive(Default)]
struct ReadAhead {
    blocks: BTreeMap<(FileId, u64), Bytes>,
    /// In the order in which they came.
    order: VecDeque<(FileId, u64)>,
    len: usize,
    len_max: usize,
}

impl DataFiles {
    pub fn new(wal: Arc<dyn Wal>, blobs: Arc<dyn Blobs>, ahead_len_max: usize, index_len_max: usize) -> Self {
        let ahead = ReadAhead { len_max: ahead_len_max, ..ReadAhead::default() };
        DataFiles {
            wal,
            blobs,
            handles: Mutex::default(),
            ahead: Mutex::new(ahead),
            pages: Mutex::new(PageCache::new(index_len_max)),
            turns: Turns::default(),
        }
    }

    /// The bytes, if they are in memory: in the WAL's tail or read ahead.
    pub fn in_memory(&self, file: FileId, at: u64, len: u32) -> Option<Bytes> {
        let tail = match file {
            FileId::Wal(number) => self.wal.tail(Place { file: number, at }, len),
            FileId::Segment(_) => None,
        };
        tail.or_else(|| self.ahead.lock().find(file, at, len))
    }

    /// The bytes, from the file if need be. Blocks on the disk. [`model::ErrorKind::NotFound`] when the file is gone:
    /// what lay there has been copied elsewhere, or nothing of it is live.
    pub fn read(&self, file: FileId, at: u64, len: u32) -> Result<Bytes> {
        if let Some(bytes) = self.in_memory(file, at, len) {
            return Ok(bytes);
        }
        let _turn = self.turns.take(len as usize);
        match self.open(file)?.read(at, len) {
            // The handle may be from when the file was shorter.
            Err(error) if error.kind() == ErrorKind::Invalid => {
                self.close(file);
                // What lies behind the end of its file is damage like any other: the rest is served.
                self.open(file)?.read(at, len).map_err(|error| match error.kind() {
                    ErrorKind::Invalid => Error::corrupt(error.to_string()),
                    _ => error,
                })
            }
            read => read,
        }
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

    /// Keeps bytes that a reader will ask for next.
    pub fn keep_ahead(&self, file: FileId, at: u64, bytes: Bytes) {
        self.ahead.lock().keep(file, at, bytes);
    }

    /// Lets the machine fetch bytes that a reader will ask for next, unless they are in memory. Advice: what cannot be
    /// opened is somebody else's trouble.
    pub fn will_need(&self, file: FileId, at: u64, len: u32) {
        if self.in_memory(file, at, len).is_none()
            && let Ok(blob) = self.open(file)
        {
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

impl ReadAhead {
    fn find(&self, file: FileId, at: u64, len: u32) -> Option<Bytes> {
        let ((found, from), bytes) = self.blocks.range(..=(file, at)).next_back()?;
        let skip = usize::try_from(at - if *found == file { *from } else { return None }).ok()?;
        let end = skip.checked_add(len as usize)?;
        (end <= bytes.len()).then(|| bytes.slice(skip..end))
    }

    fn keep(&mut self, file: FileId, at: u64, bytes: Bytes) {
        self.len += bytes.len();
        match self.blocks.insert((file, at), bytes) {
            Some(before) => self.len -= before.len(),
            None => self.order.push_back((file, at)),
        }
        while self.len > self.len_max {
            let Some(oldest) = self.order.pop_front() else { return };
            self.len -= self.blocks.remove(&oldest).map_or(0, |bytes| bytes.len());
        }
    }
}

/// What the names of segments' blobs begin with.
pub(crate) const SEGMENT_PREFIX: &str = "segment-";

/// Name of a segment's blob.
pub(crate) fn segment_name(number: u64) -> String {
    format!("{SEGMENT_PREFIX}{number:016}")
}

/// The segment's number in the name of its blob.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    name.strip_prefix(SEGMENT_PREFIX)?.parse().ok()
}
