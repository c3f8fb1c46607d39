//! Field tables, read where they lie. A [`Table`] was checked when it was read: its depth, its lengths, its types.

use model::{Header, HeaderValue};
use wire::{Error, Reader, Result};

/// Tables and arrays within each other: enough for any client, and an end to the rest.
const DEPTH_MAX: u32 = 32;

/// The fields of a table, without its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table<'a>(&'a [u8]);

/// A field's value. Types as the original reads them, which is not all as the specification has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Void,
    Bool(bool),
    I8(i8),
    U8(u8),
    I16(i16),
    U16(u16),
    I32(i32),
    U32(u32),
    I64(i64),
    U64(u64),
    F32(f32),
    F64(f64),
    /// Digits after the point, and the number without it.
    Decimal(u8, u32),
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    /// Seconds since the Unix epoch.
    Time(u64),
    Array(Array<'a>),
    Table(Table<'a>),
}

/// The values of an array, without its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Array<'a>(&'a [u8]);

impl<'a> Table<'a> {
    /// Takes a table with its length.
    pub(crate) fn read(reader: &mut Reader<'a>) -> Result<Self> {
        Table::read_at(reader, 0)
    }

    fn read_at(reader: &mut Reader<'a>, depth: u32) -> Result<Self> {
        if depth >= DEPTH_MAX {
            return Err(Error::Invalid("tables too deep within each other"));
        }
        let len = reader.u32()? as usize;
        let fields = reader.take(len)?;
        let mut inner = Reader::new(fields);
        while inner.remaining() > 0 {
            short(&mut inner)?;
            Value::read(&mut inner, depth + 1)?;
        }
        Ok(Table(fields))
    }

    /// Its bytes, without its length.
    pub(crate) fn bytes(self) -> &'a [u8] {
        self.0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Its fields in order.
    pub(crate) fn fields(self) -> impl Iterator<Item = (&'a [u8], Value<'a>)> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || {
            let name = short(&mut reader).ok()?;
            Some((name, Value::read(&mut reader, 0).ok()?))
        })
    }

    /// The first field of that name.
    pub(crate) fn get(self, name: &str) -> Option<Value<'a>> {
        self.fields().find(|(known, _)| *known == name.as_bytes()).map(|(_, value)| value)
    }

    /// Each field with its bytes, name and type included.
    pub(crate) fn raw_fields(self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || {
            let from = reader.rest();
            let name = short(&mut reader).ok()?;
            Value::read(&mut reader, 0).ok()?;
            Some((name, from.get(..from.len() - reader.remaining())?))
        })
    }
}

/// A table from bytes that were one when they were stored; empty when they are not.
pub(crate) fn table_of(bytes: &[u8]) -> Table<'_> {
    let mut reader = Reader::new(bytes);
    while reader.remaining() > 0 {
        if short(&mut reader).and_then(|_| Value::read(&mut reader, 1)).is_err() {
            return Table::default();
        }
    }
    Table(bytes)
}

impl<'a> Array<'a> {
    /// Its values in order.
    pub(crate) fn values(self) -> impl Iterator<Item = Value<'a>> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || Value::read(&mut reader, 0).ok())
    }
}

fn short<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8]> {
    let len = reader.u8()?;
    reader.take(usize::from(len))
}

fn long<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8]> {
    let len = reader.u32()? as usize;
    reader.take(len)
}

impl<'a> Value<'a> {
    fn read(reader: &mut Reader<'a>, depth: u32) -> Result<Self> {
        Ok(match reader.u8()? {
            b'V' => Value::Void,
            b't' => Value::Bool(reader.u8()? != 0),
            b'b' => Value::I8(reader.i8()?),
            b'B' => Value::U8(reader.u8()?),
            b's' => Value::I16(reader.i16()?),
            b'u' => Value::U16(reader.u16()?),
            b'I' => Value::I32(reader.i32()?),
            b'i' => Value::U32(reader.u32()?),
            b'l' => Value::I64(reader.i64()?),
            b'L' => Value::U64(reader.u64()?),
            b'f' => Value::F32(f32::from_bits(reader.u32()?)),
            b'd' => Value::F64(reader.f64()?),
            b'D' => Value::Decimal(reader.u8()?, reader.u32()?),
            b'S' => Value::Text(long(reader)?),
            b'x' => Value::Bytes(long(reader)?),
            b'T' => Value::Time(reader.u64()?),
            b'A' => Value::Array(Array::read_at(reader, depth)?),
            b'F' => Value::Table(Table::read_at(reader, depth)?),
            _ => return Err(Error::Invalid("unknown type of a field")),
        })
    }

