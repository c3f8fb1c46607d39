//! What becomes of deliveries, gathered while one read is handled.

use std::sync::Arc;

use broker::{Broker, Claim, Settlement, Span, Spans, Verdict};
use model::ErrorKind;

use super::deliveries::{Deliveries, Lessee, Unacked};

/// Deliveries of one lessee that meet the same fate.
struct Group {
    deliveries: Arc<Deliveries>,
    lessee: Arc<Lessee>,
    verdict: Verdict,
    spans: Spans,
    /// How many of them use credit up.
    counted: u64,
}

/// Settlements that wait to be made together.
#[derive(Default)]
pub(crate) struct Settling {
    groups: Vec<Group>,
}

impl Settling {
    /// Adds a delivery.
    pub(crate) fn add(&mut self, deliveries: &Arc<Deliveries>, unacked: &Unacked, verdict: Verdict) {
        let span = Span::one(unacked.offset);
        let counted = u64::from(unacked.counts);
        let same =
            |group: &&mut Group| Arc::ptr_eq(&group.lessee, &unacked.lessee) && group.verdict == verdict;
        match self.groups.iter_mut().rev().find(same) {
            Some(group) => {
                group.spans.add(span);
                group.counted += counted;
            }
            None => self.groups.push(Group {
                deliveries: deliveries.clone(),
                lessee: unacked.lessee.clone(),
                verdict,
                spans: [span].into_iter().collect(),
                counted,
            }),
        }
    }

    /// As the broker takes them. They are to be made, or [`Settling::made`] to be told that they are.
    pub(crate) fn settlements(&self) -> Vec<Settlement> {
        let made = self.groups.iter().map(|group| Settlement {
            work: group.lessee.queue.work.clone(),
            spans: group.spans.clone(),
            claim: Claim::Holder(group.lessee.holder),
            verdict: group.verdict,
        });
        made.collect()
    }

    /// They were made: whoever had the messages may have others.
    pub(crate) fn made(&mut self) {
        for group in self.groups.drain(..) {
            group.deliveries.give(&group.lessee, group.counted);
        }
    }

    /// Makes them. What belongs to a queue that is gone is gone with it.
    pub(crate) async fn make(&mut self, broker: &Broker) -> model::Result<()> {
        if self.groups.is_empty() {
            return Ok(());
        }
        let all = self.settlements();
        let outcome = match broker.settle(all.clone()).await {
            Err(error) if error.kind() == ErrorKind::Closed => each(broker, all).await,
            outcome => outcome.map(drop),
        };
        self.made();
        outcome
    }
}

async fn each(broker: &Broker, all: Vec<Settlement>) -> model::Result<()> {
    for one in all {
        match broker.settle(vec![one]).await {
            Err(error) if error.kind() != ErrorKind::Closed => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
