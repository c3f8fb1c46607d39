//! What catalog commands, notes, snapshots and the plain format are written in: [`wire::compact`], with damage as
//! [`model::ErrorKind::Corrupt`].

use bytes::Bytes;
use model::{Error, Result};
use wire::compact;

pub(crate) use wire::compact::{put_bytes, put_uvarint as put_u64, put_varint as put_i64};

/// Appends 16 bytes, little-endian.
pub(crate) fn put_u128(out: &mut Vec<u8>, value: u128) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends whether there is a value, and the value.
pub(crate) fn put_option<T>(out: &mut Vec<u8>, value: Option<T>, put: impl FnOnce(&mut Vec<u8>, T)) {
    out.push(u8::from(value.is_some()));
    if let Some(value) = value {
        put(out, value);
    }
}

/// What is left to read. Every error is [`model::ErrorKind::Corrupt`].
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(compact::Reader<'a>);

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Reader(compact::Reader::new(bytes))
    }

    pub(crate) fn u8(&mut self) -> Result<u8> {
        self.0.u8().map_err(corrupt)
    }

    pub(crate) fn flag(&mut self) -> Result<bool> {
        self.0.flag().map_err(corrupt)
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

    pub(crate) fn i32(&mut self) -> Result<i32> {
        i32::try_from(self.i64()?).map_err(|_| Error::corrupt("a number is longer than 32 bits"))
    }

    /// 16 bytes, little-endian.
    pub(crate) fn u128(&mut self) -> Result<u128> {
        self.0.array().map(u128::from_le_bytes).map_err(corrupt)
    }

    /// 8 bytes, little-endian.
    pub(crate) fn u64_fixed(&mut self) -> Result<u64> {
        self.0.array().map(u64::from_le_bytes).map_err(corrupt)
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

    pub(crate) fn text(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.slice()?).map_err(|_| Error::corrupt("a text is not UTF-8"))
    }

    pub(crate) fn option<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T>) -> Result<Option<T>> {
        if self.flag()? { read(self).map(Some) } else { Ok(None) }
    }

    /// A list of items that take at least one byte each.
    pub(crate) fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Result<T>) -> Result<Vec<T>> {
        let count = self.count(1)?;
        (0..count).map(|_| read(self)).collect()
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0.rest()
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
            put_i64(&mut out, value.cast_signed());
            let mut reader = Reader::new(&out);
            assert_eq!(reader.u64(), Ok(value));
            assert_eq!(reader.i64(), Ok(value.cast_signed()));
            assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn numbers_without_an_end_and_counts_beyond_the_bytes_are_refused() {
        assert!(Reader::new(&[0xff; 11]).u64().is_err());
        assert!(Reader::new(&[0xff; 3]).u64().is_err());
        let mut out = Vec::new();
        put_u64(&mut out, u64::MAX);
        assert!(Reader::new(&out).list(|reader| reader.u8()).is_err());
        assert!(Reader::new(&[3, 0, 0]).slice().is_err());
    }
}
