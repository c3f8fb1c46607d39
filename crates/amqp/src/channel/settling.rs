//! What becomes of deliveries, gathered while one read is handled.

use std::{collections::HashMap, sync::Arc};

use broker::{Broker, Claim, Count, HolderId, Settlement, Span, Spans, Verdict};
use model::{ErrorKind, Offset, Seq};

use super::deliveries::{Deliveries, Lessee, Unacked};

/// How goes back what cannot be settled.
const BACK: Verdict = Verdict::Release { delay_ms: 0, count: Count::Add };

/// Deliveries of one lessee that meet the same fate.
struct Group {
    deliveries: Arc<Deliveries>,
    lessee: Arc<Lessee>,
    verdict: Verdict,
    gathered: Gathered,
    /// How many of them use credit up.
    counted: u64,
}

/// Offsets in the order in which they came: they are sorted once, when all are there.
#[derive(Default)]
struct Gathered {
    runs: Vec<Span>,
}

impl Gathered {
    fn add(&mut self, offset: Offset) {
        match self.runs.last_mut() {
            Some(last) if last.end == offset => last.end = offset.plus(1),
            _ => self.runs.push(Span::one(offset)),
        }
    }

    fn spans(&self) -> Spans {
        if self.runs.is_sorted() {
            return self.runs.iter().copied().collect();
        }
        let mut sorted = self.runs.clone();
        sorted.sort_unstable();
        sorted.into_iter().collect()
    }
}

/// Settlements that wait to be made together.
#[derive(Default)]
pub(crate) struct Settling {
    groups: Vec<Group>,
    places: HashMap<(HolderId, Verdict), usize>,
    /// The group that was added to last: what is settled side by side is often one's.
    last: Option<((HolderId, Verdict), usize)>,
}

impl Settling {
    /// Adds a delivery.
    pub(crate) fn add(&mut self, deliveries: &Arc<Deliveries>, unacked: &Unacked, verdict: Verdict) {
        let key = (unacked.lessee.holder, verdict);
        let at = match self.last {
            Some((last, at)) if last == key => at,
            _ => *self.places.entry(key).or_insert(self.groups.len()),
        };
        self.last = Some((key, at));
        if at == self.groups.len() {
            self.groups.push(Group {
                deliveries: deliveries.clone(),
                lessee: unacked.lessee.clone(),
                verdict,
                gathered: Gathered::default(),
                counted: 0,
            });
        }
        if let Some(group) = self.groups.get_mut(at) {
            group.gathered.add(unacked.offset);
            group.counted += u64::from(unacked.counts);
        }
    }

    /// Nothing is done with after all: everything goes back.
    pub(crate) fn turn_back(&mut self) {
        self.places.clear();
        self.last = None;
        let done = |group: &&mut Group| matches!(group.verdict, Verdict::Accept | Verdict::Reject);
        self.groups.iter_mut().filter(done).for_each(|group| group.verdict = BACK);
    }

    /// As the broker takes them. They are to be made, or [`Settling::made`] to be told that they are.
    pub(crate) fn settlements(&self) -> Vec<Settlement> {
        let made = self.groups.iter().map(|group| Settlement {
            work: group.lessee.queue.work.clone(),
            spans: group.gathered.spans(),
            claim: Claim::Holder(group.lessee.holder),
            verdict: group.verdict,
        });
        made.collect()
    }

    /// They were made: whoever had the messages may have others.
    pub(crate) fn made(&mut self) {
        self.places.clear();
        self.last = None;
        for group in self.groups.drain(..) {
            group.deliveries.give(&group.lessee, group.counted);
        }
    }

    /// Makes them; wait for the sequence where an answer says that they are. What belongs to a queue that is gone is gone
    /// with it; what cannot be settled goes back, as nobody else knows of it any more.
    pub(crate) async fn make(&mut self, broker: &Broker) -> model::Result<Seq> {
        if self.groups.is_empty() {
            return Ok(Seq(0));
        }
        let all = self.settlements();
        let outcome = match broker.settle(all.clone()).await {
            Ok((_, wait)) => Ok(wait),
            // One of them may be at fault, and some may be made: the others do not suffer for it.
            Err(_) => each(broker, all).await,
        };
        self.made();
        outcome
    }
}

/// Makes each for itself. The first error of one that belongs to a queue which is there.
async fn each(broker: &Broker, all: Vec<Settlement>) -> model::Result<Seq> {
    let mut outcome = Ok(Seq(0));
    for one in all {
        let back = Settlement { verdict: BACK, ..one.clone() };
        match broker.settle(vec![one]).await {
            Ok((_, wait)) => outcome = outcome.map(|others| others.max(wait)),
            Err(error) if error.kind() == ErrorKind::Closed => {}
            Err(error) => {
                if let Err(error) = broker.settle(vec![back]).await {
                    tracing::warn!(%error, "what could not be settled could not be given back either");
                }
                outcome = outcome.and(Err(error));
            }
        }
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_in_any_order_are_the_same_runs() {
        let ascending: Vec<u64> = (0..1_000).filter(|offset| offset % 100 != 7).collect();
        let gathered = |order: &[u64]| {
            let mut gathered = Gathered::default();
            order.iter().for_each(|offset| gathered.add(Offset(*offset)));
            gathered
        };
        let expected: Spans = ascending.iter().map(|offset| Offset(*offset)).collect();
        assert_eq!(gathered(&ascending).runs.len(), expected.run_count());
        let descending: Vec<u64> = ascending.iter().rev().copied().collect();
        let (even, odd): (Vec<u64>, Vec<u64>) = ascending.iter().partition(|offset| *offset % 2 == 0);
        for order in [ascending, descending, [odd, even].concat()] {
            assert_eq!(gathered(&order).spans(), expected);
        }
    }
}
