//! Messages as they lie in queues, and their format in the registry.
//!
//! ```text
//! batch  = record*
//! record = length:varint  index:varint  exchange  routing key  properties  body
//! ```
//! Exchange, key and properties (flags and values as they were sent) have a varint length before them; the body goes to
//! the record's end. Indices ascend; a missing one is a record that is gone.

use std::sync::Arc;

use bytes::Bytes;
pub(crate) use model::Place;
use model::{Batch, Error, Format, FormatTag, Header, HeaderValue, Record, RecordAttributes, Result};
use wire::compact::{Reader, put_bytes, put_uvarint};

use crate::codec::{Properties, TableWriter, Value, table_of};

/// The tag that stored batches carry. Fixed for ever.
pub(crate) const FORMAT: FormatTag = FormatTag(5);

/// Lists and tables of a header that cross into other dialects.
const VALUES_MAX: usize = 10_000;

/// The format, to be registered at start.
pub fn format() -> Arc<dyn Format> {
    Arc::new(AmqpFormat)
}

/// A message as it is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stored<'a> {
    pub exchange: &'a [u8],
    pub routing_key: &'a [u8],
    /// Flags and properties as they go out.
    pub properties: &'a [u8],
    pub body: &'a [u8],
}

impl Stored<'_> {
    /// Puts it behind the records of a batch.
    pub(crate) fn put(&self, index: u32, out: &mut Vec<u8>) {
        self.put_with(index, out, self.body.len(), |out| out.extend_from_slice(self.body));
    }

    /// [`Stored::put`] with a body that `body` appends, of which there are `body_len` bytes.
    pub(crate) fn put_with(
        &self,
        index: u32,
        out: &mut Vec<u8>,
        body_len: usize,
        body: impl FnOnce(&mut Vec<u8>),
    ) {
        let texts = [self.exchange, self.routing_key, self.properties];
        let len = |len: usize| wire::uvarint_len(len as u64);
        let all: usize = texts.iter().map(|text| len(text.len()) + text.len()).sum();
        let all = wire::uvarint_len(u64::from(index)) + all + body_len;
        out.reserve(all + len(all));
        put_uvarint(out, all as u64);
        put_uvarint(out, u64::from(index));
        texts.iter().for_each(|text| put_bytes(out, text));
        body(out);
    }

    pub(crate) fn read_properties(&self) -> Properties<'_> {
        Properties::read(self.properties).unwrap_or_default()
    }

    /// What the broker decides on; `now_ms` is when it was published.
    pub(crate) fn attributes(&self, now_ms: i64) -> RecordAttributes {
        let properties = self.read_properties();
        RecordAttributes {
            route_key: Some(Bytes::copy_from_slice(self.routing_key)),
            priority: properties.priority,
            expiry_ms: expiration_ms(&properties).map(|ms| now_ms.saturating_add_unsigned(ms)),
            body_len: Some(u32::try_from(self.body.len()).unwrap_or(u32::MAX)),
            ..RecordAttributes::default()
        }
    }
}

/// For how long a message may wait, milliseconds, where it says so.
pub(crate) fn expiration_ms(properties: &Properties<'_>) -> Option<u64> {
    std::str::from_utf8(properties.expiration?).ok()?.parse().ok()
}

/// The message at `index`, with the place of its body; looks from `place` on, and leaves it behind the message. `None`
/// when it is not there.
pub(crate) fn find<'a>(
    body: &'a [u8],
    index: u32,
    place: &mut Place,
) -> Result<Option<(Stored<'a>, std::ops::Range<usize>)>> {
    if index < place.next {
        *place = Place::default();
    }
    while let Some(rest) = body.get(place.at..).filter(|rest| !rest.is_empty()) {
        let mut reader = Reader::new(rest);
        let record = reader.slice().map_err(corrupt)?;
        let end = body.len() - reader.rest().len();
        let (found, stored) = read_record(record)?;
        if found > index {
            return Ok(None);
        }
        *place = Place { at: end, next: found + 1 };
        if found == index {
            return Ok(Some((stored, end - stored.body.len()..end)));
        }
    }
    Ok(None)
}

fn corrupt(_: impl Sized) -> Error {
    Error::corrupt("a stored message does not read")
}

