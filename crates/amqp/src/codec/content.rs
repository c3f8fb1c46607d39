//! Content headers: the length of the body and fourteen properties, of which any may be missing.

use wire::{Error, Reader, Result};

use super::table::{Table, put_long, put_short};

/// Properties are flagged from the highest bit down; the lowest says that more flags follow, of which there are none.
const MORE_FLAGS: u16 = 1;

/// A content header frame's payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ContentHeader<'a> {
    pub class: u16,
    /// Of no meaning, and 0.
    pub weight: u16,
    /// Bytes of the body.
    pub body_len: u64,
    pub properties: Properties<'a>,
    /// Flags and properties as they were sent.
    pub raw: &'a [u8],
}

impl<'a> ContentHeader<'a> {
    /// Reads the payload of a content header frame.
    pub(crate) fn read(payload: &'a [u8]) -> Result<Self> {
        let mut reader = Reader::new(payload);
        let class = reader.u16()?;
        let weight = reader.u16()?;
        let body_len = reader.u64()?;
        let raw = reader.rest();
        Ok(ContentHeader { class, weight, body_len, properties: Properties::read(raw)?, raw })
    }
}

fn short<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8]> {
    let len = reader.u8()?;
    reader.take(usize::from(len))
}

fn octet(reader: &mut Reader<'_>) -> Result<u8> {
    reader.u8()
}

fn seconds(reader: &mut Reader<'_>) -> Result<u64> {
    reader.u64()
}

fn put_octet(out: &mut Vec<u8>, value: u8) {
    out.push(value);
}

fn put_seconds(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn put_table(out: &mut Vec<u8>, table: Table<'_>) {
    put_long(out, table.bytes());
}

macro_rules! properties {
    ($($bit:literal $name:ident: $type:ty, $read:path, $write:path;)*) => {
        /// The properties of a message.
        #[derive(Clone, Copy, Debug, Default, PartialEq)]
        pub(crate) struct Properties<'a> {
            $(pub $name: Option<$type>,)*
        }

        impl<'a> Properties<'a> {
            /// Reads flags and properties; nothing may follow.
            pub(crate) fn read(bytes: &'a [u8]) -> Result<Self> {
                let mut reader = Reader::new(bytes);
                let flags = reader.u16()?;
                if flags & MORE_FLAGS != 0 {
                    return Err(Error::Invalid("more property flags than there are properties"));
                }
                let mut properties = Properties::default();
                $(if flags & (1 << $bit) != 0 {
                    properties.$name = Some($read(&mut reader)?);
                })*
                reader.finish()?;
                Ok(properties)
            }

            /// Appends flags and properties.
            pub(crate) fn write(&self, out: &mut Vec<u8>) {
                let mut flags = 0u16;
                $(flags |= u16::from(self.$name.is_some()) << $bit;)*
                out.extend_from_slice(&flags.to_be_bytes());
                $(if let Some(value) = self.$name {
                    $write(out, value);
                })*
            }
        }
    };
}

properties! {
    15 content_type: &'a [u8], short, put_short;
    14 content_encoding: &'a [u8], short, put_short;
    13 headers: Table<'a>, Table::read, put_table;
    12 delivery_mode: u8, octet, put_octet;
    11 priority: u8, octet, put_octet;
    10 correlation_id: &'a [u8], short, put_short;
    9 reply_to: &'a [u8], short, put_short;
    8 expiration: &'a [u8], short, put_short;
    7 message_id: &'a [u8], short, put_short;
    6 timestamp: u64, seconds, put_seconds;
    5 kind: &'a [u8], short, put_short;
    4 user_id: &'a [u8], short, put_short;
    3 app_id: &'a [u8], short, put_short;
    2 cluster_id: &'a [u8], short, put_short;
}

impl Properties<'_> {
    /// Whether the message is to survive a restart.
    pub(crate) fn is_persistent(&self) -> bool {
        self.delivery_mode == Some(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_fourteen_properties_read_back() {
        let headers = [1, b'a', b't', 1];
        let mut framed = Vec::new();
        put_long(&mut framed, &headers);
        let properties = Properties {
            content_type: Some(b"text/plain"),
            content_encoding: Some(b"gzip"),
            headers: Some(Table::read(&mut Reader::new(&framed)).unwrap()),
            delivery_mode: Some(2),
            priority: Some(9),
            correlation_id: Some(b"c"),
            reply_to: Some(b"r"),
            expiration: Some(b"1000"),
            message_id: Some(b"m"),
            timestamp: Some(1_700_000_000),
            kind: Some(b"k"),
            user_id: Some(b"u"),
            app_id: Some(b"a"),
            cluster_id: Some(b""),
        };
        let mut bytes = Vec::new();
        properties.write(&mut bytes);
        assert_eq!(Properties::read(&bytes), Ok(properties));
        for len in 0..bytes.len() {
            assert!(Properties::read(&bytes[..len]).is_err(), "cut to {len}");
        }
        bytes.push(0);
        assert!(Properties::read(&bytes).is_err(), "a byte too many");
        assert!(Properties::read(&[0, 1, 0, 0]).is_err(), "more flags");
    }

    #[test]
    fn a_header_keeps_its_properties_as_they_were_sent() {
        let payload = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5][..], &[0x10, 0, 2]].concat();
        let header = ContentHeader::read(&payload).unwrap();
        assert_eq!((header.class, header.body_len, header.raw), (60, 5, &[0x10, 0, 2][..]));
        assert!(header.properties.is_persistent());
    }
}
