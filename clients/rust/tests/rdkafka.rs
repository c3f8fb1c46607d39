//! What librdkafka sees, through rdkafka.

use std::collections::BTreeMap;

use clients::{PATIENCE, kafka, name, shows};
use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer, StreamConsumer},
    message::{Header, Headers, OwnedHeaders, OwnedMessage},
    producer::{FutureProducer, FutureRecord},
    types::RDKafkaErrorCode,
};

const CLIENT: &str = "rdkafka";

fn settings(options: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka());
    for (key, value) in options {
        config.set(*key, *value);
    }
    config
}

fn admin() -> AdminClient<DefaultClientContext> {
    settings(&[]).create().unwrap()
}

async fn new_topic(partitions: i32) -> String {
    let topic = name("rdkafka");
    let made = admin()
        .create_topics(
            &[NewTopic::new(&topic, partitions, TopicReplication::Fixed(1))],
            &AdminOptions::new().operation_timeout(Some(PATIENCE)),
        )
        .await
        .unwrap();
    assert_eq!(made, [Ok(topic.clone())]);
    topic
}

fn member(group: &str, options: &[(&str, &str)]) -> StreamConsumer {
    let mut all = vec![
        ("group.id", group),
        ("auto.offset.reset", "earliest"),
        ("enable.auto.commit", "false"),
        ("heartbeat.interval.ms", "200"),
        ("session.timeout.ms", "10000"),
    ];
    all.extend_from_slice(options);
    settings(&all).create().unwrap()
}

/// The next `count` messages of `consumer`.
async fn take(consumer: &StreamConsumer, count: usize) -> Vec<OwnedMessage> {
    let mut messages = Vec::new();
    while messages.len() < count {
        let next = tokio::time::timeout(PATIENCE, consumer.recv()).await.expect("a message in time");
        messages.push(next.unwrap().detach());
    }
    messages
}

async fn send(producer: &FutureProducer, topic: &str, key: &str, values: std::ops::Range<usize>) {
    for n in values {
        let value = format!("{key}-{n}");
        let headers = OwnedHeaders::new().insert(Header { key: "trace", value: Some("7") });
        let record = FutureRecord::to(topic).key(key).payload(&value).headers(headers);
        producer.send(record, PATIENCE).await.map_err(|(error, _)| error).unwrap();
    }
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn an_idempotent_producer_stores_each_record_once_in_order() {
    let _shows = shows("Kafka", CLIENT, "an idempotent producer stores each message once, in order");
    let topic = new_topic(1).await;
    let codecs = ["none", "lz4"];
    for codec in codecs {
        let options = [("enable.idempotence", "true"), ("compression.type", codec), ("linger.ms", "5")];
        let producer: FutureProducer = settings(&options).create().unwrap();
        send(&producer, &topic, codec, 0..20).await;
    }
    let consumer = member(&name("once"), &[]);
    consumer.subscribe(&[&topic]).unwrap();
    for (at, message) in take(&consumer, 40).await.iter().enumerate() {
        assert_eq!(message.offset(), i64::try_from(at).unwrap());
        assert_eq!(text(message.payload()), format!("{}-{}", codecs[at / 20], at % 20));
        let header = message.headers().unwrap().get(0);
        assert_eq!((header.key, header.value), ("trace", Some(b"7".as_slice())));
    }
}

#[tokio::test]
async fn a_group_goes_on_where_it_committed() {
    let _shows =
        shows("Kafka", CLIENT, "a group goes on where it committed, and shares the partitions of a topic");
    let (topic, group) = (new_topic(4).await, name("group"));
    let producer: FutureProducer = settings(&[]).create().unwrap();
    let keys = ["a", "b", "c", "d", "e"];
    for key in keys {
        send(&producer, &topic, key, 0..20).await;
    }
    let first = member(&group, &[("partition.assignment.strategy", "cooperative-sticky")]);
    first.subscribe(&[&topic]).unwrap();
    let before = take(&first, 100).await;
    first.commit_consumer_state(CommitMode::Sync).unwrap();
    let mut next = BTreeMap::<String, usize>::new();
    for message in &before {
        let key = text(message.key());
        let n = next.entry(key.clone()).or_default();
        assert_eq!(text(message.payload()), format!("{key}-{n}"), "the order of a key");
        *n += 1;
    }
    drop(first);
    for key in keys {
        send(&producer, &topic, key, 20..22).await;
    }
    let second = member(&group, &[("partition.assignment.strategy", "cooperative-sticky")]);
    second.subscribe(&[&topic]).unwrap();
    let after = take(&second, 10).await;
    assert!(
        after
            .iter()
            .all(|message| text(message.payload()).ends_with("-20")
                || text(message.payload()).ends_with("-21"))
    );
}

#[tokio::test]
async fn offsets_are_found_by_time_and_by_place() {
    let _shows = shows("Kafka", CLIENT, "offsets listed by earliest, latest and time");
    let topic = new_topic(1).await;
    let producer: FutureProducer = settings(&[]).create().unwrap();
    for n in 0..10 {
        let record = FutureRecord::<(), str>::to(&topic).payload("x").timestamp(1_000 + n);
        producer.send(record, PATIENCE).await.map_err(|(error, _)| error).unwrap();
    }
    let consumer: BaseConsumer = settings(&[("group.id", &topic)]).create().unwrap();
    assert_eq!(consumer.fetch_watermarks(&topic, 0, PATIENCE).unwrap(), (0, 10));
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(&topic, 0, Offset::Offset(1_007)).unwrap();
    let found = consumer.offsets_for_times(asked, PATIENCE).unwrap();
    assert_eq!(found.elements()[0].offset(), Offset::Offset(7));
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let _shows = shows(
        "Kafka",
        CLIENT,
        "a message above the topic's limit is refused to its sender, and the next one is stored",
    );
    let topic = new_topic(1).await;
    let producer: FutureProducer =
        settings(&[("message.max.bytes", "10000000"), ("enable.idempotence", "false")]).create().unwrap();
    let large = vec![0; 2_000_000];
    let refused = producer.send(FutureRecord::<(), [u8]>::to(&topic).payload(&large), PATIENCE).await;
    let (error, _) = refused.unwrap_err();
    assert_eq!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::MessageSizeTooLarge));
    let stored = producer.send(FutureRecord::<(), str>::to(&topic).payload("small"), PATIENCE).await;
    assert_eq!(stored.map_err(|(error, _)| error).unwrap().offset, 0);
    let gone = admin().delete_topics(&[&name("absent")], &AdminOptions::new()).await.unwrap();
    assert!(matches!(gone[..], [Err((_, RDKafkaErrorCode::UnknownTopicOrPartition))]));
}
