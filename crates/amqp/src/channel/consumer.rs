//! One consumer: it waits for its turn, leases what it may have, and sends it.

use std::sync::{Arc, atomic::Ordering::Relaxed};

use broker::{
    Allowance, Broker, Claim, LeaseAsk, LeaseKind, LeaseTime, Oversize, Settlement, Subscription, Verdict,
    Watch,
};
use model::ErrorKind;

use super::deliveries::{Deliveries, Form, Lessee, Reading};
use crate::codec::{Method, put_method};

/// Messages and bytes that one lease takes at most.
const LEASE_RECORDS: u64 = 1_000;
const LEASE_LEN: u64 = 256 << 10;

/// A consumer of a channel.
pub(crate) struct Consumer {
    pub tag: String,
    pub lessee: Arc<Lessee>,
    pub no_ack: bool,
    pub is_exclusive: bool,
    /// Messages that it may have out; `None` = any number.
    pub prefetch: Option<u64>,
    pub priority: i32,
}

impl Consumer {
    fn is_stopped(&self) -> bool {
        self.lessee.is_stopped.load(Relaxed)
    }

    /// How many messages it may have now; `None` when it has to end.
    fn room(&self, deliveries: &Deliveries) -> Option<u64> {
        if self.is_stopped() {
            return None;
        }
        let shared = deliveries.room()?;
        if self.no_ack {
            return Some(LEASE_RECORDS);
        }
        let own = self.prefetch.map_or(u64::MAX, |max| max.saturating_sub(self.lessee.out.load(Relaxed)));
        Some(shared.min(own).min(LEASE_RECORDS))
    }

    /// No more than its share where others consume as well.
    fn share(&self, room: u64) -> u64 {
        let consumers = u64::from(self.lessee.queue.consumers());
        if consumers < 2 || room < 2 {
            return room;
        }
        room.min(u64::from(self.lessee.queue.ready()).div_ceil(consumers).max(1))
    }

    /// Takes its place among the queue's consumers: before its client is told, as the order of them may count.
    pub(crate) fn subscribe(&self, deliveries: &Deliveries) -> model::Result<()> {
        self.lessee.queue.work.join(Subscription {
            holder: self.lessee.holder,
            priority: self.priority,
            group: Default::default(),
            prefetch: self.capacity(deliveries),
        })
    }

    /// Tells its queue what it may have, where the channel's limit changed.
    pub(crate) fn tell_capacity(&self, deliveries: &Deliveries) {
        let told = self.lessee.queue.work.set_prefetch(self.lessee.holder, self.capacity(deliveries));
        if let Err(error) = told {
            tracing::trace!(%error, "a queue was gone before its consumer's limit changed");
        }
    }

    /// Messages that it may have out by its own limit and the channel's; `None` = any number.
    fn capacity(&self, deliveries: &Deliveries) -> Option<u32> {
        if self.no_ack {
            return None;
        }
        let least = self.prefetch.into_iter().chain(deliveries.limit()).min()?;
        Some(u32::try_from(least).unwrap_or(u32::MAX))
    }

