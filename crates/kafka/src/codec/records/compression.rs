//! The four ways in which a batch's records may be packed.

use std::borrow::Cow;
use std::cell::Cell;
use std::io::{self, Read, Write};

use flate2::{read::MultiGzDecoder, write::GzEncoder};
use wire::Reader;
use zstd::zstd_safe::DCtx;

use super::fault::BatchFault;

/// How the records of a batch are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// RFC 1952, any number of members.
    Gzip,
    /// Snappy blocks in the framing of the Java library, or one bare block.
    Snappy,
    /// The LZ4 frame format, with independent blocks.
    Lz4,
    /// RFC 8878.
    Zstd,
}

/// What the framed Snappy stream begins with: a magic number, then version 1, readable by version 1.
const SNAPPY_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const SNAPPY_MAGIC_LEN: usize = 8;
/// Bytes packed into one block, as the Java library does.
const SNAPPY_BLOCK_LEN: usize = 32 * 1024;

impl Compression {
    /// The number in a batch's attributes.
    pub fn id(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// The inverse of [`Compression::id`].
    pub fn by_id(id: u8) -> Result<Self, BatchFault> {
        match id {
            0 => Ok(Compression::None),
            1 => Ok(Compression::Gzip),
            2 => Ok(Compression::Snappy),
            3 => Ok(Compression::Lz4),
            4 => Ok(Compression::Zstd),
            other => Err(BatchFault::Compression(other)),
        }
    }

    /// Unpacks `packed` to at most `max_len` bytes. Memory follows what really comes out, never a size that the packed
    /// bytes claim.
    pub fn unpack(self, packed: &[u8], max_len: usize) -> Result<Cow<'_, [u8]>, BatchFault> {
        let unpacked = match self {
            Compression::None if packed.len() > max_len => return Err(BatchFault::TooLarge(max_len)),
            Compression::None => return Ok(Cow::Borrowed(packed)),
            Compression::Gzip => read_all(MultiGzDecoder::new(packed), max_len)?,
            Compression::Snappy => unpack_snappy(packed, max_len)?,
            Compression::Lz4 => read_all(lz4_flex::frame::FrameDecoder::new(packed), max_len)?,
            Compression::Zstd => {
                let decoder =
                    zstd::stream::read::Decoder::with_buffer(packed).map_err(|_| BatchFault::Corrupt)?;
                read_all(decoder, max_len)?
            }
        };
        #[cfg(test)]
        UNPACKED_WHOLE.set(UNPACKED_WHOLE.get() + unpacked.len());
        Ok(Cow::Owned(unpacked))
    }

    /// Hands `read` what `packed` unpacks to, piece by piece. `read` reads to the end and returns how much that was.
    pub(super) fn stream(
        self,
        packed: &[u8],
        read: impl FnOnce(&mut dyn Read) -> Result<usize, BatchFault>,
    ) -> Result<usize, BatchFault> {
        match self {
            Compression::None => read(&mut &*packed),
            Compression::Gzip => read(&mut MultiGzDecoder::new(packed)),
            // No stream that could be cut at any place: whole blocks, which grow by a bounded factor.
            Compression::Snappy => read(&mut self.unpack(packed, usize::MAX)?.as_ref()),
            Compression::Lz4 => read(&mut lz4_flex::frame::FrameDecoder::new(packed)),
            Compression::Zstd => stream_zstd(packed, read),
        }
    }

    /// Packs `plain`.
    ///
    /// # Errors
    /// Those of the libraries, none of which occurs when writing to memory.
    pub fn pack(self, plain: &[u8]) -> io::Result<Cow<'_, [u8]>> {
        let packed = match self {
            Compression::None => return Ok(Cow::Borrowed(plain)),
            Compression::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(plain)?;
                encoder.finish()?
            }
            Compression::Snappy => pack_snappy(plain)?,
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(plain)?;
                encoder.finish().map_err(io::Error::other)?
            }
            Compression::Zstd => zstd::stream::encode_all(plain, zstd::DEFAULT_COMPRESSION_LEVEL)?,
        };
        Ok(Cow::Owned(packed))
    }
}

