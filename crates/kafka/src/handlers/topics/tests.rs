use broker::{Effect, Facets, Mode, Permission, StreamSettings, StreamSpec};
use model::StreamKey;

use super::*;
use crate::{
    Options,
    codec::api::{
        alter_configs::{AlterConfigsRequest, AlterConfigsResource},
        create_topics::{CreatableTopic, CreateTopicsRequest},
        delete_groups::DeleteGroupsRequest,
        delete_records::{DeleteRecordsPartition, DeleteRecordsTopic},
        delete_topics::DeleteTopicState,
        describe_configs::{DescribeConfigsRequest, DescribeConfigsResource},
        describe_producers::{self, DescribeProducersRequest},
        describe_topic_partitions::{Cursor, DescribeTopicPartitionsRequest, TopicRequest},
        list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic},
        metadata::{MetadataRequest, MetadataRequestTopic},
        offset_commit::{OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic},
        offset_delete::{OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic},
        offset_fetch::{OffsetFetchRequest, OffsetFetchRequestTopic},
        offset_for_leader_epoch::{
            OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
        },
    },
    codec::{ApiKey, decode_response},
    handlers::{
        configs, create_topics, groups, list_offsets, metadata, offset_commit, offset_fetch, producers,
    },
    testing::{Rig, counting_waits},
};

const DENIED: ErrorCode = ErrorCode::TOPIC_AUTHORIZATION_FAILED;

async fn delete_named(ctx: &Ctx, names: &[&str]) -> Vec<ErrorCode> {
    let state = |name: &&'static str| DeleteTopicState { name: Some(name), topic_id: Uuid::ZERO };
    let names: Vec<&'static str> = names.iter().map(|name| &*(*name).to_owned().leak()).collect();
    let request = DeleteTopicsRequest { topics: names.iter().map(state).collect(), ..Default::default() };
    delete_topics(ctx, request).await.responses.iter().map(|response| response.error_code).collect()
}

async fn trim(ctx: &Ctx, name: &str) -> ErrorCode {
    let partitions = vec![DeleteRecordsPartition { partition_index: 0, offset: -1 }];
    let request =
        DeleteRecordsRequest { topics: vec![DeleteRecordsTopic { name, partitions }], ..Default::default() };
    delete_records(ctx, request).await.topics[0].partitions[0].error_code
}

async fn grow(ctx: &Ctx, name: &str) -> ErrorCode {
    let topic = CreatePartitionsTopic { name, count: 2, assignments: None };
    let request = CreatePartitionsRequest { topics: vec![topic], ..Default::default() };
    create_partitions(ctx, request).await.results[0].error_code
}

async fn configure(ctx: &Ctx, name: &str) -> ErrorCode {
    let resource = AlterConfigsResource { resource_type: 2, resource_name: name, configs: Vec::new() };
    let request = AlterConfigsRequest { resources: vec![resource], validate_only: false };
    configs::alter_configs(ctx, request).await.responses[0].error_code
}

async fn show_configs(ctx: &Ctx, name: &str) -> ErrorCode {
    let resource =
        DescribeConfigsResource { resource_type: 2, resource_name: name, configuration_keys: None };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let version = ApiKey::DescribeConfigs.api().version(4);
    let answer = configs::describe_configs(ctx, request, version, 1).await.into_bytes().slice(4..);
    let (_, answer) = decode_response::<DescribeConfigsRequest<'_>>(&answer, 4).unwrap();
    answer.results[0].error_code
}

async fn commit(ctx: &Ctx, name: &str) -> ErrorCode {
    let partition = OffsetCommitRequestPartition { committed_offset: 0, ..Default::default() };
    let topic = OffsetCommitRequestTopic { name, partitions: vec![partition], ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: "g",
        generation_id_or_member_epoch: -1,
        retention_time_ms: -1,
        topics: vec![topic],
        ..Default::default()
    };
    offset_commit::offset_commit(ctx, request).await.topics[0].partitions[0].error_code
}

