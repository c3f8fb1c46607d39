//! Members of a group for the tests: requests in the highest version, and a whole group of one.

use kafka::codec::{
    ErrorCode,
    api::{
        heartbeat::HeartbeatRequest,
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse},
        leave_group::{LeaveGroupRequest, MemberIdentity},
        offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_fetch::{
            OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopics,
            OffsetFetchResponsePartitions,
        },
        sync_group::{SyncGroupRequest, SyncGroupRequestAssignment, SyncGroupResponse},
    },
};

use crate::client::Client;

/// Versions before topics are named by id.
const COMMIT_BY_NAME: i16 = 9;
const FETCH_OFFSETS_BY_NAME: i16 = 9;

pub fn join_request<'a>(group_id: &'a str, member_id: &'a str) -> JoinGroupRequest<'a> {
    JoinGroupRequest {
        group_id,
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: 30_000,
        member_id,
        protocol_type: "consumer",
        protocols: vec![JoinGroupRequestProtocol { name: "range", metadata: b"subscription" }],
        ..Default::default()
    }
}

pub fn static_join_request<'a>(
    group_id: &'a str,
    member_id: &'a str,
    instance: &'a str,
) -> JoinGroupRequest<'a> {
    JoinGroupRequest { group_instance_id: Some(instance), ..join_request(group_id, member_id) }
}

pub fn sync_request<'a>(group_id: &'a str, generation_id: i32, member_id: &'a str) -> SyncGroupRequest<'a> {
    SyncGroupRequest {
        group_id,
        generation_id,
        member_id,
        protocol_type: Some("consumer"),
        protocol_name: Some("range"),
        ..Default::default()
    }
}

/// The leader's sync: every member is assigned its own id's bytes.
pub fn leader_sync_request<'a>(
    group_id: &'a str,
    joined: &'a JoinGroupResponse<'static>,
) -> SyncGroupRequest<'a> {
    let assignments = joined
        .members
        .iter()
        .map(|m| SyncGroupRequestAssignment { member_id: &m.member_id, assignment: m.member_id.as_bytes() })
        .collect();
    SyncGroupRequest { assignments, ..sync_request(group_id, joined.generation_id, &joined.member_id) }
}

pub fn heartbeat_request<'a>(
    group_id: &'a str,
    generation_id: i32,
    member_id: &'a str,
) -> HeartbeatRequest<'a> {
    HeartbeatRequest { group_id, generation_id, member_id, group_instance_id: None }
}

pub fn heartbeat(client: &mut Client, group_id: &str, generation_id: i32, member_id: &str) -> ErrorCode {
    client.ask(4, &heartbeat_request(group_id, generation_id, member_id)).error_code
}

/// Joins as a newcomer: asked for its id, then with it. Returns when the group has this generation.
pub fn join(client: &mut Client, group_id: &str) -> JoinGroupResponse<'static> {
    let member_id = new_member_id(client, group_id);
    let joined = client.ask(9, &join_request(group_id, &member_id));
    assert_eq!(joined.error_code, ErrorCode::NONE);
    joined
}

pub fn new_member_id(client: &mut Client, group_id: &str) -> String {
    let first = client.ask(9, &join_request(group_id, ""));
    assert_eq!(first.error_code, ErrorCode::MEMBER_ID_REQUIRED);
    first.member_id.into_owned()
}

/// A group of one member, joined and synced.
pub fn group_of_one(client: &mut Client, group_id: &str) -> JoinGroupResponse<'static> {
    let joined = join(client, group_id);
    let synced = sync_as_leader(client, group_id, &joined);
    assert_eq!(synced.error_code, ErrorCode::NONE);
    joined
}

pub fn sync_as_leader(
    client: &mut Client,
    group_id: &str,
    joined: &JoinGroupResponse<'static>,
) -> SyncGroupResponse<'static> {
    client.ask(5, &leader_sync_request(group_id, joined))
}

pub fn leave_request<'a>(group_id: &'a str, member_id: &'a str) -> LeaveGroupRequest<'a> {
    let member = MemberIdentity { member_id, group_instance_id: None, reason: Some("test") };
    LeaveGroupRequest { group_id, members: vec![member], ..Default::default() }
}

/// A commit for partition 0 of "t".
pub fn commit_request<'a>(
    group_id: &'a str,
    generation: i32,
    member_id: &'a str,
    offset: i64,
    metadata: &'a str,
) -> OffsetCommitRequest<'a> {
    let partition = OffsetCommitRequestPartition {
        committed_offset: offset,
        committed_metadata: Some(metadata),
        ..Default::default()
    };
    let topic = OffsetCommitRequestTopic { name: "t", partitions: vec![partition], ..Default::default() };
    OffsetCommitRequest {
        group_id,
        generation_id_or_member_epoch: generation,
        member_id,
        topics: vec![topic],
        ..Default::default()
    }
}

/// Commits for partition 0 of "t".
pub fn commit(
    client: &mut Client,
    group_id: &str,
    generation: i32,
    member_id: &str,
    offset: i64,
    metadata: &str,
) -> ErrorCode {
    let request = commit_request(group_id, generation, member_id, offset, metadata);
    client.ask(COMMIT_BY_NAME, &request).topics[0].partitions[0].error_code
}

/// Commits for partition 0 of "t" from outside of any membership.
pub fn commit_alone(client: &mut Client, group_id: &str, offset: i64) -> ErrorCode {
    commit(client, group_id, -1, "", offset, "")
}

/// What is committed for partition 0 of "t".
pub fn committed(client: &mut Client, group_id: &str) -> OffsetFetchResponsePartitions<'static> {
    let topic = OffsetFetchRequestTopics { name: "t", partition_indexes: vec![0], ..Default::default() };
    let group = OffsetFetchRequestGroup { group_id, topics: Some(vec![topic]), ..Default::default() };
    let request = OffsetFetchRequest { groups: vec![group], ..Default::default() };
    let mut answer = client.ask(FETCH_OFFSETS_BY_NAME, &request);
    assert_eq!(answer.groups[0].error_code, ErrorCode::NONE);
    answer.groups.pop().unwrap().topics.pop().unwrap().partitions.pop().unwrap()
}
