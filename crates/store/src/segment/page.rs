//! Pages of a footer: what they hold, and how they are told from damage.

use bytes::Bytes;
use model::{Error, LogId, Offset, Result};

use super::{APPEND_TIMES, CUT, EVENT_TIMES, EXTENT, OFFSETS, PAGE_LEN_MAX};
use crate::{
    TimeOf,
    wal::varint::{Reader, put_signed, put_varint},
};

/// The checksum behind a page.
const CRC_LEN: usize = 4;

/// A page that was read.
pub(crate) enum Page {
    Leaf(Vec<Part>),
    Directory(Vec<Child>),
}

/// A part of the sparse index of one log's extent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub log: LogId,
    /// Ascending; at least one.
    pub steps: Vec<Step>,
    /// Where the last stretch ends: the next one's offset and position, or those where the extent ends.
    pub end: (Offset, u64),
}

/// About [`crate::index::INDEX_STEP_LEN`] bytes of a file with batches of one log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    pub base: Offset,
    /// Where it begins in the file.
    pub at: u64,
    /// Latest append time in it, milliseconds since the Unix epoch.
    pub append_time_ms: i64,
    /// Latest event time in it, milliseconds since the Unix epoch.
    pub event_time_ms: i64,
}

/// What a directory says of a page one level below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    /// Level of that page; a directory has this from its own.
    pub level: u8,
    /// Where the page begins in the footer.
    pub at: u64,
    pub len: u32,
    /// The log and offset that the page begins with.
    pub log: LogId,
    pub offset: Offset,
    /// Latest append time in it, milliseconds since the Unix epoch.
    pub append_time_ms: i64,
    /// Latest event time in it, milliseconds since the Unix epoch.
    pub event_time_ms: i64,
}

impl Step {
    pub fn time_ms(&self, of: TimeOf) -> i64 {
        match of {
            TimeOf::Append => self.append_time_ms,
            TimeOf::Event => self.event_time_ms,
        }
    }
}

impl Child {
    /// A page that holds nothing yet.
    pub fn new(log: LogId, offset: Offset) -> Self {
        Child { level: 0, at: 0, len: 0, log, offset, append_time_ms: i64::MIN, event_time_ms: i64::MIN }
    }

    pub fn time_ms(&self, of: TimeOf) -> i64 {
        match of {
            TimeOf::Append => self.append_time_ms,
            TimeOf::Event => self.event_time_ms,
        }
    }
}

fn page_crc(at: u64, page: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&at.to_le_bytes());
    digest.update(page);
    digest.finalize() as u32
}

/// Appends `page` (its level first) with its checksum to the footer `out`, and completes what is said `about` it.
pub(super) fn seal(out: &mut Vec<u8>, page: &[u8], about: Child) -> Child {
    let at = out.len() as u64;
    out.extend_from_slice(page);
    out.extend_from_slice(&page_crc(at, page).to_le_bytes());
    let len = u32::try_from(page.len() + CRC_LEN).unwrap_or(u32::MAX);
    Child { level: page.first().copied().unwrap_or_default(), at, len, ..about }
}

pub(super) fn put_directory_begin(page: &mut Vec<u8>, first_at: u64) {
    put_varint(page, first_at);
}

pub(super) fn put_directory_child(page: &mut Vec<u8>, child: &Child) {
    put_varint(page, child.log.0);
    put_varint(page, child.offset.0);
    put_varint(page, u64::from(child.len));
    put_signed(page, child.append_time_ms);
    put_signed(page, child.event_time_ms.wrapping_sub(child.append_time_ms));
}

impl Page {
    /// Reads the page of `level` that begins at `at` in its footer. [`model::ErrorKind::Corrupt`] when it fails its checks.
    pub fn decode(at: u64, level: u8, bytes: &Bytes) -> Result<Page> {
        let damaged =
            || Error::corrupt(format!("a page of a segment's index, {at} into it, fails its checks"));
        let (page, crc) = bytes.split_last_chunk::<CRC_LEN>().ok_or_else(damaged)?;
        if page_crc(at, page) != u32::from_le_bytes(*crc) {
            return Err(damaged());
        }
        match page.split_first() {
            Some((0, content)) if level == 0 => Page::leaf(content),
            Some((own, content)) if *own == level => directory(level, at, content).map(Page::Directory),
            _ => Err(damaged()),
        }
    }

