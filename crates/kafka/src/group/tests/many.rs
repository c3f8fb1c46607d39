//! Groups of many members: what one request costs does not grow with them.

use super::*;

const MEMBERS: usize = 10_000;

impl World {
    /// As [`World::take`], which looks at every member.
    fn answered(&mut self, out: Outcome) {
        self.answers.extend(out.answers);
    }

    fn quick_join(&mut self, member: usize, is_known: bool) {
        let id = format!("m{member:05}");
        let member_id = if is_known { id.clone() } else { String::new() };
        let ticket = self.ticket();
        let out = self.group.join(Join { member_id, ..self.request(&id) }, ticket, self.now);
        self.answered(out);
        self.group.next_deadline();
    }

    fn quick_sync(&mut self, member: usize) {
        let sync = Sync {
            member_id: format!("m{member:05}"),
            instance_id: None,
            generation: self.group.generation(),
            protocol_type: None,
            protocol: None,
            assignments: Vec::new(),
        };
        let ticket = self.ticket();
        let out = self.group.sync(sync, ticket, self.now);
        self.answered(out);
    }
}

#[test]
fn what_a_request_costs_does_not_grow_with_the_members() {
    let mut w = World::with_delay(3_000);
    for member in 0..MEMBERS {
        w.quick_join(member, false);
    }
    for _ in 0..2 {
        w.now.mono_ms += 3_000;
        let out = w.group.tick(w.now);
        w.answered(out);
    }
    assert_eq!(w.group.phase(), Phase::CompletingRebalance);
    (1..MEMBERS).for_each(|member| w.quick_sync(member));
    w.quick_sync(0);
    (1..MEMBERS).for_each(|member| w.quick_sync(member));
    for member in 0..MEMBERS {
        w.now.mono_ms += 1;
        assert_eq!(w.heartbeat(&format!("m{member:05}")), Ok(()));
        if w.group.next_deadline().is_some_and(|at| at <= w.now.mono_ms) {
            let out = w.group.tick(w.now);
            w.answered(out);
        }
    }
    (0..MEMBERS).for_each(|member| w.quick_join(member, true));
    assert_eq!((w.group.phase(), w.group.generation()), (Phase::CompletingRebalance, 2));
    let each = w.group.members.looked_at.get() / MEMBERS;
    assert!(each < 50, "each of {MEMBERS} members was looked at {each} times");
}

#[test]
fn a_group_speaks_what_all_of_its_members_speak() {
    let mut w = World::pair();
    let speaking = |w: &World, member: &str, known: &str, names: &[&str]| Join {
        member_id: known.to_owned(),
        protocols: names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect(),
        ..w.request(member)
    };
    let c = w.join(speaking(&w, "c", "", &["sticky", "sticky", "range"]));
    assert!(w.waits(c));
    let b = w.join(speaking(&w, "b", "b", &["sticky"]));
    assert_eq!(w.join_refusal(b), Refusal::InconsistentProtocol, "a speaks range alone");
    w.join(speaking(&w, "a", "a", &["range", "sticky"]));
    let b = w.join(speaking(&w, "b", "b", &["sticky"]));
    assert_eq!((w.joined(b).protocol.as_str(), w.joined(c).protocol.as_str()), ("sticky", "sticky"));
    w.leave("b", "").unwrap();
    let d = w.join(speaking(&w, "d", "", &["range"]));
    assert!(w.waits(d), "the one that spoke no range is gone");
}