fn read_record(record: &[u8]) -> Result<(u32, Stored<'_>)> {
    let mut reader = Reader::new(record);
    let index: u32 = reader.narrow().map_err(corrupt)?;
    let exchange = reader.slice().map_err(corrupt)?;
    let routing_key = reader.slice().map_err(corrupt)?;
    let properties = reader.slice().map_err(corrupt)?;
    if Properties::read(properties).is_err() {
        return Err(corrupt(()));
    }
    Ok((index, Stored { exchange, routing_key, properties, body: reader.rest() }))
}

/// Calls `each` with every message of a batch, its index and its record's bytes behind the index.
fn split<'a>(batch: &'a Batch, mut each: impl FnMut(u32, &'a [u8], Stored<'a>) -> Result<()>) -> Result<()> {
    let mut reader = Reader::new(&batch.body);
    let mut next = 0;
    while !reader.rest().is_empty() {
        let record = reader.slice().map_err(corrupt)?;
        let (index, stored) = read_record(record)?;
        if index < next || index >= batch.count {
            return Err(Error::corrupt("the messages of a batch are out of order"));
        }
        next = index + 1;
        let tail = record.get(wire::uvarint_len(u64::from(index))..).unwrap_or_default();
        each(index, tail, stored)?;
    }
    Ok(())
}

struct AmqpFormat;

impl Format for AmqpFormat {
    fn tag(&self) -> FormatTag {
        FORMAT
    }

    fn name(&self) -> &'static str {
        "amqp message"
    }

    fn read(&self, batch: &Batch, each: &mut dyn FnMut(u32, Record) -> Result<()>) -> Result<()> {
        split(batch, |index, _, stored| {
            each(index, Record { append_time_ms: batch.append_time_ms, ..to_record(&stored) })
        })
    }

    fn attributes(
        &self,
        batch: &Batch,
        each: &mut dyn FnMut(u32, RecordAttributes) -> Result<()>,
    ) -> Result<()> {
        split(batch, |index, _, stored| each(index, stored.attributes(batch.append_time_ms)))
    }

    fn write(&self, records: &[Record]) -> Result<Bytes> {
        let mut out = Vec::new();
        for (index, record) in (0..).zip(records) {
            let properties = properties_of(record);
            let routing_key = record.route_key.as_deref().or(record.key.as_deref()).unwrap_or_default();
            let stored = Stored {
                exchange: b"",
                routing_key: routing_key.get(..255).unwrap_or(routing_key),
                properties: &properties,
                body: record.body.as_deref().unwrap_or_default(),
            };
            stored.put(index, &mut out);
        }
        Ok(out.into())
    }

    fn without(&self, batch: &Batch, keep: &dyn Fn(u32) -> bool) -> Result<Option<Bytes>> {
        let mut out = Vec::new();
        split(batch, |index, tail, _| {
            if keep(index) {
                let mut record = Vec::with_capacity(tail.len() + 5);
                put_uvarint(&mut record, u64::from(index));
                record.extend_from_slice(tail);
                put_bytes(&mut out, &record);
            }
            Ok(())
        })?;
        Ok((!out.is_empty()).then(|| out.into()))
    }

    fn alone(&self, batch: &Batch, index: u32, place: &mut Place) -> Result<Option<Bytes>> {
        let (stored, _) = find(&batch.body, index, place)?.ok_or_else(|| corrupt(()))?;
        let mut out = Vec::new();
        stored.put(0, &mut out);
        Ok(Some(out.into()))
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What other dialects read of a message.
fn to_record(stored: &Stored<'_>) -> Record {
    let properties = stored.read_properties();
    let mut headers = Vec::new();
    let mut room = VALUES_MAX;
    for (name, value) in properties.headers.unwrap_or_default().fields() {
        headers.push(Header { name: lossy(name), value: canonical(value, &mut room) });
    }
    let text = |value: &[u8]| HeaderValue::Text(lossy(value));
    for (name, value) in [
        ("type", properties.kind),
        ("user-id", properties.user_id),
        ("app-id", properties.app_id),
        ("content-encoding", properties.content_encoding),
    ] {
        headers.extend(value.map(|value| Header { name: name.into(), value: text(value) }));
    }
    Record {
        body: Some(Bytes::copy_from_slice(stored.body)),
        headers,
        content_type: properties.content_type.map(lossy),
        correlation_id: properties.correlation_id.map(Bytes::copy_from_slice),
        reply_to: properties.reply_to.map(lossy),
        message_id: properties.message_id.map(lossy),
        priority: properties.priority,
        event_time_ms: properties.timestamp.and_then(|s| i64::try_from(s).ok()?.checked_mul(1_000)),
        route_key: Some(Bytes::copy_from_slice(stored.routing_key)),
        ..Record::default()
    }
}

/// A value as bindings compare it: text is text, whether it was sent as that or as bytes.
pub(crate) fn compared(value: HeaderValue) -> HeaderValue {
    match value {
        HeaderValue::Binary(bytes) => match std::str::from_utf8(&bytes) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_) => HeaderValue::Binary(bytes),
        },
        other => other,
    }
}

