//! LeaveGroup, and eviction by an operator.

use super::{Cause, Group, Now, Outcome, Refusal};

/// Who leaves.
#[derive(Clone, Debug)]
pub(crate) struct Leaver {
    /// May be empty when the instance id says who.
    pub member_id: String,
    pub instance_id: Option<String>,
    pub reason: String,
}

impl Group {
    /// One member leaves. A request that names several calls this once for each.
    pub(crate) fn leave(&mut self, leaver: &Leaver, now: Now) -> (Result<(), Refusal>, Outcome) {
        let mut out = Outcome::default();
        let result = self.try_leave(leaver, now, &mut out);
        self.try_complete_join(now, &mut out);
        (result, out)
    }

    fn try_leave(&mut self, leaver: &Leaver, now: Now, out: &mut Outcome) -> Result<(), Refusal> {
        let id = match &leaver.instance_id {
            // Administrators name the instance alone.
            Some(instance) if leaver.member_id.is_empty() => {
                self.statics.get(instance).cloned().ok_or(Refusal::UnknownMember)?
            }
            Some(instance) => {
                self.known(&leaver.member_id, Some(instance))?;
                leaver.member_id.clone()
            }
            None if self.pending.remove(&leaver.member_id).is_some() => return Ok(()),
            None => {
                self.known(&leaver.member_id, None)?;
                leaver.member_id.clone()
            }
        };
        self.remove(&id, Cause::Leave(leaver.reason.clone()), now, out);
        Ok(())
    }

    /// An operator takes a member out; its client finds out and joins again as a new one.
    pub(crate) fn evict(&mut self, member_id: &str, now: Now) -> (Result<(), Refusal>, Outcome) {
        let mut out = Outcome::default();
        if !self.members.has(member_id) {
            return (Err(Refusal::UnknownMember), out);
        }
        self.remove(member_id, Cause::Evicted, now, &mut out);
        self.try_complete_join(now, &mut out);
        (Ok(()), out)
    }
}
