//! Walks records, packed ones as they unpack.

use std::io::{self, Read};

use wire::Error;

use super::batch::{RecordBatch, TimestampType};
use super::compression::Compression;
use super::fault::BatchFault;
use super::record::Record;

/// Bytes unpacked at a time.
const BUFFER_LEN: usize = 32 * 1024;

/// What a walk sees of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen<'a> {
    pub offset_delta: i32,
    pub timestamp: i64,
    pub has_key: bool,
    /// The key, if there is one and the walk reads keys.
    pub key: Option<&'a [u8]>,
    /// Length of the value, bytes; 0 where there is none.
    pub value_len: usize,
}

impl<'a> Seen<'a> {
    fn of(record: &Record<'a>, keys: Keys) -> Self {
        Seen {
            offset_delta: record.offset_delta,
            timestamp: record.timestamp,
            has_key: record.key.is_some(),
            key: record.key.filter(|_| keys == Keys::Read),
            value_len: record.value.map_or(0, <[u8]>::len),
        }
    }
}

/// What a walk does with the records' keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Keys {
    Skipped,
    Read,
}

impl RecordBatch<'_> {
    /// Calls `each` with every record, unpacking at most `max_len` bytes, and returns how many bytes packed records came
    /// to; 0 for records that are not packed. Those that are packed are walked as they unpack, so that memory does not
    /// follow what they come to; Snappy alone goes in whole blocks, whose growth is bounded.
    ///
    /// # Errors
    /// When the records cannot be read, are not as many as the header says, or unpack to more than `max_len`; and what
    /// `each` stops with.
    pub(crate) fn scan(
        &self,
        keys: Keys,
        max_len: usize,
        each: &mut dyn FnMut(Seen<'_>) -> Result<(), BatchFault>,
    ) -> Result<usize, BatchFault> {
        let compression = self.header.attributes.compression()?;
        match compression {
            Compression::None | Compression::Snappy => {
                let is_packed = compression == Compression::Snappy;
                let payload = self.payload(if is_packed { max_len } else { usize::MAX })?;
                for record in self.records(&payload) {
                    each(Seen::of(&record?, keys))?;
                }
                Ok(if is_packed { payload.len() } else { 0 })
            }
            packed => {
                packed.stream(self.packed(), |reader| walk(reader, self.times(), (keys, max_len), each))
            }
        }
    }

    /// How many records there are, and how their times follow from the header.
    fn times(&self) -> Times {
        Times {
            count: u32::try_from(self.header.record_count).unwrap_or(0),
            base: self.header.base_timestamp,
            all: (self.header.attributes.timestamp_type() == TimestampType::LogAppendTime)
                .then_some(self.header.max_timestamp),
        }
    }
}

/// How many records a batch has, and how a record's time follows from its batch's.
#[derive(Clone, Copy)]
struct Times {
    count: u32,
    base: i64,
    /// The time of every record, where the broker set it.
    all: Option<i64>,
}

/// Reads as many records as there should be from what `reader` unpacks, at most `max_len` bytes, and returns how many
/// bytes that were. Agrees with [`super::RecordIter`] on every input.
fn walk(
    reader: &mut dyn Read,
    times: Times,
    (keys, max_len): (Keys, usize),
    each: &mut dyn FnMut(Seen<'_>) -> Result<(), BatchFault>,
) -> Result<usize, BatchFault> {
    let mut unpacked = Unpacked {
        reader,
        keys,
        key: Vec::new(),
        buffer: vec![0; BUFFER_LEN].into_boxed_slice(),
        at: 0,
        filled: 0,
        passed: 0,
        max_len,
    };
    for index in 0..times.count {
        let seen = unpacked.record(times).map_err(|stop| match stop {
            Stop::Fault(fault) => fault,
            Stop::Record(error) => BatchFault::Record { index, error },
        })?;
        let key = (seen.has_key && keys == Keys::Read).then_some(unpacked.key.as_slice());
        each(Seen { key, ..seen })?;
    }
    if unpacked.fill()? > 0 {
        return Err(BatchFault::Behind);
    }
    Ok(unpacked.position())
}

/// Why a record does not read.
enum Stop {
    /// The bytes do not unpack, or to too much.
    Fault(BatchFault),
    /// They are no record.
    Record(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Record(error)
    }
}

impl From<BatchFault> for Stop {
    fn from(fault: BatchFault) -> Self {
        Stop::Fault(fault)
    }
}

/// What was unpacked and not yet looked at.
struct Unpacked<'r> {
    reader: &'r mut dyn Read,
    keys: Keys,
    /// The last record's, where keys are read.
    key: Vec<u8>,
    buffer: Box<[u8]>,
    at: usize,
    filled: usize,
    /// Bytes before the buffer's.
    passed: usize,
    max_len: usize,
}

