//! Segments: files whose footer says what lies where.
//!
//! ```text
//! entries | leaf page | ... | directory page | ... | root page | trailer
//! page     level u8 | content | CRC-32C u32 over where the page begins in the footer (u64), level and content
//! trailer  length of all pages u64 | length of the root page u32 | CRC-32C of those 12 bytes u32 | version u16 | magic 6
//! ```
//!
//! A leaf (level 0) is a list of typed blocks, a directory (level 1 and up) a list of the pages one level below; the root
//! is whatever page is left alone on its level. So whoever looks for an offset or a time reads one page per level, and
//! what a damaged page describes is read without its index while the rest is served as before.
//!
//! ```text
//! block      kind u8 | length of what follows varint | payload
//! directory  where its first page begins varint | per page: log | first offset | length | latest append time signed
//!            | latest event time - latest append time, signed
//! ```
//!
//! An extent block (kind 1: log, base, position, length, offsets, records) is followed by the blocks of its sparse
//! index: offsets (kind 2), append times (kind 3), event times (kind 4). An index that does not fit a page goes on in the
//! next one behind a repetition of its extent block; a cut block (kind 5: offset and position, relative to the extent)
//! then says where the part in this page ends. A reader skips kinds that it does not know, so that indexes of other
//! attributes can be added. A shared segment's data entries stand in it as they stood in the WAL.
//!
//! Version 1 had all blocks in one list, the trailer's first eight bytes being its length and checksum: it is read as a
//! single leaf.

mod lookup;
mod page;
#[cfg(test)]
mod tests;
mod write;

pub(crate) use self::{
    lookup::{Footer, Lookup, Miss, Pages},
    page::{Child, Page},
    write::FooterWriter,
};

/// A page is closed once it is this long.
const PAGE_LEN: usize = 8 << 10;

/// No page is longer: the block that closes one is an extent's index up to what fits, or one list of few numbers.
const PAGE_LEN_MAX: u32 = 64 << 10;

/// Version of the footer that this program writes, and the newest that it reads.
const VERSION: u16 = 2;
const MAGIC: &[u8; 6] = b"wm-idx";

const EXTENT: u8 = 1;
const OFFSETS: u8 = 2;
const APPEND_TIMES: u8 = 3;
const EVENT_TIMES: u8 = 4;
const CUT: u8 = 5;

fn crc(bytes: &[u8]) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
}
