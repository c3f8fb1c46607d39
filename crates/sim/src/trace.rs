//! What happened in a run, as lines of text. Always hashed, kept only when asked for.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;

/// The run's record. Two runs of one seed write the same bytes.
#[derive(Clone, Default)]
pub struct Trace {
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    hash: u64,
    lines: u64,
    kept: Option<String>,
    scratch: String,
}

impl Default for Inner {
    fn default() -> Self {
        Inner { hash: 0xcbf2_9ce4_8422_2325, lines: 0, kept: None, scratch: String::new() }
    }
}

impl Trace {
    /// A trace that only hashes, or one that keeps its text as well.
    pub fn new(keep: bool) -> Self {
        let trace = Trace::default();
        trace.inner.lock().kept = keep.then(String::new);
        trace
    }

    /// Adds one line.
    pub fn line(&self, text: fmt::Arguments<'_>) {
        let mut inner = self.inner.lock();
        let mut scratch = std::mem::take(&mut inner.scratch);
        scratch.clear();
        // Writing into a string cannot fail; a formatter that fails anyway leaves a shorter line.
        let _infallible = fmt::write(&mut scratch, text).is_ok();
        scratch.push('\n');
        for byte in scratch.bytes() {
            inner.hash = (inner.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        inner.lines += 1;
        if let Some(kept) = &mut inner.kept {
            kept.push_str(&scratch);
        }
        inner.scratch = scratch;
    }

    /// FNV-1a over every byte written so far.
    pub fn hash(&self) -> u64 {
        self.inner.lock().hash
    }

    /// How many lines were written.
    pub fn lines(&self) -> u64 {
        self.inner.lock().lines
    }

    /// The kept text.
    pub fn text(&self) -> Option<String> {
        self.inner.lock().kept.clone()
    }
}
