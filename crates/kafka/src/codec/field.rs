//! How one value of a message is read and written, in the classic and in the compact (flexible, KIP-482) form.

use std::borrow::Cow;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use wire::{Error, Reader, Result, Writer};

/// Longest text either form may carry, in bytes; the compact form could say more, the original refuses it.
const TEXT_LEN_MAX: usize = 0x7fff;

/// Text of a response: borrowed when decoded, either when built.
pub type Str<'a> = Cow<'a, str>;

/// The version a message is read or written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// The API version.
    pub number: i16,
    /// Whether this version uses compact lengths and tagged fields.
    pub flexible: bool,
}

/// A value that can be part of a message.
pub trait Field<'a>: Sized {
    /// Takes the value from `reader`.
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self>;

    /// Writes the value.
    fn write(&self, writer: &mut Writer, version: Version);

    /// Whether this is the null of a nullable field.
    fn is_null(&self) -> bool {
        false
    }

    /// Writes the value where the version has no null: there a null is written as empty.
    fn write_not_null(&self, writer: &mut Writer, version: Version) {
        self.write(writer, version);
    }
}

/// A value that has a null form on the wire.
pub trait Nullable<'a>: Field<'a> + Default {
    /// Takes the value or its null.
    fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>>;

    /// Writes the null.
    fn write_null(writer: &mut Writer, version: Version);

    /// Writes a value in a place that could have a null.
    fn write_some(&self, writer: &mut Writer, version: Version) {
        self.write(writer, version);
    }
}

impl<'a, T: Nullable<'a>> Field<'a> for Option<T> {
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self> {
        T::read_nullable(reader, version)
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        match self {
            Some(value) => value.write_some(writer, version),
            None => T::write_null(writer, version),
        }
    }

    fn is_null(&self) -> bool {
        self.is_none()
    }

    fn write_not_null(&self, writer: &mut Writer, version: Version) {
        match self {
            Some(value) => value.write(writer, version),
            None => T::default().write(writer, version),
        }
    }
}

/// Fixed-width integers.
macro_rules! integer_fields {
    ($($ty:ident)*) => {$(
        impl<'a> Field<'a> for $ty {
            fn read(reader: &mut Reader<'a>, _: Version) -> Result<Self> {
                reader.$ty()
            }

            fn write(&self, writer: &mut Writer, _: Version) {
                writer.$ty(*self);
            }
        }
    )*};
}

integer_fields!(i8 i16 u16 i32 i64);

impl<'a> Field<'a> for bool {
    fn read(reader: &mut Reader<'a>, _: Version) -> Result<Self> {
        Ok(reader.u8()? != 0)
    }

    fn write(&self, writer: &mut Writer, _: Version) {
        writer.u8(u8::from(*self));
    }
}

/// A topic's or directory's identity; all zero means none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid(pub [u8; 16]);

impl Uuid {
    /// The id that stands for "none".
    pub const ZERO: Uuid = Uuid([0; 16]);

    /// Whether this stands for "none".
    pub fn is_zero(self) -> bool {
        self == Uuid::ZERO
    }
}

/// As clients and tools print it: URL-safe base64 without padding.
impl std::fmt::Display for Uuid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl<'a> Field<'a> for Uuid {
    fn read(reader: &mut Reader<'a>, _: Version) -> Result<Self> {
        reader.array().map(Uuid)
    }

    fn write(&self, writer: &mut Writer, _: Version) {
        writer.slice(&self.0);
    }
}

/// Reads a length: compact ones are shifted by one so that zero can be null; classic text has sixteen bits, the rest 32.
fn read_len(reader: &mut Reader<'_>, version: Version, text: bool) -> Result<Option<usize>> {
    let len = match (version.flexible, text) {
        (true, _) => i64::from(reader.uvarint32()?) - 1,
        (false, true) => i64::from(reader.i16()?),
        (false, false) => i64::from(reader.i32()?),
    };
    match len {
        -1 => Ok(None),
        len => usize::try_from(len).map(Some).map_err(|_| Error::Negative),
    }
}

/// How many items of a list follow.
pub(crate) fn write_list_len(writer: &mut Writer, version: Version, count: usize) {
    write_len(writer, version, false, Some(count));
}

/// Writes a length or, without one, the null. Lengths beyond 31 bits cannot be: frames are shorter.
fn write_len(writer: &mut Writer, version: Version, text: bool, len: Option<usize>) {
    match (version.flexible, text) {
        (true, _) => writer.uvarint(len.map_or(0, |len| len as u64 + 1)),
        (false, true) => writer.i16(len.map_or(-1, |len| i16::try_from(len).unwrap_or(i16::MAX))),
        (false, false) => writer.i32(len.map_or(-1, |len| i32::try_from(len).unwrap_or(i32::MAX))),
    }
}

/// What a null is refused with where none may be.
pub(crate) const NULL: Error = Error::Invalid("null where a value must be");

/// `text`, cut at a character border to what its length prefix can say.
fn fitting(text: &str) -> &str {
    text.get(..text.floor_char_boundary(TEXT_LEN_MAX)).unwrap_or(text)
}

impl<'a> Field<'a> for &'a str {
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self> {
        Nullable::read_nullable(reader, version)?.ok_or(NULL)
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        let text = fitting(self);
        write_len(writer, version, true, Some(text.len()));
        writer.slice(text.as_bytes());
    }
}

impl<'a> Nullable<'a> for &'a str {
    fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>> {
        match read_len(reader, version, true)? {
            None => Ok(None),
            Some(len) if len > TEXT_LEN_MAX => Err(Error::Invalid("text too long")),
            Some(len) => reader.text(len).map(Some),
        }
    }

    fn write_null(writer: &mut Writer, version: Version) {
        write_len(writer, version, true, None);
    }
}

