//! Publishing fast: who listens to a subject is looked up once while nothing changes, and what one read of a connection
//! brings is gathered per receiver and handed over under one lock each.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use broker::routing::Cache;
use bytes::Bytes;
use wire::{Gathered, Pushed};

use super::{
    client::Client,
    hub::{Delivery, Hub, Subscription},
};
use crate::codec::digits;

/// Subjects whose audience one session keeps.
const AUDIENCES_MAX: usize = 4_096;

/// The same, where there are many who publish little.
const AUDIENCES_SMALL_MAX: usize = 32;

/// Receivers that a session keeps a buffer for; with more it starts anew.
const RECEIVERS_MAX: usize = 16_384;

/// Bodies from this length on travel by reference to several receivers; a shorter one is copied for less.
const BY_REFERENCE_LEN: usize = 2_048;

/// A message on its way to whoever listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub subject: &'a [u8],
    pub reply: Option<&'a [u8]>,
    /// Length of the header block at the start of `payload`; `None` = no headers.
    pub headers_len: Option<usize>,
    pub payload: &'a [u8],
}

/// One receiver of a subject.
#[derive(Debug)]
struct Target {
    subscription: Arc<Subscription>,
    /// Where its messages are gathered.
    slot: usize,
    /// `HMSG <subject> <sid> `, of which the part from `MSG` on serves where there are no headers.
    prefix: Box<[u8]>,
    head: Head,
    /// Where its deliveries of this read are counted.
    counted_at: CountedAt,
}

/// The line before a body of `len` bytes that has neither reply nor headers: publishers send many alike.
#[derive(Debug)]
struct Head {
    len: usize,
    line: Vec<u8>,
}

impl Head {
    /// The line for a body of `len` bytes; `prefix` as [`Target::prefix`].
    fn of(&mut self, prefix: &[u8], len: usize) -> &[u8] {
        if self.len != len {
            self.len = len;
            self.line.clear();
            self.line.extend_from_slice(prefix.get(1..).unwrap_or_default());
            self.line.extend_from_slice(digits(len).as_slice());
            self.line.extend_from_slice(b"\r\n");
        }
        &self.line
    }
}

/// Who listens to a subject.
#[derive(Debug)]
struct Audience {
    plain: Vec<Target>,
    groups: Vec<Vec<Target>>,
}

/// A place in [`Counts`], which holds for one read.
#[derive(Clone, Copy, Debug, Default)]
struct CountedAt {
    read: u64,
    index: usize,
}

/// Deliveries of one read to subscriptions without a limit: an atomic counter for each message is dear.
#[derive(Debug)]
struct Counts {
    /// Number of the read, from 1.
    read: u64,
    all: Vec<(Arc<Subscription>, u64)>,
}

impl Default for Counts {
    fn default() -> Self {
        Counts { read: 1, all: Vec::new() }
    }
}

impl Counts {
    /// Counts a delivery. What is to be done with it.
    fn count(&mut self, target: &mut Target) -> Delivery {
        if target.subscription.is_limited() {
            return target.subscription.count();
        }
        let place = target.counted_at;
        match self.all.get_mut(place.index).filter(|_| place.read == self.read) {
            Some((_, count)) => *count += 1,
            None => {
                target.counted_at = CountedAt { read: self.read, index: self.all.len() };
                self.all.push((target.subscription.clone(), 1));
            }
        }
        Delivery::Deliver
    }

    /// Tells the subscriptions.
    fn settle(&mut self) {
        self.read += 1;
        self.all.drain(..).for_each(|(subscription, count)| subscription.add(count));
    }
}

#[derive(Debug)]
struct Receiver {
    client: Arc<Client>,
    gathered: Gathered,
    messages: u64,
}

#[derive(Debug, Default)]
struct Receivers {
    all: Vec<Receiver>,
    by_client: HashMap<u64, usize>,
}

/// What a session publishes with.
pub(crate) struct Fanout {
    hub: Arc<Hub>,
    audiences: Cache<Audience>,
    audiences_max: usize,
    receivers: Receivers,
    /// Receivers with something gathered.
    touched: Vec<usize>,
    counts: Counts,
    /// Whether so much waits for a receiver that its writer should get a turn.
    is_turn: bool,
    random: u64,
}

/// Bytes that may wait for a receiver before its writer gets a turn: what is written soon after it was gathered is still
/// in the processor's cache.
const TURN_LEN: usize = 256 << 10;

/// A receiver that reads more slowly than it is sent to.
pub(crate) struct Laggard {
    pub client: Arc<Client>,
    /// Down to how many waiting bytes it should get.
    pub len: usize,
}

impl Fanout {
    /// `seed` decides which member of a queue group is first.
    pub(crate) fn new(hub: Arc<Hub>, seed: u64) -> Self {
        Fanout {
            hub,
            audiences: Cache::new(AUDIENCES_MAX),
            audiences_max: AUDIENCES_MAX,
            receivers: Receivers::default(),
            touched: Vec::new(),
            counts: Counts::default(),
            is_turn: false,
            random: seed | 1,
        }
    }

