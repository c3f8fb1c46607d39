//! What DescribeGroups, ListGroups and the admin views show.

use std::{collections::BTreeSet, pin::Pin};

use broker::{CursorKey, MemberView, Membership, RebalanceCause, RebalanceView, mark_differences};
use bytes::Buf;
use model::{Error, Namespace, PartitionIndex, Result, StreamKey};

use super::Coordinator;
use crate::group::{Cause, Group, Member, Phase, Refusal};

/// A group as DescribeGroups shows it.
pub(crate) struct GroupView {
    pub state: &'static str,
    pub protocol_type: String,
    pub protocol: String,
    /// With the metadata for the chosen protocol.
    pub members: Vec<(Member, bytes::Bytes)>,
}

impl Coordinator {
    /// One group; `None` when nobody has heard of it. One that has offsets alone is empty.
    pub(crate) fn describe(&self, key: &CursorKey) -> Option<GroupView> {
        match self.find(key) {
            Some(slot) => {
                let state = slot.state.lock();
                let group = &state.group;
                let stable = group.phase() == Phase::Stable;
                Some(GroupView {
                    state: group.phase().name(),
                    protocol_type: group.protocol_type().to_owned(),
                    protocol: if stable { group.protocol().to_owned() } else { String::new() },
                    members: group.members().map(|m| shown_member(group, m)).collect(),
                })
            }
            None if self.broker.positions(key).is_some() => Some(GroupView {
                state: "Empty",
                protocol_type: String::new(),
                protocol: String::new(),
                members: Vec::new(),
            }),
            None => None,
        }
    }

    /// The groups of a namespace, by name: those that have members or had, and those that have offsets.
    pub(crate) fn list(&self, namespace: &Namespace) -> Vec<CursorKey> {
        let mut all: BTreeSet<CursorKey> = self.broker.cursors(namespace).into_iter().collect();
        all.extend(self.groups.lock().keys().filter(|key| key.namespace == *namespace).cloned());
        all.into_iter().collect()
    }

    /// What keeps a group's offsets from being deleted one by one.
    pub(crate) fn offsets_in_use(&self, key: &CursorKey) -> InUse {
        let Some(slot) = self.find(key) else { return InUse::Topics(BTreeSet::new()) };
        let state = slot.state.lock();
        let group = &state.group;
        match group.members().next() {
            None => InUse::Topics(BTreeSet::new()),
            Some(_) if group.protocol_type() != CONSUMERS => InUse::All,
            Some(_) => subscribed(group).map_or(InUse::EveryTopic, InUse::Topics),
        }
    }
}

/// Which offsets of a group may not be deleted one by one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InUse {
    /// Those of the topics that its members are subscribed to.
    Topics(BTreeSet<String>),
    /// Members are subscribed to topics that are not known (yet).
    EveryTopic,
    /// The group's members speak a protocol of their own, so nothing is known of its offsets.
    All,
}

/// The protocol type of consumers, whose metadata names topics.
const CONSUMERS: &str = "consumer";

/// The topics that a group of consumers is subscribed to; `None` when that cannot be told.
pub(super) fn subscribed(group: &Group) -> Option<BTreeSet<String>> {
    if group.protocol_type() != CONSUMERS || group.protocol().is_empty() {
        return None;
    }
    let mut topics = BTreeSet::new();
    for member in group.members() {
        let metadata = group.metadata_of(member);
        list_header(&mut metadata.as_ref())?;
        topics.extend(topics_of(&metadata));
    }
    Some(topics)
}

impl Membership for Coordinator {
    fn dialect(&self) -> &'static str {
        "kafka"
    }

    fn cursors(&self) -> Vec<CursorKey> {
        self.groups.lock().keys().cloned().collect()
    }

    fn state(&self, cursor: &CursorKey) -> Option<String> {
        self.find(cursor).map(|slot| slot.state.lock().group.phase().name().to_owned())
    }

    fn keeps_position(&self, cursor: &CursorKey, stream: &StreamKey) -> bool {
        self.use_of(cursor).keeps(stream)
    }

    fn members(&self, cursor: &CursorKey) -> Vec<MemberView> {
        let Some(slot) = self.find(cursor) else { return Vec::new() };
        let state = slot.state.lock();
        let view = |member| member_view(&cursor.namespace, &state.group, member);
        let mut members: Vec<MemberView> = state.group.members().map(view).collect();
        mark_differences(&mut members);
        members
    }

    fn history(&self, cursor: &CursorKey) -> Vec<RebalanceView> {
        let Some(slot) = self.find(cursor) else { return Vec::new() };
        let state = slot.state.lock();
        let view = |rebalance: &crate::group::Rebalance| RebalanceView {
            at_ms: rebalance.at_wall_ms,
            took_ms: rebalance.took_ms,
            generation: i64::from(rebalance.generation),
            cause: cause_view(&rebalance.cause),
            member: rebalance.member_id.clone(),
            client_id: rebalance.client_id.clone(),
            members: rebalance.members as usize,
        };
        state.group.history().map(view).collect()
    }

    fn forget_all(&self) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>> {
        Box::pin(self.forget_groups())
    }

    fn evict<'a>(
        &'a self,
        cursor: &'a CursorKey,
        member: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> {
        Box::pin(async move {
            Coordinator::evict(self, cursor, member).await.map_err(|refusal| match refusal {
                Refusal::UnknownMember => Error::not_found("there is no such member"),
                _ => Error::unavailable("the group is not available right now"),
            })
        })
    }
}