/// Unpacked length above which a decoder is not kept: its window has grown with it.
const ZSTD_KEPT_LEN_MAX: usize = 4 << 20;

#[cfg(test)]
thread_local! {
    /// Bytes that this thread unpacked into one piece.
    pub(crate) static UNPACKED_WHOLE: Cell<usize> = const { Cell::new(0) };
}

thread_local! {
    /// A decoder is some hundred kilobytes, too much to make anew for each small batch.
    static ZSTD: Cell<Option<DCtx<'static>>> = const { Cell::new(None) };
}

fn stream_zstd(
    packed: &[u8],
    read: impl FnOnce(&mut dyn Read) -> Result<usize, BatchFault>,
) -> Result<usize, BatchFault> {
    let mut context = match ZSTD.take() {
        Some(context) => context,
        None => DCtx::try_create().ok_or(BatchFault::Corrupt)?,
    };
    // One that failed is in the middle of something, and not kept either.
    let len = read(&mut zstd::stream::read::Decoder::with_context(packed, &mut context))?;
    if len <= ZSTD_KEPT_LEN_MAX {
        ZSTD.set(Some(context));
    }
    Ok(len)
}

/// Reads to the end, or to one byte more than is allowed.
fn read_all(reader: impl Read, max_len: usize) -> Result<Vec<u8>, BatchFault> {
    let mut out = Vec::new();
    let limit = u64::try_from(max_len).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(limit).read_to_end(&mut out).map_err(|_| BatchFault::Corrupt)?;
    if out.len() > max_len { Err(BatchFault::TooLarge(max_len)) } else { Ok(out) }
}

fn unpack_snappy(packed: &[u8], max_len: usize) -> Result<Vec<u8>, BatchFault> {
    let mut out = Vec::new();
    if !packed.starts_with(&SNAPPY_HEADER[..SNAPPY_MAGIC_LEN]) {
        unpack_snappy_block(packed, &mut out, max_len)?;
        return Ok(out);
    }
    let mut reader = Reader::new(packed);
    reader.take(SNAPPY_HEADER.len()).map_err(|_| BatchFault::Corrupt)?;
    while reader.remaining() > 0 {
        // Concatenated streams repeat the header.
        if reader.rest().starts_with(&SNAPPY_HEADER[..SNAPPY_MAGIC_LEN]) {
            reader.take(SNAPPY_HEADER.len()).map_err(|_| BatchFault::Corrupt)?;
            continue;
        }
        let len = reader.u32().ok().and_then(|len| usize::try_from(len).ok()).ok_or(BatchFault::Corrupt)?;
        let block = reader.take(len).map_err(|_| BatchFault::Corrupt)?;
        unpack_snappy_block(block, &mut out, max_len)?;
    }
    Ok(out)
}

/// The most that a Snappy block can grow by: a copy of 64 bytes takes at least 3, other elements expand less.
const SNAPPY_GROWTH_MAX: usize = 22;

fn unpack_snappy_block(block: &[u8], out: &mut Vec<u8>, max_len: usize) -> Result<(), BatchFault> {
    let len = snap::raw::decompress_len(block).map_err(|_| BatchFault::Corrupt)?;
    if len > block.len().saturating_mul(SNAPPY_GROWTH_MAX) {
        return Err(BatchFault::Corrupt);
    }
    let start = out.len();
    let end = start.saturating_add(len);
    if end > max_len {
        return Err(BatchFault::TooLarge(max_len));
    }
    out.resize(end, 0);
    let room = out.get_mut(start..).unwrap_or_default();
    snap::raw::Decoder::new().decompress(block, room).map_err(|_| BatchFault::Corrupt)?;
    Ok(())
}

fn pack_snappy(plain: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = SNAPPY_HEADER.to_vec();
    for piece in plain.chunks(SNAPPY_BLOCK_LEN) {
        let block = snap::raw::Encoder::new().compress_vec(piece).map_err(io::Error::other)?;
        let len = u32::try_from(block.len()).map_err(io::Error::other)?;
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&block);
    }
    Ok(out)
}