    /// One of which there are many: it keeps few audiences and receivers.
    pub(crate) fn small(hub: Arc<Hub>, seed: u64) -> Self {
        let audiences = Cache::new(AUDIENCES_SMALL_MAX);
        Fanout { audiences, audiences_max: AUDIENCES_SMALL_MAX, ..Fanout::new(hub, seed) }
    }

    /// Gathers the message for everyone who listens. How many that are. With `but`, that client is left out.
    pub(crate) fn publish(&mut self, message: &Message<'_>, but: Option<u64>) -> usize {
        self.send_out(message.subject, None, (message, None), but)
    }

    /// As [`Fanout::publish`], of a message as it came: `ended` is its payload with the end of the line behind it.
    pub(crate) fn publish_line(&mut self, message: &Message<'_>, ended: &[u8], but: Option<u64>) -> usize {
        self.send_out(message.subject, None, (message, Some(ended)), but)
    }

    /// Gathers a message for everyone who listens to `to`, where it is shown under its own subject. How many that are.
    pub(crate) fn deliver(&mut self, to: &[u8], message: &Message<'_>) -> usize {
        self.send_out(to, Some(message.subject), (message, None), None)
    }

    /// Whether somebody listens.
    pub(crate) fn is_heard(&mut self, subject: &[u8]) -> bool {
        let Fanout { hub, audiences, receivers, .. } = self;
        let audience = audiences.of(hub.generations(), subject, || Audience::of(hub, subject, receivers));
        let mut all = audience.plain.iter().chain(audience.groups.iter().flatten());
        all.any(|target| !target.subscription.is_over())
    }

    fn send_out(
        &mut self,
        to: &[u8],
        shown: Option<&[u8]>,
        (message, ended): (&Message<'_>, Option<&[u8]>),
        but: Option<u64>,
    ) -> usize {
        let Fanout { hub, audiences, receivers, touched, counts, random, .. } = self;
        let answer = || Audience::of(hub, to, receivers);
        let audience = audiences.of(hub.generations(), to, answer);
        let count = audience.plain.len() + audience.groups.len();
        let is_fanned = count > 1;
        let mut out = Out {
            hub,
            receivers,
            touched,
            counts,
            message,
            ended,
            shown,
            but,
            shared: None,
            is_fanned,
            reached: 0,
        };
        for target in &mut audience.plain {
            out.send(target);
        }
        for group in &mut audience.groups {
            out.send_to_one(group, next_random(random));
        }
        out.reached
    }

    /// Gathers bytes for one client, behind what is gathered for it.
    pub(crate) fn send(&mut self, client: &Arc<Client>, bytes: &[u8]) {
        let slot = self.receivers.slot_of(client);
        if let Some(receiver) = self.receivers.all.get_mut(slot) {
            if receiver.gathered.is_empty() {
                self.touched.push(slot);
            }
            receiver.gathered.slice(bytes);
        }
    }

    /// Whether so much waits for a receiver that its writer should get a turn before more is published; not before there is
    /// more again.
    pub(crate) fn take_turn(&mut self) -> bool {
        std::mem::take(&mut self.is_turn)
    }

    /// Tells subscriptions how many deliveries they had: before one of them is limited to a number.
    pub(crate) fn count(&mut self) {
        self.counts.settle();
    }

    /// Hands everything over. The worst of those that lag behind by more than three quarters of what may wait.
    pub(crate) fn flush(&mut self, pending_len_max: usize) -> Option<Laggard> {
        self.count();
        let soft = pending_len_max / 4 * 3;
        let mut worst: Option<(usize, usize)> = None;
        for slot in self.touched.drain(..) {
            let Some(receiver) = self.receivers.all.get_mut(slot) else { continue };
            let len = receiver.gathered.len();
            let messages = std::mem::take(&mut receiver.messages);
            let pending = &receiver.client.pending;
            pending.add(len);
            match receiver.client.outbox.push(&mut receiver.gathered) {
                Pushed::Waiting(waiting) => {
                    let counters = &receiver.client.counters;
                    counters.out_messages.fetch_add(messages, Relaxed);
                    counters.out_bytes.fetch_add(len as u64, Relaxed);
                    if pending.is_too_much(waiting) {
                        receiver.client.cut_off();
                        continue;
                    }
                    self.is_turn |= waiting > TURN_LEN;
                    if waiting > soft && worst.is_none_or(|(most, _)| waiting > most) {
                        worst = Some((waiting, slot));
                    }
                }
                Pushed::Overflow => {
                    pending.sub(len);
                    receiver.client.cut_off();
                }
                Pushed::Closed => pending.sub(len),
            }
        }
        let worst = worst.and_then(|(_, slot)| self.receivers.all.get(slot));
        let worst = worst.map(|receiver| Laggard { client: receiver.client.clone(), len: soft });
        if self.receivers.all.len() > RECEIVERS_MAX.min(self.audiences_max * 4) {
            self.receivers = Receivers::default();
            self.audiences = Cache::new(self.audiences_max);
        }
        worst
    }
}

impl Audience {
    fn of(hub: &Hub, subject: &[u8], receivers: &mut Receivers) -> Self {
        let mut audience = Audience { plain: Vec::new(), groups: Vec::new() };
        hub.matching(subject, |subscription| {
            if subscription.is_denied(subject) {
                return;
            }
            let prefix = [b"HMSG ", subject, b" ", &subscription.sid, b" "].concat().into();
            let slot = receivers.slot_of(&subscription.client);
            let head = Head { len: usize::MAX, line: Vec::new() };
            let counted_at = CountedAt::default();
            let target = Target { subscription: subscription.clone(), slot, prefix, head, counted_at };
            let Some(queue) = &subscription.queue else { return audience.plain.push(target) };
            let is_of = |group: &&mut Vec<Target>| {
                group.first().is_some_and(|first| first.subscription.queue.as_ref() == Some(queue))
            };
            match audience.groups.iter_mut().find(is_of) {
                Some(group) => group.push(target),
                None => audience.groups.push(vec![target]),
            }
        });
        audience
    }
}

impl Receivers {
    /// Where messages for `client` are gathered.
    fn slot_of(&mut self, client: &Arc<Client>) -> usize {
        let Receivers { all, by_client } = self;
        *by_client.entry(client.id).or_insert_with(|| {
            all.push(Receiver { client: client.clone(), gathered: Gathered::default(), messages: 0 });
            all.len() - 1
        })
    }
}

/// One message on its way out.
struct Out<'a> {
    hub: &'a Arc<Hub>,
    receivers: &'a mut Receivers,
    touched: &'a mut Vec<usize>,
    counts: &'a mut Counts,
    message: &'a Message<'a>,
    /// Its payload with the end of the line, where it came with one.
    ended: Option<&'a [u8]>,
    /// The subject that receivers are shown, where it is another than the one they listen to.
    shown: Option<&'a [u8]>,
    but: Option<u64>,
    /// The payload by reference, once somebody needs it.
    shared: Option<Bytes>,
    is_fanned: bool,
    reached: usize,
}