impl Unpacked<'_> {
    fn position(&self) -> usize {
        self.passed + self.at
    }

    /// Unpacks more when nothing is left; returns how much there is now, 0 at the end.
    fn fill(&mut self) -> Result<usize, BatchFault> {
        while self.at == self.filled {
            self.passed += self.filled;
            (self.at, self.filled) = (0, 0);
            match self.reader.read(&mut self.buffer) {
                Ok(0) => return Ok(0),
                Ok(read) => self.filled = read,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return Err(BatchFault::Corrupt),
            }
            if self.passed + self.filled > self.max_len {
                return Err(BatchFault::TooLarge(self.max_len));
            }
        }
        Ok(self.filled - self.at)
    }

    fn byte(&mut self, end: usize) -> Result<u8, Stop> {
        if self.position() >= end || self.fill()? == 0 {
            return Err(Error::Short { wanted: 1, left: 0 }.into());
        }
        let byte = self.buffer.get(self.at).copied().unwrap_or_default();
        self.at += 1;
        Ok(byte)
    }

    /// A zigzag integer of at most `bits` bits that ends before `end`.
    fn varint(&mut self, bits: u32, end: usize) -> Result<i64, Stop> {
        let mut value = 0_u64;
        for shift in (0..bits).step_by(7) {
            let byte = self.byte(end)?;
            let part = u64::from(byte & 0x7f);
            if shift + 7 > bits && part >> (bits - shift) != 0 {
                return Err(Error::Varint.into());
            }
            value |= part << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err(Error::Varint.into())
    }

    /// A length or count, `None` for the null that -1 stands for.
    fn length(&mut self, end: usize) -> Result<Option<usize>, Stop> {
        match self.varint(32, end)? {
            -1 => Ok(None),
            len => Ok(Some(usize::try_from(len).map_err(|_| Error::Negative)?)),
        }
    }

    fn skip(&mut self, len: usize, end: usize) -> Result<(), Stop> {
        self.pass(len, end, |_, _| {})
    }

    /// Passes over `len` bytes, and hands them over with the last key, piece by piece.
    fn pass(
        &mut self,
        len: usize,
        end: usize,
        mut each: impl FnMut(&mut Vec<u8>, &[u8]),
    ) -> Result<(), Stop> {
        let left = end.saturating_sub(self.position());
        if len > left {
            return Err(Error::Short { wanted: len, left }.into());
        }
        let mut rest = len;
        while rest > 0 {
            let there = self.fill()?;
            if there == 0 {
                return Err(Error::Short { wanted: len, left: len - rest }.into());
            }
            let step = rest.min(there);
            each(&mut self.key, self.buffer.get(self.at..self.at + step).unwrap_or_default());
            self.at += step;
            rest -= step;
        }
        Ok(())
    }

    /// Passes over a key, or reads it; whether there is one.
    fn key(&mut self, end: usize) -> Result<bool, Stop> {
        let Some(len) = self.length(end)? else { return Ok(false) };
        self.key.clear();
        match self.keys {
            Keys::Skipped => self.skip(len, end)?,
            Keys::Read => self.pass(len, end, |key, piece| key.extend_from_slice(piece))?,
        }
        Ok(true)
    }

    /// Skips a value; its length, if there is one.
    fn piece(&mut self, end: usize) -> Result<Option<usize>, Stop> {
        let len = self.length(end)?;
        if let Some(len) = len {
            self.skip(len, end)?;
        }
        Ok(len)
    }

    fn record(&mut self, times: Times) -> Result<Seen<'static>, Stop> {
        let len = self.length(usize::MAX)?.ok_or(Error::Negative)?;
        let end = self.position().saturating_add(len);
        self.byte(end)?;
        let delta = self.varint(64, end)?;
        let timestamp = times.all.unwrap_or_else(|| times.base.wrapping_add(delta));
        let offset_delta = i32::try_from(self.varint(32, end)?).map_err(|_| Error::Varint)?;
        let has_key = self.key(end)?;
        let value_len = self.piece(end)?.unwrap_or(0);
        let headers = self.length(end)?.ok_or(Error::Negative)?;
        for _ in 0..headers {
            let key_len = self.length(end)?.ok_or(Error::Negative)?;
            self.skip(key_len, end)?;
            self.piece(end)?;
        }
        match end - self.position() {
            0 => Ok(Seen { offset_delta, timestamp, has_key, key: None, value_len }),
            surplus => Err(Error::Surplus(surplus).into()),
        }
    }
}
