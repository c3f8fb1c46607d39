//! The plain format: records laid out one after another, with everything that the canonical view has. What the broker's
//! own tools publish in, and the neutral dialect of the tests.
//!
//! ```text
//! batch  = record*
//! record = length:varint  index:varint  fields:varint (a bit per field below)  field*
//! ```
//!
//! Fields in bit order: key, body, headers, content type, correlation id, reply-to, message id, route key, priority, expiry,
//! deliver-at, event time, attempts. Indices ascend; a missing one is a record that is gone.

use bytes::Bytes;
use model::{Batch, Error, Format, FormatTag, Header, HeaderValue, Record, RecordAttributes, Result};

use crate::codec::{Reader, put_bytes, put_i64, put_u64};

/// The tag of [`Plain`].
pub const PLAIN: FormatTag = FormatTag(1);

/// Nesting of header values.
const DEPTH_MAX: u32 = 8;

/// See the module.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

impl Format for Plain {
    fn tag(&self) -> FormatTag {
        PLAIN
    }

    fn name(&self) -> &'static str {
        "plain"
    }

    fn read(&self, batch: &Batch, each: &mut dyn FnMut(u32, Record) -> Result<()>) -> Result<()> {
        split(batch, |index, bytes| each(index, read_record(&mut Reader::new(bytes))?))
    }

    fn attributes(
        &self,
        batch: &Batch,
        each: &mut dyn FnMut(u32, RecordAttributes) -> Result<()>,
    ) -> Result<()> {
        self.read(batch, &mut |index, record| {
            each(
                index,
                RecordAttributes {
                    route_key: record.route_key,
                    record_key: record.key,
                    ordering_key: None,
                    priority: record.priority,
                    expiry_ms: record.expiry_ms,
                    deliver_at_ms: record.deliver_at_ms,
                    event_time_ms: record.event_time_ms,
                    external_id: None,
                    body_len: record.body.map(|body| u32::try_from(body.len()).unwrap_or(u32::MAX)),
                },
            )
        })
    }

    fn write(&self, records: &[Record]) -> Result<Bytes> {
        let mut out = Vec::new();
        let mut one = Vec::new();
        for (index, record) in (0u64..).zip(records) {
            one.clear();
            put_u64(&mut one, index);
            put_record(&mut one, record)?;
            put_bytes(&mut out, &one);
        }
        Ok(out.into())
    }

    fn without(&self, batch: &Batch, keep: &dyn Fn(u32) -> bool) -> Result<Option<Bytes>> {
        let mut out = Vec::new();
        let mut one = Vec::new();
        split(batch, |index, bytes| {
            if keep(index) {
                one.clear();
                put_u64(&mut one, u64::from(index));
                one.extend_from_slice(bytes);
                put_bytes(&mut out, &one);
            }
            Ok(())
        })?;
        Ok((!out.is_empty()).then(|| out.into()))
    }
}

/// Gives each record's index and the bytes after it.
fn split(batch: &Batch, mut each: impl FnMut(u32, &[u8]) -> Result<()>) -> Result<()> {
    let mut reader = Reader::new(&batch.body);
    let mut next = 0;
    while !reader.is_empty() {
        let mut record = Reader::new(reader.slice()?);
        let index = record.u32()?;
        if index < next || index >= batch.count {
            return Err(Error::corrupt("the records of a batch are out of order"));
        }
        next = index + 1;
        each(index, record.rest())?;
    }
    Ok(())
}

