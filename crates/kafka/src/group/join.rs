//! JoinGroup.

use bytes::Bytes;

use super::{Answer, Cause, ClientView, Group, Member, Now, Outcome, Phase, Refusal, Ticket};

/// How long the JoinGroup of a newcomer may be parked before it is given up (`classic.group.new.member.join.timeout`):
/// a client that went away and asks again would leave one such member behind each time.
const NEW_MEMBER_PATIENCE_MS: u64 = 5 * 60 * 1_000;

/// Ids that may be offered and not taken up at a time: each is kept until its session would have ended.
pub(super) const OFFERS_MAX: usize = 10_000;

/// A request to join.
#[derive(Clone, Debug)]
pub(crate) struct Join {
    /// Empty on the first attempt.
    pub member_id: String,
    pub instance_id: Option<String>,
    /// The id to give a member that has none; unique, made by the driver.
    pub new_member_id: String,
    pub client: ClientView,
    pub session_timeout_ms: u64,
    pub rebalance_timeout_ms: u64,
    pub protocol_type: String,
    pub protocols: Vec<(String, Bytes)>,
    /// Whether this version of the request must come back with the id it is given (version 4 on, KIP-394).
    pub must_know_its_id: bool,
    /// Whether a leader may be told to keep the assignment (version 9 on, KIP-814).
    pub may_skip_assignment: bool,
    pub reason: String,
}

/// The answer to a successful join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub generation: i32,
    pub protocol_type: String,
    pub protocol: String,
    pub leader: String,
    pub member_id: String,
    pub skip_assignment: bool,
    /// Every member with its metadata; for the leader only.
    pub members: Vec<MemberMetadata>,
}

/// What the leader learns of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MemberMetadata {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub metadata: Bytes,
}

impl Group {
    /// A member wants to be in the next generation. The answer comes in this or a later [`Outcome`].
    pub(crate) fn join(&mut self, join: Join, ticket: Ticket, now: Now) -> Outcome {
        let mut out = Outcome::default();
        let refused_id = join.member_id.clone();
        let result = match self.admit(&join) {
            Err(refusal) => Err((refusal, refused_id)),
            Ok(()) if join.member_id.is_empty() => self.join_newcomer(join, ticket, now, &mut out),
            Ok(()) => self.join_known(join, ticket, now, &mut out).map_err(|refusal| (refusal, refused_id)),
        };
        match result {
            Ok(Some(joined)) => out.answers.push((ticket, Answer::Joined(Ok(joined)))),
            Ok(None) => self.try_complete_join(now, &mut out),
            Err((Refusal::GroupFull, id)) => {
                self.pending.remove(&id);
                self.forget(&id);
                out.answers.push((ticket, Answer::Joined(Err((Refusal::GroupFull, String::new())))));
                self.try_complete_join(now, &mut out);
            }
            Err(refused) => out.answers.push((ticket, Answer::Joined(Err(refused)))),
        }
        out
    }

    fn admit(&self, join: &Join) -> Result<(), Refusal> {
        if self.id.is_empty() {
            return Err(Refusal::InvalidGroupId);
        }
        if !self.limits.take_session(join.session_timeout_ms) {
            return Err(Refusal::InvalidSessionTimeout);
        }
        if join.protocol_type.is_empty() || join.protocols.is_empty() {
            return Err(Refusal::InconsistentProtocol);
        }
        if !self.has_room_for(join) {
            return Err(Refusal::GroupFull);
        }
        if self.supports(join) { Ok(()) } else { Err(Refusal::InconsistentProtocol) }
    }

    /// Whether `join` may come in. While a rebalance is prepared only those count who have joined it, so that a group
    /// whose limit was lowered shrinks to it; who was merely offered an id never counts.
    fn has_room_for(&self, join: &Join) -> bool {
        if join.instance_id.as_ref().is_some_and(|instance| self.statics.contains_key(instance)) {
            return true;
        }
        let known = self.members.get(&join.member_id);
        match self.phase {
            Phase::Empty => true,
            Phase::PreparingRebalance => {
                let waiting = self.members.joining_count();
                known.is_some_and(|m| m.joining.is_some()) || waiting < self.limits.members_max
            }
            Phase::CompletingRebalance | Phase::Stable => {
                known.is_some() || self.members.len() < self.limits.members_max
            }
        }
    }