impl<'a> Field<'a> for &'a [u8] {
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self> {
        Nullable::read_nullable(reader, version)?.ok_or(NULL)
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        write_len(writer, version, false, Some(self.len()));
        writer.slice(self);
    }
}

impl<'a> Nullable<'a> for &'a [u8] {
    fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>> {
        read_len(reader, version, false)?.map(|len| reader.take(len)).transpose()
    }

    fn write_null(writer: &mut Writer, version: Version) {
        write_len(writer, version, false, None);
    }
}

/// Text and bytes of responses go the way of their borrowed forms.
macro_rules! cow_fields {
    ($($ty:ty)*) => {$(
        impl<'a> Field<'a> for Cow<'a, $ty> {
            fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self> {
                <&'a $ty>::read(reader, version).map(Cow::Borrowed)
            }

            fn write(&self, writer: &mut Writer, version: Version) {
                (&**self).write(writer, version);
            }
        }

        impl<'a> Nullable<'a> for Cow<'a, $ty> {
            fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>> {
                Ok(<&'a $ty>::read_nullable(reader, version)?.map(Cow::Borrowed))
            }

            fn write_null(writer: &mut Writer, version: Version) {
                <&'a $ty>::write_null(writer, version);
            }
        }
    )*};
}

cow_fields!(str[u8]);

impl<'a, T: Field<'a>> Field<'a> for Vec<T> {
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self> {
        Nullable::read_nullable(reader, version)?.ok_or(NULL)
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        write_len(writer, version, false, Some(self.len()));
        for item in self {
            item.write(writer, version);
        }
    }
}

impl<'a, T: Field<'a>> Nullable<'a> for Vec<T> {
    fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>> {
        let Some(count) = read_len(reader, version, false)? else { return Ok(None) };
        let mut items = Vec::with_capacity(reader.claim_items::<T>(count)?);
        for _ in 0..count {
            items.push(T::read(reader, version)?);
        }
        Ok(Some(items))
    }

    fn write_null(writer: &mut Writer, version: Version) {
        write_len(writer, version, false, None);
    }
}

/// Record batches as they are on the wire: one piece when decoded, any number of shared ones when built.
///
/// A null is read as empty, and what is written is never null: clients fail on a fetch answer whose records are.
#[derive(Clone, Debug)]
pub enum Records<'a> {
    /// Bytes of the message that was decoded.
    Slice(&'a [u8]),
    /// Stored pieces, written by reference.
    Chunks(Vec<Bytes>),
}

impl Records<'_> {
    /// Bytes in all pieces.
    pub fn len(&self) -> usize {
        match self {
            Records::Slice(bytes) => bytes.len(),
            Records::Chunks(chunks) => chunks.iter().map(Bytes::len).sum(),
        }
    }

    /// Whether there is no byte.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes in one piece.
    pub fn to_vec(&self) -> Vec<u8> {
        match self {
            Records::Slice(bytes) => bytes.to_vec(),
            Records::Chunks(chunks) => chunks.concat(),
        }
    }
}

impl Default for Records<'_> {
    fn default() -> Self {
        Records::Slice(&[])
    }
}

impl PartialEq for Records<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.to_vec() == other.to_vec()
    }
}

impl From<Bytes> for Records<'_> {
    fn from(bytes: Bytes) -> Self {
        Records::Chunks(vec![bytes])
    }
}

impl<'a> Field<'a> for Records<'a> {
    fn read(reader: &mut Reader<'a>, version: Version) -> Result<Self> {
        Ok(Nullable::read_nullable(reader, version)?.unwrap_or_default())
    }

    fn write(&self, writer: &mut Writer, version: Version) {
        write_len(writer, version, false, Some(self.len()));
        match self {
            Records::Slice(bytes) => writer.slice(bytes),
            Records::Chunks(chunks) => chunks.iter().for_each(|chunk| writer.shared(chunk)),
        }
    }
}

impl<'a> Nullable<'a> for Records<'a> {
    fn read_nullable(reader: &mut Reader<'a>, version: Version) -> Result<Option<Self>> {
        Ok(<&'a [u8]>::read_nullable(reader, version)?.map(Records::Slice))
    }

    fn write_null(writer: &mut Writer, version: Version) {
        write_len(writer, version, false, None);
    }
}

/// Reads the tagged fields that end every structure of a flexible version. `known` takes the value of a tag it knows
/// and says so; other tags are skipped.
pub(crate) fn read_tagged<'a>(
    reader: &mut Reader<'a>,
    mut known: impl FnMut(u32, &mut Reader<'a>) -> Result<bool>,
) -> Result<()> {
    for _ in 0..reader.uvarint32()? {
        let tag = reader.uvarint32()?;
        let len = usize::try_from(reader.uvarint32()?).map_err(|_| Error::Negative)?;
        reader.within(len, |value| {
            if !known(tag, value)? {
                value.take(value.remaining())?;
            }
            Ok(())
        })?;
    }
    Ok(())
}

/// Tagged fields that are to be written, in ascending order of their tags.
#[derive(Default)]
pub(crate) struct Tagged {
    fields: Vec<(u32, Writer)>,
}

impl Tagged {
    /// Adds a field.
    pub(crate) fn push<'a>(&mut self, tag: u32, value: &impl Field<'a>, version: Version) {
        let mut writer = Writer::new();
        value.write(&mut writer, version);
        self.fields.push((tag, writer));
    }

    /// Writes the section.
    pub(crate) fn write(self, writer: &mut Writer) {
        writer.uvarint(self.fields.len() as u64);
        for (tag, value) in self.fields {
            writer.uvarint(u64::from(tag));
            writer.uvarint(value.len() as u64);
            writer.append(value);
        }
    }
}
