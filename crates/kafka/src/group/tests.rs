mod many;
mod originals;

use bytes::Bytes;

use super::*;

/// A group, a clock, and every answer that was given.
struct World {
    group: Group,
    now: Now,
    next_ticket: u64,
    answers: BTreeMap<Ticket, Answer>,
    persisted: u32,
}

impl World {
    fn new() -> Self {
        World::with_delay(0)
    }

    fn with_delay(initial_delay_ms: u64) -> Self {
        let limits = GroupLimits { initial_delay_ms, ..GroupLimits::default() };
        World {
            group: Group::new("g", limits),
            now: Now { mono_ms: 1_000_000, wall_ms: 1_700_000_000_000 },
            next_ticket: 0,
            answers: BTreeMap::new(),
            persisted: 0,
        }
    }

    fn take(&mut self, out: Outcome) {
        self.persisted += u32::from(out.persist);
        for (ticket, answer) in out.answers {
            assert!(self.answers.insert(ticket, answer).is_none(), "{ticket:?} is answered twice");
        }
        self.group.members.assert_counted();
    }

    fn pass(&mut self, ms: u64) {
        self.now.mono_ms += ms;
        self.now.wall_ms += ms as i64;
        let out = self.group.tick(self.now);
        self.take(out);
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
    }

    fn request(&self, member: &str) -> Join {
        Join {
            member_id: String::new(),
            instance_id: None,
            new_member_id: member.to_owned(),
            client: ClientView { client_id: format!("client-{member}"), ..ClientView::default() },
            session_timeout_ms: 10_000,
            rebalance_timeout_ms: 60_000,
            protocol_type: "consumer".into(),
            protocols: vec![("range".into(), Bytes::from_static(b"topics"))],
            must_know_its_id: false,
            may_skip_assignment: false,
            reason: String::new(),
        }
    }

    fn join(&mut self, join: Join) -> Ticket {
        let ticket = self.ticket();
        let out = self.group.join(join, ticket, self.now);
        self.take(out);
        ticket
    }

    fn rejoin(&mut self, member: &str) -> Ticket {
        let mut join = self.request(member);
        join.member_id = member.to_owned();
        self.join(join)
    }

    fn joined(&self, ticket: Ticket) -> &Joined {
        match self.answers.get(&ticket) {
            Some(Answer::Joined(Ok(joined))) => joined,
            other => panic!("{ticket:?} has not joined: {other:?}"),
        }
    }

    fn join_refusal(&self, ticket: Ticket) -> Refusal {
        match self.answers.get(&ticket) {
            Some(Answer::Joined(Err((refusal, _)))) => *refusal,
            other => panic!("{ticket:?} was not refused: {other:?}"),
        }
    }

