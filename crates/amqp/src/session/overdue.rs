//! Deliveries that a client does not settle in time: consumers of quorum queues may have a message for so long, and no
//! longer. It goes back then, its consumer ends, and the client is told, as the original has it since 4.3: by a cancel where
//! it understands that, by the end of the channel where not. Its word on such a delivery, when it comes, counts for nothing.

use std::{
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use super::{Result, Session};
use crate::{
    channel::{
        Failed,
        deliveries::{LOOK_MIN_NS, Lessee, Unacked},
    },
    codec::{Method, put_method},
    error::Exception,
    vhost::queue::Queue,
};

impl Session {
    /// How long somebody may have a message of the queue, nanoseconds, who asks for `asked_ms`; `None` = for ever.
    pub(super) fn timeout_of(&self, queue: &Queue, asked_ms: Option<u64>) -> Option<u64> {
        if !queue.arguments.is_quorum {
            return None;
        }
        let own_ms = asked_ms.or(queue.arguments.consumer_timeout_ms);
        let usual_ns = || u64::try_from(self.server.options.consumer_timeout.as_nanos()).unwrap_or(u64::MAX);
        Some(own_ms.map_or_else(usual_ns, |own_ms| own_ms.saturating_mul(1_000_000)))
    }

    /// Somebody has messages from now on, and for so long.
    pub(super) fn watch_time(&mut self, timeout_ns: Option<u64>) {
        let Some(timeout_ns) = timeout_ns else { return };
        let due_ns = self.now_ns().saturating_add(timeout_ns.max(LOOK_MIN_NS));
        self.look_ns = self.look_ns.into_iter().chain([due_ns]).min();
    }

    fn now_ns(&self) -> u64 {
        self.server.broker.env().clock.mono_ns()
    }

    /// In how long [`Session::end_overdue`] is to be called; `None` = not at all.
    pub(crate) fn look_in(&self) -> Option<Duration> {
        Some(Duration::from_nanos(self.look_ns?.saturating_sub(self.now_ns())))
    }

    /// Ends deliveries that were not settled in time. What the connection ends with, if it has to.
    pub(crate) async fn end_overdue(&mut self) -> Option<Box<Failed>> {
        let now_ns = self.now_ns();
        let numbers: Vec<u16> = self.channels.keys().copied().collect();
        let (mut next_ns, mut found) = (None, Vec::new());
        for number in numbers {
            let Some(channel) = self.channels.get(&number) else { continue };
            let overdue = channel.deliveries.overdue(now_ns);
            next_ns = next_ns.into_iter().chain(overdue.next_ns).min();
            if !overdue.late.is_empty() {
                found.push((number, overdue.late));
            }
        }
        self.look_ns = next_ns;
        let mut broken = None;
        for (number, late) in found {
            if let Err(failed) = self.end_late(number, late).await {
                broken = Some(Box::new(failed));
            }
        }
        self.flush();
        broken
    }

    /// Gives back what a channel has had for too long, and ends who had it.
    async fn end_late(&mut self, number: u16, late: Vec<Unacked>) -> Result<()> {
        let Some(channel) = self.channels.get(&number) else { return Ok(()) };
        let mut consumers = Vec::new();
        for unacked in &late {
            self.settling.add(&channel.deliveries, unacked, super::settle::back(unacked, false));
            if !consumers.iter().any(|known| Arc::ptr_eq(known, &unacked.lessee)) {
                consumers.push(unacked.lessee.clone());
            }
        }
        self.work_off().await?;
        for lessee in consumers {
            tracing::info!(queue = %lessee.queue.name, channel = number, "a consumer did not settle a message in time");
            if !self.cancel_told(number, &lessee).await {
                let failed = too_late(number, &lessee);
                self.fail_channel(number, &failed).await;
                break;
            }
        }
        Ok(())
    }

    /// Ends a consumer and tells the client. Whether it is one, and the client understands that.
    async fn cancel_told(&mut self, number: u16, lessee: &Arc<Lessee>) -> bool {
        let Some(channel) = self.channels.get(&number).filter(|_| self.client.wants_cancels.load(Relaxed))
        else {
            return false;
        };
        let mut all = channel.consumers.iter();
        let tag = all
            .find(|(_, running)| Arc::ptr_eq(&running.consumer.lessee, lessee))
            .map(|(tag, _)| tag.clone());
        let Some(tag) = tag else { return lessee.is_stopped.load(Relaxed) };
        if self.cancel(number, &tag, true).await.is_ok() {
            put_method(&mut self.out, number, Method::BasicCancel { consumer_tag: &tag, nowait: true });
        }
        true
    }
}

/// What a client is told whose channel ends for it.
fn too_late(number: u16, lessee: &Lessee) -> Failed {
    let timeout_ms = lessee.timeout_ns.unwrap_or(0) / 1_000_000;
    let exception = Exception::precondition(format!(
        "delivery acknowledgement on channel {number} timed out. Timeout value used: {timeout_ms} ms. This timeout value can be configured, see consumers doc guide to learn more"
    ));
    Failed { exception, class: 0, method: 0 }
}
