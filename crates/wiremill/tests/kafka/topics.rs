//! Topics: metadata, ids, creation, more partitions, deletion.

use kafka::codec::{
    ErrorCode, Records, Uuid,
    api::{
        create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic},
        create_topics::{CreatableReplicaAssignment, CreateTopicsRequest},
        delete_records::{
            DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsTopic,
        },
        delete_topics::{DeleteTopicState, DeleteTopicsRequest},
        metadata::{MetadataRequest, MetadataRequestTopic},
        offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
    },
};

use crate::{
    client::Client,
    node::Node,
    usual::{
        batch, create, create_request, delete, described, fetch, fetch_all, fetch_request, offset_at,
        produce, try_create,
    },
};

fn start() -> (Node, Client) {
    let node = Node::start();
    let client = node.client();
    (node, client)
}

fn names(client: &mut Client, version: i16, topics: Option<Vec<MetadataRequestTopic<'_>>>) -> Vec<String> {
    let request = MetadataRequest { topics, ..Default::default() };
    let answer = client.ask(version, &request);
    answer.topics.iter().map(|topic| topic.name.as_deref().unwrap().to_owned()).collect()
}

fn named(name: &str) -> MetadataRequestTopic<'_> {
    MetadataRequestTopic { name: Some(name), ..Default::default() }
}

#[test]
fn an_empty_list_means_all_topics_in_metadata_0_and_none_later() {
    let (_node, mut client) = start();
    create(&mut client, "a", 1, &[]);
    create(&mut client, "b", 1, &[]);
    assert_eq!(names(&mut client, 0, Some(Vec::new())), ["a", "b"]);
    for version in 1..=13 {
        assert!(names(&mut client, version, Some(Vec::new())).is_empty(), "version {version}");
        assert_eq!(names(&mut client, version, None), ["a", "b"], "version {version}");
    }
}

#[test]
fn an_unknown_topic_is_created_by_asking_unless_the_client_says_no() {
    let (_node, mut client) = start();
    assert_eq!(described(&mut client, "t").error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let request = MetadataRequest { topics: Some(vec![named("t")]), ..Default::default() };
    let topic = client.ask(4, &request).topics.pop().unwrap();
    assert_eq!((topic.error_code, topic.partitions.len()), (ErrorCode::NONE, 1));
    let id = described(&mut client, "t").topic_id;
    assert!(!id.is_zero());
    for version in 0..4 {
        let name = format!("by-{version}");
        let request = MetadataRequest { topics: Some(vec![named(&name)]), ..Default::default() };
        let topic = client.ask(version, &request).topics.pop().unwrap();
        assert_eq!(topic.error_code, ErrorCode::NONE, "before version 4 there is no way to say no");
    }
    assert_eq!(described(&mut client, "t").topic_id, id);
}

#[test]
fn topics_that_create_themselves_have_the_configured_number_of_partitions() {
    let node = Node::start_with(&["--default-partitions", "5"]);
    let mut client = node.client();
    let request = MetadataRequest { topics: Some(vec![named("t")]), ..Default::default() };
    assert_eq!(client.ask(9, &request).topics[0].partitions.len(), 5);
    let result = try_create(&mut client, "u", -1, &[]);
    assert_eq!((result.error_code, result.num_partitions), (ErrorCode::NONE, 5));
}

#[test]
fn no_topic_creates_itself_where_that_is_off() {
    let node = Node::start_with(&["--kafka-auto-create-topics", "false"]);
    let request = MetadataRequest { topics: Some(vec![named("t")]), ..Default::default() };
    let topic = node.client().ask(9, &request).topics.pop().unwrap();
    assert_eq!(topic.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn bad_names_are_refused_wherever_a_topic_would_be_created() {
    let (_node, mut client) = start();
    let long = "x".repeat(250);
    for name in ["", ".", "..", "a b", "a/b", "ä", long.as_str()] {
        let result = try_create(&mut client, name, 1, &[]);
        assert_eq!(result.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION, "{name:?}");
        let request = MetadataRequest { topics: Some(vec![named(name)]), ..Default::default() };
        let topic = client.ask(9, &request).topics.pop().unwrap();
        assert_eq!(topic.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION, "{name:?}");
    }
    assert_eq!(try_create(&mut client, &"x".repeat(249), 1, &[]).error_code, ErrorCode::NONE);
}

#[test]
fn a_topic_is_found_by_its_id() {
    let (_node, mut client) = start();
    let topic_id = create(&mut client, "t", 2, &[]);
    let by_id = |topic_id| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id, name: None }]),
        ..Default::default()
    };
    let topic = client.ask(12, &by_id(topic_id)).topics.pop().unwrap();
    assert_eq!((topic.name.as_deref(), topic.partitions.len()), (Some("t"), 2));
    let topic = client.ask(12, &by_id(Uuid([7; 16]))).topics.pop().unwrap();
    assert_eq!((topic.error_code, topic.name), (ErrorCode::UNKNOWN_TOPIC_ID, None));
}

