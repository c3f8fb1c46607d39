//! A message as clients see it, and as it lies in a stored record.
//!
//! ```text
//! batch  = record*
//! record = length:varint  index:varint  flags:1  md5 of body:16  body
//!          [md5 of attributes:16  count:varint  (name  data type  kind:1  value)*]   flag 1
//!          [md5 of system attributes:16  trace header]                               flag 2
//!          [group id]  [deduplication id]  [sender id]                               flags 4, 8, 16
//! ```
//! Texts and values have a varint length before them. `kind` is the byte of the checksum's rule: 1 text, 2 binary. Indices
//! ascend; a missing one is a record that is gone.

use std::borrow::Cow;

use bytes::Bytes;
use md5::{Digest, Md5};
use model::{Batch, Error, Result};
use wire::{Reader, Writer, uvarint_len};

use super::md5_lanes;

const HAS_ATTRIBUTES: u8 = 1;
const HAS_TRACE: u8 = 2;
const HAS_GROUP: u8 = 4;
const HAS_DEDUP: u8 = 8;
const HAS_SENDER: u8 = 16;

const KIND_TEXT: u8 = 1;
const KIND_BINARY: u8 = 2;

/// The one system attribute that a client may send.
pub(crate) const TRACE_HEADER: &str = "AWSTraceHeader";

/// An MD5 sum.
pub(crate) type Sum = [u8; 16];

/// A message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    /// The body, never empty when a client sent it.
    pub body: Cow<'a, str>,
    /// Attributes in the order in which they were sent.
    pub attributes: Vec<Attribute<'a>>,
    /// `AWSTraceHeader`.
    pub trace_header: Option<Cow<'a, str>>,
    /// `MessageGroupId`.
    pub group_id: Option<Cow<'a, str>>,
    /// `MessageDeduplicationId`, given or made from the body.
    pub dedup_id: Option<Cow<'a, str>>,
    /// Who sent it.
    pub sender_id: Option<Cow<'a, str>>,
}

/// One attribute of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attribute<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// `String`, `Number` or `Binary`, and perhaps a dot and the client's own word.
    pub data_type: Cow<'a, str>,
    /// Its value.
    pub value: Value<'a>,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Of a string or a number.
    Text(Cow<'a, str>),
    /// Of a binary.
    Binary(Cow<'a, [u8]>),
}

impl Value<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Value::Text(text) => text.as_bytes(),
            Value::Binary(bytes) => bytes,
        }
    }

    fn kind(&self) -> u8 {
        match self {
            Value::Text(_) => KIND_TEXT,
            Value::Binary(_) => KIND_BINARY,
        }
    }
}

impl<'a> Attribute<'a> {
    /// A `String` attribute.
    pub(crate) fn text(name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) -> Self {
        Attribute { name: name.into(), data_type: "String".into(), value: Value::Text(value.into()) }
    }

    /// The same, borrowing nothing.
    pub(crate) fn into_owned(self) -> Attribute<'static> {
        Attribute {
            name: self.name.into_owned().into(),
            data_type: self.data_type.into_owned().into(),
            value: match self.value {
                Value::Text(text) => Value::Text(text.into_owned().into()),
                Value::Binary(bytes) => Value::Binary(bytes.into_owned().into()),
            },
        }
    }

    /// What it counts for against the limits: name, type and value, bytes.
    pub(crate) fn len(&self) -> usize {
        self.name.len() + self.data_type.len() + self.value.bytes().len()
    }
}

/// The checksums that clients compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    /// `MD5OfMessageBody`.
    pub body: Sum,
    /// `MD5OfMessageAttributes`, over all of them.
    pub attributes: Option<Sum>,
    /// `MD5OfMessageSystemAttributes`.
    pub system: Option<Sum>,
}

