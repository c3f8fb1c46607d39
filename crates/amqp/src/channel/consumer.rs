//! One consumer: it waits for its turn, leases what it may have, and sends it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use broker::{
    Allowance, Broker, Claim, LeaseAsk, LeaseKind, LeaseTime, Oversize, Settlement, Subscription, Verdict,
    Watch,
};
use model::ErrorKind;
use parking_lot::Mutex;

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
    /// What its queue counts on that it takes.
    pub promise: Promise,
}

/// What the queue of a consumer was told that it may have.
#[derive(Debug, Default)]
pub(crate) struct Promise {
    /// It has no room, or its client does not read: nothing beyond what is out.
    is_stuck: AtomicBool,
    /// Consumers of the channel that consume from the queue, beside this one: they share the channel's limit.
    others: AtomicU64,
    /// Messages; `None` = any number.
    told: Mutex<Option<u32>>,
}

/// Takes a consumer out of those of its queue, however it ends: others wait for it.
struct Leaving<'c>(&'c Consumer);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        let Lessee { queue, holder, .. } = &*self.0.lessee;
        if let Err(error) = queue.work.leave(*holder) {
            tracing::trace!(%error, "a queue was gone before its consumer left");
        }
        // Somebody may have made way for it.
        queue.rivals.notify_waiters();
    }
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

    /// No more than its share where others consume as well that are served no later.
    fn share(&self, room: u64) -> model::Result<u64> {
        if room < 2 {
            return Ok(room);
        }
        let queue = &self.lessee.queue;
        let sharers = u64::from(queue.work.sharers(self.lessee.holder)?);
        if sharers < 2 {
            return Ok(room);
        }
        Ok(room.min(u64::from(queue.ready()).div_ceil(sharers).max(1)))
    }

    /// Takes its place among the queue's consumers: before its client is told, as the order of them may count.
    pub(crate) fn subscribe(&self, deliveries: &Deliveries) -> model::Result<()> {
        let mut told = self.promise.told.lock();
        *told = self.capacity(deliveries);
        self.lessee.queue.work.join(Subscription {
            holder: self.lessee.holder,
            priority: self.priority,
            group: Default::default(),
            prefetch: *told,
        })
    }

    /// Tells its queue what it may have, where that changed.
    fn tell_capacity(&self, deliveries: &Deliveries) {
        let mut told = self.promise.told.lock();
        let capacity = self.capacity(deliveries);
        if std::mem::replace(&mut *told, capacity) == capacity {
            return;
        }
        if let Err(error) = self.lessee.queue.work.set_prefetch(self.lessee.holder, capacity) {
            tracing::trace!(%error, "a queue was gone before its consumer's limit changed");
        }
    }

    /// Notes among how many consumers of the queue the channel's limit is shared.
    pub(crate) fn share_limit(&self, sharers: u64, deliveries: &Deliveries) {
        self.promise.others.store(sharers.saturating_sub(1), Relaxed);
        self.tell_capacity(deliveries);
    }

    /// Notes whether it can take anything: a length of its queue does not count what it takes at once, and counts what waits
    /// while it cannot.
    fn set_stuck(&self, is_stuck: bool, deliveries: &Deliveries) {
        if self.lessee.queue.has_length()
            && (self.promise.is_stuck.swap(is_stuck, Relaxed) != is_stuck || is_stuck)
        {
            self.tell_capacity(deliveries);
        }
    }

    /// Messages that it may have out by its own limit and its share of the channel's; `None` = any number.
    fn capacity(&self, deliveries: &Deliveries) -> Option<u32> {
        let least = if self.promise.is_stuck.load(Relaxed) {
            self.lessee.out.load(Relaxed)
        } else if self.no_ack {
            return None;
        } else {
            let sharers = self.promise.others.load(Relaxed) + 1;
            let of_channel = deliveries.limit().map(|all| all.div_ceil(sharers));
            self.prefetch.into_iter().chain(of_channel).min()?
        };
        Some(u32::try_from(least).unwrap_or(u32::MAX))
    }

    /// Delivers, once it has subscribed, until it is stopped or its queue is gone. A panic ends its connection, as in what
    /// the session does itself: the client would wait in vain.
    pub(crate) async fn run(self: Arc<Self>, broker: Broker, deliveries: Arc<Deliveries>) {
        let _leaving = Leaving(&self);
        if let Err(reason) = broker::guarded(self.work_on(&broker, &deliveries)).await {
            tracing::error!(reason, queue = %self.lessee.queue.name, "a consumer panicked; this is a bug");
            deliveries.client.end();
        }
    }

    async fn work_on(&self, broker: &Broker, deliveries: &Deliveries) {
        match self.deliver_all(broker, deliveries).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Closed || error.kind() == ErrorKind::NotFound => {
                self.cancel(deliveries).await;
            }
            Err(error) => {
                tracing::error!(%error, queue = %self.lessee.queue.name, "a consumer could not go on");
                self.cancel(deliveries).await;
            }
        }
    }

    async fn deliver_all(&self, broker: &Broker, deliveries: &Deliveries) -> model::Result<()> {
        let (work, has_ranks) = (&self.lessee.queue.work, self.lessee.queue.has_ranks());
        let mut watch = Watch::new();
        let mut reading = Reading::default();
        // Whether it was told that it is its turn, and whether it waits for that or has not given it back.
        let (mut is_told, mut is_in_line) = (false, true);
        loop {
            let woken = self.lessee.wake.notified();
            let outranked = self.lessee.queue.rivals.notified();
            let Some(room) = self.room(deliveries) else { return Ok(()) };
            if has_ranks && work.is_outranked(self.lessee.holder)? {
                // It gets nothing more, and makes way once what it has is settled.
                if self.lessee.out.load(Relaxed) == 0 {
                    // It may have been told meanwhile that it is its turn: it is not any more.
                    (is_told, is_in_line, watch) = (false, true, Watch::new());
                    self.subscribe(deliveries)?;
                } else {
                    self.set_stuck(true, deliveries);
                    tokio::select! {
                        () = woken => {}
                        () = outranked => {}
                    }
                }
                continue;
            }
            let is_read = deliveries.client.has_room_now();
            self.set_stuck(room == 0 || !is_read, deliveries);
            if room == 0 || !is_read {
                if std::mem::take(&mut is_in_line) {
                    // It may be its turn, and it cannot take: somebody else's, then. A single active one stays that.
                    work.pass(self.lessee.holder)?;
                    (is_told, watch) = (false, Watch::new());
                }
                tokio::select! {
                    () = woken => {}
                    () = outranked, if has_ranks => {}
                    () = deliveries.client.has_room(), if room > 0 && !deliveries.client.is_gone() => {}
                }
                continue;
            }
            if !is_told {
                is_in_line = true;
                work.wait(self.lessee.holder, &watch);
                tokio::select! {
                    () = watch.changed() => is_told = true,
                    () = woken => {}
                    () = outranked, if has_ranks => {}
                }
                continue;
            }
            let wanted = self.share(room)?;
            let held = (!self.no_ack).then(|| deliveries.hold(wanted));
            let records = held.as_ref().map_or(wanted, |held| held.count);
            if records == 0 {
                continue;
            }
            is_told = false;
            let allowance = Allowance { records, bytes: LEASE_LEN, oversize: Oversize::First };
            let (holder, kind, time) = (self.lessee.holder, self.kind(), LeaseTime::UntilSettled);
            let leased = work.lease(LeaseAsk { holder, allowance, kind, time }).await?;
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
        let sent = deliveries.deliver(broker, &self.lessee, form, self.no_ack, &leased.deliveries, reading);
        if !matches!(sent, Ok(true)) && !self.no_ack {
            // Whatever of it was noted as sent goes back all the same: it ends with an error, or its client is gone.
            let settlement = Settlement {
                work: self.lessee.queue.work.clone(),
                spans: leased.deliveries.iter().flat_map(|one| one.runs.iter().map(|run| run.span)).collect(),
                claim: Claim::Holder(self.lessee.holder),
                verdict: Verdict::Release { delay_ms: 0, count: broker::Count::Keep },
            };
            broker.settle(vec![settlement]).await?;
        }
        sent.map(drop)
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
