use std::{cell::Cell, sync::Arc};

use bytes::Bytes;
use model::{ErrorKind, LogId, Offset, Result};

use super::*;
use crate::{
    TimeOf,
    blobs::Blob,
    index::{INDEX_STEP_LEN, cut},
    log::live::{Extent, FileId, Index, Point},
    wal::varint::{put_signed, put_slice, put_varint},
};

struct Memory {
    bytes: Bytes,
    reads: Cell<usize>,
}

// The counter is looked at by the test's own thread alone.
struct Shared(parking_lot::Mutex<Memory>);

impl Blob for Shared {
    fn read(&self, at: u64, len: u32) -> Result<Bytes> {
        let memory = self.0.lock();
        memory.reads.set(memory.reads.get() + 1);
        let at = usize::try_from(at).unwrap();
        match memory.bytes.len() < at + len as usize {
            true => Err(model::Error::invalid("past the end")),
            false => Ok(memory.bytes.slice(at..at + len as usize)),
        }
    }

    fn len(&self) -> u64 {
        self.0.lock().bytes.len() as u64
    }
}

fn blob(bytes: Vec<u8>) -> Shared {
    Shared(parking_lot::Mutex::new(Memory { bytes: bytes.into(), reads: Cell::new(0) }))
}

impl Shared {
    fn reads(&self) -> usize {
        self.0.lock().reads.replace(0)
    }
}

/// Pages straight from the blob.
struct Uncached<'a>(&'a Shared, Footer);

impl Pages for Uncached<'_> {
    fn page(&self, page: &Child) -> Result<Arc<Page>, Miss> {
        self.1.page(self.0, page).map(Arc::new).map_err(Miss::Failed)
    }
}

