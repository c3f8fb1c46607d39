use crate::varint::{read_uvarint, unzigzag};
use crate::{Error, Result};

/// List items that one message may hold, over all its lists: bounds what the longest message can take in memory.
pub const ITEMS_MAX: usize = 1 << 19;

/// How many times its own length a message's list items may take in memory. Honest messages stay below 16, where a
/// list holds references to names of one letter; an item of one byte could otherwise take hundreds.
pub const GROWTH_MAX: usize = 32;

/// Memory that a message's list items may take however short it is, bytes.
const MEMORY_MIN: usize = 4 * 1024;

/// Checked moves over borrowed bytes; all integers big-endian.
///
/// A failed move leaves the reader where it is or further on: after an error, drop it.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    items_left: usize,
    memory_left: usize,
}

/// Declares the fixed-width integer moves.
macro_rules! integers {
    ($($name:ident)*) => {$(
        #[doc = concat!("Takes a big-endian `", stringify!($name), "`.")]
        pub fn $name(&mut self) -> Result<$name> {
            Ok($name::from_be_bytes(self.array()?))
        }
    )*};
}

impl<'a> Reader<'a> {
    /// Reads `bytes` with the usual item budget.
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader::with_items_max(bytes, ITEMS_MAX)
    }

    /// Reads `bytes`, of which all lists together may hold `items_max` items.
    pub fn with_items_max(bytes: &'a [u8], items_max: usize) -> Self {
        let memory_left = bytes.len().saturating_mul(GROWTH_MAX).saturating_add(MEMORY_MIN);
        Reader { rest: bytes, items_left: items_max, memory_left }
    }

    integers!(u8 i8 u16 i16 u32 i32 u64 i64 f64);

    /// Bytes not yet taken.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The bytes not yet taken, left in place.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Takes `len` bytes.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (head, tail) =
            self.rest.split_at_checked(len).ok_or(Error::Short { wanted: len, left: self.rest.len() })?;
        self.rest = tail;
        Ok(head)
    }

    /// Takes `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let (head, tail) =
            self.rest.split_first_chunk().ok_or(Error::Short { wanted: N, left: self.rest.len() })?;
        self.rest = tail;
        Ok(*head)
    }

    /// Takes `len` bytes of UTF-8.
    pub fn text(&mut self, len: usize) -> Result<&'a str> {
        std::str::from_utf8(self.take(len)?).map_err(|_| Error::Utf8)
    }

    /// Takes an unsigned variable-length integer of at most 32 bits.
    pub fn uvarint32(&mut self) -> Result<u32> {
        let value = self.uvarint::<32>()?;
        u32::try_from(value).map_err(|_| Error::Varint)
    }

    /// Takes an unsigned variable-length integer of at most 64 bits.
    pub fn uvarint64(&mut self) -> Result<u64> {
        self.uvarint::<64>()
    }

    /// Takes a zigzag variable-length integer of at most 32 bits.
    pub fn varint32(&mut self) -> Result<i32> {
        i32::try_from(unzigzag(self.uvarint::<32>()?)).map_err(|_| Error::Varint)
    }

    /// Takes a zigzag variable-length integer of at most 64 bits.
    pub fn varint64(&mut self) -> Result<i64> {
        Ok(unzigzag(self.uvarint::<64>()?))
    }

    /// Takes `count` list items, each at least one byte long and of type `T` in memory, out of what is left and out of
    /// the message's budgets. Returns how many to reserve room for: never more memory than bytes are left.
    ///
    /// # Errors
    /// [`Error::Short`] when the bytes cannot hold that many, [`Error::TooMany`] when a budget cannot.
    pub fn claim_items<T>(&mut self, count: usize) -> Result<usize> {
        if count > self.rest.len() {
            return Err(Error::Short { wanted: count, left: self.rest.len() });
        }
        self.items_left = self.items_left.checked_sub(count).ok_or(Error::TooMany)?;
        let memory = count.saturating_mul(size_of::<T>());
        self.memory_left = self.memory_left.checked_sub(memory).ok_or(Error::TooMany)?;
        Ok(count.min(self.rest.len() / size_of::<T>().max(1)))
    }

    /// Lets `read` work on the next `len` bytes alone; it must use them up.
    pub fn within<T>(&mut self, len: usize, read: impl FnOnce(&mut Reader<'a>) -> Result<T>) -> Result<T> {
        let mut inner = Reader { rest: self.take(len)?, ..*self };
        let value = read(&mut inner)?;
        inner.finish()?;
        self.items_left = inner.items_left;
        self.memory_left = inner.memory_left;
        Ok(value)
    }

    /// Refuses bytes that nothing has taken.
    pub fn finish(&self) -> Result<()> {
        match self.rest.len() {
            0 => Ok(()),
            surplus => Err(Error::Surplus(surplus)),
        }
    }

    fn uvarint<const BITS: u32>(&mut self) -> Result<u64> {
        let (value, len) = read_uvarint::<BITS>(self.rest)?;
        self.take(len)?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_big_endian_and_checked() {
        let mut reader = Reader::new(&[0x01, 0x02, 0xff, 0xff, 0xff, 0xfe, 0x00]);
        assert_eq!(reader.u16(), Ok(0x0102));
        assert_eq!(reader.i32(), Ok(-2));
        assert_eq!(reader.i16(), Err(Error::Short { wanted: 2, left: 1 }));
    }

    #[test]
    fn variable_length_integers_stop_at_their_width() {
        assert_eq!(Reader::new(&[0xac, 0x02]).uvarint32(), Ok(300));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).uvarint32(), Ok(u32::MAX));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x1f]).uvarint32(), Err(Error::Varint));
        assert_eq!(Reader::new(&[0x80; 11]).uvarint64(), Err(Error::Varint));
        assert_eq!(Reader::new(&[0x80]).uvarint64(), Err(Error::Short { wanted: 2, left: 1 }));
        assert_eq!(Reader::new(&[0xff, 0xff, 0xff, 0xff, 0x0f]).varint32(), Ok(i32::MIN));
        let longest = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert_eq!(Reader::new(&longest).uvarint64(), Ok(u64::MAX));
        assert_eq!(Reader::new(&longest).varint64(), Ok(i64::MIN));
    }

    #[test]
    fn a_list_longer_than_its_bytes_or_its_budget_is_refused() {
        let bytes = [0u8; 8];
        assert_eq!(Reader::new(&bytes).claim_items::<u8>(9), Err(Error::Short { wanted: 9, left: 8 }));
        let mut reader = Reader::with_items_max(&bytes, 5);
        assert_eq!(reader.claim_items::<u8>(3), Ok(3));
        assert_eq!(reader.within(4, |inner| inner.claim_items::<u8>(3)), Err(Error::TooMany));
    }

    #[test]
    fn small_items_on_the_wire_cannot_take_any_amount_of_memory() {
        let bytes = [0u8; 1_000];
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.claim_items::<[u8; 200]>(150), Ok(5));
        assert_eq!(reader.claim_items::<[u8; 200]>(150), Err(Error::TooMany));
    }

    #[test]
    fn room_reserved_for_a_list_never_exceeds_the_bytes_left() {
        let bytes = [0u8; 100];
        assert_eq!(Reader::new(&bytes).claim_items::<[u64; 4]>(50), Ok(3));
        assert_eq!(Reader::new(&bytes).claim_items::<u8>(50), Ok(50));
    }

    #[test]
    fn a_section_must_be_used_up_and_cannot_be_left() {
        let bytes = [1, 2, 3, 4];
        assert_eq!(Reader::new(&bytes).within(2, |inner| inner.u8()), Err(Error::Surplus(1)));
        assert!(Reader::new(&bytes).within(2, |inner| inner.u32()).is_err());
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.within(2, |inner| inner.u16()), Ok(0x0102));
        assert_eq!(reader.u16(), Ok(0x0304));
        assert_eq!(reader.finish(), Ok(()));
    }
}
