//! Who waits for a log to move.

use model::Offset;
use store::LogCore;

use crate::watch::{Watch, WatchRef};

/// Fewest waiters at which those that gave up are looked for.
const PRUNE_AT_LEAST: usize = 16;

/// The watches that are armed on one log.
#[derive(Default)]
pub(crate) struct Watchers {
    armed: Option<Box<Armed>>,
}

#[derive(Default)]
struct Armed {
    watches: Vec<(Offset, WatchRef)>,
    prune_at: usize,
}

impl Watchers {
    /// Arms `watch` at `from`, or tells it at once.
    pub(crate) fn arm(&mut self, core: &LogCore, from: Offset, watch: &Watch) {
        if is_due(core, from) {
            watch.tell();
            return;
        }
        let reference = watch.reference();
        let armed = self.armed.get_or_insert_default();
        if let Some(known) = armed.watches.iter_mut().find(|(_, known)| known.is(&reference)) {
            known.0 = from;
            return;
        }
        armed.watches.push((from, reference));
        if armed.watches.len() > armed.prune_at.max(PRUNE_AT_LEAST) {
            armed.watches.retain(|(_, watch)| watch.is_live());
            armed.prune_at = armed.watches.len() * 2;
        }
    }

    /// The log moved, or is gone.
    pub(crate) fn moved(&mut self, core: &LogCore) {
        let Some(armed) = &mut self.armed else { return };
        armed.watches.retain(|(from, watch)| {
            let due = is_due(core, *from);
            if due {
                watch.tell();
            }
            !due && watch.is_live()
        });
        if armed.watches.is_empty() {
            self.armed = None;
        }
    }
}

/// Whether a reader that waits at `from` should look.
fn is_due(core: &LogCore, from: Offset) -> bool {
    core.is_deleted() || core.stable_end() > from || core.start() > from
}
