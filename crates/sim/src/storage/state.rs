//! What the workload keeps behind the engine's logs and catalog: enough to notice an entry told twice, out of order or
//! not at all.

use bytes::Bytes;
use model::{Error, Result, Seq};
use parking_lot::Mutex;
use store::{Attached, Catalog, Change, Entry, LogCore};

use super::model::{Told, kind};

/// Behind each log: what it was told.
#[derive(Debug, Default)]
pub struct Heard {
    /// Staged state while the engine runs.
    pub told: Told,
    /// How often the engine said that readable bounds moved.
    pub moves: u64,
}

impl Attached for Heard {
    fn replay(&mut self, _core: &LogCore, entry: &Entry) -> Result<()> {
        match &entry.change {
            Change::Data { batch, .. } => self.told.tell(kind::DATA, batch.base.0),
            Change::Note(note) => self.told.tell(kind::NOTE, number(note)?),
            _ => {}
        }
        Ok(())
    }

    fn snapshot(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&encode(self.told));
    }

    fn restore(&mut self, bytes: &[u8]) -> Result<()> {
        self.told = decode(bytes)?;
        Ok(())
    }

    fn moved(&mut self, _core: &LogCore) {
        self.moves += 1;
    }
}

/// Behind the catalog log.
#[derive(Debug, Default)]
pub struct HeardCatalog {
    state: Mutex<(Seq, Told)>,
}

impl HeardCatalog {
    /// A command was staged.
    pub fn applied(&self, seq: Seq, command: u64) {
        let mut state = self.state.lock();
        state.0 = seq;
        state.1.tell(kind::NOTE, command);
    }

    /// What it was told so far.
    pub fn told(&self) -> Told {
        self.state.lock().1
    }
}

impl Catalog for HeardCatalog {
    fn replay(&self, seq: Seq, command: &Bytes) -> Result<()> {
        self.applied(seq, number(command)?);
        Ok(())
    }

    fn snapshot(&self) -> (Seq, Vec<u8>) {
        let state = self.state.lock();
        (state.0, [state.0.0.to_le_bytes().as_slice(), &encode(state.1)].concat())
    }

    fn restore(&self, bytes: &[u8]) -> Result<()> {
        let (seq, told) = bytes.split_at_checked(8).ok_or_else(short)?;
        *self.state.lock() = (Seq(word(seq)?), decode(told)?);
        Ok(())
    }
}

/// A note or command as the engine carries it.
pub fn note(id: u64) -> Bytes {
    Bytes::copy_from_slice(&id.to_le_bytes())
}

fn number(note: &[u8]) -> Result<u64> {
    word(note)
}

fn encode(told: Told) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&told.count.to_le_bytes());
    bytes[8..].copy_from_slice(&told.hash.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Told> {
    let (count, hash) = bytes.split_at_checked(8).ok_or_else(short)?;
    Ok(Told { count: word(count)?, hash: word(hash)? })
}

fn word(bytes: &[u8]) -> Result<u64> {
    Ok(u64::from_le_bytes(bytes.try_into().map_err(|_| short())?))
}

fn short() -> Error {
    Error::corrupt("state of the workload has the wrong length")
}

/// The body of batch `id`: its id, then bytes that follow from it.
pub fn body(id: u64, len: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(len.max(8));
    bytes.extend_from_slice(&id.to_le_bytes());
    let mut word = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < len {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len.max(8));
    bytes.into()
}
