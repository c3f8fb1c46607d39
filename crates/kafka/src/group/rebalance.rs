//! From one generation to the next.

use std::collections::BTreeMap;

use super::{Answer, Cause, Group, Member, Now, Outcome, Phase, Refusal};

impl Group {
    /// Begins a rebalance, or notes one more cause of the one that is being prepared.
    pub(super) fn prepare(&mut self, cause: Cause, member_id: &str, now: Now, out: &mut Outcome) {
        let client_id = self.members.get(member_id).map(|m| m.client.client_id.clone()).unwrap_or_default();
        self.note(cause, member_id, &client_id, now);
        self.rebalance(now, out);
    }

    /// Begins a rebalance unless one is being prepared.
    pub(super) fn rebalance(&mut self, now: Now, out: &mut Outcome) {
        if self.phase == Phase::PreparingRebalance {
            return;
        }
        if self.phase == Phase::CompletingRebalance {
            self.refuse_syncs(now, out);
        }
        let first = self.phase == Phase::Empty;
        self.phase = Phase::PreparingRebalance;
        self.sync_deadline_ms = None;
        let patience_ms = self.patience_ms();
        if first {
            let delay_ms = self.limits.initial_delay_ms;
            self.join_deadline_ms = Some(now.mono_ms.saturating_add(delay_ms));
            self.initial_delay_left_ms = Some(patience_ms.saturating_sub(delay_ms));
            self.newcomer = false;
        } else {
            self.join_deadline_ms = Some(now.mono_ms.saturating_add(patience_ms));
            self.initial_delay_left_ms = None;
        }
    }

    /// Begins the next generation if everybody is here or the waiting is over.
    pub(super) fn try_complete_join(&mut self, now: Now, out: &mut Outcome) {
        if self.phase != Phase::PreparingRebalance {
            return;
        }
        let overdue = self.join_deadline_ms.is_some_and(|at| at <= now.mono_ms);
        if let Some(left_ms) = self.initial_delay_left_ms {
            if !overdue || self.wait_for_more(left_ms, now) {
                return;
            }
        } else if !overdue && !self.everybody_joined() {
            return;
        }
        self.leave_behind_unjoined(now);
        if !self.members.is_empty() && self.members.joining_count() == 0 {
            // Only static members that are away are left: nobody could assign, so it waits on; their sessions decide.
            self.join_deadline_ms = Some(now.mono_ms.saturating_add(self.patience_ms()));
            return;
        }
        self.begin_generation(now, out);
    }

    /// The longest rebalance time-out of any member.
    fn patience_ms(&self) -> u64 {
        self.members.all().map(|m| m.rebalance_timeout_ms).max().unwrap_or(0)
    }

    /// The first generation of an empty group: whoever arrives within the delay prolongs it, up to the rebalance time-out.
    fn wait_for_more(&mut self, left_ms: u64, now: Now) -> bool {
        if !self.newcomer || left_ms == 0 {
            self.initial_delay_left_ms = None;
            return false;
        }
        let delay_ms = self.limits.initial_delay_ms.min(left_ms);
        self.newcomer = false;
        self.initial_delay_left_ms = Some(left_ms - delay_ms);
        self.join_deadline_ms = Some(now.mono_ms.saturating_add(delay_ms));
        delay_ms > 0
    }

    fn everybody_joined(&self) -> bool {
        self.pending.is_empty() && self.members.joining_count() == self.members.len()
    }

    /// Members that did not come are out, except static ones, whose session decides.
    fn leave_behind_unjoined(&mut self, now: Now) {
        let late: Vec<String> = self
            .members
            .all()
            .filter(|m| m.joining.is_none() && m.instance_id.is_none())
            .map(|m| m.id.clone())
            .collect();
        for id in late {
            if let Some(member) = self.members.remove(&id) {
                self.note(Cause::RebalanceTimeout, &id, &member.client.client_id, now);
            }
        }
        let leader_is_here =
            self.leader.as_ref().and_then(|id| self.members.get(id)).is_some_and(|m| m.joining.is_some());
        if !leader_is_here {
            let joined = self.members.all().find(|m| m.joining.is_some());
            self.leader = joined.or_else(|| self.members.all().next()).map(|m| m.id.clone());
        }
    }

