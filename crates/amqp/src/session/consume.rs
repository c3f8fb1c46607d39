//! Methods that deliver: consume, cancel, get, qos, recover.

use std::sync::Arc;

use broker::{Action, Allowance, LeaseAsk, LeaseKind, LeaseTime};

use super::{Session, reply::REPLY_TO};
use crate::{
    channel::{
        Running,
        consumer::{Consumer, Promise},
        deliveries::{Deliveries, Form, Lessee, Reading},
    },
    codec::{Method, Table, put_method},
    error::{Code, Exception},
    vhost::{arguments, queue::Queue},
};

/// Consumers of one channel.
const CONSUMERS_MAX: usize = 65_536;

/// What basic.consume asks for.
#[derive(Clone, Copy)]
pub(super) struct Consume<'a> {
    pub queue: &'a str,
    pub tag: &'a str,
    pub no_ack: bool,
    pub exclusive: bool,
    pub nowait: bool,
    pub arguments: Table<'a>,
}

impl Session {
    pub(super) fn qos(&mut self, number: u16, size: u32, count: u16, global: bool) -> Result<(), Exception> {
        if size != 0 {
            return Err(Exception::not_implemented(format!("prefetch_size!=0 ({size})")));
        }
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        // The limit of single consumers takes that of the channel away, as the original has it.
        channel.deliveries.set_limit((global && count > 0).then_some(count.into()));
        channel.tell_capacities(None);
        if !global {
            channel.prefetch = count;
        }
        put_method(&mut self.out, number, Method::BasicQosOk {});
        Ok(())
    }

    pub(super) async fn consume(&mut self, number: u16, asked: Consume<'_>) -> Result<(), Exception> {
        if asked.queue == REPLY_TO {
            return self.consume_replies(number, asked.tag, asked.no_ack, asked.nowait);
        }
        let vhost = self.vhost()?;
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let ended = channel.consumers.extract_if(|_, running| running.has_ended());
        let ended: Vec<Running> = ended.map(|(_, running)| running).collect();
        ended.iter().for_each(|running| self.left(&running.consumer));
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let tag = if asked.tag.is_empty() { vhost.generated("amq.ctag-") } else { asked.tag.to_owned() };
        if channel.consumers.contains_key(&tag) {
            return Err(Exception::not_allowed(format!("attempt to reuse consumer tag '{tag}'")));
        }
        let name = channel.queue_name(asked.queue)?.to_owned();
        if channel.consumers.len() >= CONSUMERS_MAX {
            let text = format!("reached maximum ({CONSUMERS_MAX}) of consumers per channel");
            return Err(Exception::not_allowed(text));
        }
        let (deliveries, prefetch) = (channel.deliveries.clone(), channel.prefetch);
        self.check_may(Action::Read, "queue", &name)?;
        let queue = vhost.queue(&name, self.client.id)?;
        let (priority, timeout_ms) = asked_of(asked.arguments, &vhost.what(&name), &queue)?;
        self.enter(&queue, asked.exclusive)?;
        let timeout_ns = self.timeout_of(&queue, timeout_ms).filter(|_| !asked.no_ack);
        self.watch_time(timeout_ns);
        let lessee = Arc::new(Lessee::new(queue, self.server.broker.new_holder_id(), timeout_ns));
        deliveries.join(&lessee);
        let consumer = Arc::new(Consumer {
            tag: tag.clone(),
            lessee,
            no_ack: asked.no_ack,
            is_exclusive: asked.exclusive,
            prefetch: (prefetch > 0).then_some(prefetch.into()),
            priority,
            promise: Promise::default(),
        });
        if let Err(error) = consumer.subscribe(&deliveries) {
            self.left(&consumer);
            return Err(error.into());
        }
        consumer.lessee.queue.rivals.notify_waiters();
        if !asked.nowait {
            put_method(&mut self.out, number, Method::BasicConsumeOk { consumer_tag: &tag });
        }
        self.flush();
        let task = tokio::spawn(consumer.clone().run(self.server.broker.clone(), deliveries));
        if let Some(channel) = self.channels.get_mut(&number) {
            channel.consumers.insert(tag, Running::new(consumer.clone(), task));
            if channel.deliveries.limit().is_some() {
                channel.tell_capacities(Some(&consumer.lessee.queue));
            }
        }
        Ok(())
    }

    /// One more consumer of a queue, if it may be.
    fn enter(&self, queue: &Queue, exclusive: bool) -> Result<(), Exception> {
        let vhost = self.vhost()?;
        let mut users = queue.users.lock();
        let taken = || {
            let name = &queue.name;
            Exception::refused(format!("queue '{name}' in vhost '{}' in exclusive use", vhost.name))
        };
        if users.is_taken || (exclusive && (users.consumers > 0 || queue.arguments.single_active_consumer)) {
            return Err(taken());
        }
        users.consumers += 1;
        users.is_taken = exclusive;
        Ok(())
    }

