//! Headers of WAL files and frames.
//!
//! ```text
//! file   header page (4 KiB) | frame | frame | … | unused (zeros, or what the file held before) or a footer
//! frame  header (64 bytes) | runs | zeros up to the next multiple of 4 KiB
//! ```
//!
//! A frame counts only when its salt is its file's (a recycled file holds older frames of another salt), and it
//! continues the chain only when its number and its predecessor's checksum are the expected ones.

use model::{Error, Result, Seq};

/// Frames begin at multiples of this, and the file header takes as much.
pub(super) const PAGE_LEN: u64 = 4096;
/// Length of a frame's header.
pub(super) const FRAME_HEADER_LEN: usize = 64;
/// Length of the meaningful part of a file's header page.
pub(super) const FILE_HEADER_LEN: usize = 40;

const FILE_MAGIC: [u8; 8] = *b"wmwalog\n";
const FRAME_MAGIC: [u8; 4] = *b"wmf\n";
/// Version of the file layout that this program writes, and the newest that it reads.
const VERSION: u32 = 1;
/// The file was not zero-filled: it may hold frames of an earlier life.
const RECYCLED: u32 = 1;

/// What a WAL file begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileHeader {
    /// The file's number, also in its name.
    pub(super) number: u64,
    /// In each of its frames.
    pub(super) salt: u64,
    /// Whether it held other frames before.
    pub(super) recycled: bool,
    /// Length that it was given, bytes, a multiple of [`PAGE_LEN`]. It never gets shorter before it is sealed.
    pub(super) allocated_len: u64,
}

/// ```text
/// 0 magic | 8 version u32 | 12 flags u32 | 16 number u64 | 24 salt u64 | 32 allocated pages u32 | 36 crc u32
/// ```
impl FileHeader {
    /// The bytes of the header page that mean something; the rest of it is zeros.
    pub(super) fn encode(&self) -> [u8; FILE_HEADER_LEN] {
        let mut out = [0; FILE_HEADER_LEN];
        out[..8].copy_from_slice(&FILE_MAGIC);
        out[8..12].copy_from_slice(&VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&(if self.recycled { RECYCLED } else { 0 }).to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..32].copy_from_slice(&self.salt.to_le_bytes());
        let pages = u32::try_from(self.allocated_len / PAGE_LEN).unwrap_or(u32::MAX);
        out[32..36].copy_from_slice(&pages.to_le_bytes());
        let crc = crc_fast::crc32_iscsi(&out[..36]);
        out[36..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` when the bytes are no intact header; [`model::ErrorKind::Invalid`] when a newer version wrote it.
    pub(super) fn decode(bytes: &[u8; FILE_HEADER_LEN]) -> Result<Option<Self>> {
        if bytes[..8] != FILE_MAGIC || u32_at(bytes, 36) != crc_fast::crc32_iscsi(&bytes[..36]) {
            return Ok(None);
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            newer => {
                let text =
                    format!("the log was written by a newer version (layout {newer}, known: {VERSION})");
                return Err(Error::invalid(text));
            }
        }
        Ok(Some(FileHeader {
            number: u64_at(bytes, 16),
            salt: u64_at(bytes, 24),
            recycled: u32_at(bytes, 12) & RECYCLED != 0,
            allocated_len: u64::from(u32_at(bytes, 32)) * PAGE_LEN,
        }))
    }
}

/// What a frame begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// That of its file.
    pub(super) salt: u64,
    /// Rises by one from frame to frame, across files; never reused after it was durable.
    pub(super) number: u64,
    /// Its first unit; for a frame without units the one that comes next.
    pub(super) first: Seq,
    /// How many units it holds.
    pub(super) units: u32,
    /// How many runs.
    pub(super) runs: u32,
    /// Bytes of its runs.
    pub(super) body_len: u32,
    /// The header checksum of the frame before it; 0 in the first.
    pub(super) prev_crc: u32,
    /// The last frame known to be durable when this one was written. Proves it to recovery.
    pub(super) durable: u64,
    /// Checksum of the runs.
    pub(super) body_crc: u32,
}

/// ```text
/// 0 magic | 4 flags u32 | 8 salt u64 | 16 number u64 | 24 first u64 | 32 units u32 | 36 runs u32
/// 40 body length u32 | 44 previous crc u32 | 48 durable u64 | 56 body crc u32 | 60 crc u32 of the 60 bytes before
/// ```
impl FrameHeader {
    /// Writes it to `out` and answers its checksum.
    pub(super) fn encode(&self, out: &mut [u8; FRAME_HEADER_LEN]) -> u32 {
        out[..4].copy_from_slice(&FRAME_MAGIC);
        out[4..8].fill(0);
        out[8..16].copy_from_slice(&self.salt.to_le_bytes());
        out[16..24].copy_from_slice(&self.number.to_le_bytes());
        out[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        out[32..36].copy_from_slice(&self.units.to_le_bytes());
        out[36..40].copy_from_slice(&self.runs.to_le_bytes());
        out[40..44].copy_from_slice(&self.body_len.to_le_bytes());
        out[44..48].copy_from_slice(&self.prev_crc.to_le_bytes());
        out[48..56].copy_from_slice(&self.durable.to_le_bytes());
        out[56..60].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc_fast::crc32_iscsi(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// The header and its checksum, when the bytes are an intact one.
    pub(super) fn decode(bytes: &[u8; FRAME_HEADER_LEN]) -> Option<(Self, u32)> {
        if bytes[..4] != FRAME_MAGIC {
            return None;
        }
        let crc = u32_at(bytes, 60);
        if crc_fast::crc32_iscsi(&bytes[..60]) != crc {
            return None;
        }
        let header = FrameHeader {
            salt: u64_at(bytes, 8),
            number: u64_at(bytes, 16),
            first: Seq(u64_at(bytes, 24)),
            units: u32_at(bytes, 32),
            runs: u32_at(bytes, 36),
            body_len: u32_at(bytes, 40),
            prev_crc: u32_at(bytes, 44),
            durable: u64_at(bytes, 48),
            body_crc: u32_at(bytes, 56),
        };
        Some((header, crc))
    }

    /// Bytes that the frame takes in its file, padding included.
    pub(super) fn padded_len(&self) -> u64 {
        padded(FRAME_HEADER_LEN as u64 + u64::from(self.body_len))
    }

    /// The first unit after it.
    pub(super) fn next_seq(&self) -> Seq {
        Seq(self.first.0.saturating_add(u64::from(self.units)))
    }
}

/// `len` rounded up to whole pages.
pub(super) fn padded(len: u64) -> u64 {
    len.div_ceil(PAGE_LEN) * PAGE_LEN
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |chunk| u32::from_le_bytes(*chunk))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |chunk| u64::from_le_bytes(*chunk))
}
