//! One account's subscriptions.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
};

use broker::{
    Action, Principal,
    routing::{Generations, Pattern, Routes, Rule},
};
use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::{
    client::Client,
    member::{Member, Numbered},
    subject,
};

/// A subscription of a client.
#[derive(Debug)]
pub(crate) struct Subscription {
    id: u64,
    pattern: Pattern,
    pub queue: Option<Box<[u8]>>,
    pub sid: Box<[u8]>,
    pub client: Arc<Client>,
    /// Whose permissions take some of what the pattern matches away.
    filter: RwLock<Option<Arc<Principal>>>,
    delivered: AtomicU64,
    /// Deliveries after which it ends; 0 = any number.
    max: AtomicU64,
}

impl Subscription {
    /// Deliveries so far, and those after which it ends, where there is such a number.
    pub(crate) fn deliveries(&self) -> (u64, u64) {
        (self.delivered.load(Relaxed), self.max.load(Relaxed))
    }

    /// What it is to.
    pub(crate) fn subject(&self) -> Vec<u8> {
        subject::text(&self.pattern)
    }

    /// Whether it ends after so many deliveries.
    pub(crate) fn is_limited(&self) -> bool {
        self.max.load(Relaxed) > 0
    }

    /// Counts deliveries that were made while it was not limited.
    pub(crate) fn add(&self, deliveries: u64) {
        self.delivered.fetch_add(deliveries, Relaxed);
    }

    /// Counts a delivery. What is to be done with it.
    pub(crate) fn count(&self) -> Delivery {
        let delivered = self.delivered.fetch_add(1, Relaxed) + 1;
        match self.max.load(Relaxed) {
            0 => Delivery::Deliver,
            max if delivered < max => Delivery::Deliver,
            max if delivered == max => Delivery::DeliverLast,
            _ => Delivery::Over,
        }
    }

    /// Whether it may not have what is published there.
    pub(crate) fn is_denied(&self, subject: &[u8]) -> bool {
        let filter = self.filter.read();
        let Some(principal) = &*filter else { return false };
        let subject = String::from_utf8_lossy(subject);
        let is_denied = |name: &str| principal.denies(Action::Read, name);
        let of_group = |queue: &[u8]| is_denied(&format!("{subject} {}", String::from_utf8_lossy(queue)));
        is_denied(&subject) || self.queue.as_deref().is_some_and(of_group)
    }

    /// Whether it has had all that it wanted.
    pub(crate) fn is_over(&self) -> bool {
        let max = self.max.load(Relaxed);
        max > 0 && self.delivered.load(Relaxed) >= max
    }

    /// Ends it after `max` deliveries over its life.
    pub(crate) fn limit(&self, max: u64) {
        self.max.store(max, Relaxed);
    }
}

/// What [`Subscription::count`] says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    Deliver,
    /// Deliver, then remove the subscription.
    DeliverLast,
    /// It has had all that it wanted.
    Over,
}

impl Numbered for Subscription {
    fn number(&self) -> u64 {
        self.id
    }
}

/// Who wants to know about a subject, by subject.
type Observers = HashMap<Box<[u8]>, Vec<Weak<Notify>>>;

/// The subscriptions of one account, and what tells sessions that they changed.
#[derive(Debug)]
pub(crate) struct Hub {
    table: RwLock<Routes<Member<Subscription>>>,
    generations: Arc<Generations>,
    next_id: AtomicU64,
    /// Who wants to know when somebody begins or ends to listen to a subject.
    observers: Mutex<Observers>,
    observed_count: AtomicUsize,
}

impl Default for Hub {
    fn default() -> Self {
        let table = Routes::new(Generations::per_token());
        let generations = table.generations().clone();
        Hub {
            table: RwLock::new(table),
            generations,
            next_id: AtomicU64::new(1),
            observers: Mutex::default(),
            observed_count: AtomicUsize::new(0),
        }
    }
}

impl Hub {
    /// What tells whether a kept answer is current.
    pub(crate) fn generations(&self) -> &Generations {
        &self.generations
    }

    /// Adds a subscription.
    pub(crate) fn subscribe(
        &self,
        pattern: Pattern,
        queue: Option<&[u8]>,
        sid: &[u8],
        client: &Arc<Client>,
        filter: Option<Arc<Principal>>,
    ) -> Arc<Subscription> {
        let subscription = Arc::new(Subscription {
            id: self.next_id.fetch_add(1, Relaxed),
            pattern: pattern.clone(),
            queue: queue.map(Into::into),
            sid: sid.into(),
            client: client.clone(),
            filter: RwLock::new(filter),
            delivered: AtomicU64::new(0),
            max: AtomicU64::new(0),
        });
        self.table.write().add(&Rule::Tokens(pattern), Member(subscription.clone()));
        self.tell_observers(&subscription.pattern);
        subscription
    }