impl Message<'_> {
    /// What it counts for against the limits, bytes. System attributes and ids are free.
    pub(crate) fn len(&self) -> usize {
        self.body.len() + self.attributes.iter().map(Attribute::len).sum::<usize>()
    }

    /// Its checksums.
    pub(crate) fn sums(&self) -> Sums {
        self.sums_with(body_sum(self.body.as_bytes()))
    }

    fn sums_with(&self, body: Sum) -> Sums {
        let attributes: Vec<&Attribute<'_>> = self.attributes.iter().collect();
        let trace = self.trace_header.as_deref().map(|value| Attribute::text(TRACE_HEADER, value));
        Sums {
            body,
            attributes: attributes_sum(&attributes),
            system: trace.and_then(|trace| attributes_sum(&[&trace])),
        }
    }

    /// Adds the record to a batch's body, as the one at `index`.
    pub(crate) fn put(&self, index: u32, sums: &Sums, out: &mut Writer) {
        let index = u64::from(index);
        out.uvarint(self.stored_len(index) as u64);
        out.uvarint(index);
        out.u8(self.flags());
        out.slice(&sums.body);
        put_bytes(out, self.body.as_bytes());
        if !self.attributes.is_empty() {
            out.slice(&sums.attributes.unwrap_or_default());
            out.uvarint(self.attributes.len() as u64);
            for attribute in &self.attributes {
                put_bytes(out, attribute.name.as_bytes());
                put_bytes(out, attribute.data_type.as_bytes());
                out.u8(attribute.value.kind());
                put_bytes(out, attribute.value.bytes());
            }
        }
        if let Some(trace) = &self.trace_header {
            out.slice(&sums.system.unwrap_or_default());
            put_bytes(out, trace.as_bytes());
        }
        self.ids().for_each(|id| put_bytes(out, id.as_bytes()));
    }

    /// Bytes of its record from the index on.
    fn stored_len(&self, index: u64) -> usize {
        let text = |len: usize| uvarint_len(len as u64) + len;
        let mut len = uvarint_len(index) + 1 + size_of::<Sum>() + text(self.body.len());
        if !self.attributes.is_empty() {
            len += size_of::<Sum>() + uvarint_len(self.attributes.len() as u64);
            let attribute = |one: &Attribute<'_>| {
                text(one.name.len()) + text(one.data_type.len()) + 1 + text(one.value.bytes().len())
            };
            len += self.attributes.iter().map(attribute).sum::<usize>();
        }
        if let Some(trace) = &self.trace_header {
            len += size_of::<Sum>() + text(trace.len());
        }
        len + self.ids().map(|id| text(id.len())).sum::<usize>()
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        [&self.group_id, &self.dedup_id, &self.sender_id].into_iter().flatten().map(AsRef::as_ref)
    }

    fn flags(&self) -> u8 {
        let given = [
            (HAS_ATTRIBUTES, !self.attributes.is_empty()),
            (HAS_TRACE, self.trace_header.is_some()),
            (HAS_GROUP, self.group_id.is_some()),
            (HAS_DEDUP, self.dedup_id.is_some()),
            (HAS_SENDER, self.sender_id.is_some()),
        ];
        given.into_iter().filter(|(_, is_given)| *is_given).fold(0, |flags, (flag, _)| flags | flag)
    }
}

fn body_sum(body: &[u8]) -> Sum {
    Md5::digest(body).into()
}

/// The checksums of messages that are stored together.
pub(crate) fn sums_of<'a, 'm: 'a>(messages: impl Iterator<Item = &'a Message<'m>> + Clone) -> Vec<Sums> {
    let bodies: Vec<&[u8]> = messages.clone().map(|message| message.body.as_bytes()).collect();
    let bodies = md5_lanes::sums(&bodies, body_sum);
    messages.zip(bodies).map(|(message, body)| message.sums_with(body)).collect()
}

