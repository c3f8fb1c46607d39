//! The classic group protocol as a machine of (state, input, now): no socket, no timer, no storage.
//!
//! A [`Group`] takes requests and the time, and returns an [`Outcome`]: which waiting requests are answered with what,
//! and whether the group's durable part changed. The driver holds back answers until that part is stored, and calls
//! [`Group::tick`] when [`Group::next_deadline`] has come.
//!
//! Rules: Kafka's consumer group protocol (KIP-62 rebalance time-outs, KIP-345 static members, KIP-394 known member
//! ids, KIP-559 protocol names, KIP-800 reasons, KIP-814 skipped assignments).

mod commit;
mod history;
mod join;
mod leave;
mod members;
mod rebalance;
mod stored;
mod sync;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

pub(crate) use commit::Committer;
pub(crate) use history::{Cause, Rebalance};
pub(crate) use join::{Join, Joined};
pub(crate) use leave::Leaver;
use members::Members;
pub(crate) use sync::{Sync, Synced};

/// Limits of the group coordinator. All times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupLimits {
    /// `group.min.session.timeout.ms`.
    pub session_timeout_min_ms: u64,
    /// `group.max.session.timeout.ms`.
    pub session_timeout_max_ms: u64,
    /// `group.max.size`.
    pub members_max: usize,
    /// `group.initial.rebalance.delay.ms`: how long the first members of an empty group wait for company.
    pub initial_delay_ms: u64,
}

impl Default for GroupLimits {
    fn default() -> Self {
        GroupLimits {
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            members_max: 10_000,
            initial_delay_ms: 3_000,
        }
    }
}

impl GroupLimits {
    /// Whether a session may be that long.
    pub(crate) fn take_session(&self, timeout_ms: u64) -> bool {
        (self.session_timeout_min_ms..=self.session_timeout_max_ms).contains(&timeout_ms)
    }
}

/// Why a request is refused. One place maps these to error codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    InvalidGroupId,
    NoSuchGroup,
    InvalidSessionTimeout,
    InconsistentProtocol,
    UnknownMember,
    MemberIdRequired,
    IllegalGeneration,
    RebalanceInProgress,
    FencedInstance,
    GroupFull,
    CoordinatorNotAvailable,
}

/// Names a request that waits for its answer; handed out by the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub u64);

/// An answer to a request that had to wait (or was just made).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// To a JoinGroup.
    Joined(Result<Joined, (Refusal, String)>),
    /// To a SyncGroup.
    Synced(Result<Synced, Refusal>),
}

/// What a step of the machine asks of its driver.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Requests to answer.
    pub answers: Vec<(Ticket, Answer)>,
    /// Whether the durable part changed; answers (these and later ones) follow its commit.
    pub persist: bool,
}

/// Where a group stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No members; may hold offsets.
    #[default]
    Empty,
    /// Waiting for the members to join the next generation.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
}

impl Phase {
    /// The state's name as DescribeGroups and ListGroups show it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Phase::Empty => "Empty",
            Phase::PreparingRebalance => "PreparingRebalance",
            Phase::CompletingRebalance => "CompletingRebalance",
            Phase::Stable => "Stable",
        }
    }
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub id: String,
    /// Set for static members.
    pub instance_id: Option<String>,
    pub client: ClientView,
    pub session_timeout_ms: u64,
    pub rebalance_timeout_ms: u64,
    /// Supported protocols in order of preference, with the metadata for each.
    pub protocols: Vec<(String, Bytes)>,
    /// What the leader gave it.
    pub assignment: Bytes,
    /// A JoinGroup that waits for the generation to begin.
    joining: Option<Ticket>,
    /// A SyncGroup that waits for the leader.
    syncing: Option<Ticket>,
    /// Whether it has asked for its assignment in this generation.
    synced: bool,
    /// Whether the JoinGroup that made it is still parked.
    is_new: bool,
    /// When its session ends, unless it is heard of.
    expires_at_ms: u64,
    pub joined_wall_ms: i64,
    pub last_heartbeat_wall_ms: i64,
    pub last_commit_wall_ms: Option<i64>,
}

/// What is known of the program behind a member, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClientView {
    pub client_id: String,
    /// Name as the client gave it in ApiVersions, e.g. `apache-kafka-java`.
    pub software: String,
    /// Version as the client gave it there.
    pub software_version: String,
    /// Address it connected from, with a leading slash as the original shows it.
    pub host: String,
}

/// Now, on both clocks: deadlines run on the monotonic one, people read the other.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Now {
    /// Milliseconds on a monotonic clock.
    pub mono_ms: u64,
    /// Milliseconds since the Unix epoch.
    pub wall_ms: i64,
}

