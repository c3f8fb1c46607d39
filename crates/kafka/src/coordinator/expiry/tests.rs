use broker::StreamSettings;

use crate::{
    Options,
    codec::{
        ErrorCode,
        api::{
            join_group::{JoinGroupRequest, JoinGroupRequestProtocol},
            leave_group::{LeaveGroupRequest, MemberIdentity},
            offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
            sync_group::SyncGroupRequest,
        },
    },
    handlers::{
        group_members::leave_group, join_group::join_group, join_group::sync_group,
        offset_commit::offset_commit,
    },
    testing::Rig,
    topics,
};
use broker::CursorKey;
use model::Namespace;

const HOUR_MS: i64 = 3_600_000;

/// A server that keeps offsets for an hour, and topics `t` and `u`.
async fn start() -> Rig {
    let rig =
        Rig::with(Options { initial_rebalance_delay_ms: 0, offsets_retention_min: 60, ..Options::default() });
    for topic in ["t", "u"] {
        rig.topic(topic, StreamSettings::default()).await;
    }
    rig
}

/// A commit of offset 7 in both topics.
fn both<'a>(generation: i32, member_id: &'a str) -> OffsetCommitRequest<'a> {
    let topic = |name| {
        let partition = OffsetCommitRequestPartition { committed_offset: 7, ..Default::default() };
        OffsetCommitRequestTopic { name, partitions: vec![partition], ..Default::default() }
    };
    OffsetCommitRequest {
        group_id: "g",
        generation_id_or_member_epoch: generation,
        member_id,
        retention_time_ms: -1,
        topics: vec![topic("t"), topic("u")],
        ..Default::default()
    }
}

async fn commit(rig: &Rig, version: i16, request: OffsetCommitRequest<'_>) {
    for topic in offset_commit(&rig.ctx(version), request).await.topics {
        assert_eq!(topic.partitions[0].error_code, ErrorCode::NONE);
    }
}

/// A member that is subscribed to `t` alone, with its assignment; its generation and id.
async fn member(rig: &Rig) -> (i32, String) {
    let protocols =
        vec![JoinGroupRequestProtocol { name: "range", metadata: b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff" }];
    let request = JoinGroupRequest {
        group_id: "g",
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer",
        protocols,
        ..Default::default()
    };
    let joined = join_group(&rig.ctx(3), request).await;
    assert_eq!(joined.error_code, ErrorCode::NONE);
    let (generation_id, member_id) = (joined.generation_id, joined.member_id.into_owned());
    let request =
        SyncGroupRequest { group_id: "g", generation_id, member_id: &member_id, ..Default::default() };
    assert_eq!(sync_group(&rig.ctx(3), request).await.error_code, ErrorCode::NONE);
    (generation_id, member_id)
}

async fn leave(rig: &Rig, member_id: &str) {
    let members = vec![MemberIdentity { member_id, ..Default::default() }];
    let request = LeaveGroupRequest { group_id: "g", members, ..Default::default() };
    assert_eq!(leave_group(&rig.ctx(3), request).await.error_code, ErrorCode::NONE);
}

/// Lets time go by, has expired offsets taken away, and says which topics still have theirs.
fn left_after(rig: &Rig, by_ms: i64) -> Vec<String> {
    rig.advance(by_ms);
    rig.server.coordinator.expire_offsets();
    let positions = rig.broker().positions(&CursorKey::new(&Namespace::default(), "g"));
    let mut topics: Vec<String> =
        positions.into_iter().flatten().map(|view| view.stream.name.to_string()).collect();
    topics.sort();
    topics
}

#[tokio::test]
async fn offsets_of_a_simple_consumer_go_their_time_after_their_commit() {
    let rig = start().await;
    commit(&rig, 9, both(-1, "")).await;
    assert_eq!(left_after(&rig, HOUR_MS - 10_000), ["t", "u"]);
    commit(&rig, 9, both(-1, "")).await;
    assert_eq!(left_after(&rig, HOUR_MS - 10_000), ["t", "u"], "the last commit counts");
    assert!(left_after(&rig, 20_000).is_empty());
}

#[tokio::test]
async fn offsets_of_a_group_are_kept_while_it_is_subscribed_and_count_from_when_it_emptied() {
    let rig = start().await;
    let (generation, member_id) = member(&rig).await;
    commit(&rig, 9, both(generation, &member_id)).await;
    assert_eq!(left_after(&rig, HOUR_MS - 10_000), ["t", "u"]);
    // Nobody of the group is subscribed to u any more.
    assert_eq!(left_after(&rig, 20_000), ["t"]);
    assert_eq!(left_after(&rig, 50 * HOUR_MS), ["t"]);
    leave(&rig, &member_id).await;
    assert_eq!(left_after(&rig, HOUR_MS - 10_000), ["t"], "it emptied less than an hour ago");
    assert!(left_after(&rig, 20_000).is_empty());
}

#[tokio::test]
async fn nothing_expires_while_a_group_rebalances() {
    let rig = start().await;
    commit(&rig, 9, both(-1, "")).await;
    let request = JoinGroupRequest {
        group_id: "g",
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 10_000,
        protocol_type: "consumer",
        protocols: vec![JoinGroupRequestProtocol { name: "range", metadata: b"" }],
        ..Default::default()
    };
    // Joined, and its leader has not spoken.
    assert_eq!(join_group(&rig.ctx(3), request).await.error_code, ErrorCode::NONE);
    assert_eq!(left_after(&rig, 50 * HOUR_MS), ["t", "u"]);
}

/// Before version 5 a commit says how long it is to be kept.
#[tokio::test]
async fn a_commit_of_an_old_version_is_kept_as_long_as_it_says() {
    let rig = start().await;
    commit(&rig, 4, OffsetCommitRequest { retention_time_ms: 2 * HOUR_MS, ..both(-1, "") }).await;
    assert_eq!(left_after(&rig, 2 * HOUR_MS - 10_000), ["t", "u"]);
    assert!(left_after(&rig, 20_000).is_empty());
}

/// The broker looks for positions whose time is over too.
#[tokio::test]
async fn what_a_commit_says_does_not_count_while_its_group_is_subscribed() {
    let rig = start().await;
    let (generation, member_id) = member(&rig).await;
    let request = OffsetCommitRequest { retention_time_ms: 2 * HOUR_MS, ..both(generation, &member_id) };
    commit(&rig, 4, request).await;
    let retain = || {
        for stream in topics::list(rig.broker(), &Namespace::default()) {
            rig.broker().retain(&stream);
        }
    };
    rig.advance(3 * HOUR_MS);
    retain();
    assert_eq!(left_after(&rig, 0), ["t"], "nobody of the group is subscribed to u");
    leave(&rig, &member_id).await;
    retain();
    assert!(left_after(&rig, 0).is_empty());
}