fn put_record(out: &mut Vec<u8>, record: &Record) -> Result<()> {
    let Record { key, body, headers, content_type, correlation_id, reply_to, message_id, .. } = record;
    let numbers = [
        record.priority.map(i64::from),
        record.expiry_ms,
        record.deliver_at_ms,
        record.event_time_ms,
        (record.attempts > 0).then(|| i64::from(record.attempts)),
    ];
    let byte_fields = [key.as_deref(), body.as_deref()];
    let texts = [
        content_type.as_deref().map(str::as_bytes),
        correlation_id.as_deref(),
        reply_to.as_deref().map(str::as_bytes),
        message_id.as_deref().map(str::as_bytes),
        record.route_key.as_deref(),
    ];
    let present = byte_fields.iter().map(Option::is_some).chain([!headers.is_empty()]);
    let present = present.chain(texts.iter().map(Option::is_some)).chain(numbers.iter().map(Option::is_some));
    let fields = (0..).zip(present).fold(0u64, |fields, (bit, is)| fields | u64::from(is) << bit);
    put_u64(out, fields);
    byte_fields.into_iter().flatten().for_each(|bytes| put_bytes(out, bytes));
    if !headers.is_empty() {
        put_headers(out, headers, 0)?;
    }
    texts.into_iter().flatten().for_each(|bytes| put_bytes(out, bytes));
    numbers.into_iter().flatten().for_each(|number| put_i64(out, number));
    Ok(())
}

fn read_record(reader: &mut Reader<'_>) -> Result<Record> {
    let fields = reader.u64()?;
    if fields >= 1 << 13 {
        return Err(Error::corrupt("a record has unknown fields"));
    }
    let has = |bit: u32| fields & (1 << bit) != 0;
    let bytes = |reader: &mut Reader<'_>, bit| if has(bit) { reader.bytes().map(Some) } else { Ok(None) };
    let text = |reader: &mut Reader<'_>, bit| {
        if has(bit) { reader.text().map(|text| Some(text.to_owned())) } else { Ok(None) }
    };
    let number = |reader: &mut Reader<'_>, bit| if has(bit) { reader.i64().map(Some) } else { Ok(None) };
    let record = Record {
        key: bytes(reader, 0)?,
        body: bytes(reader, 1)?,
        headers: if has(2) { read_headers(reader, 0)? } else { Vec::new() },
        content_type: text(reader, 3)?,
        correlation_id: bytes(reader, 4)?,
        reply_to: text(reader, 5)?,
        message_id: text(reader, 6)?,
        route_key: bytes(reader, 7)?,
        priority: number(reader, 8)?.map(u8::try_from).transpose().map_err(|_| out_of_range())?,
        expiry_ms: number(reader, 9)?,
        deliver_at_ms: number(reader, 10)?,
        event_time_ms: number(reader, 11)?,
        attempts: u32::try_from(number(reader, 12)?.unwrap_or(0)).map_err(|_| out_of_range())?,
        append_time_ms: 0,
    };
    if reader.is_empty() { Ok(record) } else { Err(Error::corrupt("bytes follow a record")) }
}

fn out_of_range() -> Error {
    Error::corrupt("a number of a record is out of range")
}

fn put_headers(out: &mut Vec<u8>, headers: &[Header], depth: u32) -> Result<()> {
    put_u64(out, headers.len() as u64);
    for header in headers {
        put_bytes(out, header.name.as_bytes());
        put_value(out, &header.value, depth)?;
    }
    Ok(())
}

fn read_headers(reader: &mut Reader<'_>, depth: u32) -> Result<Vec<Header>> {
    reader.list(|reader| {
        let name = reader.text()?.to_owned();
        Ok(Header { name, value: read_value(reader, depth)? })
    })
}