/// One group.
#[derive(Debug)]
pub(crate) struct Group {
    pub id: String,
    limits: GroupLimits,
    phase: Phase,
    generation: i32,
    protocol_type: Option<String>,
    protocol: Option<String>,
    leader: Option<String>,
    members: Members,
    /// Instance id → member id.
    statics: BTreeMap<String, String>,
    /// Members that were given an id and have not joined with it yet → when the offer ends.
    pending: BTreeMap<String, u64>,
    /// No offer ends before: one that was taken up leaves this where it is.
    offers_look_at_ms: Option<u64>,
    /// While preparing: when the members that have not joined are left behind.
    join_deadline_ms: Option<u64>,
    /// While preparing an empty group's first generation: how much longer newcomers may delay it.
    initial_delay_left_ms: Option<u64>,
    /// While preparing an empty group's first generation: whether somebody arrived in this delay.
    newcomer: bool,
    /// While completing: when the members that have not synced are left behind.
    sync_deadline_ms: Option<u64>,
    history: VecDeque<Rebalance>,
    /// When the last member went, wall clock; offsets expire from here.
    pub emptied_wall_ms: Option<i64>,
}

impl Group {
    /// A group that nobody has joined.
    pub(crate) fn new(id: &str, limits: GroupLimits) -> Self {
        Group {
            id: id.to_owned(),
            limits,
            phase: Phase::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: Members::default(),
            statics: BTreeMap::new(),
            pending: BTreeMap::new(),
            offers_look_at_ms: None,
            join_deadline_ms: None,
            initial_delay_left_ms: None,
            newcomer: false,
            sync_deadline_ms: None,
            history: VecDeque::new(),
            emptied_wall_ms: None,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase
    }

    #[cfg(test)]
    pub(crate) fn generation(&self) -> i32 {
        self.generation
    }

    pub(crate) fn protocol_type(&self) -> &str {
        self.protocol_type.as_deref().unwrap_or("")
    }

    /// The chosen protocol; empty while none is.
    pub(crate) fn protocol(&self) -> &str {
        self.protocol.as_deref().unwrap_or("")
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.all()
    }

    pub(crate) fn history(&self) -> impl Iterator<Item = &Rebalance> {
        self.history.iter()
    }

    /// Whether it holds nothing but its name: no member, nobody who was offered an id.
    pub(crate) fn is_idle(&self) -> bool {
        self.phase == Phase::Empty && self.pending.is_empty()
    }

    /// The metadata that `member` gave for the chosen protocol.
    pub(crate) fn metadata_of(&self, member: &Member) -> Bytes {
        let chosen = self.protocol.as_deref();
        member
            .protocols
            .iter()
            .find(|(name, _)| Some(name.as_str()) == chosen)
            .map(|(_, metadata)| metadata.clone())
            .unwrap_or_default()
    }

    /// When [`Group::tick`] has something to do, or to look at, on the monotonic clock.
    pub(crate) fn next_deadline(&self) -> Option<u64> {
        let look_at = [self.members.look_at_ms(), self.offers_look_at_ms];
        look_at.into_iter().chain([self.join_deadline_ms, self.sync_deadline_ms]).flatten().min()
    }

    /// Lets time pass: sessions end, rebalances stop waiting.
    pub(crate) fn tick(&mut self, now: Now) -> Outcome {
        let mut out = Outcome::default();
        if self.offers_look_at_ms.is_some_and(|at| at <= now.mono_ms) {
            self.pending.retain(|_, ends| *ends > now.mono_ms);
            self.offers_look_at_ms = self.pending.values().copied().min();
        }
        for id in self.members.expired(now) {
            self.remove(&id, Cause::SessionExpired, now, &mut out);
        }
        if self.sync_deadline_ms.is_some_and(|at| at <= now.mono_ms) {
            self.give_up_on_unsynced(now, &mut out);
        }
        self.try_complete_join(now, &mut out);
        out
    }

    /// A heartbeat of `member`. Rule: a member of the current generation is alive in every phase, and learns from the
    /// refusal that it has to join again.
    pub(crate) fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        now: Now,
    ) -> Result<(), Refusal> {
        self.known(member_id, instance_id)?;
        if generation != self.generation {
            return Err(Refusal::IllegalGeneration);
        }
        self.heard(member_id, now);
        match self.phase {
            Phase::Empty => Err(Refusal::UnknownMember),
            Phase::PreparingRebalance => Err(Refusal::RebalanceInProgress),
            Phase::CompletingRebalance | Phase::Stable => Ok(()),
        }
    }

    /// Checks that the request comes from a member. A static member is known by its instance, and fenced when another
    /// process took that instance over.
    fn known(&self, member_id: &str, instance_id: Option<&str>) -> Result<(), Refusal> {
        if let Some(instance) = instance_id {
            return match self.statics.get(instance) {
                None => Err(Refusal::UnknownMember),
                Some(current) if current != member_id => Err(Refusal::FencedInstance),
                Some(_) => Ok(()),
            };
        }
        if self.members.has(member_id) { Ok(()) } else { Err(Refusal::UnknownMember) }
    }

    /// Extends the session of a member that was heard of.
    fn heard(&mut self, member_id: &str, now: Now) {
        self.members.change(member_id, |member| member.heard(now));
    }
}

impl Member {
    /// Its session begins anew.
    fn heard(&mut self, now: Now) {
        self.expires_at_ms = now.mono_ms.saturating_add(self.session_timeout_ms);
        self.last_heartbeat_wall_ms = now.wall_ms;
    }

    /// A member whose JoinGroup or SyncGroup is waiting cannot send heartbeats, so its session does not run; a newcomer
    /// has a longer time of its own.
    fn is_timed(&self) -> bool {
        self.is_new || (self.joining.is_none() && self.syncing.is_none())
    }
}
