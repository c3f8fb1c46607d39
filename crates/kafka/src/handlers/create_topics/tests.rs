use broker::StreamSpec;
use model::{Kind, StreamKey};

use super::*;
use crate::{
    Options,
    codec::api::metadata::{MetadataRequest, MetadataRequestTopic},
    handlers::metadata::metadata,
    testing::Rig,
};

fn topic(name: &str, replication_factor: i16) -> CreatableTopic<'_> {
    CreatableTopic { name, num_partitions: 1, replication_factor, ..Default::default() }
}

async fn create_one(ctx: &Ctx, topic: CreatableTopic<'_>) -> CreatableTopicResult<'static> {
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    create_topics(ctx, request).await.topics.remove(0)
}

fn asked(name: &str, allow_auto_topic_creation: bool) -> MetadataRequest<'_> {
    let topic = MetadataRequestTopic { name: Some(name), ..Default::default() };
    MetadataRequest { topics: Some(vec![topic]), allow_auto_topic_creation, ..Default::default() }
}

#[tokio::test]
async fn a_replication_factor_that_is_accepted_is_kept_and_shown() {
    let rig = Rig::with(Options { accept_replicas: true, ..Options::default() });
    let ctx = rig.ctx(7);
    assert_eq!(create_one(&ctx, topic("t", 3)).await.error_code, ErrorCode::NONE);
    let shown = metadata(&rig.ctx(12), asked("t", false)).await;
    let partition = &shown.topics[0].partitions[0];
    assert_eq!((&partition.replica_nodes, &partition.isr_nodes), (&vec![1, 1, 1], &vec![1, 1, 1]));
    let refused = create_one(&ctx, topic("u", i16::MAX)).await;
    assert_eq!(refused.error_code, ErrorCode::INVALID_REPLICATION_FACTOR, "answers stay of a sane size");
}

#[tokio::test]
async fn configurations_are_checked_before_places_and_partitions_before_brokers() {
    let rig = Rig::new();
    let ctx = rig.ctx(7);
    let config =
        crate::codec::api::create_topics::CreatableTopicConfig { name: "nonsense", value: Some("1") };
    let wrong = CreatableTopic { configs: vec![config], ..topic("t", 3) };
    assert_eq!(create_one(&ctx, wrong).await.error_code, ErrorCode::INVALID_CONFIG);
    let wrong = CreatableTopic { num_partitions: 0, ..topic("t", 3) };
    assert_eq!(create_one(&ctx, wrong).await.error_code, ErrorCode::INVALID_PARTITIONS);
    assert_eq!(create_one(&ctx, topic("t", 3)).await.error_code, ErrorCode::INVALID_REPLICATION_FACTOR);
}

#[tokio::test]
async fn asking_for_a_queue_s_name_makes_a_topic_only_where_asking_may_create() {
    let rig = Rig::new();
    let ctx = rig.ctx(12);
    let key = StreamKey { kind: Kind::Queue, ..ctx.log_key("jobs") };
    let queue = rig.broker().create_stream(key, StreamSpec::with_partitions(1)).await.unwrap();
    let looked = metadata(&ctx, asked("jobs", false)).await;
    assert_eq!(looked.topics[0].topic_id, topic_id(&queue));
    let made = metadata(&ctx, asked("jobs", true)).await;
    assert_ne!(made.topics[0].topic_id, topic_id(&queue));
    assert!(rig.broker().stream(&ctx.log_key("jobs")).is_some());
}

#[tokio::test]
async fn asking_for_a_topic_of_the_original_s_own_state_makes_none() {
    let rig = Rig::new();
    let ctx = rig.ctx(12);
    for name in ["__consumer_offsets", "__transaction_state"] {
        let told = metadata(&ctx, asked(name, true)).await;
        assert_eq!(told.topics[0].error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        assert!(rig.broker().stream(&ctx.log_key(name)).is_none());
    }
    assert_eq!(metadata(&ctx, asked("__other", true)).await.topics[0].error_code, ErrorCode::NONE);
}
