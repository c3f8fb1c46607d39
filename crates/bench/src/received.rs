//! What a server has sent, as generators read it.

use std::io::{ErrorKind, Read};

use crate::Failure;

/// Bytes of one read.
const READ_LEN: usize = 256 << 10;

/// Bytes that came, and how far they were looked at.
pub(crate) struct Received {
    bytes: Vec<u8>,
    at: usize,
    /// What is read into: cleared once, and not for every answer.
    part: Box<[u8]>,
}

impl Default for Received {
    fn default() -> Self {
        Received { bytes: Vec::new(), at: 0, part: vec![0; READ_LEN].into() }
    }
}

impl Received {
    /// Takes in what the server has sent; waits for some of it.
    pub(crate) fn fill(&mut self, stream: &mut impl Read) -> Result<(), Failure> {
        self.bytes.drain(..self.at);
        self.at = 0;
        let len = stream.read(&mut self.part)?;
        self.bytes.extend_from_slice(&self.part[..len]);
        if len == 0 { Err("the server hung up".into()) } else { Ok(()) }
    }

    /// What was not looked at.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.bytes[self.at..]
    }

    /// The next `len` bytes, which count as looked at.
    pub(crate) fn pass(&mut self, len: usize) -> &[u8] {
        let from = self.at;
        self.at += len;
        &self.bytes[from..self.at]
    }

    /// What was not looked at, which is taken.
    pub(crate) fn take(&mut self) -> Vec<u8> {
        self.bytes.drain(..self.at);
        self.at = 0;
        std::mem::take(&mut self.bytes)
    }
}

/// Reads what comes within the stream's time-out and says how much: 0 is nothing. A stream that ended is an error.
pub(crate) fn read_some(stream: &mut impl Read, into: &mut [u8]) -> Result<usize, Failure> {
    match stream.read(into) {
        Ok(0) => Err("the server cut a receiver off".into()),
        Ok(len) => Ok(len),
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(0),
        Err(e) => Err(e.into()),
    }
}

/// `one` over and over, to about `len` bytes, and how often.
pub(crate) fn repeated(one: &[u8], len: usize) -> (Vec<u8>, usize) {
    let times = (len / one.len()).max(1);
    (one.repeat(times), times)
}
