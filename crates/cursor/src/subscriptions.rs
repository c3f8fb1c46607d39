//! Who is served next among those that wait at one cursor.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::entry::HolderId;

/// A named part of the consumers of a cursor; each is served by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u64);

/// How the members of a group share the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    /// In turn, higher priorities first.
    #[default]
    Turns,
    /// One of them does it all, until it leaves: of the highest priority at that time, the first that came.
    Single,
}

/// A consumer at a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// Who consumes; once per cursor.
    pub holder: HolderId,
    /// Higher ones are served first, as long as they take.
    pub priority: i32,
    /// With whom it shares.
    pub group: GroupId,
    /// Records that it may have at one time, and takes as soon as they are there; `None` = any number.
    pub prefetch: Option<u32>,
}

/// The consumers at one cursor, and whose turn it is. A subscription that cannot take (no credit, a full outbox) is
/// not waiting, and is passed over; that is how lower priorities get their turn. One that has been given its turn, or
/// has just come, keeps lower priorities from theirs until it [waits](Subscriptions::set_waiting) or
/// [passes](Subscriptions::pass): a consumer that is at work takes what comes next.
#[derive(Clone, Debug)]
pub struct Subscriptions {
    sharing: Sharing,
    by_holder: BTreeMap<HolderId, Member>,
    /// Waiting holders in the order of their turns, by (group, falling priority).
    turns: BTreeMap<(GroupId, i64), VecDeque<HolderId>>,
    /// Those that have been given their turn and have not come back, by the same.
    at_work: BTreeSet<((GroupId, i64), HolderId)>,
    /// How many there are, by the same.
    counts: BTreeMap<(GroupId, i64), u32>,
    /// Who does it all, where one does.
    active: BTreeMap<GroupId, HolderId>,
    /// What all together may have.
    capacity: Capacity,
    joined_count: u64,
}

/// What consumers may have at one time: records, and how many of them may have any number.
#[derive(Clone, Copy, Debug, Default)]
struct Capacity {
    records: u64,
    unlimited: usize,
}

impl Capacity {
    fn add(&mut self, prefetch: Option<u32>) {
        self.records += u64::from(prefetch.unwrap_or(0));
        self.unlimited += usize::from(prefetch.is_none());
    }

    fn remove(&mut self, prefetch: Option<u32>) {
        self.records -= u64::from(prefetch.unwrap_or(0));
        self.unlimited -= usize::from(prefetch.is_none());
    }

    fn records(self) -> u64 {
        if self.unlimited > 0 { u64::MAX } else { self.records }
    }
}

#[derive(Clone, Copy, Debug)]
struct Member {
    subscription: Subscription,
    joined: u64,
    is_waiting: bool,
}

impl Member {
    fn turn(&self) -> (GroupId, i64) {
        (self.subscription.group, -i64::from(self.subscription.priority))
    }
}

impl Subscriptions {
    /// Nobody yet.
    pub fn new(sharing: Sharing) -> Self {
        Subscriptions {
            sharing,
            by_holder: BTreeMap::new(),
            turns: BTreeMap::new(),
            at_work: BTreeSet::new(),
            counts: BTreeMap::new(),
            active: BTreeMap::new(),
            capacity: Capacity::default(),
            joined_count: 0,
        }
    }

    /// Adds a consumer, at work until it waits or passes. One with the same holder is replaced.
    pub fn join(&mut self, subscription: Subscription) {
        self.leave(subscription.holder);
        self.joined_count += 1;
        let member = Member { subscription, joined: self.joined_count, is_waiting: false };
        self.by_holder.insert(subscription.holder, member);
        *self.counts.entry(member.turn()).or_default() += 1;
        self.at_work.insert((member.turn(), subscription.holder));
        self.capacity.add(subscription.prefetch);
        if self.sharing == Sharing::Single {
            self.active.entry(subscription.group).or_insert(subscription.holder);
        }
    }

