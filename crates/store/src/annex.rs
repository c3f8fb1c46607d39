//! State of a log that does not change any more, in a blob of its own: written once, however many checkpoints need it.
//!
//! ```text
//! magic 8 | CRC-32C over what follows u32 | log u64 | number u64 | bytes
//! ```
//!
//! Whose it is and under which number are in it, so that it is never taken for another: a number is given out again where
//! the file that had it is lost.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use bytes::Bytes;
use model::{Error, LogId, Result};

use crate::blobs::{self, Blobs};

const MAGIC: &[u8; 8] = b"wm-annx2";
const HEADER_LEN: usize = 28;

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

    /// Writes it, which is part of the state of `log`, unless it is there already.
    pub(crate) fn put(&self, blobs: &dyn Blobs, log: LogId) -> Result<()> {
        if self.is_written.load(Ordering::Relaxed) {
            return Ok(());
        }
        let number = self.number.load(Ordering::Relaxed);
        let parts = [header(log, number, &self.bytes), self.bytes.clone()];
        if let Err(error) = blobs.put(&name(number), &mut parts.into_iter().map(Ok)) {
            // Under this name something may be that is not durable.
            self.number.store(0, Ordering::Relaxed);
            return Err(error);
        }
        self.is_written.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Reads what an earlier checkpoint had written of `log`. [`model::ErrorKind::NotFound`] when it is not there,
    /// [`model::ErrorKind::Corrupt`] when it is damaged, or is another one.
    pub(crate) fn read(blobs: &dyn Blobs, log: LogId, number: u64) -> Result<Arc<Annex>> {
        let blob = blobs.open(&name(number))?;
        let damaged = || Error::corrupt(format!("annex {number} is damaged"));
        let mut bytes = blob.read(0, u32::try_from(blob.len()).map_err(|_| damaged())?)?;
        let found = bytes.split_to(bytes.len().min(HEADER_LEN));
        if found != header(log, number, &bytes) {
            return Err(damaged());
        }
        Ok(Arc::new(Annex { bytes, number: AtomicU64::new(number), is_written: AtomicBool::new(true) }))
    }
}

/// What precedes `bytes`.
fn header(log: LogId, number: u64, bytes: &[u8]) -> Bytes {
    let owner = [log.0.to_le_bytes(), number.to_le_bytes()].concat();
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(&owner);
    digest.update(bytes);
    let crc = digest.finalize() as u32;
    [&MAGIC[..], &crc.to_le_bytes(), &owner].concat().into()
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

    const LOG: LogId = LogId(3);

    #[test]
    fn an_annex_is_written_once_under_the_number_it_was_given_first() {
        let blobs = MemBlobs::default();
        let (annex, mut next) = (Annex::new("sealed"), 7);
        assert_eq!((annex.number(&mut next), annex.number(&mut next), next), (7, 7, 8));
        annex.put(&blobs, LOG).unwrap();
        annex.put(&blobs, LOG).unwrap();
        assert_eq!(list(&blobs).unwrap(), [7]);
        let read = Annex::read(&blobs, LOG, 7).unwrap();
        assert_eq!((&read, read.number(&mut next)), (&annex, 7));
    }

    #[test]
    fn damage_anywhere_is_noticed() {
        let blobs = MemBlobs::default();
        let annex = Annex::new("sealed");
        annex.number(&mut 1);
        annex.put(&blobs, LOG).unwrap();
        let whole = blobs.read(&name(1), 0, 34).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.to_vec();
            bytes[at] ^= 1;
            let number = at as u64 + 100;
            for (number, bytes) in [(number, bytes), (number + 100, whole[..at].to_vec())] {
                blobs.put(&name(number), &mut [Ok(Bytes::from(bytes))].into_iter()).unwrap();
                let kind = Annex::read(&blobs, LOG, number).unwrap_err().kind();
                assert_eq!(kind, ErrorKind::Corrupt, "{number}");
            }
        }
        assert_eq!(Annex::read(&blobs, LOG, 2).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[test]
    fn an_annex_of_another_log_or_of_another_number_is_not_taken_for_it() {
        let blobs = MemBlobs::default();
        let annex = Annex::new("sealed");
        annex.number(&mut 1);
        annex.put(&blobs, LOG).unwrap();
        let whole = blobs.read(&name(1), 0, 34).unwrap();
        blobs.put(&name(2), &mut [Ok(whole)].into_iter()).unwrap();
        let read = |log, number| Annex::read(&blobs, LogId(log), number).map_err(|error| error.kind());
        assert_eq!(read(LOG.0, 1).unwrap(), annex);
        assert_eq!(read(LOG.0 + 1, 1).unwrap_err(), ErrorKind::Corrupt);
        assert_eq!(read(LOG.0, 2).unwrap_err(), ErrorKind::Corrupt);
    }
}