#[test]
fn a_topic_that_was_made_anew_has_another_id_and_does_not_answer_to_the_old_one() {
    let (_node, mut client) = start();
    let old = create(&mut client, "t", 1, &[]);
    produce(&mut client, "t", 0, &batch(&["old"]));
    assert_eq!(delete(&mut client, "t"), ErrorCode::NONE);
    let new = create(&mut client, "t", 1, &[]);
    assert_ne!(old, new);
    assert!(fetch_all(&mut client, "t", 0).is_empty(), "nothing of the old topic is in the new one");
    for version in 13..=18 {
        let mut request = fetch_request("", 0, 0);
        request.topics[0].topic_id = old;
        let answer = client.ask(version, &request);
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::UNKNOWN_TOPIC_ID, "Fetch {version}");
        request.topics[0].topic_id = new;
        let answer = client.ask(version, &request);
        assert_eq!(answer.responses[0].partitions[0].error_code, ErrorCode::NONE, "Fetch {version}");
    }
    let records = batch(&["x"]);
    let data = PartitionProduceData { index: 0, records: Some(Records::Slice(&records)) };
    let topic = TopicProduceData { name: "", topic_id: old, partition_data: vec![data] };
    let request = ProduceRequest { acks: -1, topic_data: vec![topic], ..Default::default() };
    let answer = client.ask(13, &request);
    let code = answer.responses[0].partition_responses[0].error_code;
    assert_eq!(code, ErrorCode::UNKNOWN_TOPIC_ID, "Produce 13");
    assert_eq!(commit_by_id(&mut client, old), ErrorCode::UNKNOWN_TOPIC_ID, "OffsetCommit 10");
    assert_eq!(commit_by_id(&mut client, new), ErrorCode::NONE, "OffsetCommit 10");
}