    /// An integer, whatever its width.
    pub(crate) fn integer(self) -> Option<i64> {
        Some(match self {
            Value::I8(value) => value.into(),
            Value::U8(value) => value.into(),
            Value::I16(value) => value.into(),
            Value::U16(value) => value.into(),
            Value::I32(value) => value.into(),
            Value::U32(value) => value.into(),
            Value::I64(value) => value,
            Value::U64(value) => i64::try_from(value).ok()?,
            _ => return None,
        })
    }

    /// Text that is UTF-8.
    pub(crate) fn text(self) -> Option<&'a str> {
        match self {
            Value::Text(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// How the original calls its type in error texts.
    pub(crate) fn type_name(self) -> &'static str {
        match self {
            Value::Void => "void",
            Value::Bool(_) => "bool",
            Value::I8(_) => "byte",
            Value::U8(_) => "unsignedbyte",
            Value::I16(_) => "short",
            Value::U16(_) => "unsignedshort",
            Value::I32(_) => "signedint",
            Value::U32(_) => "unsignedint",
            Value::I64(_) | Value::U64(_) => "long",
            Value::F32(_) => "float",
            Value::F64(_) => "double",
            Value::Decimal(..) => "decimal",
            Value::Text(_) => "longstr",
            Value::Bytes(_) => "binary",
            Value::Time(_) => "timestamp",
            Value::Array(_) => "array",
            Value::Table(_) => "table",
        }
    }
}

impl<'a> Array<'a> {
    fn read_at(reader: &mut Reader<'a>, depth: u32) -> Result<Self> {
        if depth >= DEPTH_MAX {
            return Err(Error::Invalid("arrays too deep within each other"));
        }
        let values = long(reader)?;
        let mut inner = Reader::new(values);
        while inner.remaining() > 0 {
            Value::read(&mut inner, depth + 1)?;
        }
        Ok(Array(values))
    }
}

/// Writes a table: fields one after another, the length when it is finished.
#[derive(Debug, Default)]
pub(crate) struct TableWriter {
    fields: Vec<u8>,
}

impl TableWriter {
    /// Adds a field with its bytes as they were read.
    pub(crate) fn raw(&mut self, field: &[u8]) {
        self.fields.extend_from_slice(field);
    }

    /// Adds a field.
    pub(crate) fn field(&mut self, name: &str, value: Value<'_>) -> &mut Self {
        put_short(&mut self.fields, name.as_bytes());
        put_value(&mut self.fields, value);
        self
    }

    /// Adds a field that is an array.
    pub(crate) fn array<'v>(&mut self, name: &str, values: impl Iterator<Item = Value<'v>>) -> &mut Self {
        let mut inner = Vec::new();
        values.for_each(|value| put_value(&mut inner, value));
        self.field(name, Value::Array(Array(&inner)))
    }

    /// Adds a header that came from elsewhere.
    pub(crate) fn header(&mut self, header: &Header) -> &mut Self {
        put_short(&mut self.fields, header.name.as_bytes());
        put_canonical(&mut self.fields, &header.value);
        self
    }

    /// The table, without its length.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.fields
    }
}

/// Appends text of at most 255 bytes; what is longer is cut.
pub(super) fn put_short(out: &mut Vec<u8>, text: &[u8]) {
    let len = text.len().min(255);
    out.push(u8::try_from(len).unwrap_or(u8::MAX));
    out.extend_from_slice(text.get(..len).unwrap_or_default());
}

/// Appends bytes behind their length.
pub(super) fn put_long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn put_canonical(out: &mut Vec<u8>, value: &HeaderValue) {
    let mut inner = TableWriter::default();
    let value = match value {
        HeaderValue::Null => Value::Void,
        HeaderValue::Bool(value) => Value::Bool(*value),
        HeaderValue::Int(value) => Value::I64(*value),
        HeaderValue::Float(value) => Value::F64(*value),
        HeaderValue::Text(text) => Value::Text(text.as_bytes()),
        HeaderValue::Binary(bytes) => Value::Bytes(bytes),
        HeaderValue::Time(ms) => Value::Time(u64::try_from(ms / 1_000).unwrap_or(0)),
        HeaderValue::List(values) => {
            values.iter().for_each(|value| put_canonical(&mut inner.fields, value));
            Value::Array(Array(&inner.fields))
        }
        HeaderValue::Table(headers) => {
            headers.iter().for_each(|header| {
                inner.header(header);
            });
            Value::Table(Table(&inner.fields))
        }
    };
    put_value(out, value);
}

