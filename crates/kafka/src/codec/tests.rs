//! What holds for every API at every version.

use wire::{Reader, Result, Writer};

use super::api::*;
use super::sample::{Rng, Sample};
use super::*;

/// One message of the protocol, as the tests handle all of them alike.
pub(crate) struct Case {
    pub(crate) key: ApiKey,
    /// The structure's name.
    pub(crate) name: &'static str,
    /// Writes a random value, reads it back, compares, and returns the bytes.
    pub(crate) round_trip: fn(&mut Rng, Version) -> Vec<u8>,
    /// Reads `bytes` as far as they make sense and writes what was understood.
    pub(crate) rewrite: fn(&[u8], Version) -> Result<Vec<u8>>,
}

macro_rules! cases {
    ($($module:ident: $key:ident, $request:ident, $response:ident;)*) => {
        /// Every message of every API.
        pub(crate) const CASES: &[Case] = &[$(
            cases!(@ $key, $module::$request, $request),
            cases!(@ $key, $module::$response, $response),
        )*];
    };
    (@ $key:ident, $ty:path, $name:ident) => {
        Case {
            key: ApiKey::$key,
            name: stringify!($name),
            round_trip: |rng, version| {
                let value = <$ty>::sample(rng, version);
                let bytes = written(&value, version);
                let mut reader = Reader::new(&bytes);
                let read = <$ty>::read(&mut reader, version);
                assert_eq!(read.as_ref(), Ok(&value), "{} {version:?}", stringify!($name));
                assert_eq!(reader.finish(), Ok(()), "{} {version:?}", stringify!($name));
                bytes
            },
            rewrite: |bytes, version| {
                <$ty>::read(&mut Reader::new(bytes), version).map(|value| written(&value, version))
            },
        }
    };
}

fn written<'a>(value: &impl Field<'a>, version: Version) -> Vec<u8> {
    let mut writer = Writer::new();
    value.write(&mut writer, version);
    writer.into_bytes().to_vec()
}

cases! {
    produce: Produce, ProduceRequest, ProduceResponse;
    fetch: Fetch, FetchRequest, FetchResponse;
    list_offsets: ListOffsets, ListOffsetsRequest, ListOffsetsResponse;
    metadata: Metadata, MetadataRequest, MetadataResponse;
    offset_commit: OffsetCommit, OffsetCommitRequest, OffsetCommitResponse;
    offset_fetch: OffsetFetch, OffsetFetchRequest, OffsetFetchResponse;
    find_coordinator: FindCoordinator, FindCoordinatorRequest, FindCoordinatorResponse;
    join_group: JoinGroup, JoinGroupRequest, JoinGroupResponse;
    heartbeat: Heartbeat, HeartbeatRequest, HeartbeatResponse;
    leave_group: LeaveGroup, LeaveGroupRequest, LeaveGroupResponse;
    sync_group: SyncGroup, SyncGroupRequest, SyncGroupResponse;
    describe_groups: DescribeGroups, DescribeGroupsRequest, DescribeGroupsResponse;
    list_groups: ListGroups, ListGroupsRequest, ListGroupsResponse;
    sasl_handshake: SaslHandshake, SaslHandshakeRequest, SaslHandshakeResponse;
    api_versions: ApiVersions, ApiVersionsRequest, ApiVersionsResponse;
    create_topics: CreateTopics, CreateTopicsRequest, CreateTopicsResponse;
    delete_topics: DeleteTopics, DeleteTopicsRequest, DeleteTopicsResponse;
    delete_records: DeleteRecords, DeleteRecordsRequest, DeleteRecordsResponse;
    init_producer_id: InitProducerId, InitProducerIdRequest, InitProducerIdResponse;
    offset_for_leader_epoch: OffsetForLeaderEpoch, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse;
    describe_configs: DescribeConfigs, DescribeConfigsRequest, DescribeConfigsResponse;
    alter_configs: AlterConfigs, AlterConfigsRequest, AlterConfigsResponse;
    describe_log_dirs: DescribeLogDirs, DescribeLogDirsRequest, DescribeLogDirsResponse;
    sasl_authenticate: SaslAuthenticate, SaslAuthenticateRequest, SaslAuthenticateResponse;
    create_partitions: CreatePartitions, CreatePartitionsRequest, CreatePartitionsResponse;
    delete_groups: DeleteGroups, DeleteGroupsRequest, DeleteGroupsResponse;
    elect_leaders: ElectLeaders, ElectLeadersRequest, ElectLeadersResponse;
    incremental_alter_configs: IncrementalAlterConfigs, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse;
    alter_partition_reassignments: AlterPartitionReassignments, AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse;
    list_partition_reassignments: ListPartitionReassignments, ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse;
    offset_delete: OffsetDelete, OffsetDeleteRequest, OffsetDeleteResponse;
    describe_user_scram_credentials: DescribeUserScramCredentials, DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse;
    alter_user_scram_credentials: AlterUserScramCredentials, AlterUserScramCredentialsRequest, AlterUserScramCredentialsResponse;
    describe_quorum: DescribeQuorum, DescribeQuorumRequest, DescribeQuorumResponse;
    describe_cluster: DescribeCluster, DescribeClusterRequest, DescribeClusterResponse;
    describe_producers: DescribeProducers, DescribeProducersRequest, DescribeProducersResponse;
    list_config_resources: ListConfigResources, ListConfigResourcesRequest, ListConfigResourcesResponse;
    describe_topic_partitions: DescribeTopicPartitions, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse;
}

