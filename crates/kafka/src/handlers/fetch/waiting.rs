//! What a fetch waits for: as many bytes as it wants, or something that its client is to hear of at once.
//!
//! Every append wakes it. Bytes are counted then, from the bounds of the logs on; they are read once there may be enough.

use std::sync::Arc;

use broker::{Bounds, Partition, Upto, Watch};
use model::Offset;
use tokio::time::{Instant, timeout_at};

/// A partition that is waited on.
pub(super) struct Source {
    pub partition: Arc<Partition>,
    /// How far its client sees.
    pub upto: Upto,
    /// Where its client reads on.
    pub from: Offset,
    /// What lies below was counted.
    pub end: Offset,
    /// Bytes that more of it would add to the answer, at most.
    pub room: usize,
}

/// What a wait came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    /// There is something to read or to tell.
    News,
    /// The time is over, and all is as it was.
    InVain,
}

/// Waits until the sources have `missing` bytes more by their own account, which may differ from that of the wire.
pub(super) async fn until_there(
    mut sources: Vec<&mut Source>,
    missing: usize,
    watch: &Watch,
    deadline: Instant,
) -> Waited {
    let (mut found, mut has_moved) = (0_usize, false);
    sources.iter().for_each(|source| source.partition.watch(source.end, watch));
    loop {
        let is_told = timeout_at(deadline, watch.changed()).await.is_ok();
        for source in sources.iter_mut().filter(|_| is_told) {
            let bounds = source.partition.bounds();
            if bounds.start > source.from || source.partition.check_open().is_err() {
                return Waited::News;
            }
            let Some(len) = source.grown(bounds) else { continue };
            (found, has_moved) = (found.saturating_add(len), true);
            if found >= missing {
                return Waited::News;
            }
            // Those that did not grow told nobody and are armed as they were.
            source.partition.watch(source.end, watch);
        }
        // Whoever is told all the time neither passes its deadline nor keeps others from their turn.
        if !is_told || Instant::now() >= deadline {
            return if has_moved { Waited::News } else { Waited::InVain };
        }
        tokio::task::yield_now().await;
    }
}

impl Source {
    /// Bytes that an answer could have of what came since the last look, if anything did.
    fn grown(&mut self, bounds: Bounds) -> Option<usize> {
        let end = readable_end(self.upto, bounds);
        if end <= self.end {
            return None;
        }
        // About as many; whatever came is worth a look to a client that waits for a single byte.
        let len = self.partition.len_between(self.end, end).max(1);
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(self.room);
        self.end = end;
        self.room -= len;
        Some(len)
    }
}

pub(super) fn readable_end(upto: Upto, bounds: Bounds) -> Offset {
    match upto {
        Upto::Stable => bounds.stable_end,
        Upto::Durable => bounds.durable_end,
    }
}