/// A header's value as every dialect understands it. `room` is how many more there may be.
pub(crate) fn canonical(value: Value<'_>, room: &mut usize) -> HeaderValue {
    if *room == 0 {
        return HeaderValue::Null;
    }
    *room -= 1;
    match value {
        Value::Void => HeaderValue::Null,
        Value::Bool(value) => HeaderValue::Bool(value),
        Value::F32(value) => HeaderValue::Float(value.into()),
        Value::F64(value) => HeaderValue::Float(value),
        Value::Decimal(scale, value) => HeaderValue::Float(f64::from(value) / 10f64.powi(scale.into())),
        Value::Text(text) => match std::str::from_utf8(text) {
            Ok(text) => HeaderValue::Text(text.to_owned()),
            Err(_) => HeaderValue::Binary(Bytes::copy_from_slice(text)),
        },
        Value::Bytes(bytes) => HeaderValue::Binary(Bytes::copy_from_slice(bytes)),
        Value::Time(seconds) => {
            HeaderValue::Time(i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000))
        }
        Value::Array(array) => HeaderValue::List(array.values().map(|one| canonical(one, room)).collect()),
        Value::Table(table) => HeaderValue::Table(
            table
                .fields()
                .map(|(name, value)| Header { name: lossy(name), value: canonical(value, room) })
                .collect(),
        ),
        Value::U64(value) => HeaderValue::Int(i64::try_from(value).unwrap_or(i64::MAX)),
        integer => HeaderValue::Int(integer.integer().unwrap_or_default()),
    }
}

/// Flags and properties of a record that came from elsewhere.
pub(crate) fn properties_of(record: &Record) -> Vec<u8> {
    let mut headers = TableWriter::default();
    let kept = ["type", "user-id", "app-id"];
    for header in record.headers.iter().filter(|header| !kept.contains(&header.name.as_str())) {
        headers.header(header);
    }
    let headers = headers.finish();
    let short = |value: &'_ [u8]| value.len() < 256;
    let own = |name: &str| {
        record.headers.iter().find(|header| header.name == name).and_then(|header| match &header.value {
            HeaderValue::Text(text) => Some(text.as_bytes()).filter(|text| short(text)),
            _ => None,
        })
    };
    let text = |value: &'_ Option<String>| value.as_ref().map(|text| text.as_bytes().to_vec());
    let (content_type, reply_to, message_id) =
        (text(&record.content_type), text(&record.reply_to), text(&record.message_id));
    let fits = |value: &'_ Option<Vec<u8>>| value.as_ref().is_some_and(|value| short(value));
    let properties = Properties {
        content_type: content_type.as_deref().filter(|_| fits(&content_type)),
        headers: (!headers.is_empty()).then(|| table_of(&headers)),
        delivery_mode: Some(2),
        priority: record.priority,
        correlation_id: record.correlation_id.as_deref().filter(|id| short(id)),
        reply_to: reply_to.as_deref().filter(|_| fits(&reply_to)),
        message_id: message_id.as_deref().filter(|_| fits(&message_id)),
        timestamp: record.event_time_ms.and_then(|ms| u64::try_from(ms / 1_000).ok()),
        kind: own("type"),
        user_id: own("user-id"),
        app_id: own("app-id"),
        ..Properties::default()
    };
    let mut out = Vec::new();
    properties.write(&mut out);
    out
}

/// Properties with other headers, and without what a message that moves on does not keep.
pub(crate) fn with_headers(properties: &Properties<'_>, headers: &[u8], keeps_expiration: bool) -> Vec<u8> {
    let table = table_of(headers);
    let changed = Properties {
        headers: (!table.is_empty()).then_some(table),
        expiration: properties.expiration.filter(|_| keeps_expiration),
        ..*properties
    };
    let mut out = Vec::new();
    changed.write(&mut out);
    out
}