    /// Delivers, once it has subscribed, until it is stopped or its queue is gone.
    pub(crate) async fn run(self: Arc<Self>, broker: Broker, deliveries: Arc<Deliveries>) {
        let work = &self.lessee.queue.work;
        match self.deliver_all(&broker, &deliveries).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Closed || error.kind() == ErrorKind::NotFound => {
                self.cancel(&deliveries).await;
            }
            Err(error) => {
                tracing::error!(%error, queue = %self.lessee.queue.name, "a consumer could not go on");
                self.cancel(&deliveries).await;
            }
        }
        if let Err(error) = work.leave(self.lessee.holder) {
            tracing::trace!(%error, "a queue was gone before its consumer left");
        }
    }

    async fn deliver_all(&self, broker: &Broker, deliveries: &Deliveries) -> model::Result<()> {
        let (work, has_ranks) = (&self.lessee.queue.work, self.lessee.queue.has_ranks());
        let mut watch = Watch::new();
        let mut reading = Reading::default();
        let mut is_told = false;
        loop {
            let woken = self.lessee.wake.notified();
            let outranked = self.lessee.queue.rivals.notified();
            let Some(room) = self.room(deliveries) else { return Ok(()) };
            if has_ranks && work.is_outranked(self.lessee.holder)? {
                // It gets nothing more, and makes way once what it has is settled.
                if self.lessee.out.load(Relaxed) == 0 {
                    // It may have been told meanwhile that it is its turn: it is not any more.
                    (is_told, watch) = (false, Watch::new());
                    self.subscribe(deliveries)?;
                } else {
                    woken.await;
                }
                continue;
            }
            if room == 0 {
                if std::mem::take(&mut is_told) && !self.lessee.queue.arguments.single_active_consumer {
                    // It was its turn, and it cannot take: somebody else's, then. A single active one stays that.
                    self.subscribe(deliveries)?;
                }
                tokio::select! {
                    () = woken => {}
                    () = outranked, if has_ranks => {}
                }
                continue;
            }
            if !is_told {
                work.wait(self.lessee.holder, &watch);
                tokio::select! {
                    () = watch.changed() => is_told = true,
                    () = woken => {}
                    () = outranked, if has_ranks => {}
                }
                continue;
            }
            if !deliveries.client.has_room_now() {
                tokio::select! {
                    () = deliveries.client.has_room() => {}
                    () = woken => {}
                }
                continue;
            }
            let wanted = self.share(room);
            let held = (!self.no_ack).then(|| deliveries.hold(wanted));
            let records = held.as_ref().map_or(wanted, |held| held.count);
            if records == 0 {
                continue;
            }
            is_told = false;
            let allowance = Allowance { records, bytes: LEASE_LEN, oversize: Oversize::First };
            let (holder, kind, time) = (self.lessee.holder, self.kind(), LeaseTime::UntilSettled);
            let ask = LeaseAsk { holder, allowance, kind, time };
            let leased = work.lease(ask).await?;
            self.send(broker, deliveries, &leased, &mut reading).await?;
        }
    }

    async fn send(
        &self,
        broker: &Broker,
        deliveries: &Deliveries,
        leased: &broker::Leased,
        reading: &mut Reading,
    ) -> model::Result<()> {
        if leased.records == 0 {
            return Ok(());
        }
        let form = Form::Pushed(&self.tag);
        let sent =
            deliveries.deliver(broker, &self.lessee, form, self.no_ack, &leased.deliveries, reading)?;
        if !sent && !self.no_ack {
            let settlement = Settlement {
                work: self.lessee.queue.work.clone(),
                spans: leased.deliveries.iter().flat_map(|one| one.runs.iter().map(|run| run.span)).collect(),
                claim: Claim::Holder(self.lessee.holder),
                verdict: Verdict::Release { delay_ms: 0, count: broker::Count::Keep },
            };
            broker.settle(vec![settlement]).await?;
        }
        Ok(())
    }

    fn kind(&self) -> LeaseKind {
        if self.no_ack {
            LeaseKind::Taken
        } else if self.lessee.queue.arguments.delivery_limit.is_some() {
            LeaseKind::Recorded
        } else {
            LeaseKind::Volatile
        }
    }

    /// The server ends it: its queue is gone. Whoever deleted it is answered first, as clients expect that delete the queue
    /// they consume.
    async fn cancel(&self, deliveries: &Deliveries) {
        drop(self.lessee.queue.deletion.read().await);
        if Deliveries::stop(&self.lessee) && deliveries.client.wants_cancels.load(Relaxed) {
            let mut frame = Vec::new();
            let method = Method::BasicCancel { consumer_tag: &self.tag, nowait: true };
            put_method(&mut frame, deliveries.channel, method);
            deliveries.client.send(&frame);
        }
    }
}
