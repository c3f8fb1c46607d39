use broker::{Position, StreamSettings};
use bytes::Bytes;
use model::Offset;

use super::*;
use crate::{
    codec::api::{
        join_group::{JoinGroupRequest, JoinGroupRequestProtocol},
        offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
    },
    handlers::{join_group::join_group, offset_commit::offset_commit},
    testing::Rig,
};

fn group(ctx: &Ctx) -> CursorKey {
    CursorKey::new(&ctx.namespace(), "g")
}

async fn commit(ctx: &Ctx, generation: i32, offset: i64) -> ErrorCode {
    let partition = OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
    let topic = OffsetCommitRequestTopic { name: "t", partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: "g",
        generation_id_or_member_epoch: generation,
        retention_time_ms: -1,
        topics: vec![topic],
        ..Default::default()
    };
    offset_commit(ctx, request).await.topics[0].partitions[0].error_code
}

#[tokio::test]
async fn a_member_s_commit_to_a_group_that_is_not_there_is_refused_in_its_version_s_words() {
    let rig = Rig::new();
    rig.topic("t", StreamSettings::default()).await;
    assert_eq!(commit(&rig.ctx(9), 3, 7).await, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(commit(&rig.ctx(8), 3, 7).await, ErrorCode::ILLEGAL_GENERATION);
    assert_eq!(commit(&rig.ctx(9), -1, 7).await, ErrorCode::NONE);
    assert_eq!(commit(&rig.ctx(9), 3, 7).await, ErrorCode::UNKNOWN_MEMBER_ID, "it is there, and empty");
}

#[tokio::test]
async fn a_negative_offset_reads_as_none() {
    let rig = Rig::new();
    let stream = rig.topic("t", StreamSettings::default()).await;
    let ctx = rig.ctx(9);
    assert_eq!(commit(&ctx, -1, 7).await, ErrorCode::NONE);
    assert_eq!(commit(&ctx, -1, -1).await, ErrorCode::NONE);
    assert_eq!(rig.broker().position(&group(&ctx), &stream.partitions()[0]), None);
}

#[tokio::test]
async fn a_deleted_group_takes_its_offsets_along_and_can_be_made_anew() {
    let rig = Rig::new();
    rig.topic("t", StreamSettings::default()).await;
    let ctx = rig.ctx(2);
    assert_eq!(commit(&ctx, -1, 7).await, ErrorCode::NONE);
    let delete = || delete_groups(&ctx, DeleteGroupsRequest { groups_names: vec!["g"] });
    assert_eq!(delete().await.results[0].error_code, ErrorCode::NONE);
    assert_eq!(delete().await.results[0].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
    assert_eq!(commit(&ctx, -1, 8).await, ErrorCode::NONE);
}

async fn join(rig: &Rig, protocol_type: &str, metadata: &[u8]) -> ErrorCode {
    let request = JoinGroupRequest {
        group_id: "g",
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type,
        protocols: vec![JoinGroupRequestProtocol { name: "range", metadata }],
        ..Default::default()
    };
    join_group(&rig.ctx(3), request).await.error_code
}

async fn delete_offset(ctx: &Ctx) -> (ErrorCode, Option<ErrorCode>) {
    let topic =
        OffsetDeleteRequestTopic { name: "t", partitions: vec![OffsetDeleteRequestPartition::default()] };
    let answer = offset_delete(ctx, OffsetDeleteRequest { group_id: "g", topics: vec![topic] }).await;
    (answer.error_code, answer.topics.first().map(|topic| topic.partitions[0].error_code))
}

#[tokio::test]
async fn offsets_of_a_group_with_members_are_deleted_only_where_nobody_is_subscribed() {
    let rig = Rig::new();
    rig.topic("t", StreamSettings::default()).await;
    assert_eq!(join(&rig, "consumer", b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff").await, ErrorCode::NONE);
    let refused = (ErrorCode::NONE, Some(ErrorCode::GROUP_SUBSCRIBED_TO_TOPIC));
    assert_eq!(delete_offset(&rig.ctx(0)).await, refused);

    let rig = Rig::new();
    rig.topic("t", StreamSettings::default()).await;
    assert_eq!(join(&rig, "connect", b"anything").await, ErrorCode::NONE);
    assert_eq!(delete_offset(&rig.ctx(0)).await, (ErrorCode::NON_EMPTY_GROUP, None));
}

#[tokio::test]
async fn what_belongs_to_a_generation_is_shown_while_it_runs() {
    let rig = Rig::new();
    assert_eq!(join(&rig, "consumer", b"\0\0\0\0\0\0").await, ErrorCode::NONE);
    let ctx = rig.ctx(5);
    let request = DescribeGroupsRequest { groups: vec!["g"], ..Default::default() };
    let answer = describe_groups(&ctx, request).await;
    let shown = &answer.groups[0];
    assert_eq!((&*shown.group_state, &*shown.protocol_data), ("CompletingRebalance", ""));
    assert_eq!(shown.members[0].member_metadata.len(), 0);
}

#[tokio::test]
async fn a_name_that_nobody_came_back_to_is_forgotten_and_one_with_offsets_is_not() {
    let rig = Rig::new();
    let stream = rig.topic("t", StreamSettings::default()).await;
    let coordinator = &rig.server.coordinator;
    let ctx = rig.ctx(3);
    // A refused join leaves a group without anything behind.
    assert_eq!(join(&rig, "", b"").await, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    assert!(coordinator.describe(&group(&ctx)).is_some());
    coordinator.expire_offsets();
    assert!(coordinator.describe(&group(&ctx)).is_none());
    let position = Position { metadata: Bytes::new(), ..Position::at(Offset(1)) };
    let seq = rig.broker().commit_positions(&group(&ctx), vec![(stream.partitions()[0].clone(), position)]);
    rig.broker().durable(seq.unwrap()).await.unwrap();
    coordinator.expire_offsets();
    assert!(coordinator.describe(&group(&ctx)).is_some());
}

#[tokio::test]
async fn a_join_with_a_session_that_is_too_short_does_not_begin_its_group() {
    let rig = Rig::new();
    let request = JoinGroupRequest {
        group_id: "g",
        session_timeout_ms: 1,
        protocol_type: "consumer",
        protocols: vec![JoinGroupRequestProtocol { name: "range", metadata: b"" }],
        ..Default::default()
    };
    let answer = join_group(&rig.ctx(3), request).await;
    assert_eq!(answer.error_code, ErrorCode::INVALID_SESSION_TIMEOUT);
    let request = DescribeGroupsRequest { groups: vec!["g"], ..Default::default() };
    assert_eq!(describe_groups(&rig.ctx(5), request).await.groups[0].group_state, "Dead");
}

#[tokio::test]
async fn a_member_with_more_protocols_than_anybody_has_is_refused() {
    let rig = Rig::new();
    let protocols = vec![JoinGroupRequestProtocol { name: "", metadata: b"" }; 1_001];
    let request = JoinGroupRequest {
        group_id: "g",
        session_timeout_ms: 10_000,
        protocol_type: "consumer",
        protocols,
        ..Default::default()
    };
    assert_eq!(join_group(&rig.ctx(3), request).await.error_code, ErrorCode::INVALID_REQUEST);
}
