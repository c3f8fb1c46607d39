//! What frames, segments and checkpoints are written in: [`wire::compact`], with damage as [`model::ErrorKind::Corrupt`].

use model::{Error, Result};
use wire::compact;

pub(crate) use wire::compact::{put_bytes as put_slice, put_uvarint as put_varint, put_varint as put_signed};

/// Walks over bytes from the front; every move is checked.
pub(crate) struct Reader<'a>(compact::Reader<'a>);

impl<'a> Reader<'a> {
    /// A reader at the front of `bytes`.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader(compact::Reader::new(bytes))
    }

    /// Bytes read so far.
    pub(crate) fn at(&self) -> usize {
        self.0.at()
    }

    /// Bytes not read yet.
    pub(crate) fn left(&self) -> usize {
        self.0.rest().len()
    }

    /// The next byte.
    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.0.u8().map_err(corrupt)
    }

    /// The next four bytes, little-endian.
    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.0.array().map_err(corrupt)
    }

    /// The next `len` bytes.
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        self.0.take(len).map_err(corrupt)
    }

    /// The next varint.
    pub(crate) fn varint(&mut self) -> Result<u64> {
        self.0.uvarint().map_err(corrupt)
    }

    /// The next varint, which must fit `T`.
    pub(crate) fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T> {
        self.0.narrow().map_err(corrupt)
    }

    /// The next signed varint.
    pub(crate) fn signed(&mut self) -> Result<i64> {
        self.0.varint().map_err(corrupt)
    }

    /// A length and that many bytes.
    pub(crate) fn slice(&mut self) -> Result<&'a [u8]> {
        self.0.slice().map_err(corrupt)
    }
}

fn corrupt(error: wire::Error) -> Error {
    Error::corrupt(format!("stored bytes do not read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_at_every_width() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                put_signed(&mut out, value as i64);
                put_signed(&mut out, (value as i64).wrapping_neg());
                let mut reader = Reader::new(&out);
                assert_eq!(reader.varint().unwrap(), value);
                assert_eq!(reader.signed().unwrap(), value as i64);
                assert_eq!(reader.signed().unwrap(), (value as i64).wrapping_neg());
                assert_eq!(reader.left(), 0);
            }
        }
    }

    #[test]
    fn a_number_without_end_or_beyond_64_bits_is_refused() {
        assert!(Reader::new(&[0x80; 3]).varint().is_err());
        assert!(Reader::new(&[0xff; 20]).varint().is_err());
        let mut wide = vec![0xff; 9];
        wide.push(2);
        assert!(Reader::new(&wide).varint().is_err());
    }
}
