//! Who may commit offsets, and when.

use super::{Group, Now, Phase, Refusal};

/// Who commits. Simple consumers and administrators give no member and a negative generation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Committer<'a> {
    pub member_id: &'a str,
    pub instance_id: Option<&'a str>,
    pub generation: i32,
}

impl Group {
    /// Checks a commit. One of the current generation is taken while the next is being prepared: that is how members
    /// hand over without repeating; between join and assignment nobody owns anything, so it is refused.
    pub(crate) fn check_commit(&mut self, who: Committer<'_>, now: Now) -> Result<(), Refusal> {
        let anonymous = who.generation < 0 && who.member_id.is_empty() && who.instance_id.is_none();
        if anonymous {
            return if self.members.is_empty() { Ok(()) } else { Err(Refusal::UnknownMember) };
        }
        if who.generation < 0 && self.phase == Phase::Empty {
            return Ok(());
        }
        self.known(who.member_id, who.instance_id)?;
        if who.generation != self.generation {
            return Err(Refusal::IllegalGeneration);
        }
        if self.phase == Phase::CompletingRebalance {
            return Err(Refusal::RebalanceInProgress);
        }
        self.heard(who.member_id, now);
        self.members.change(who.member_id, |member| member.last_commit_wall_ms = Some(now.wall_ms));
        Ok(())
    }
}
