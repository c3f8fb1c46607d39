//! Rules that the original keeps in corners: who may come into a full group, who waits for absent static members.

use super::*;
use crate::group::join::OFFERS_MAX;

fn full_at(members_max: usize) -> World {
    let mut w = World::new();
    w.group = Group::new("g", GroupLimits { members_max, initial_delay_ms: 0, ..GroupLimits::default() });
    w
}

#[test]
fn an_offer_that_nobody_takes_up_does_not_fill_the_group() {
    let mut w = full_at(1);
    for id in ["a", "b"] {
        let mut join = w.request(id);
        join.must_know_its_id = true;
        let ticket = w.join(join);
        assert_eq!(w.join_refusal(ticket), Refusal::MemberIdRequired, "{id}");
    }
    let b = w.rejoin("b");
    w.pass(0);
    w.joined(b);
    let a = w.rejoin("a");
    assert_eq!(w.join_refusal(a), Refusal::GroupFull, "the place is taken by whoever came back first");
}

#[test]
fn no_more_ids_are_offered_at_a_time_than_are_kept() {
    let mut w = World::new();
    let ask = |w: &mut World, n: usize| {
        let mut join = w.request(&n.to_string());
        join.must_know_its_id = true;
        let ticket = w.join(join);
        w.join_refusal(ticket)
    };
    for n in 1..=OFFERS_MAX {
        assert_eq!(ask(&mut w, n), Refusal::MemberIdRequired, "{n}");
    }
    assert_eq!(ask(&mut w, 0), Refusal::CoordinatorNotAvailable);
    // They lapse, or are taken up.
    let taken = w.rejoin("1");
    w.pass(0);
    w.joined(taken);
    assert_eq!(ask(&mut w, 0), Refusal::MemberIdRequired);
}

#[test]
fn a_restarted_static_leader_of_an_older_client_follows_and_nothing_rebalances() {
    let mut w = static_pair();
    let generation = w.group.generation();
    let ticket = w.join(static_join(&w, "a2", "i"));
    let joined = w.joined(ticket);
    assert_eq!((joined.generation, joined.leader.as_str(), joined.members.len()), (generation, "a", 0));
    assert_eq!(w.group.phase(), Phase::Stable);
    let ticket = w.sync("a2", &[]);
    assert_eq!(w.synced(ticket), Ok(Bytes::from_static(b"0")));
}

#[test]
fn a_restarted_static_member_with_other_metadata_keeps_its_assignment_while_the_protocol_stays() {
    // A cooperative member's metadata names what it owns, which is nothing after a restart.
    let mut w = static_pair();
    let generation = w.group.generation();
    let mut join = static_join(&w, "b2", "j");
    join.protocols = vec![("range".into(), Bytes::from_static(b"owns nothing"))];
    let ticket = w.join(join);
    assert_eq!(w.joined(ticket).generation, generation);
    assert_eq!(w.group.phase(), Phase::Stable);
}

#[test]
fn a_group_of_absent_static_members_waits_for_one_of_them() {
    let mut w = static_pair();
    let mut join = w.request("c");
    join.must_know_its_id = false;
    w.join(join);
    assert_eq!(w.group.phase(), Phase::PreparingRebalance);
    w.leave("c", "").unwrap();
    let generation = w.group.generation();
    // Both are away for longer than the rebalance time-out; their sessions are longer still.
    w.group.members.change_all(|member| member.expires_at_ms = w.now.mono_ms + 1_000_000);
    w.pass(60_000);
    assert_eq!((w.group.phase(), w.group.generation()), (Phase::PreparingRebalance, generation));
    w.pass(60_000);
    assert_eq!(w.group.members().count(), 2, "the session decides");
    let mut back = static_join(&w, "a", "i");
    back.member_id = "a".into();
    let a = w.join(back);
    w.pass(60_000);
    assert_eq!(w.joined(a).leader, "a");
}

#[test]
fn a_lone_member_cannot_turn_its_group_into_one_of_another_type() {
    let mut w = World::new();
    let a = w.join(w.request("a"));
    w.pass(0);
    w.joined(a);
    let mut other = w.request("a");
    other.member_id = "a".into();
    other.protocol_type = "connect".into();
    let ticket = w.join(other);
    assert_eq!(w.join_refusal(ticket), Refusal::InconsistentProtocol);
}

#[test]
fn a_newcomer_whose_join_is_parked_for_five_minutes_is_given_up() {
    let mut w = World::new();
    let mut slow = w.request("a");
    slow.rebalance_timeout_ms = 3_600_000;
    let a = w.join(slow);
    w.pass(0);
    w.joined(a);
    let b = w.join(w.request("b"));
    for _ in 0..61 {
        w.heartbeat("a").unwrap_err();
        w.pass(5_000);
    }
    assert_eq!(w.join_refusal(b), Refusal::UnknownMember);
}

/// Each of its names was compared with each of the other's: minutes for these, which are read in a second or two.
#[test]
fn many_protocols_are_voted_on_in_the_time_that_it_takes_to_read_them() {
    let began = tokio::time::Instant::now();
    let mut w = World::new();
    let many = |names: &mut dyn Iterator<Item = usize>| -> Vec<(String, Bytes)> {
        names.map(|name| (name.to_string(), Bytes::new())).collect()
    };
    let mut a = w.request("a");
    a.protocols = many(&mut (0..400_000));
    w.join(a.clone());
    let mut b = w.request("b");
    b.protocols = many(&mut (399_999..800_000).rev());
    let b = w.join(b);
    w.pass(0);
    a.member_id = "a".into();
    w.join(a);
    assert_eq!(w.joined(b).protocol, "399999");
    assert!(began.elapsed().as_secs() < 120, "{:?}", began.elapsed());
}

#[test]
fn a_leader_that_dies_before_it_assigns_does_not_take_its_followers_along() {
    let mut w = World::pair();
    w.rejoin("a");
    w.rejoin("b");
    let b = w.sync("b", &[]);
    w.pass(10_000);
    assert_eq!(w.synced(b), Err(Refusal::RebalanceInProgress));
    assert_eq!(w.causes().last(), Some(&Cause::SessionExpired));
    // Its session did not run while it waited, and begins now.
    w.pass(9_999);
    let b = w.rejoin("b");
    let joined = w.joined(b);
    assert_eq!((joined.leader.as_str(), joined.members.len()), ("b", 1));
}
