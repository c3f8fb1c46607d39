//! What a read asks for and what it gives.

pub use cursor::Oversize;
pub use store::{Ahead, Chunk, ChunkBatch, Mask, Upto};

/// How much one read gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadLimits {
    /// Bytes of bodies.
    pub bytes: usize,
    /// Records, rounded up to whole batches.
    pub records: u64,
    /// How far.
    pub upto: Upto,
    /// What of a first batch that is too long.
    pub oversize: Oversize,
    /// Who has what comes next read ahead.
    pub ahead: Ahead,
}

impl ReadLimits {
    /// Up to `bytes` of stable records, at least one batch.
    pub fn bytes(bytes: usize) -> Self {
        ReadLimits {
            bytes,
            records: u64::MAX,
            upto: Upto::Stable,
            oversize: Oversize::First,
            ahead: Ahead::Own,
        }
    }
}