#[cfg(test)]
mod tests {
    use model::Offset;

    use super::*;

    fn batch(count: u32, body: Bytes) -> Batch {
        Batch::bare(FORMAT, Offset(5), count, 9, body)
    }

    fn stored(count: u32) -> Bytes {
        let mut out = Vec::new();
        for index in 0..count {
            let body = format!("body {index}");
            let message = Stored {
                exchange: b"x",
                routing_key: b"a.b",
                properties: &[0x10, 0, 2],
                body: body.as_bytes(),
            };
            message.put(index, &mut out);
        }
        out.into()
    }

    #[test]
    fn messages_are_found_by_index_from_wherever_the_reader_is() {
        let body = stored(5);
        let mut place = Place::default();
        for index in [0, 1, 3, 2, 4, 0] {
            let (message, range) = find(&body, index, &mut place).unwrap().unwrap();
            assert_eq!(message.body, format!("body {index}").as_bytes());
            assert_eq!(&body[range], message.body);
            assert_eq!((message.exchange, message.routing_key), (&b"x"[..], &b"a.b"[..]));
        }
        assert_eq!(find(&body, 5, &mut place).unwrap(), None);
    }

    #[test]
    fn messages_left_out_leave_the_others_at_their_places() {
        let rest = AmqpFormat.without(&batch(3, stored(3)), &|index| index != 1).unwrap().unwrap();
        let mut indices = Vec::new();
        AmqpFormat
            .read(&batch(3, rest.clone()), &mut |index, record| {
                indices.push((index, record.body.unwrap()));
                Ok(())
            })
            .unwrap();
        assert_eq!(indices, [(0, Bytes::from_static(b"body 0")), (2, Bytes::from_static(b"body 2"))]);
        assert!(find(&rest, 1, &mut Place::default()).unwrap().is_none());
        assert_eq!(AmqpFormat.without(&batch(3, rest), &|_| false).unwrap(), None);
    }

    #[test]
    fn a_record_from_elsewhere_reads_back_as_it_was() {
        let record = Record {
            body: Some(Bytes::from_static(b"body")),
            headers: vec![Header { name: "h".into(), value: HeaderValue::Text("v".into()) }],
            content_type: Some("text/plain".into()),
            correlation_id: Some(Bytes::from_static(b"c")),
            message_id: Some("m".into()),
            route_key: Some(Bytes::from_static(b"a.b")),
            append_time_ms: 9,
            ..Record::default()
        };
        let body = AmqpFormat.write(std::slice::from_ref(&record)).unwrap();
        let mut found = Vec::new();
        AmqpFormat
            .read(&batch(1, body), &mut |_, record| {
                found.push(record);
                Ok(())
            })
            .unwrap();
        assert_eq!(found, [record]);
    }

    #[test]
    fn a_message_that_moves_on_alone_keeps_its_bytes() {
        let all = Properties {
            content_type: Some(b"text/plain"),
            content_encoding: Some(b"gzip"),
            expiration: Some(b"60000"),
            cluster_id: Some(b"c"),
            delivery_mode: Some(1),
            priority: Some(7),
            ..Properties::default()
        };
        let mut properties = Vec::new();
        all.write(&mut properties);
        let message = Stored { exchange: b"x", routing_key: b"k", properties: &properties, body: b"body" };
        let (mut several, mut alone) = (Vec::new(), Vec::new());
        (0..3).for_each(|index| message.put(index, &mut several));
        message.put(0, &mut alone);
        let several = batch(3, several.into());
        let mut place = Place::default();
        for index in 0..3 {
            assert_eq!(AmqpFormat.alone(&several, index, &mut place).unwrap().unwrap(), alone);
            assert_eq!(place.next, index + 1, "what comes next is not looked for from the start");
        }
        assert!(AmqpFormat.alone(&several, 3, &mut place).is_err());
    }

    #[test]
    fn damaged_bytes_are_refused() {
        let body = stored(1);
        for len in 1..body.len() {
            assert!(
                AmqpFormat.read(&batch(1, body.slice(..len)), &mut |_, _| Ok(())).is_err(),
                "cut to {len}"
            );
        }
        assert!(AmqpFormat.read(&batch(0, body), &mut |_, _| Ok(())).is_err());
    }
}
