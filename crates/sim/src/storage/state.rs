//! What the workload keeps behind the engine's logs and catalog: enough to notice an entry told twice, out of order or
//! not at all.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use model::{Error, ErrorKind, Result, Seq};
use parking_lot::Mutex;
use store::{Annex, Attached, Catalog, Change, Entry, LogCore};

use super::model::{Told, kind};

/// What was heard is put by, for checkpoints to name, after so many entries each.
const PUT_BY_EVERY: u64 = 8;
/// So many of those are kept.
const PUT_BY_MAX: usize = 4;

/// Behind each log: what it was told.
#[derive(Debug, Default)]
pub struct Heard {
    /// Staged state while the engine runs.
    pub told: Told,
    /// What it had been told at some points before, the oldest first.
    put_by: VecDeque<Arc<Annex>>,
    /// Whether some of that was damaged once.
    lost_some: bool,
    /// How much of it did not read at the last start.
    pub unread: u64,
    /// How often the engine said that readable bounds moved.
    pub moves: u64,
}

impl Heard {
    /// One more entry.
    pub fn tell(&mut self, kind: u64, value: u64) {
        self.told.tell(kind, value);
        if self.told.count.is_multiple_of(PUT_BY_EVERY) {
            self.put_by.push_back(Annex::new(encode(self.told).to_vec()));
            if self.put_by.len() > PUT_BY_MAX {
                self.put_by.pop_front();
            }
        }
    }

    /// Whether what was put by is what must have been by now.
    fn is_whole(&self) -> Result<bool> {
        if self.lost_some {
            return Ok(true);
        }
        let newest = self.told.count / PUT_BY_EVERY;
        let expected = newest.saturating_sub(PUT_BY_MAX as u64)..newest;
        if self.put_by.len() as u64 != newest - expected.start {
            return Ok(false);
        }
        for (nth, annex) in expected.zip(&self.put_by) {
            let then = decode(annex.bytes())?;
            let is_now = then.count == self.told.count;
            if then.count != (nth + 1) * PUT_BY_EVERY || is_now && then != self.told {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Attached for Heard {
    fn replay(&mut self, _core: &LogCore, entry: &Entry) -> Result<()> {
        match &entry.change {
            Change::Data { batch, .. } => self.tell(kind::DATA, batch.base.0),
            Change::Note(note) => self.tell(kind::NOTE, number(note)?),
            _ => {}
        }
        Ok(())
    }

    fn snapshot(&mut self, out: &mut Vec<u8>, annex: &mut dyn FnMut(&Arc<Annex>) -> u64) {
        out.extend_from_slice(&encode(self.told));
        out.push(u8::from(self.lost_some));
        self.put_by.iter().for_each(|put_by| out.extend_from_slice(&annex(put_by).to_le_bytes()));
    }

    fn restore(&mut self, bytes: &[u8], annex: &dyn Fn(u64) -> Result<Arc<Annex>>) -> Result<()> {
        let (told, rest) = bytes.split_at_checked(16).ok_or_else(short)?;
        let (lost_some, numbers) = rest.split_first().ok_or_else(short)?;
        self.told = decode(told)?;
        for number in numbers.chunks(8) {
            match annex(word(number)?) {
                Ok(put_by) => self.put_by.push_back(put_by),
                Err(error) if matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound) => {
                    self.unread += 1
                }
                Err(error) => return Err(error),
            }
        }
        self.lost_some = *lost_some != 0 || self.unread > 0;
        match self.is_whole()? {
            true => Ok(()),
            false => Err(Error::corrupt("what was put by is not what was told")),
        }
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
