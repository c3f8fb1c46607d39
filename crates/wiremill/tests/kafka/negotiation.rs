//! Which versions are shown and served, and what happens to a request for others.

use kafka::codec::{
    ApiKey, ErrorCode, Records, TABLE,
    api::{
        api_versions::{ApiVersionsRequest, ApiVersionsResponse},
        metadata::MetadataRequest,
        produce::{PartitionProduceData, ProduceRequest, TopicProduceData},
    },
    decode_response,
};

use crate::{
    node::Node,
    usual::{batch, create, fetch_all, produce_as},
};

const WHO: ApiVersionsRequest<'_> =
    ApiVersionsRequest { client_software_name: "wire-test", client_software_version: "1" };

/// A request that is nothing but a header: key, version, correlation id 7, no client id.
fn header(key: i16, version: i16) -> Vec<u8> {
    let mut frame = 10u32.to_be_bytes().to_vec();
    frame.extend(key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(7i32.to_be_bytes());
    frame.extend((-1i16).to_be_bytes());
    frame
}

fn range(answer: &ApiVersionsResponse<'_>, key: ApiKey) -> Option<(i16, i16)> {
    let found = answer.api_keys.iter().find(|api| api.api_key == key.number());
    found.map(|api| (api.min_version, api.max_version))
}

#[test]
fn the_versions_of_kafka_4_2_are_shown() {
    let node = Node::start();
    let mut client = node.client();
    for version in 0..=4 {
        let answer = client.ask(version, &WHO);
        assert_eq!(answer.error_code, ErrorCode::NONE);
        assert_eq!(answer.api_keys.len(), TABLE.len());
        assert_eq!(range(&answer, ApiKey::Fetch), Some((4, 18)));
        assert_eq!(range(&answer, ApiKey::JoinGroup), Some((0, 9)), "old clients look for JoinGroup 0");
        assert_eq!(range(&answer, ApiKey::SaslHandshake), Some((0, 1)));
    }
}

#[test]
fn no_transactions_share_groups_or_broker_requests_are_shown() {
    let node = Node::start();
    let answer = node.client().api_versions();
    let hidden = [4, 5, 6, 7, 24, 25, 26, 27, 28, 29, 30, 31, 48, 49, 52, 68, 69, 71, 72, 76, 78, 83];
    for key in hidden {
        assert!(answer.api_keys.iter().all(|api| api.api_key != key), "API {key} is shown but not served");
    }
    let features: Vec<&str> = answer.finalized_features.iter().map(|f| f.name.as_ref()).collect();
    assert_eq!(features, ["metadata.version"]);
    assert!(answer.finalized_features_epoch >= 0, "franz-go ignores features of a negative epoch");
}

/// KIP-511: the client learns from a version 0 answer which version to ask with.
#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0_with_our_range() {
    let node = Node::start();
    let mut client = node.client();
    for version in [5, 99, i16::MAX, -1] {
        client.send_bytes(&header(18, version));
        let frame = client.receive().expect("an answer, not a close");
        let (correlation, answer) = decode_response::<ApiVersionsRequest<'_>>(&frame, 0).unwrap();
        assert_eq!((correlation, answer.error_code), (7, ErrorCode::UNSUPPORTED_VERSION));
        assert_eq!(range(&answer, ApiKey::ApiVersions), Some((0, 4)));
        assert_eq!(answer.api_keys.len(), 1);
    }
    assert!(client.api_versions().error_code.is_none(), "the same connection goes on");
}

#[test]
fn a_client_that_names_itself_wrongly_is_told_so() {
    let node = Node::start();
    let mut client = node.client();
    for (name, version) in [("", "1"), ("-a", "1"), ("a", "1 2"), ("a b", "1"), ("a", "")] {
        let who = ApiVersionsRequest { client_software_name: name, client_software_version: version };
        assert_eq!(client.ask(3, &who).error_code, ErrorCode::INVALID_REQUEST, "{name:?} {version:?}");
    }
}

#[test]
fn an_api_or_version_that_is_not_served_closes_the_connection() {
    let node = Node::start();
    let mut others = node.client();
    let unserved = [
        (4, 0),
        (24, 0),
        (29, 1),
        (68, 0),
        (99, 0),
        (-1, 0),
        (i16::MAX, 0),
        (1, 3),
        (1, 19),
        (3, 14),
        (3, -1),
        (0, 14),
        (8, 1),
        (19, 1),
    ];
    for (key, version) in unserved {
        let mut client = node.client();
        client.send_bytes(&header(key, version));
        assert!(client.is_closed(), "API {key} version {version}");
    }
    assert!(others.api_versions().error_code.is_none());
}

/// KAFKA-18659: librdkafka before 2.12 looks for Produce 0 and gives up compression without it.
#[test]
fn produce_is_shown_from_version_0_and_refused_below_3() {
    let node = Node::start();
    let mut client = node.client();
    assert_eq!(range(&client.api_versions(), ApiKey::Produce), Some((0, 13)));
    create(&mut client, "t", 1, &[]);
    for version in 0..=2 {
        let answer = produce_as(&mut client, version, -1, "t", 0, &batch(&["x"]));
        assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_FOR_MESSAGE_FORMAT, "version {version}");
        assert_eq!(answer.base_offset, -1);
    }
    assert!(fetch_all(&mut client, "t", 0).is_empty());
}

#[test]
fn every_produce_version_appends() {
    let node = Node::start();
    let mut client = node.client();
    let topic_id = create(&mut client, "t", 1, &[]);
    for version in 3..=12 {
        let answer = produce_as(&mut client, version, -1, "t", 0, &batch(&[&version.to_string()]));
        assert_eq!((answer.error_code, answer.base_offset), (ErrorCode::NONE, i64::from(version) - 3));
    }
    let records = batch(&["13"]);
    let data = PartitionProduceData { index: 0, records: Some(Records::Slice(&records)) };
    let topic = TopicProduceData { name: "", topic_id, partition_data: vec![data] };
    let request = ProduceRequest { acks: -1, topic_data: vec![topic], ..Default::default() };
    let answer = client.ask(13, &request);
    assert_eq!(answer.responses[0].topic_id, topic_id);
    assert_eq!(answer.responses[0].partition_responses[0].base_offset, 10);
    let values: Vec<String> = fetch_all(&mut client, "t", 0).into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, (3..=13).map(|version| version.to_string()).collect::<Vec<_>>());
}

#[test]
fn every_metadata_version_names_this_node_and_the_topic() {
    let node = Node::start();
    let mut client = node.client();
    create(&mut client, "t", 3, &[]);
    let (host, port) = node.address().rsplit_once(':').unwrap();
    for version in 0..=13 {
        let topics = (version == 0).then(Vec::new);
        let all = MetadataRequest { topics, ..Default::default() };
        let answer = client.ask(version, &all);
        assert_eq!(answer.brokers.len(), 1);
        assert_eq!(
            answer.brokers[0].host, host,
            "an address as text of numbers, which no resolver turns to ::1"
        );
        assert_eq!(answer.brokers[0].port.to_string(), port);
        assert_eq!(answer.topics.len(), 1, "version {version}");
        let topic = &answer.topics[0];
        assert_eq!(topic.name.as_deref(), Some("t"));
        assert_eq!(topic.topic_id.is_zero(), version < 10);
        assert_eq!(topic.partitions.iter().map(|p| p.partition_index).collect::<Vec<_>>(), [0, 1, 2]);
        assert!(topic.partitions.iter().all(|p| p.leader_id == answer.brokers[0].node_id));
    }
}
