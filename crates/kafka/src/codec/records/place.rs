//! What a broker writes into a batch it stores, in place.

use super::batch::{Attributes, CRC_AT, HEADER_LEN, computed_crc};
use super::fault::BatchFault;

const LEADER_EPOCH_AT: usize = 12;
const ATTRIBUTES_AT: usize = 21;
const MAX_TIMESTAMP_AT: usize = 35;

/// Gives the batch in `bytes` its place in the log. Outside the checksum: the bytes need not be read.
///
/// # Errors
/// [`BatchFault::Missing`] when `bytes` is shorter than a batch's header.
pub fn assign(bytes: &mut [u8], base_offset: i64, leader_epoch: i32) -> Result<(), BatchFault> {
    put(bytes, 0, base_offset.to_be_bytes())?;
    put(bytes, LEADER_EPOCH_AT, leader_epoch.to_be_bytes())
}

/// Makes `now_ms` the time of all records of the batch in `bytes`, and corrects the checksum.
///
/// # Errors
/// As [`assign`].
pub fn set_append_time(bytes: &mut [u8], now_ms: i64) -> Result<(), BatchFault> {
    let attributes =
        bytes.get(ATTRIBUTES_AT..).and_then(|tail| tail.first_chunk()).ok_or(BatchFault::Missing)?;
    let attributes = i16::from_be_bytes(*attributes) | Attributes::LOG_APPEND_TIME;
    put(bytes, ATTRIBUTES_AT, attributes.to_be_bytes())?;
    set_max_timestamp(bytes, now_ms)
}

/// Corrects the max timestamp of the batch in `bytes`, and with it the checksum.
///
/// # Errors
/// As [`assign`].
pub fn set_max_timestamp(bytes: &mut [u8], max_timestamp_ms: i64) -> Result<(), BatchFault> {
    put(bytes, MAX_TIMESTAMP_AT, max_timestamp_ms.to_be_bytes())?;
    let crc = computed_crc(bytes);
    put(bytes, CRC_AT, crc.to_be_bytes())
}

fn put<const N: usize>(bytes: &mut [u8], at: usize, value: [u8; N]) -> Result<(), BatchFault> {
    if bytes.len() < HEADER_LEN {
        return Err(BatchFault::Missing);
    }
    let slot = bytes.get_mut(at..).and_then(|tail| tail.first_chunk_mut()).ok_or(BatchFault::Missing)?;
    *slot = value;
    Ok(())
}
