//! Variable-length integers: seven bits a byte, least significant first; signed ones in zigzag order.

use crate::{Error, Result};

/// Reads an unsigned integer of at most `BITS` bits; returns it and the bytes it took.
pub(crate) fn read_uvarint<const BITS: u32>(bytes: &[u8]) -> Result<(u64, usize)> {
    let mut value = 0u64;
    let mut shift = 0u32;
    for (index, byte) in bytes.iter().enumerate() {
        let part = u64::from(byte & 0x7f);
        let room = BITS.saturating_sub(shift);
        if room < 7 && part >> room != 0 {
            return Err(Error::Varint);
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok((value, index + 1));
        }
        shift += 7;
        if shift >= BITS {
            return Err(Error::Varint);
        }
    }
    Err(Error::Short { wanted: bytes.len() + 1, left: bytes.len() })
}

/// Writes `value` and returns how many bytes of the returned array are used.
pub(crate) fn uvarint_bytes(mut value: u64) -> ([u8; 10], usize) {
    let mut bytes = [0u8; 10];
    let mut len = 0;
    for slot in &mut bytes {
        len += 1;
        let [low, ..] = value.to_le_bytes();
        value >>= 7;
        if value == 0 {
            *slot = low & 0x7f;
            break;
        }
        *slot = low | 0x80;
    }
    (bytes, len)
}

/// Zigzag order: small magnitudes of either sign become small unsigned numbers.
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`].
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// Bytes that `value` takes as an unsigned variable-length integer.
pub fn uvarint_len(value: u64) -> usize {
    uvarint_bytes(value).1
}

/// Bytes that `value` takes as a zigzag variable-length integer.
pub fn varint_len(value: i64) -> usize {
    uvarint_len(zigzag(value))
}