    fn sync(&mut self, member: &str, assignments: &[(&str, &'static [u8])]) -> Ticket {
        let ticket = self.ticket();
        let sync = Sync {
            member_id: member.to_owned(),
            instance_id: None,
            generation: self.group.generation(),
            protocol_type: None,
            protocol: None,
            assignments: assignments.iter().map(|(m, a)| ((*m).to_owned(), Bytes::from_static(a))).collect(),
        };
        let out = self.group.sync(sync, ticket, self.now);
        self.take(out);
        ticket
    }

    fn synced(&self, ticket: Ticket) -> Result<Bytes, Refusal> {
        match self.answers.get(&ticket) {
            Some(Answer::Synced(result)) => result.clone().map(|synced| synced.assignment),
            other => panic!("{ticket:?} has no assignment: {other:?}"),
        }
    }

    fn waits(&self, ticket: Ticket) -> bool {
        !self.answers.contains_key(&ticket)
    }

    fn heartbeat(&mut self, member: &str) -> Result<(), Refusal> {
        let generation = self.group.generation();
        self.group.heartbeat(member, None, generation, self.now)
    }

    fn leave(&mut self, member: &str, reason: &str) -> Result<(), Refusal> {
        let leaver = Leaver { member_id: member.to_owned(), instance_id: None, reason: reason.to_owned() };
        let (result, out) = self.group.leave(&leaver, self.now);
        self.take(out);
        result
    }

    /// `a` (the leader) and `b`, both with their assignment.
    fn pair() -> Self {
        let mut w = World::new();
        let a = w.join(w.request("a"));
        w.pass(0);
        w.joined(a);
        let b = w.join(w.request("b"));
        assert!(w.waits(b));
        let a = w.rejoin("a");
        assert_eq!(w.joined(a).members.len(), 2);
        assert!(w.joined(b).members.is_empty());
        let b = w.sync("b", &[]);
        assert!(w.waits(b));
        let a = w.sync("a", &[("a", b"0"), ("b", b"1")]);
        assert_eq!(w.synced(a), Ok(Bytes::from_static(b"0")));
        assert_eq!(w.synced(b), Ok(Bytes::from_static(b"1")));
        assert_eq!(w.group.phase(), Phase::Stable);
        w
    }

    fn causes(&self) -> Vec<Cause> {
        self.group.history().map(|r| r.cause.clone()).collect()
    }
}

#[test]
fn the_first_member_leads_and_keeps_its_own_assignment() {
    let mut w = World::new();
    let ticket = w.join(w.request("a"));
    w.pass(0);
    let joined = w.joined(ticket);
    assert_eq!((joined.generation, joined.leader.as_str(), joined.member_id.as_str()), (1, "a", "a"));
    assert_eq!(joined.members.len(), 1);
    let ticket = w.sync("a", &[("a", b"all")]);
    assert_eq!(w.synced(ticket), Ok(Bytes::from_static(b"all")));
    assert_eq!(w.persisted, 1);
}

#[test]
fn an_empty_group_waits_for_company_before_its_first_generation() {
    let mut w = World::with_delay(3_000);
    let a = w.join(w.request("a"));
    w.pass(2_000);
    let b = w.join(w.request("b"));
    w.pass(1_000);
    assert!(w.waits(a) && w.waits(b), "a newcomer within the delay prolongs it");
    w.pass(3_000);
    assert_eq!(w.joined(a).generation, 1);
    assert_eq!(w.joined(b).generation, 1);
}

#[test]
fn a_new_member_that_must_know_its_id_is_told_it_and_joins_with_it() {
    let mut w = World::new();
    let mut join = w.request("a");
    join.must_know_its_id = true;
    let ticket = w.join(join.clone());
    assert_eq!(w.answers[&ticket], Answer::Joined(Err((Refusal::MemberIdRequired, "a".into()))));
    join.member_id = "a".into();
    let ticket = w.join(join);
    w.pass(0);
    assert_eq!(w.joined(ticket).member_id, "a");
}

#[test]
fn an_id_that_nobody_was_given_is_unknown() {
    let mut w = World::new();
    let ticket = w.rejoin("stranger");
    assert_eq!(w.join_refusal(ticket), Refusal::UnknownMember);
    assert_eq!(w.heartbeat("stranger"), Err(Refusal::UnknownMember));
}

#[test]
fn a_member_without_a_shared_protocol_is_refused() {
    let mut w = World::pair();
    let mut join = w.request("c");
    join.protocols = vec![("sticky".into(), Bytes::new())];
    let ticket = w.join(join);
    assert_eq!(w.join_refusal(ticket), Refusal::InconsistentProtocol);
    let mut join = w.request("c");
    join.protocol_type = "connect".into();
    let ticket = w.join(join);
    assert_eq!(w.join_refusal(ticket), Refusal::InconsistentProtocol);
}

#[test]
fn the_protocol_that_all_share_wins_the_vote() {
    let mut w = World::new();
    let mut join = w.request("a");
    join.protocols = vec![("cooperative".into(), Bytes::new()), ("range".into(), Bytes::new())];
    w.join(join);
    w.pass(0);
    let b = w.join(w.request("b"));
    let mut join = w.request("a");
    join.member_id = "a".into();
    join.protocols = vec![("cooperative".into(), Bytes::new()), ("range".into(), Bytes::new())];
    w.join(join);
    assert_eq!(w.joined(b).protocol, "range");
}

#[test]
fn session_timeouts_outside_the_bounds_are_refused_and_the_bounds_taken() {
    for (ms, ok) in [
        (5_999, false),
        (6_000, true),
        (6_001, true),
        (1_799_999, true),
        (1_800_000, true),
        (1_800_001, false),
    ] {
        let mut w = World::new();
        let mut join = w.request("a");
        join.session_timeout_ms = ms;
        let ticket = w.join(join);
        w.pass(0);
        if ok {
            w.joined(ticket);
        } else {
            assert_eq!(w.join_refusal(ticket), Refusal::InvalidSessionTimeout, "{ms}");
        }
    }
}

#[test]
fn a_group_takes_as_many_members_as_its_limit_and_no_more() {
    let mut w = World::pair();
    w.group.limits.members_max = 3;
    let c = w.join(w.request("c"));
    w.rejoin("a");
    w.rejoin("b");
    w.joined(c);
    let d = w.join(w.request("d"));
    assert_eq!(w.join_refusal(d), Refusal::GroupFull);
    assert_eq!(w.group.phase(), Phase::CompletingRebalance, "nobody is disturbed");
}

#[test]
fn a_follower_that_joins_again_without_news_stays_where_it_is() {
    let mut w = World::pair();
    let generation = w.group.generation();
    let b = w.rejoin("b");
    assert_eq!(w.joined(b).generation, generation);
    assert_eq!(w.group.phase(), Phase::Stable);
}

#[test]
fn a_leader_that_joins_again_asks_for_a_new_assignment() {
    let mut w = World::pair();
    let a = w.rejoin("a");
    assert!(w.waits(a));
    assert_eq!(w.heartbeat("b"), Err(Refusal::RebalanceInProgress));
    w.rejoin("b");
    assert_eq!(w.joined(a).generation, 3);
    assert!(matches!(w.causes().last(), Some(Cause::LeaderRejoined(_))));
}

#[test]
fn a_changed_subscription_rebalances_and_is_named_as_the_cause() {
    let mut w = World::pair();
    let mut join = w.request("b");
    join.member_id = "b".into();
    join.protocols = vec![("range".into(), Bytes::from_static(b"other topics"))];
    let b = w.join(join);
    let a = w.rejoin("a");
    assert_eq!(w.joined(a).generation, 3);
    assert_eq!(w.joined(b).generation, 3);
    assert_eq!(w.causes().last(), Some(&Cause::SubscriptionChanged));
}

#[test]
fn a_member_that_is_not_heard_of_is_out_after_its_session_timeout() {
    let mut w = World::pair();
    w.pass(9_000);
    w.heartbeat("a").unwrap();
    w.pass(1_000);
    assert_eq!(w.heartbeat("b"), Err(Refusal::UnknownMember));
    assert_eq!(w.heartbeat("a"), Err(Refusal::RebalanceInProgress));
    assert_eq!(w.causes().last(), Some(&Cause::SessionExpired));
    let a = w.rejoin("a");
    assert_eq!(w.joined(a).members.len(), 1);
}

#[test]
fn a_member_that_does_not_rejoin_in_time_is_left_behind() {
    let mut w = World::pair();
    let c = w.join(w.request("c"));
    w.rejoin("a");
    for _ in 0..12 {
        assert!(w.waits(c));
        let _alive = w.heartbeat("b");
        w.pass(5_000);
    }
    assert_eq!(w.joined(c).generation, 3);
    assert_eq!(w.heartbeat("b"), Err(Refusal::UnknownMember));
    assert!(w.causes().contains(&Cause::RebalanceTimeout));
}

#[test]
fn a_member_that_joins_and_never_asks_for_its_assignment_is_left_behind() {
    let mut w = World::pair();
    let c = w.join(w.request("c"));
    w.rejoin("a");
    w.rejoin("b");
    w.joined(c);
    w.sync("a", &[]);
    w.sync("b", &[]);
    for _ in 0..12 {
        for member in ["a", "b", "c"] {
            let _alive = w.heartbeat(member);
        }
        w.pass(5_000);
    }
    assert_eq!(w.heartbeat("c"), Err(Refusal::UnknownMember));
    assert_eq!(w.causes().last(), Some(&Cause::RebalanceTimeout));
}

#[test]
fn a_member_that_leaves_is_named_with_its_reason() {
    let mut w = World::pair();
    w.leave("b", "consumer poll timeout has expired").unwrap();
    assert_eq!(w.leave("b", ""), Err(Refusal::UnknownMember));
    assert_eq!(w.heartbeat("a"), Err(Refusal::RebalanceInProgress));
    assert_eq!(w.causes().last(), Some(&Cause::Leave("consumer poll timeout has expired".into())));
}

#[test]
fn the_last_member_that_leaves_empties_the_group_and_that_is_stored() {
    let mut w = World::pair();
    let stored = w.persisted;
    w.leave("a", "").unwrap();
    w.leave("b", "").unwrap();
    assert_eq!(w.group.phase(), Phase::Empty);
    assert_eq!(w.persisted, stored + 1);
    assert_eq!(w.group.emptied_wall_ms, Some(w.now.wall_ms));
}

#[test]
fn a_sync_while_the_group_prepares_is_told_to_join_again() {
    let mut w = World::pair();
    let c = w.join(w.request("c"));
    let b = w.sync("b", &[]);
    assert_eq!(w.synced(b), Err(Refusal::RebalanceInProgress));
    assert!(w.waits(c));
}

#[test]
fn a_sync_that_waits_is_released_when_the_next_rebalance_begins() {
    let mut w = World::pair();
    w.rejoin("a");
    w.rejoin("b");
    let b = w.sync("b", &[]);
    assert!(w.waits(b));
    w.join(w.request("c"));
    assert_eq!(w.synced(b), Err(Refusal::RebalanceInProgress));
}

#[test]
fn a_sync_of_another_generation_or_protocol_is_refused() {
    let mut w = World::pair();
    let sync = Sync {
        member_id: "b".into(),
        instance_id: None,
        generation: 1,
        protocol_type: None,
        protocol: None,
        assignments: Vec::new(),
    };
    let refused = |w: &mut World, sync: Sync| {
        let ticket = w.ticket();
        let out = w.group.sync(sync, ticket, w.now);
        w.take(out);
        w.synced(ticket)
    };
    assert_eq!(refused(&mut w, sync.clone()), Err(Refusal::IllegalGeneration));
    let sync = Sync { generation: 2, protocol: Some("sticky".into()), ..sync };
    assert_eq!(refused(&mut w, sync.clone()), Err(Refusal::InconsistentProtocol));
    let sync = Sync { protocol: None, protocol_type: Some("connect".into()), ..sync };
    assert_eq!(refused(&mut w, sync), Err(Refusal::InconsistentProtocol));
}

fn static_join(w: &World, id: &str, instance: &str) -> Join {
    let mut join = w.request(id);
    join.instance_id = Some(instance.into());
    join.must_know_its_id = true;
    join
}

/// Static members `a` (instance `i`, leader) and `b` (instance `j`).
fn static_pair() -> World {
    let mut w = World::new();
    w.join(static_join(&w, "a", "i"));
    w.pass(0);
    w.join(static_join(&w, "b", "j"));
    let mut again = static_join(&w, "a", "i");
    again.member_id = "a".into();
    w.join(again);
    for (member, instance) in [("b", "j"), ("a", "i")] {
        let ticket = w.ticket();
        let sync = Sync {
            member_id: member.into(),
            instance_id: Some(instance.into()),
            generation: w.group.generation(),
            protocol_type: None,
            protocol: None,
            assignments: vec![("a".into(), Bytes::from_static(b"0")), ("b".into(), Bytes::from_static(b"1"))],
        };
        let out = w.group.sync(sync, ticket, w.now);
        w.take(out);
    }
    assert_eq!(w.group.phase(), Phase::Stable);
    w
}

#[test]
fn a_restarted_static_member_keeps_its_assignment_without_a_rebalance() {
    let mut w = static_pair();
    let generation = w.group.generation();
    let stored = w.persisted;
    let ticket = w.join(static_join(&w, "b2", "j"));
    assert_eq!(w.joined(ticket).member_id, "b2");
    assert_eq!(w.group.generation(), generation);
    assert_eq!(w.persisted, stored + 1, "the new id is stored before the answer");
    let ticket = w.sync("b2", &[]);
    assert_eq!(w.synced(ticket), Ok(Bytes::from_static(b"1")));
    let fenced = w.group.heartbeat("b", Some("j"), generation, w.now);
    assert_eq!(fenced, Err(Refusal::FencedInstance));
}

#[test]
fn a_restarted_static_leader_may_skip_the_assignment_where_it_knows_how() {
    let mut w = static_pair();
    let mut join = static_join(&w, "a2", "i");
    join.may_skip_assignment = true;
    let ticket = w.join(join);
    let joined = w.joined(ticket);
    assert!(joined.skip_assignment);
    assert_eq!((joined.leader.as_str(), joined.members.len()), ("a2", 2));
    assert_eq!(w.group.phase(), Phase::Stable);
}

#[test]
fn a_static_member_is_told_apart_by_its_instance_when_it_leaves() {
    let mut w = static_pair();
    let leaver = |member: &str, instance: &str| Leaver {
        member_id: member.into(),
        instance_id: Some(instance.into()),
        reason: String::new(),
    };
    let (result, _) = w.group.leave(&leaver("wrong", "i"), w.now);
    assert_eq!(result, Err(Refusal::FencedInstance));
    let (result, _) = w.group.leave(&leaver("", "nobody"), w.now);
    assert_eq!(result, Err(Refusal::UnknownMember));
    let (result, _) = w.group.leave(&leaver("", "i"), w.now);
    assert_eq!(result, Ok(()));
}

fn committer(member_id: &str, generation: i32) -> Committer<'_> {
    Committer { member_id, instance_id: None, generation }
}

#[test]
fn a_commit_of_the_current_generation_is_taken_while_the_next_is_prepared() {
    let mut w = World::pair();
    w.join(w.request("c"));
    assert_eq!(w.group.phase(), Phase::PreparingRebalance);
    assert_eq!(w.group.check_commit(committer("b", 2), w.now), Ok(()));
    assert_eq!(w.group.check_commit(committer("b", 1), w.now), Err(Refusal::IllegalGeneration));
}

#[test]
fn a_commit_between_join_and_assignment_is_refused() {
    let mut w = World::pair();
    w.rejoin("a");
    w.rejoin("b");
    assert_eq!(w.group.check_commit(committer("b", 3), w.now), Err(Refusal::RebalanceInProgress));
}

#[test]
fn a_simple_consumer_commits_to_an_empty_group_only() {
    let mut w = World::new();
    assert_eq!(w.group.check_commit(committer("", -1), w.now), Ok(()));
    let mut w = World::pair();
    assert_eq!(w.group.check_commit(committer("", -1), w.now), Err(Refusal::UnknownMember));
    assert_eq!(w.group.check_commit(committer("stranger", 2), w.now), Err(Refusal::UnknownMember));
}

#[test]
fn an_evicted_member_finds_out_at_its_next_heartbeat() {
    let mut w = World::pair();
    let (result, out) = w.group.evict("b", w.now);
    w.take(out);
    assert_eq!(result, Ok(()));
    assert_eq!(w.heartbeat("b"), Err(Refusal::UnknownMember));
    assert_eq!(w.causes().last(), Some(&Cause::Evicted));
}

#[test]
fn the_history_keeps_the_last_hundred_causes() {
    let mut w = World::pair();
    for _ in 0..120 {
        let c = w.join(w.request("c"));
        w.rejoin("a");
        w.rejoin("b");
        w.joined(c);
        w.leave("c", "done").unwrap();
        w.rejoin("a");
        w.rejoin("b");
    }
    assert_eq!(w.group.history().count(), 100);
}

#[test]
fn a_restart_finds_members_generation_and_assignment_again() {
    let w = World::pair();
    let stored = w.group.to_stored();
    let mut again = World::new();
    again.now = Now { mono_ms: 5, wall_ms: w.now.wall_ms + 1_000 };
    again.group = Group::from_stored("g", GroupLimits::default(), &stored, again.now).unwrap();
    assert_eq!(again.group.phase(), Phase::Stable);
    assert_eq!(again.group.generation(), 2);
    assert_eq!(again.heartbeat("a"), Ok(()));
    let b = again.sync("b", &[]);
    assert_eq!(again.synced(b), Ok(Bytes::from_static(b"1")));
    assert!(again.group.history().eq(w.group.history()));
    again.pass(9_999);
    assert_eq!(again.heartbeat("b"), Ok(()), "sessions begin anew");
}

#[test]
fn damaged_stored_groups_are_corrupt_and_never_a_panic() {
    let stored = World::pair().group.to_stored();
    for len in 0..stored.len() {
        let result = Group::from_stored("g", GroupLimits::default(), &stored[..len], Now::default());
        assert_eq!(result.err().map(|e| e.kind()), Some(model::ErrorKind::Corrupt), "cut at {len}");
    }
    for at in 0..stored.len() {
        let mut damaged = stored.to_vec();
        damaged[at] ^= 0xff;
        if let Err(e) = Group::from_stored("g", GroupLimits::default(), &damaged, Now::default()) {
            assert_eq!(e.kind(), model::ErrorKind::Corrupt);
        }
    }
}

#[test]
fn a_rebalance_that_is_over_says_how_long_it_took_and_what_it_led_to() {
    let mut w = World::pair();
    w.leave("b", "").unwrap();
    assert_eq!(w.group.history().last().and_then(|r| r.took_ms), None);
    w.pass(250);
    w.rejoin("a");
    let last = w.group.history().last().unwrap();
    assert_eq!((last.took_ms, last.generation, last.members), (Some(250), 3, 1));
}