/// A member with its metadata, which is shown while its generation runs, as the original does; the assignment that it had
/// last is shown until it gets another.
fn shown_member(group: &Group, member: &Member) -> (Member, bytes::Bytes) {
    let metadata = match group.phase() {
        Phase::Stable => group.metadata_of(member),
        _ => bytes::Bytes::new(),
    };
    (member.clone(), metadata)
}

fn cause_view(cause: &Cause) -> RebalanceCause {
    match cause {
        Cause::Join(_) | Cause::InstanceReplaced => RebalanceCause::Joined,
        Cause::Leave(reason) => RebalanceCause::Left { reason: reason.clone() },
        Cause::SessionExpired => RebalanceCause::SessionExpired,
        Cause::RebalanceTimeout => RebalanceCause::RebalanceTimeout,
        // A leader joins again when what the topics look like has changed.
        Cause::SubscriptionChanged | Cause::LeaderRejoined(_) => RebalanceCause::SubscriptionChanged,
        Cause::Evicted => RebalanceCause::Evicted,
    }
}

fn member_view(namespace: &Namespace, group: &Group, member: &Member) -> MemberView {
    let assignment = assignment_of(&member.assignment)
        .into_iter()
        .map(|(topic, partition)| (StreamKey::log(namespace, &topic), PartitionIndex(partition)))
        .collect();
    MemberView {
        id: member.id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client.client_id.clone(),
        software: member.client.software.clone(),
        software_version: member.client.software_version.clone(),
        address: member.client.host.trim_start_matches('/').to_owned(),
        session_timeout_ms: member.session_timeout_ms,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        assignors: member.protocols.iter().map(|(name, _)| name.clone()).collect(),
        subscription: topics_of(&group.metadata_of(member)),
        assignment,
        joined_at_ms: member.joined_wall_ms,
        last_heartbeat_ms: member.last_heartbeat_wall_ms,
        last_commit_ms: member.last_commit_wall_ms,
        differs_in: Vec::new(),
    }
}

/// The topics of a `ConsumerProtocolSubscription`; none when the metadata is not of that kind, which is no error: a
/// group's members may speak any protocol among themselves.
fn topics_of(mut metadata: &[u8]) -> Vec<String> {
    let mut topics = Vec::new();
    let Some(count) = list_header(&mut metadata) else { return topics };
    for _ in 0..count {
        let Some(topic) = text(&mut metadata) else { return Vec::new() };
        topics.push(topic);
    }
    topics
}

/// The partitions of a `ConsumerProtocolAssignment`; none when the bytes are not of that kind.
fn assignment_of(mut bytes: &[u8]) -> Vec<(String, u32)> {
    let mut partitions = Vec::new();
    let Some(count) = list_header(&mut bytes) else { return partitions };
    for _ in 0..count {
        let (Some(topic), Ok(of_topic)) = (text(&mut bytes), bytes.try_get_i32()) else { return Vec::new() };
        for _ in 0..of_topic {
            let Ok(partition) = bytes.try_get_i32() else { return Vec::new() };
            partitions.extend(u32::try_from(partition).ok().map(|partition| (topic.clone(), partition)));
        }
    }
    partitions
}

/// The version, which does not matter for the parts read here, and the count of what follows.
fn list_header(bytes: &mut &[u8]) -> Option<i32> {
    let version = bytes.try_get_i16().ok()?;
    let count = bytes.try_get_i32().ok()?;
    (version >= 0 && count >= 0).then_some(count)
}

fn text(bytes: &mut &[u8]) -> Option<String> {
    let len = usize::try_from(bytes.try_get_i16().ok()?).ok()?;
    let (text, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_and_assignments_of_the_consumer_protocol_are_read() {
        let subscription = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc\xff\xff\xff\xff";
        assert_eq!(topics_of(subscription), ["a", "bc"]);
        let assignment = b"\0\0\0\0\0\x01\0\x01a\0\0\0\x02\0\0\0\0\0\0\0\x07";
        assert_eq!(assignment_of(assignment), [("a".to_owned(), 0), ("a".to_owned(), 7)]);
    }

    #[test]
    fn metadata_of_another_kind_shows_nothing_and_harms_nobody() {
        let subscription = b"\0\x01\0\0\0\x02\0\x01a\0\x02bc";
        for len in 0..subscription.len() {
            assert!(topics_of(&subscription[..len]).is_empty());
            assert!(assignment_of(&subscription[..len]).is_empty());
        }
        assert!(topics_of(b"\0\0\x7f\xff\xff\xff").is_empty());
        assert!(assignment_of(b"\0\0\x7f\xff\xff\xff\0\x01a\x7f\xff\xff\xff").is_empty());
    }
}
