//! Looks things up in a footer, a page per level.

use std::sync::Arc;

use bytes::Bytes;
use model::{Error, LogId, Offset, Result};

use super::{
    MAGIC, PAGE_LEN_MAX, VERSION, crc,
    page::{Child, Page, Part},
};
use crate::{
    TimeOf,
    blobs::Blob,
    index::{Stretch, cut},
    log::live::Extent,
    wal::varint::Reader,
};

const TRAILER_LEN: usize = 24;
const TRAILER_LEN_V1: usize = 16;

/// The list of blocks of a footer of version 1, at most: what 64 MiB of the smallest extents need, and far less than a
/// length could claim.
const BLOCKS_LEN_MAX: u32 = 64 << 20;

/// Where the pages of one file's footer are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Footer {
    /// Where the first page begins in the file.
    begins_at: u64,
    root: Child,
    /// Of a footer of version 1: the checksum of its only page.
    plain_crc: Option<u32>,
}

impl Footer {
    /// Reads the trailer at the end of `blob`. [`model::ErrorKind::Corrupt`] when it is not there or fails its checks.
    pub fn read(blob: &dyn Blob) -> Result<Footer> {
        let missing = || Error::corrupt("a segment has no footer");
        let len = blob.len().min(TRAILER_LEN as u64);
        let at = blob.len() - len;
        let trailer = blob.read(at, u32::try_from(len).unwrap_or(0))?;
        let (rest, tail) = trailer.split_last_chunk::<8>().ok_or_else(missing)?;
        let (version, magic) = tail.split_at(2);
        if magic != MAGIC {
            return Err(missing());
        }
        match version.first_chunk().map_or(0, |version| u16::from_le_bytes(*version)) {
            1 => Footer::plain(blob.len(), rest),
            VERSION => Footer::paged(at, rest),
            newer => Err(Error::corrupt(format!(
                "a segment's footer is of version {newer}, which this program does not read"
            ))),
        }
    }

    fn plain(blob_len: u64, trailer: &[u8]) -> Result<Footer> {
        let (_, fields) = trailer.split_last_chunk::<8>().ok_or_else(|| Error::corrupt("a footer is cut"))?;
        let mut reader = Reader::new(fields);
        let (len, crc) = (reader.u32()?, reader.u32()?);
        let begins_at = blob_len.checked_sub(TRAILER_LEN_V1 as u64 + u64::from(len));
        let begins_at = begins_at.filter(|_| len <= BLOCKS_LEN_MAX).ok_or_else(too_long)?;
        let unknown = Child::new(LogId(0), Offset::ZERO);
        let root = Child { len, append_time_ms: i64::MAX, event_time_ms: i64::MAX, ..unknown };
        Ok(Footer { begins_at, root, plain_crc: Some(crc) })
    }

    fn paged(trailer_at: u64, trailer: &[u8]) -> Result<Footer> {
        let mut reader = Reader::new(trailer);
        let (len, root_len) = (u64::from_le_bytes(reader.array()?), reader.u32()?);
        if trailer.get(..12).map(crc) != Some(reader.u32()?) {
            return Err(Error::corrupt("the trailer of a segment's footer fails its checksum"));
        }
        let begins_at = trailer_at.checked_sub(len).ok_or_else(too_long)?;
        let at = len.checked_sub(u64::from(root_len)).filter(|_| root_len <= PAGE_LEN_MAX);
        let unknown = Child::new(LogId(0), Offset::ZERO);
        let root = Child {
            level: ROOT,
            at: at.ok_or_else(too_long)?,
            len: root_len,
            append_time_ms: i64::MAX,
            event_time_ms: i64::MAX,
            ..unknown
        };
        Ok(Footer { begins_at, root, plain_crc: None })
    }

    /// Reads one of its pages.
    pub fn page(&self, blob: &dyn Blob, page: &Child) -> Result<Page> {
        let bytes = blob.read(self.begins_at.saturating_add(page.at), page.len)?;
        match self.plain_crc {
            Some(expected) if crc(&bytes) == expected => Page::leaf(&bytes),
            Some(_) => Err(Error::corrupt("a segment's footer fails its checksum")),
            None => Page::decode(page.at, level_of(page, &bytes), &bytes),
        }
    }
}

/// Stands for the root's level, which the page itself says.
const ROOT: u8 = u8::MAX;

fn level_of(page: &Child, bytes: &Bytes) -> u8 {
    match page.level {
        ROOT => bytes.first().copied().unwrap_or_default(),
        level => level,
    }
}

fn too_long() -> Error {
    Error::corrupt("a segment's footer is longer than can be")
}

/// Why a page is not at hand.
#[derive(Debug)]
pub(crate) enum Miss {
    /// It would have to be read from the disk, which was not asked for.
    NotInMemory,
    /// It cannot be read.
    Failed(Error),
}

/// Gives out pages of one footer.
pub(crate) trait Pages {
    fn page(&self, page: &Child) -> Result<Arc<Page>, Miss>;
}

/// Looks things up in one footer.
pub(crate) struct Lookup<'a> {
    pub footer: &'a Footer,
    pub pages: &'a dyn Pages,
}