fn commit_by_id(client: &mut Client, topic_id: Uuid) -> ErrorCode {
    let partition = OffsetCommitRequestPartition { committed_offset: 0, ..Default::default() };
    let topic = OffsetCommitRequestTopic { topic_id, partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest { group_id: "g", topics: vec![topic], ..Default::default() };
    client.ask(10, &request).topics[0].partitions[0].error_code
}

#[test]
fn topics_and_their_ids_survive_a_kill() {
    let (mut node, mut client) = start();
    let id = create(&mut client, "t", 3, &[("retention.ms", "1234567")]);
    node.crash_and_start_again();
    let topic = described(&mut node.client(), "t");
    assert_eq!((topic.topic_id, topic.partitions.len()), (id, 3));
}

#[test]
fn a_topic_that_exists_is_not_created_twice() {
    let (_node, mut client) = start();
    create(&mut client, "t", 1, &[]);
    assert_eq!(try_create(&mut client, "t", 1, &[]).error_code, ErrorCode::TOPIC_ALREADY_EXISTS);
}

#[test]
fn names_that_differ_only_in_dots_and_underscores_are_not_taken_beside_each_other() {
    let (_node, mut client) = start();
    create(&mut client, "a.b_c", 1, &[]);
    for name in ["a_b_c", "a.b.c", "a_b.c"] {
        let result = try_create(&mut client, name, 1, &[]);
        assert_eq!(result.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION, "{name}");
        let why = format!("Topic '{name}' collides with existing topic: a.b_c");
        assert_eq!(result.error_message.as_deref(), Some(why.as_str()));
        let request = MetadataRequest { topics: Some(vec![named(name)]), ..Default::default() };
        let topic = client.ask(9, &request).topics.pop().unwrap();
        assert_eq!(topic.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION, "{name} by asking");
    }
    assert_eq!(try_create(&mut client, "a.b_c", 1, &[]).error_code, ErrorCode::TOPIC_ALREADY_EXISTS);
    assert_eq!(try_create(&mut client, "a-b_c", 1, &[]).error_code, ErrorCode::NONE);
    let long = "._".repeat(20);
    create(&mut client, &long, 1, &[]);
    let other = try_create(&mut client, &"__".repeat(20), 1, &[]);
    assert_eq!(other.error_code, ErrorCode::INVALID_TOPIC_EXCEPTION, "however many there are");
    assert_eq!(delete(&mut client, "a.b_c"), ErrorCode::NONE);
    assert_eq!(try_create(&mut client, "a_b_c", 1, &[]).error_code, ErrorCode::NONE);
}

#[test]
fn a_topic_that_is_only_checked_is_not_created() {
    let (_node, mut client) = start();
    let request = CreateTopicsRequest { validate_only: true, ..create_request("t", 3, &[]) };
    let result = client.ask(7, &request).topics.pop().unwrap();
    assert_eq!((result.error_code, result.num_partitions), (ErrorCode::NONE, 3));
    let request = CreateTopicsRequest { validate_only: true, ..create_request("t", 0, &[]) };
    assert_eq!(client.ask(7, &request).topics[0].error_code, ErrorCode::INVALID_PARTITIONS);
    assert_eq!(described(&mut client, "t").error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
}

#[test]
fn replicas_that_one_node_cannot_have_are_refused() {
    let (_node, mut client) = start();
    for (replicas, code) in [
        (3, ErrorCode::INVALID_REPLICATION_FACTOR),
        (0, ErrorCode::INVALID_REPLICATION_FACTOR),
        (-2, ErrorCode::INVALID_REPLICATION_FACTOR),
        (-1, ErrorCode::NONE),
    ] {
        let mut request = create_request("t", 1, &[]);
        request.topics[0].replication_factor = replicas;
        assert_eq!(client.ask(7, &request).topics[0].error_code, code, "{replicas} replicas");
    }
}

#[test]
fn partitions_assigned_by_hand_are_taken_for_this_node_alone() {
    let (_node, mut client) = start();
    let mut ask = |name: &str, nodes: &[i32]| {
        let assignments = (0..)
            .zip(nodes)
            .map(|(partition_index, node)| CreatableReplicaAssignment {
                partition_index,
                broker_ids: vec![*node],
            })
            .collect();
        let mut request = create_request(name, -1, &[]);
        request.topics[0].replication_factor = -1;
        request.topics[0].assignments = assignments;
        let result = client.ask(7, &request).topics.pop().unwrap();
        (result.error_code, result.num_partitions)
    };
    assert_eq!(ask("t", &[1, 1]), (ErrorCode::NONE, 2));
    assert_eq!(ask("u", &[1, 2]).0, ErrorCode::INVALID_REPLICA_ASSIGNMENT);
}

#[test]
fn topics_are_deleted_by_name_or_by_id() {
    let (_node, mut client) = start();
    let id = create(&mut client, "a", 1, &[]);
    create(&mut client, "b", 1, &[]);
    let topic = DeleteTopicState { name: None, topic_id: id };
    let request = DeleteTopicsRequest { topics: vec![topic], timeout_ms: 1_000, ..Default::default() };
    let result = client.ask(6, &request).responses.pop().unwrap();
    assert_eq!((result.error_code, result.name.as_deref()), (ErrorCode::NONE, Some("a")));
    assert_eq!(client.ask(6, &request).responses[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID);
    assert_eq!(delete(&mut client, "b"), ErrorCode::NONE);
    assert_eq!(delete(&mut client, "b"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert!(names(&mut client, 9, None).is_empty());
}

fn grow(client: &mut Client, name: &str, count: i32, validate_only: bool) -> ErrorCode {
    let topic = CreatePartitionsTopic { name, count, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic], timeout_ms: 1_000, validate_only };
    client.ask(3, &request).results.pop().expect("an answer for the topic").error_code
}

#[test]
fn partitions_can_be_added_and_never_taken_away() {
    let (mut node, mut client) = start();
    create(&mut client, "t", 2, &[]);
    produce(&mut client, "t", 1, &batch(&["kept"]));
    assert_eq!(grow(&mut client, "t", 4, true), ErrorCode::NONE);
    assert_eq!(described(&mut client, "t").partitions.len(), 2, "checked only");
    assert_eq!(grow(&mut client, "t", 4, false), ErrorCode::NONE);
    assert_eq!(produce(&mut client, "t", 3, &batch(&["new"])).error_code, ErrorCode::NONE);
    for count in [4, 3, 0, -1] {
        assert_eq!(grow(&mut client, "t", count, false), ErrorCode::INVALID_PARTITIONS, "{count}");
    }
    assert_eq!(grow(&mut client, "nowhere", 4, false), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    node.crash_and_start_again();
    let mut client = node.client();
    assert_eq!(described(&mut client, "t").partitions.len(), 4);
    assert_eq!(fetch_all(&mut client, "t", 3).len(), 1);
}

fn delete_records(client: &mut Client, partition_index: i32, offset: i64) -> DeleteRecordsPartitionResult {
    let wanted = DeleteRecordsPartition { partition_index, offset };
    let topic = DeleteRecordsTopic { name: "t", partitions: vec![wanted] };
    let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 1_000 };
    client.ask(2, &request).topics.pop().unwrap().partitions.pop().unwrap()
}

#[test]
fn deleted_records_move_the_start_for_good() {
    let (mut node, mut client) = start();
    create(&mut client, "t", 1, &[]);
    for value in ["a", "b", "c", "d"] {
        produce(&mut client, "t", 0, &batch(&[value]));
    }
    let result = delete_records(&mut client, 0, 2);
    assert_eq!((result.error_code, result.low_watermark), (ErrorCode::NONE, 2));
    assert_eq!(fetch(&mut client, "t", 0, 1).error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(offset_at(&mut client, "t", 0, -2).offset, 2);
    assert_eq!(fetch(&mut client, "t", 0, 2).log_start_offset, 2);
    assert_eq!(delete_records(&mut client, 0, 1).low_watermark, 2, "it does not move back");
    assert_eq!(delete_records(&mut client, 0, 5).error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(delete_records(&mut client, 0, -2).error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    assert_eq!(delete_records(&mut client, 1, 0).error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    node.crash_and_start_again();
    let mut client = node.client();
    assert_eq!(offset_at(&mut client, "t", 0, -2).offset, 2);
    assert_eq!(delete_records(&mut client, 0, -1).low_watermark, 4, "-1 is the high watermark");
    assert!(fetch_all(&mut client, "t", 0).is_empty());
    assert_eq!(produce(&mut client, "t", 0, &batch(&["e"])).base_offset, 4, "offsets are not used again");
}

#[test]
fn a_start_in_the_middle_of_a_batch_hides_what_is_before_it() {
    let (_node, mut client) = start();
    create(&mut client, "t", 1, &[]);
    produce(&mut client, "t", 0, &batch(&["a", "b", "c"]));
    assert_eq!(delete_records(&mut client, 0, 1).low_watermark, 1);
    assert_eq!(fetch_all(&mut client, "t", 0), [(1, "b".to_owned()), (2, "c".to_owned())]);
}
