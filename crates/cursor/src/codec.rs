//! What entries and snapshots are written in: [`wire::compact`], with damage as [`model::ErrorKind::Corrupt`].

use bytes::Bytes;
use model::{Error, Offset, Result};
use roaring::RoaringTreemap;
use wire::compact;

pub(crate) use wire::compact::{put_bytes, put_uvarint as put_u64, put_varint as put_i64};

/// Appends an optional number: a byte that says whether it is there, and the number.
pub(crate) fn put_optional(out: &mut Vec<u8>, value: Option<i64>) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put_i64(out, value);
    }
}

/// Appends a bitmap in the portable roaring layout.
pub(crate) fn put_bitmap(out: &mut Vec<u8>, bitmap: &RoaringTreemap) -> Result<()> {
    put_u64(out, bitmap.serialized_size() as u64);
    bitmap.serialize_into(out).map_err(|_| Error::internal("a bitmap did not serialise"))
}

/// What is left to read.
pub(crate) struct Reader<'a>(compact::Reader<'a>);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader(compact::Reader::new(bytes))
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.0.u8().map_err(corrupt)
    }

    pub(crate) fn u64(&mut self) -> Result<u64> {
        self.0.uvarint().map_err(corrupt)
    }

    pub(crate) fn u32(&mut self) -> Result<u32> {
        self.0.narrow().map_err(corrupt)
    }

    pub(crate) fn i64(&mut self) -> Result<i64> {
        self.0.varint().map_err(corrupt)
    }

    pub(crate) fn offset(&mut self) -> Result<Offset> {
        match self.u64()? {
            offset if offset <= model::limits::OFFSET_MAX => Ok(Offset(offset)),
            _ => Err(Error::corrupt("an offset is out of range")),
        }
    }

    pub(crate) fn optional(&mut self) -> Result<Option<i64>> {
        if self.0.flag().map_err(corrupt)? { self.i64().map(Some) } else { Ok(None) }
    }

    /// A count of items that take at least `least_len` bytes each.
    pub(crate) fn count(&mut self, least_len: usize) -> Result<usize> {
        self.0.count(least_len).map_err(corrupt)
    }

    pub(crate) fn slice(&mut self) -> Result<&'a [u8]> {
        self.0.slice().map_err(corrupt)
    }

    pub(crate) fn bytes(&mut self) -> Result<Bytes> {
        self.slice().map(Bytes::copy_from_slice)
    }

    pub(crate) fn bitmap(&mut self) -> Result<RoaringTreemap> {
        RoaringTreemap::deserialize_from(self.slice()?).map_err(|_| Error::corrupt("a bitmap does not read"))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.rest().is_empty()
    }

    /// Refuses bytes after the end.
    pub(crate) fn finish(self) -> Result<()> {
        self.0.finish().map_err(corrupt)
    }
}

fn corrupt(error: wire::Error) -> Error {
    Error::corrupt(format!("stored bytes do not read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_back_at_every_length() {
        for value in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX - 1, u64::MAX] {
            let mut out = Vec::new();
            put_u64(&mut out, value);
            let mut reader = Reader::new(&out);
            assert_eq!(reader.u64(), Ok(value));
            assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn a_number_that_never_ends_is_refused() {
        assert!(Reader::new(&[0xff; 11]).u64().is_err());
        assert!(Reader::new(&[0xff; 3]).u64().is_err());
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused() {
        let mut out = Vec::new();
        put_u64(&mut out, u64::MAX);
        assert!(Reader::new(&out).count(1).is_err());
        assert!(Reader::new(&[3, 0, 0]).slice().is_err());
    }

    #[test]
    fn none_and_some_are_told_apart() {
        for value in [None, Some(0), Some(7), Some(-7), Some(i64::MAX), Some(i64::MIN)] {
            let mut out = Vec::new();
            put_optional(&mut out, value);
            assert_eq!(Reader::new(&out).optional(), Ok(value));
        }
    }
}
