use wire::{Error, Reader, Result};

use super::batch::{BatchHeader, TimestampType};
use super::fault::BatchFault;

/// One record of a batch.
///
/// ```text
/// length, attributes (1 byte, unused), timestamp delta, offset delta, key length, key, value length, value,
/// header count, then per header: key length, key, value length, value        all lengths and deltas zigzag; -1 = null
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Counted from the batch's base offset.
    pub offset_delta: i32,
    /// Milliseconds since 1970, -1 for none.
    pub timestamp: i64,
    /// The key, if there is one.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone.
    pub value: Option<&'a [u8]>,
    /// The headers, in order; keys may repeat.
    pub headers: Headers<'a>,
}

impl<'a> Record<'a> {
    fn read(reader: &mut Reader<'a>, times: Times) -> Result<Self> {
        let len = length(reader)?.ok_or(Error::Negative)?;
        reader.within(len, |reader| {
            reader.i8()?;
            let timestamp = times.of(reader.varint64()?);
            let offset_delta = reader.varint32()?;
            let key = piece(reader)?;
            let value = piece(reader)?;
            let headers = Headers::read(reader)?;
            Ok(Record { offset_delta, timestamp, key, value, headers })
        })
    }
}

/// The headers of a record: checked when the record was read, taken apart when they are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Headers<'a> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Keys and values, in order. Keys are text by custom; the original lets any bytes pass.
    pub fn iter(&self) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + use<'a> {
        let mut reader = Reader::new(self.bytes);
        (0..self.count).map_while(move |_| header(&mut reader).ok())
    }

    fn read(reader: &mut Reader<'a>) -> Result<Self> {
        let count = length(reader)?.ok_or(Error::Negative)?;
        let start = reader.rest();
        if count > start.len() {
            return Err(Error::Short { wanted: count, left: start.len() });
        }
        for _ in 0..count {
            header(reader)?;
        }
        let used = start.len() - reader.remaining();
        Ok(Headers { count, bytes: start.get(..used).unwrap_or_default() })
    }
}

fn header<'a>(reader: &mut Reader<'a>) -> Result<(&'a [u8], Option<&'a [u8]>)> {
    let key_len = length(reader)?.ok_or(Error::Negative)?;
    Ok((reader.take(key_len)?, piece(reader)?))
}

/// A length, or the null that -1 stands for.
fn length(reader: &mut Reader<'_>) -> Result<Option<usize>> {
    match reader.varint32()? {
        -1 => Ok(None),
        len => usize::try_from(len).map(Some).map_err(|_| Error::Negative),
    }
}

fn piece<'a>(reader: &mut Reader<'a>) -> Result<Option<&'a [u8]>> {
    length(reader)?.map(|len| reader.take(len)).transpose()
}

/// How a record's time follows from its batch's.
#[derive(Clone, Copy)]
enum Times {
    From(i64),
    All(i64),
}

impl Times {
    fn of(self, delta: i64) -> i64 {
        match self {
            Times::From(base) => base.wrapping_add(delta),
            Times::All(time) => time,
        }
    }
}

/// The records of a batch in order, as many as its header says; ends behind the first error. Bytes behind the last
/// record are an error too.
pub struct RecordIter<'a> {
    reader: Reader<'a>,
    times: Times,
    next: u32,
    count: u32,
    failed: bool,
}

impl<'a> RecordIter<'a> {
    pub(super) fn new(header: &BatchHeader, payload: &'a [u8]) -> Self {
        let times = match header.attributes.timestamp_type() {
            TimestampType::CreateTime => Times::From(header.base_timestamp),
            TimestampType::LogAppendTime => Times::All(header.max_timestamp),
        };
        let count = u32::try_from(header.record_count).unwrap_or(0);
        RecordIter { reader: Reader::new(payload), times, next: 0, count, failed: false }
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = std::result::Result<Record<'a>, BatchFault>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.next == self.count {
            self.failed = true;
            return (self.reader.remaining() > 0).then_some(Err(BatchFault::Behind));
        }
        let index = self.next;
        self.next += 1;
        let record = Record::read(&mut self.reader, self.times);
        self.failed = record.is_err();
        Some(record.map_err(|error| BatchFault::Record { index, error }))
    }
}
