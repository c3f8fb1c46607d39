//! The classic group protocol over the wire.

use std::time::Duration;

use kafka::codec::{
    ErrorCode,
    api::{
        describe_groups::{DescribeGroupsRequest, DescribedGroup},
        fetch::FetchRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol},
        leave_group::{LeaveGroupRequest, MemberIdentity},
        list_groups::ListGroupsRequest,
        sync_group::SyncGroupRequest,
    },
};

use crate::{
    client::Client,
    members::{
        commit, commit_alone, committed, group_of_one, heartbeat, heartbeat_request, join, join_request,
        leader_sync_request, leave_request, new_member_id, static_join_request, sync_as_leader, sync_request,
    },
    node::Node,
    process::{run, text},
    usual::{FETCH_BY_NAME, batch, by_producer, create, fetch_request, new_producer, produce, stamped},
};

fn start() -> (Node, Client) {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 1, &[]);
    (node, client)
}

fn described(client: &mut Client, group: &str) -> DescribedGroup<'static> {
    let request = DescribeGroupsRequest { groups: vec![group], ..Default::default() };
    client.ask(6, &request).groups.pop().unwrap()
}

/// KIP-394: a client that dies between two attempts must not leave a member behind.
#[test]
fn a_newcomer_must_come_back_with_the_id_it_is_given_from_version_4_on() {
    let (_node, mut client) = start();
    for version in 4..=9 {
        let group = format!("g{version}");
        let first = client.ask(version, &join_request(&group, ""));
        assert_eq!(first.error_code, ErrorCode::MEMBER_ID_REQUIRED, "version {version}");
        assert!(first.member_id.starts_with("wire-test-"));
        let joined = client.ask(version, &join_request(&group, &first.member_id));
        assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 1));
        assert_eq!((&joined.leader, &joined.member_id), (&first.member_id, &first.member_id));
    }
    for version in 0..4 {
        let group = format!("g{version}");
        let joined = client.ask(version, &join_request(&group, ""));
        assert_eq!((joined.error_code, joined.generation_id), (ErrorCode::NONE, 1), "version {version}");
    }
}

