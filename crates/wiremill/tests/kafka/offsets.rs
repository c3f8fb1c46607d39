//! Committed offsets: round trips, limits, who may commit, deletion.

use std::time::{Duration, Instant};

use kafka::codec::{
    ErrorCode,
    api::{
        delete_groups::DeleteGroupsRequest,
        list_groups::ListGroupsRequest,
        offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete::{OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch::{OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic},
    },
};

use crate::{
    client::Client,
    members::{commit, commit_alone, commit_request, committed, group_of_one, leave_request},
    node::Node,
    usual::{create, delete},
};

fn start() -> (Node, Client) {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 2, &[]);
    (node, client)
}

#[test]
fn a_commit_comes_back_with_its_metadata_and_epoch_over_a_kill_too() {
    let (mut node, mut client) = start();
    let mut request = commit_request("g", -1, "", 42, "héllo");
    request.topics[0].partitions[0].committed_leader_epoch = 3;
    let answer = client.ask(9, &request);
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    for restarted in [false, true] {
        if restarted {
            node.crash_and_start_again();
            client = node.client();
        }
        let found = committed(&mut client, "g");
        assert_eq!((found.committed_offset, found.committed_leader_epoch), (42, 3));
        assert_eq!(found.metadata.as_deref(), Some("héllo"));
    }
}

#[test]
fn every_commit_version_is_kept() {
    let (_node, mut client) = start();
    for version in 2..=9 {
        let request = commit_request("g", -1, "", i64::from(version), "");
        let answer = client.ask(version, &request);
        assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE, "version {version}");
        assert_eq!(committed(&mut client, "g").committed_offset, i64::from(version));
    }
}

#[test]
fn every_version_of_offset_fetch_finds_the_commit() {
    let (_node, mut client) = start();
    commit_alone(&mut client, "g", 7);
    for version in 1..=7 {
        let topic = OffsetFetchRequestTopic { name: "t", partition_indexes: vec![0, 1] };
        let request = OffsetFetchRequest { group_id: "g", topics: Some(vec![topic]), ..Default::default() };
        let answer = client.ask(version, &request);
        let found: Vec<i64> = answer.topics[0].partitions.iter().map(|p| p.committed_offset).collect();
        assert_eq!(found, [7, -1], "version {version}");
        if version >= 2 {
            let all = client.ask(version, &OffsetFetchRequest { topics: None, ..request });
            let found: Vec<i64> = all.topics[0].partitions.iter().map(|p| p.committed_offset).collect();
            assert_eq!(found, [7], "version {version}: null means all that have a position");
        }
    }
    let group = |group_id| OffsetFetchRequestGroup { group_id, topics: None, ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group("g"), group("none")], ..Default::default() };
    for version in 8..=10 {
        let answer = client.ask(version, &request);
        assert_eq!(answer.groups.len(), 2);
        assert_eq!(answer.groups[0].topics[0].partitions[0].committed_offset, 7, "version {version}");
        assert!(answer.groups[1].topics.is_empty());
    }
}

#[test]
fn the_metadata_of_a_commit_has_its_limit() {
    const MAX: usize = 4_096;
    let (_node, mut client) = start();
    for (len, code) in
        [(MAX - 1, ErrorCode::NONE), (MAX, ErrorCode::NONE), (MAX + 1, ErrorCode::OFFSET_METADATA_TOO_LARGE)]
    {
        let metadata = "m".repeat(len);
        assert_eq!(commit(&mut client, "g", -1, "", 1, &metadata), code, "{len} bytes");
    }
    assert_eq!(committed(&mut client, "g").metadata.map(|text| text.len()), Some(MAX));
}

#[test]
fn one_bad_partition_does_not_refuse_the_others_of_a_commit() {
    let (_node, mut client) = start();
    let partition = |partition_index| OffsetCommitRequestPartition {
        partition_index,
        committed_offset: 3,
        ..Default::default()
    };
    let topic = |name, partitions| OffsetCommitRequestTopic { name, partitions, ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: "g",
        topics: vec![topic("t", vec![partition(9), partition(0)]), topic("nowhere", vec![partition(0)])],
        ..Default::default()
    };
    let answer = client.ask(9, &request);
    let codes: Vec<ErrorCode> =
        answer.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    assert_eq!(codes, [unknown, ErrorCode::NONE, unknown]);
    assert_eq!(committed(&mut client, "g").committed_offset, 3);
}