/// Every version that can be on the wire, with each of an API's two messages.
pub(crate) fn each_version(mut check: impl FnMut(&Case, Version)) {
    for case in CASES {
        let api = case.key.api();
        for number in api.shown_min..=api.max {
            check(case, api.version(number));
        }
    }
}

#[test]
fn every_message_survives_a_round_trip_at_every_version() {
    let mut rng = Rng::new(1);
    each_version(|case, version| {
        for _ in 0..20 {
            (case.round_trip)(&mut rng, version);
        }
    });
}

#[test]
fn every_api_of_the_table_has_its_messages_here() {
    assert_eq!(CASES.len(), TABLE.len() * 2);
    for (pair, api) in CASES.chunks(2).zip(TABLE) {
        assert_eq!(pair[0].key, api.key);
        assert_eq!(pair[0].name, format!("{}Request", api.name));
        assert_eq!(pair[1].name, format!("{}Response", api.name));
        assert_eq!(Api::by_number(api.key.number()), Some(*api));
    }
}

/// Lines of "structure version hexadecimal bytes", each read and written back byte for byte by kafka-clients 4.2.0.
const GOLDEN: &str = include_str!("golden.txt");

/// The random messages that the golden file holds: some of every structure at every version it is served in.
fn golden_lines() -> Vec<String> {
    let mut rng = Rng::new(42);
    let mut lines = Vec::new();
    each_version(|case, version| {
        if case.key.api().serves(version.number) {
            for _ in 0..2 {
                let bytes = (case.round_trip)(&mut rng, version);
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                lines.push(format!("{} {} {hex}", case.name, version.number));
            }
        }
    });
    lines
}

/// When a declaration changes on purpose, what this prints is the new file, once the original has read it.
#[test]
fn messages_are_written_as_the_original_writes_them() {
    let lines = golden_lines();
    let changed = lines.iter().zip(GOLDEN.lines()).find(|(ours, golden)| ours != golden);
    if changed.is_some() || lines.len() != GOLDEN.lines().count() {
        println!("{}", lines.join("\n"));
        panic!("first difference: {changed:?}");
    }
}

/// Whatever `bytes` are, each decoder of `api` ends on them without a panic; what it did understand survives another
/// round.
pub(crate) fn fuzz_bodies(case: &Case, version: Version, bytes: &[u8]) {
    if let Ok(once) = (case.rewrite)(bytes, version) {
        assert_eq!((case.rewrite)(&once, version).as_ref(), Ok(&once), "{} {version:?}", case.name);
    }
}

#[test]
fn a_message_cut_short_anywhere_is_refused() {
    let mut rng = Rng::new(4);
    each_version(|case, version| {
        let bytes = (case.round_trip)(&mut rng, version);
        for len in 0..bytes.len() {
            assert!(
                (case.rewrite)(&bytes[..len], version).is_err(),
                "{} {version:?} cut to {len}",
                case.name
            );
        }
    });
}

#[test]
fn a_count_that_the_frame_cannot_hold_is_refused_before_anything_is_reserved() {
    let huge = [&[0x7f, 0xff, 0xff, 0xff][..], &[0; 64]].concat();
    let version = Version { number: 0, flexible: false };
    assert!(<Vec<i32>>::read(&mut Reader::new(&huge), version).is_err());
    let huge = [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0; 64]].concat();
    let version = Version { number: 0, flexible: true };
    assert!(<Vec<i32>>::read(&mut Reader::new(&huge), version).is_err());
    let negative = [&[0xff, 0xff, 0xff, 0xfe][..], &[0; 64]].concat();
    let version = Version { number: 0, flexible: false };
    assert_eq!(<Vec<i32>>::read(&mut Reader::new(&negative), version), Err(wire::Error::Negative));
}

#[test]
fn a_frame_full_of_tiny_items_is_refused_before_they_are_made() {
    let names = vec![1u8; wire::ITEMS_MAX + 1];
    let mut writer = Writer::new();
    writer.uvarint(names.len() as u64 + 1);
    writer.slice(&names);
    let bytes = writer.into_bytes();
    let version = Version { number: 0, flexible: true };
    assert_eq!(<Vec<&str>>::read(&mut Reader::new(&bytes), version), Err(wire::Error::TooMany));
}
