//! Why a group rebalanced: what people ask first when a group misbehaves.

use super::{Group, Now};

/// Rebalances remembered per group.
const HISTORY_MAX: usize = 100;

/// What set a rebalance off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A member joined; with the reason its client gave.
    Join(String),
    /// A member left; with the reason its client gave.
    Leave(String),
    /// A member was not heard of for its session time-out.
    SessionExpired,
    /// A member did not join the next generation, or did not ask for its assignment, in time.
    RebalanceTimeout,
    /// A member came back with other subscriptions or protocols.
    SubscriptionChanged,
    /// The leader asked for a new assignment, e.g. because partitions were added.
    LeaderRejoined(String),
    /// Another process took over a static member's instance.
    InstanceReplaced,
    /// An operator removed the member.
    Evicted,
}

/// One rebalance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rebalance {
    /// When it began, milliseconds since the Unix epoch.
    pub at_wall_ms: i64,
    /// How long until the next generation began, milliseconds; `None` while it goes on.
    pub took_ms: Option<u64>,
    /// The generation it led to; while it goes on, the one it ended.
    pub generation: i32,
    /// How many members that generation had.
    pub members: u32,
    pub cause: Cause,
    pub member_id: String,
    pub client_id: String,
}

impl Group {
    /// Notes a cause. Further causes while a rebalance is being prepared are noted too: each names its member.
    pub(super) fn note(&mut self, cause: Cause, member_id: &str, client_id: &str, now: Now) {
        if self.history.len() == HISTORY_MAX {
            self.history.pop_front();
        }
        self.history.push_back(Rebalance {
            at_wall_ms: now.wall_ms,
            took_ms: None,
            generation: self.generation,
            members: 0,
            cause,
            member_id: member_id.to_owned(),
            client_id: client_id.to_owned(),
        });
    }

    /// The next generation has begun: everything that led to it is over.
    pub(super) fn note_begun(&mut self, now: Now) {
        let members = u32::try_from(self.members.len()).unwrap_or(u32::MAX);
        for rebalance in self.history.iter_mut().rev().take_while(|r| r.took_ms.is_none()) {
            rebalance.took_ms = Some(u64::try_from(now.wall_ms - rebalance.at_wall_ms).unwrap_or(0));
            rebalance.generation = self.generation;
            rebalance.members = members;
        }
    }
}