#[test]
fn only_members_of_the_generation_commit_to_a_group_that_has_members() {
    let (_node, mut client) = start();
    let member = group_of_one(&mut client, "g");
    let (generation, id) = (member.generation_id, member.member_id.as_ref());
    assert_eq!(commit_alone(&mut client, "g", 1), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(commit(&mut client, "g", generation, "nobody", 1, ""), ErrorCode::UNKNOWN_MEMBER_ID);
    assert_eq!(commit(&mut client, "g", generation + 1, id, 1, ""), ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(commit(&mut client, "g", generation, id, 1, ""), ErrorCode::NONE);
    client.ask(5, &leave_request("g", id));
    assert_eq!(commit_alone(&mut client, "g", 2), ErrorCode::NONE, "nobody is in it any more");
}

#[test]
fn offsets_of_a_deleted_topic_are_gone_when_it_comes_back() {
    let (_node, mut client) = start();
    commit_alone(&mut client, "g", 7);
    delete(&mut client, "t");
    create(&mut client, "t", 2, &[]);
    assert_eq!(committed(&mut client, "g").committed_offset, -1);
}

fn delete_offset(client: &mut Client, group_id: &str) -> (ErrorCode, Option<ErrorCode>) {
    let partition = OffsetDeleteRequestPartition { partition_index: 0 };
    let topic = OffsetDeleteRequestTopic { name: "t", partitions: vec![partition] };
    let answer = client.ask(0, &OffsetDeleteRequest { group_id, topics: vec![topic] });
    (answer.error_code, answer.topics.first().map(|topic| topic.partitions[0].error_code))
}

#[test]
fn single_offsets_are_deleted_and_those_of_unknown_groups_are_not_found() {
    let (_node, mut client) = start();
    commit_alone(&mut client, "g", 7);
    assert_eq!(delete_offset(&mut client, "g"), (ErrorCode::NONE, Some(ErrorCode::NONE)));
    assert_eq!(committed(&mut client, "g").committed_offset, -1);
    assert_eq!(delete_offset(&mut client, "unknown").0, ErrorCode::GROUP_ID_NOT_FOUND);
}

fn delete_group(client: &mut Client, group: &str) -> ErrorCode {
    client.ask(2, &DeleteGroupsRequest { groups_names: vec![group] }).results[0].error_code
}

#[test]
fn a_group_is_deleted_when_nobody_is_in_it() {
    let (mut node, mut client) = start();
    let member = group_of_one(&mut client, "g");
    commit(&mut client, "g", member.generation_id, &member.member_id, 5, "");
    assert_eq!(delete_group(&mut client, "g"), ErrorCode::NON_EMPTY_GROUP);
    client.ask(5, &leave_request("g", &member.member_id));
    assert_eq!(delete_group(&mut client, "g"), ErrorCode::NONE);
    assert_eq!(delete_group(&mut client, "g"), ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(committed(&mut client, "g").committed_offset, -1);
    node.crash_and_start_again();
    let mut client = node.client();
    assert_eq!(committed(&mut client, "g").committed_offset, -1);
    assert!(client.ask(5, &ListGroupsRequest::default()).groups.is_empty());
}

/// KIP-211. What expires when is the coordinator's own test; this is the way from the clock to the client.
#[test]
fn offsets_that_nobody_uses_are_gone_after_the_time_that_is_set() {
    let node = Node::start_with(&["--ephemeral", "--kafka-offsets-retention-min", "60"]);
    let mut client = node.client();
    create(&mut client, "t", 1, &[]);
    commit_alone(&mut client, "old", 7);
    node.advance(50 * 60_000);
    commit_alone(&mut client, "young", 8);
    node.advance(11 * 60_000);
    let began = Instant::now();
    while committed(&mut client, "old").committed_offset != -1 {
        assert!(began.elapsed() < Duration::from_secs(30), "it is still there");
    }
    assert_eq!(committed(&mut client, "young").committed_offset, 8);
}
