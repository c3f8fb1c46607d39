//! tx: what is published and settled on a channel waits for the commit, which is one unit.

use std::sync::Arc;

use broker::Verdict;
use wire::Gathered;

use super::deliveries::{Deliveries, Unacked};
use crate::{channel::settling::Settling, intake::Intake};

/// Bytes that one transaction may publish.
pub(crate) const TRANSACTION_LEN: usize = 64 << 20;

/// Deliveries that one transaction may settle.
pub(crate) const TRANSACTION_SETTLED: usize = 1_000_000;

/// A transaction under way.
#[derive(Default)]
pub(crate) struct Transaction {
    pub intake: Intake,
    /// Messages that go nowhere and must not, on their way back.
    pub returned: Gathered,
    settled: Vec<(Unacked, Verdict)>,
}

impl Transaction {
    /// Whether it has become longer than a transaction may be.
    pub(crate) fn is_too_long(&self) -> bool {
        self.len() > TRANSACTION_LEN || self.settled.len() > TRANSACTION_SETTLED
    }

    /// Bytes that it keeps.
    pub(crate) fn len(&self) -> usize {
        self.intake.len() + self.returned.len()
    }

    /// A delivery is settled when it is committed.
    pub(crate) fn settle(&mut self, unacked: Unacked, verdict: Verdict) {
        self.settled.push((unacked, verdict));
    }

    /// What its commit settles: what the unit of the commit can hold, and what has to be rejected apart, since it may go to
    /// dead letters. Until [`Transaction::committed`] is told it can be rolled back as before.
    pub(crate) fn settlements(&self, deliveries: &Arc<Deliveries>) -> (Settling, Settling) {
        let (mut own, mut apart) = (Settling::default(), Settling::default());
        for (unacked, verdict) in &self.settled {
            let to = if *verdict == Verdict::Reject { &mut apart } else { &mut own };
            to.add(deliveries, unacked, *verdict);
        }
        (own, apart)
    }

    /// The unit of the commit is staged: nothing is taken back any more.
    pub(crate) fn committed(&mut self) {
        self.settled.clear();
    }

    /// Takes everything back: what was to be settled is out as it was.
    pub(crate) fn roll_back(self, deliveries: &Deliveries) {
        deliveries.restore(self.settled.into_iter().map(|(unacked, _)| unacked).collect());
    }
}