    /// Whether the joining member shares its protocol type, and a protocol, with every other member.
    fn supports(&self, join: &Join) -> bool {
        if self.members.is_empty() {
            return true;
        }
        if self.protocol_type.as_deref() != Some(join.protocol_type.as_str()) {
            return false;
        }
        self.members.others_share(&join.member_id, &join.protocols)
    }

    fn join_newcomer(
        &mut self,
        join: Join,
        ticket: Ticket,
        now: Now,
        out: &mut Outcome,
    ) -> Result<Option<Joined>, (Refusal, String)> {
        let id = join.new_member_id.clone();
        if let Some(instance) = join.instance_id.clone() {
            return match self.statics.get(&instance).cloned() {
                Some(old) => {
                    self.replace_static(&old, join, ticket, now, out).map_err(|refusal| (refusal, id))
                }
                None => {
                    self.add(id, join, ticket, now, out);
                    Ok(None)
                }
            };
        }
        if join.must_know_its_id {
            if self.pending.len() >= OFFERS_MAX {
                return Err((Refusal::CoordinatorNotAvailable, String::new()));
            }
            let ends_ms = now.mono_ms.saturating_add(join.session_timeout_ms);
            self.pending.insert(id.clone(), ends_ms);
            self.offers_look_at_ms = Some(self.offers_look_at_ms.map_or(ends_ms, |at| at.min(ends_ms)));
            return Err((Refusal::MemberIdRequired, id));
        }
        self.add(id, join, ticket, now, out);
        Ok(None)
    }

    fn join_known(
        &mut self,
        join: Join,
        ticket: Ticket,
        now: Now,
        out: &mut Outcome,
    ) -> Result<Option<Joined>, Refusal> {
        if join.instance_id.is_none() && self.pending.remove(&join.member_id).is_some() {
            let id = join.member_id.clone();
            self.add(id, join, ticket, now, out);
            return Ok(None);
        }
        self.known(&join.member_id, join.instance_id.as_deref())?;
        let unchanged = self.members.get(&join.member_id).is_some_and(|m| m.protocols == join.protocols);
        let leads = self.leader.as_ref() == Some(&join.member_id);
        let cause =
            if unchanged { Cause::LeaderRejoined(join.reason.clone()) } else { Cause::SubscriptionChanged };
        match self.phase {
            Phase::Empty => Err(Refusal::UnknownMember),
            // A join whose answer was lost, or a follower that asks again without news: tell it where the group is.
            Phase::CompletingRebalance if unchanged => {
                self.heard(&join.member_id, now);
                Ok(Some(self.joined(&join.member_id, leads)))
            }
            Phase::Stable if unchanged && !leads => {
                self.heard(&join.member_id, now);
                Ok(Some(self.joined(&join.member_id, false)))
            }
            Phase::PreparingRebalance => {
                self.update(join, ticket, now, out);
                Ok(None)
            }
            Phase::CompletingRebalance | Phase::Stable => {
                let member_id = join.member_id.clone();
                self.update(join, ticket, now, out);
                self.prepare(cause, &member_id, now, out);
                Ok(None)
            }
        }
    }

