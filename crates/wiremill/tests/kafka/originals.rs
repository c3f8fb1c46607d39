//! Corners in which a Kafka 4.2.1 was asked what it answers: requests that contradict themselves, that name nothing, or
//! that come where nothing is to be done.

use kafka::codec::{
    ErrorCode, Uuid,
    api::{
        create_partitions::{CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic},
        create_topics::CreateTopicsRequest,
        delete_groups::DeleteGroupsRequest,
        delete_topics::{DeleteTopicState, DeleteTopicsRequest},
        describe_cluster::DescribeClusterRequest,
        describe_groups::DescribeGroupsRequest,
        elect_leaders::{ElectLeadersRequest, TopicPartitions},
        fetch::{FetchRequest, ForgottenTopic},
        init_producer_id::InitProducerIdRequest,
        list_config_resources::ListConfigResourcesRequest,
        list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        metadata::{MetadataRequest, MetadataRequestTopic},
        sync_group::SyncGroupRequest,
    },
};

use crate::{
    client::Client,
    members::{
        commit_alone, committed, group_of_one, heartbeat, join_request, leader_sync_request, new_member_id,
        sync_request,
    },
    node::Node,
    process::until,
    usual::{FETCH_BY_NAME, batch, create, create_request, described, fetch_request, produce, try_create},
};

fn start() -> (Node, Client) {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 2, &[]);
    (node, client)
}

fn partition_count(client: &mut Client) -> usize {
    described(client, "t").partitions.len()
}