fn put_value(out: &mut Vec<u8>, value: Value<'_>) {
    let mut put = |tag: u8, bytes: &[u8]| {
        out.push(tag);
        out.extend_from_slice(bytes);
    };
    match value {
        Value::Void => put(b'V', &[]),
        Value::Bool(value) => put(b't', &[u8::from(value)]),
        Value::I8(value) => put(b'b', &value.to_be_bytes()),
        Value::U8(value) => put(b'B', &[value]),
        Value::I16(value) => put(b's', &value.to_be_bytes()),
        Value::U16(value) => put(b'u', &value.to_be_bytes()),
        Value::I32(value) => put(b'I', &value.to_be_bytes()),
        Value::U32(value) => put(b'i', &value.to_be_bytes()),
        Value::I64(value) => put(b'l', &value.to_be_bytes()),
        Value::U64(value) => put(b'L', &value.to_be_bytes()),
        Value::F32(value) => put(b'f', &value.to_be_bytes()),
        Value::F64(value) => put(b'd', &value.to_be_bytes()),
        Value::Decimal(scale, value) => {
            put(b'D', &[scale]);
            out.extend_from_slice(&value.to_be_bytes());
        }
        Value::Time(value) => put(b'T', &value.to_be_bytes()),
        Value::Text(bytes) => {
            put(b'S', &[]);
            put_long(out, bytes);
        }
        Value::Bytes(bytes) => {
            put(b'x', &[]);
            put_long(out, bytes);
        }
        Value::Array(Array(bytes)) => {
            put(b'A', &[]);
            put_long(out, bytes);
        }
        Value::Table(Table(bytes)) => {
            put(b'F', &[]);
            put_long(out, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Table<'_>> {
        let mut reader = Reader::new(bytes);
        let table = Table::read(&mut reader)?;
        reader.finish()?;
        Ok(table)
    }

    fn framed(fields: Vec<u8>) -> Vec<u8> {
        let mut out = Vec::new();
        put_long(&mut out, &fields);
        out
    }

    #[test]
    fn every_type_reads_back_as_it_was_written() {
        let inner = [3, b'n', b'e', b't', b'V'];
        let values = [
            Value::Void,
            Value::Bool(true),
            Value::I8(-1),
            Value::U8(255),
            Value::I16(-2),
            Value::U16(65_535),
            Value::I32(-3),
            Value::U32(4_000_000_000),
            Value::I64(i64::MIN),
            Value::U64(u64::MAX),
            Value::F32(1.5),
            Value::F64(-2.5),
            Value::Decimal(2, 314),
            Value::Text(b"text"),
            Value::Bytes(&[0, 255]),
            Value::Time(1_700_000_000),
            Value::Array(Array(b"t\x01V")),
            Value::Table(Table(&inner)),
        ];
        let mut writer = TableWriter::default();
        for value in values {
            writer.field("a", value);
        }
        let bytes = framed(writer.finish());
        let table = read(&bytes).unwrap();
        assert_eq!(table.fields().map(|(_, value)| value).collect::<Vec<_>>(), values);
        let raw: Vec<u8> = table.raw_fields().flat_map(|(_, field)| field.to_vec()).collect();
        assert_eq!(raw, table.bytes());
    }

    #[test]
    fn tables_that_are_cut_too_deep_or_of_unknown_types_are_refused() {
        let mut writer = TableWriter::default();
        writer.field("n", Value::I32(7)).field("t", Value::Text(b"abc"));
        let bytes = framed(writer.finish());
        for len in 0..bytes.len() {
            assert!(read(&bytes[..len]).is_err(), "cut to {len}");
        }
        assert!(read(&framed(vec![1, b'a', b'?'])).is_err());
        assert!(read(&u32::MAX.to_be_bytes()).is_err());
        for (depth, is_fine) in [(DEPTH_MAX - 1, true), (DEPTH_MAX, false)] {
            let mut fields = Vec::new();
            for _ in 0..depth {
                let mut outer = vec![1, b'a', b'F'];
                put_long(&mut outer, &fields);
                fields = outer;
            }
            assert_eq!(read(&framed(fields)).is_ok(), is_fine, "{depth} deep");
        }
    }
}