/// What each request that reads through `name` says.
async fn read_through(ctx: &Ctx, name: &str) -> Vec<ErrorCode> {
    let named = MetadataRequestTopic { name: Some(name), ..Default::default() };
    let shown = MetadataRequest { topics: Some(vec![named]), ..Default::default() };
    let paged = DescribeTopicPartitionsRequest { topics: vec![TopicRequest { name }], ..Default::default() };
    let wanted = ListOffsetsPartition { timestamp: -1, current_leader_epoch: -1, ..Default::default() };
    let at = ListOffsetsTopic { name, partitions: vec![wanted] };
    let at = ListOffsetsRequest { topics: vec![at], ..Default::default() };
    let wanted = OffsetForLeaderPartition { current_leader_epoch: -1, ..Default::default() };
    let epoch = OffsetForLeaderTopic { topic: name, partitions: vec![wanted] };
    let epoch = OffsetForLeaderEpochRequest { topics: vec![epoch], ..Default::default() };
    let fetch = OffsetFetchRequestTopic { name, partition_indexes: vec![0] };
    let fetch = OffsetFetchRequest { group_id: "g", topics: Some(vec![fetch]), ..Default::default() };
    let partitions = vec![OffsetDeleteRequestPartition::default()];
    let forget = OffsetDeleteRequestTopic { name, partitions };
    let forget = OffsetDeleteRequest { group_id: "g", topics: vec![forget] };
    let writers = describe_producers::TopicRequest { name, partition_indexes: vec![0] };
    let writers = DescribeProducersRequest { topics: vec![writers] };
    vec![
        metadata::metadata(ctx, shown).await.topics[0].error_code,
        metadata::describe_topic_partitions(ctx, paged).await.topics[0].error_code,
        show_configs(ctx, name).await,
        list_offsets::list_offsets(ctx, at).await.topics[0].partitions[0].error_code,
        list_offsets::offset_for_leader_epoch(ctx, epoch).await.topics[0].partitions[0].error_code,
        commit(ctx, name).await,
        offset_fetch::offset_fetch(ctx, fetch).await.topics[0].partitions[0].error_code,
        groups::offset_delete(ctx, forget).await.topics[0].partitions[0].error_code,
        producers::describe_producers(ctx, writers).await.topics[0].partitions[0].error_code,
    ]
}

#[tokio::test]
async fn permissions_speak_of_the_stream_and_not_of_the_alias_that_it_is_asked_for_under() {
    let rig = Rig::new();
    let stream = rig.topic("pay/cards", StreamSettings::default()).await;
    let alias = topics::shown_name(stream.key());
    assert_ne!(alias, "pay/cards");
    let all = Permission::allow(Action::Admin, "*");
    let deny = Permission { effect: Effect::Deny, ..Permission::allow(Action::Admin, "pay/*") };
    let denied = rig.ctx_of(2, "public", &[all, deny]);
    // A group that is there.
    rig.topic("other", StreamSettings::default()).await;
    assert_eq!(commit(&rig.ctx(2), "other").await, ErrorCode::NONE);
    let codes = read_through(&denied, &alias).await;
    assert_eq!(codes, vec![DENIED; codes.len()]);
    for code in [
        delete_named(&rig.ctx_of(6, "public", &denied.principal.permissions), &[&alias]).await[0],
        grow(&denied, &alias).await,
        trim(&denied, &alias).await,
        configure(&denied, &alias).await,
    ] {
        assert_eq!(code, DENIED);
    }
    assert!(rig.broker().stream(stream.key()).is_some());

    let allowed = ["pay/*", "g"].map(|name| Permission::allow(Action::Read, name));
    let configures = Permission::allow(Action::Configure, "g");
    let reader = rig.ctx_of(2, "public", &[allowed.to_vec(), vec![configures]].concat());
    let codes = read_through(&reader, &alias).await;
    assert_eq!(codes, vec![ErrorCode::NONE; codes.len()]);
    assert_eq!(configure(&reader, &alias).await, DENIED);
}

#[tokio::test]
async fn the_records_of_a_queue_are_not_deleted_here() {
    let rig = Rig::new();
    let key = StreamKey { kind: Kind::Queue, ..StreamKey::log(&Default::default(), "jobs") };
    let settings = StreamSettings { mode: Mode::Queue, ..StreamSettings::default() };
    let spec = StreamSpec { settings, facets: Facets::default(), ..StreamSpec::with_partitions(1) };
    let queue = rig.broker().create_stream(key, spec).await.unwrap();
    rig.append(&queue, b"work").await;
    assert_eq!(trim(&rig.ctx(2), "jobs").await, ErrorCode::POLICY_VIOLATION);
    assert_eq!(queue.partitions()[0].bounds().start, Offset(0));
}