fn with<T>(blob: &Shared, look: impl FnOnce(&Lookup<'_>) -> Result<T, Miss>) -> Result<T, Miss> {
    let footer = Footer::read(blob).map_err(Miss::Failed)?;
    blob.reads();
    look(&Lookup { footer: &footer, pages: &Uncached(blob, footer) })
}

/// An extent of `steps` stretches of two offsets each, with times that rise by 10 from `first_ms` on and event times
/// that fall.
fn extent(base: u64, at: u64, steps: u32, first_ms: i64) -> Extent {
    let point = |n: u32| Point {
        base: n * 2,
        at: n * INDEX_STEP_LEN,
        append_time_ms: first_ms + 10 * i64::from(n),
        event_time_ms: -10 * i64::from(n),
    };
    let points: Vec<Point> = (0..steps).map(point).collect();
    Extent {
        file: FileId::Segment(1),
        at,
        base: Offset(base),
        len: steps * INDEX_STEP_LEN,
        count: steps * 2,
        stored: steps * 2,
        live: steps * 2,
        append_time_ms: points.last().map_or(0, |point| point.append_time_ms),
        event_time_ms: 0,
        index: if steps > 1 { Index::Points(points.into()) } else { Index::None },
        damaged: false,
    }
}

/// Logs 1 to `logs`, the n-th with extents of 1, 2, 300 and 1,500 stretches, 100 offsets and some bytes apart.
fn extents(logs: u64) -> Vec<(LogId, Extent)> {
    let mut out = Vec::new();
    let mut at = 5000;
    for log in 1..=logs {
        let (mut base, mut time) = (log, 1000);
        for steps in [1, 2, 300, 1500] {
            let next = extent(base, at, steps, time);
            (base, time) = (next.end().0 + 100, next.append_time_ms + 10);
            at += u64::from(next.len) + 64;
            out.push((LogId(log), next));
        }
    }
    out
}

fn written(extents: &[(LogId, Extent)]) -> Shared {
    let mut footer = FooterWriter::default();
    extents.iter().for_each(|(log, extent)| footer.extent(*log, extent));
    let mut bytes = vec![7; 1000];
    bytes.extend(footer.finish());
    blob(bytes)
}

fn points(extent: &Extent) -> &[Point] {
    match &extent.index {
        Index::Points(points) => points,
        _ => &[],
    }
}

/// The place in `extent` that a read from `from` begins at.
fn begin(blob: &Shared, log: LogId, extent: &Extent, from: Offset) -> Result<u32, Miss> {
    with(blob, |index| index.cut(log, extent, from, 1)).map(|stretch| stretch.at)
}

#[test]
fn an_offset_is_found_in_a_page_per_level_however_much_the_footer_holds() {
    let extents = extents(60);
    let blob = written(&extents);
    for (log, extent) in &extents {
        for from in (extent.base.0..extent.end().0).step_by(37).map(Offset) {
            for len in [1, 100_000] {
                let found = with(&blob, |index| index.cut(*log, extent, from, len)).unwrap();
                assert!(blob.reads() <= 3, "one page per level");
                let expected = cut(points(extent), extent, from, len);
                assert_eq!(found.at, expected.at, "log {log} from {from}");
                assert!(found.len <= expected.len && found.len > 0);
                assert_eq!(found.last, found.at + found.len == extent.len);
                assert_eq!(found.end == extent.end(), found.last);
            }
        }
    }
}

#[test]
fn reading_on_where_a_stretch_ends_passes_through_the_whole_extent() {
    let extents = extents(3);
    let blob = written(&extents);
    for (log, extent) in &extents {
        let (mut from, mut at) = (extent.base, 0);
        while from < extent.end() {
            let found = with(&blob, |index| index.cut(*log, extent, from, 200_000)).unwrap();
            assert_eq!(found.at, at);
            (from, at) = (found.end, found.at + found.len);
        }
        assert_eq!(at, extent.len);
    }
}

#[test]
fn a_time_is_found_in_a_page_per_level_and_what_is_not_late_is_passed() {
    let extents = extents(60);
    let blob = written(&extents);
    for (log, extent) in extents.iter().filter(|(_, extent)| extent.count > 2).step_by(7) {
        let last = points(extent).len() - 1;
        for step in [0, 1, last / 2, last] {
            let point = points(extent)[step];
            let at_ms = point.append_time_ms;
            let expected = extent.base.plus(u64::from(point.base));
            for (from, at_ms) in [(extent.base, at_ms), (extent.base, at_ms - 9), (expected, i64::MIN)] {
                let late = |index: &Lookup<'_>| index.late(*log, extent, from, at_ms, TimeOf::Append);
                assert_eq!(with(&blob, late).unwrap(), Some(expected), "log {log}");
                assert!(blob.reads() <= 5, "a neighbour's page may have to be looked at, too");
            }
        }
        let never = |index: &Lookup<'_>| index.late(*log, extent, extent.base, i64::MAX - 1, TimeOf::Append);
        assert_eq!(with(&blob, never).unwrap(), None);
        let early = |index: &Lookup<'_>| index.late(*log, extent, extent.base.plus(2), 0, TimeOf::Event);
        assert_eq!(with(&blob, early).unwrap(), None, "event times fall");
    }
}

#[test]
fn damage_of_one_page_leaves_what_the_others_describe() {
    let extents = extents(20);
    let sound = written(&extents);
    let bytes = sound.0.lock().bytes.to_vec();
    let probe = |blob: &Shared| -> Vec<Option<u32>> {
        extents.iter().map(|(log, extent)| begin(blob, *log, extent, extent.base.plus(50)).ok()).collect()
    };
    let expected = probe(&sound);
    assert!(expected.iter().all(Option::is_some));
    let root_at = bytes.len() - 24 - 40;
    for at in (1000..root_at).step_by(3001) {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let found = probe(&blob(damaged));
        let lost = found.iter().filter(|found| found.is_none()).count();
        assert!(lost < extents.len(), "byte {at} took the whole index with it");
        for (found, expected) in found.iter().zip(&expected) {
            assert!(found.is_none() || found == expected, "byte {at} led astray");
        }
    }
    for at in [bytes.len() - 1, bytes.len() - 10, bytes.len() - 20, bytes.len() - 30] {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let failed = with(&blob(damaged), |_| Ok(())).err();
        let refused = |miss: &Miss| matches!(miss, Miss::Failed(e) if e.kind() == ErrorKind::Corrupt);
        let root = failed.is_none();
        assert!(root && at < bytes.len() - 24 || failed.as_ref().is_some_and(refused), "byte {at}");
    }
}

#[test]
fn a_page_that_lies_elsewhere_than_it_was_written_is_damage() {
    let mut out = Vec::new();
    let child = page::seal(&mut out, &[0, 1], Child::new(LogId(1), Offset(0)));
    let bytes = Bytes::from(out);
    let read = |at, level| Page::decode(at, level, &bytes).err().map(|e| e.kind());
    assert_eq!(read(child.at + 1, 0), Some(ErrorKind::Corrupt));
    assert_eq!(read(child.at, 1), Some(ErrorKind::Corrupt), "a leaf where a directory is due");
}

#[test]
fn any_bytes_in_a_leaf_are_read_or_refused() {
    let mut state = 1u64;
    for len in 0..400 {
        let content: Vec<u8> = (0..len)
            .map(|_| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let byte = (state >> 40) as u8;
                if byte & 0x40 == 0 { byte & 7 } else { byte }
            })
            .collect();
        if let Ok(Page::Leaf(parts)) = Page::leaf(&content) {
            assert!(parts.iter().all(|part| !part.steps.is_empty()));
        }
        let mut page = vec![1];
        page.extend(&content);
        let mut out = Vec::new();
        page::seal(&mut out, &page, Child::new(LogId(1), Offset(0)));
        let out = Bytes::from(out);
        if let Ok(Page::Directory(children)) = Page::decode(0, 1, &out) {
            assert!(children.is_empty(), "nothing lies before the footer's first byte");
        }
    }
}

