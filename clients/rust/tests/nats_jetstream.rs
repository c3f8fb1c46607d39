//! What async-nats sees of JetStream.

use std::time::Duration;

use async_nats::jetstream::{self, AckKind, consumer, kv::Operation};
use clients::{PATIENCE, name, nats, shows};
use futures_util::{StreamExt, TryStreamExt};
use tokio::{io::AsyncReadExt, time::timeout};

const CLIENT: &str = "async-nats";

/// A client of JetStream, and a stream of its own.
async fn stream() -> (jetstream::Context, jetstream::stream::Stream, String) {
    let js = jetstream::new(async_nats::connect(nats()).await.unwrap());
    let name = name("stream");
    let subjects = vec![format!("{name}.>")];
    let config = jetstream::stream::Config { name: name.clone(), subjects, ..Default::default() };
    let stream = js.create_stream(config).await.unwrap();
    (js, stream, name)
}

async fn put(js: &jetstream::Context, subject: &str, count: usize) {
    for n in 0..count {
        js.publish(subject.to_owned(), n.to_string().into()).await.unwrap().await.unwrap();
    }
}

fn numbers(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn a_pull_consumer_works_a_stream_off() {
    let _shows =
        shows("NATS", CLIENT, "a durable pull consumer gets messages in order and acknowledges them");
    let (js, stream, name) = stream().await;
    put(&js, &format!("{name}.a"), 10).await;
    let config = consumer::pull::Config { durable_name: Some("worker".to_owned()), ..Default::default() };
    let mut worker = stream.create_consumer(config).await.unwrap();
    let mut fetched = worker.fetch().max_messages(4).messages().await.unwrap();
    let mut seen = Vec::new();
    while let Some(message) = fetched.next().await {
        let message = message.unwrap();
        seen.push(String::from_utf8(message.payload.to_vec()).unwrap());
        message.double_ack().await.unwrap();
    }
    let mut messages = worker.messages().await.unwrap();
    while seen.len() < 10 {
        let message = timeout(PATIENCE, messages.next()).await.unwrap().unwrap().unwrap();
        seen.push(String::from_utf8(message.payload.to_vec()).unwrap());
        message.double_ack().await.unwrap();
    }
    assert_eq!(seen, numbers(10));
    let info = worker.info().await.unwrap();
    assert_eq!((info.num_ack_pending, info.ack_floor.stream_sequence, info.num_pending), (0, 10, 0));
}

#[tokio::test]
async fn a_refused_message_comes_again() {
    let _shows = shows("NATS", CLIENT, "a message that was refused comes again");
    let (js, stream, name) = stream().await;
    put(&js, &format!("{name}.a"), 1).await;
    let config = consumer::pull::Config { durable_name: Some("worker".to_owned()), ..Default::default() };
    let mut messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    let first = timeout(PATIENCE, messages.next()).await.unwrap().unwrap().unwrap();
    first.ack_with(AckKind::Nak(Some(Duration::from_millis(100)))).await.unwrap();
    let again = timeout(PATIENCE, messages.next()).await.unwrap().unwrap().unwrap();
    assert_eq!(again.info().unwrap().delivered, 2);
    again.ack_with(AckKind::Term).await.unwrap();
}

#[tokio::test]
async fn ordered_consumers_read_everything() {
    let _shows = shows("NATS", CLIENT, "an ordered consumer reads everything");
    let (js, stream, name) = stream().await;
    put(&js, &format!("{name}.a"), 100).await;
    let config = consumer::pull::OrderedConfig::default();
    let messages = stream.create_consumer(config).await.unwrap().messages().await.unwrap();
    let seen: Vec<_> = timeout(PATIENCE, messages.take(100).try_collect()).await.unwrap().unwrap();
    let texts: Vec<String> = seen
        .iter()
        .map(|message: &jetstream::Message| String::from_utf8(message.payload.to_vec()).unwrap())
        .collect();
    assert_eq!(texts, numbers(100));
}

#[tokio::test]
async fn a_bucket_keeps_values_and_tells_of_changes() {
    let _shows = shows("NATS", CLIENT, "a key-value bucket keeps values, their history and revisions");
    let (js, _, _) = stream().await;
    let config = jetstream::kv::Config { bucket: name("bucket"), history: 5, ..Default::default() };
    let kv = js.create_key_value(config).await.unwrap();
    let first = kv.create("name", "derek".into()).await.unwrap();
    assert!(kv.create("name", "again".into()).await.is_err());
    let second = kv.update("name", "rip".into(), first).await.unwrap();
    assert!(kv.update("name", "old".into(), first).await.is_err());
    let entry = kv.entry("name").await.unwrap().unwrap();
    assert_eq!((&entry.value[..], entry.revision), (&b"rip"[..], second));
    let history: Vec<_> = kv.history("name").await.unwrap().try_collect().await.unwrap();
    assert_eq!(history.len(), 2);
    let mut watch = kv.watch_with_history("*").await.unwrap();
    let present = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((present.key.as_str(), present.operation), ("name", Operation::Put));
    kv.delete("name").await.unwrap();
    let change = timeout(PATIENCE, watch.next()).await.unwrap().unwrap().unwrap();
    assert_eq!((change.key.as_str(), change.operation), ("name", Operation::Delete));
}

#[tokio::test]
async fn objects_come_back_as_they_were() {
    let _shows = shows("NATS", CLIENT, "an object store keeps objects in chunks");
    let (js, _, _) = stream().await;
    let config = jetstream::object_store::Config { bucket: name("objects"), ..Default::default() };
    let store = js.create_object_store(config).await.unwrap();
    let body: Vec<u8> = (0..400_000_u32).map(|at| (at * 31 % 256) as u8).collect();
    let info = store.put("big", &mut &body[..]).await.unwrap();
    assert_eq!(info.chunks, 4);
    let mut got = Vec::new();
    store.get("big").await.unwrap().read_to_end(&mut got).await.unwrap();
    assert!(got == body);
    store.delete("big").await.unwrap();
    assert!(store.get("big").await.is_err());
}
