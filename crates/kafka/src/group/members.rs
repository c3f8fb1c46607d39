//! A group's members, and what every join and heartbeat asks of all of them: counted as they change, so that one request
//! costs the same however many members there are.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;

use super::{Member, Now};

/// Members by their id. They are changed through this alone, which keeps the counts.
#[derive(Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<String, Member>,
    /// How many members have a protocol of that name.
    supporters: HashMap<String, usize>,
    counts: Counts,
    /// Members that were gone through.
    #[cfg(test)]
    pub looked_at: std::cell::Cell<usize>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    joining: usize,
    synced: usize,
    /// No session ends before, milliseconds on the monotonic clock. Who is heard of moves its own end away and leaves this
    /// where it is: all are looked at then.
    look_at_ms: Option<u64>,
}

impl Counts {
    fn add(&mut self, member: &Member) {
        self.joining += usize::from(member.joining.is_some());
        self.synced += usize::from(member.synced);
        if member.is_timed() {
            let ends_ms = member.expires_at_ms;
            self.look_at_ms = Some(self.look_at_ms.map_or(ends_ms, |at| at.min(ends_ms)));
        }
    }

    fn take(&mut self, member: &Member) {
        self.joining -= usize::from(member.joining.is_some());
        self.synced -= usize::from(member.synced);
    }
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Member> {
        self.by_id.get(id)
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.by_id.contains_key(id)
    }

    /// All, by id.
    pub(super) fn all(&self) -> impl Iterator<Item = &Member> {
        #[cfg(test)]
        self.looked_at.set(self.looked_at.get() + self.len());
        self.by_id.values()
    }

    /// Adds a member in place of any of its id.
    pub(super) fn insert(&mut self, member: Member) {
        self.remove(&member.id);
        for name in names(&member.protocols) {
            *self.supporters.entry(name.to_owned()).or_default() += 1;
        }
        self.counts.add(&member);
        self.by_id.insert(member.id.clone(), member);
    }

    pub(super) fn remove(&mut self, id: &str) -> Option<Member> {
        let member = self.by_id.remove(id)?;
        self.counts.take(&member);
        self.forget_protocols(&member.protocols);
        Some(member)
    }

    fn forget_protocols(&mut self, protocols: &[(String, Bytes)]) {
        for name in names(protocols) {
            if let Some(count) = self.supporters.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.supporters.remove(name);
                }
            }
        }
    }

    /// Changes a member in all but its id and its protocols.
    pub(super) fn change<T>(&mut self, id: &str, change: impl FnOnce(&mut Member) -> T) -> Option<T> {
        let member = self.by_id.get_mut(id)?;
        self.counts.take(member);
        let result = change(member);
        self.counts.add(member);
        Some(result)
    }

    /// [`Members::change`] of each.
    pub(super) fn change_all(&mut self, mut change: impl FnMut(&mut Member)) {
        for member in self.by_id.values_mut() {
            self.counts.take(member);
            change(member);
            self.counts.add(member);
        }
    }

    pub(super) fn set_protocols(&mut self, id: &str, protocols: Vec<(String, Bytes)>) {
        if self.get(id).is_none_or(|member| member.protocols == protocols) {
            return;
        }
        let Some(mut member) = self.remove(id) else { return };
        member.protocols = protocols;
        self.insert(member);
    }

    /// How many wait for the next generation.
    pub(super) fn joining_count(&self) -> usize {
        self.counts.joining
    }

    /// Whether everybody has asked for its assignment.
    pub(super) fn are_synced(&self) -> bool {
        self.counts.synced == self.len()
    }

    /// Whether every member has a protocol of that name.
    pub(super) fn all_support(&self, name: &str) -> bool {
        self.supporters.get(name).copied().unwrap_or(0) == self.len()
    }

    /// Whether one of these protocols is among those of every member but `id`.
    pub(super) fn others_share(&self, id: &str, protocols: &[(String, Bytes)]) -> bool {
        let own: HashSet<&str> =
            self.get(id).into_iter().flat_map(|member| names(&member.protocols)).collect();
        let others = self.len() - usize::from(self.has(id));
        protocols.iter().any(|(name, _)| {
            let name = name.as_str();
            let supporters = self.supporters.get(name).copied().unwrap_or(0);
            supporters - usize::from(own.contains(name)) == others
        })
    }

    /// When sessions are to be looked at, milliseconds on the monotonic clock.
    pub(super) fn look_at_ms(&self) -> Option<u64> {
        self.counts.look_at_ms
    }

    /// The members whose session has ended.
    pub(super) fn expired(&mut self, now: Now) -> Vec<String> {
        if self.counts.look_at_ms.is_none_or(|at| at > now.mono_ms) {
            return Vec::new();
        }
        let (ended, rest): (Vec<&Member>, Vec<&Member>) =
            self.all().filter(|member| member.is_timed()).partition(|m| m.expires_at_ms <= now.mono_ms);
        let look_at_ms = rest.iter().map(|member| member.expires_at_ms).min();
        let ended = ended.into_iter().map(|member| member.id.clone()).collect();
        self.counts.look_at_ms = look_at_ms;
        ended
    }

    /// What is counted is what there is, where there is little enough to count anew after each step of a test.
    #[cfg(test)]
    pub(super) fn assert_counted(&self) {
        if self.len() + self.supporters.len() > 1_000 {
            return;
        }
        let (mut counts, mut supporters) = (Counts::default(), HashMap::<String, usize>::new());
        for member in self.by_id.values() {
            counts.add(member);
            names(&member.protocols)
                .into_iter()
                .for_each(|name| *supporters.entry(name.to_owned()).or_default() += 1);
        }
        assert!(counts.look_at_ms.is_none_or(|at| self.counts.look_at_ms.is_some_and(|look| look <= at)));
        assert_eq!((self.counts.joining, self.counts.synced), (counts.joining, counts.synced));
        assert_eq!(self.supporters, supporters);
    }
}

/// Names of protocols, each once.
fn names(protocols: &[(String, Bytes)]) -> HashSet<&str> {
    protocols.iter().map(|(name, _)| name.as_str()).collect()
}