/// The MD5 of attributes as AWS lays them out: sorted by name, and for each the lengths (32 bits, big-endian) and bytes of
/// name and type, one byte for the kind, length and bytes of the value. `None` for none.
pub(crate) fn attributes_sum(attributes: &[&Attribute<'_>]) -> Option<Sum> {
    if attributes.is_empty() {
        return None;
    }
    let mut sorted = attributes.to_vec();
    sorted.sort_by(|a, b| a.name.cmp(&b.name));
    let mut md5 = Md5::new();
    for attribute in sorted {
        add(&mut md5, attribute.name.as_bytes());
        add(&mut md5, attribute.data_type.as_bytes());
        md5.update([attribute.value.kind()]);
        add(&mut md5, attribute.value.bytes());
    }
    Some(md5.finalize().into())
}

fn add(md5: &mut Md5, bytes: &[u8]) {
    md5.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    md5.update(bytes);
}

/// A sum as clients read it.
pub(crate) fn hex(sum: &Sum) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = String::with_capacity(32);
    for byte in sum {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0')));
        }
    }
    text
}

fn put_bytes(out: &mut Writer, bytes: &[u8]) {
    out.uvarint(bytes.len() as u64);
    out.slice(bytes);
}

/// Gives each record's index and the bytes after it.
pub(crate) fn split<'a>(batch: &'a Batch, mut each: impl FnMut(u32, &'a [u8]) -> Result<()>) -> Result<()> {
    let mut reader = Reader::new(&batch.body);
    let mut next = 0;
    while reader.remaining() > 0 {
        let record = bytes(&mut reader)?;
        let mut inner = Reader::new(record);
        let index = inner.uvarint32().map_err(corrupt)?;
        if index < next || index >= batch.count {
            return Err(Error::corrupt("the records of a batch are out of order"));
        }
        next = index + 1;
        each(index, inner.rest())?;
    }
    Ok(())
}

/// The record at `index` of a batch.
pub(crate) fn find(batch: &Batch, index: u32) -> Result<Option<(Message<'_>, Sums)>> {
    let mut found = None;
    split(batch, |at, record| {
        if at == index {
            found = Some(read(record)?);
        }
        Ok(())
    })?;
    Ok(found)
}

/// Reads what [`Message::put`] wrote behind the index.
pub(crate) fn read(record: &[u8]) -> Result<(Message<'_>, Sums)> {
    let mut reader = Reader::new(record);
    let reader = &mut reader;
    let flags = reader.u8().map_err(corrupt)?;
    let mut sums = Sums { body: reader.array().map_err(corrupt)?, ..Sums::default() };
    let mut message = Message { body: text(reader)?, ..Message::default() };
    if flags & HAS_ATTRIBUTES != 0 {
        sums.attributes = Some(reader.array().map_err(corrupt)?);
        let count = reader.uvarint32().map_err(corrupt)?;
        for _ in 0..count {
            message.attributes.push(attribute(reader)?);
        }
    }
    if flags & HAS_TRACE != 0 {
        sums.system = Some(reader.array().map_err(corrupt)?);
        message.trace_header = Some(text(reader)?);
    }
    let places = [
        (HAS_GROUP, &mut message.group_id),
        (HAS_DEDUP, &mut message.dedup_id),
        (HAS_SENDER, &mut message.sender_id),
    ];
    for (flag, place) in places {
        if flags & flag != 0 {
            *place = Some(text(reader)?);
        }
    }
    reader.finish().map_err(corrupt)?;
    Ok((message, sums))
}

fn attribute<'a>(reader: &mut Reader<'a>) -> Result<Attribute<'a>> {
    let (name, data_type) = (text(reader)?, text(reader)?);
    let value = match reader.u8().map_err(corrupt)? {
        KIND_TEXT => Value::Text(text(reader)?),
        KIND_BINARY => Value::Binary(bytes(reader)?.into()),
        _ => return Err(Error::corrupt("a stored attribute is of an unknown kind")),
    };
    Ok(Attribute { name, data_type, value })
}

fn bytes<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8]> {
    let len = reader.uvarint32().map_err(corrupt)?;
    reader.take(len as usize).map_err(corrupt)
}