#[test]
fn an_id_that_nobody_was_given_is_unknown() {
    let (_node, mut client) = start();
    let joined = client.ask(9, &join_request("g", "invented"));
    assert_eq!(joined.error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(heartbeat(&mut client, "g", 1, "invented"), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(client.ask(5, &sync_request("g", 1, "invented")).error_code, ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn the_leaders_assignment_reaches_every_member_as_it_is() {
    let (node, mut leader) = start();
    let mut other = node.client();
    let first = group_of_one(&mut leader, "g");
    let other_id = new_member_id(&mut other, "g");
    let joining = other.send(9, &join_request("g", &other_id));
    assert_eq!(until_rebalance(&mut leader, &first.member_id), ErrorCode::REBALANCE_IN_PROGRESS);
    let led = leader.ask(9, &join_request("g", &first.member_id));
    let followed = other.take::<JoinGroupRequest<'_>>(9, joining);
    assert_eq!((led.generation_id, followed.generation_id), (2, 2));
    assert_eq!((led.members.len(), followed.members.len()), (2, 0), "only the leader sees everyone");
    assert!(led.members.iter().all(|m| m.metadata.as_ref() == b"subscription"));
    let waiting = other.send(5, &sync_request("g", 2, &other_id));
    assert!(other.is_silent_for(Duration::from_millis(100)), "it waits for the leader");
    let synced = sync_as_leader(&mut leader, "g", &led);
    assert_eq!(synced.assignment.as_ref(), first.member_id.as_bytes());
    let synced = other.take::<SyncGroupRequest<'_>>(5, waiting);
    assert_eq!((synced.error_code, synced.assignment.as_ref()), (ErrorCode::NONE, other_id.as_bytes()));
    assert_eq!(
        (synced.protocol_type.as_deref(), synced.protocol_name.as_deref()),
        (Some("consumer"), Some("range"))
    );
}

/// Heartbeats of generation 1 until one is refused.
fn until_rebalance(client: &mut Client, member_id: &str) -> ErrorCode {
    for _ in 0..1_000 {
        let code = heartbeat(client, "g", 1, member_id);
        if code != ErrorCode::NONE {
            return code;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    ErrorCode::NONE
}

#[test]
fn while_a_group_rebalances_syncs_and_heartbeats_are_told_and_commits_are_taken() {
    let (node, mut leader) = start();
    let mut other = node.client();
    let first = group_of_one(&mut leader, "g");
    let other_id = new_member_id(&mut other, "g");
    other.send(9, &join_request("g", &other_id));
    assert_eq!(until_rebalance(&mut leader, &first.member_id), ErrorCode::REBALANCE_IN_PROGRESS);
    let sync = leader.ask(5, &sync_request("g", 1, &first.member_id));
    assert_eq!(sync.error_code, ErrorCode::REBALANCE_IN_PROGRESS);
    let committed = commit(&mut leader, "g", 1, &first.member_id, 9, "");
    assert_eq!(committed, ErrorCode::NONE, "what a member has read it may still say");
    assert_eq!(described(&mut leader, "g").group_state, "PreparingRebalance");
}

#[test]
fn a_wrong_generation_is_refused() {
    let (_node, mut client) = start();
    let joined = group_of_one(&mut client, "g");
    let id = &joined.member_id;
    assert_eq!(heartbeat(&mut client, "g", 2, id), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(client.ask(5, &sync_request("g", 2, id)).error_code, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(heartbeat(&mut client, "g", 1, id), ErrorCode::NONE);
}

#[test]
fn a_sync_of_another_protocol_is_refused() {
    let (_node, mut client) = start();
    let joined = join(&mut client, "g");
    let wrong = SyncGroupRequest { protocol_name: Some("sticky"), ..leader_sync_request("g", &joined) };
    assert_eq!(client.ask(5, &wrong).error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    let wrong = SyncGroupRequest { protocol_type: Some("connect"), ..leader_sync_request("g", &joined) };
    assert_eq!(client.ask(5, &wrong).error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert_eq!(sync_as_leader(&mut client, "g", &joined).error_code, ErrorCode::NONE);
}

#[test]
fn joins_that_make_no_sense_are_refused() {
    let (_node, mut client) = start();
    let code = |client: &mut Client, request: JoinGroupRequest<'_>| client.ask(9, &request).error_code;
    assert_eq!(code(&mut client, join_request("", "")), ErrorCode::INVALID_GROUP_ID);
    for session_timeout_ms in [5_999, 1_800_001, 0, -1] {
        let request = JoinGroupRequest { session_timeout_ms, ..join_request("g", "") };
        assert_eq!(code(&mut client, request), ErrorCode::INVALID_SESSION_TIMEOUT, "{session_timeout_ms}");
    }
    for session_timeout_ms in [6_000, 1_800_000] {
        let request = JoinGroupRequest { session_timeout_ms, ..join_request("g", "") };
        assert_eq!(code(&mut client, request), ErrorCode::MEMBER_ID_REQUIRED, "{session_timeout_ms}");
    }
    let none = JoinGroupRequest { protocols: Vec::new(), ..join_request("g", "") };
    assert_eq!(code(&mut client, none), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    group_of_one(&mut client, "g");
    let sticky = vec![JoinGroupRequestProtocol { name: "sticky", metadata: b"" }];
    let other = JoinGroupRequest { protocols: sticky, ..join_request("g", "") };
    assert_eq!(code(&mut client, other), ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
}

#[test]
fn a_static_member_that_comes_back_keeps_its_place_and_shuts_its_old_self_out() {
    let (node, mut client) = start();
    let old = client.ask(9, &static_join_request("g", "", "machine-1"));
    assert_eq!(old.error_code, ErrorCode::NONE, "a static member needs no second attempt");
    assert_eq!(old.members[0].group_instance_id.as_deref(), Some("machine-1"));
    let mut sync = leader_sync_request("g", &old);
    sync.group_instance_id = Some("machine-1");
    assert_eq!(client.ask(5, &sync).error_code, ErrorCode::NONE);
    let mut restarted = node.client();
    let new = restarted.ask(9, &static_join_request("g", "", "machine-1"));
    assert_eq!((new.error_code, new.generation_id), (ErrorCode::NONE, 1), "no rebalance");
    assert_ne!(new.member_id, old.member_id);
    let mut beat = heartbeat_request("g", 1, &old.member_id);
    beat.group_instance_id = Some("machine-1");
    assert_eq!(client.ask(4, &beat).error_code, ErrorCode::FENCED_INSTANCE_ID);
    let rejoin = client.ask(9, &static_join_request("g", &old.member_id, "machine-1"));
    assert_eq!(rejoin.error_code, ErrorCode::FENCED_INSTANCE_ID);
    let mut sync = sync_request("g", 1, &new.member_id);
    sync.group_instance_id = Some("machine-1");
    let synced = restarted.ask(5, &sync);
    assert_eq!((synced.error_code, synced.assignment.as_ref()), (ErrorCode::NONE, old.member_id.as_bytes()));
}

#[test]
fn a_static_member_is_taken_out_by_its_name() {
    let (_node, mut client) = start();
    client.ask(9, &static_join_request("g", "", "machine-1"));
    let leave = |name| LeaveGroupRequest {
        group_id: "g",
        members: vec![MemberIdentity { member_id: "", group_instance_id: Some(name), reason: None }],
        ..Default::default()
    };
    assert_eq!(client.ask(5, &leave("machine-2")).members[0].error_code, ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(client.ask(5, &leave("machine-1")).members[0].error_code, ErrorCode::NONE);
    assert_eq!(described(&mut client, "g").group_state, "Empty");
}

#[test]
fn members_keep_id_generation_and_assignment_over_a_kill() {
    let (mut node, mut client) = start();
    let joined = group_of_one(&mut client, "g");
    let statically = client.ask(9, &static_join_request("s", "", "machine-1"));
    assert_eq!(sync_as_leader(&mut client, "s", &statically).error_code, ErrorCode::NONE);
    for _ in 0..2 {
        node.crash_and_start_again();
        let mut client = node.client();
        assert_eq!(heartbeat(&mut client, "g", 1, &joined.member_id), ErrorCode::NONE, "no rebalance");
        assert_eq!(commit(&mut client, "g", 1, &joined.member_id, 4, ""), ErrorCode::NONE);
        let synced = client.ask(5, &sync_request("g", 1, &joined.member_id));
        assert_eq!(synced.assignment.as_ref(), joined.member_id.as_bytes());
        let group = described(&mut client, "g");
        assert_eq!((group.group_state.as_ref(), group.members.len()), ("Stable", 1));
        assert_eq!(group.members[0].member_assignment.as_ref(), joined.member_id.as_bytes());
        assert_eq!(heartbeat(&mut client, "s", 1, &statically.member_id), ErrorCode::NONE);
    }
}

#[test]
fn groups_are_listed_and_described_with_their_state() {
    let (_node, mut client) = start();
    let joined = group_of_one(&mut client, "g");
    commit_alone(&mut client, "offsets-only", 1);
    let mut listed = client.ask(5, &ListGroupsRequest::default()).groups;
    listed.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    let states: Vec<(&str, &str)> =
        listed.iter().map(|g| (g.group_id.as_ref(), g.group_state.as_ref())).collect();
    assert_eq!(states, [("g", "Stable"), ("offsets-only", "Empty")]);
    let only = ListGroupsRequest { states_filter: vec!["Stable"], ..Default::default() };
    assert_eq!(client.ask(5, &only).groups.len(), 1);
    let group = described(&mut client, "g");
    assert_eq!((group.protocol_type.as_ref(), group.protocol_data.as_ref()), ("consumer", "range"));
    assert_eq!(group.members[0].client_id, "wire-test");
    assert_eq!(group.members[0].client_host, "/127.0.0.1");
    client.ask(5, &leave_request("g", &joined.member_id));
    assert_eq!(described(&mut client, "g").group_state, "Empty");
    assert_eq!(described(&mut client, "unknown").error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    let before_6 = DescribeGroupsRequest { groups: vec!["unknown"], ..Default::default() };
    let before_6 = client.ask(5, &before_6).groups.pop().unwrap();
    assert_eq!((before_6.error_code, before_6.group_state.as_ref()), (ErrorCode::NONE, "Dead"));
}

#[test]
fn a_member_that_falls_silent_is_put_out() {
    let (_node, mut client) = start();
    let id = new_member_id(&mut client, "g");
    let request = JoinGroupRequest { session_timeout_ms: 6_000, ..join_request("g", &id) };
    let joined = client.ask(9, &request);
    sync_as_leader(&mut client, "g", &joined);
    std::thread::sleep(Duration::from_millis(5_000));
    assert_eq!(described(&mut client, "g").group_state, "Stable");
    std::thread::sleep(Duration::from_millis(2_500));
    assert_eq!(described(&mut client, "g").group_state, "Empty");
    assert_eq!(heartbeat(&mut client, "g", 1, &id), ErrorCode::UNKNOWN_MEMBER_ID);
}

#[test]
fn an_evicted_member_is_told_and_the_history_names_it() {
    let (node, mut client) = start();
    let member = group_of_one(&mut client, "g").member_id;
    let admin = format!("http://{}", node.server.address("admin"));
    let cursor = |arguments: &[&str]| run(&[&["cursor"], arguments, &["--admin", &admin]].concat());
    let evicted = cursor(&["evict", "g", &member]);
    assert!(evicted.status.success(), "{}", text(&evicted.stderr));
    assert_eq!(heartbeat(&mut client, "g", 1, &member), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(described(&mut client, "g").group_state, "Empty");
    let history: serde_json::Value =
        serde_json::from_str(&text(&cursor(&["history", "g", "--json"]).stdout)).unwrap();
    let last = history["rebalances"].as_array().unwrap().last().unwrap();
    assert_eq!((last["cause"].as_str(), last["member"].as_str()), (Some("evicted"), Some(member.as_ref())));
    assert!(!cursor(&["evict", "g", &member]).status.success(), "nobody is evicted twice");
}

#[test]
fn the_age_of_what_is_unread_and_the_time_it_has_left_are_measured() {
    let node = Node::start_with(&["--ephemeral"]);
    let mut client = node.client();
    create(&mut client, "t", 1, &[("retention.ms", "3600000")]);
    produce(&mut client, "t", 0, &batch(&["a", "b"]));
    assert_eq!(commit_alone(&mut client, "g", 1), ErrorCode::NONE);
    node.advance(600_000);
    let metrics = node.server.get("/metrics").1;
    let value = |name: &str| -> f64 {
        let mut lines = metrics.lines().filter(|line| line.contains("cursor=\"g\""));
        let line = lines.find(|line| line.starts_with(&format!("wiremill_{name}{{")));
        line.unwrap_or_else(|| panic!("no {name}: {metrics}")).rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("cursor_lag_records"), 1.0);
    assert!(value("cursor_lag_bytes") > 0.0);
    // The rest of the hours is what the machine took.
    let (age, left) = (value("cursor_lag_age_seconds"), value("cursor_retention_headroom_seconds"));
    assert!((600.0..1_200.0).contains(&age), "{age}");
    assert!((2_400.0..=3_000.0).contains(&left), "{left}");
}

#[test]
fn a_reset_of_an_ephemeral_run_forgets_groups_and_producers() {
    let node = Node::start_with(&["--ephemeral"]);
    let mut client = node.client();
    create(&mut client, "t", 1, &[]);
    let producer = new_producer(&mut client);
    let stamp = |sequence| stamped(&["x"], &by_producer(producer, 0, sequence));
    assert_eq!(produce(&mut client, "t", 0, &stamp(0)).error_code, ErrorCode::NONE);
    let out_of_order = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
    assert_eq!(produce(&mut client, "t", 0, &stamp(7)).error_code, out_of_order, "it is known");
    let member = group_of_one(&mut client, "g");
    assert_eq!(commit(&mut client, "g", member.generation_id, &member.member_id, 1, ""), ErrorCode::NONE);
    // One more waits for its generation meanwhile.
    let mut waiting = node.client();
    let id = new_member_id(&mut waiting, "g");
    let asked = waiting.send(9, &join_request("g", &id));
    let beat = |client: &mut Client| heartbeat(client, "g", member.generation_id, &member.member_id);
    while beat(&mut client) != ErrorCode::REBALANCE_IN_PROGRESS {}

    let head = "POST /reset HTTP/1.1\r\nhost: localhost\r\n";
    assert_eq!(crate::process::request(node.server.address("admin"), head).0, 200);

    assert_eq!(beat(&mut client), ErrorCode::UNKNOWN_MEMBER_ID);
    let answer = waiting.take::<JoinGroupRequest<'_>>(9, asked);
    assert_eq!(answer.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE);
    assert!(client.ask(5, &ListGroupsRequest::default()).groups.is_empty());
    create(&mut client, "t", 1, &[]);
    let answer = produce(&mut client, "t", 0, &stamp(7));
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, 0), "nothing is known of it");
    let anew = group_of_one(&mut client, "g");
    assert_eq!(anew.generation_id, 1);
    assert_eq!(committed(&mut client, "g").committed_offset, -1);
}

/// Both would have waited for longer than a stop takes at most.
#[test]
fn a_stop_waits_neither_for_a_generation_nor_for_records_that_are_to_come() {
    let (mut node, mut client) = start();
    group_of_one(&mut client, "g");
    let mut joining = node.client();
    let id = new_member_id(&mut joining, "g");
    joining.send(9, &join_request("g", &id));
    let mut reading = node.client();
    let asked = FetchRequest { max_wait_ms: 30_000, min_bytes: 1, ..fetch_request("t", 0, 0) };
    reading.send(FETCH_BY_NAME, &asked);
    assert!(
        joining.is_silent_for(Duration::from_millis(200))
            && reading.is_silent_for(Duration::from_millis(200))
    );
    let began = std::time::Instant::now();
    assert_eq!(node.server.stop(), 0);
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}