impl Out<'_> {
    /// To one of a queue group: the first that takes it, from a random one on.
    fn send_to_one(&mut self, group: &mut [Target], random: u64) {
        let first = usize::try_from(random % group.len().max(1) as u64).unwrap_or(0);
        let (before, (later, sooner)) = (self.reached, group.split_at_mut(first));
        for target in sooner.iter_mut().chain(later) {
            self.send(target);
            if self.reached > before {
                return;
            }
        }
    }

    fn send(&mut self, target: &mut Target) {
        let Some(receiver) = self.receivers.all.get_mut(target.slot) else { return };
        if self.but == Some(receiver.client.id) {
            return;
        }
        let delivery = self.counts.count(target);
        if delivery == Delivery::Over {
            self.hub.unsubscribe(&target.subscription);
            return;
        }
        self.reached += 1;
        if receiver.gathered.is_empty() {
            self.touched.push(target.slot);
        }
        receiver.messages += 1;
        if let Some(reply) = self.message.reply {
            receiver.client.note_reply(reply);
        }
        let message = self.message;
        let headers_len = message.headers_len.filter(|_| receiver.client.takes_headers());
        let skipped = if headers_len.is_none() { message.headers_len.unwrap_or(0) } else { 0 };
        let body = message.payload.get(skipped..).unwrap_or_default();
        let out = &mut receiver.gathered;
        let is_shared = self.is_fanned && body.len() >= BY_REFERENCE_LEN;
        if let (Some(ended), None, None, false) = (self.ended, message.reply, message.headers_len, is_shared)
        {
            out.slice(target.head.of(&target.prefix, body.len()));
            out.slice(ended);
            if delivery == Delivery::DeliverLast {
                self.hub.unsubscribe(&target.subscription);
            }
            return;
        }
        match self.shown {
            None => out.slice(target.prefix.get(usize::from(headers_len.is_none())..).unwrap_or_default()),
            Some(shown) => {
                let verb: &[u8] = if headers_len.is_none() { b"MSG " } else { b"HMSG " };
                for part in [verb, shown, b" ", &target.subscription.sid, b" "] {
                    out.slice(part);
                }
            }
        }
        if let Some(reply) = message.reply {
            out.slice(reply);
            out.slice(b" ");
        }
        if let Some(headers_len) = headers_len {
            out.slice(digits(headers_len).as_slice());
            out.slice(b" ");
        }
        out.slice(digits(body.len()).as_slice());
        out.slice(b"\r\n");
        if is_shared {
            let whole = self.shared.get_or_insert_with(|| Bytes::copy_from_slice(message.payload));
            out.shared(&whole.slice(skipped.min(whole.len())..));
        } else {
            out.slice(body);
        }
        out.slice(b"\r\n");
        if delivery == Delivery::DeliverLast {
            self.hub.unsubscribe(&target.subscription);
        }
    }
}

/// xorshift64: enough to spread messages over a group.
fn next_random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[cfg(test)]
mod tests;