#[test]
fn a_footer_of_nothing_knows_nothing() {
    let blob = written(&[]);
    let extent = extent(5, 10, 3, 0);
    assert_eq!(begin(&blob, LogId(1), &extent, Offset(9)).unwrap(), 0);
    let late = with(&blob, |index| index.late(LogId(1), &extent, Offset(7), 1000, TimeOf::Append));
    assert_eq!(late.unwrap(), Some(Offset(7)), "what is not known has to be looked through");
}

/// The list of blocks that version 1 of the footer was.
fn version_1(extents: &[(LogId, Extent)]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut block = |kind: u8, payload: Vec<u8>| {
        out.push(kind);
        put_slice(&mut out, &payload);
    };
    for (log, extent) in extents {
        let mut payload = Vec::new();
        let fields = [log.0, extent.base.0, extent.at, u64::from(extent.len), u64::from(extent.count), 0];
        fields.into_iter().for_each(|field| put_varint(&mut payload, field));
        block(EXTENT, payload);
        let (mut offsets, mut times, mut events) = (Vec::new(), Vec::new(), Vec::new());
        let mut before = (0, 0);
        for point in points(extent) {
            put_varint(&mut offsets, u64::from(point.base));
            put_varint(&mut offsets, u64::from(point.at));
            put_signed(&mut times, point.append_time_ms - before.0);
            put_signed(&mut events, point.event_time_ms - before.1);
            before = (point.append_time_ms, point.event_time_ms);
        }
        if !offsets.is_empty() {
            block(OFFSETS, offsets);
            block(APPEND_TIMES, times);
            block(EVENT_TIMES, events);
        }
    }
    let checksum = crc(&out);
    out.extend((out.len() as u32).to_le_bytes());
    out.extend(checksum.to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out.extend(b"wm-idx");
    out
}

#[test]
fn a_footer_of_version_1_is_read_and_a_newer_one_is_refused() {
    let extents = extents(2);
    let mut bytes = vec![1; 333];
    bytes.extend(version_1(&extents));
    let old = blob(bytes.clone());
    for (log, extent) in &extents {
        let from = extent.base.plus(u64::from(extent.count) / 2);
        assert_eq!(
            with(&old, |index| index.cut(*log, extent, from, 50_000)).unwrap(),
            cut(points(extent), extent, from, 50_000)
        );
    }
    bytes[400] ^= 1;
    let (log, extent) = &extents[0];
    let Err(Miss::Failed(damaged)) = begin(&blob(bytes.clone()), *log, extent, extent.base) else {
        panic!("damage was not noticed")
    };
    assert_eq!(damaged.kind(), ErrorKind::Corrupt);
    let version_at = bytes.len() - 8;
    bytes[version_at] = 3;
    assert_eq!(Footer::read(&blob(bytes)).unwrap_err().kind(), ErrorKind::Corrupt);
}
