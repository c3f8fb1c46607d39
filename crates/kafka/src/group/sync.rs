//! SyncGroup.

use std::collections::HashMap;

use bytes::Bytes;

use super::{Answer, Group, Now, Outcome, Phase, Refusal, Ticket};

/// A request for one's assignment; the leader's carries everybody's.
#[derive(Clone, Debug)]
pub(crate) struct Sync {
    pub member_id: String,
    pub instance_id: Option<String>,
    pub generation: i32,
    /// Absent before version 5.
    pub protocol_type: Option<String>,
    pub protocol: Option<String>,
    pub assignments: Vec<(String, Bytes)>,
}

/// The answer: what the member works on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Synced {
    pub protocol_type: String,
    pub protocol: String,
    pub assignment: Bytes,
}

impl Group {
    /// A member asks for its assignment. The answer comes in this or a later [`Outcome`].
    pub(crate) fn sync(&mut self, sync: Sync, ticket: Ticket, now: Now) -> Outcome {
        let mut out = Outcome::default();
        if let Err(refusal) = self.try_sync(sync, ticket, now, &mut out) {
            out.answers.push((ticket, Answer::Synced(Err(refusal))));
        }
        out
    }

    fn try_sync(&mut self, sync: Sync, ticket: Ticket, now: Now, out: &mut Outcome) -> Result<(), Refusal> {
        self.known(&sync.member_id, sync.instance_id.as_deref())?;
        if sync.generation != self.generation {
            return Err(Refusal::IllegalGeneration);
        }
        let other = |given: &Option<String>, ours: &str| given.as_ref().is_some_and(|given| given != ours);
        if other(&sync.protocol_type, self.protocol_type()) || other(&sync.protocol, self.protocol()) {
            return Err(Refusal::InconsistentProtocol);
        }
        match self.phase {
            Phase::Empty => Err(Refusal::UnknownMember),
            Phase::PreparingRebalance => Err(Refusal::RebalanceInProgress),
            Phase::Stable => {
                self.heard(&sync.member_id, now);
                let answer = Answer::Synced(Ok(self.synced(&sync.member_id)));
                out.answers.push((ticket, answer));
                Ok(())
            }
            Phase::CompletingRebalance => {
                self.await_assignment(&sync.member_id, ticket, out);
                if self.leader.as_ref() == Some(&sync.member_id) {
                    self.assign(sync.assignments, now, out);
                }
                Ok(())
            }
        }
    }

    fn await_assignment(&mut self, member_id: &str, ticket: Ticket, out: &mut Outcome) {
        let before = self.members.change(member_id, |member| {
            member.synced = true;
            member.syncing.replace(ticket)
        });
        if let Some(old) = before.flatten() {
            out.answers.push((old, Answer::Synced(Err(Refusal::RebalanceInProgress))));
        }
    }

    /// The leader has spoken: its assignment is kept verbatim, members it did not name get an empty one.
    fn assign(&mut self, assignments: Vec<(String, Bytes)>, now: Now, out: &mut Outcome) {
        let mut by_member: HashMap<String, Bytes> = assignments.into_iter().collect();
        self.phase = Phase::Stable;
        self.emptied_wall_ms = None;
        out.persist = true;
        let mut waiting = Vec::new();
        self.members.change_all(|member| {
            member.assignment = by_member.remove(&member.id).unwrap_or_default();
            if let Some(ticket) = member.syncing.take() {
                member.heard(now);
                waiting.push((ticket, member.id.clone()));
            }
        });
        for (ticket, id) in waiting {
            out.answers.push((ticket, Answer::Synced(Ok(self.synced(&id)))));
        }
        if self.members.are_synced() {
            self.sync_deadline_ms = None;
        }
    }

    fn synced(&mut self, member_id: &str) -> Synced {
        let assignment = self.members.change(member_id, |member| {
            member.synced = true;
            member.assignment.clone()
        });
        if self.members.are_synced() {
            self.sync_deadline_ms = None;
        }
        Synced {
            protocol_type: self.protocol_type().to_owned(),
            protocol: self.protocol().to_owned(),
            assignment: assignment.unwrap_or_default(),
        }
    }
}