#[test]
fn a_topic_that_is_named_twice_to_be_created_or_grown_is_refused_once_and_stays_as_it_was() {
    let (_node, mut client) = start();
    let topics = vec![create_request("u", 1, &[]).topics.pop().unwrap(); 2];
    let answer = client.ask(7, &CreateTopicsRequest { topics, ..Default::default() }).topics;
    assert_eq!(answer.iter().map(|t| t.error_code).collect::<Vec<_>>(), [ErrorCode::INVALID_REQUEST]);
    assert_eq!(described(&mut client, "u").error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    let topic = CreatePartitionsTopic { name: "t", count: 5, assignments: None };
    let topics = vec![topic; 2];
    let request = CreatePartitionsRequest { topics, timeout_ms: 1_000, validate_only: false };
    let answer = client.ask(3, &request).results;
    assert_eq!(answer.iter().map(|t| t.error_code).collect::<Vec<_>>(), [ErrorCode::INVALID_REQUEST]);
    assert_eq!(partition_count(&mut client), 2);
}

#[test]
fn new_partitions_are_assigned_to_this_node_one_list_each() {
    let (_node, mut client) = start();
    let mut grow = |count, lists: &[&[i32]]| {
        let list = |nodes: &&[i32]| CreatePartitionsAssignment { broker_ids: nodes.to_vec() };
        let assignments = Some(lists.iter().map(list).collect());
        let topics = vec![CreatePartitionsTopic { name: "t", count, assignments }];
        let request = CreatePartitionsRequest { topics, timeout_ms: 1_000, validate_only: false };
        client.ask(3, &request).results[0].error_code
    };
    assert_eq!(grow(3, &[&[2]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(grow(4, &[&[1]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(grow(3, &[&[]]), ErrorCode::INVALID_REPLICA_ASSIGNMENT);
    assert_eq!(grow(3, &[&[1]]), ErrorCode::NONE);
    assert_eq!(partition_count(&mut client), 3);
}

#[test]
fn a_deletion_that_contradicts_itself_deletes_nothing() {
    let (_node, mut client) = start();
    let id = described(&mut client, "t").topic_id;
    let by_name = || DeleteTopicState { name: Some("t"), topic_id: Uuid::ZERO };
    let by_id = || DeleteTopicState { name: None, topic_id: id };
    let cases = [
        ("neither name nor id", vec![DeleteTopicState { name: None, topic_id: Uuid::ZERO }], 1),
        ("both in one", vec![DeleteTopicState { name: Some("t"), topic_id: id }], 1),
        ("a name twice", vec![by_name(), by_name()], 1),
        ("an id twice", vec![by_id(), by_id()], 1),
        ("a name and its id", vec![by_name(), by_id()], 2),
    ];
    for (what, topics, answers) in cases {
        let request = DeleteTopicsRequest { topics, timeout_ms: 1_000, ..Default::default() };
        let answer = client.ask(6, &request).responses;
        assert_eq!(answer.len(), answers, "{what}");
        assert!(answer.iter().all(|t| t.error_code == ErrorCode::INVALID_REQUEST), "{what}: {answer:?}");
        assert_eq!(partition_count(&mut client), 2, "{what}");
    }
    let request =
        DeleteTopicsRequest { topic_names: vec!["t", "t"], timeout_ms: 1_000, ..Default::default() };
    let answer = client.ask(1, &request).responses;
    assert_eq!(answer.iter().map(|t| t.error_code).collect::<Vec<_>>(), [ErrorCode::INVALID_REQUEST]);
    assert_eq!(partition_count(&mut client), 2);
}

#[test]
fn the_topic_of_the_quorum_s_metadata_is_nobody_s_to_create() {
    let (_node, mut client) = start();
    let refused = try_create(&mut client, "__cluster_metadata", 1, &[]);
    assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST);
    let topic = MetadataRequestTopic { name: Some("__cluster_metadata"), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
    assert_ne!(client.ask(9, &request).topics[0].error_code, ErrorCode::NONE);
}

#[test]
fn metadata_goes_by_the_id_where_a_name_comes_with_it() {
    let (_node, mut client) = start();
    let id = described(&mut client, "t").topic_id;
    for (topic_id, code) in [(id, ErrorCode::NONE), (Uuid([7; 16]), ErrorCode::UNKNOWN_TOPIC_ID)] {
        let topic = MetadataRequestTopic { topic_id, name: Some("t") };
        let request = MetadataRequest { topics: Some(vec![topic]), ..Default::default() };
        assert_eq!(client.ask(13, &request).topics[0].error_code, code);
    }
}

#[test]
fn an_election_of_all_names_the_topics_and_no_partition_that_needs_none() {
    let (_node, mut client) = start();
    let ask = |client: &mut Client, election_type, topic_partitions| {
        let request = ElectLeadersRequest { election_type, topic_partitions, timeout_ms: 1_000 };
        client.ask(2, &request)
    };
    for election_type in [0, 1] {
        let answer = ask(&mut client, election_type, None);
        assert_eq!(answer.error_code, ErrorCode::NONE);
        let [topic] = &answer.replica_election_results[..] else { panic!("{answer:?}") };
        assert_eq!((topic.topic.as_ref(), topic.partition_result.len()), ("t", 0));
    }
    let named = || Some(vec![TopicPartitions { topic: "t", partitions: vec![0, 9] }]);
    let codes = |answer: kafka::codec::api::elect_leaders::ElectLeadersResponse<'static>| {
        let results = &answer.replica_election_results[0].partition_result;
        results.iter().map(|p| p.error_code).collect::<Vec<_>>()
    };
    let expected = [ErrorCode::ELECTION_NOT_NEEDED, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION];
    assert_eq!(codes(ask(&mut client, 0, named())), expected);
    let unknown_type = ask(&mut client, 7, named());
    assert_eq!(unknown_type.error_code, ErrorCode::INVALID_REQUEST);
    assert_eq!(codes(unknown_type), [ErrorCode::INVALID_REQUEST; 2]);
}

#[test]
fn controllers_have_no_endpoint_here_and_other_kinds_of_endpoint_are_unknown() {
    let (_node, mut client) = start();
    for (endpoint_type, code) in [
        (1, ErrorCode::NONE),
        (2, ErrorCode::MISMATCHED_ENDPOINT_TYPE),
        (7, ErrorCode::UNSUPPORTED_ENDPOINT_TYPE),
    ] {
        let request = DescribeClusterRequest { endpoint_type, ..Default::default() };
        assert_eq!(client.ask(2, &request).error_code, code, "{endpoint_type}");
    }
}

#[test]
fn kinds_of_configured_things_that_there_are_not_cannot_be_listed() {
    let (_node, mut client) = start();
    let mut list = |resource_types: &[i8]| {
        let request = ListConfigResourcesRequest { resource_types: resource_types.to_vec() };
        let answer = client.ask(1, &request);
        let all = answer.config_resources.iter().map(|r| (r.resource_type, r.resource_name.to_string()));
        (answer.error_code, all.collect::<Vec<_>>())
    };
    assert_eq!(list(&[2, 4, 16, 32]), (ErrorCode::NONE, vec![(2, "t".to_owned()), (4, "1".to_owned())]));
    assert_eq!(list(&[3]), (ErrorCode::UNSUPPORTED_VERSION, vec![]));
}

#[test]
fn a_partition_that_is_asked_about_twice_in_list_offsets_is_refused() {
    let (_node, mut client) = start();
    let wanted =
        |partition_index| ListOffsetsPartition { partition_index, timestamp: -1, ..Default::default() };
    let topics = vec![ListOffsetsTopic { name: "t", partitions: vec![wanted(0), wanted(1), wanted(0)] }];
    let request = ListOffsetsRequest { replica_id: -1, topics, ..Default::default() };
    let answer = client.ask(7, &request).topics.pop().unwrap().partitions;
    let codes: Vec<_> = answer.iter().map(|p| (p.partition_index, p.error_code)).collect();
    assert_eq!(codes, [(0, ErrorCode::INVALID_REQUEST), (1, ErrorCode::NONE)]);
}

#[test]
fn a_group_without_a_name_has_offsets_and_no_members() {
    let (_node, mut client) = start();
    assert_eq!(client.ask(9, &join_request("", "")).error_code, ErrorCode::INVALID_GROUP_ID);
    assert_eq!(client.ask(5, &sync_request("", 1, "m")).error_code, ErrorCode::INVALID_GROUP_ID);
    assert_eq!(heartbeat(&mut client, "", 1, "m"), ErrorCode::INVALID_GROUP_ID);
    assert_eq!(commit_alone(&mut client, "", 5), ErrorCode::NONE);
    assert_eq!(committed(&mut client, "").committed_offset, 5);
    let request = DeleteGroupsRequest { groups_names: vec!["", ""] };
    let results = client.ask(2, &request).results;
    assert_eq!(results.iter().map(|r| r.error_code).collect::<Vec<_>>(), [ErrorCode::NONE]);
    assert_eq!(committed(&mut client, "").committed_offset, -1);
}

/// KIP-559.
#[test]
fn a_sync_from_version_5_on_says_which_protocol_it_follows() {
    let (_node, mut client) = start();
    let joined = crate::members::join(&mut client, "g");
    let whole = || leader_sync_request("g", &joined);
    for lacking in [
        SyncGroupRequest { protocol_type: None, ..whole() },
        SyncGroupRequest { protocol_name: None, ..whole() },
    ] {
        assert_eq!(client.ask(5, &lacking).error_code, ErrorCode::INCONSISTENT_GROUP_PROTOCOL);
    }
    let synced = client.ask(4, &whole());
    assert_eq!((synced.error_code, synced.assignment.len()), (ErrorCode::NONE, joined.member_id.len()));
}

#[test]
fn a_member_s_last_assignment_is_shown_while_its_group_rebalances() {
    let (node, mut client) = start();
    let member = group_of_one(&mut client, "g").member_id;
    let mut other = node.client();
    let id = new_member_id(&mut other, "g");
    other.send(9, &join_request("g", &id));
    until("the group rebalances", || heartbeat(&mut client, "g", 1, &member) != ErrorCode::NONE);
    let request = DescribeGroupsRequest { groups: vec!["g"], ..Default::default() };
    let group = client.ask(6, &request).groups.pop().unwrap();
    assert_eq!((group.group_state.as_ref(), group.protocol_data.as_ref()), ("PreparingRebalance", ""));
    let shown = |id: &str| {
        let member = group.members.iter().find(|m| m.member_id == id).unwrap();
        (member.member_metadata.len(), member.member_assignment.to_vec())
    };
    assert_eq!(shown(&member), (0, member.as_bytes().to_vec()));
    assert_eq!(shown(&id), (0, Vec::new()));
}

#[test]
fn a_session_that_has_forgotten_everything_ends() {
    let (_node, mut client) = start();
    let mut first = fetch_request("t", 0, 0);
    first.session_epoch = 0;
    let id = client.ask(FETCH_BY_NAME, &first).session_id;
    assert!(id > 0);
    let forgotten = ForgottenTopic { topic: "t", topic_id: Uuid::ZERO, partitions: vec![0] };
    let next = |session_epoch, forgotten_topics_data| FetchRequest {
        session_id: id,
        session_epoch,
        forgotten_topics_data,
        ..Default::default()
    };
    let answer = client.ask(FETCH_BY_NAME, &next(1, vec![forgotten]));
    assert_eq!((answer.error_code, answer.session_id, answer.responses.len()), (ErrorCode::NONE, 0, 0));
    let gone = client.ask(FETCH_BY_NAME, &next(2, Vec::new()));
    assert_eq!(gone.error_code, ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
}

#[test]
fn a_reader_that_has_records_of_an_epoch_that_is_not_known_has_to_look_where_the_log_ends() {
    let (_node, mut client) = start();
    produce(&mut client, "t", 0, &batch(&["a", "b"]));
    let epoch = described(&mut client, "t").partitions[0].leader_epoch;
    let mut ask = |last_fetched_epoch, offset| {
        let mut request = fetch_request("t", 0, offset);
        request.topics[0].partitions[0].last_fetched_epoch = last_fetched_epoch;
        client.ask(FETCH_BY_NAME, &request).responses.pop().unwrap().partitions.pop().unwrap()
    };
    assert_eq!(ask(epoch + 9, 0).error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    let parts = ask(epoch, 7);
    assert_eq!((parts.error_code, parts.diverging_epoch.end_offset), (ErrorCode::NONE, 2));
    assert_eq!((parts.high_watermark, parts.last_stable_offset, parts.log_start_offset), (2, 2, 0));
    assert_eq!(ask(epoch, 2).diverging_epoch.epoch, -1);
}

#[test]
fn a_transactional_id_without_a_character_is_no_id() {
    let (_node, mut client) = start();
    let request = InitProducerIdRequest { transactional_id: Some(""), ..Default::default() };
    assert_eq!(client.ask(5, &request).error_code, ErrorCode::INVALID_REQUEST);
}