fn text<'a>(reader: &mut Reader<'a>) -> Result<Cow<'a, str>> {
    let text = std::str::from_utf8(bytes(reader)?);
    text.map(Cow::Borrowed).map_err(|_| Error::corrupt("a stored text is not UTF-8"))
}

fn corrupt(fault: wire::Error) -> Error {
    Error::corrupt(format!("a stored message does not read: {fault}"))
}

/// One batch body of these messages, in their order.
pub(crate) fn body_of<'a, 'm: 'a>(
    messages: impl IntoIterator<Item = (&'a Message<'m>, &'a Sums)> + Clone,
) -> Bytes {
    /// A length, an index and what a record has beside its texts.
    const OVERHEAD_LEN: usize = 32;
    let len = messages.clone().into_iter().map(|(message, _)| message.len() + OVERHEAD_LEN).sum();
    let mut out = Writer::with_capacity(len);
    for (index, (message, sums)) in (0u32..).zip(messages) {
        message.put(index, sums, &mut out);
    }
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(count: u32, body: Bytes) -> Batch {
        Batch {
            base: model::Offset(0),
            count,
            append_time_ms: 0,
            max_event_time_ms: None,
            format: super::super::format::FORMAT,
            flags: Default::default(),
            producer: None,
            origin: None,
            attributes: Default::default(),
            body,
        }
    }

    fn full() -> Message<'static> {
        Message {
            body: "körper".into(),
            attributes: vec![
                Attribute::text("b", "1"),
                Attribute {
                    name: "a".into(),
                    data_type: "Binary.gif".into(),
                    value: Value::Binary(vec![0, 255].into()),
                },
            ],
            trace_header: Some("Root=1".into()),
            group_id: Some("g".into()),
            dedup_id: Some("d".into()),
            sender_id: Some("000000000000".into()),
        }
    }

    #[test]
    fn what_is_stored_is_read_back_with_its_checksums() {
        let plain = Message { body: "x".into(), ..Message::default() };
        let all = [full(), plain];
        let sums: Vec<Sums> = all.iter().map(Message::sums).collect();
        let batch = batch(2, body_of(all.iter().zip(&sums)));
        for (index, (message, sums)) in (0..).zip(all.iter().zip(&sums)) {
            assert_eq!(find(&batch, index).unwrap().unwrap(), (message.clone(), *sums));
        }
        assert_eq!(find(&batch, 2).unwrap(), None);
    }

    #[test]
    fn a_plain_message_costs_few_bytes_beside_its_body() {
        let plain = Message { body: "x".repeat(100).into(), ..Message::default() };
        let stored = body_of([(&plain, &plain.sums())]).len();
        assert!(stored <= 100 + 21, "{stored}");
    }

    #[test]
    fn cut_or_twisted_bytes_are_refused() {
        let message = full();
        let body = body_of([(&message, &message.sums())]);
        for len in 1..body.len() {
            assert!(find(&batch(1, body.slice(..len)), 0).is_err(), "{len}");
        }
        for at in 0..body.len() {
            let mut twisted = body.to_vec();
            twisted[at] ^= 0x80;
            drop(find(&batch(1, twisted.into()), 0));
        }
    }

    #[test]
    fn sums_are_those_that_aws_computes() {
        // From recordings of the original: body "msg" with three attributes, and an attribute of MD5 known to clients.
        let text = |name: &'static str, value: &'static str| Attribute::text(name, value);
        let message = Message {
            body: "msg".into(),
            attributes: vec![text("General", "Kenobi"), text("Hello", "There"), text("Help.Me", "Me")],
            ..Message::default()
        };
        let sums = message.sums();
        assert_eq!(hex(&sums.body), "6e2baaf3b97dbeef01c0043275f9a0e7");
        assert_eq!(hex(&sums.attributes.unwrap()), "4c360f3fdafd970e05fae2f149d997f5");
        let one = [text("Foo", "Bar")];
        assert_eq!(hex(&attributes_sum(&[&one[0]]).unwrap()), "ae7155c6026991b6d54b11589678bf9c");
    }
}