    fn begin_generation(&mut self, now: Now, out: &mut Outcome) {
        self.join_deadline_ms = None;
        self.initial_delay_left_ms = None;
        // Wraps to 1 where the original would go negative; 0 is "no generation yet".
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.note_begun(now);
        if self.members.is_empty() {
            self.become_empty(now, out);
            return;
        }
        self.phase = Phase::CompletingRebalance;
        self.protocol = self.elect_protocol();
        let leader = self.leader.clone().unwrap_or_default();
        let waiting: Vec<String> =
            self.members.all().filter(|m| m.joining.is_some()).map(|m| m.id.clone()).collect();
        self.sync_deadline_ms = Some(now.mono_ms.saturating_add(self.patience_ms()));
        self.members.change_all(|member| {
            member.synced = false;
            member.is_new = false;
        });
        for id in waiting {
            let joined = self.joined(&id, id == leader);
            self.heard(&id, now);
            if let Some(ticket) = self.members.change(&id, |m| m.joining.take()).flatten() {
                out.answers.push((ticket, Answer::Joined(Ok(joined))));
            }
        }
    }

    pub(super) fn become_empty(&mut self, now: Now, out: &mut Outcome) {
        self.phase = Phase::Empty;
        self.protocol = None;
        self.leader = None;
        self.join_deadline_ms = None;
        self.sync_deadline_ms = None;
        self.initial_delay_left_ms = None;
        self.emptied_wall_ms = Some(now.wall_ms);
        out.persist = true;
    }

    /// Each member votes for the first of its protocols that all share.
    pub(super) fn elect_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.all() {
            let mut names = member.protocols.iter().map(|(name, _)| name.as_str());
            let vote = names.find(|name| self.members.all_support(name));
            if let Some(name) = vote {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| name.to_owned())
    }

    /// Takes a member out, for whatever cause, and rebalances without it.
    pub(super) fn remove(&mut self, id: &str, cause: Cause, now: Now, out: &mut Outcome) {
        let Some(member) = self.forget(id) else { return };
        for (ticket, answer) in [
            (member.joining, Answer::Joined(Err((Refusal::UnknownMember, member.id.clone())))),
            (member.syncing, Answer::Synced(Err(Refusal::UnknownMember))),
        ] {
            if let Some(ticket) = ticket {
                out.answers.push((ticket, answer));
            }
        }
        self.note(cause, id, &member.client.client_id, now);
        match self.phase {
            Phase::Empty => {}
            Phase::Stable | Phase::CompletingRebalance => self.rebalance(now, out),
            Phase::PreparingRebalance => {}
        }
    }

    /// Strikes a member off, and lets another lead if it led.
    pub(super) fn forget(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        if let Some(instance) = &member.instance_id
            && self.statics.get(instance).is_some_and(|current| current == id)
        {
            self.statics.remove(instance);
        }
        if self.leader.as_deref() == Some(id) {
            let joined = self.members.all().find(|m| m.joining.is_some());
            self.leader = joined.or_else(|| self.members.all().next()).map(|m| m.id.clone());
        }
        Some(member)
    }

    /// Tells the members that wait for an assignment that there will be another generation first. Their sessions, which
    /// did not run meanwhile, begin anew: they have to be able to join it.
    fn refuse_syncs(&mut self, now: Now, out: &mut Outcome) {
        self.members.change_all(|member| {
            member.assignment = Default::default();
            if let Some(ticket) = member.syncing.take() {
                member.expires_at_ms = now.mono_ms.saturating_add(member.session_timeout_ms);
                out.answers.push((ticket, Answer::Synced(Err(Refusal::RebalanceInProgress))));
            }
        });
    }

    /// Members that joined but never asked for their assignment hold everybody up: they are out (KAFKA-9935's rule:
    /// the wait is the rebalance time-out).
    pub(super) fn give_up_on_unsynced(&mut self, now: Now, out: &mut Outcome) {
        self.sync_deadline_ms = None;
        let late: Vec<String> = self.members.all().filter(|m| !m.synced).map(|m| m.id.clone()).collect();
        for id in late {
            self.remove(&id, Cause::RebalanceTimeout, now, out);
        }
    }
}
