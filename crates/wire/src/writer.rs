use bytes::{BufMut, Bytes, BytesMut};

use crate::varint::{uvarint_bytes, zigzag};

/// Shared chunks up to this many bytes are copied: below it a copy is cheaper than one more piece in a vectored write.
pub const COPY_MAX: usize = 512;

/// A growing buffer of big-endian values, which also carries shared chunks by reference.
///
/// ```text
/// own bytes   |---------a---------|----b----|--c--|
/// shared                          ^ X       ^ Y        on the wire: a X b Y c
/// ```
#[derive(Debug, Default)]
pub struct Writer {
    own: BytesMut,
    /// Where in `own` each shared chunk goes, in order.
    shared: Vec<(usize, Bytes)>,
    shared_len: usize,
}

/// Declares the fixed-width integer writes.
macro_rules! integers {
    ($($name:ident $put:ident)*) => {$(
        #[doc = concat!("Writes a big-endian `", stringify!($name), "`.")]
        pub fn $name(&mut self, value: $name) {
            self.own.$put(value);
        }
    )*};
}

impl Writer {
    /// An empty writer.
    pub fn new() -> Self {
        Writer::default()
    }

    /// An empty writer with room for `len` bytes of its own.
    pub fn with_capacity(len: usize) -> Self {
        Writer { own: BytesMut::with_capacity(len), ..Writer::default() }
    }

    integers!(u8 put_u8 i8 put_i8 u16 put_u16 i16 put_i16 u32 put_u32 i32 put_i32 u64 put_u64 i64 put_i64 f64 put_f64);

    /// Bytes written, shared chunks included.
    pub fn len(&self) -> usize {
        self.own.len() + self.shared_len
    }

    /// Whether nothing is written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `bytes`.
    pub fn slice(&mut self, bytes: &[u8]) {
        self.own.extend_from_slice(bytes);
    }

    /// Writes an unsigned variable-length integer.
    pub fn uvarint(&mut self, value: u64) {
        let (bytes, len) = uvarint_bytes(value);
        self.own.extend_from_slice(bytes.get(..len).unwrap_or(&bytes));
    }

    /// Writes a zigzag variable-length integer.
    pub fn varint(&mut self, value: i64) {
        self.uvarint(zigzag(value));
    }

    /// Adds `chunk` by reference, or copies it when it is small (at most [`COPY_MAX`] bytes).
    pub fn shared(&mut self, chunk: &Bytes) {
        if chunk.len() <= COPY_MAX {
            self.own.extend_from_slice(chunk);
            return;
        }
        self.shared_len += chunk.len();
        self.shared.push((self.own.len(), chunk.clone()));
    }

    /// Adds everything that `other` holds, its shared chunks by reference.
    pub fn append(&mut self, other: Writer) {
        let start = self.own.len();
        self.own.extend_from_slice(&other.own);
        self.shared_len += other.shared_len;
        self.shared.extend(other.shared.into_iter().map(|(at, chunk)| (start + at, chunk)));
    }

    /// The bytes of its own, without shared chunks.
    pub fn own(&self) -> &[u8] {
        &self.own
    }

    /// Overwrites four bytes of its own at position `at`, counted without shared chunks. Out of range is ignored.
    pub fn patch_u32(&mut self, at: usize, value: u32) {
        if let Some(slot) = self.own.get_mut(at..).and_then(|tail| tail.first_chunk_mut()) {
            *slot = value.to_be_bytes();
        }
    }

    /// The pieces to write, in order; none is empty.
    pub fn into_chunks(self) -> Vec<Bytes> {
        let mut own = self.own.freeze();
        let mut taken = 0;
        let mut chunks = Vec::with_capacity(self.shared.len() * 2 + 1);
        for (at, chunk) in self.shared {
            let before = own.split_to(at - taken);
            taken = at;
            chunks.extend((!before.is_empty()).then_some(before));
            chunks.push(chunk);
        }
        chunks.extend((!own.is_empty()).then_some(own));
        chunks
    }

    /// Everything in one piece; copies only when there are shared chunks.
    pub fn into_bytes(self) -> Bytes {
        if self.shared.is_empty() {
            return self.own.freeze();
        }
        let mut all = BytesMut::with_capacity(self.len());
        for chunk in self.into_chunks() {
            all.extend_from_slice(&chunk);
        }
        all.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reader;

    #[test]
    fn what_is_written_is_read_back() {
        let mut writer = Writer::new();
        writer.i16(-7);
        writer.uvarint(u64::MAX);
        writer.varint(i64::MIN);
        writer.varint(-1);
        writer.slice(b"abc");
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.i16(), Ok(-7));
        assert_eq!(reader.uvarint64(), Ok(u64::MAX));
        assert_eq!(reader.varint64(), Ok(i64::MIN));
        assert_eq!(reader.varint32(), Ok(-1));
        assert_eq!(reader.text(3), Ok("abc"));
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn a_large_chunk_travels_by_reference_and_a_small_one_is_copied() {
        let large = Bytes::from(vec![7u8; COPY_MAX + 1]);
        let small = Bytes::from_static(b"xy");
        let mut writer = Writer::new();
        writer.u32(0);
        writer.shared(&large);
        writer.shared(&small);
        writer.patch_u32(0, 42);
        assert_eq!(writer.len(), 4 + large.len() + 2);
        let chunks = writer.into_chunks();
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[0][..], 42u32.to_be_bytes());
        assert_eq!(chunks[1].as_ptr(), large.as_ptr());
        assert_eq!(chunks[2][..], *b"xy");
    }

    #[test]
    fn appending_keeps_the_order_of_own_and_shared_bytes() {
        let large = Bytes::from(vec![9u8; COPY_MAX + 1]);
        let mut inner = Writer::new();
        inner.u8(2);
        inner.shared(&large);
        inner.u8(3);
        let mut outer = Writer::new();
        outer.u8(1);
        outer.append(inner);
        outer.u8(4);
        let bytes = outer.into_bytes();
        assert_eq!(bytes[..2], [1, 2]);
        assert_eq!(bytes[2..2 + large.len()], large[..]);
        assert_eq!(bytes[2 + large.len()..], [3, 4]);
    }

    #[test]
    fn a_chunk_at_the_very_start_or_end_leaves_no_empty_piece() {
        let large = Bytes::from(vec![1u8; COPY_MAX + 1]);
        let mut writer = Writer::new();
        writer.shared(&large);
        writer.shared(&large);
        assert_eq!(writer.into_chunks(), [large.clone(), large]);
    }
}
