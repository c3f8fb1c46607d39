//! An acknowledgement means on disk: with every sync slowed down, no durable answer comes before a sync could end, and
//! what needs no sync stays quick.

use std::time::{Duration, Instant};

use kafka::codec::{
    ErrorCode, Request,
    api::{
        alter_configs::{self, AlterConfigsRequest},
        alter_user_scram_credentials::{
            AlterUserScramCredentialsRequest, ScramCredentialDeletion, ScramCredentialUpsertion,
        },
        create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
        delete_groups::DeleteGroupsRequest,
        delete_records::{DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic},
        incremental_alter_configs::{self, IncrementalAlterConfigsRequest},
        init_producer_id::InitProducerIdRequest,
        metadata::{MetadataRequest, MetadataRequestTopic},
        offset_delete::{OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        produce::ProduceRequest,
    },
};

use crate::{
    client::Client,
    members::{
        commit_alone, commit_request, committed, group_of_one, heartbeat, join, leader_sync_request,
        leave_request, static_join_request,
    },
    node::Node,
    sasl::{PASSWORD, add_user, plain},
    usual::{
        batch, create, create_request, delete_request, described, fetch, fetched, offset_at, produce,
        produce_request,
    },
};

/// How much longer each sync takes.
const DELAY: Duration = Duration::from_millis(200);

fn slow_node() -> (Node, Client) {
    let node = Node::start_with(&["--test-sync-delay-ms", "200"]);
    let client = node.client();
    (node, client)
}

/// Asks for something durable: the answer must take one sync at least.
#[track_caller]
fn waits<'a, R: Request<'a>>(client: &mut Client, version: i16, request: &R) -> R::Response<'static> {
    settle();
    let began = Instant::now();
    let answer = client.ask(version, request);
    let took = began.elapsed();
    assert!(took >= DELAY, "{:?} was answered after {took:?}, before its sync could end", R::KEY);
    answer
}

/// Whatever is being synced from before, in the background, is done after this: the next wait is the request's own.
fn settle() {
    std::thread::sleep(DELAY + Duration::from_millis(30));
}

/// Asks for something that is in memory. The limit is far above what it takes, and below a sync's delay. A busy machine
/// may hold up any one answer, so three may be asked for: what waits for the disk is late each time.
#[track_caller]
fn is_quick<T>(what: &str, mut ask: impl FnMut() -> T) {
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        settle();
        let began = Instant::now();
        ask();
        fastest = fastest.min(began.elapsed());
        if fastest < DELAY - Duration::from_millis(50) {
            return;
        }
    }
    panic!("{what} took {fastest:?} at best: it waited for the disk");
}

#[test]
fn no_produce_is_answered_before_its_sync() {
    let (_node, mut client) = slow_node();
    waits(&mut client, 7, &create_request("t", 1, &[]));
    let records = batch(&["x"]);
    for acks in [1, -1] {
        let answer = waits(&mut client, 9, &produce_request("t", 0, acks, &records));
        assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NONE);
    }
    let producer = waits(&mut client, 5, &InitProducerIdRequest::default());
    assert_eq!(producer.error_code, ErrorCode::NONE);
}

#[test]
fn a_duplicate_is_not_answered_before_the_sync_of_its_original() {
    let (node, mut client) = slow_node();
    create(&mut client, "t", 1, &[]);
    let producer = crate::usual::new_producer(&mut client);
    let records = crate::usual::stamped(&["x"], &crate::usual::by_producer(producer, 0, 0));
    settle();
    let began = Instant::now();
    client.send(9, &produce_request("t", 0, -1, &records));
    std::thread::sleep(DELAY / 4);
    let answer = produce(&mut node.client(), "t", 0, &records);
    assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, 0));
    assert!(began.elapsed() >= DELAY, "{:?}", began.elapsed());
}