fn put_value(out: &mut Vec<u8>, value: &HeaderValue, depth: u32) -> Result<()> {
    if depth == DEPTH_MAX {
        return Err(Error::limit(format!("header values nest at most {DEPTH_MAX} deep")));
    }
    let mut tagged = |tag: u8| out.push(tag);
    match value {
        HeaderValue::Null => tagged(0),
        HeaderValue::Bool(value) => out.extend([1, u8::from(*value)]),
        HeaderValue::Int(value) => {
            tagged(2);
            put_i64(out, *value);
        }
        HeaderValue::Float(value) => {
            tagged(3);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
        HeaderValue::Text(value) => {
            tagged(4);
            put_bytes(out, value.as_bytes());
        }
        HeaderValue::Binary(value) => {
            tagged(5);
            put_bytes(out, value);
        }
        HeaderValue::Time(value) => {
            tagged(6);
            put_i64(out, *value);
        }
        HeaderValue::List(values) => {
            tagged(7);
            put_u64(out, values.len() as u64);
            return values.iter().try_for_each(|value| put_value(out, value, depth + 1));
        }
        HeaderValue::Table(headers) => {
            tagged(8);
            return put_headers(out, headers, depth + 1);
        }
    }
    Ok(())
}

fn read_value(reader: &mut Reader<'_>, depth: u32) -> Result<HeaderValue> {
    if depth == DEPTH_MAX {
        return Err(Error::corrupt("header values nest too deep"));
    }
    Ok(match reader.u8()? {
        0 => HeaderValue::Null,
        1 => HeaderValue::Bool(reader.flag()?),
        2 => HeaderValue::Int(reader.i64()?),
        3 => HeaderValue::Float(f64::from_bits(reader.u64_fixed()?)),
        4 => HeaderValue::Text(reader.text()?.to_owned()),
        5 => HeaderValue::Binary(reader.bytes()?),
        6 => HeaderValue::Time(reader.i64()?),
        7 => HeaderValue::List(reader.list(|reader| read_value(reader, depth + 1))?),
        8 => HeaderValue::Table(read_headers(reader, depth + 1)?),
        _ => return Err(Error::corrupt("a header has a value of an unknown kind")),
    })
}

#[cfg(test)]
mod tests {
    use model::Offset;

    use super::*;

    fn text(name: &str, value: HeaderValue) -> Header {
        Header { name: name.into(), value }
    }

    fn rich() -> Record {
        let nested = HeaderValue::Table(vec![text("deep", HeaderValue::List(vec![HeaderValue::Null]))]);
        Record {
            key: Some(Bytes::from_static(b"k")),
            body: Some(Bytes::new()),
            headers: vec![
                text("a", HeaderValue::Bool(true)),
                text("a", HeaderValue::Int(-3)),
                text("", HeaderValue::Float(1.5)),
                text("t", HeaderValue::Text("x".into())),
                text("b", HeaderValue::Binary(Bytes::from_static(&[0, 255]))),
                text("w", HeaderValue::Time(7)),
                text("n", nested),
            ],
            content_type: Some("text/plain".into()),
            correlation_id: Some(Bytes::from_static(b"c")),
            reply_to: Some("r".into()),
            message_id: Some("m".into()),
            priority: Some(255),
            expiry_ms: Some(-1),
            deliver_at_ms: Some(i64::MAX),
            event_time_ms: Some(0),
            append_time_ms: 0,
            route_key: Some(Bytes::from_static(b"a.b")),
            attempts: 3,
        }
    }

    fn batch(count: u32, body: Bytes) -> Batch {
        Batch::bare(PLAIN, Offset(5), count, 1, body)
    }

    fn all(batch: &Batch) -> Result<Vec<(u32, Record)>> {
        let mut records = Vec::new();
        Plain.read(batch, &mut |index, record| {
            records.push((index, record));
            Ok(())
        })?;
        Ok(records)
    }

    #[test]
    fn every_field_of_a_record_reads_back() {
        let records = [rich(), Record::default()];
        let batch = batch(2, Plain.write(&records).unwrap());
        let [first, second] = records;
        assert_eq!(all(&batch).unwrap(), [(0, first), (1, second)]);
    }

    #[test]
    fn records_left_out_leave_the_others_at_their_places() {
        let whole = batch(3, Plain.write(&[rich(), Record::default(), rich()]).unwrap());
        let rest = Plain.without(&whole, &|index| index != 1).unwrap().unwrap();
        let indices: Vec<_> = all(&batch(3, rest)).unwrap().into_iter().map(|(index, _)| index).collect();
        assert_eq!(indices, [0, 2]);
        assert_eq!(Plain.without(&whole, &|_| false).unwrap(), None);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let body = Plain.write(&[rich()]).unwrap();
        for len in 1..body.len() {
            assert!(all(&batch(1, body.slice(..len))).is_err(), "cut to {len}");
        }
        for at in 0..body.len() {
            let mut damaged = body.to_vec();
            damaged[at] ^= 0x80;
            // Whether it still reads is chance; it must not panic.
            drop(all(&batch(1, damaged.into())));
        }
        assert!(all(&batch(1, Plain.write(&[rich(), rich()]).unwrap())).is_err());
    }
}
