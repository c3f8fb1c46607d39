//! State of a log that does not change any more, in a blob of its own: written once, however many checkpoints need it.
//!
//! ```text
//! magic 8 | CRC-32C over what follows u32 | bytes
//! ```

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use crc_fast::crc32_iscsi;
use model::{Error, Result};

use crate::blobs::{self, Blobs};

const MAGIC: &[u8; 8] = b"wm-annex";
const HEADER_LEN: usize = 12;

/// What the names of all annexes begin with.
const PREFIX: &str = "annex-";

/// Part of a log's state that does not change any more, and that a checkpoint had better name than hold. It is written
/// with the first checkpoint that names it, and removed when neither of the two that are kept does.
#[derive(Debug)]
pub struct Annex {
    bytes: Bytes,
    /// 0 before a checkpoint named it.
    number: AtomicU64,
    is_written: AtomicBool,
}

impl Annex {
    /// One that no checkpoint has named yet.
    pub fn new(bytes: impl Into<Bytes>) -> Arc<Annex> {
        Arc::new(Annex { bytes: bytes.into(), number: AtomicU64::new(0), is_written: AtomicBool::new(false) })
    }

    /// What is in it.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Its number, or the `next` one from here on.
    pub(crate) fn number(&self, next: &mut u64) -> u64 {
        match self.number.load(Ordering::Relaxed) {
            0 => {
                let number = *next;
                *next += 1;
                self.number.store(number, Ordering::Relaxed);
                number
            }
            number => number,
        }
    }

    /// Writes it, unless it is there already.
    pub(crate) fn put(&self, blobs: &dyn Blobs) -> Result<()> {
        if self.is_written.load(Ordering::Relaxed) {
            return Ok(());
        }
        let mut header = MAGIC.to_vec();
        header.extend_from_slice(&crc32_iscsi(&self.bytes).to_le_bytes());
        let parts = [Bytes::from(header), self.bytes.clone()];
        let number = self.number.load(Ordering::Relaxed);
        if let Err(error) = blobs.put(&name(number), &mut parts.into_iter().map(Ok)) {
            // Under this name something may be that is not durable.
            self.number.store(0, Ordering::Relaxed);
            return Err(error);
        }
        self.is_written.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Reads what an earlier checkpoint had written. [`model::ErrorKind::NotFound`] when it is not there,
    /// [`model::ErrorKind::Corrupt`] when it is damaged.
    pub(crate) fn read(blobs: &dyn Blobs, number: u64) -> Result<Arc<Annex>> {
        let blob = blobs.open(&name(number))?;
        let damaged = || Error::corrupt(format!("annex {number} is damaged"));
        let mut bytes = blob.read(0, u32::try_from(blob.len()).map_err(|_| damaged())?)?;
        let header = bytes.split_to(bytes.len().min(HEADER_LEN));
        if header.strip_prefix(MAGIC) != Some(crc32_iscsi(&bytes).to_le_bytes().as_slice()) {
            return Err(damaged());
        }
        Ok(Arc::new(Annex { bytes, number: AtomicU64::new(number), is_written: AtomicBool::new(true) }))
    }
}

/// Equal when the same is in them.
impl PartialEq for Annex {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Annex {}

pub(crate) fn name(number: u64) -> String {
    format!("{PREFIX}{number:016}")
}

/// The numbers of all annexes that there are, ascending.
pub(crate) fn list(blobs: &dyn Blobs) -> Result<Vec<u64>> {
    blobs::numbers(blobs, PREFIX)
}

#[cfg(test)]
mod tests {
    use model::ErrorKind;

    use super::*;
    use crate::mem::MemBlobs;

    #[test]
    fn an_annex_is_written_once_under_the_number_it_was_given_first() {
        let blobs = MemBlobs::default();
        let (annex, mut next) = (Annex::new("sealed"), 7);
        assert_eq!((annex.number(&mut next), annex.number(&mut next), next), (7, 7, 8));
        annex.put(&blobs).unwrap();
        annex.put(&blobs).unwrap();
        assert_eq!(list(&blobs).unwrap(), [7]);
        let read = Annex::read(&blobs, 7).unwrap();
        assert_eq!((&read, read.number(&mut next)), (&annex, 7));
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let blobs = MemBlobs::default();
        let annex = Annex::new("sealed");
        annex.number(&mut 1);
        annex.put(&blobs).unwrap();
        let whole = blobs.read(&name(1), 0, 18).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 1;
            let number = at as u64 + 100;
            for (number, bytes) in [(number, bytes), (number + 100, whole[..at].to_vec())] {
                blobs.put(&name(number), &mut [Ok(Bytes::from(bytes))].into_iter()).unwrap();
                let kind = Annex::read(&blobs, number).unwrap_err().kind();
                assert_eq!(kind, ErrorKind::Corrupt, "{number}");
            }
        }
        assert_eq!(Annex::read(&blobs, 2).unwrap_err().kind(), ErrorKind::NotFound);
    }
}