/// What a search by time is after.
struct Late {
    log: LogId,
    from: Offset,
    end: Offset,
    at_ms: i64,
    of: TimeOf,
}

impl Lookup<'_> {
    /// The stretch of `extent` to read for batches from `from` on: about `len` bytes, or up to where a page's part of the
    /// index ends. The whole extent when the index does not know it.
    pub fn cut(&self, log: LogId, extent: &Extent, from: Offset, len: usize) -> Result<Stretch, Miss> {
        let unknown = Ok(cut(&[], extent, from, len));
        let Some(found) = self.part_at(log, from)? else { return unknown };
        let Some(part) = found.get() else { return unknown };
        let (begins_at, ends_at) = (extent.at, extent.at + u64::from(extent.len));
        let first = part.steps.partition_point(|step| step.base <= from).saturating_sub(1);
        let Some(step) = part.steps.get(first) else { return unknown };
        let at = step.at.max(begins_at);
        if part.end.1 <= at || at >= ends_at {
            return unknown;
        }
        let stop = at.saturating_add(len as u64);
        let later = part.steps.iter().skip(first + 1).map(|step| (step.base, step.at));
        let (end, end_at) = later.chain([part.end]).find(|(_, at)| *at >= stop).unwrap_or(part.end);
        let narrow = |len: u64| u32::try_from(len).unwrap_or(u32::MAX);
        Ok(match end_at >= ends_at || end >= extent.end() {
            true => Stretch {
                at: narrow(at - begins_at),
                len: narrow(ends_at - at),
                end: extent.end(),
                last: true,
            },
            false => Stretch { at: narrow(at - begins_at), len: narrow(end_at - at), end, last: false },
        })
    }

    /// Where the first stretch of `extent` begins that ends after `from` and holds a time of `at_ms` or later (`from`
    /// within it). `None` when there is none.
    pub fn late(
        &self,
        log: LogId,
        extent: &Extent,
        from: Offset,
        at_ms: i64,
        of: TimeOf,
    ) -> Result<Option<Offset>, Miss> {
        let from = from.max(extent.base);
        let late = Late { log, from, end: extent.end(), at_ms, of };
        if let Some(found) = self.late_in(&self.footer.root, &late)? {
            return Ok(Some(found));
        }
        // Nothing late, or nothing known? What the index does not reach is to be looked through.
        let last = self.part_at(log, Offset(extent.end().0.saturating_sub(1)))?;
        let knows = last.as_ref().and_then(Found::get).is_some_and(|part| part.end.0 >= extent.end());
        Ok(if knows { None } else { Some(from) })
    }

    fn late_in(&self, page: &Child, late: &Late) -> Result<Option<Offset>, Miss> {
        match &*self.pages.page(page)? {
            Page::Leaf(parts) => Ok(parts.iter().find_map(|part| late.first_in(part))),
            Page::Directory(children) => {
                let key = (late.log, late.from);
                let first = children.partition_point(|child| (child.log, child.offset) <= key);
                for child in children.iter().skip(first.saturating_sub(1)) {
                    if (child.log, child.offset) >= (late.log, late.end) {
                        break;
                    }
                    if child.time_ms(late.of) >= late.at_ms
                        && let Some(found) = self.late_in(child, late)?
                    {
                        return Ok(Some(found));
                    }
                }
                Ok(None)
            }
        }
    }

    /// The last part of `log` that begins at or before `offset`.
    fn part_at(&self, log: LogId, offset: Offset) -> Result<Option<Found>, Miss> {
        let mut at = self.footer.root;
        loop {
            let page = self.pages.page(&at)?;
            let before = |log_of: LogId, from: Offset| (log_of, from) <= (log, offset);
            match &*page {
                Page::Directory(children) => {
                    let after = children.partition_point(|child| before(child.log, child.offset));
                    match after.checked_sub(1).and_then(|last| children.get(last)) {
                        Some(child) => at = *child,
                        None => return Ok(None),
                    }
                }
                Page::Leaf(parts) => {
                    let begins = |part: &Part| part.steps.first().map_or(Offset::ZERO, |step| step.base);
                    let after = parts.partition_point(|part| before(part.log, begins(part)));
                    let found = after.checked_sub(1).map(|index| Found { page: page.clone(), index });
                    return Ok(found.filter(|found| found.get().is_some_and(|part| part.log == log)));
                }
            }
        }
    }
}

impl Late {
    fn first_in(&self, part: &Part) -> Option<Offset> {
        if part.log != self.log {
            return None;
        }
        let ends = part.steps.iter().skip(1).map(|step| step.base).chain([part.end.0]);
        let wanted = part.steps.iter().zip(ends).find(|(step, end)| {
            *end > self.from && step.base < self.end && step.time_ms(self.of) >= self.at_ms
        });
        wanted.map(|(step, _)| step.base.max(self.from))
    }
}

/// A part in its page.
struct Found {
    page: Arc<Page>,
    index: usize,
}

impl Found {
    fn get(&self) -> Option<&Part> {
        match &*self.page {
            Page::Leaf(parts) => parts.get(self.index),
            Page::Directory(_) => None,
        }
    }
}