    /// Adds a member and begins a rebalance.
    fn add(&mut self, id: String, join: Join, ticket: Ticket, now: Now, out: &mut Outcome) {
        self.protocol_type.get_or_insert_with(|| join.protocol_type.clone());
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type.clone());
        }
        if let Some(instance) = &join.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        self.leader.get_or_insert_with(|| id.clone());
        let reason = join.reason.clone();
        self.members.insert(Member::new(id.clone(), join, ticket, now));
        self.newcomer = true;
        self.prepare(Cause::Join(reason), &id, now, out);
    }

    /// A known member joins again, perhaps with other protocols and time-outs.
    fn update(&mut self, join: Join, ticket: Ticket, now: Now, out: &mut Outcome) {
        self.members.set_protocols(&join.member_id, join.protocols);
        let before = self.members.change(&join.member_id, |member| {
            member.client = join.client;
            member.session_timeout_ms = join.session_timeout_ms;
            member.rebalance_timeout_ms = join.rebalance_timeout_ms;
            member.last_heartbeat_wall_ms = now.wall_ms;
            member.joining.replace(ticket)
        });
        if let Some(old) = before.flatten() {
            let lost = (Refusal::RebalanceInProgress, join.member_id);
            out.answers.push((old, Answer::Joined(Err(lost))));
        }
    }

    /// Another process starts with the instance id of a static member: it takes the member's place, and the old process
    /// is fenced (KIP-345). The group goes on unless another protocol would win the vote now: metadata alone does not
    /// matter, since that of a cooperative member names what it owned before.
    fn replace_static(
        &mut self,
        old_id: &str,
        join: Join,
        ticket: Ticket,
        now: Now,
        out: &mut Outcome,
    ) -> Result<Option<Joined>, Refusal> {
        let Some(old) = self.members.remove(old_id) else { return Err(Refusal::UnknownMember) };
        old.fence(out);
        let id = join.new_member_id.clone();
        let was_leader = self.leader.as_deref() == Some(old_id);
        if was_leader {
            self.leader = Some(id.clone());
        }
        if let Some(instance) = &join.instance_id {
            self.statics.insert(instance.clone(), id.clone());
        }
        let may_skip = join.may_skip_assignment;
        let mut member = Member::new(id.clone(), join, ticket, now);
        member.assignment = old.assignment;
        member.is_new = false;
        member.expires_at_ms = now.mono_ms.saturating_add(member.session_timeout_ms);
        self.members.insert(member);
        if self.phase == Phase::Stable && self.elect_protocol() == self.protocol {
            self.members.change(&id, |member| {
                member.joining = None;
                member.synced = true;
            });
            out.persist = true;
            let mut joined = self.joined(&id, was_leader && may_skip);
            joined.skip_assignment = was_leader && may_skip;
            if was_leader && !may_skip {
                // Older clients know no "skip": told that its predecessor leads, it follows.
                joined.leader = old_id.to_owned();
            }
            return Ok(Some(joined));
        }
        if self.phase != Phase::PreparingRebalance {
            self.prepare(Cause::InstanceReplaced, &id, now, out);
        }
        Ok(None)
    }

    /// The answer for `member_id` in the generation that runs.
    pub(super) fn joined(&self, member_id: &str, with_members: bool) -> Joined {
        let members = if with_members {
            self.members
                .all()
                .map(|m| MemberMetadata {
                    member_id: m.id.clone(),
                    instance_id: m.instance_id.clone(),
                    metadata: self.metadata_of(m),
                })
                .collect()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type().to_owned(),
            protocol: self.protocol().to_owned(),
            leader: self.leader.clone().unwrap_or_default(),
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members,
        }
    }
}

impl Member {
    fn new(id: String, join: Join, ticket: Ticket, now: Now) -> Self {
        Member {
            id,
            instance_id: join.instance_id,
            client: join.client,
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols,
            assignment: Bytes::new(),
            joining: Some(ticket),
            syncing: None,
            synced: false,
            is_new: true,
            expires_at_ms: now.mono_ms.saturating_add(NEW_MEMBER_PATIENCE_MS),
            joined_wall_ms: now.wall_ms,
            last_heartbeat_wall_ms: now.wall_ms,
            last_commit_wall_ms: None,
        }
    }

    /// Answers what the replaced process still waits for.
    fn fence(&self, out: &mut Outcome) {
        if let Some(ticket) = self.joining {
            out.answers.push((ticket, Answer::Joined(Err((Refusal::FencedInstance, self.id.clone())))));
        }
        if let Some(ticket) = self.syncing {
            out.answers.push((ticket, Answer::Synced(Err(Refusal::FencedInstance))));
        }
    }
}
