//! The client's word on deliveries: ack, nack, reject.

use std::sync::Arc;

use broker::{Count, Verdict};

use super::{Session, publish::check_len};
use crate::{
    channel::{
        Publishing,
        consumer::Consumer,
        deliveries::{Deliveries, Unacked},
    },
    codec::Method,
    error::Exception,
};

/// How a message goes back.
const BACK: Verdict = Verdict::Release { delay_ms: 0, count: Count::Add };

/// How a message of a quorum queue goes back: what was only given back does not count (since 4.3), what failed does.
fn back_counted(unacked: &Unacked, has_failed: bool) -> Verdict {
    if !has_failed {
        unacked.lessee.queue.note_uncounted(unacked.offset);
    }
    let failed = if has_failed { unacked.attempt } else { unacked.attempt.saturating_sub(1) };
    let retry = unacked.lessee.queue.arguments.retry;
    let delay_ms = retry.map_or(0, |retry| retry.delay_ms(has_failed, failed));
    Verdict::Release { delay_ms, count: if has_failed { Count::Add } else { Count::Set(failed) } }
}

/// How a message goes back.
pub(super) fn back(unacked: &Unacked, has_failed: bool) -> Verdict {
    if unacked.lessee.queue.arguments.is_quorum { back_counted(unacked, has_failed) } else { BACK }
}

/// A message does not come back.
fn done(unacked: &Unacked, verdict: Verdict) -> Verdict {
    if unacked.lessee.queue.arguments.is_quorum {
        unacked.lessee.queue.forget_uncounted(unacked.offset);
    }
    verdict
}

impl Session {
    pub(super) fn settle(&mut self, number: u16, method: &Method<'_>) -> Result<(), Exception> {
        let (tag, multiple, verdict) = match *method {
            Method::BasicAck { delivery_tag, multiple } => (delivery_tag, multiple, Verdict::Accept),
            Method::BasicNack { delivery_tag, multiple, requeue } => {
                (delivery_tag, multiple, if requeue { BACK } else { Verdict::Reject })
            }
            Method::BasicReject { delivery_tag, requeue } => {
                (delivery_tag, false, if requeue { BACK } else { Verdict::Reject })
            }
            _ => return Ok(()),
        };
        let has_failed = !matches!(method, Method::BasicNack { .. });
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let taken = channel.deliveries.take(tag, multiple);
        let taken = taken.ok_or_else(|| Exception::precondition(format!("unknown delivery tag {tag}")))?;
        let deliveries = &channel.deliveries;
        for unacked in taken {
            let verdict = match verdict {
                BACK => back(&unacked, has_failed),
                verdict => done(&unacked, verdict),
            };
            match &mut channel.publishing {
                Publishing::Transaction(transaction) => transaction.settle(unacked, verdict),
                _ => self.settling.add(deliveries, &unacked, verdict),
            }
        }
        match &channel.publishing {
            Publishing::Transaction(transaction) => check_len(transaction),
            _ => Ok(()),
        }
    }

    /// Closes a channel's deliveries: whatever is out goes back.
    pub(super) fn give_back(&mut self, deliveries: &Arc<Deliveries>) {
        for unacked in deliveries.close() {
            self.settling.add(deliveries, &unacked, back(&unacked, true));
        }
    }

    /// Everything that is out on a channel goes back, and comes again.
    pub(super) fn recover(&mut self, number: u16) {
        let Some(channel) = self.channels.get(&number) else { return };
        for unacked in channel.deliveries.take(0, true).unwrap_or_default() {
            // As if each were given back by the client.
            self.settling.add(&channel.deliveries, &unacked, back(&unacked, false));
        }
    }

    /// A consumer left its queue, which may go with it.
    pub(super) fn left(&self, consumer: &Consumer) {
        let queue = &consumer.lessee.queue;
        if let Some(vhost) = &self.vhost {
            // It was used until now: before nobody consumes from it, or it could have expired.
            vhost.touch(queue);
        }
        let is_last = {
            let mut users = queue.users.lock();
            users.consumers = users.consumers.saturating_sub(1);
            users.is_taken &= !consumer.is_exclusive;
            users.consumers == 0
        };
        if let (true, Some(vhost)) = (is_last, &self.vhost) {
            vhost.is_left(queue);
        }
        if is_last
            && queue.stream.facets().auto_delete
            && let Some(vhost) = &self.vhost
            && let Err(error) = vhost.drop_queue(queue)
        {
            tracing::warn!(queue = %queue.name, %error, "a queue without consumers could not be deleted");
        }
    }
}
