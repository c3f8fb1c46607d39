//! What a dialect tells about who works on its cursors: for the admin views, and for whoever ends positions.

use std::{collections::BTreeMap, future::Future, pin::Pin};

use model::{PartitionIndex, Result, StreamKey};

use crate::position::CursorKey;

/// A dialect's book of members. Registered once at start.
pub trait Membership: Send + Sync + 'static {
    /// Name of the dialect in reports.
    fn dialect(&self) -> &'static str;
    /// The cursors that have, or lately had, members.
    fn cursors(&self) -> Vec<CursorKey>;
    /// In which state the group of members is, in the dialect's words; `None` when this dialect does not know the cursor.
    fn state(&self, cursor: &CursorKey) -> Option<String>;
    /// Whether the cursor's position in `stream` stays although its time is over: its members still read there.
    fn keeps_position(&self, cursor: &CursorKey, stream: &StreamKey) -> bool;
    /// Who works on it now.
    fn members(&self, cursor: &CursorKey) -> Vec<MemberView>;
    /// The last rebalances, oldest first, at most 100.
    fn history(&self, cursor: &CursorKey) -> Vec<RebalanceView>;
    /// Forgets every cursor's members, as if none had ever come; a test suite begins anew.
    fn forget_all(&self) -> Pin<Box<dyn Future<Output = Result<()>> + Send + '_>>;
    /// Puts a member out.
    fn evict<'a>(
        &'a self,
        cursor: &'a CursorKey,
        member: &'a str,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;
}

/// One member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemberView {
    /// Its id.
    pub id: String,
    /// The id that its operator gave it, when it has one.
    pub instance_id: Option<String>,
    /// What it calls itself.
    pub client_id: String,
    /// Its client library.
    pub software: String,
    /// Version of its client library.
    pub software_version: String,
    /// Address that it connects from.
    pub address: String,
    /// Its session time-out, milliseconds.
    pub session_timeout_ms: u64,
    /// Its rebalance time-out, milliseconds.
    pub rebalance_timeout_ms: u64,
    /// How it wants partitions assigned, in order of preference.
    pub assignors: Vec<String>,
    /// Names of the streams that it wants.
    pub subscription: Vec<String>,
    /// What it was assigned.
    pub assignment: Vec<(StreamKey, PartitionIndex)>,
    /// When it joined, milliseconds since the Unix epoch.
    pub joined_at_ms: i64,
    /// When it was last heard of, milliseconds since the Unix epoch.
    pub last_heartbeat_ms: i64,
    /// When it last committed, milliseconds since the Unix epoch.
    pub last_commit_ms: Option<i64>,
    /// In which of its settings it differs from most of the members; see [`mark_differences`].
    pub differs_in: Vec<&'static str>,
}

/// Why a rebalance happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RebalanceCause {
    /// The member came.
    Joined,
    /// The member went, saying this.
    Left {
        /// What it said, possibly nothing.
        reason: String,
    },
    /// The member was not heard of for its session time-out.
    SessionExpired,
    /// The member did not join again in time.
    RebalanceTimeout,
    /// The member wants other streams, or the streams it wants changed.
    SubscriptionChanged,
    /// An operator put the member out.
    Evicted,
}

/// One rebalance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RebalanceView {
    /// When it began, milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// How long it took, milliseconds; `None` while it goes on.
    pub took_ms: Option<u64>,
    /// Generation that it led to.
    pub generation: i64,
    /// Why.
    pub cause: RebalanceCause,
    /// Whose doing it was.
    pub member: String,
    /// What that member called itself.
    pub client_id: String,
    /// How many members there were afterwards.
    pub members: usize,
}

/// Marks each member with the settings in which it differs from the majority. Without a majority (no value that more
/// than half of the members share) nobody is marked.
pub fn mark_differences(members: &mut [MemberView]) {
    mark(members, "software", |m| m.software.clone());
    mark(members, "software_version", |m| m.software_version.clone());
    mark(members, "session_timeout_ms", |m| m.session_timeout_ms);
    mark(members, "rebalance_timeout_ms", |m| m.rebalance_timeout_ms);
    mark(members, "assignors", |m| m.assignors.clone());
    mark(members, "subscription", |m| {
        let mut names = m.subscription.clone();
        names.sort_unstable();
        names
    });
}

fn mark<T: Ord>(members: &mut [MemberView], setting: &'static str, value: impl Fn(&MemberView) -> T) {
    let mut counts = BTreeMap::<T, usize>::new();
    for member in members.iter() {
        *counts.entry(value(member)).or_default() += 1;
    }
    let half = members.len() / 2;
    let Some(majority) = counts.into_iter().find(|(_, count)| *count > half).map(|(common, _)| common) else {
        return;
    };
    for member in members.iter_mut().filter(|member| value(member) != majority) {
        member.differs_in.push(setting);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(rebalance_timeout_ms: u64) -> MemberView {
        MemberView { rebalance_timeout_ms, ..MemberView::default() }
    }

    #[test]
    fn the_one_member_with_other_settings_is_marked() {
        let mut members: Vec<_> = [300_000, 300_000, 10_000].map(member).into();
        mark_differences(&mut members);
        assert_eq!(members[2].differs_in, ["rebalance_timeout_ms"]);
        assert!(members[0].differs_in.is_empty() && members[1].differs_in.is_empty());
    }

    #[test]
    fn without_a_majority_nobody_is_marked() {
        let mut members: Vec<_> = [1, 2].map(member).into();
        mark_differences(&mut members);
        assert!(members.iter().all(|member| member.differs_in.is_empty()));
    }
}