#[tokio::test]
async fn a_request_about_many_things_waits_for_the_disk_once() {
    let rig = Rig::new();
    let names: Vec<String> = (0..20).map(|number| format!("t{number}")).collect();
    let creatable = |name: &String| CreatableTopic {
        name: name.clone().leak(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let creating =
        CreateTopicsRequest { topics: names.iter().map(creatable).collect(), ..Default::default() };
    let ctx = rig.ctx(6);
    let (_, waits) = counting_waits(create_topics::create_topics(&ctx, creating)).await;
    assert!(waits <= 2, "{waits}");

    let asked = |name| MetadataRequestTopic { name: Some(name), ..Default::default() };
    let others: Vec<String> = (0..20).map(|number| format!("u{number}")).collect();
    let asking = MetadataRequest {
        topics: Some(others.iter().map(|name| asked(name)).collect()),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let (answer, waits) = counting_waits(metadata::metadata(&ctx, asking)).await;
    assert!(answer.topics.iter().all(|topic| topic.error_code.is_none() && topic.partitions.len() == 1));
    assert!(waits <= 2, "{waits}");

    let growing = names.iter().map(|name| CreatePartitionsTopic { name, count: 2, assignments: None });
    let growing = CreatePartitionsRequest { topics: growing.collect(), ..Default::default() };
    let (answer, waits) = counting_waits(create_partitions(&ctx, growing)).await;
    assert!(answer.results.iter().all(|result| result.error_code.is_none()));
    assert!(waits <= 2, "{waits}");

    let partitions = || [0, 1].map(|index| DeleteRecordsPartition { partition_index: index, offset: -1 });
    let trimming = names.iter().map(|name| DeleteRecordsTopic { name, partitions: partitions().into() });
    let trimming = DeleteRecordsRequest { topics: trimming.collect(), ..Default::default() };
    let (answer, waits) = counting_waits(delete_records(&ctx, trimming)).await;
    let mut all = answer.topics.iter().flat_map(|topic| &topic.partitions);
    assert!(all.all(|partition| (partition.error_code, partition.low_watermark) == (ErrorCode::NONE, 0)));
    assert!(waits <= 2, "{waits}");

    let resource = |name| AlterConfigsResource { resource_type: 2, resource_name: name, configs: Vec::new() };
    let altering = AlterConfigsRequest {
        resources: names.iter().map(|name| resource(name.as_str())).collect(),
        validate_only: false,
    };
    let (_, waits) = counting_waits(configs::alter_configs(&ctx, altering)).await;
    assert!(waits <= 2, "{waits}");

    let all: Vec<&str> = names.iter().chain(&others).map(String::as_str).collect();
    let (codes, waits) = counting_waits(delete_named(&ctx, &all)).await;
    assert_eq!(codes, [ErrorCode::NONE; 40]);
    assert!(waits <= 2, "{waits}");
    assert!(topics::list(rig.broker(), &ctx.namespace()).is_empty());

    let groups_names = vec!["g"; 1];
    let gone = groups::delete_groups(&ctx, DeleteGroupsRequest { groups_names }).await;
    assert_eq!(gone.results[0].error_code, ErrorCode::GROUP_ID_NOT_FOUND);
}

#[tokio::test]
async fn asking_for_topics_creates_as_many_partitions_as_a_request_may_and_the_rest_when_asked_again() {
    let rig = Rig::with(Options { num_partitions: 6_000, ..Options::default() });
    let ctx = rig.ctx(6);
    let asked = |name| MetadataRequestTopic { name: Some(name), ..Default::default() };
    let asking = MetadataRequest {
        topics: Some(vec![asked("a"), asked("b")]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    let later = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    for expected in [[ErrorCode::NONE, later], [ErrorCode::NONE; 2]] {
        let answer = metadata::metadata(&ctx, asking.clone()).await;
        assert_eq!([answer.topics[0].error_code, answer.topics[1].error_code], expected);
    }
}

#[tokio::test]
async fn a_page_does_not_begin_before_the_first_partition() {
    let rig = Rig::new();
    rig.topic("t", StreamSettings::default()).await;
    for (partition_index, code) in [(-1, ErrorCode::INVALID_REQUEST), (0, ErrorCode::NONE)] {
        let request = DescribeTopicPartitionsRequest {
            topics: vec![TopicRequest { name: "t" }],
            cursor: Some(Cursor { topic_name: "t".into(), partition_index }),
            ..Default::default()
        };
        let answer = metadata::describe_topic_partitions(&rig.ctx(0), request).await;
        assert_eq!(answer.topics[0].error_code, code, "{partition_index}");
    }
}
