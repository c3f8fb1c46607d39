//! Writes footers.

use model::{LogId, Offset};

use super::{
    APPEND_TIMES, CUT, EVENT_TIMES, EXTENT, MAGIC, OFFSETS, PAGE_LEN, VERSION, crc,
    page::{Child, put_directory_begin, put_directory_child, seal},
};
use crate::{
    log::live::{Extent, Index, Point},
    wal::varint::{put_signed, put_slice, put_varint},
};

/// Points that go into a page at once: their blocks take about ten bytes each.
const POINTS_PER_PART: usize = PAGE_LEN / 16;

/// Builds a footer. Extents come in the order of their logs' ids and offsets.
#[derive(Default)]
pub(crate) struct FooterWriter {
    /// Sealed pages.
    out: Vec<u8>,
    /// The leaf that grows, its level first.
    leaf: Vec<u8>,
    payload: Vec<u8>,
    /// What the growing leaf's entry in its directory will say; `None` while it is empty.
    about: Option<Child>,
    leaves: Vec<Child>,
}

impl FooterWriter {
    /// Adds an extent of `log` with its index.
    pub fn extent(&mut self, log: LogId, extent: &Extent) {
        let Index::Points(points) = &extent.index else {
            self.open(log, extent.base);
            self.extent_block(log, extent);
            return self.close_part(extent.append_time_ms, extent.event_time_ms);
        };
        let mut rest = &points[..];
        while !rest.is_empty() {
            let (part, later) = rest.split_at(rest.len().min(POINTS_PER_PART));
            rest = later;
            self.part(log, extent, part, later.first());
        }
    }

    /// Adds a part of an extent's index; `next` is the point behind it.
    fn part(&mut self, log: LogId, extent: &Extent, points: &[Point], next: Option<&Point>) {
        let Some(first) = points.first() else { return };
        self.open(log, extent.base.plus(u64::from(first.base)));
        self.extent_block(log, extent);
        for point in points {
            put_varint(&mut self.payload, u64::from(point.base));
            put_varint(&mut self.payload, u64::from(point.at));
        }
        self.block(OFFSETS);
        self.times(APPEND_TIMES, points, |point| point.append_time_ms);
        self.times(EVENT_TIMES, points, |point| point.event_time_ms);
        if let Some(next) = next {
            put_varint(&mut self.payload, u64::from(next.base));
            put_varint(&mut self.payload, u64::from(next.at));
            self.block(CUT);
        }
        let latest = |time: fn(&Point) -> i64| points.iter().map(time).max().unwrap_or(i64::MIN);
        self.close_part(latest(|point| point.append_time_ms), latest(|point| point.event_time_ms));
    }

    fn extent_block(&mut self, log: LogId, extent: &Extent) {
        let fields = [
            log.0,
            extent.base.0,
            extent.at,
            u64::from(extent.len),
            u64::from(extent.count),
            u64::from(extent.stored),
        ];
        fields.into_iter().for_each(|field| put_varint(&mut self.payload, field));
        self.block(EXTENT);
    }

    fn times(&mut self, kind: u8, points: &[Point], time: impl Fn(&Point) -> i64) {
        let mut before = 0i64;
        for point in points {
            put_signed(&mut self.payload, time(point).wrapping_sub(before));
            before = time(point);
        }
        self.block(kind);
    }

    fn block(&mut self, kind: u8) {
        self.leaf.push(kind);
        put_slice(&mut self.leaf, &self.payload);
        self.payload.clear();
    }

    /// Makes the leaf ready for a part that begins at `offset`.
    fn open(&mut self, log: LogId, offset: Offset) {
        if self.about.is_none() {
            self.leaf.push(0);
            self.about = Some(Child::new(log, offset));
        }
    }

    fn close_part(&mut self, append_time_ms: i64, event_time_ms: i64) {
        if let Some(about) = &mut self.about {
            about.append_time_ms = about.append_time_ms.max(append_time_ms);
            about.event_time_ms = about.event_time_ms.max(event_time_ms);
        }
        if self.leaf.len() >= PAGE_LEN {
            self.close_leaf();
        }
    }

    fn close_leaf(&mut self) {
        if let Some(about) = self.about.take() {
            let child = seal(&mut self.out, &self.leaf, about);
            self.leaf.clear();
            self.leaves.push(child);
        }
    }

    /// The footer's bytes. A footer of nothing is one empty leaf.
    pub fn finish(mut self) -> Vec<u8> {
        if self.leaves.is_empty() {
            self.open(LogId(0), Offset::ZERO);
        }
        self.close_leaf();
        let mut pages = std::mem::take(&mut self.leaves);
        let mut level = 0;
        while pages.len() > 1 {
            level += 1;
            pages = directories(&mut self.out, level, &pages);
        }
        let root_len = pages.first().map_or(0, |root| root.len);
        let mut out = self.out;
        let mut trailer = (out.len() as u64).to_le_bytes().to_vec();
        trailer.extend_from_slice(&root_len.to_le_bytes());
        let crc = crc(&trailer);
        out.extend_from_slice(&trailer);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(MAGIC);
        out
    }
}

/// Writes the directories over `pages`, which lie one behind the other, and answers what says where those are.
fn directories(out: &mut Vec<u8>, level: u8, pages: &[Child]) -> Vec<Child> {
    let mut above = Vec::new();
    let mut rest = pages;
    while let Some(first) = rest.first() {
        let mut page = vec![level];
        let mut about = Child::new(first.log, first.offset);
        put_directory_begin(&mut page, first.at);
        let mut taken = 0;
        // At least two, so that every level is shorter than the one below it.
        while let Some(child) = rest.get(taken)
            && (page.len() < PAGE_LEN || taken < 2)
        {
            put_directory_child(&mut page, child);
            about.append_time_ms = about.append_time_ms.max(child.append_time_ms);
            about.event_time_ms = about.event_time_ms.max(child.event_time_ms);
            taken += 1;
        }
        above.push(seal(out, &page, about));
        rest = rest.get(taken..).unwrap_or_default();
    }
    above
}