    pub(super) async fn cancel(&mut self, number: u16, tag: &str, nowait: bool) -> Result<(), Exception> {
        let running = self.channels.get_mut(&number).and_then(|channel| channel.consumers.remove(tag));
        self.end_replies(number, Some(tag));
        if let Some(running) = running {
            Deliveries::stop(&running.consumer.lessee);
            self.left(&running.consumer);
            let queue = running.consumer.lessee.queue.clone();
            running.ended().await;
            let channel = self.channels.get(&number);
            if let Some(channel) = channel.filter(|channel| channel.deliveries.limit().is_some()) {
                channel.tell_capacities(Some(&queue));
            }
        }
        if !nowait {
            put_method(&mut self.out, number, Method::BasicCancelOk { consumer_tag: tag });
        }
        Ok(())
    }

    pub(super) async fn get(&mut self, number: u16, name: &str, no_ack: bool) -> Result<(), Exception> {
        self.catch_up().await?;
        let vhost = self.vhost()?;
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let name = channel.queue_name(name)?.to_owned();
        self.check_may(Action::Read, "queue", &name)?;
        let queue = vhost.queue(&name, self.client.id)?;
        if queue.arguments.single_active_consumer && queue.arguments.is_quorum {
            return Err(Exception::new(
                Code::ResourceLocked,
                format!(
                    "cannot obtain access to locked queue '{name}' in vhost '{}'. basic.get operations are not supported by <<\"quorum\">> queues with single active consumer",
                    vhost.name
                ),
            ));
        }
        vhost.touch(&queue);
        let timeout_ns = self.timeout_of(&queue, None);
        self.watch_time(timeout_ns.filter(|_| !no_ack));
        let Some(channel) = self.channels.get_mut(&number) else { return Ok(()) };
        let holder = self.server.broker.new_holder_id();
        let fresh = || Arc::new(Lessee::new(queue.clone(), holder, timeout_ns));
        if channel.getter.len() == channel.getter.capacity() {
            channel.getter.retain(|_, getter| Arc::strong_count(getter) > 1);
        }
        let getter = channel.getter.entry(queue.name.clone()).or_insert_with(fresh);
        if !Arc::ptr_eq(&getter.queue, &queue) {
            *getter = fresh();
        }
        let (getter, deliveries) = (getter.clone(), channel.deliveries.clone());
        let kind = match (no_ack, queue.arguments.delivery_limit) {
            (true, _) => LeaseKind::Taken,
            (false, Some(_)) => LeaseKind::Recorded,
            (false, None) => LeaseKind::Volatile,
        };
        let (allowance, time) = (Allowance::records(1), LeaseTime::UntilSettled);
        let ask = LeaseAsk { holder: getter.holder, allowance, kind, time };
        let leased = queue.work.lease(ask).await?;
        self.flush();
        if leased.records == 0 {
            put_method(&mut self.out, number, Method::BasicGetEmpty { cluster_id: "" });
            return Ok(());
        }
        let form = Form::Got(queue.ready());
        let broker = &self.server.broker;
        let reading = &mut Reading::default();
        deliveries.deliver(broker, &getter, form, no_ack, &leased.deliveries, reading)?;
        Ok(())
    }
}

/// Arguments of consumers of queues of other types, beside the one that only those of quorum queues have.
const OF_OTHER_TYPES: [&str; 3] = ["x-stream-offset", "x-stream-filter", "x-stream-match-unfiltered"];

/// The priority that a consumer asks for, and how long it may have a message, milliseconds. Arguments that consumers of the
/// queue's type have not are refused.
fn asked_of(arguments: Table<'_>, what: &str, queue: &Queue) -> Result<(i32, Option<u64>), Exception> {
    const NAME: &str = "x-priority";
    let priority = match arguments.get(NAME) {
        None => 0,
        Some(value) => {
            let number = value
                .integer()
                .map(|number| i32::try_from(number).unwrap_or(if number < 0 { i32::MIN } else { i32::MAX }));
            number.ok_or_else(|| arguments::mistyped(NAME, what, value))?
        }
    };
    for (name, _) in arguments.fields() {
        let timeout = Some(&arguments::CONSUMER_TIMEOUT).filter(|_| !queue.arguments.is_quorum);
        if let Some(name) = OF_OTHER_TYPES.iter().chain(timeout).find(|other| other.as_bytes() == name) {
            return Err(arguments::of_other_type(name, what, queue.arguments.is_quorum));
        }
    }
    let timeout = arguments.get(arguments::CONSUMER_TIMEOUT);
    let timeout_ms =
        timeout.map(|value| arguments::count_of(arguments::CONSUMER_TIMEOUT, what, value)).transpose()?;
    Ok((priority, timeout_ms))
}