#[test]
fn no_record_is_read_before_its_sync() {
    let (node, mut client) = slow_node();
    create(&mut client, "t", 1, &[]);
    settle();
    let records = batch(&["x"]);
    let began = Instant::now();
    client.send(9, &produce_request("t", 0, 1, &records));
    let mut reader = node.client();
    while fetched(&fetch(&mut reader, "t", 0, 0)).is_empty() {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(began.elapsed() >= DELAY, "it was shown after {:?}", began.elapsed());
}

#[test]
fn no_change_of_topics_is_answered_before_its_sync() {
    let (_node, mut client) = slow_node();
    assert_eq!(waits(&mut client, 7, &create_request("t", 1, &[])).topics[0].error_code, ErrorCode::NONE);
    let topic = CreatePartitionsTopic { name: "t", count: 2, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 1_000, validate_only: false };
    assert_eq!(waits(&mut client, 3, &request).results[0].error_code, ErrorCode::NONE);
    let config = alter_configs::AlterableConfig { name: "retention.ms", value: Some("3600000") };
    let resource =
        alter_configs::AlterConfigsResource { resource_type: 2, resource_name: "t", configs: vec![config] };
    let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
    assert_eq!(waits(&mut client, 2, &request).responses[0].error_code, ErrorCode::NONE);
    let config = incremental_alter_configs::AlterableConfig {
        name: "retention.ms",
        config_operation: 0,
        value: Some("7200000"),
    };
    let resource = incremental_alter_configs::AlterConfigsResource {
        resource_type: 2,
        resource_name: "t",
        configs: vec![config],
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    assert_eq!(waits(&mut client, 1, &request).responses[0].error_code, ErrorCode::NONE);
    produce(&mut client, "t", 0, &batch(&["x"]));
    let wanted = DeleteRecordsPartition { partition_index: 0, offset: 1 };
    let topic = DeleteRecordsTopic { name: "t", partitions: vec![wanted] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1_000 };
    assert_eq!(waits(&mut client, 2, &request).topics[0].partitions[0].error_code, ErrorCode::NONE);
    assert_eq!(waits(&mut client, 6, &delete_request("t")).responses[0].error_code, ErrorCode::NONE);
}

#[test]
fn no_topic_that_creates_itself_is_shown_before_its_sync() {
    let (_node, mut client) = slow_node();
    let topic = MetadataRequestTopic { name: Some("t"), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    assert_eq!(waits(&mut client, 9, &request).topics[0].error_code, ErrorCode::NONE);
}

#[test]
fn no_commit_or_deletion_of_offsets_is_answered_before_its_sync() {
    let (_node, mut client) = slow_node();
    create(&mut client, "t", 1, &[]);
    let answer = waits(&mut client, 9, &commit_request("g", -1, "", 5, ""));
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NONE);
    let partition = OffsetDeleteRequestPartition { partition_index: 0 };
    let topic = OffsetDeleteRequestTopic { name: "t", partitions: vec![partition] };
    let request = OffsetDeleteRequest { group_id: "g", topics: vec![topic] };
    assert_eq!(waits(&mut client, 0, &request).topics[0].partitions[0].error_code, ErrorCode::NONE);
    commit_alone(&mut client, "g", 6);
    let request = DeleteGroupsRequest { groups_names: vec!["g"] };
    assert_eq!(waits(&mut client, 2, &request).results[0].error_code, ErrorCode::NONE);
}

#[test]
fn no_assignment_is_given_out_before_its_sync() {
    let (_node, mut client) = slow_node();
    let joined = join(&mut client, "g");
    let synced = waits(&mut client, 5, &leader_sync_request("g", &joined));
    assert_eq!(synced.error_code, ErrorCode::NONE);
    let left = waits(&mut client, 5, &leave_request("g", &joined.member_id));
    assert_eq!(left.members[0].error_code, ErrorCode::NONE);
}

/// Its predecessor is fenced from then on: a crash must not bring that one back.
#[test]
fn no_place_of_a_static_member_is_taken_over_before_its_sync() {
    let (_node, mut client) = slow_node();
    let first = client.ask(9, &static_join_request("g", "", "machine-1"));
    assert_eq!(client.ask(5, &leader_sync_request("g", &first)).error_code, ErrorCode::NONE);
    let second = waits(&mut client, 9, &static_join_request("g", "", "machine-1"));
    assert_eq!((second.error_code, second.generation_id), (ErrorCode::NONE, 1));
}

#[test]
fn no_change_of_credentials_is_answered_before_its_sync() {
    let (node, _let_in) = slow_node();
    add_user(&node);
    let mut client = node.client();
    assert_eq!(plain(&mut client, "ann", PASSWORD), ErrorCode::NONE);
    let upsertion = ScramCredentialUpsertion {
        name: "eve",
        mechanism: 1,
        iterations: 4_096,
        salt: b"salt",
        salted_password: &[7; 32],
    };
    let request = AlterUserScramCredentialsRequest { deletions: Vec::new(), upsertions: vec![upsertion] };
    assert_eq!(waits(&mut client, 0, &request).results[0].error_code, ErrorCode::NONE);
    let deletion = ScramCredentialDeletion { name: "eve", mechanism: 1 };
    let request = AlterUserScramCredentialsRequest { deletions: vec![deletion], upsertions: Vec::new() };
    assert_eq!(waits(&mut client, 0, &request).results[0].error_code, ErrorCode::NONE);
}

#[test]
fn reads_heartbeats_and_look_ups_do_not_wait_for_the_disk() {
    let (_node, mut client) = slow_node();
    create(&mut client, "t", 1, &[]);
    produce(&mut client, "t", 0, &batch(&["x"]));
    commit_alone(&mut client, "alone", 1);
    let joined = group_of_one(&mut client, "g");
    is_quick("Heartbeat", || heartbeat(&mut client, "g", 1, &joined.member_id));
    is_quick("Fetch", || fetch(&mut client, "t", 0, 0));
    is_quick("ListOffsets", || offset_at(&mut client, "t", 0, -1));
    is_quick("Metadata", || described(&mut client, "t"));
    is_quick("OffsetFetch", || committed(&mut client, "alone"));
    is_quick("ApiVersions", || client.api_versions());
}

#[test]
fn a_slow_disk_does_not_hold_up_heartbeats_behind_commits_of_others() {
    let (node, mut client) = slow_node();
    create(&mut client, "t", 1, &[]);
    let joined = group_of_one(&mut client, "g");
    settle();
    let records = batch(&["x"]);
    let mut producer = node.client();
    // A busy machine may take longer than the disk; were heartbeats held up, they would come too late every time.
    let came_first = (0..20).any(|_| {
        let asked = producer.send(9, &produce_request("t", 0, -1, &records));
        assert_eq!(heartbeat(&mut client, "g", 1, &joined.member_id), ErrorCode::NONE);
        let still_waits = producer.is_silent_for(Duration::from_millis(1));
        producer.take::<ProduceRequest<'_>>(9, asked);
        still_waits
    });
    assert!(came_first, "a heartbeat waits for another's commit");
}
