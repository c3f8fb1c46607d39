//! Committed offsets of groups that nobody uses any more.

use std::{collections::BTreeSet, sync::Arc};

use broker::{CursorKey, Partition, PositionView};
use model::{Namespace, StreamKey};
use tracing::{info, warn};

use super::{Coordinator, Slot, document_key, views::subscribed};
use crate::{group::Phase, topics};

/// Which offsets of a group do not expire.
pub(super) enum Use {
    /// None: it is empty, since then if that is known.
    None { emptied_ms: Option<i64> },
    /// Those of the topics that its members are subscribed to.
    Topics(BTreeSet<String>),
    /// It rebalances, or its subscriptions do not read.
    All,
}

impl Use {
    pub(super) fn keeps(&self, stream: &StreamKey) -> bool {
        match self {
            Use::None { .. } => false,
            Use::Topics(topics) => topics.contains(topics::shown_name(stream).as_str()),
            Use::All => true,
        }
    }
}

impl Coordinator {
    /// Takes expired offsets away. A group with members keeps those of the topics it is subscribed to, and all while it
    /// rebalances or when its subscriptions do not read; those of an empty group go
    /// `offsets.retention.minutes` after it emptied, those of a simple consumer that long after their commit (KIP-211).
    pub(crate) fn expire_offsets(&self) {
        let now_ms = self.now().wall_ms;
        for namespace in self.broker.namespaces() {
            for key in self.broker.cursors(&namespace) {
                self.expire_offsets_of(&namespace, &key, now_ms);
            }
        }
        for slot in self.slots() {
            self.forget_if_idle(&slot);
        }
    }

    /// Deletes a group that has neither members nor offsets, as the original does when it looks for expired offsets:
    /// else every name that anybody ever asked to join would stay.
    fn forget_if_idle(&self, slot: &Slot) {
        let mut state = slot.state.lock();
        if state.gone || !state.group.is_idle() || self.broker.positions(&slot.key).is_some() {
            return;
        }
        match self.broker.put_document(document_key(&slot.key), None) {
            Ok(_staged) => self.strike_off(&slot.key, &mut state),
            Err(e) => warn!(group = %slot.key.name, error = %e, "an idle group could not be deleted"),
        }
    }

    /// What a group makes of its offsets now.
    pub(super) fn use_of(&self, key: &CursorKey) -> Use {
        let Some(slot) = self.find(key) else { return Use::None { emptied_ms: None } };
        let state = slot.state.lock();
        match (state.group.phase(), subscribed(&state.group)) {
            (Phase::Empty, _) => Use::None { emptied_ms: state.group.emptied_wall_ms },
            (Phase::Stable, Some(topics)) => Use::Topics(topics),
            _ => Use::All,
        }
    }

    fn expire_offsets_of(&self, namespace: &Namespace, key: &CursorKey, now_ms: i64) {
        let in_use = self.use_of(key);
        let emptied_ms = match in_use {
            Use::None { emptied_ms } => emptied_ms,
            Use::Topics(_) => None,
            Use::All => return,
        };
        let expired = |view: &PositionView| {
            if in_use.keeps(&view.stream) {
                return false;
            }
            let from_ms = view.position.committed_at_ms.max(emptied_ms.unwrap_or(i64::MIN));
            view.position
                .expires_at_ms
                .map_or(now_ms - from_ms > self.offsets_retention_ms, |at| at <= now_ms)
        };
        let Some(positions) = self.broker.positions(key) else { return };
        let gone: Vec<Arc<Partition>> = positions
            .iter()
            .filter(|view| expired(view))
            .filter_map(|view| self.broker.stream(&view.stream)?.partition(view.partition).cloned())
            .collect();
        if gone.is_empty() {
            return;
        }
        match self.broker.delete_positions(key, &gone) {
            Ok(_staged) => {
                info!(group = %key.name, %namespace, count = gone.len(), "committed offsets expired")
            }
            Err(e) => {
                warn!(group = %key.name, %namespace, error = %e, "expired offsets could not be taken away")
            }
        }
    }
}

#[cfg(test)]
mod tests;
