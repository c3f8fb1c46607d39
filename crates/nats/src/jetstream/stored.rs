//! Messages as they lie in streams, and their format in the registry.
//!
//! ```text
//! batch  = record*
//! record = length:varint  index:varint  subject  headers  body
//! ```
//! Subject and headers (the block as it was sent, or nothing) have a varint length before them; the body goes to the
//! record's end. Indices ascend; a missing one is a record that is gone.

use std::sync::Arc;

use broker::crossing::{self, Room, Values};
use bytes::Bytes;
use model::{Batch, Error, Format, FormatTag, Record, RecordAttributes, Result};
use wire::compact::{Reader, put_bytes, put_uvarint};

use super::headers;

/// The tag that stored batches carry. Fixed for ever.
pub(crate) const FORMAT: FormatTag = FormatTag(4);

/// The header with the key of a record that came from elsewhere, where it is text.
const KEY: &str = "wm-key";

/// Headers of one record that came from elsewhere; more travel in one of them.
const HEADERS_MAX: usize = 1_000;

/// The format, to be registered at start.
pub fn format() -> Arc<dyn Format> {
    Arc::new(NatsFormat)
}

/// A message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    pub subject: &'a [u8],
    /// The whole block, or nothing.
    pub headers: &'a [u8],
    pub body: &'a [u8],
}

impl Stored<'_> {
    /// Puts it behind the records of a batch.
    pub(crate) fn put(&self, index: u32, out: &mut Vec<u8>) {
        let mut record = Vec::with_capacity(self.subject.len() + self.headers.len() + self.body.len() + 12);
        put_uvarint(&mut record, u64::from(index));
        put_bytes(&mut record, self.subject);
        put_bytes(&mut record, self.headers);
        record.extend_from_slice(self.body);
        put_bytes(out, &record);
    }

    /// What the broker decides on.
    pub(crate) fn attributes(&self) -> RecordAttributes {
        RecordAttributes {
            route_key: Some(Bytes::copy_from_slice(self.subject)),
            body_len: Some(u32::try_from(self.headers.len() + self.body.len()).unwrap_or(u32::MAX)),
            ..RecordAttributes::default()
        }
    }
}

/// Calls `each` with every message of a batch and its index.
pub(crate) fn split<'a>(
    batch: &'a Batch,
    mut each: impl FnMut(u32, &'a [u8], Stored<'a>) -> Result<()>,
) -> Result<()> {
    let corrupt = |_| Error::corrupt("a stored message does not read");
    let mut reader = Reader::new(&batch.body);
    let mut next = 0;
    while !reader.rest().is_empty() {
        let record = reader.slice().map_err(corrupt)?;
        let mut reader = Reader::new(record);
        let index: u32 = reader.narrow().map_err(corrupt)?;
        if index < next || index >= batch.count {
            return Err(Error::corrupt("the messages of a batch are out of order"));
        }
        next = index + 1;
        let from_subject = reader.rest();
        let subject = reader.slice().map_err(corrupt)?;
        let headers = reader.slice().map_err(corrupt)?;
        each(index, from_subject, Stored { subject, headers, body: reader.rest() })?;
    }
    Ok(())
}

/// The header block of a record of any dialect, with its properties; nothing where there are none.
pub(crate) fn header_block(record: &Record) -> Vec<u8> {
    let takes = |name: &str, value: Option<&[u8]>| {
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':');
        let is_line = |value: &[u8]| !value.iter().any(|byte| matches!(byte, b'\r' | b'\n'));
        is_name && value.is_some_and(is_line)
    };
    let room = Room {
        values: Values::Text,
        count_max: HEADERS_MAX,
        takes: &takes,
        takes_body: &|_| true,
        has_time: false,
    };
    let carried = crossing::carry(record, &room).headers;
    let pairs = carried.iter().map(|(name, value)| (name.as_bytes(), value.as_deref().unwrap_or_default()));
    let key = record.key.as_deref().filter(|key| record.route_key.as_deref() != Some(*key));
    let key = key.filter(|key| std::str::from_utf8(key).is_ok() && takes(KEY, Some(*key)));
    headers::block(pairs.chain(key.map(|key| (KEY.as_bytes(), key))))
}

struct NatsFormat;

impl Format for NatsFormat {
    fn tag(&self) -> FormatTag {
        FORMAT
    }