    /// Has a subscription filtered by other permissions from here on.
    pub(crate) fn filter(&self, subscription: &Arc<Subscription>, filter: Option<Arc<Principal>>) {
        *subscription.filter.write() = filter;
        // Whoever publishes there has to look again.
        let (rule, member) = (Rule::Tokens(subscription.pattern.clone()), Member(subscription.clone()));
        let mut table = self.table.write();
        table.remove(&rule, &member);
        table.add(&rule, member);
    }

    /// Has `observer` told, as long as it lives, when somebody begins or ends to listen to `subject`.
    pub(crate) fn observe(&self, subject: &[u8], observer: &Arc<Notify>) {
        let mut observers = self.observers.lock();
        let known = observers.entry(subject.into()).or_default();
        known.retain(|one| one.strong_count() > 0);
        known.push(Arc::downgrade(observer));
        self.observed_count.store(observers.len(), Relaxed);
    }

    /// Ends [`Hub::observe`].
    pub(crate) fn ignore(&self, subject: &[u8], observer: &Arc<Notify>) {
        let mut observers = self.observers.lock();
        if let Some(known) = observers.get_mut(subject) {
            known.retain(|one| one.strong_count() > 0 && one.as_ptr() != Arc::as_ptr(observer));
            if known.is_empty() {
                observers.remove(subject);
            }
        }
        self.observed_count.store(observers.len(), Relaxed);
    }

    fn tell_observers(&self, pattern: &Pattern) {
        if self.observed_count.load(Relaxed) == 0 {
            return;
        }
        let tell =
            |all: &[Weak<Notify>]| all.iter().filter_map(Weak::upgrade).for_each(|one| one.notify_one());
        let observers = self.observers.lock();
        match pattern.exact() {
            Some(subject) => observers.get(subject.as_slice()).map_or((), |all| tell(all)),
            None => observers
                .iter()
                .filter(|(subject, _)| pattern.matches(subject))
                .for_each(|(_, all)| tell(all)),
        }
    }

    /// Removes a subscription; nothing happens when it is gone already.
    pub(crate) fn unsubscribe(&self, subscription: &Arc<Subscription>) {
        let rule = Rule::Tokens(subscription.pattern.clone());
        self.table.write().remove(&rule, &Member(subscription.clone()));
        self.tell_observers(&subscription.pattern);
    }

    /// Calls `each` with every subscription that a subject reaches, oldest first.
    pub(crate) fn matching(&self, subject: &[u8], mut each: impl FnMut(&Arc<Subscription>)) {
        let mut found = Vec::new();
        self.table.read().targets(subject, &[], |member| found.push(member.clone()));
        found.sort_unstable();
        found.iter().for_each(|member| each(&member.0));
    }

    /// Every subscription.
    pub(crate) fn all(&self) -> Vec<Arc<Subscription>> {
        self.table.read().all().into_iter().map(|(_, member)| member.0.clone()).collect()
    }

    /// How many subscriptions there ever were.
    pub(crate) fn insert_count(&self) -> u64 {
        self.next_id.load(Relaxed) - 1
    }

    /// How many subscriptions there are.
    pub(crate) fn len(&self) -> usize {
        self.table.read().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{pending::Pending, subject::pattern};

    fn subscribe(hub: &Hub, subject: &str) -> Arc<Subscription> {
        let client = Arc::new(Client::new(1, 1 << 20, Arc::new(Pending::new(usize::MAX))));
        hub.subscribe(pattern(subject.as_bytes()).unwrap(), None, b"1", &client, None)
    }

    fn count(hub: &Hub, subject: &str) -> usize {
        let mut count = 0;
        hub.matching(subject.as_bytes(), |_| count += 1);
        count
    }

    #[test]
    fn a_subject_reaches_the_subscriptions_that_match_it() {
        let hub = Hub::default();
        let all: Vec<_> =
            ["a.b", "a.*", "a.>", ">", "a"].iter().map(|subject| subscribe(&hub, subject)).collect();
        assert_eq!((count(&hub, "a.b"), count(&hub, "a"), count(&hub, "a.b.c"), hub.len()), (4, 2, 2, 5));
        all.iter().for_each(|one| hub.unsubscribe(one));
        assert_eq!((count(&hub, "a.b"), hub.len()), (0, 0));
    }

    #[test]
    fn a_limited_subscription_gets_the_message_that_reaches_the_limit_and_none_after() {
        let hub = Hub::default();
        let one = subscribe(&hub, "a");
        assert_eq!(one.count(), Delivery::Deliver);
        one.limit(3);
        assert_eq!(
            [one.count(), one.count(), one.count()],
            [Delivery::Deliver, Delivery::DeliverLast, Delivery::Over]
        );
        assert!(one.is_over());
    }
}
