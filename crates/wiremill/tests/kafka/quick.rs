//! What a client that others wrote sees: `rskafka`, for every test run. The clients of other languages are in
//! `clients/`.

use std::{collections::BTreeMap, future::Future};

use rskafka::{
    chrono::DateTime,
    client::{
        Client, ClientBuilder,
        error::{Error, ProtocolError},
        partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling},
    },
    record::Record,
};

use crate::{node::Node, usual::now_ms};

const BYTES: std::ops::Range<i32> = 1..1_000_000;

/// Runs `test` with a client of `node`.
fn with_client<F: Future<Output = ()>>(node: &Node, test: impl FnOnce(Client) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = ClientBuilder::new(vec![node.address().to_owned()]).build().await.unwrap();
        test(client).await;
    });
}

async fn partition(client: &Client, topic: &str, partition: i32) -> PartitionClient {
    client.partition_client(topic, partition, UnknownTopicHandling::Error).await.unwrap()
}

async fn create(client: &Client, topic: &str, partitions: i32) {
    client.controller_client().unwrap().create_topic(topic, partitions, 1, 5_000).await.unwrap();
}

fn record(value: &str, time_ms: i64) -> Record {
    Record {
        key: Some(b"key".to_vec()),
        value: Some(value.as_bytes().to_vec()),
        headers: BTreeMap::from([("trace".to_owned(), b"7".to_vec())]),
        timestamp: DateTime::from_timestamp_millis(time_ms).unwrap(),
    }
}

#[test]
fn rskafka_reads_back_the_records_that_it_wrote() {
    let node = Node::start();
    let now = now_ms();
    with_client(&node, |client| async move {
        create(&client, "orders", 2).await;
        let orders = partition(&client, "orders", 1).await;
        let sent = vec![record("a", now), record("b", now + 1)];
        assert_eq!(orders.produce(sent.clone(), Compression::NoCompression).await.unwrap(), [0, 1]);
        let (read, high_watermark) = orders.fetch_records(0, BYTES, 1_000).await.unwrap();
        assert_eq!(high_watermark, 2);
        assert_eq!(read.iter().map(|r| r.offset).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(read.into_iter().map(|r| r.record).collect::<Vec<_>>(), sent);
    });
}

#[test]
fn rskafka_waits_for_records_that_come_later() {
    let node = Node::start();
    with_client(&node, |client| async move {
        create(&client, "late", 1).await;
        let (reader, writer) = (partition(&client, "late", 0).await, partition(&client, "late", 0).await);
        let read = async { reader.fetch_records(0, BYTES, 20_000).await.unwrap().0 };
        let write = async {
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            writer.produce(vec![record("x", now_ms())], Compression::NoCompression).await.unwrap();
        };
        let (read, ()) = tokio::join!(read, write);
        assert_eq!(read.len(), 1);
    });
}

#[test]
fn rskafka_finds_and_deletes_offsets_and_topics() {
    let node = Node::start();
    with_client(&node, |client| async move {
        create(&client, "old", 1).await;
        let old = partition(&client, "old", 0).await;
        for value in ["a", "b", "c"] {
            old.produce(vec![record(value, now_ms())], Compression::NoCompression).await.unwrap();
        }
        old.delete_records(2, 5_000).await.unwrap();
        assert_eq!(old.get_offset(OffsetAt::Earliest).await.unwrap(), 2);
        assert_eq!(old.get_offset(OffsetAt::Latest).await.unwrap(), 3);
        let gone = old.fetch_records(1, BYTES, 100).await.unwrap_err();
        assert!(
            matches!(gone, Error::ServerError { protocol_error: ProtocolError::OffsetOutOfRange, .. }),
            "{gone}"
        );
        client.controller_client().unwrap().delete_topic("old", 5_000).await.unwrap();
        assert!(client.list_topics().await.unwrap().is_empty());
    });
}