    /// Reads a list of blocks.
    pub fn leaf(content: &[u8]) -> Result<Page> {
        let mut reader = Reader::new(content);
        let mut parts: Vec<Part> = Vec::new();
        let mut current: Option<Extent> = None;
        while reader.left() > 0 {
            let kind = reader.u8()?;
            let mut payload = Reader::new(reader.slice()?);
            match (kind, &current) {
                (EXTENT, _) => {
                    let extent = Extent::take(&mut payload)?;
                    parts.push(extent.whole());
                    current = Some(extent);
                }
                (OFFSETS, Some(extent)) => set_last(&mut parts, |part| {
                    part.steps = extent.take_offsets(&mut payload)?;
                    Ok(())
                })?,
                (APPEND_TIMES, Some(_)) => set_last(&mut parts, |part| {
                    take_times(&mut payload, part, |step, time| step.append_time_ms = time)
                })?,
                (EVENT_TIMES, Some(_)) => set_last(&mut parts, |part| {
                    take_times(&mut payload, part, |step, time| step.event_time_ms = time)
                })?,
                (CUT, Some(extent)) => set_last(&mut parts, |part| {
                    part.end = extent.place(payload.narrow()?, payload.narrow()?);
                    Ok(())
                })?,
                _ => {}
            }
        }
        Ok(Page::Leaf(parts))
    }

    /// About how many bytes of memory it takes.
    pub fn held_len(&self) -> usize {
        match self {
            Page::Leaf(parts) => {
                let of_part = |part: &Part| size_of::<Part>() + part.steps.len() * size_of::<Step>();
                parts.iter().map(of_part).sum()
            }
            Page::Directory(children) => children.len() * size_of::<Child>(),
        }
    }
}

fn directory(level: u8, own_at: u64, content: &[u8]) -> Result<Vec<Child>> {
    let damaged = || Error::corrupt("a directory of a segment's index names pages that cannot be");
    let mut reader = Reader::new(content);
    let mut at = reader.varint()?;
    let mut children: Vec<Child> = Vec::new();
    while reader.left() > 0 {
        let (log, offset, len) = (LogId(reader.varint()?), Offset(reader.varint()?), reader.narrow()?);
        let append_time_ms = reader.signed()?;
        let event_time_ms = append_time_ms.wrapping_add(reader.signed()?);
        let child = Child { level: level - 1, at, len, log, offset, append_time_ms, event_time_ms };
        at = at.checked_add(u64::from(len)).ok_or_else(damaged)?;
        let ascends = children.last().is_none_or(|before| (before.log, before.offset) <= (log, offset));
        // What a directory names lies before it: there is no way round in a circle.
        if len > PAGE_LEN_MAX || at > own_at || !ascends {
            return Err(damaged());
        }
        children.push(child);
    }
    Ok(children)
}

fn set_last(parts: &mut [Part], set: impl FnOnce(&mut Part) -> Result<()>) -> Result<()> {
    parts.last_mut().map_or(Ok(()), set)
}

/// What an extent block says.
struct Extent {
    log: LogId,
    base: Offset,
    at: u64,
    len: u32,
    count: u32,
}

impl Extent {
    fn take(payload: &mut Reader<'_>) -> Result<Self> {
        Ok(Extent {
            log: LogId(payload.varint()?),
            base: Offset(payload.varint()?),
            at: payload.varint()?,
            len: payload.narrow()?,
            count: payload.narrow()?,
        })
    }

    /// Without an index it is one stretch, of which no time is known.
    fn whole(&self) -> Part {
        let first = Step { base: self.base, at: self.at, append_time_ms: i64::MAX, event_time_ms: i64::MAX };
        Part { log: self.log, steps: vec![first], end: self.place(self.count, self.len) }
    }

    fn place(&self, base: u32, at: u32) -> (Offset, u64) {
        (self.base.plus(u64::from(base)), self.at.saturating_add(u64::from(at)))
    }

    fn take_offsets(&self, payload: &mut Reader<'_>) -> Result<Vec<Step>> {
        let mut steps: Vec<Step> = Vec::new();
        while payload.left() > 0 {
            let (base, at) = self.place(payload.narrow()?, payload.narrow()?);
            if steps.last().is_some_and(|before| before.base >= base || before.at >= at) {
                return Err(Error::corrupt("a segment's index goes back"));
            }
            steps.push(Step { base, at, append_time_ms: 0, event_time_ms: 0 });
        }
        match steps.is_empty() {
            true => Err(Error::corrupt("a segment's index is empty")),
            false => Ok(steps),
        }
    }
}

fn take_times(payload: &mut Reader<'_>, part: &mut Part, set: impl Fn(&mut Step, i64)) -> Result<()> {
    let mut time = 0i64;
    for step in &mut part.steps {
        time = time.wrapping_add(payload.signed()?);
        set(step, time);
    }
    Ok(())
}