    /// Removes a consumer. Answers who does it all in its stead, where one does and it was that one.
    pub fn leave(&mut self, holder: HolderId) -> Option<HolderId> {
        self.pass(holder);
        let member = self.by_holder.remove(&holder)?;
        let Subscription { group, prefetch, .. } = member.subscription;
        self.capacity.remove(prefetch);
        if let Some(count) = self.counts.get_mut(&member.turn()) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&member.turn());
            }
        }
        if self.active.get(&group) != Some(&holder) {
            return None;
        }
        self.active.remove(&group);
        let members = self.by_holder.values().filter(|member| member.subscription.group == group);
        let next = members.min_by_key(|member| (member.turn(), member.joined))?.subscription.holder;
        self.active.insert(group, next);
        Some(next)
    }

    /// Changes how many records a consumer may have.
    pub fn set_prefetch(&mut self, holder: HolderId, prefetch: Option<u32>) {
        let Some(member) = self.by_holder.get_mut(&holder) else { return };
        self.capacity.remove(std::mem::replace(&mut member.subscription.prefetch, prefetch));
        self.capacity.add(prefetch);
    }

    /// How many records all may have that are served: `u64::MAX` = any number.
    pub fn capacity(&self) -> u64 {
        if self.sharing == Sharing::Turns {
            return self.capacity.records();
        }
        let mut served = Capacity::default();
        let active = self.active.values().filter_map(|holder| self.by_holder.get(holder));
        active.for_each(|member| served.add(member.subscription.prefetch));
        served.records()
    }

    /// Says whether a consumer can take records now. One that starts to wait comes last among its priority.
    pub fn set_waiting(&mut self, holder: HolderId, is_waiting: bool) {
        let Some(member) = self.by_holder.get_mut(&holder) else { return };
        let turn = member.turn();
        if is_waiting {
            self.at_work.remove(&(turn, holder));
        }
        if member.is_waiting == is_waiting {
            return;
        }
        member.is_waiting = is_waiting;
        let line = self.turns.entry(turn).or_default();
        if is_waiting {
            line.push_back(holder);
        } else {
            line.retain(|waiting| *waiting != holder);
            if line.is_empty() {
                self.turns.remove(&turn);
            }
        }
    }

    /// Gives a consumer its turn: it does not wait any more, and has to say when it is done.
    pub fn give_turn(&mut self, holder: HolderId) {
        self.set_waiting(holder, false);
        if let Some(member) = self.by_holder.get(&holder) {
            self.at_work.insert((member.turn(), holder));
        }
    }

    /// A consumer cannot take records now. Whether it had its turn: it is somebody else's then.
    pub fn pass(&mut self, holder: HolderId) -> bool {
        self.set_waiting(holder, false);
        let turn = self.by_holder.get(&holder).map(Member::turn);
        turn.is_some_and(|turn| self.at_work.remove(&(turn, holder)))
    }

    /// Among how many a consumer shares what there is: itself and those of its group that are served no later than it.
    pub fn sharers(&self, holder: HolderId) -> u32 {
        let Some(member) = self.by_holder.get(&holder).filter(|_| self.sharing == Sharing::Turns) else {
            return 1;
        };
        let (group, priority) = member.turn();
        self.counts.range((group, i64::MIN)..=(group, priority)).map(|(_, count)| count).sum()
    }

    /// Whose turn it is in `group`; that one comes last among its priority the next time. Nobody's while one of a higher
    /// priority is at work.
    pub fn next(&mut self, group: GroupId) -> Option<HolderId> {
        if self.sharing == Sharing::Single {
            let active = self.active.get(&group)?;
            return self.by_holder.get(active).filter(|member| member.is_waiting).map(|_| *active);
        }
        let (turn, line) = self.turns.range_mut((group, i64::MIN)..=(group, i64::MAX)).next()?;
        let higher = ((group, i64::MIN), HolderId(0))..(*turn, HolderId(0));
        if self.at_work.range(higher).next().is_some() {
            return None;
        }
        let holder = line.pop_front()?;
        line.push_back(holder);
        Some(holder)
    }

    /// Who does it all in `group`, where one does.
    pub fn active(&self, group: GroupId) -> Option<HolderId> {
        self.active.get(&group).copied()
    }

    /// Whether a consumer does it all although there is one of a higher priority, which came later.
    pub fn is_outranked(&self, holder: HolderId) -> bool {
        let Some(own) = self.by_holder.get(&holder).map(|member| member.subscription) else { return false };
        let mut others = self.by_holder.values().map(|member| member.subscription);
        self.active(own.group) == Some(holder)
            && others.any(|other| other.group == own.group && other.priority > own.priority)
    }

    /// Whether a consumer is one of them.
    pub fn contains(&self, holder: HolderId) -> bool {
        self.by_holder.contains_key(&holder)
    }

    /// The groups of which somebody waits.
    pub fn waiting_groups(&self) -> Vec<GroupId> {
        let mut groups: Vec<GroupId> = self.turns.keys().map(|(group, _)| *group).collect();
        groups.dedup();
        groups
    }

    /// Everyone, in the order in which they came.
    pub fn all(&self) -> Vec<Subscription> {
        let mut members: Vec<&Member> = self.by_holder.values().collect();
        members.sort_by_key(|member| member.joined);
        members.into_iter().map(|member| member.subscription).collect()
    }

    /// How many consumers there are.
    pub fn len(&self) -> usize {
        self.by_holder.len()
    }

    /// Whether there is no consumer.
    pub fn is_empty(&self) -> bool {
        self.by_holder.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GROUP: GroupId = GroupId(0);

    fn subscription(holder: u64, priority: i32) -> Subscription {
        Subscription { holder: HolderId(holder), priority, group: GROUP, prefetch: Some(0) }
    }

    fn waiting(sharing: Sharing, members: &[(u64, i32)]) -> Subscriptions {
        let mut all = Subscriptions::new(sharing);
        for (holder, priority) in members {
            all.join(subscription(*holder, *priority));
            all.set_waiting(HolderId(*holder), true);
        }
        all
    }

    fn turns(all: &mut Subscriptions, count: usize) -> Vec<u64> {
        (0..count).filter_map(|_| all.next(GROUP)).map(|holder| holder.0).collect()
    }

    #[test]
    fn equal_ones_are_served_in_turn() {
        let mut all = waiting(Sharing::Turns, &[(1, 0), (2, 0), (3, 0)]);
        assert_eq!(turns(&mut all, 7), [1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn a_lower_priority_is_served_when_the_higher_cannot_take() {
        let mut all = waiting(Sharing::Turns, &[(1, 0), (2, 9), (3, 9)]);
        assert_eq!(turns(&mut all, 3), [2, 3, 2]);
        all.set_waiting(HolderId(2), false);
        all.set_waiting(HolderId(3), false);
        assert_eq!(turns(&mut all, 2), [1, 1]);
        all.set_waiting(HolderId(3), true);
        assert_eq!(turns(&mut all, 2), [3, 3]);
    }

    #[test]
    fn a_lower_priority_waits_while_a_higher_is_at_work() {
        let mut all = waiting(Sharing::Turns, &[(1, 0), (2, 9), (3, 9)]);
        all.give_turn(HolderId(2));
        assert_eq!(turns(&mut all, 2), [3, 3], "the same priority is served");
        all.set_waiting(HolderId(3), false);
        assert_eq!(turns(&mut all, 1), []);
        assert!(all.pass(HolderId(2)) && !all.pass(HolderId(2)));
        assert_eq!(turns(&mut all, 1), [1]);
        all.give_turn(HolderId(2));
        all.set_waiting(HolderId(2), true);
        assert_eq!(turns(&mut all, 1), [2]);
        all.give_turn(HolderId(2));
        all.leave(HolderId(2));
        assert_eq!(turns(&mut all, 1), [1]);
        all.join(subscription(4, 1));
        assert_eq!(turns(&mut all, 1), [], "one that comes takes what there is before lower ones");
    }

    #[test]
    fn a_consumer_shares_with_those_that_are_served_no_later() {
        let mut all = waiting(Sharing::Turns, &[(1, 0), (2, 9), (3, 9), (4, -1)]);
        all.join(Subscription { group: GroupId(7), ..subscription(5, 9) });
        assert_eq!([1, 2, 3, 4, 5, 6].map(|holder| all.sharers(HolderId(holder))), [3, 2, 2, 4, 1, 1]);
        all.leave(HolderId(3));
        assert_eq!(all.sharers(HolderId(4)), 3);
        assert_eq!(waiting(Sharing::Single, &[(1, 0), (2, 0)]).sharers(HolderId(1)), 1);
    }

    #[test]
    fn groups_are_served_by_themselves() {
        let mut all = waiting(Sharing::Turns, &[(1, 0)]);
        all.join(Subscription { group: GroupId(7), ..subscription(2, 9) });
        assert_eq!(all.next(GroupId(7)), None);
        all.set_waiting(HolderId(2), true);
        assert_eq!(all.next(GroupId(7)), Some(HolderId(2)));
        assert_eq!(turns(&mut all, 1), [1]);
    }

    #[test]
    fn all_together_may_have_what_each_of_those_that_are_served_may() {
        for (sharing, two, three) in [(Sharing::Turns, 12, u64::MAX), (Sharing::Single, 5, 5)] {
            let mut all = Subscriptions::new(sharing);
            assert_eq!(all.capacity(), 0);
            all.join(Subscription { prefetch: Some(5), ..subscription(1, 0) });
            all.join(Subscription { prefetch: Some(7), ..subscription(2, 0) });
            assert_eq!(all.capacity(), two);
            all.join(Subscription { prefetch: None, ..subscription(3, 0) });
            assert_eq!(all.capacity(), three);
            all.set_prefetch(HolderId(3), Some(1));
            all.leave(HolderId(1));
            assert_eq!(all.capacity(), if sharing == Sharing::Single { 7 } else { 8 });
            all.leave(HolderId(2));
            assert_eq!(all.capacity(), 1);
            all.leave(HolderId(3));
            assert_eq!(all.capacity(), 0);
        }
    }

    #[test]
    fn a_single_active_one_is_followed_by_the_highest_priority_and_then_the_oldest() {
        let mut all = waiting(Sharing::Single, &[(1, 0), (2, 0), (3, 5), (4, 5)]);
        assert_eq!(turns(&mut all, 2), [1, 1]);
        all.set_waiting(HolderId(1), false);
        assert_eq!(turns(&mut all, 2), []);
        assert_eq!(all.leave(HolderId(2)), None);
        assert_eq!(all.leave(HolderId(1)), Some(HolderId(3)));
        assert_eq!(turns(&mut all, 1), [3]);
        assert!(!all.is_outranked(HolderId(3)) && !all.is_outranked(HolderId(4)));
        all.join(subscription(5, 6));
        assert!(all.is_outranked(HolderId(3)) && !all.is_outranked(HolderId(4)));
        assert_eq!(all.leave(HolderId(5)), None);
        assert_eq!(all.leave(HolderId(3)), Some(HolderId(4)));
        assert_eq!(all.leave(HolderId(4)), None);
        assert!(all.is_empty());
    }
}
