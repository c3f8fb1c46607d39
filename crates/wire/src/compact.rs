//! Bytes at rest: small numbers in few bytes, texts and lists with their lengths in front. The crates that store something
//! wrap [`Reader`] with the error that damage is for them.
//!
//! Unsigned LEB128, at most 10 bytes; signed numbers in zigzag order. A count read from the bytes is never trusted further
//! than the bytes that are left, so that damaged input cannot ask for memory. The layout is fixed: what was written stays
//! readable.

use crate::varint::{read_uvarint, unzigzag, zigzag};
use crate::{Error, Result};

/// Appends `value`, 1..=10 bytes.
pub fn put_uvarint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let [low, ..] = value.to_le_bytes();
        out.push(low | 0x80);
        value >>= 7;
    }
    let [low, ..] = value.to_le_bytes();
    out.push(low);
}

/// Appends a signed number, small ones of either sign in few bytes.
pub fn put_varint(out: &mut Vec<u8>, value: i64) {
    put_uvarint(out, zigzag(value));
}

/// Appends length and bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uvarint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Walks over bytes from the front; every move is checked. After an error, drop it.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    len: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { rest: bytes, len: bytes.len() }
    }

    /// Bytes read so far.
    pub fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// The next byte.
    pub fn u8(&mut self) -> Result<u8> {
        let (first, rest) = self.rest.split_first().ok_or(Error::Short { wanted: 1, left: 0 })?;
        self.rest = rest;
        Ok(*first)
    }

    /// A byte that is 0 or 1.
    pub fn flag(&mut self) -> Result<bool> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Error::Invalid("a byte is neither yes nor no")),
        }
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, rest) =
            self.rest.split_first_chunk().ok_or(Error::Short { wanted: N, left: self.rest.len() })?;
        self.rest = rest;
        Ok(*head)
    }

    /// The next `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, rest) =
            self.rest.split_at_checked(len).ok_or(Error::Short { wanted: len, left: self.rest.len() })?;
        self.rest = rest;
        Ok(head)
    }

    /// The next unsigned number.
    pub fn uvarint(&mut self) -> Result<u64> {
        let (value, len) = read_uvarint::<64>(self.rest)?;
        self.take(len)?;
        Ok(value)
    }

    /// The next unsigned number, which must fit `T`.
    pub fn narrow<T: TryFrom<u64>>(&mut self) -> Result<T> {
        T::try_from(self.uvarint()?).map_err(|_| Error::Invalid("a number is out of range"))
    }

    /// The next signed number.
    pub fn varint(&mut self) -> Result<i64> {
        self.uvarint().map(unzigzag)
    }

    /// A count of items that take at least `least_len` bytes each.
    pub fn count(&mut self, least_len: usize) -> Result<usize> {
        let count = self.narrow::<usize>()?;
        if count > self.rest.len() / least_len.max(1) {
            return Err(Error::Short { wanted: count, left: self.rest.len() });
        }
        Ok(count)
    }

    /// A length and that many bytes.
    pub fn slice(&mut self) -> Result<&'a [u8]> {
        let len = self.count(1)?;
        self.take(len)
    }

    /// Refuses bytes after the end.
    pub fn finish(self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            surplus => Err(Error::Surplus(surplus)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_what_they_always_were() {
        let check = |value: u64, expected: &[u8]| {
            let mut out = Vec::new();
            put_uvarint(&mut out, value);
            assert_eq!(out, expected, "{value}");
            assert_eq!(Reader::new(&out).uvarint(), Ok(value));
        };
        check(0, &[0]);
        check(1, &[1]);
        check(127, &[0x7f]);
        check(128, &[0x80, 0x01]);
        check(300, &[0xac, 0x02]);
        check(16_383, &[0xff, 0x7f]);
        check(16_384, &[0x80, 0x80, 0x01]);
        check(u64::from(u32::MAX), &[0xff, 0xff, 0xff, 0xff, 0x0f]);
        check(u64::MAX, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        let check = |value: i64, expected: &[u8]| {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out, expected, "{value}");
            assert_eq!(Reader::new(&out).varint(), Ok(value));
        };
        check(0, &[0]);
        check(-1, &[1]);
        check(1, &[2]);
        check(-64, &[0x7f]);
        check(64, &[0x80, 0x01]);
        check(i64::MAX, &[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        check(i64::MIN, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]);
        let mut out = Vec::new();
        put_bytes(&mut out, b"ab");
        assert_eq!(out, [2, b'a', b'b']);
        assert_eq!(Reader::new(&out).slice(), Ok(&b"ab"[..]));
    }

    #[test]
    fn numbers_come_back_at_every_width() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_uvarint(&mut out, value);
                put_varint(&mut out, value.cast_signed());
                put_varint(&mut out, value.cast_signed().wrapping_neg());
                let mut reader = Reader::new(&out);
                assert_eq!(reader.uvarint(), Ok(value));
                assert_eq!(reader.varint(), Ok(value.cast_signed()));
                assert_eq!(reader.varint(), Ok(value.cast_signed().wrapping_neg()));
                assert_eq!((reader.at(), reader.finish()), (out.len(), Ok(())));
            }
        }
    }

    #[test]
    fn a_number_without_end_or_beyond_64_bits_is_refused() {
        assert!(Reader::new(&[0x80; 3]).uvarint().is_err());
        assert_eq!(Reader::new(&[0xff; 20]).uvarint(), Err(Error::Varint));
        let mut wide = vec![0xff; 9];
        wide.push(2);
        assert_eq!(Reader::new(&wide).uvarint(), Err(Error::Varint));
        assert!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x10]).narrow::<u32>().is_err());
    }

    #[test]
    fn a_count_beyond_the_bytes_is_refused() {
        let mut out = Vec::new();
        put_uvarint(&mut out, u64::MAX);
        assert!(Reader::new(&out).count(1).is_err());
        assert!(Reader::new(&[3, 0, 0]).slice().is_err());
        assert_eq!(Reader::new(&[2, 0, 0, 0, 0]).count(2), Ok(2));
        assert!(Reader::new(&[3, 0, 0, 0, 0]).count(2).is_err());
    }

    #[test]
    fn bytes_after_the_end_and_flags_beside_two_are_refused() {
        assert_eq!(Reader::new(&[0]).finish(), Err(Error::Surplus(1)));
        assert_eq!(Reader::new(&[1]).flag(), Ok(true));
        assert!(Reader::new(&[2]).flag().is_err());
        assert!(Reader::new(&[]).array::<1>().is_err());
    }
}