    fn name(&self) -> &'static str {
        "nats message"
    }

    fn read(&self, batch: &Batch, each: &mut dyn FnMut(u32, Record) -> Result<()>) -> Result<()> {
        split(batch, |index, _, stored| {
            let subject = Bytes::copy_from_slice(stored.subject);
            let mut record = Record {
                key: Some(subject.clone()),
                body: Some(Bytes::copy_from_slice(stored.body)),
                append_time_ms: batch.append_time_ms,
                route_key: Some(subject),
                ..Record::default()
            };
            let text = |value: &[u8]| Bytes::copy_from_slice(value);
            let pairs = headers::all(stored.headers)
                .map(|(name, value)| (String::from_utf8_lossy(name).into_owned(), Some(text(value))));
            let pairs: Vec<_> = pairs.collect();
            if pairs.iter().any(|(name, _)| name.starts_with("wm-")) {
                crossing::restore(&mut record, pairs);
            } else {
                record.headers = headers::canonical(stored.headers);
            }
            each(index, record)
        })
    }

    fn attributes(
        &self,
        batch: &Batch,
        each: &mut dyn FnMut(u32, RecordAttributes) -> Result<()>,
    ) -> Result<()> {
        split(batch, |index, _, stored| each(index, stored.attributes()))
    }

    fn write(&self, records: &[Record]) -> Result<Bytes> {
        let mut out = Vec::new();
        for (index, record) in (0..).zip(records) {
            let block = header_block(record);
            let subject = record.route_key.as_deref().or(record.key.as_deref()).unwrap_or_default();
            let body = record.body.as_deref().unwrap_or_default();
            Stored { subject, headers: &block, body }.put(index, &mut out);
        }
        Ok(out.into())
    }

    fn without(&self, batch: &Batch, keep: &dyn Fn(u32) -> bool) -> Result<Option<Bytes>> {
        let mut out = Vec::new();
        split(batch, |index, from_subject, _| {
            if keep(index) {
                let mut record = Vec::with_capacity(from_subject.len() + 5);
                put_uvarint(&mut record, u64::from(index));
                record.extend_from_slice(from_subject);
                put_bytes(&mut out, &record);
            }
            Ok(())
        })?;
        Ok((!out.is_empty()).then(|| out.into()))
    }
}

#[cfg(test)]
mod tests {
    use model::{Header, HeaderValue, Offset};

    use super::*;

    fn batch(count: u32, body: Bytes) -> Batch {
        Batch::bare(FORMAT, Offset(5), count, 9, body)
    }

    fn all(batch: &Batch) -> Result<Vec<(u32, Record)>> {
        let mut records = Vec::new();
        NatsFormat.read(batch, &mut |index, record| {
            records.push((index, record));
            Ok(())
        })?;
        Ok(records)
    }

    fn record(subject: &'static str, headers: Vec<Header>) -> Record {
        Record {
            key: Some(Bytes::from_static(subject.as_bytes())),
            route_key: Some(Bytes::from_static(subject.as_bytes())),
            body: Some(Bytes::from_static(b"body")),
            headers,
            append_time_ms: 9,
            ..Record::default()
        }
    }

    fn header(name: &str, value: HeaderValue) -> Header {
        Header { name: name.into(), value }
    }

    #[test]
    fn messages_read_back_with_their_subject_as_key_and_headers_with_their_types() {
        let text = header("A", HeaderValue::Text("x".into()));
        let typed = header("N", HeaderValue::Int(-7));
        let records =
            [record("a.b", vec![text.clone()]), record("c", vec![text, typed]), record("d", vec![])];
        let stored = batch(3, NatsFormat.write(&records).unwrap());
        let expected: Vec<_> = (0..).zip(records).collect();
        assert_eq!(all(&stored).unwrap(), expected);
    }

    #[test]
    fn messages_left_out_leave_the_others_at_their_places() {
        let whole =
            NatsFormat.write(&[record("a", vec![]), record("b", vec![]), record("c", vec![])]).unwrap();
        let rest = NatsFormat.without(&batch(3, whole), &|index| index != 1).unwrap().unwrap();
        let indices: Vec<_> = all(&batch(3, rest.clone())).unwrap().iter().map(|(index, _)| *index).collect();
        assert_eq!(indices, [0, 2]);
        assert_eq!(NatsFormat.without(&batch(3, rest), &|_| false).unwrap(), None);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let body = NatsFormat.write(&[record("a.b", vec![])]).unwrap();
        for len in 1..body.len() {
            assert!(all(&batch(1, body.slice(..len))).is_err(), "cut to {len}");
        }
        assert!(all(&batch(0, body)).is_err());
    }
}
