//! What happened within the last minute, for the rules of AWS that ask: memory of this process, as theirs is of theirs.

use std::collections::HashMap;

use model::StreamKey;

/// How long things are recent, milliseconds.
const RECENT_MS: i64 = 60_000;

/// Queues remembered of each kind; the oldest go first.
const QUEUES_MAX: usize = 10_000;

#[derive(Default)]
pub(super) struct Recent {
    deleted: HashMap<StreamKey, i64>,
    purged: HashMap<StreamKey, i64>,
}

impl Recent {
    pub(super) fn note_deleted(&mut self, key: StreamKey, now_ms: i64) {
        note(&mut self.deleted, key, now_ms);
    }

    pub(super) fn was_deleted(&self, key: &StreamKey, now_ms: i64) -> bool {
        is_recent(&self.deleted, key, now_ms)
    }

    /// Notes a purge, unless there was one already.
    pub(super) fn note_purged(&mut self, key: StreamKey, now_ms: i64) -> bool {
        let is_first = !is_recent(&self.purged, &key, now_ms);
        if is_first {
            note(&mut self.purged, key, now_ms);
        }
        is_first
    }
}

fn note(all: &mut HashMap<StreamKey, i64>, key: StreamKey, now_ms: i64) {
    if all.len() >= QUEUES_MAX {
        all.retain(|_, at_ms| at_ms.saturating_add(RECENT_MS) > now_ms);
        while all.len() >= QUEUES_MAX
            && let Some(oldest) = all.iter().min_by_key(|(_, at_ms)| **at_ms).map(|(key, _)| key.clone())
        {
            all.remove(&oldest);
        }
    }
    all.insert(key, now_ms);
}

fn is_recent(all: &HashMap<StreamKey, i64>, key: &StreamKey, now_ms: i64) -> bool {
    all.get(key).is_some_and(|at_ms| at_ms.saturating_add(RECENT_MS) > now_ms)
}

#[cfg(test)]
mod tests {
    use model::Namespace;

    use super::*;

    #[test]
    fn a_minute_is_recent() {
        let key = StreamKey::queue(&Namespace::default(), "jobs");
        let mut recent = Recent::default();
        assert!(!recent.was_deleted(&key, 0));
        recent.note_deleted(key.clone(), 0);
        assert!(recent.was_deleted(&key, 59_999) && !recent.was_deleted(&key, 60_000));
        assert!(recent.note_purged(key.clone(), 0));
        assert!(!recent.note_purged(key.clone(), 59_999));
        assert!(recent.note_purged(key, 60_000));
    }
}
